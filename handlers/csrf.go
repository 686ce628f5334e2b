package handlers

import (
	"net/http"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// RequestHeader is the header that a page of our own sends with a call that
// changes something; its value is "1". A foreign page cannot send it without
// the browser asking us first, and we never consent.
const RequestHeader = "X-Portcullis-Request"

// easyAuthToken is the header by which App Service Authentication hands on the
// token behind its cookie.
const easyAuthToken = "X-MS-TOKEN-AAD-ID-TOKEN"

// SameOrigin guards next against forged calls. Where App Service Authentication
// took the caller's word from a cookie, the browser sent that by itself,
// whichever page made the call: then a call that may change something must carry
// RequestHeader, and the browser must say (Sec-Fetch-Site) that the page is of
// this origin. It is refused with permission_denied, cross_site_request,
// otherwise. A bearer token is sent by nobody but its owner's program, so it needs
// none of that; a call without any token is next's to refuse.
func SameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if byCookie(r) && mayChange(r.Method) && !ownPage(r.Header) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "no-store")
			write(w, http.StatusForbidden, "application/problem+json", problem{
				Type: "about:blank", Title: http.StatusText(http.StatusForbidden), Status: http.StatusForbidden,
				Detail:   "a call that changes something takes a bearer token, or the header " + RequestHeader + ": 1 from a page of this origin",
				Instance: r.URL.Path, Code: access.PermissionDenied, Reason: "cross_site_request",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// byCookie says whether a token came that the caller's browser may have sent on
// its own, and no bearer token stands before it.
func byCookie(r *http.Request) bool {
	if _, ok := r.Header[http.CanonicalHeaderKey(easyAuthToken)]; !ok {
		return false
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return !strings.EqualFold(scheme, "Bearer") || token == ""
}

func mayChange(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

func ownPage(h http.Header) bool {
	site := h.Values("Sec-Fetch-Site")
	mark := h.Values(RequestHeader)
	return len(mark) == 1 && mark[0] == "1" && len(site) == 1 && (site[0] == "same-origin" || site[0] == "none")
}
