// Package e2e holds the built handler, the staged function app and the real
// SDKs against bad input, over the sockets of the local stack.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/internal/leaks"
	"github.com/portcullis-access/portcullis/internal/staged"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/localazure"
)

const root = "../.."

// world is one stack for all tests of the package.
type world struct {
	stack *localazure.Stack
	dir   string // of what was built and staged
	store *tables.Store
	bus   *azservicebus.Client
	posts *azservicebus.Sender
	alice string     // a token
	log   *leaks.Log // what the handler and its host said

	mu       sync.Mutex
	rejected map[string][]rejection // by message id
	// secrets are what no log may hold, by what each is called.
	secrets map[string]string
}

var w *world

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "portcullis-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := &leaks.Log{}
	w = &world{dir: dir, rejected: map[string][]rejection{}, secrets: map[string]string{}, log: log}
	if err := staged.Build(root, dir); err != nil {
		return 1, err
	}
	if err := w.start(ctx, log); err != nil {
		return 1, err
	}
	defer func() {
		// Once the stack is closed, nobody writes to the log any more.
		if err = errors.Join(err, w.stack.Close()); code != 0 || err != nil {
			fmt.Fprintf(os.Stderr, "the handler and its host said:\n%s", log.Bytes())
			return
		}
		maps.Copy(w.secrets, leaks.OfSettings(w.stack.Env()))
		for _, found := range leaks.Find(log.Bytes(), w.secrets) {
			err = errors.Join(err, fmt.Errorf("the log of the handler and its host holds %s", found))
		}
	}()
	if err := w.connect(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func (w *world) start(ctx context.Context, log io.Writer) error {
	topology, err := os.ReadFile(filepath.Join(root, "docs/examples/topology.json"))
	if err != nil {
		return err
	}
	entities, err := os.ReadFile(filepath.Join(root, "infra/entities.json"))
	if err != nil {
		return err
	}
	w.stack, err = localazure.Start(ctx, localazure.Config{
		Dir: filepath.Join(w.dir, "local"), AppRoot: staged.App(w.dir), Topology: topology, Entities: entities,
		Settings: settings, OperationLatency: 50 * time.Millisecond, Stdout: log, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	return err
}

// connect makes the test a client as any other: by the environment file alone.
func (w *world) connect(ctx context.Context) error {
	for k, v := range w.stack.Env() {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	cfg, err := config.Load(os.LookupEnv, config.Tables)
	if err != nil {
		return err
	}
	if w.store, err = connect.Tables(cfg.Tables, connect.Watch{}); err != nil {
		return err
	}
	for _, file := range []string{filepath.Join(root, "docs/examples/policy.json"), "testdata/nobody-asserts.yaml"} {
		if _, out, err := w.tool(ctx, "portcullis", nil, "policy", "apply", "--tables", "-f", file); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	if w.bus, err = azservicebus.NewClientFromConnectionString(os.Getenv("SERVICEBUS_CONNECTION_STRING"), nil); err != nil {
		return err
	}
	if w.posts, err = w.bus.NewSender("access-requests", nil); err != nil {
		return err
	}
	go w.watch(ctx)
	w.alice, err = w.token(ctx, "alice@contoso.com", "--role", "Access.Request")
	return err
}

// tool runs a program that was built, with changes to its environment ("" takes
// a variable away), and gives what it said on each of its outputs.
func (w *world) tool(ctx context.Context, name string, env map[string]string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(w.dir, name), args...)
	c.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(env)), func(k string) bool { return len(kv) > len(k) && kv[:len(k)+1] == k+"=" })
	})
	for k, v := range env {
		if v != "" {
			c.Env = append(c.Env, k+"="+v)
		}
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	return out.String(), errs.String(), err
}

func (w *world) token(ctx context.Context, as string, args ...string) (string, error) {
	return w.tokenOf(ctx, w.stack, as, args...)
}

func (w *world) tokenOf(ctx context.Context, stack *localazure.Stack, as string, args ...string) (string, error) {
	file := filepath.Join(w.dir, "env")
	var b bytes.Buffer
	for k, v := range stack.Env() {
		fmt.Fprintf(&b, "%s='%s'\n", k, v)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return "", err
	}
	out, said, err := w.tool(ctx, "portcullis-local", nil, append([]string{"token", "--env-file", file, "--as", as}, args...)...)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	token := string(bytes.TrimSpace([]byte(out)))
	w.keepSecret("a token of "+as, token)
	return token, nil
}

// keepSecret has the logs searched for a secret, once all tests are done.
func (w *world) keepSecret(name, secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[fmt.Sprintf("%s (%d)", name, len(w.secrets))] = secret
}

// rejection is a message on access-rejected.
type rejection struct {
	MessageID  string           `json:"messageId"`
	RequestID  access.RequestID `json:"requestId"`
	Code       access.Code      `json:"code"`
	Reason     string           `json:"reason"`
	Message    string           `json:"message"`
	Violations []access.Violation
	BodyHash   string `json:"bodyHash"`
	Excerpt    string `json:"excerpt"`
}

// watch collects what comes to access-rejected, as its reader would.
func (w *world) watch(ctx context.Context) {
	r, err := w.bus.NewReceiverForQueue("access-rejected", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		all, err := r.ReceiveMessages(ctx, 1, nil) // of more, the SDK waits a second for the rest
		if err != nil {
			return // the stack is being stopped
		}
		w.mu.Lock()
		for _, m := range all {
			var doc rejection
			if err := json.Unmarshal(m.Body, &doc); err != nil {
				doc.Message = err.Error()
			}
			w.rejected[doc.MessageID] = append(w.rejected[doc.MessageID], doc)
		}
		w.mu.Unlock()
	}
}

// post sends a message to access-requests.
func (w *world) post(t *testing.T, id, body string) {
	t.Helper()
	if err := w.posts.SendMessage(t.Context(), &azservicebus.Message{MessageID: &id, Body: []byte(body)}, nil); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until done gives "", which otherwise says what is missing.
func eventually(t *testing.T, done func() string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		missing := done()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// rejections waits for n rejections of the message.
func (w *world) rejections(t *testing.T, id string, n int) []rejection {
	t.Helper()
	var got []rejection
	eventually(t, func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		if got = w.rejected[id]; len(got) < n {
			return fmt.Sprintf("%d rejections of message %s, want %d", len(got), id, n)
		}
		return ""
	})
	return got
}

// settled waits until no message is left on access-requests, dead or alive.
func (w *world) settled(t *testing.T) {
	t.Helper()
	eventually(t, func() string {
		if c, ok := w.stack.ServiceBus.Counts("access-requests"); !ok || c.Active+c.Scheduled+c.DeadLettered > 0 {
			return fmt.Sprintf("access-requests still holds %+v", c)
		}
		return ""
	})
}

// call sends a request to the Functions host, with alice's token.
func (w *world) call(t *testing.T, method, path, contentType, body string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, os.Getenv("FUNCTIONS_ENDPOINT")+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.alice)
	r.Header.Set("Content-Type", contentType)
	// A redirect would be an answer, and a wrong one.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, data
}
