package functionshost

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func httpFunction(route, level, more string) string {
	return fmt.Sprintf(`{"bindings":[{"type":"httpTrigger","name":"req","authLevel":%q,"route":%q%s},
		{"type":"http","direction":"out","name":"res"}]}`, level, route, more)
}

const rootHost = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":EXE},"enableProxyingHttpRequest":true},
	"extensions":{"http":{"routePrefix":""}}}`

func TestNoMasterKeyOpensNothing(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	a.cfg.Keys = map[string]string{masterKey: ""}
	h := a.start(t)
	for _, path := range []string{"/admin/host/status", "/admin/host/status?code=", "/admin/host/status?code=x"} {
		if response, _ := h.do(t, "GET", path, "", nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
}

// One of two tokens could be checked here and the other used by the handler.
func TestTwoTokensAreRefused(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	a.cfg.Verify = func(context.Context, string) (map[string]any, error) { return map[string]any{}, nil }
	h := a.start(t)
	for n, want := range map[int]int{1: http.StatusOK, 2: http.StatusUnauthorized} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header["Authorization"] = []string{"Bearer good", "Bearer other"}[:n]
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%d tokens: %s", n, response.Status)
		}
	}
}

func TestNotReady(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).new(t)
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest("GET", "/api/x", nil))
	if recorder.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d before Run", recorder.Code)
	}
}

func TestWarnOfForgeableRoutes(t *testing.T) {
	var log syncBuffer
	a := newApp(t, rootHost, map[string]string{
		"Any":   httpFunction("{*path}", "anonymous", ""),
		"Timer": `{"bindings":[{"type":"timerTrigger","name":"timer","schedule":"0 0 0 1 1 *"}]}`,
	})
	a.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a.new(t)
	if !strings.Contains(log.String(), "function=Timer") {
		t.Errorf("log: %s", &log)
	}
}
