package functionshost

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Where the facts about HTTP are from.
const (
	router   = "S azure-webjobs-sdk-extensions src/WebJobs.Extensions.Http/Routing/WebJobsRouter.cs"
	easyAuth = "D learn.microsoft.com/azure/app-service/configure-authentication-user-identities"
	keys     = "S azure-functions-host src/WebJobs.Script.WebHost/Security/Authentication/Keys/AuthenticationLevelHandler.cs"
)

const noPrefix = `,"extensions":{"http":{"routePrefix":""}}`

func TestHTTP(t *testing.T) {
	hold(t, []fact{
		{"routes", router + "; I: %2F stays, dot segments are resolved before", routes},
		{"overlapping routes go by the function's name", "G azure-functions-host issue 9876; azure-webjobs-sdk-extensions pull 842", overlaps},
		{"the route prefix is api", "S azure-webjobs-sdk-extensions src/WebJobs.Extensions.Http/Config/HttpOptions.cs", prefix},
		{"a catch-all without a prefix lets invocations be forged", service + ", GetPathValue", forged},
		{"keys and levels", keys, keysAndLevels},
		{"proxying", "S azure-functions-host src/WebJobs.Script/Workers/Http/HttpProxyService/DefaultHttpProxyService.cs", func(t *testing.T) { passedOn(t, true) }},
		{"forwarding drops chunked bodies", service + ", ProcessHttpInAndOutInvocationRequest; Extensions/HttpRequestExtensions.cs, ToHttpRequestMessage",
			func(t *testing.T) { passedOn(t, false) }},
		{"without an http output the handler gets an envelope", "S azure-functions-host src/WebJobs.Script/Extensions/FunctionMetadataExtensions.cs, IsHttpInAndOutFunction; " +
			"Extensions/HttpRequestExtensions.cs, GetRequestAsJObject", requestEnvelope},
		{"bodies end at 100 MiB", "D learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger, Limits; " +
			"S azure-functions-host src/WebJobs.Script.WebHost/Middleware/HttpRequestBodySizeMiddleware.cs", bodyLimit},
		{"the home page", "S azure-functions-host src/WebJobs.Script.WebHost/Middleware/HomepageMiddleware.cs", homePage},
		{"the master key invokes anything", "D learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http", adminInvokes},
		{"Easy Auth: outsiders set no principal", easyAuth, principalStripped},
		{"Easy Auth: the platform sets it", easyAuth + "; I: the claims' mapped names, and 401 for a bad token", principalAdded},
	})
}

func routes(t *testing.T) {
	h := setup{top: noPrefix, functions: map[string]string{
		"Api":     httpFunction("api/{*path}", "anonymous", ""),
		"Empty":   httpFunction("", "anonymous", `,"methods":["put"]`), // binds nowhere
		"Int":     httpFunction("n/{id:int:min(5)}", "anonymous", ""),
		"Off":     strings.Replace(httpFunction("off", "anonymous", ""), "{", `{"disabled":true,`, 1),
		"Portal":  httpFunction("{root:maxlength(0)?}", "anonymous", `,"methods":["get"]`),
		"Timer":   timerFunction("0 0 0 1 1 *", ""),
		"Webhook": httpFunction("webhooks/{source}", "anonymous", `,"methods":["post"]`),
	}}.run(t)
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/", ""}, // a ping's path, which told leaves out
		{"PATCH", "/api/special?x=1;y=%zz&code=k", "/api/special"},
		{"GET", "/API", "/API"},
		{"GET", "/api/a%20b%2Fc", "/api/a%20b%2Fc"},
		{"POST", "/webhooks/github", "/webhooks/github"},
		{"GET", "/x/../api/./y%2F%41", "/api/y%2FA"},
		{"GET", "/n/5", "/n/5"},
	} {
		before := len(h.told("request"))
		status, _, _ := h.do(t, test.method, test.path, "", nil)
		calls := h.told("request")[before:]
		_, query, _ := strings.Cut(test.path, "?")
		if status != 200 || test.want != "" && (len(calls) != 1 || calls[0].Method != test.method || calls[0].Path != test.want || calls[0].Query != query) {
			t.Errorf("%s %s: %d, the handler saw %+v", test.method, test.path, status, calls)
		}
	}
	before := len(h.told("request"))
	for _, test := range []struct{ method, path string }{
		{"PUT", "/"}, {"POST", "/"}, {"GET", "/webhooks/github"}, {"POST", "/webhooks/a/b"}, {"GET", "/n/4"}, {"GET", "/n/x"},
		{"POST", "/Timer"}, {"POST", "/timer"}, {"POST", "/api/../Timer"}, {"POST", "/api/%2e%2e/Timer"}, {"GET", "/off"}, {"GET", "/x"},
	} {
		if status, _, _ := h.do(t, test.method, test.path, "", nil); status != http.StatusNotFound {
			t.Errorf("%s %s: %d", test.method, test.path, status)
		}
	}
	if n := len(h.told("request")); n != before {
		t.Errorf("%d of them reached the handler", n-before)
	}
}

