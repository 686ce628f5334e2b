package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// inProcess is a host whose handler is an http.Handler of the test.
func inProcess(t *testing.T, a *app, handler http.HandlerFunc) *Host {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	h := a.new(t)
	h.base = t.Context()
	h.handler.setReady(&child{address: strings.TrimPrefix(server.URL, "http://"), done: make(chan struct{})})
	close(h.ready)
	return h
}

const timerJSON = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 0 0 1 1 *"}]}`

func TestInvocationRequest(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"SweepIt": timerJSON})
	var seen *http.Request
	var body []byte
	h := inProcess(t, a, func(w http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"Logs":["from the function"]}`)
	})
	f := h.find("sweepit")
	e, err := timerEnvelope(f, nil, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.invoke(t.Context(), call{fn: f, reason: "a test", envelope: e}); err != nil {
		t.Fatal(err)
	}
	want, err := e.bytes()
	if err != nil {
		t.Fatal(err)
	}
	if seen.Method != "POST" || seen.URL.Path != "/SweepIt" || string(body) != string(want) || len(seen.TransferEncoding) != 1 {
		t.Errorf("request %s %s %q %s", seen.Method, seen.URL.Path, seen.TransferEncoding, body)
	}
	if _, err := uuid.Parse(seen.Header.Get("X-Azure-Functions-InvocationId")); err != nil {
		t.Errorf("invocation id: %v", err)
	}
	for name, want := range map[string]string{
		"Content-Type":                  "application/json; charset=utf-8",
		"X-Azure-Functions-HostVersion": HostVersion,
		"User-Agent":                    "Azure-Functions-Host/" + HostVersion,
	} {
		if got := seen.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, want := range []string{
		"Executing 'Functions.SweepIt' (Reason='a test'", "Function.SweepIt.User: from the function\n", "Executed 'Functions.SweepIt' (Succeeded",
	} {
		if !strings.Contains(a.out.String(), want) {
			t.Errorf("no %q in:\n%s", want, a.out)
		}
	}
}

func TestInvocationFailures(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Sweep": timerJSON})
	h := inProcess(t, a, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"Logs":["never shown"]}`)
	})
	if err := h.invoke(t.Context(), call{fn: h.find("Sweep"), reason: "a test"}); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("error %v", err)
	}
	if strings.Contains(a.out.String(), "never shown") || !strings.Contains(a.out.String(), "[Error] Function.Sweep: Executed 'Functions.Sweep' (Failed") {
		t.Errorf("log:\n%s", a.out)
	}
}

func TestEmptyAnswerHangsUntilTheTimeout(t *testing.T) {
	a := newApp(t, strings.Replace(plainHost, `"version"`, `"functionTimeout":"00:00:00.1","version"`, 1), map[string]string{"Sweep": timerJSON})
	h := inProcess(t, a, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	restarted := make(chan *child, 1)
	go func() { restarted <- <-h.handler.restarts }()
	if err := h.invoke(t.Context(), call{fn: h.find("Sweep"), reason: "a test"}); !errors.Is(err, errFunctionTimeout) {
		t.Errorf("error %v", err)
	}
	if run := <-restarted; run == nil {
		t.Error("the handler was not to be restarted")
	}
	// Until the next run is ready, calls wait.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h.invoke(ctx, call{fn: h.find("Sweep"), reason: "a test"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call between two runs: %v", err)
	}
}

