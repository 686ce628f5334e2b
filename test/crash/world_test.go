package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/internal/leaks"
	"github.com/portcullis-access/portcullis/internal/staged"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

// world is one stack, and who asks of it.
type world struct {
	t      *testing.T
	dir    string
	seed   uint64
	random *rand.Rand

	stack   *localazure.Stack
	log     leaks.Log
	store   *tables.Store
	bus     *azservicebus.Client
	secrets map[string]string
	tokens  map[string]string // by name

	struck        map[string]int
	kills, deaths int
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// lockDurations makes the queues' locks short, so that a message whose lock was
// lost with a connection comes again within the round.
func lockDurations(entities []byte) []byte {
	for _, long := range []string{`"PT1M"`, `"PT5M"`} {
		entities = bytes.ReplaceAll(entities, []byte(`"lockDuration": `+long), []byte(`"lockDuration": "PT5S"`))
	}
	return entities
}

func (w *world) start() {
	w.t.Helper()
	var err error
	w.stack, err = localazure.Start(w.t.Context(), localazure.Config{
		Dir: filepath.Join(w.dir, "local"), AppRoot: staged.App(w.dir), Topology: w.read("docs/examples/topology.json"),
		Entities: lockDurations(w.read("infra/entities.json")), OperationLatency: 150 * time.Millisecond,
		Settings: map[string]string{
			"PORTCULLIS_SHORTEST_DURATION": "PT1S", "PORTCULLIS_MAX_LIVE_GRANTS": "10000", "PORTCULLIS_MAX_REQUESTS_PER_HOUR": "100000",
		},
		Stdout: &w.log, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range w.stack.Env() {
		if err := os.Setenv(k, v); err != nil {
			w.t.Fatal(err)
		}
	}
	w.secrets = leaks.OfSettings(w.stack.Env())
	// The SDK keeps the tokens of a managed identity for the whole process, and the
	// next round's issuer knows none of this one's.
	if w.store, err = connect.Tables(config.Connection{ConnectionString: config.Secret(os.Getenv("AZURE_STORAGE_CONNECTION_STRING"))}, connect.Watch{}); err != nil {
		w.t.Fatal(err)
	}
	apply := exec.CommandContext(w.t.Context(), filepath.Join(w.dir, "portcullis"), "policy", "apply", "--tables", "-f", "testdata/policy.json")
	if out, err := apply.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	if w.bus, err = azservicebus.NewClientFromConnectionString(os.Getenv("SERVICEBUS_CONNECTION_STRING"), nil); err != nil {
		w.t.Fatal(err)
	}
	w.tokens = map[string]string{}
	for name, role := range map[string]string{"alice": "Access.Request", "bob": "Access.Request", "sam": "Access.ReadAll"} {
		if w.tokens[name], err = w.stack.Identity.Mint(identity.UserToken{Name: name + "@contoso.com", Audience: localazure.Audience, Roles: []string{role}}); err != nil {
			w.t.Fatal(err)
		}
		w.secrets["the token of "+name] = w.tokens[name]
	}
}

// run has the host run a function now, as its timer would.
func (w *world) run(function string) error {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, os.Getenv("FUNCTIONS_ENDPOINT")+"/admin/functions/"+function, strings.NewReader(`{"input":""}`))
	if err != nil {
		return err
	}
	r.Header.Set("X-Functions-Key", w.stack.Env()["IDENTITY_HEADER"])
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the host answers %s to %s", res.Status, function)
	}
	return nil
}

// calm waits until the baselines of the policies stand, before any trouble.
func (w *world) calm() {
	w.t.Helper()
	if err := w.run("Scan"); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		waiting := ""
		for _, id := range groups {
			if _, rows, err := w.store.Partition(w.t.Context(), groupID(id)); err != nil || len(rows) == 0 || !w.quiet(id) {
				waiting = fmt.Sprintf("%s: %d baselines, %v", id, len(rows), err)
			}
			if h, err := w.store.Head(w.t.Context(), groupID(id)); err != nil || h.Wanted != h.Done {
				waiting = fmt.Sprintf("%s: %+v, %v", id, h, err)
			}
		}
		if waiting == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("before any trouble, %s", waiting)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// call makes one call of the API. A body that is no JSON gives its status alone.
func (w *world) call(ctx context.Context, as, method, path string, body, into any) (int, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, os.Getenv("FUNCTIONS_ENDPOINT")+path, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+w.tokens[as])
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", path) // each of them is asked for once, however often
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if into != nil && res.StatusCode < 300 {
		err = json.Unmarshal(text, into)
	}
	return res.StatusCode, err
}

// insist calls until it is answered for good: done or refused.
func (w *world) insist(ctx context.Context, as, method, path string, body, into any) int {
	for {
		status, err := w.call(ctx, as, method, path, body, into)
		if err == nil && status != http.StatusTooManyRequests && status < 500 {
			return status
		}
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(200 * time.Millisecond):
		}
	}
}
