package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
)

func TestAForgedCallByCookieIsRefused(t *testing.T) {
	const cookie, mark, site, auth = "X-MS-TOKEN-AAD-ID-TOKEN", "X-Portcullis-Request", "Sec-Fetch-Site", "Authorization"
	type h = http.Header
	set := func(pairs ...string) h {
		out := h{}
		for i := 0; i < len(pairs); i += 2 {
			out.Add(pairs[i], pairs[i+1])
		}
		return out
	}
	for name, c := range map[string]struct {
		method string
		header h
		passes bool
	}{
		"our page":                          {"POST", set(cookie, "t", mark, "1", site, "same-origin"), true},
		"typed by the user":                 {"POST", set(cookie, "t", mark, "1", site, "none"), true},
		"a foreign page":                    {"POST", set(cookie, "t", site, "cross-site"), false},
		"a foreign page with the header":    {"POST", set(cookie, "t", mark, "1", site, "cross-site"), false},
		"another host of our domain":        {"PUT", set(cookie, "t", mark, "1", site, "same-site"), false},
		"a form of our own origin":          {"POST", set(cookie, "t", site, "same-origin"), false},
		"a browser that does not say":       {"DELETE", set(cookie, "t", mark, "1"), false},
		"another value":                     {"PATCH", set(cookie, "t", mark, "0", site, "same-origin"), false},
		"the header twice":                  {"POST", set(cookie, "t", mark, "1", mark, "1", site, "same-origin"), false},
		"the site twice":                    {"POST", set(cookie, "t", mark, "1", site, "cross-site", site, "same-origin"), false},
		"an unknown method":                 {"BREW", set(cookie, "t"), false},
		"an empty token":                    {"POST", set(cookie, ""), false},
		"a bearer token":                    {"POST", set(auth, "Bearer t"), true},
		"a bearer token beside the cookie":  {"POST", set(cookie, "t", auth, "bearer t", site, "cross-site"), true},
		"an empty bearer token":             {"POST", set(cookie, "t", auth, "Bearer "), false},
		"a name and password in an address": {"POST", set(cookie, "t", auth, "Basic dTpw"), false},
		"no token at all":                   {"POST", set(site, "cross-site"), true},
		"reading":                           {"GET", set(cookie, "t", site, "cross-site"), true},
		"asking what there is":              {"HEAD", set(cookie, "t"), true},
		"a preflight":                       {"OPTIONS", set(cookie, "t"), true},
	} {
		t.Run(name, func(t *testing.T) {
			reached := false
			guard := handlers.SameOrigin(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
			r, w := httptest.NewRequest(c.method, "/api/access-requests", nil), httptest.NewRecorder()
			r.Header = c.header
			guard.ServeHTTP(w, r)
			if reached != c.passes {
				t.Fatalf("passed: %v", reached)
			}
			if !c.passes && (w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), `"cross_site_request"`) ||
				w.Header().Get("Content-Type") != "application/problem+json") {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
}