func TestAdminInvocation(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Sweep": timerJSON, "Queue": queueJSON, "Http": anyRoute})
	a.cfg.ServiceBus = noServiceBus
	a.cfg.Settings["Queue"], a.cfg.Settings["Bus"] = "q", "Endpoint=sb://x/"
	bodies := make(chan string, 1)
	h := inProcess(t, a, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
		bodies <- r.URL.Path + string(body)
	})
	post := func(path, body, key string) int {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("x-functions-key", key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, test := range []struct {
		path, body, key string
		want            int
		data            string // that the handler gets
	}{
		{"/admin/functions/queue", `{"input":"hello"}`, "the-master", 202, `{"msg":"aGVsbG8="}`},
		{"/admin/functions/Queue", `{"input":{"a": 1}}`, "the-master", 202, `{"msg":"eyJhIjogMX0="}`},
		{"/admin/functions/Queue", ``, "the-master", 202, `{"msg":""}`},
		{"/admin/functions/Sweep", `{}`, "the-master", 202, `{"timer":{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":null}}`},
		{"/admin/functions/Queue", `{"input":`, "the-master", 400, ""},
		{"/admin/functions/Queue", `{"input":"` + strings.Repeat("x", maxAdminBody) + `"}`, "the-master", 400, ""},
		{"/admin/functions/Http", `{}`, "the-master", 400, ""},
		{"/admin/functions/Nobody", `{}`, "the-master", 404, ""},
		{"/admin/functions/Queue", `{}`, "the-key", 401, ""},
	} {
		if got := post(test.path, test.body, test.key); got != test.want {
			t.Errorf("%s: %d, want %d", test.path, got, test.want)
			continue
		}
		if test.data == "" {
			continue
		}
		path, body, _ := strings.Cut(<-bodies, "{")
		var e struct{ Data json.RawMessage }
		if err := json.Unmarshal([]byte("{"+body), &e); err != nil {
			t.Fatal(err)
		}
		if string(e.Data) != test.data || !strings.EqualFold(path, strings.TrimPrefix(test.path, "/admin/functions")) {
			t.Errorf("%s %s: the handler got %s %s", test.path, test.body, path, e.Data)
		}
	}
	h.calls.close()
	if got := post("/admin/functions/Queue", `{}`, "the-master"); got != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d", got)
	}
}

func TestHTTPEnvelope(t *testing.T) {
	host := strings.Replace(plainHost, `"enableProxyingHttpRequest":true`, `"enableProxyingHttpRequest":false`, 1)
	for name, test := range map[string]struct {
		output, answer string
		status         int
		body, header   string
	}{
		"output":      {"res", `{"Outputs":{"res":{"statusCode":201,"body":"made","headers":{"X-A":"b"}}}}`, 201, "made", "b"},
		"text status": {"res", `{"Outputs":{"res":{"status":"404","body":{"a":1}}}}`, 404, `{"a":1}`, ""},
		"in a string": {"res", `{"Outputs":{"res":"{\"statusCode\":202}"}}`, 202, "", ""},
		"return":      {"$return", `{"ReturnValue":{"body":"x"}}`, 200, "x", ""},
		"nothing":     {"res", `{}`, 200, "", ""},
		"bad status":  {"res", `{"Outputs":{"res":{"statusCode":99}}}`, 500, "", ""},
		"no object":   {"res", `{"Outputs":{"res":[]}}`, 500, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, host, map[string]string{"Items": strings.Replace(httpFunction("items/{id}", "anonymous", ""), `"res"`, `"`+test.output+`"`, 1)})
			var got map[string]any
			h := inProcess(t, a, func(w http.ResponseWriter, r *http.Request) {
				_ = json.NewDecoder(r.Body).Decode(&got)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, test.answer)
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "/api/items/7?q=1", strings.NewReader(`{"kind":"x"}`)))
			if w.Code != test.status || w.Body.String() != test.body || w.Header().Get("X-A") != test.header {
				t.Errorf("answer %d %q %v", w.Code, w.Body, w.Header())
			}
			request := got["Data"].(map[string]any)["req"].(map[string]any)
			if request["Method"] != "POST" || request["Url"] != "http://example.com/api/items/7?q=1" || request["Body"] != `{"kind":"x"}` ||
				request["Params"].(map[string]any)["id"] != "7" || request["Query"].(map[string]any)["q"] != "1" {
				t.Errorf("request %v", request)
			}
			if meta := got["Metadata"].(map[string]any); meta["kind"] != `"x"` || meta["id"] != `"7"` {
				t.Errorf("metadata %v", meta)
			}
		})
	}
}
