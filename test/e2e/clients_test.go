package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
)

const clients = root + "/docs/examples/clients"

// example is one of the clients of the quick start.
type example struct {
	http bool // it calls the API; else it posts to the queue
	// command gives what to run but for the id and the file, or why that cannot be.
	command func(t *testing.T) (args []string, missing string)
	env     map[string]string
}

// TestClientsOfTheQuickStart runs each client of docs/quickstart.md, in whatever
// language, against the local stack, from the variables of the environment file.
func TestClientsOfTheQuickStart(t *testing.T) {
	env := w.stack.Env()
	for name, c := range map[string]example{
		"go": {command: func(t *testing.T) ([]string, string) {
			program := filepath.Join(t.TempDir(), "post")
			if out, err := exec.Command("go", "build", "-o", program, clients+"/go/main.go").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return []string{program}, ""
		}},
		"curl":      {http: true, command: onPath("curl", clients+"/curl.sh"), env: map[string]string{"TOKEN": w.alice}},
		"azure cli": {http: true, command: onPath("az", clients+"/azure-cli.sh"), env: map[string]string{"TOKEN": w.alice, "AZURE_CONFIG_DIR": t.TempDir(), "AZURE_CORE_COLLECT_TELEMETRY": "0"}},
		"python":    {command: python},
		"javascript": {command: javascript, env: map[string]string{
			"AZURE_CLIENT_ID": env["AZURE_CLIENT_ID"], "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			args, missing := c.command(t)
			if missing != "" {
				t.Skipf("SKIPPED: %s", missing)
			}
			id := "client-" + strings.ReplaceAll(name, " ", "-")
			run := exec.CommandContext(t.Context(), args[0], append(args[1:], id, clients+"/request.json")...)
			run.Env = os.Environ()
			for _, k := range slices.Sorted(maps.Keys(c.env)) {
				run.Env = append(run.Env, k+"="+c.env[k])
			}
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if c.http {
				var view struct{ ID, Outcome string }
				if err := json.Unmarshal(out, &view); err != nil || view.Outcome != string(access.Accepted) {
					t.Errorf("it prints %s", out)
				}
				return
			}
			sender := handlers.QueueSender()
			eventually(t, func() string {
				rec, _, err := w.store.Find(t.Context(), access.NewRequestID(sender, id))
				if err != nil || rec.Outcome != access.Accepted {
					return fmt.Sprintf("the request of %s: %v, %v %+v", name, err, rec.Outcome, rec.Refusal)
				}
				return ""
			})
		})
	}
}

func onPath(tool, script string) func(*testing.T) ([]string, string) {
	return func(*testing.T) ([]string, string) {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, tool + " is not on this machine"
		}
		return []string{"sh", script}, ""
	}
}

// python's package takes no port but that of AMQP over TLS.
func python(t *testing.T) ([]string, string) {
	l, err := net.Listen("tcp", "127.0.0.1:5671")
	if err != nil {
		return nil, "something else listens on port 5671: " + err.Error()
	}
	t.Cleanup(func() { _ = l.Close() })
	go forward(l, w.stack.Env()["SERVICEBUS_FULLY_QUALIFIED_NAMESPACE"])
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(program, "-c", "import azure.servicebus").Run() == nil {
			return []string{program, clients + "/post.py"}, ""
		}
	}
	return nil, "Python with the package azure-servicebus is not on this machine"
}

func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return // the test is over
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			_ = in.Close()
			continue
		}
		pipe := func(a, b net.Conn) {
			_, _ = io.Copy(a, b) // either side may end it
			_, _ = a.Close(), b.Close()
		}
		go pipe(in, out)
		go pipe(out, in)
	}
}

// javascript installs the SDKs where it is asked to: that takes the network and
// a quarter of a minute.
func javascript(t *testing.T) ([]string, string) {
	if os.Getenv("PORTCULLIS_TEST_CLIENTS") == "" {
		return nil, "set PORTCULLIS_TEST_CLIENTS=1 to install the JavaScript SDKs (make conformance does)"
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, tool + " is not on this machine"
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(clients+"/javascript")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v: %s", err, out)
	}
	return []string{"node", filepath.Join(dir, "post.mjs")}, ""
}

// TestACallWithoutATokenIsToldSo holds what curl.sh prints on a refusal.
func TestACallWithoutATokenIsToldSo(t *testing.T) {
	args, missing := onPath("curl", clients+"/curl.sh")(t)
	if missing != "" {
		t.Skipf("SKIPPED: %s", missing)
	}
	c := exec.CommandContext(t.Context(), args[0], append(args[1:], "client-nobody", clients+"/request.json")...)
	c.Env = append(os.Environ(), "TOKEN=nonsense")
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint(http.StatusUnauthorized)) {
		t.Errorf("it exits with %v and prints %s", err, out)
	}
}
