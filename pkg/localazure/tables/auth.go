package tables

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// maxSkew is how old or early a signed request may be ("Authorize with Shared
// Key": 15 minutes), which bounds the replay of one that was overheard.
const maxSkew = 15 * time.Minute

// authenticate finds out what a request may do, or refuses it.
func (s *Server) authenticate(r *http.Request, query url.Values) (*grant, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		if query.Has("sig") {
			return s.sharedAccessSignature(r, query)
		}
		return nil, tableerr.New(tableerr.NoAuthenticationInformation, "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	}
	scheme, credential, _ := strings.Cut(header, " ")
	switch scheme {
	case "Bearer":
		return s.bearer(r, strings.TrimSpace(credential))
	case "SharedKey", "SharedKeyLite":
		return s.sharedKey(r, query, scheme, credential)
	}
	return nil, authenticationFailed()
}

func (s *Server) bearer(r *http.Request, token string) (*grant, error) {
	refused := tableerr.New(tableerr.InvalidAuthenticationInfo, "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	if s.cfg.Verify == nil || token == "" {
		return nil, refused
	}
	if err := s.cfg.Verify(r.Context(), token, audience); err != nil {
		s.log.DebugContext(r.Context(), "bearer token refused", "error", err)
		return nil, refused
	}
	return &grant{full: true}, nil
}

// sharedKey checks SharedKey and SharedKeyLite. The canonical resource is "/",
// the account and the path as sent; with a path that starts with the account,
// as emulators have it, the account is therefore there twice.
func (s *Server) sharedKey(r *http.Request, query url.Values, scheme, credential string) (*grant, error) {
	account, signature, _ := strings.Cut(credential, ":")
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil || at.Sub(s.now()).Abs() > maxSkew {
		return nil, authenticationFailed()
	}
	resource := "/" + s.cfg.Account + rawPath(r)
	if query.Has("comp") {
		resource += "?comp=" + query.Get("comp")
	}
	lines := []string{date, resource}
	if scheme == "SharedKey" {
		lines = []string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), date, resource}
	}
	if account != s.cfg.Account || !s.signed(strings.Join(lines, "\n"), signature) {
		return nil, authenticationFailed()
	}
	return &grant{full: true}, nil
}

// signed compares in constant time, so that answers do not leak the signature.
func (s *Server) signed(text, signature string) bool {
	got, err := base64.StdEncoding.DecodeString(strings.TrimSpace(signature))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text)) // hash.Hash never returns an error
	return hmac.Equal(got, mac.Sum(nil))
}

// challenge tells a refused client where to get a token, as Storage does.
func (s *Server) challenge(r *reply) {
	if r.status == http.StatusUnauthorized {
		r.header.Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id="+audience)
	}
}

func authenticationFailed() error {
	return tableerr.New(tableerr.AuthenticationFailed, "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
}
