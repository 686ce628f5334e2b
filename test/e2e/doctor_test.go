package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

const webOne = subscription + "/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1"

// TestDoctorOnAWellDeployment examines the stack as an operator would, and finds
// nothing but what the stand-ins do not have: locks and roles.
func TestDoctorOnAWellDeployment(t *testing.T) {
	token, err := w.token(t.Context(), "olga@contoso.com", "--role", "Access.ReadAll")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PORTCULLIS_TOKEN": token, "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}
	_, out, said := w.run(t, "portcullis", env, "doctor", "-o", "json", "--vm", webOne, "--port", "22", "--source", "203.0.113.7")
	var doc struct {
		Findings []struct{ Check, Level, What string }
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, out, said)
	}
	good := map[string]int{}
	for _, f := range doc.Findings {
		switch {
		case f.Level == "ok":
			good[f.Check]++
		case f.Check == "permissions" || f.Check == "data rights": // Microsoft.Authorization is not imitated
		case f.Check == "api" && strings.Contains(f.What, "over http"):
		case strings.Contains(f.What, "dead letters"): // of other tests
		case f.Check == "networks" && f.Level == "warning": // the example topology has a machine without a gate
		default:
			t.Errorf("%s %s: %s", f.Level, f.Check, f.What)
		}
	}
	for _, check := range []string{"api", "functions", "identity", "service bus", "tables", "networks", "dry run"} {
		if good[check] == 0 {
			t.Errorf("%s finds nothing good: %s", check, out)
		}
	}
	before := w.stack.ResourceManager.Stats().NSGWrites
	w.run(t, "portcullis", env, "doctor", "--vm", webOne)
	if after := w.stack.ResourceManager.Stats().NSGWrites; after != before {
		t.Errorf("the doctor wrote: %d writes, then %d", before, after)
	}
}
