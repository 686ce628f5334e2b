package customhandler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

func server(t *testing.T, functions map[string]customhandler.Function, log io.Writer) *customhandler.Server {
	t.Helper()
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/panic":
			panic("web")
		case "/": // the host's ping, or a person
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
			return
		}
		http.NotFound(w, r)
	})
	s, err := customhandler.New(functions, web, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryAnswerHasABodyThatTheHostTakes(t *testing.T) {
	functions := map[string]customhandler.Function{
		"Good":  func(context.Context, customhandler.Invocation) error { return nil },
		"Bad":   func(context.Context, customhandler.Invocation) error { return errors.New("no") },
		"Panic": func(context.Context, customhandler.Invocation) error { panic("boom") },
		"Nil":   func(context.Context, customhandler.Invocation) error { var p *int; *p = 1; return nil },
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/", "", 200}, {"HEAD", "/", "", 200}, {"GET", "/?x=1", "", 200}, {"POST", "/", "", 200},
		{"POST", "/Good", recorded, 200}, {"POST", "/Good", timer, 200}, {"POST", "/Good?code=x", recorded, 200},
		{"POST", "/Bad", recorded, 500}, {"POST", "/Panic", recorded, 500}, {"POST", "/Nil", recorded, 500}, {"GET", "/api/panic", "", 500},
		{"POST", "/Good", "{", 400}, {"POST", "/Good", "", 400}, {"POST", "/Good", "null", 400}, {"POST", "/Good", "\xff\xfe", 400},
		{"POST", "/Good", strings.Repeat("[", 1<<19), 400}, {"POST", "/Good", `{"Data":{"msg":"` + strings.Repeat("x", 2<<20) + `"}}`, 400},
		{"POST", "/Good", `{"Data":{"msg":"` + strings.Repeat("x", 900<<10) + `"}}`, 200},
		{"GET", "/Good", "", 405}, {"PUT", "/Good", recorded, 405},
		// The name is matched as it is, byte for byte.
		{"POST", "/good", recorded, 404}, {"POST", "/Good/", recorded, 404}, {"POST", "//Good", recorded, 404}, {"POST", "/./Good", recorded, 404},
		{"POST", "/api/../Good", recorded, 404}, {"POST", "/%47ood", recorded, 404}, {"POST", "/Good%00", recorded, 404}, {"POST", "/api/Good", recorded, 404},
	} {
		// In a bubble, where the hold before a failure takes no time.
		synctest.Test(t, func(t *testing.T) {
			w := httptest.NewRecorder()
			server(t, functions, io.Discard).ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
			if w.Code != c.want {
				t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.want)
			}
			if c.want != 404 && (w.Header().Get("Content-Type") != "application/json" || w.Body.String() != "{}") {
				t.Errorf("%s %s: %q as %q", c.method, c.path, w.Body, w.Header().Get("Content-Type"))
			}
		})
	}
}

func TestAnEnvelopeThatCannotBeReadFailsAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, map[string]customhandler.Function{"F": func(context.Context, customhandler.Invocation) error { return nil }}, io.Discard)
		begun := time.Now() // of the bubble's clock
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/F", strings.NewReader("{")))
		if time.Since(begun) == 0 {
			t.Error("it failed at once: a dead-letter queue would spin")
		}
		// A host that has gone is not waited for.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun = time.Now()
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/F", strings.NewReader("{")))
		if time.Since(begun) != 0 {
			t.Error("it waited for a host that is gone")
		}
	})
}

func TestWorkOutlivesTheHostsConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, map[string]customhandler.Function{"F": func(ctx context.Context, _ customhandler.Invocation) error {
		cancel()
		return ctx.Err()
	}}, io.Discard)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/F", strings.NewReader(recorded)))
	if w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
}

// TestLogsCarryTheInvocation also checks what a use case logs through another
// logger, made of the same handler.
func TestLogsCarryTheInvocation(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(customhandler.LogHandler(slog.NewJSONHandler(&out, nil)))
	s, err := customhandler.New(map[string]customhandler.Function{"F": func(ctx context.Context, in customhandler.Invocation) error {
		log.With("part", "x").InfoContext(ctx, "from within")
		if in.ID != "inv-1" {
			t.Errorf("invocation %q", in.ID)
		}
		return errors.New("no")
	}, "P": func(context.Context, customhandler.Invocation) error { panic("boom") }}, http.NotFoundHandler(), log)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"F", "P"} {
		r := httptest.NewRequest("POST", "/"+name, strings.NewReader(recorded))
		r.Header.Set("X-Azure-Functions-InvocationId", "inv-1")
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	for i, line := range lines {
		var rec map[string]any
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatal(err)
		}
		function := "F"
		if i == 2 {
			function = "P"
		}
		if rec["invocationId"] != "inv-1" || rec["function"] != function || strings.Count(line, "invocationId") != 1 {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if !strings.Contains(lines[1], `"messageId":"m-1"`) || !strings.Contains(lines[2], `"invocationId":"inv-1"`) || !strings.Contains(lines[2], "boom") {
		t.Errorf("%s\n%s", lines[1], lines[2])
	}
}

func TestAnInvocationIDFromOutsideIsBounded(t *testing.T) {
	var out bytes.Buffer
	s := server(t, map[string]customhandler.Function{"F": func(context.Context, customhandler.Invocation) error { return nil }}, &out)
	r := httptest.NewRequest("POST", "/F", strings.NewReader(recorded))
	r.Header.Set("X-Azure-Functions-InvocationId", strings.Repeat("i", 10_000))
	s.ServeHTTP(httptest.NewRecorder(), r)
	if out.Len() == 0 || out.Len() > 1000 {
		t.Errorf("a log line of %d bytes", out.Len())
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	f := func(context.Context, customhandler.Invocation) error { return nil }
	log := slog.New(slog.DiscardHandler)
	for name, made := range map[string]func() (*customhandler.Server, error){
		"no functions": func() (*customhandler.Server, error) { return customhandler.New(nil, http.NotFoundHandler(), log) },
		"no web": func() (*customhandler.Server, error) {
			return customhandler.New(map[string]customhandler.Function{"F": f}, nil, log)
		},
		"no logger": func() (*customhandler.Server, error) {
			return customhandler.New(map[string]customhandler.Function{"F": f}, http.NotFoundHandler(), nil)
		},
		"no function F": func() (*customhandler.Server, error) {
			return customhandler.New(map[string]customhandler.Function{"F": nil}, http.NotFoundHandler(), log)
		},
	} {
		if _, err := made(); err == nil {
			t.Errorf("%s: it was made", name)
		}
	}
}
