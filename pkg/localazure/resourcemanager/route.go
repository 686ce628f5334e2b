package resourcemanager

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxBody bounds a request's body: Resource Manager's own limit is 4 MiB.
const maxBody = 4 << 20

// ServeHTTP answers as Resource Manager does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_local/stats" {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, http.StatusOK, object{"reads": s.reads, "nsgWrites": s.writes})
		return
	}
	w.Header().Set("x-ms-request-id", uuid.NewString())
	if f := s.authenticate(r); f != nil {
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="https://login.windows.net/", error="invalid_token"`)
		f.write(w)
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		badRequest("MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.").write(w)
		return
	}
	var fault *Fault
	if s.cfg.Fault != nil {
		fault = s.cfg.Fault(r)
	}
	if fault != nil && !fault.After {
		(&failure{fault.Status, fault.Code, "fault", fault.RetryAfter}).write(w)
		return
	}
	body, f := readBody(r)
	if f == nil {
		out := w
		if fault != nil {
			out = discard{http.Header{}}
		}
		f = s.dispatch(out, r, body)
	}
	switch {
	case f != nil:
		f.write(w)
	case fault != nil:
		(&failure{fault.Status, fault.Code, "fault", fault.RetryAfter}).write(w)
	}
}

// discard takes an answer that a fault loses.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func (s *Server) authenticate(r *http.Request) *failure {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return &failure{status: http.StatusUnauthorized, code: "AuthenticationFailed", message: "Authentication failed. The 'Authorization' header is missing."}
	}
	if s.cfg.Verify == nil || s.cfg.Verify(r.Context(), token, audience) != nil {
		return &failure{status: http.StatusUnauthorized, code: "InvalidAuthenticationToken", message: "The access token is invalid."}
	}
	return nil
}

func readBody(r *http.Request) (object, *failure) {
	if r.Method != http.MethodPut {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(data) > maxBody {
		return nil, badRequest("RequestContentTooLarge", "The request content is too large.")
	}
	var o object
	if json.Unmarshal(data, &o) != nil || o == nil {
		return nil, badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	return o, nil
}

// path is a request's path, cut at its slashes.
type path struct {
	seg []string
	id  string // in lower case
}

func (p path) is(i int, name string) bool { return i < len(p.seg) && strings.EqualFold(p.seg[i], name) }

func parsePath(u *url.URL) (path, *failure) {
	p := path{seg: strings.Split(strings.Trim(u.Path, "/"), "/"), id: strings.ToLower(strings.TrimSuffix(u.Path, "/"))}
	if !p.is(0, "subscriptions") || len(p.seg) < 2 {
		return path{}, notFound(u.Path)
	}
	for _, s := range p.seg {
		if s == "" || s == "." || s == ".." {
			return path{}, badRequest("InvalidResourceId", "The path is not a resource id.")
		}
	}
	return p, nil
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, body object) *failure {
	p, f := parsePath(r.URL)
	if f != nil {
		return f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	for _, g := range s.groups {
		g.settle(now)
	}
	if f := s.authorize(r.Method, p); f != nil {
		return f
	}
	s.quota(w, r.Method)
	if !strings.EqualFold(p.seg[1], s.cfg.Topology.Subscription) {
		return &failure{status: http.StatusNotFound, code: "SubscriptionNotFound", message: "The subscription could not be found."}
	}
	if p.is(2, "resourceGroups") && len(p.seg) > 3 && !strings.EqualFold(p.seg[3], s.cfg.Topology.ResourceGroup) {
		return &failure{status: http.StatusNotFound, code: "ResourceGroupNotFound", message: fmt.Sprintf("Resource group '%s' could not be found.", p.seg[3])}
	}
	if p.is(4, "locations") || p.is(6, "locations") {
		return s.operationStatus(w, p, now)
	}
	switch {
	case len(p.seg) == 2:
		answer(w, http.StatusOK, object{"id": "/subscriptions/" + s.cfg.Topology.Subscription, "subscriptionId": s.cfg.Topology.Subscription, "state": "Enabled", "displayName": "local"})
		return nil
	case len(p.seg) == 5 || len(p.seg) == 7:
		return s.list(w, r, p)
	case len(p.seg) == 8 && p.is(6, "networkSecurityGroups"):
		return s.groupCall(w, r, p, body, now)
	case len(p.seg) >= 9 && p.is(6, "networkSecurityGroups"):
		return s.ruleCall(w, r, p, body, now)
	case r.Method == http.MethodGet:
		if o, ok := s.resources[p.id]; ok {
			answer(w, http.StatusOK, o)
			return nil
		}
		return notFound(r.URL.Path)
	}
	return &failure{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", message: "This is not imitated here."}
}

// action names what a call does as a role would: "microsoft.network/…/write".
func action(method string, p path) string {
	verb := map[string]string{http.MethodGet: "read", http.MethodPut: "write", http.MethodDelete: "delete"}[method]
	i := 5
	if p.is(2, "providers") {
		i = 3
	}
	if len(p.seg) <= i {
		return verb
	}
	out := strings.ToLower(p.seg[i])
	for j := i + 1; j < len(p.seg); j += 2 {
		out += "/" + strings.ToLower(p.seg[j])
	}
	return out + "/" + verb
}

func (s *Server) authorize(method string, p path) *failure {
	a := action(method, p)
	for _, d := range s.denied {
		if strings.HasPrefix(a, d) {
			return &failure{status: http.StatusForbidden, code: "AuthorizationFailed", message: "The client does not have authorization to perform action '" + a + "'."}
		}
	}
	if method == http.MethodGet {
		return nil
	}
	for scope, kind := range s.locks {
		if p.id != scope && !strings.HasPrefix(p.id, scope+"/") {
			continue
		}
		if kind == ReadOnly || method == http.MethodDelete {
			return &failure{status: http.StatusConflict, code: "ScopeLocked", message: "The scope '" + p.id + "' cannot perform this operation because following scope(s) are locked: '" + scope + "'."}
		}
	}
	return nil
}

// quota counts the call and tells what is left, in the headers that Resource
// Manager uses; nothing here runs out.
func (s *Server) quota(w http.ResponseWriter, method string) {
	switch method {
	case http.MethodGet:
		s.reads++
		w.Header().Set("x-ms-ratelimit-remaining-subscription-reads", "249")
	case http.MethodDelete:
		w.Header().Set("x-ms-ratelimit-remaining-subscription-deletes", "199")
	default:
		w.Header().Set("x-ms-ratelimit-remaining-subscription-writes", "199")
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, p path) *failure {
	kind := strings.ToLower(strings.Join(p.seg[len(p.seg)-2:], "/"))
	var all []any
	if kind == "microsoft.network/networksecuritygroups" {
		for _, id := range sortedKeys(s.groups) {
			all = append(all, s.body(s.groups[id]))
		}
	} else {
		for _, id := range s.order {
			if o, ok := s.resources[id]; ok && strings.EqualFold(o["type"].(string), kind) {
				all = append(all, o)
			}
		}
	}
	return s.page(w, r, all)
}

func (s *Server) page(w http.ResponseWriter, r *http.Request, all []any) *failure {
	from := 0
	if t := r.URL.Query().Get("$skipToken"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 || n > len(all) {
			return badRequest("InvalidSkipToken", "The skip token is not valid.")
		}
		from = n
	}
	to := min(from+s.pageSize, len(all))
	out := object{"value": append([]any{}, all[from:to]...)}
	if to < len(all) {
		q := url.Values{"api-version": {r.URL.Query().Get("api-version")}, "$skipToken": {strconv.Itoa(to)}}
		out["nextLink"] = s.cfg.BaseURL + r.URL.Path + "?" + q.Encode()
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (s *Server) operationStatus(w http.ResponseWriter, p path, now time.Time) *failure {
	op, ok := s.operations[p.seg[len(p.seg)-1]]
	if !ok {
		return notFound(p.id)
	}
	done := !now.Before(op.doneAt) || op.status == "Canceled"
	if strings.EqualFold(p.seg[len(p.seg)-2], "operationResults") {
		if done {
			answer(w, http.StatusNoContent, nil)
			return nil
		}
		answer(w, http.StatusAccepted, nil)
		return nil
	}
	switch {
	case !done:
		answer(w, http.StatusOK, object{"status": "InProgress"})
	case op.code != "":
		answer(w, http.StatusOK, object{"status": op.status, "error": object{"code": op.code, "message": "The operation was superseded by another."}})
	default:
		answer(w, http.StatusOK, object{"status": op.status})
	}
	return nil
}
