package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// person gives what runs the tool over the API as somebody with roles.
func person(t *testing.T, name string, roles ...string) func(args ...string) (int, string, string) {
	t.Helper()
	var flags []string
	for _, r := range roles {
		flags = append(flags, "--role", r)
	}
	token, err := w.token(t.Context(), name, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (int, string, string) {
		t.Helper()
		code, out, said := w.run(t, "portcullis", map[string]string{"PORTCULLIS_TOKEN": token}, args...)
		if strings.Contains(out+said, token) {
			t.Errorf("portcullis %v shows the token", args)
		}
		return code, out, said
	}
}

// The walk of a first-time user, from the shell: ask for two ports of which one
// is not to be had, leave it out, be let in, ask for more time, give it back.
func TestAPersonAsksFromTheShell(t *testing.T) {
	alice := person(t, "alice@contoso.com", "Access.Request")
	if code, out, said := alice("vms"); code != 0 || !strings.Contains(out, "web-1") || !strings.Contains(out, "22/TCP ≤ 3h") {
		t.Fatalf("vms: %d %s%s", code, out, said)
	}
	ask := func(ports string, more ...string) (int, string, string) {
		return alice(append([]string{"request", "--vm", "web-1", "--port", ports, "--from", "203.0.113.7", "--for", "30m", "--reason", "look at the logs"}, more...)...)
	}
	code, out, said := ask("22,443")
	if code != 3 || out != "" || !strings.Contains(said, "web-1 port 443: the policy has no port 443 (port_not_in_policy)") {
		t.Errorf("two ports: %d %s%s", code, out, said)
	}
	code, out, said = ask("22", "--wait")
	if code != 0 || !strings.Contains(out, "Initiated") || !strings.Contains(out, "ssh USER@web-1") {
		t.Fatalf("one port: %d %s%s", code, out, said)
	}
	code, out, said = alice("status", "-o", "json")
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Items) == 0 {
		t.Fatalf("status: %d %s%s", code, out, said)
	}
	id := list.Items[0].ID
	if code, out, said := alice("status", id); code != 0 || !strings.Contains(out, "Opened") || !strings.Contains(out, "look at the logs") {
		t.Errorf("status: %d %s%s", code, out, said)
	}
	code, out, said = alice("extend", id, "--for", "1h", "--reason", "more", "--wait", "-o", "json")
	var next struct{ ID, Extends string }
	if err := json.Unmarshal([]byte(out), &next); err != nil || code != 0 || next.Extends != id {
		t.Fatalf("extend: %d %s%s", code, out, said)
	}
	if code, out, said := alice("revoke", next.ID, "--wait"); code != 0 || !strings.Contains(out, "Revoked") || !strings.Contains(out, "UserRequested") {
		t.Errorf("revoke: %d %s%s", code, out, said)
	}
	if code, _, said := alice("revoke", "ar-aaaaaaaaaaaaaaaaaaaaaaaaaa"); code != 4 || !strings.Contains(said, "request_unknown") {
		t.Errorf("of nobody: %d %s", code, said)
	}
	if code, _, said := alice("enable", "web-1", "--source", "203.0.113.7", "--yes"); code != 5 || !strings.Contains(said, "role_required") {
		t.Errorf("enable without the role: %d %s", code, said)
	}
	if code, _, said := person(t, "mallory@contoso.com")("vms"); code != 5 || !strings.Contains(said, "role_required") {
		t.Errorf("without a role: %d %s", code, said)
	}
}

func TestAnAdministratorSwitchesItOnFromTheShell(t *testing.T) {
	root := person(t, "root@contoso.com", "Portcullis.Administer")
	const vm = "dual-1"
	enable := []string{"enable", vm, "--port", "22", "--source", "203.0.113.0/24", "--max", "2h"}
	if code, out, said := root(append(enable, "--plan")...); code != 0 || !strings.Contains(out, "Nothing was written.") || !strings.Contains(out, "Deny Tcp 22 from * to 10.0.3.4") {
		t.Fatalf("plan: %d %s%s", code, out, said)
	}
	if code, _, said := root(enable...); code != 2 || !strings.Contains(said, "--yes") {
		t.Errorf("nobody to ask: %d %s", code, said)
	}
	if code, out, said := root("policy", "get", vm); code != 4 {
		t.Errorf("nothing was written: %d %s%s", code, out, said)
	}
	if code, out, said := root(append(enable, "--yes")...); code != 0 || !strings.Contains(out, "Enabled on the virtual machine prod/dual-1") {
		t.Fatalf("enable: %d %s%s", code, out, said)
	}
	eventually(t, func() string {
		if code, out, said := root("vms", vm); code != 0 || !strings.Contains(out, "Deny rules  Shut") {
			return fmt.Sprintf("vms: %d %s%s", code, out, said)
		}
		return ""
	})
	code, shown, said := root("policy", "get", vm)
	if code != 0 {
		t.Fatalf("get: %d %s", code, said)
	}
	if code, out, said := root("policy", "apply", "-f", file(t, strings.Replace(shown, "PT2H", "PT1H", 1)), "--yes"); code != 0 || !strings.Contains(out, `-       "maxRequestAccessDuration": "PT2H"`) {
		t.Errorf("apply: %d %s%s", code, out, said)
	}
	if code, out, said := root("policy", "list"); code != 0 || !strings.Contains(out, "22/TCP ≤ 1h") {
		t.Errorf("list: %d %s%s", code, out, said)
	}
	if code, out, said := root("disable", vm, "--yes"); code != 0 || !strings.Contains(out, "Disabled on the virtual machine prod/dual-1") {
		t.Errorf("disable: %d %s%s", code, out, said)
	}
	if code, _, said := root("disable", vm, "--yes"); code != 4 || !strings.Contains(said, "covered by the policy of the resource group prod") {
		t.Errorf("disable again: %d %s", code, said)
	}
}

func TestALockdownFromTheShell(t *testing.T) {
	root := person(t, "root@contoso.com", "Portcullis.Administer")
	if code, out, said := root("lockdown", "--reason", "stolen laptop", "--yes"); code != 0 || !strings.Contains(out, "Locked down by root@contoso.com") {
		t.Fatalf("lockdown: %d %s%s", code, out, said)
	}
	code, _, said := person(t, "alice@contoso.com", "Access.Request")("request", "--vm", "web-1", "--port", "22", "--from", "203.0.113.7", "--for", "30m", "--reason", "x")
	if code != 3 || !strings.Contains(said, "stolen laptop") {
		t.Errorf("a request: %d %s", code, said)
	}
	if code, out, said := root("lockdown", "--lift", "--yes"); code != 0 || out != "There is no lockdown.\n" {
		t.Errorf("lift: %d %s%s", code, out, said)
	}
}

// Where no token is given, the tool gets one where it is signed in: here as a
// managed identity, which has no role.
func TestTheToolSignsInByItself(t *testing.T) {
	code, _, said := w.run(t, "portcullis", map[string]string{"PORTCULLIS_AUDIENCE": "api://portcullis"}, "vms")
	if code != 5 || !strings.Contains(said, "role_required") {
		t.Errorf("%d %s", code, said)
	}
}
