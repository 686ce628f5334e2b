package functionshost

import (
	"context"
	"crypto/rand"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// SignIn is the part of App Service Authentication that a browser meets, with a
// page in Entra's place on which one picks who to be:
//
//	GET  /.auth/login/aad?post_login_redirect_uri=/…   that page
//	POST /.auth/login/aad                              signs in, by a cookie
//	GET  /.auth/logout?post_logout_redirect_uri=/…     signs out
//	GET  /.auth/refresh                                gets the session a new token
//
// A request with the cookie and without an Authorization header reaches the
// function with the principal headers and with X-MS-TOKEN-AAD-ID-TOKEN, as where
// the token store is on; an expired token is handed on too, as there. Left out:
// /.auth/me, the cookie's own expiry, and the platform's check of Origin.
type SignIn struct {
	// Roles are the app roles that the page offers.
	Roles []string
	// Mint issues an ID token; Config.Verify has to accept it.
	Mint func(ctx context.Context, name string, roles []string) (string, error)
}

const (
	sessionCookie = "AppServiceAuthSession"
	// easyAuthToken hands the session's token on to the function.
	easyAuthToken = "X-Ms-Token-Aad-Id-Token"
	// maxUserName bounds a name on the sign-in page, in bytes.
	maxUserName = 256
)

// signIns are who is signed in, by cookie.
type signIns struct {
	mu   sync.Mutex
	byID map[string]signedIn
}

type signedIn struct {
	name   string
	roles  []string
	token  string
	claims map[string]any
}

func (s *signIns) find(r *http.Request) (id string, found signedIn, ok bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", signedIn{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok = s.byID[c.Value]
	return c.Value, found, ok
}

func (s *signIns) put(id string, v signedIn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]signedIn{}
	}
	s.byID[id] = v
}

func (s *signIns) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

// serveSignIn answers below /.auth/, which never reaches a function.
func (h *Host) serveSignIn(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	id, who, known := h.signIns.find(r)
	switch r.Method + " " + r.URL.Path {
	case "GET /.auth/login/aad":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = signInPage.Execute(w, map[string]any{"Roles": h.cfg.SignIn.Roles, "Next": r.URL.Query().Get("post_login_redirect_uri")})
	case "POST /.auth/login/aad":
		h.signIn(w, r)
	case "GET /.auth/logout":
		h.signIns.drop(id)
		http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true})
		http.Redirect(w, r, local(r.URL.Query().Get("post_logout_redirect_uri")), http.StatusFound)
	case "GET /.auth/refresh":
		if !known || !h.openSession(r, id, who.name, who.roles) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (h *Host) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	name := strings.TrimSpace(r.PostFormValue("name"))
	if name == "" || len(name) > maxUserName {
		http.Error(w, "a name of 1 to 256 bytes is needed", http.StatusBadRequest)
		return
	}
	roles := slices.DeleteFunc(slices.Clone(h.cfg.SignIn.Roles), func(role string) bool { return !slices.Contains(r.PostForm["role"], role) })
	id := rand.Text()
	if !h.openSession(r, id, name, roles) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	// Not marked Secure: the stand-in speaks HTTP, on loopback.
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, local(r.PostFormValue("next")), http.StatusFound)
}

func (h *Host) openSession(r *http.Request, id, name string, roles []string) bool {
	token, err := h.cfg.SignIn.Mint(r.Context(), name, roles)
	if err == nil {
		var claims map[string]any
		if claims, err = h.cfg.Verify(r.Context(), token); err == nil {
			h.signIns.put(id, signedIn{name, roles, token, claims})
			return true
		}
	}
	h.log.Warn("signing in", "error", err)
	return false
}

// local gives the path that a redirect may go to: one of this app, or else its
// root.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.Contains(to, `\`) {
		return "/"
	}
	return u.RequestURI()
}

var signInPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in (local)</title>
<h1>Sign in</h1>
<p>This page stands in for Entra: be whoever you like.</p>
<form method="post" action="/.auth/login/aad">
<input type="hidden" name="next" value="{{.Next}}">
<p><label>User <input name="name" value="alice@contoso.com" required maxlength="256"></label>
<fieldset><legend>App roles</legend>
{{range $i, $r := .Roles}}<p><label><input type="checkbox" name="role" value="{{$r}}"{{if eq $i 0}} checked{{end}}> {{$r}}</label>
{{end}}</fieldset>
<p><button>Sign in</button>
</form></html>
`))