func overlaps(t *testing.T) {
	special := httpFunction("items/recent", "admin", "")
	for name, want := range map[string]int{"Aaa": 401, "Zzz": 200} {
		h := setup{functions: map[string]string{"Item": httpFunction("items/{id}", "anonymous", ""), name: special}}.run(t)
		if status := h.get(t, "/api/items/recent"); status != want {
			t.Errorf("beside %s: %d, want %d", name, status, want)
		}
	}
}

func prefix(t *testing.T) {
	for top, open := range map[string]string{"": "/api/x", `,"extensions":{"http":{"routePrefix":"v1/data"}}`: "/v1/data/x", noPrefix: "/x"} {
		h := setup{top: top, functions: map[string]string{"X": httpFunction("x", "anonymous", "")}}.run(t)
		for _, path := range []string{"/api/x", "/v1/data/x", "/x"} {
			if want := map[bool]int{true: 200, false: 404}[path == open]; h.get(t, path) != want {
				t.Errorf("%s of %q is not %d", path, top, want)
			}
		}
	}
}

func forged(t *testing.T) {
	h := setup{top: noPrefix, functions: map[string]string{
		"All": httpFunction("{*path}", "anonymous", ""), "Timer": timerFunction("0 0 0 1 1 *", ""),
	}}.run(t)
	h.do(t, "POST", "/Timer", `{"Data":{}}`, nil)
	if calls := h.told("request"); len(calls) != 1 || calls[0].Path != "/Timer" || string(calls[0].Body) != `{"Data":{}}` {
		t.Errorf("%+v", calls)
	}
}

func keysAndLevels(t *testing.T) {
	h := setup{functions: map[string]string{
		"Open":    httpFunction("open", "anonymous", ""),
		"Default": strings.Replace(httpFunction("keyed", "function", ""), `"authLevel":"function",`, "", 1),
		"Admin":   httpFunction("admin-only", "admin", ""),
	}}.run(t)
	for _, test := range []struct {
		path, key string
		want      int
	}{
		{"/api/open", "", 200}, {"/api/open", "wrong", 200},
		{"/api/keyed", "", 401}, {"/api/keyed", "wrong", 401}, {"/api/keyed", "the-key", 200}, {"/api/keyed", "the-master", 200},
		{"/api/keyed?code=the-key", "", 200}, {"/api/keyed?code=", "", 401},
		{"/api/admin-only", "the-key", 401}, {"/api/admin-only", "the-master", 200}, {"/api/admin-only?code=the-master", "", 200},
		{"/admin/host/status", "the-key", 401}, {"/admin/host/status", "the-master", 200}, {"/admin/functions", "", 401},
		{"/admin/functions?code=the-master", "", 200}, {"/admin/nothing", "the-master", 404}, {"/admin/host/ping", "", 200},
	} {
		before := len(h.told("request"))
		header := map[string]string{}
		if test.key != "" {
			header["x-functions-key"] = test.key
		}
		if status, _, _ := h.do(t, "GET", test.path, "", header); status != test.want {
			t.Errorf("%s with key %q: %d, want %d", test.path, test.key, status, test.want)
		}
		if reached := len(h.told("request")) > before; reached && test.want == 401 {
			t.Errorf("%s with key %q reached the handler", test.path, test.key)
		}
	}
}

