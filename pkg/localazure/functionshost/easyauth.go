package functionshost

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Claim types that App Service Authentication uses in the client principal of
// an Entra token, where they differ from the token's own names.
const (
	nameType = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"
	roleType = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
)

var claimTypes = map[string]string{
	"oid":   "http://schemas.microsoft.com/identity/claims/objectidentifier",
	"tid":   "http://schemas.microsoft.com/identity/claims/tenantid",
	"sub":   "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
	"upn":   "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
	"email": nameType,
	"roles": "roles",
}

// stripPrincipal removes what only the platform may say of a caller. Header
// names with underscores are meant too: some servers take them for dashes.
func stripPrincipal(header http.Header) {
	for name := range header {
		canonical := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if strings.HasPrefix(canonical, "x-ms-client-principal") || strings.HasPrefix(canonical, "x-ms-token-") {
			delete(header, name)
		}
	}
}

// authenticate plays App Service Authentication with the action AllowAnonymous:
// a bearer token that Verify accepts adds the principal headers, one that it
// refuses ends the request with 401, and a request without one goes on as whoever
// its cookie says is signed in, or unauthenticated. The Authorization header stays either way. It reports
// whether the request may go on.
func (h *Host) authenticate(w http.ResponseWriter, r *http.Request) bool {
	stripPrincipal(r.Header)
	if h.cfg.Verify == nil {
		return true
	}
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return h.byCookie(w, r)
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	bearer := strings.EqualFold(scheme, "Bearer")
	if len(values) > 1 {
		// Two of them could be one token for this check and another for the handler.
		unauthorized(w)
		return false
	}
	if !bearer {
		return true
	}
	claims, err := h.cfg.Verify(r.Context(), strings.TrimSpace(token))
	if err != nil {
		h.log.Info("bearer token refused", "error", err)
		unauthorized(w)
		return false
	}
	if err := setPrincipal(r.Header, claims); err != nil {
		h.log.Error("encoding the client principal", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return false
	}
	return true
}

// byCookie adds the headers of the session that the request's cookie names.
func (h *Host) byCookie(w http.ResponseWriter, r *http.Request) bool {
	_, who, ok := h.signIns.find(r)
	if !ok {
		return true
	}
	if err := setPrincipal(r.Header, who.claims); err != nil {
		h.log.Error("encoding the client principal", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return false
	}
	r.Header.Set(easyAuthToken, who.token)
	return true
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	w.WriteHeader(http.StatusUnauthorized)
}

// setPrincipal adds the headers that describe the caller to the function.
func setPrincipal(header http.Header, claims map[string]any) error {
	type claim struct {
		Type  string `json:"typ"`
		Value string `json:"val"`
	}
	list := []claim{}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		kind := name
		if t, ok := claimTypes[name]; ok {
			kind = t
		}
		for _, v := range claimValues(claims[name]) {
			text, err := claimText(v)
			if err != nil {
				return fmt.Errorf("claim %s: %w", name, err)
			}
			list = append(list, claim{kind, text})
		}
	}
	principal, err := json.Marshal(map[string]any{
		"auth_typ": "aad", "claims": list, "name_typ": nameType, "role_typ": roleType,
	})
	if err != nil {
		return err
	}
	header.Set("X-MS-CLIENT-PRINCIPAL", base64.StdEncoding.EncodeToString(principal))
	header.Set("X-MS-CLIENT-PRINCIPAL-IDP", "aad")
	setFirst(header, "X-MS-CLIENT-PRINCIPAL-ID", claims, "oid", "sub")
	setFirst(header, "X-MS-CLIENT-PRINCIPAL-NAME", claims, "preferred_username", "upn", "email", "name")
	return nil
}

// claimValues are a claim's values: one entry of the principal for each.
func claimValues(value any) []any {
	switch v := value.(type) {
	case []any:
		return v
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return list
	}
	return []any{value}
}

// setFirst sets a header to the first of the claims that is a text a header can
// hold.
func setFirst(header http.Header, name string, claims map[string]any, candidates ...string) {
	for _, candidate := range candidates {
		value, ok := claims[candidate].(string)
		if ok && value != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			header.Set(name, value)
			return
		}
	}
}

func claimText(value any) (string, error) {
	if s, ok := value.(string); ok {
		return s, nil
	}
	text, err := jsonText(value)
	return string(text), err
}
