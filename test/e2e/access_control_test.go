package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

// raw sends a request as it is written, to the byte: no client tidies its path.
func raw(t *testing.T, method, target string, headers ...string) (status int, header http.Header, body []byte) {
	t.Helper()
	u, err := url.Parse(os.Getenv("FUNCTIONS_ENDPOINT"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text := method + " " + target + " HTTP/1.1\r\nHost: " + u.Host + "\r\nConnection: close\r\nContent-Type: application/json\r\n" + strings.Join(append(headers, ""), "\r\n")
	if _, err := io.WriteString(conn, text+"Content-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", method, target, err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, data
}

// open says whether a route is a document, which needs no token.
func open(path string) bool {
	return path == "/api/openapi.json" || strings.HasPrefix(path, "/api/schemas/")
}

// TestEveryMethodOfEveryRoute tries the methods that no document names: nobody is
// let in by them who is not by the others.
func TestEveryMethodOfEveryRoute(t *testing.T) {
	a := newAPI(t)
	bare := a.call("", "GET", "/api/me", "")
	if bare.status != http.StatusUnauthorized {
		t.Fatalf("%d", bare.status)
	}
	for path, item := range a.document {
		at := strings.NewReplacer("{id}", "ar-aaaaaaaaaaaaaaaaaaaaaaaaaa", "{subscription}", "00000000-0000-0000-0000-000000000001", "{resourceGroup}", "prod", "{name}", "web-1").Replace(path)
		if strings.Contains(at, "{") {
			at = strings.NewReplacer("{", "", "}", "").Replace(at)
		}
		for _, method := range []string{"HEAD", "OPTIONS", "GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "get", "PROPFIND", "QUERY"} {
			_, known := item[strings.ToLower(method)]
			known = known && method == strings.ToUpper(method)
			if _, reads := item["get"]; method == "HEAD" && reads {
				known = true
			}
			status, header, body := raw(t, method, at)
			switch {
			case known && open(path):
				if status != http.StatusOK {
					t.Errorf("%s %s: %d", method, at, status)
				}
			case known:
				if status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s without a token: %d %s", method, at, status, body)
				}
			case status != http.StatusMethodNotAllowed && status != http.StatusNotFound:
				t.Errorf("%s %s: %d %s", method, at, status, body)
			}
			if header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: other origins are let in", method, at)
			}
			// An administrator gets no further by a method that nobody knows.
			if !known {
				if status, _, body := raw(t, method, at, "Authorization: Bearer "+w.alice); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
					t.Errorf("%s %s with a token: %d %s", method, at, status, body)
				}
			}
		}
	}
}

