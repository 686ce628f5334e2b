package functionshost

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func httpFunction(route, level, more string) string {
	return fmt.Sprintf(`{"bindings":[{"type":"httpTrigger","name":"req","authLevel":%q,"route":%q%s},
		{"type":"http","direction":"out","name":"res"}]}`, level, route, more)
}

const rootHost = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":EXE},"enableProxyingHttpRequest":true},
	"extensions":{"http":{"routePrefix":""}}}`

func TestRoutesReachTheHandler(t *testing.T) {
	h := newApp(t, rootHost, map[string]string{
		"Api":      httpFunction("api/{*path}", "anonymous", ""),
		"Api2":     httpFunction("api/special", "admin", ""), // never reached: Api comes first
		"Portal":   httpFunction("{root:maxlength(0)?}", "anonymous", `,"methods":["get"]`),
		"Webhook":  httpFunction("webhooks/{source}", "anonymous", `,"methods":["post"]`),
		"Disabled": strings.Replace(httpFunction("off", "anonymous", ""), "{", `{"disabled":true,`, 1),
		"Timer":    `{"bindings":[{"type":"timerTrigger","name":"timer","schedule":"0 0 0 1 1 *"}]}`,
	}).start(t)
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/", "/"},
		{"PATCH", "/api/special?x=1;y=%zz&code=k", "/api/special"},
		{"GET", "/api/a%20b%2Fc", "/api/a%20b%2Fc"},
		{"POST", "/webhooks/github", "/webhooks/github"},
		{"GET", "/x/../api/./y%2F%41", "/api/y%2FA"},
	} {
		seen := h.echo(t, test.method, test.path, "", nil)
		_, query, _ := strings.Cut(test.path, "?")
		if seen.Method != test.method || seen.Path != test.want || seen.Query != query {
			t.Errorf("%s %s: the handler saw %s %s?%s", test.method, test.path, seen.Method, seen.Path, seen.Query)
		}
	}
	for _, test := range []struct{ method, path string }{
		{"POST", "/"}, {"GET", "/webhooks/github"}, {"POST", "/Timer"}, {"POST", "/timer"}, {"POST", "/api/../Timer"},
		{"POST", "/api/%2e%2e/Timer"}, {"GET", "/off"}, {"GET", "/x"},
	} {
		if response, _ := h.do(t, test.method, test.path, "", nil); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s %s: %s", test.method, test.path, response.Status)
		}
	}
}

func TestForwardedRequests(t *testing.T) {
	for name, streaming := range map[string]bool{"proxying": true, "forwarding": false} {
		t.Run(name, func(t *testing.T) {
			host := plainHost
			if !streaming {
				host = strings.Replace(host, "enableProxying", "enableForwarding", 1)
			}
			h := newApp(t, host, map[string]string{"Any": anyRoute}).start(t)
			response, text := h.do(t, "POST", "/api/teapot", "hello", map[string]string{
				"X-Azure-Functions-InvocationId": "forged", "X-Ms-Invocation-Id": "forged", "X-Mine": "1",
				"X-MS-CLIENT-PRINCIPAL": "e30=", "X-Ms-Client-Principal-Id": "root", "X_MS_CLIENT_PRINCIPAL": "x",
				"X-MS-TOKEN-AAD-ID-TOKEN": "forged", "Authorization": "Bearer anything",
			})
			var seen echoed
			if err := json.Unmarshal([]byte(text), &seen); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusTeapot || response.Header.Get("X-Echo") != "yes" {
				t.Errorf("answer %s %v", response.Status, response.Header)
			}
			if seen.Body != "hello" || seen.Header.Get("X-Mine") != "1" || seen.Host != strings.TrimPrefix(h.url, "http://") ||
				seen.Header.Get("Authorization") != "Bearer anything" {
				t.Errorf("the handler saw %+v", seen)
			}
			id := seen.Header.Get("X-Azure-Functions-InvocationId")
			if len(id) != 36 || seen.Header.Get("X-Azure-Functions-HostVersion") != HostVersion {
				t.Errorf("headers %v", seen.Header)
			}
			wantCorrelation := map[bool]string{true: id, false: ""}[streaming]
			if got := seen.Header.Get("X-Ms-Invocation-Id"); got != wantCorrelation {
				t.Errorf("correlation header %q, want %q", got, wantCorrelation)
			}
			for name := range seen.Header {
				if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "x-ms-client") || strings.HasPrefix(name, "X-Ms-Token") {
					t.Errorf("%s came through", name)
				}
			}
			// A chunked body passes in proxying and is dropped in forwarding.
			request, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/api/x", struct{ io.Reader }{strings.NewReader("chunked")})
			if err != nil {
				t.Fatal(err)
			}
			response, err = http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if err := json.NewDecoder(response.Body).Decode(&seen); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]string{true: "chunked", false: ""}[streaming]; seen.Body != want {
				t.Errorf("chunked body arrived as %q, want %q", seen.Body, want)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{
		"Open":  httpFunction("open", "anonymous", ""),
		"Keyed": strings.Replace(httpFunction("keyed", "function", ""), `"authLevel":"function",`, "", 1),
		"Admin": httpFunction("admin-only", "admin", ""),
	})
	a.cfg.Keys["empty"] = ""
	h := a.start(t)
	for _, test := range []struct {
		path, key string
		want      int
	}{
		{"/api/open", "", 200},
		{"/api/open", "wrong", 200},
		{"/api/keyed", "", 401},
		{"/api/keyed", "wrong", 401},
		{"/api/keyed", "the-key", 200},
		{"/api/keyed", "the-master", 200},
		{"/api/keyed?code=the-key", "", 200},
		{"/api/keyed?code=", "", 401},
		{"/api/admin-only", "the-key", 401},
		{"/api/admin-only", "the-master", 200},
		{"/api/admin-only?code=the-master", "", 200},
		{"/admin/host/status", "the-key", 401},
		{"/admin/host/status", "the-master", 200},
		{"/admin/functions", "", 401},
		{"/admin/functions?code=the-master", "", 200},
		{"/admin/nothing", "the-master", 404},
		{"/admin/host/ping", "", 200},
	} {
		header := map[string]string{}
		if test.key != "" {
			header["x-functions-key"] = test.key
		}
		if response, _ := h.do(t, "GET", test.path, "", header); response.StatusCode != test.want {
			t.Errorf("%s with key %q: %s, want %d", test.path, test.key, response.Status, test.want)
		}
	}
}

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

func TestEasyAuth(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	a.cfg.Verify = func(_ context.Context, token string) (map[string]any, error) {
		if token != "good" {
			return nil, errors.New("not good")
		}
		return map[string]any{
			"oid": "00000000-0000-0000-0000-00000000000a", "tid": "t", "preferred_username": "alice@contoso.com",
			"name": "Älice", "roles": []any{"Approver", "Reader"}, "groups": []string{"g"}, "exp": float64(1_787_000_000),
		}, nil
	}
	h := a.start(t)
	seen := h.echo(t, "GET", "/api/x", "", map[string]string{"Authorization": "bearer good", "X-MS-CLIENT-PRINCIPAL-NAME": "root"})
	if !slices.Contains(seen.Env, "WEBSITE_AUTH_ENABLED=True") {
		t.Error("WEBSITE_AUTH_ENABLED is not set")
	}
	for name, want := range map[string]string{
		"Authorization":              "bearer good",
		"X-MS-CLIENT-PRINCIPAL-ID":   "00000000-0000-0000-0000-00000000000a",
		"X-MS-CLIENT-PRINCIPAL-NAME": "alice@contoso.com",
		"X-MS-CLIENT-PRINCIPAL-IDP":  "aad",
	} {
		if got := seen.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(seen.Header.Get("X-MS-CLIENT-PRINCIPAL"))
	if err != nil {
		t.Fatal(err)
	}
	var principal map[string]any
	if err := json.Unmarshal(raw, &principal); err != nil {
		t.Fatal(err)
	}
	claim := func(kind, value string) any { return map[string]any{"typ": kind, "val": value} }
	want := map[string]any{"auth_typ": "aad", "name_typ": nameType, "role_typ": roleType, "claims": []any{
		claim("exp", "1787000000"), claim("groups", "g"), claim("name", "Älice"),
		claim("http://schemas.microsoft.com/identity/claims/objectidentifier", "00000000-0000-0000-0000-00000000000a"),
		claim("preferred_username", "alice@contoso.com"), claim("roles", "Approver"), claim("roles", "Reader"),
		claim("http://schemas.microsoft.com/identity/claims/tenantid", "t"),
	}}
	if diff := cmp.Diff(want, principal); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}

	seen = h.echo(t, "GET", "/api/x", "", map[string]string{"X-MS-CLIENT-PRINCIPAL": "forged"})
	if seen.Header.Get("X-MS-CLIENT-PRINCIPAL") != "" {
		t.Error("an unauthenticated caller has a principal")
	}
	if h.echo(t, "GET", "/api/x", "", map[string]string{"Authorization": "Basic eDp5"}).Header.Get("Authorization") != "Basic eDp5" {
		t.Error("another scheme is not passed on")
	}
	for _, header := range []string{"Bearer bad", "Bearer", "Bearer "} {
		if response, _ := h.do(t, "GET", "/api/x", "", map[string]string{"Authorization": header}); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: %s", header, response.Status)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header["Authorization"] = []string{"Bearer good", "Bearer bad"}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("two Authorization headers: %s", response.Status)
	}
}

func TestHomepage(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Api": httpFunction("x", "anonymous", "")})
	h := a.start(t)
	if response, text := h.do(t, "GET", "/", "", nil); response.StatusCode != http.StatusOK || !strings.Contains(text, "up and running") {
		t.Errorf("home page: %s %s", response.Status, text)
	}
	a.cfg.Settings["AzureWebJobsDisableHomepage"] = "true"
	h = a.start(t)
	if response, _ := h.do(t, "GET", "/", "", nil); response.StatusCode != http.StatusNoContent {
		t.Errorf("home page that is off: %s", response.Status)
	}
}

func TestBodyLimit(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	connection, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "POST /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", maxRequestBody+1)
	answer, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
		t.Errorf("%q, %v", answer, err)
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
