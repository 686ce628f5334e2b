package portal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure"
)

// root is the module's, from this folder.
const root = "../.."

// address is where everybody's browser seems to be.
const address = "203.0.113.7"

// serveLocal starts the local stack with the staged app, as make run does.
func serveLocal(t *testing.T) (*localazure.Stack, string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", dir+string(filepath.Separator), "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	app := filepath.Join(dir, "app")
	must(t, os.CopyFS(app, os.DirFS(filepath.Join(root, "functions"))))
	must(t, os.Rename(filepath.Join(dir, "handler"), filepath.Join(app, "handler")))
	must(t, os.WriteFile(filepath.Join(app, "host.json"), read(t, "host.json"), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	stack, err := localazure.Start(context.Background(), localazure.Config{
		Dir: filepath.Join(dir, "local"), AppRoot: app, Topology: read(t, "docs/examples/topology.json"), Entities: read(t, "infra/entities.json"),
		OperationLatency: 50 * time.Millisecond, ClientAddress: netip.MustParseAddr(address),
		Settings: map[string]string{"PORTCULLIS_SHORTEST_DURATION": "PT1S"}, Stdout: log, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() {
		must(t, stack.Close())
		must(t, log.Close())
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("the handler and its host said:\n%s", data)
		}
	})
	prepare := exec.Command(filepath.Join(dir, "portcullis"), "init")
	for k, v := range stack.Env() {
		prepare.Env = append(prepare.Env, k+"="+v)
	}
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return stack, stack.Env()["FUNCTIONS_ENDPOINT"]
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	must(t, err)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ours are the rules of Portcullis in both groups of web-1, such as
// "Deny * 22,3389".
func ours(t *testing.T, stack *localazure.Stack) (out []string) {
	t.Helper()
	for _, name := range []string{"nsg-web-subnet", "nsg-web-1-nic"} {
		data, ok := stack.ResourceManager.NSG("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Network/networkSecurityGroups/" + name)
		if !ok {
			t.Fatalf("%s is not there", name)
		}
		var g struct {
			Properties struct {
				SecurityRules []struct {
					Name       string
					Properties struct {
						Access, SourceAddressPrefix, DestinationPortRange string
						DestinationPortRanges, SourceAddressPrefixes      []string
					}
				}
			}
		}
		must(t, json.Unmarshal(data, &g))
		for _, r := range g.Properties.SecurityRules {
			if strings.HasPrefix(r.Name, "Portcullis-") {
				p := r.Properties
				out = append(out, fmt.Sprintf("%s %s %s", p.Access, p.SourceAddressPrefix+strings.Join(p.SourceAddressPrefixes, ","), p.DestinationPortRange+strings.Join(p.DestinationPortRanges, ",")))
			}
		}
	}
	return out
}

func expectOurs(t *testing.T, stack *localazure.Stack, each ...string) {
	t.Helper()
	want := strings.Join(append(append([]string{}, each...), each...), "; ")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got := strings.Join(ours(t, stack), "; ")
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("our rules are %q, want %q", got, want)
		}
	}
}

// signIn goes through the page that stands in for Entra.
func (p *tab) signIn(name string, roles ...string) {
	p.t.Helper()
	p.see("main", "Sign in")
	p.press("main", "Sign in")
	p.await("the sign-in page", `document.forms[0]?.elements.name`)
	quoted, _ := json.Marshal(roles) // strings always can be
	p.do(fmt.Sprintf(`{ const f = document.forms[0]; f.elements.name.value = %q;
		for (const box of f.querySelectorAll("[name=role]")) box.checked = %s.includes(box.value);
		f.querySelector("button").click(); }`, name, quoted))
	p.see("h1", "Machines")
}

// toggle switches a port of the open form.
func (p *tab) toggle(port string) {
	p.t.Helper()
	p.await("the switch of port "+port, fmt.Sprintf(`document.querySelector("dialog [data-port='%s'] [role=switch]")`, port))
	p.do(fmt.Sprintf(`document.querySelector("dialog [data-port='%s'] [role=switch]").click()`, port))
}

// TestTheWalkOfAFirstTimeUser is that of Defender's: switch it on for a machine,
// see the deny rule, ask for two ports of which one is outside its range and be
// refused, switch that one off and be let in, and have it close.
func TestTheWalkOfAFirstTimeUser(t *testing.T) {
	b := browser(t)
	stack, url := serveLocal(t)

	admin := open(t, b, desktop, url)
	admin.signIn("admin@contoso.com", ruler)
	admin.see("[data-machine=web-1]", "Not configured")
	admin.press("[data-machine=web-1]", "Enable web-1")
	admin.fill("dialog [data-port='22']", "May be asked for from", "100.100.100.0/24")
	admin.fill("dialog [data-field=add-port]", "Another port", "3389")
	admin.press("dialog", "Add")
	admin.fill("dialog [data-port='3389']", "May be asked for from", address)
	admin.press("dialog", "Show what will be done")
	admin.see("dialog", "Portcullis-default-deny-tcp-v4-")
	admin.shoot("walk-plan")
	if rules := ours(t, stack); len(rules) != 0 {
		t.Fatalf("a plan has written %v", rules)
	}
	admin.press("dialog", "Do this")
	admin.gone("dialog")
	admin.see("[data-machine=web-1]", "Configured")
	expectOurs(t, stack, "Deny * 22,3389")

	alice := open(t, b, desktop, url)
	alice.signIn("alice@contoso.com", asker)
	alice.press("[data-machine=web-1]", "Request access to web-1")
	alice.toggle("22")
	alice.toggle("3389")
	alice.fill("dialog [data-field=justification]", "Justification", "look at the logs")
	alice.press("dialog", "Request")
	alice.see("dialog [data-port='22']", address+" does not lie inside a range allowed for port 22")
	alice.shoot("walk-refused")
	expectOurs(t, stack, "Deny * 22,3389")
	alice.toggle("22")
	alice.press("dialog", "Request")
	alice.see(".grant[data-port='3389']", "Open for another")
	alice.await("its announcement", `document.getElementById("live").textContent.includes("web-1 port 3389 is open until")`)
	alice.shoot("walk-open")
	expectOurs(t, stack, "Deny * 22,3389", "Allow "+address+" 3389")

	alice.press(".request", "Give back web-1")
	alice.gone(".grant")
	expectOurs(t, stack, "Deny * 22,3389")
	alice.press("#nav", "History")
	alice.see(".history", "web-1:3389")
}