func passedOn(t *testing.T, streaming bool) {
	s := setup{functions: anyRoute(), request: func(_ context.Context, e event) order {
		return order{Answer: &answer{Status: http.StatusTeapot, ContentType: "text/x", Header: map[string]string{"X-Mine": "2"}, Body: "short and stout"}}
	}}
	if !streaming {
		s.handler = `,"enableForwardingHttpRequest":true`
	}
	h := s.run(t)
	status, text, header := h.do(t, "PATCH", "/api/a/b?c=d", "hello", map[string]string{
		"X-Mine": "1", "X-Azure-Functions-InvocationId": "forged", "Authorization": "Bearer anything"})
	if status != http.StatusTeapot || text != "short and stout" || header.Get("X-Mine") != "2" || header.Get("Content-Type") != "text/x" {
		t.Errorf("%d %q %v", status, text, header)
	}
	seen := h.told("request")[0]
	if seen.Method != "PATCH" || seen.Path != "/api/a/b" || seen.Query != "c=d" || string(seen.Body) != "hello" || seen.Header.Get("X-Mine") != "1" ||
		seen.Host != strings.TrimPrefix(h.url, "http://") || seen.Header.Get("Authorization") != "Bearer anything" {
		t.Errorf("the handler saw %+v", seen)
	}
	id := seen.Header.Get("X-Azure-Functions-InvocationId")
	if len(id) != 36 || seen.Header.Get("X-Azure-Functions-HostVersion") == "" {
		t.Errorf("headers %v", seen.Header)
	}
	if got, want := seen.Header.Get("X-Ms-Invocation-Id"), map[bool]string{true: id}[streaming]; got != want {
		t.Errorf("correlation %q, want %q", got, want)
	}
	request, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/api/x", struct{ io.Reader }{strings.NewReader("chunked")})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := string(h.told("request")[1].Body), map[bool]string{true: "chunked"}[streaming]; got != want {
		t.Errorf("a chunked body arrived as %q, want %q", got, want)
	}
}

func requestEnvelope(t *testing.T) {
	h := setup{functions: map[string]string{"Items": `{"bindings":[{"type":"httpTrigger","name":"req","authLevel":"anonymous","route":"items/{id}"}]}`}}.run(t)
	if status, _, _ := h.do(t, "POST", "/api/items/7?q=1", `{"kind":"x"}`, nil); status != 200 {
		t.Fatal(status)
	}
	seen := h.told("request")[0]
	var body struct {
		Data struct {
			Req struct {
				Method, Url, Body string
				Params, Query     map[string]string
			}
		}
		Metadata map[string]json.RawMessage
	}
	if err := json.Unmarshal(seen.Body, &body); err != nil {
		t.Fatal(err)
	}
	req := body.Data.Req
	if seen.Path != "/Items" || req.Method != "POST" || req.Url != h.url+"/api/items/7?q=1" || req.Body != `{"kind":"x"}` || req.Params["id"] != "7" ||
		req.Query["q"] != "1" || string(body.Metadata["kind"]) != `"\"x\""` {
		t.Errorf("%s %s", seen.Path, seen.Body)
	}
}

func bodyLimit(t *testing.T) {
	h := setup{functions: anyRoute()}.run(t)
	connection, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "POST /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", 100<<20+1)
	text, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 413 ") || len(h.told("request")) != 0 {
		t.Errorf("%q, %v", text, err)
	}
}

func homePage(t *testing.T) {
	for off, want := range map[string]int{"false": 200, "true": 204} {
		h := setup{functions: anyRoute(), settings: map[string]string{"AzureWebJobsDisableHomepage": off}}.run(t)
		if status := h.get(t, "/"); status != want {
			t.Errorf("%s: %d, want %d", off, status, want)
		}
	}
}

