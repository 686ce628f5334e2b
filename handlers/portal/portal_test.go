package portal_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers/portal"
)

func call(t *testing.T, method, target string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := portal.New()
	if err != nil {
		t.Fatal(err)
	}
	r, w := httptest.NewRequest(method, "/", nil), httptest.NewRecorder()
	// Set past what NewRequest would take for an address.
	if r.URL, err = url.Parse(target); err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	h.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w
}

func TestOnlyEmbeddedFilesAtTheirExactAddresses(t *testing.T) {
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/?x=1", 200}, {"POST", "/", 405}, {"PUT", "/portal/app.js", 405}, {"OPTIONS", "/", 405},
		{"GET", "/portal/app.js", 200}, {"GET", "/portal/base.css", 200}, {"GET", "/portal/icon.svg", 200},
		{"GET", "/portal", 404}, {"GET", "/portal/", 404}, {"GET", "/portal/index.html", 404}, {"GET", "/portal/app.js/", 404}, {"GET", "/portal/APP.js", 404},
		{"GET", "/portal/nothing.js", 404}, {"DELETE", "/portal/nothing.js", 404}, {"GET", "/portal/files/app.js", 404}, {"GET", "/portal//app.js", 404},
		{"GET", "/portal/../portal/app.js", 404}, {"GET", "/portal/../../portal.go", 404}, {"GET", "/portal/%2e%2e/portal.go", 404},
		{"GET", "/portal/%61pp.js", 404}, {"GET", "/portal/..%2fportal.go", 404}, {"GET", `/portal/..%5cportal.go`, 404}, {"GET", "/portal/app.js%00", 404},
		{"GET", "/api/me", 418}, {"GET", "/portals", 418}, {"GET", "/Portal/app.js", 418}, {"POST", "/RequestAccess", 418},
	} {
		w := call(t, c.method, c.target, nil)
		if w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, w.Code, c.want)
		}
		if c.want != 418 && c.method != "HEAD" && w.Body.Len() == 0 {
			t.Errorf("%s %s: no body", c.method, c.target)
		}
		if c.want == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow is %q", c.method, c.target, w.Header().Get("Allow"))
		}
	}
}

func TestEveryAnswerCarriesTheHeaders(t *testing.T) {
	for _, c := range []struct{ target, contentType string }{
		{"/", "text/html; charset=utf-8"}, {"/portal/app.js", "text/javascript; charset=utf-8"},
		{"/portal/base.css", "text/css; charset=utf-8"}, {"/portal/icon.svg", "image/svg+xml"}, {"/portal/none", "text/plain; charset=utf-8"},
	} {
		h := call(t, "GET", c.target, nil).Header()
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
			"form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !slices.Contains(strings.Split(policy, "; "), part) {
				t.Errorf("%s: the policy lacks %s: %s", c.target, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is too wide: %s", c.target, policy)
		}
		for name, want := range map[string]string{"Content-Type": c.contentType, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", c.target, name, got, want)
			}
		}
		if !strings.Contains(h.Get("Permissions-Policy"), "camera=()") {
			t.Errorf("%s: Permissions-Policy is %q", c.target, h.Get("Permissions-Policy"))
		}
	}
}

func TestAKeptFileIsAskedForAndNotSentAgain(t *testing.T) {
	first := call(t, "GET", "/portal/app.js", nil)
	tag := first.Header().Get("ETag")
	if tag == "" || first.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("%v", first.Header())
	}
	if w := call(t, "GET", "/portal/app.js", map[string]string{"If-None-Match": tag}); w.Code != 304 || w.Body.Len() > 0 || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("%d with %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	if w := call(t, "GET", "/", map[string]string{"If-None-Match": tag}); w.Code != 200 {
		t.Errorf("another file's tag: %d", w.Code)
	}
	if c := call(t, "GET", "/portal/none.js", nil).Header().Get("Cache-Control"); c != "no-store" {
		t.Errorf("a missing file is kept: %s", c)
	}
}

// sources are the page's scripts, by name.
func sources(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("files")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile("files/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

var foreign = regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(['"]|style=|\son[a-z]+="|https?://`)

func TestThePageHoldsNoMarkupFromTextAndNothingForeign(t *testing.T) {
	for name, text := range sources(t) {
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "") // a name, never fetched
		if found := foreign.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

var (
	entry     = regexp.MustCompile(`(?m)^  '([^']+)': '(.*)',$`)
	filled    = regexp.MustCompile(`\{\w+\}`)
	said      = regexp.MustCompile(`\b(tn?)\('([a-zA-Z.]+)'`)
	saidOneOf = regexp.MustCompile(`\bt\([^()'` + "`" + `]*\? '([a-zA-Z.]+)' : '([a-zA-Z.]+)'`)
)

func dictionary(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range entry.FindAllStringSubmatch(text, -1) {
		if _, twice := out[m[1]]; twice {
			t.Errorf("%s is there twice", m[1])
		}
		if m[2] == "" {
			t.Errorf("%s has no words", m[1])
		}
		out[m[1]] = m[2]
	}
	return out
}

func TestBothLanguagesHaveTheSameWords(t *testing.T) {
	files := sources(t)
	en, ja := dictionary(t, files["en.js"]), dictionary(t, files["ja.js"])
	if len(en) < 200 {
		t.Fatalf("only %d words were found", len(en))
	}
	for key, words := range en {
		other, ok := ja[key]
		if !ok {
			t.Errorf("ja.js lacks %s", key)
			continue
		}
		a, b := filled.FindAllString(words, -1), filled.FindAllString(other, -1)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(slices.Compact(a), slices.Compact(b)) {
			t.Errorf("%s fills in %v in English and %v in Japanese", key, a, b)
		}
	}
	for key := range ja {
		if _, ok := en[key]; !ok {
			t.Errorf("en.js lacks %s", key)
		}
	}
}

func TestEveryWordThatIsUsedIsThere(t *testing.T) {
	files := sources(t)
	en := dictionary(t, files["en.js"])
	need := func(file, key string) {
		if _, ok := en[key]; !ok {
			t.Errorf("%s says %s, which no dictionary has", file, key)
		}
	}
	used := 0
	for name, text := range files {
		for _, m := range said.FindAllStringSubmatch(text, -1) {
			used++
			if m[1] == "tn" {
				need(name, m[2]+".one")
				need(name, m[2]+".other")
			} else {
				need(name, m[2])
			}
		}
		for _, m := range saidOneOf.FindAllStringSubmatch(text, -1) {
			need(name, m[1])
			need(name, m[2])
		}
	}
	if used < 150 {
		t.Errorf("only %d uses were found", used)
	}
}
