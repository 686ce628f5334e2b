package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// TestWhatHappenedIsAuditedAndProven asks for access, reads it back as an auditor,
// anchors it, and finds what somebody changes in the tables afterwards.
func TestWhatHappenedIsAuditedAndProven(t *testing.T) {
	auditor := person(t, "auditor@contoso.com", "Access.ReadAll")
	token, err := w.token(t.Context(), "auditor@contoso.com", "--role", "Access.ReadAll")
	if err != nil {
		t.Fatal(err)
	}
	ask := person(t, "alice@contoso.com", "Access.Request")
	code, out, said := ask("request", "--vm", "web-1", "--port", "22", "--from", "203.0.113.7", "--for", "5m", "--reason", "look at the audit", "--wait", "-o", "json")
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.ID == "" {
		t.Fatalf("%d %s%s %v", code, out, said, err)
	}

	// Each answer is held against the API's document.
	a := newAPI(t)
	eventually(t, func() string {
		got := a.call(token, http.MethodGet, "/api/audit/events?subject="+r.ID+"&pageSize=1", "")
		if got.status != http.StatusOK || !strings.Contains(string(got.body), `"kind": "Requested"`) || !strings.Contains(string(got.body), "nextLink") {
			return fmt.Sprintf("%d %s", got.status, got.body)
		}
		chain := a.call(token, http.MethodGet, "/api/audit/chains?subject="+r.ID, "")
		if chain.status != http.StatusOK || !strings.Contains(string(chain.body), `"digest"`) {
			return fmt.Sprintf("%d %s", chain.status, chain.body)
		}
		return ""
	})
	for path, reason := range map[string]string{
		"/api/audit/events?kind=Opend": "event_kind_unknown", "/api/audit/events?pageSize=0": "page_size_invalid", "/api/audit/events?from=x": "time_invalid",
		"/api/audit/events?continuationToken=x": "continuation_token_invalid", "/api/audit/chains": "subject_invalid", "/api/audit/chains?subject=ar-none": "subject_unknown",
		"/api/audit/events?virtualMachine=web-1": "resource_id_invalid",
	} {
		if got := a.call(token, http.MethodGet, path, ""); got.reason != reason {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	eventually(t, func() string {
		code, out, said := auditor("audit", "--vm", "web-1", "--requestor", "alice@contoso.com", "--kind", "Opened", "--limit", "0")
		if code != 0 || !strings.Contains(out, "203.0.113.7") || !strings.Contains(out, "look at the audit") || !strings.Contains(out, "resource group prod") {
			return fmt.Sprintf("%d %s%s", code, out, said)
		}
		return ""
	})
	if code, out, said := auditor("audit", "--vm", "web-1", "--format", "csv"); code != 0 || !strings.HasPrefix(out, `"sealedAt",`) || !strings.Contains(out, r.ID) {
		t.Errorf("%d %s%s", code, out, said)
	}

	// The timer's function, run once by hand.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, os.Getenv("FUNCTIONS_ENDPOINT")+"/admin/functions/Anchor", strings.NewReader(`{"input":""}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-functions-key", os.Getenv("IDENTITY_HEADER"))
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatal(res, err)
	}
	_ = res.Body.Close() // nothing is in it
	verify := func(args ...string) (int, string, string) {
		return auditor(append([]string{"audit", "verify", "--managed-identity", "--client-id", os.Getenv("AZURE_CLIENT_ID")}, args...)...)
	}
	eventually(t, func() string {
		if code, out, said := verify("--subject", r.ID); code != 0 || !strings.Contains(out, "1 anchor") {
			return fmt.Sprintf("%d %s%s", code, out, said)
		}
		return ""
	})
	for _, args := range [][]string{{}, {"--tables"}} {
		if code, out, said := verify(args...); code != 0 || !strings.Contains(out, "Proven:") || !strings.Contains(out, "behind the last anchor") {
			t.Errorf("%v: %d %s%s", args, code, out, said)
		}
	}
	tamper(t, r.ID)
	if code, out, said := verify("--subject", r.ID); code != 1 || !strings.Contains(out, "event_altered") || !strings.Contains(said, "not whole: 1 finding") {
		t.Errorf("%d %s%s", code, out, said)
	}
	if code, _, said := ask("audit"); code != 5 {
		t.Errorf("without the role: %d %s", code, said)
	}
}

// tamper changes a word of the decision on a request, until the test is over.
func tamper(t *testing.T, id string) {
	t.Helper()
	service, err := aztables.NewServiceClientFromConnectionString(os.Getenv("AZURE_STORAGE_CONNECTION_STRING"), nil)
	if err != nil {
		t.Fatal(err)
	}
	requests := service.NewClient("requests")
	filter := "PartitionKey eq '" + id + "' and Kind eq 'Requested'"
	page, err := requests.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter}).NextPage(t.Context())
	if err != nil || len(page.Entities) != 1 {
		t.Fatal(len(page.Entities), err)
	}
	was := string(page.Entities[0])
	write := func(entity string) {
		if _, err := requests.UpsertEntity(context.WithoutCancel(t.Context()), []byte(entity), &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace}); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { write(was) })
	write(strings.Replace(was, "look at the audit", "look at the logs.", 1))
}
