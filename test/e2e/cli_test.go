package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// run runs a program and gives its exit code and what it said.
func (w *world) run(t *testing.T, name string, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := w.tool(t.Context(), name, env, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), stdout, stderr
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, stdout, stderr
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// scope is where no other test's machine is.
const scope = subscription + "/resourceGroups/cli"

func policyText(port string) string {
	return fmt.Sprintf(`{"scope":%q,"ports":[{"number":%s,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT1H"}],"requestors":["*"],"assertedRequestorsFrom":["queue"]}`, scope, port)
}

func TestPoliciesFromTheShell(t *testing.T) {
	code, out, said := w.run(t, "portcullis", nil, "policy", "apply", "--tables", "-f", file(t, policyText("22")))
	if code != 0 || !strings.Contains(out, "applied "+strings.ToLower(scope)) || !strings.Contains(out, "version ") || said != "" {
		t.Fatalf("apply: %d %s%s", code, out, said)
	}
	if code, out, said := w.run(t, "portcullis", nil, "policy", "list", "--tables"); code != 0 || !strings.Contains(out, strings.ToLower(scope)) || !strings.Contains(out, "22/TCP") {
		t.Errorf("list: %d %s%s", code, out, said)
	}
	code, shown, said := w.run(t, "portcullis", nil, "policy", "get", "--tables", scope)
	if code != 0 || !strings.Contains(shown, "203.0.113.0/24") {
		t.Errorf("get: %d %s%s", code, shown, said)
	}
	// What get shows is what apply takes.
	if code, _, said := w.run(t, "portcullis", nil, "policy", "apply", "--tables", "-f", file(t, shown)); code != 0 {
		t.Errorf("apply what get showed: %s", said)
	}
}

func TestARequestIsTriedOutFromTheShell(t *testing.T) {
	if code, out, said := w.run(t, "portcullis", nil, "policy", "test", "--tables", "-f", file(t, good)); code != 0 || !strings.Contains(out, "pass    web-1 port 22/TCP from 203.0.113.7") {
		t.Errorf("a good one: %d %s%s", code, out, said)
	}
	code, out, said := w.run(t, "portcullis", nil, "policy", "test", "--tables", "-f", file(t, but("203.0.113.7", "198.51.100.9")))
	if code != 3 || !strings.Contains(out, "source_outside_policy") || !strings.Contains(said, "this request would be refused") {
		t.Errorf("a bad one: %d %s%s", code, out, said)
	}
	// On db-1 nobody's word is taken, but a token's.
	onDB := on(machines + "db-1")
	if code, out, _ := w.run(t, "portcullis", nil, "policy", "test", "--tables", "-f", file(t, onDB)); code != 3 || !strings.Contains(out, "asserted_requestor_refused") {
		t.Errorf("asserted: %d %s", code, out)
	}
	if code, out, said := w.run(t, "portcullis", nil, "policy", "test", "--tables", "-f", file(t, onDB), "--oid", "22222222-2222-2222-2222-222222222222"); code != 0 {
		t.Errorf("by a token: %d %s%s", code, out, said)
	}
}

func TestWhatTheToolSaysOfAMistake(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		program string
		env     map[string]string
		args    []string
		want    []string
	}{
		"an unknown command":           {"portcullis", nil, []string{"frobnicate"}, []string{"unknown command"}},
		"an unknown flag":              {"portcullis", nil, []string{"sweep", "--force"}, []string{"unknown flag: --force"}},
		"an argument too many":         {"portcullis", nil, []string{"sweep", "x"}, []string{"unknown command \"x\""}},
		"no file":                      {"portcullis", nil, []string{"policy", "apply", "--tables"}, []string{`required flag(s) "file" not set`}},
		"a file that is not there":     {"portcullis", nil, []string{"policy", "apply", "--tables", "-f", gone}, []string{gone}},
		"no policy":                    {"portcullis", nil, []string{"policy", "apply", "--tables", "-f", file(t, `{"scope":"`+scope+`","ports":[],"requestors":["a b"]}`)}, []string{"\n  ports: ", "(ports_count)", "\n  requestors[0]: ", "(requestor_invalid)"}},
		"an unknown field in JSON":     {"portcullis", nil, []string{"policy", "apply", "--tables", "-f", file(t, strings.Replace(policyText("22"), "ports", "prots", 1))}, []string{"prots"}},
		"a field twice in YAML":        {"portcullis", nil, []string{"policy", "apply", "--tables", "-f", file(t, "scope: a\nscope: b\n")}, []string{"scope"}},
		"a port that is none":          {"portcullis", nil, []string{"policy", "apply", "--tables", "-f", file(t, policyText("0"))}, []string{"ports[0].number"}},
		"a scope that is none":         {"portcullis", nil, []string{"policy", "get", "--tables", "web-1"}, []string{"web-1"}},
		"a scope without a policy":     {"portcullis", nil, []string{"policy", "get", "--tables", subscription}, []string{"policy_unknown"}},
		"a request that is none":       {"portcullis", nil, []string{"policy", "test", "--tables", "-f", file(t, "{}")}, []string{"virtualMachines"}},
		"no tables":                    {"portcullis", map[string]string{"Tables__endpoint": ""}, []string{"policy", "list", "--tables"}, []string{"setting Tables__endpoint"}},
		"tables over plain text":       {"portcullis", map[string]string{"Tables__endpoint": "http://127.0.0.1:1/x"}, []string{"policy", "list", "--tables"}, []string{"setting Tables__endpoint: must be an https URL"}},
		"two settings that are wrong":  {"portcullis", map[string]string{"AZURE_SUBSCRIPTION_IDS": "x", "ARM_ENDPOINT": "arm"}, []string{"sweep"}, []string{"AZURE_SUBSCRIPTION_IDS", "ARM_ENDPOINT"}},
		"an installation that is none": {"portcullis", map[string]string{"PORTCULLIS_INSTALLATION": "A B"}, []string{"sweep"}, []string{"PORTCULLIS_INSTALLATION"}},
		"a stack that does not run":    {"portcullis-local", nil, []string{"token", "--as", "a@b", "--env-file", gone}, []string{"is the stack running?"}},
		"a token for nobody":           {"portcullis-local", nil, []string{"token"}, []string{`required flag(s) "as" not set`}},
		"a setting without a value":    {"portcullis-local", nil, []string{"run", "--set", "x", "--topology", filepath.Join(root, "docs/examples/topology.json"), "--entities", filepath.Join(root, "infra/entities.json"), "--dir", t.TempDir()}, []string{`--set "x" is not NAME=value`}},
		"no topology":                  {"portcullis-local", nil, []string{"run", "--topology", gone}, []string{gone}},
		"no function app":              {"portcullis-local", nil, []string{"run", "--free-ports", "--app", gone, "--topology", filepath.Join(root, "docs/examples/topology.json"), "--entities", filepath.Join(root, "infra/entities.json"), "--dir", t.TempDir()}, []string{gone, "the log is in"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, said := w.run(t, c.program, c.env, c.args...)
			// What docs/cli.md says of them.
			exit := map[string]int{"portcullis": 2, "portcullis-local": 1}[c.program]
			if name == "a scope without a policy" {
				exit = 4
			}
			if code != exit || out != "" || !strings.HasPrefix(said, c.program+": ") {
				t.Errorf("exit code %d, said %q and %q", code, out, said)
			}
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q does not say %q", said, want)
				}
			}
			for _, secret := range []string{os.Getenv("IDENTITY_HEADER"), os.Getenv("AZURE_STORAGE_CONNECTION_STRING")} {
				if strings.Contains(said, secret) {
					t.Errorf("%q holds a secret", said)
				}
			}
		})
	}
}

