package blobs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxSkew is how old or early a signed request may be ("Authorize with Shared
// Key": 15 minutes).
const maxSkew = 15 * time.Minute

// authenticate lets in whoever holds the account's key or a token for Storage.
func (s *Server) authenticate(r *http.Request, query url.Values) error {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch scheme {
	case "":
		return fail(http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	case "Bearer":
		token := strings.TrimSpace(credential)
		if s.cfg.Verify == nil || token == "" || s.cfg.Verify(r.Context(), token, audience) != nil {
			return fail(http.StatusUnauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
		}
		return nil
	case "SharedKey":
		account, signature, _ := strings.Cut(credential, ":")
		at, err := http.ParseTime(r.Header.Get("x-ms-date"))
		if err == nil && at.Sub(s.now()).Abs() <= maxSkew && account == s.cfg.Account && s.signed(s.toSign(r, query), signature) {
			return nil
		}
	}
	return fail(http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
}

// toSign is what a client signs ("Authorize with Shared Key"). With a path that
// starts with the account, as emulators have it, the account is there twice.
func (s *Server) toSign(r *http.Request, query url.Values) string {
	length := r.Header.Get("Content-Length")
	if length == "0" {
		length = ""
	}
	lines := []string{r.Method, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length}
	for _, name := range []string{"Content-MD5", "Content-Type", "", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"} {
		lines = append(lines, r.Header.Get(name))
	}
	named := map[string]string{}
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			named[name] = strings.Join(values, ",")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		lines = append(lines, name+":"+named[name])
	}
	resource := "/" + s.cfg.Account + r.URL.EscapedPath()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := slices.Sorted(slices.Values(query[name]))
		resource += "\n" + strings.ToLower(name) + ":" + strings.Join(values, ",")
	}
	return strings.Join(append(lines, resource), "\n")
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