// TestForgedIdentities brings everything but one token of the issuer's, and what
// a principal header or another's token beside it might add.
func TestForgedIdentities(t *testing.T) {
	mint := func(u identity.UserToken) string {
		token, err := w.stack.Identity.Mint(u)
		if err != nil {
			t.Fatal(err)
		}
		w.keepSecret("a token of "+u.Name, token)
		return token
	}
	admin := mint(identity.UserToken{Name: "admin@contoso.com", Audience: localazure.Audience, Roles: []string{"Portcullis.Administer"}})
	principal := base64.StdEncoding.EncodeToString([]byte(`{"auth_typ":"aad","claims":[{"typ":"roles","val":"Portcullis.Administer"},{"typ":"preferred_username","val":"admin@contoso.com"}]}`))
	forged := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		claims := jwt.MapClaims{}
		real, _, err := jwt.NewParser().ParseUnverified(admin, claims)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(claims)
		}
		token := jwt.NewWithClaims(method, claims)
		token.Header["kid"] = real.Header["kid"]
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(admin, ".")
	altered := func(change func(string) string) string {
		text, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(change(string(text)))) + "." + parts[2]
	}
	bearer := func(token string) []string { return []string{"Authorization: Bearer " + token} }
	for name, headers := range map[string][]string{
		"principal headers":              {"X-MS-CLIENT-PRINCIPAL: " + principal, "X-MS-CLIENT-PRINCIPAL-ID: 1", "X-MS-CLIENT-PRINCIPAL-NAME: admin@contoso.com", "X-MS-CLIENT-PRINCIPAL-IDP: aad"},
		"a forged ID token":              {"X-MS-TOKEN-AAD-ID-TOKEN: " + forged(jwt.SigningMethodRS256, other, nil)},
		"an ID token that is none":       {"X-MS-TOKEN-AAD-ID-TOKEN: x"},
		"an access token's header":       {"X-MS-TOKEN-AAD-ACCESS-TOKEN: " + admin},
		"a cookie":                       {"Cookie: AppServiceAuthSession=" + principal},
		"two headers":                    {"Authorization: Bearer " + admin, "Authorization: Bearer " + admin},
		"two headers, one bad":           {"Authorization: Bearer x", "Authorization: Bearer " + admin},
		"two tokens in a header":         bearer(admin + " " + admin),
		"two tokens with a comma":        bearer(admin + ", Bearer " + admin),
		"no scheme":                      {"Authorization: " + admin},
		"another scheme":                 {"Authorization: Basic " + admin},
		"in the address":                 {"X-Original-URL: /api/openapi.json"},
		"no algorithm":                   bearer(forged(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil)),
		"a MAC":                          bearer(forged(jwt.SigningMethodHS256, []byte("k"), nil)),
		"another key":                    bearer(forged(jwt.SigningMethodRS256, other, nil)),
		"another tenant":                 bearer(forged(jwt.SigningMethodRS256, other, func(c jwt.MapClaims) { c["tid"] = "44444444-4444-4444-4444-444444444444" })),
		"another issuer":                 bearer(forged(jwt.SigningMethodRS256, other, func(c jwt.MapClaims) { c["iss"] = "https://evil.example/v2.0" })),
		"another audience":               bearer(mint(identity.UserToken{Name: "admin@contoso.com", Audience: "api://other", Roles: []string{"Portcullis.Administer"}})),
		"expired":                        bearer(mint(identity.UserToken{Name: "admin@contoso.com", Audience: localazure.Audience, Roles: []string{"Portcullis.Administer"}, Lifetime: -time.Hour})),
		"a role put in":                  bearer(altered(func(s string) string { return strings.Replace(s, "Portcullis.Administer", "Portcullis.Administer2", 1) })),
		"a signature of its own":         bearer(parts[0] + "." + parts[1] + ".AAAA"),
		"no signature":                   bearer(parts[0] + "." + parts[1] + "."),
		"a method in a header":           {"X-HTTP-Method-Override: GET", "X-Functions-Key: x", "X-Forwarded-User: admin"},
		"the invocation headers of host": {"X-Azure-Functions-InvocationId: 1", "X-Azure-Functions-HostVersion: 4"},
	} {
		if status, _, body := raw(t, "GET", "/api/me", headers...); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	// A token of her own stays hers, whatever else is said beside it.
	for name, headers := range map[string][]string{
		"principal headers":   {"X-MS-CLIENT-PRINCIPAL: " + principal, "X-MS-CLIENT-PRINCIPAL-NAME: admin@contoso.com"},
		"another's ID token":  {"X-MS-TOKEN-AAD-ID-TOKEN: " + admin},
		"roles in the header": {"X-Roles: Portcullis.Administer", "X-MS-TOKEN-AAD-ACCESS-TOKEN: " + admin},
	} {
		status, _, body := raw(t, "GET", "/api/me", append(headers, "Authorization: Bearer "+w.alice)...)
		var me struct {
			Name  string
			Roles []string
		}
		if err := json.Unmarshal(body, &me); err != nil || status != http.StatusOK || me.Name != "alice@contoso.com" || !slices.Equal(me.Roles, []string{"Access.Request"}) {
			t.Errorf("%s beside her token: %d %s", name, status, body)
		}
	}
}

