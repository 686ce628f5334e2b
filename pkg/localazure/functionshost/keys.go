package functionshost

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authLevel is what a function asks of its callers (AuthorizationLevel).
type authLevel int

const (
	levelAnonymous authLevel = iota
	levelFunction
	levelAdmin
)

func (l authLevel) String() string {
	return [...]string{"anonymous", "function", "admin"}[l]
}

// authLevelNamed reads an authLevel in any case.
func authLevelNamed(name string) (authLevel, bool) {
	for _, l := range []authLevel{levelAnonymous, levelFunction, levelAdmin} {
		if strings.EqualFold(name, l.String()) {
			return l, true
		}
	}
	return 0, false
}

// masterKey names the key that opens everything.
const masterKey = "_master"

// callerLevel is the level that the request's key gives. Every key is compared,
// each in constant time, so that timing tells neither a key's content nor its
// length (it is digests that are compared).
func (h *Host) callerLevel(r *http.Request) authLevel {
	given := r.Header.Get("x-functions-key")
	if given == "" {
		given = r.URL.Query().Get("code")
	}
	if given == "" {
		return levelAnonymous
	}
	digest := sha256.Sum256([]byte(given))
	level := levelAnonymous
	for name, key := range h.cfg.Keys {
		want := sha256.Sum256([]byte(key))
		if key == "" || subtle.ConstantTimeCompare(digest[:], want[:]) != 1 {
			continue
		}
		if name == masterKey {
			level = levelAdmin
		}
		level = max(level, levelFunction)
	}
	return level
}
