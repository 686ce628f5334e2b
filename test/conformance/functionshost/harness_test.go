package functionshost

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/functionshost"
)

// setup is a function app and what its handler does.
type setup struct {
	// More members of host.json, of its customHandler and of its description.
	top, handler, description string
	functions                 map[string]string // function.json by name
	settings                  map[string]string
	verify                    func(ctx context.Context, token string) (map[string]any, error)
	stateDir                  string
	bus                       *bus
	// What the handler is told; nil lets it do as it does without an order. ctx
	// ends with the handler's process.
	start   func(ctx context.Context, e event) order
	request func(ctx context.Context, e event) order
}

// host is a running host with its front end.
type host struct {
	*functionshost.Host
	url  string
	out  *syncBuffer
	stop context.CancelFunc
	end  chan error // gets Run's error once

	mu     sync.Mutex
	events []event
}

// run starts the app and waits until it is ready. It ends with the test.
func (s setup) run(t *testing.T) *host {
	t.Helper()
	h := s.launch(t)
	select {
	case <-h.Ready():
	case err := <-h.end:
		t.Fatalf("the host ended: %v\n%s", err, h.out)
	}
	return h
}

// launch starts the app and waits for nothing.
func (s setup) launch(t *testing.T) *host {
	t.Helper()
	h := &host{out: &syncBuffer{}, end: make(chan error, 1)}
	control := httptest.NewServer(h.control(s))
	t.Cleanup(control.Close)
	settings := map[string]string{controlVar: control.URL}
	for name, value := range s.settings {
		settings[name] = value
	}
	config := functionshost.Config{
		AppRoot: s.stage(t), Settings: settings, Verify: s.verify, StateDir: s.stateDir, Stdout: h.out,
		Keys: map[string]string{"_master": "the-master", "default": "the-key"},
	}
	if s.bus != nil {
		settings["Bus"] = s.bus.connection
		config.ServiceBus = func(name string) (*azservicebus.Client, error) {
			return azservicebus.NewClientFromConnectionString(settings[name], nil)
		}
	}
	var err error
	if h.Host, err = functionshost.New(config); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(h.Host)
	t.Cleanup(front.Close)
	h.url = front.URL
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.end <- h.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

// stage writes the app's folder.
func (s setup) stage(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	executable, err := json.Marshal(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.handler, "HttpRequest") {
		s.handler = `,"enableProxyingHttpRequest":true` + s.handler
	}
	write(t, filepath.Join(root, "host.json"), `{"version":"2.0"`+s.top+`,"customHandler":{"description":{"defaultExecutablePath":`+
		string(executable)+s.description+`}`+s.handler+`}}`)
	for name, text := range s.functions {
		write(t, filepath.Join(root, name, "function.json"), text)
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// control is what the handler asks.
func (h *host) control(s setup) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			return // the handler died while it spoke
		}
		h.mu.Lock()
		h.events = append(h.events, e)
		h.mu.Unlock()
		var o order
		switch {
		case e.Kind == "start" && s.start != nil:
			o = s.start(r.Context(), e)
		case e.Kind == "request" && s.request != nil:
			o = s.request(r.Context(), e)
		}
		_ = json.NewEncoder(w).Encode(o) // it may have died
	})
}

// told lists what the handler told, of one kind; of requests those that are no
// pings.
func (h *host) told(kind string) []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.events), func(e event) bool { return e.Kind != kind || kind == "request" && e.Path == "/" })
}

// do sends a request to the front end.
func (h *host) do(t *testing.T, method, path, body string, header map[string]string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

// get is the status of a GET.
func (h *host) get(t *testing.T, path string) int {
	t.Helper()
	status, _, _ := h.do(t, "GET", path, "", nil)
	return status
}

// behind sends a request to the front end in the background.
func (h *host) behind(t *testing.T, path string) <-chan int {
	t.Helper()
	answered := make(chan int, 1)
	go func() {
		response, err := http.Post(h.url+path, "", nil)
		if err != nil {
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	return answered
}

// eventually waits for a condition that other goroutines or processes bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// syncBuffer is a buffer that goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func httpFunction(route, level, more string) string {
	return `{"bindings":[{"type":"httpTrigger","name":"req","authLevel":"` + level + `","route":"` + route + `"` + more + `},
		{"type":"http","direction":"out","name":"res"}]}`
}

// anyRoute is a function app that takes every path below /api.
func anyRoute() map[string]string {
	return map[string]string{"Any": httpFunction("{*path}", "anonymous", "")}
}

func timerFunction(schedule, more string) string {
	return `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"` + schedule + `"` + more + `}]}`
}

func exit(code int) order { return order{Exit: &code} }
