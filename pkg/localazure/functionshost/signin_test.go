package functionshost

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// tokens are "name role role", so that a test can read them.
func signInApp(t *testing.T) *running {
	t.Helper()
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	a.cfg.ClientAddress = netip.MustParseAddr("203.0.113.7")
	a.cfg.Verify = func(_ context.Context, token string) (map[string]any, error) {
		name, _, _ := strings.Cut(token, " ")
		if name == "nobody" {
			return nil, errors.New("unknown")
		}
		return map[string]any{"preferred_username": name}, nil
	}
	a.cfg.SignIn = &SignIn{Roles: []string{"Ask", "Rule"}, Mint: func(_ context.Context, name string, roles []string) (string, error) {
		return strings.Join(append([]string{name}, roles...), " "), nil
	}}
	return a.start(t)
}

// signIn posts the sign-in form and gives the cookie.
func (r *running) signIn(t *testing.T, form string) (*http.Response, string) {
	t.Helper()
	res, _ := r.do(t, "POST", "/.auth/login/aad", form, map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
	for _, c := range res.Cookies() {
		if c.Name == sessionCookie && c.HttpOnly && c.SameSite == http.SameSiteLaxMode {
			return res, c.Name + "=" + c.Value
		}
	}
	return res, ""
}

func TestSignInByCookie(t *testing.T) {
	h := signInApp(t)
	if res, text := h.do(t, "GET", "/.auth/login/aad?post_login_redirect_uri=/x%22%3E%3Cb", "", nil); res.StatusCode != 200 ||
		strings.Contains(text, `"><b`) || !strings.Contains(text, `value="Rule"`) {
		t.Errorf("the sign-in page: %s\n%s", res.Status, text)
	}
	res, cookie := h.signIn(t, "name=alice&role=Rule&role=Root&next=/%23machines")
	if res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/" || cookie == "" {
		t.Fatalf("%s to %s with %q", res.Status, res.Header.Get("Location"), cookie)
	}
	seen := h.echo(t, "GET", "/api/x", "", map[string]string{"Cookie": cookie, "X-MS-TOKEN-AAD-ID-TOKEN": "forged", "X-MS-CLIENT-PRINCIPAL-NAME": "forged"})
	if seen.Token != "alice Rule" || seen.Principal != "alice" {
		t.Errorf("the function saw %+v", seen)
	}
	// A bearer token speaks for itself.
	seen = h.echo(t, "GET", "/api/x", "", map[string]string{"Cookie": cookie, "Authorization": "Bearer bob"})
	if seen.Token != "" || seen.Principal != "bob" || seen.By != "Bearer bob" {
		t.Errorf("with a bearer token the function saw %+v", seen)
	}
	if res, _ := h.do(t, "GET", "/.auth/refresh", "", map[string]string{"Cookie": cookie}); res.StatusCode != 200 {
		t.Errorf("refresh: %s", res.Status)
	}
	if res, _ := h.do(t, "GET", "/.auth/logout?post_logout_redirect_uri=//evil.example/", "", map[string]string{"Cookie": cookie}); res.Header.Get("Location") != "/" {
		t.Errorf("signing out leads to %s", res.Header.Get("Location"))
	}
	if seen := h.echo(t, "GET", "/api/x", "", map[string]string{"Cookie": cookie}); seen.Token != "" || seen.Principal != "" {
		t.Errorf("after signing out the function saw %+v", seen)
	}
	if res, _ := h.do(t, "GET", "/.auth/refresh", "", map[string]string{"Cookie": cookie}); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("refresh after signing out: %s", res.Status)
	}
}

func TestSignInRefuses(t *testing.T) {
	h := signInApp(t)
	for form, want := range map[string]int{"name=": 400, "name=" + strings.Repeat("a", 257): 400, "name=nobody": 500} {
		if res, cookie := h.signIn(t, form); res.StatusCode != want || cookie != "" {
			t.Errorf("%.20s: %s, cookie %q", form, res.Status, cookie)
		}
	}
	if res, _ := h.do(t, "GET", "/.auth/me", "", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("/.auth/me: %s", res.Status)
	}
}

func TestOnlyTheLastForwardedAddressIsTheFrontEnds(t *testing.T) {
	h := signInApp(t)
	seen := h.echo(t, "GET", "/api/x", "", map[string]string{"X-Forwarded-For": "198.51.100.1"})
	first, last, _ := strings.Cut(seen.From, ", ")
	if at, err := netip.ParseAddrPort(last); err != nil || first != "198.51.100.1" || at.Addr().String() != "203.0.113.7" {
		t.Errorf("X-Forwarded-For is %q", seen.From)
	}
}

func TestRedirectsStayHere(t *testing.T) {
	for to, want := range map[string]string{
		"/portal/?a=b": "/portal/?a=b", "/": "/", "": "/", "portal": "/", "//evil.example": "/", "https://evil.example": "/",
		`/\evil.example`: "/", "javascript:alert(1)": "/", "/%zz": "/",
	} {
		if got := local(to); got != want {
			t.Errorf("%s leads to %s, not %s", url.QueryEscape(to), got, want)
		}
	}
}