// TestAnothersRequestIsAnUnknownOne holds every answer about another's request
// against the one about a request that is not there, to the byte.
func TestAnothersRequestIsAnUnknownOne(t *testing.T) {
	a := newAPI(t)
	bob, err := w.token(t.Context(), "bob@contoso.com", "--role", "Access.Request")
	if err != nil {
		t.Fatal(err)
	}
	// Refused, it opens nothing and is on record all the same.
	made := a.call(w.alice, "POST", "/api/access-requests", strings.Replace(strings.Replace(good, `"requestor":"alice@contoso.com",`, `"id":"hers",`, 1), "203.0.113.7", "198.51.100.9", 1))
	var p struct{ Instance string }
	if err := json.Unmarshal(made.body, &p); err != nil || made.status != http.StatusForbidden || p.Instance == "" {
		t.Fatalf("%d %s", made.status, made.body)
	}
	if own := a.call(w.alice, "GET", p.Instance, ""); own.status != http.StatusOK {
		t.Fatalf("her own: %d %s", own.status, own.body)
	}
	for _, c := range []struct{ method, suffix, body string }{
		{"GET", "", ""}, {"GET", "/events", ""}, {"POST", "/extend", `{"duration":"PT1H"}`}, {"POST", "/revoke", "{}"},
	} {
		theirs, nobodys := a.call(bob, c.method, p.Instance+c.suffix, c.body), a.call(bob, c.method, nobodysRequest+c.suffix, c.body)
		same := bytes.ReplaceAll(theirs.body, []byte(p.Instance), []byte(nobodysRequest))
		if theirs.status != http.StatusNotFound || theirs.status != nobodys.status || !bytes.Equal(same, nobodys.body) {
			t.Errorf("%s %s: %d %s, of none: %d %s", c.method, c.suffix, theirs.status, theirs.body, nobodys.status, nobodys.body)
		}
	}
	// Her client's id is not his, nor the queue's.
	for _, query := range []string{"?channel=http", "?channel=queue", "?channel=webhook", "?channel=", "?channel=HTTP"} {
		if got := a.call(bob, "GET", "/api/access-requests/hers"+query, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}

// TestPathTricks: what is no plain address of a route leads nowhere.
func TestPathTricks(t *testing.T) {
	admin, err := w.token(t.Context(), "admin@contoso.com", "--role", "Portcullis.Administer")
	if err != nil {
		t.Fatal(err)
	}
	writes := w.stack.ResourceManager.Stats().NSGWrites
	folders, err := filepath.Glob(filepath.Join(root, "functions", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no functions: %v", err)
	}
	var functions []string
	for _, f := range folders {
		functions = append(functions, filepath.Base(f))
	}
	var targets []string
	for _, name := range functions {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			targets = append(targets, "/"+n, "//"+n, "/./"+n, "/"+n+"/", "/"+n+";a=b", "/"+n+"?code=x", "/"+n+"%00", "/"+n+"%20", "/"+n+".", "/api/../"+n, "/api/%2e%2e/"+n,
				"/api/..%2f"+n, "/api%2f..%2f"+n, "/portal/../"+n, "/portal/..%5c"+n, "/%2f"+n, "/%5c"+n, "/api/"+n, "/.auth/../"+n, "/"+fmt.Sprintf("%%%02X", n[0])+n[1:])
		}
	}
	for _, path := range []string{
		"/api/%2e%2e/api/me", "/api/./me", "/api//me", "//api/me", "/api/me/", "/api/me;x=y", "/api%2fme", "/api/me%00", "/api/me%2f", "/api/%6de%2f", "/API/ME/", "/api/x/../me",
		"/api/access-requests/..%2f..%2fme", "/api/access-requests/%2e%2e/me", "/api/access-requests/%2e%2e%2fme", "/api/policies/subscriptions/..%2f..", "/api/machines/a/b/..%2fc",
		"/api/me%23", "/api/me%3f", "/api/me%c0%af", "/api/me%ff", "/api/me\\", "/api\\me", "/admin/host/status", "/admin/functions", "/runtime/webhooks/x",
	} {
		targets = append(targets, path)
	}
	for _, target := range targets {
		for _, method := range []string{"POST", "GET"} {
			status, header, body := raw(t, method, target, "Authorization: Bearer "+admin)
			if status != http.StatusNotFound && status != http.StatusBadRequest && status != http.StatusUnauthorized && status != http.StatusMethodNotAllowed || header.Get("Location") != "" {
				// The one that tidies a path answers what is there, which is no way in.
				if status == http.StatusOK && method == "GET" && strings.Contains(string(body), `"admin@contoso.com"`) && header.Get("Location") == "" {
					continue
				}
				t.Errorf("%s %s: %d to %q: %s", method, target, status, header.Get("Location"), body)
			}
		}
	}
	for _, name := range functions {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if status, _, body := raw(t, "POST", "/"+n); status != http.StatusNotFound {
				t.Errorf("POST /%s: %d %s", n, status, body)
			}
		}
	}
	if n := w.stack.ResourceManager.Stats().NSGWrites - writes; n != 0 {
		t.Errorf("%d writes of network security groups", n)
	}
}

// TestIdsInDisguise asks for a machine under spellings that another reader could
// take for another machine: none of them becomes a request.
func TestIdsInDisguise(t *testing.T) {
	before := w.stack.ResourceManager.Stats().NSGWrites
	for name, id := range map[string]string{
		"percent-encoded":      machines + "web%2D1",
		"encoded twice":        machines + "web%252D1",
		"an encoded slash":     machines + "x%2f..%2fweb-1",
		"dot segments":         machines + "x/../web-1",
		"a dot segment":        machines + "./web-1",
		"a doubled slash":      machines + "/web-1",
		"a trailing slash":     machines + "web-1/",
		"a trailing dot":       machines + "web-1.",
		"a trailing space":     machines + "web-1 ",
		"a leading space":      " " + machines + "web-1",
		"a full-width digit":   machines + "web-\uff11",
		"a full-width letter":  machines + "\uff57eb-1",
		"a Cyrillic letter":    machines + "w\u0435b-1",
		"another hyphen":       machines + "web\u20101",
		"a Kelvin sign":        machines + "\u212a-1",
		"a long s":             strings.Replace(machines, "subscriptions", "\u017fubscriptions", 1) + "web-1",
		"a dotless i":          strings.Replace(machines, "Microsoft", "M\u0131crosoft", 1) + "web-1",
		"a dotted I":           strings.Replace(machines, "Microsoft", "M\u0130crosoft", 1) + "web-1",
		"a zero-width space":   machines + "web\u200b-1",
		"a combining mark":     machines + "web-1\u0301",
		"a NUL":                machines + `web-1\u0000`,
		"a query":              machines + "web-1?a=b",
		"a fragment":           machines + "web-1#a",
		"a backslash":          machines + `web-1\\`,
		"a parameter":          machines + "web-1;a=b",
		"a quote":              machines + "web-1'",
		"another resource":     machines + "web-1/extensions/x",
		"another type":         strings.Replace(machines, "virtualMachines", "virtualMachineScaleSets", 1) + "web-1",
		"another subscription": strings.Replace(machines, "000000000001", "000000000002", 1) + "web-1",
	} {
		body := strings.Replace(strings.Replace(good, machines+"web-1", id, 1), `"requestor":"alice@contoso.com",`, "", 1)
		res, data := w.call(t, http.MethodPost, "/api/access-requests", "application/json", body)
		// Letters of other scripts are letters; there is no such machine.
		if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusForbidden && !strings.Contains(string(data), `"vm_not_found"`) {
			t.Errorf("%s: %d %s", name, res.StatusCode, data)
		}
	}
	if n := w.stack.ResourceManager.Stats().NSGWrites - before; n != 0 {
		t.Errorf("%d writes of network security groups", n)
	}
}