func adminInvokes(t *testing.T) {
	h := setup{functions: map[string]string{"Never": timerFunction("0 0 0 1 1 *", "")}}.run(t)
	for key, want := range map[string]int{"the-key": 401, "the-master": 202} {
		if status, _, _ := h.do(t, "POST", "/admin/functions/never", `{}`, map[string]string{"x-functions-key": key}); status != want {
			t.Errorf("%s: %d, want %d", key, status, want)
		}
	}
	eventually(t, "it runs", func() bool { return len(h.told("request")) == 1 })
	if path := h.told("request")[0].Path; path != "/Never" {
		t.Error(path)
	}
}

func principalStripped(t *testing.T) {
	for name, verify := range map[string]func(context.Context, string) (map[string]any, error){
		"off": nil, "on": func(context.Context, string) (map[string]any, error) { return nil, errors.New("no") },
	} {
		h := setup{functions: anyRoute(), verify: verify}.run(t)
		h.do(t, "GET", "/api/x", "", map[string]string{"X-MS-CLIENT-PRINCIPAL": "e30=", "x-ms-client-principal-id": "root",
			"X_MS_CLIENT_PRINCIPAL": "x", "X-MS-TOKEN-AAD-ID-TOKEN": "forged", "X-MS-CLIENT-PRINCIPAL-NAME": "root"})
		for name := range h.told("request")[0].Header {
			if canonical := strings.ToLower(strings.ReplaceAll(name, "_", "-")); strings.HasPrefix(canonical, "x-ms-client") || strings.HasPrefix(canonical, "x-ms-token") {
				t.Errorf("Easy Auth %s: %s came through", name, canonical)
			}
		}
		enabled := slices.Contains(h.told("start")[0].Env, "WEBSITE_AUTH_ENABLED=True")
		if enabled != (name == "on") {
			t.Errorf("Easy Auth %s: WEBSITE_AUTH_ENABLED says %v", name, enabled)
		}
	}
}

func principalAdded(t *testing.T) {
	h := setup{functions: anyRoute(), verify: func(_ context.Context, token string) (map[string]any, error) {
		if token != "good" {
			return nil, errors.New("not good")
		}
		return map[string]any{"oid": "00000000-0000-0000-0000-00000000000a", "preferred_username": "alice@contoso.com",
			"name": "Älice", "roles": []any{"Approver", "Reader"}, "exp": float64(1_787_000_000)}, nil
	}}.run(t)
	h.do(t, "GET", "/api/x", "", map[string]string{"Authorization": "bearer good", "X-MS-CLIENT-PRINCIPAL-NAME": "root"})
	seen := h.told("request")[0].Header
	for name, want := range map[string]string{"Authorization": "bearer good", "X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-0000-0000-00000000000a",
		"X-MS-CLIENT-PRINCIPAL-NAME": "alice@contoso.com", "X-MS-CLIENT-PRINCIPAL-IDP": "aad"} {
		if got := seen.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(seen.Get("X-MS-CLIENT-PRINCIPAL"))
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	claim := func(kind, value string) any { return map[string]any{"typ": kind, "val": value} }
	want := any(map[string]any{"auth_typ": "aad", "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
		"role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role", "claims": []any{
			claim("exp", "1787000000"), claim("name", "Älice"),
			claim("http://schemas.microsoft.com/identity/claims/objectidentifier", "00000000-0000-0000-0000-00000000000a"),
			claim("preferred_username", "alice@contoso.com"), claim("roles", "Approver"), claim("roles", "Reader"),
		}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
	for header, want := range map[string]int{"Bearer bad": 401, "Bearer": 401, "Basic eDp5": 200} {
		before := len(h.told("request"))
		status, _, _ := h.do(t, "GET", "/api/x", "", map[string]string{"Authorization": header})
		if reached := len(h.told("request")) > before; status != want || reached != (want == 200) {
			t.Errorf("%q: %d, reached the handler: %v", header, status, reached)
		}
	}
}