// The last closer has permissions on network security groups alone: neither the
// tables nor the queues are in its environment.
func TestSweepFromTheShellClosesWhatHasExpired(t *testing.T) {
	cfg, err := config.Load(os.LookupEnv, config.Azure)
	if err != nil {
		t.Fatal(err)
	}
	azure, err := connect.Network(cfg, config.Connection{ManagedIdentity: true, ClientID: os.Getenv("AZURE_CLIENT_ID")}, time.Now, connect.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	group := access.ResourceID(strings.ToLower(subscription + "/resourceGroups/prod/providers/Microsoft.Network/networkSecurityGroups/nsg-dual-subnet"))
	g, err := azure.Group(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	// An installation of its own: the stack's handler leaves these rules alone.
	rule := func(name string, priority int, until time.Time) nsg.Rule {
		return nsg.Rule{
			Name: "Portcullis-shell-" + name, Description: "Portcullis shell: just-in-time access to dual-1 22/TCP until " + until.UTC().Format(time.RFC3339),
			Priority: priority, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"203.0.113.7"}, SourcePorts: []string{"*"},
			Destinations: []string{"10.0.3.4"}, DestinationPorts: []string{"22"},
		}
	}
	if err := azure.Apply(t.Context(), g, nsg.Plan{Put: []nsg.Rule{rule("over", 500, time.Now().Add(-time.Minute)), rule("live", 501, time.Now().Add(time.Hour))}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := azure.DeleteRule(context.Background(), group, "Portcullis-shell-live"); err != nil {
			t.Error(err)
		}
	})
	env := map[string]string{
		"Tables__endpoint": "", "Tables__credential": "", "ServiceBus__fullyQualifiedNamespace": "", "ServiceBus__credential": "", "PORTCULLIS_INSTALLATION": "other",
	}
	sweep := func() (int, string, string) {
		return w.run(t, "portcullis", env, "sweep", "--managed-identity", "--client-id", os.Getenv("AZURE_CLIENT_ID"))
	}
	if code, out, said := sweep(); code != 0 || out != "0 rules closed\n" {
		t.Errorf("of another installation: %d %s%s", code, out, said)
	}
	env["PORTCULLIS_INSTALLATION"] = "shell"
	if code, out, said := sweep(); code != 0 || out != fmt.Sprintf("closed Portcullis-shell-over in %s\n1 rules closed\n", group) {
		t.Errorf("%d %s%s", code, out, said)
	}
	after, err := azure.Group(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(after.Rules); n != len(g.Rules)+1 || after.Rules[n-1].Name != "Portcullis-shell-live" {
		t.Errorf("what has not expired stays: %+v", after.Rules)
	}
	w.stack.ResourceManager.Deny("Microsoft.Network/networkSecurityGroups/read")
	defer w.stack.ResourceManager.AllowAll()
	if code, _, said := sweep(); code != 1 || !strings.Contains(said, "AuthorizationFailed") {
		t.Errorf("without permission: %d %s", code, said)
	}
}

func TestALocalStackFromTheShellComesAndGoes(t *testing.T) {
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), filepath.Join(w.dir, "portcullis-local"), "run", "--free-ports", "--app", filepath.Join(w.dir, "app"), "--dir", dir,
		"--topology", filepath.Join(root, "docs/examples/topology.json"), "--entities", filepath.Join(root, "infra/entities.json"), "--policy", filepath.Join(root, "docs/examples/policy.json"))
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.Wait() }()
	env := filepath.Join(dir, "env")
	eventually(t, func() string {
		if _, err := os.Stat(env); err != nil {
			return err.Error()
		}
		return ""
	})
	if info, err := os.Stat(env); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of keys is for its owner alone: %v, %v", info.Mode(), err)
	}
	if code, token, said := w.run(t, "portcullis-local", nil, "token", "--env-file", env, "--as", "alice@contoso.com"); code != 0 || strings.Count(token, ".") != 2 {
		t.Errorf("token: %d %s%s", code, token, said)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stopped:
		if err != nil || !strings.Contains(out.String(), "Portcullis is up") {
			t.Errorf("%v: %s", err, out.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not stop")
		_ = c.Process.Kill()
	}
	if _, err := os.Stat(env); !os.IsNotExist(err) {
		t.Errorf("the environment of a stack that is gone is left: %v", err)
	}
}
