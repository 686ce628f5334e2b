package functionshost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// handlerMode makes the test binary a custom handler instead of running tests.
const handlerMode = "FUNCTIONSHOST_TEST_HANDLER"

func TestMain(m *testing.M) {
	switch os.Getenv(handlerMode) {
	case "":
		os.Exit(m.Run())
	case "sleep":
		time.Sleep(time.Hour)
	case "host":
		runTestHost(os.Args[1])
	default:
		runTestHandler()
	}
}

// runTestHandler serves what tests ask for by path.
func runTestHandler() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.HandleFunc("/{prefix}/exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("code"))
		os.Exit(n)
	})
	mux.HandleFunc("/{prefix}/half", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "the first half")
		_ = http.NewResponseController(w).Flush()
		os.Exit(exitRestart)
	})
	mux.HandleFunc("/{prefix}/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/{prefix}/spawn", func(w http.ResponseWriter, _ *http.Request) {
		child := exec.Command(os.Args[0])
		child.Env = []string{handlerMode + "=sleep"}
		child.Stdout = os.Stdout // holds the host's pipe open
		if err := child.Start(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, child.Process.Pid)
	})
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), mux)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// runTestHost runs a host that prints its handler's id and then waits to be
// killed.
func runTestHost(root string) {
	h, err := New(Config{AppRoot: root, Settings: map[string]string{handlerMode: "serve"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		<-h.Ready()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/api/x", nil))
		var seen echoed
		_ = json.Unmarshal(w.Body.Bytes(), &seen)
		fmt.Println(seen.Pid)
	}()
	fmt.Fprintln(os.Stderr, h.Run(context.Background()))
	os.Exit(1)
}

// echoed is what the test handler says of itself.
type echoed struct {
	Pid                              int
	Path, Token, Principal, From, By string
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("User-Agent") == "Azure-Functions-Host/"+HostVersion {
		fmt.Printf("invoked %s %s\n", r.URL.Path, body)
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/api/teapot" {
		w.WriteHeader(http.StatusTeapot)
	}
	_ = json.NewEncoder(w).Encode(echoed{
		Pid: os.Getpid(), Path: r.URL.Path, Token: r.Header.Get(easyAuthToken), Principal: r.Header.Get("X-MS-CLIENT-PRINCIPAL-NAME"),
		From: r.Header.Get(forwardedFor), By: r.Header.Get("Authorization"),
	})
}

// app is a staged function app under test.
type app struct {
	root string
	cfg  Config
	out  *syncBuffer
}

// newApp stages host.json and functions; hostJSON may hold EXE for this test
// binary as the handler.
func newApp(t *testing.T, hostJSON string, functions map[string]string) *app {
	t.Helper()
	root := t.TempDir()
	exe, err := json.Marshal(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "host.json"), strings.ReplaceAll(hostJSON, "EXE", string(exe)))
	for name, text := range functions {
		write(t, filepath.Join(root, name, "function.json"), text)
	}
	out := &syncBuffer{}
	return &app{root: root, out: out, cfg: Config{
		AppRoot:  root,
		Settings: map[string]string{handlerMode: "serve"},
		Keys:     map[string]string{masterKey: "the-master", "default": "the-key"},
		Stdout:   out,
	}}
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

func (a *app) new(t *testing.T) *Host {
	t.Helper()
	h, err := New(a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// running is a host with its front end.
type running struct {
	*Host
	url    string
	cancel context.CancelFunc
	ended  chan error
}

// start runs the host until the test ends, or until stop, and waits until it is
// ready or has ended.
func (a *app) start(t *testing.T) *running {
	t.Helper()
	h := a.new(t)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Host: h, url: server.URL, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- h.Run(ctx); close(r.ended) }()
	t.Cleanup(func() { cancel(); <-r.ended })
	select {
	case <-h.Ready():
	case err := <-r.ended:
		t.Fatalf("the host ended: %v\n%s", err, a.out)
	}
	return r
}

// do sends a request to the front end.
func (r *running) do(t *testing.T, method, path, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
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
	return response, string(text)
}

// echo sends a request and returns what the handler saw.
func (r *running) echo(t *testing.T, method, path, body string, header map[string]string) echoed {
	t.Helper()
	response, text := r.do(t, method, path, body, header)
	var seen echoed
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatalf("%s %s: %s: %v\n%s", method, path, response.Status, err, text)
	}
	return seen
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

// eventually waits for a condition that other goroutines or processes bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const (
	plainHost = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":EXE},
		"enableProxyingHttpRequest":true}}`
	anyRoute = `{"bindings":[
		{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"{*path}"},
		{"type":"http","direction":"out","name":"res"}]}`
)
