package resourcemanager

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// maxBody bounds a request's body: Resource Manager's own limit is 4 MiB.
	maxBody = 4 << 20

	network = "Microsoft.Network"
	compute = "Microsoft.Compute"
)

// audiences are what a token for Resource Manager may be issued for: azcore asks
// for the older name, which Azure keeps accepting.
var audiences = []string{"https://management.azure.com", "https://management.core.windows.net"}

var apiVersion = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-preview)?$`)

// reply is an answer that has not been written yet.
type reply struct {
	status int
	header http.Header
	body   any // nil sends none
}

// request is a parsed request.
type request struct {
	*http.Request
	path    resourcePath
	version string
	object  object // of a PUT
	now     time.Time
}

// ServeHTTP answers as Resource Manager does. GET /_local/stats, for which no
// token is needed, answers {"reads":n,"nsgWrites":n}.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Path == "/_local/stats" && r.Method == http.MethodGet {
		s.mu.Lock()
		stats := object{"reads": s.reads, "nsgWrites": s.writes}
		s.mu.Unlock()
		write(w, reply{status: http.StatusOK, body: stats})
		return
	}
	id := uuid.NewString()
	w.Header().Set("X-Ms-Request-Id", id)
	w.Header().Set("X-Ms-Correlation-Request-Id", id)
	out, err := s.respond(w, r)
	if err != nil {
		s.cfg.Logger.WarnContext(r.Context(), "refused", slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.Int("status", err.status), slog.String("code", err.code), slog.String("reason", err.message))
		out = reply{status: err.status, header: err.header, body: err.body()}
	}
	write(w, out)
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request) (reply, *armError) {
	if err := s.authenticate(r); err != nil {
		return reply{}, err
	}
	var fault *Fault
	if s.cfg.Fault != nil {
		fault = s.cfg.Fault(r)
	}
	if fault != nil && !fault.After {
		return reply{}, fault.answer()
	}
	out, err := s.handle(w, r)
	if fault != nil {
		return reply{}, fault.answer()
	}
	return out, err
}

func (f *Fault) answer() *armError {
	if f.Status == 0 {
		panic(http.ErrAbortHandler) // net/http drops the connection and logs nothing
	}
	err := newError(f.Status, f.Code, "This answer was asked for by a test.")
	if f.RetryAfter != "" {
		err.header = http.Header{"Retry-After": {f.RetryAfter}}
	}
	return err
}

func (s *Server) authenticate(r *http.Request) *armError {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return unauthenticated("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	for _, audience := range audiences {
		if s.cfg.Verify != nil && s.cfg.Verify(r.Context(), token, audience) == nil {
			return nil
		}
	}
	return unauthenticated("InvalidAuthenticationToken", "The access token is invalid.")
}

func unauthenticated(code, message string) *armError {
	err := newError(http.StatusUnauthorized, code, "%s", message)
	err.header = http.Header{"Www-Authenticate": {
		`Bearer authorization_uri="https://login.windows.net/", error="invalid_token", error_description="` + message + `"`}}
	return err
}

// handle parses the request and answers it under the server's lock.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) (reply, *armError) {
	req := request{Request: r, version: r.URL.Query().Get("api-version")}
	switch {
	case req.version == "":
		return reply{}, badRequest("MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	case !apiVersion.MatchString(req.version):
		return reply{}, badRequest("InvalidApiVersionParameter", "The api-version '%s' is invalid.", req.version)
	}
	var ok bool
	if req.path, ok = parsePath(r.URL.EscapedPath()); !ok {
		return reply{}, newError(http.StatusNotFound, "InvalidResourceId", "The path of the request is no resource id.")
	}
	if r.Method == http.MethodPut {
		var err *armError
		if req.object, err = readBody(w, r); err != nil {
			return reply{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	req.now = s.cfg.Now()
	for _, g := range s.groups {
		g.settle(req.now)
	}
	if err := s.admit(w, req); err != nil {
		return reply{}, err
	}
	return s.dispatch(req)
}

func readBody(w http.ResponseWriter, r *http.Request) (object, *armError) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, newError(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content could not be read or is larger than %d bytes.", maxBody)
	}
	o, ok := decodeObject(data)
	if !ok {
		return nil, badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	return o, nil
}

// admit makes the checks that Resource Manager makes before a provider sees the
// request: the subscription, throttling, access, locks and the resource group.
func (s *Server) admit(w http.ResponseWriter, req request) *armError {
	t := s.cfg.Topology
	p := req.path
	if p.Subscription != "" && !strings.EqualFold(p.Subscription, t.Subscription) {
		if uuid.Validate(p.Subscription) != nil {
			return badRequest("InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", p.Subscription)
		}
		return newError(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", p.Subscription)
	}
	if err := s.buckets.of(req.Method).take(req.now, t.Subscription, w.Header()); err != nil {
		return err
	}
	if err := s.authorize(req); err != nil {
		return err
	}
	if p.Group != "" && !strings.EqualFold(p.Group, t.ResourceGroup) {
		return newError(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", p.Group)
	}
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		s.reads++
	}
	return nil
}

func (s *Server) authorize(req request) *armError {
	verb, id := "write", req.path.id()
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		verb = "read"
	case http.MethodDelete:
		verb = "delete"
	}
	action := req.path.resourceType() + "/" + verb
	for _, denied := range s.denied {
		if strings.HasPrefix(strings.ToLower(action), denied) {
			return newError(http.StatusForbidden, "AuthorizationFailed",
				"The client does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", action, id)
		}
	}
	if verb == "read" {
		return nil
	}
	for scope, kind := range s.locks {
		if kind == CanNotDelete && verb != "delete" || key(id) != scope && !strings.HasPrefix(key(id), scope+"/") {
			continue
		}
		return newError(http.StatusConflict, "ScopeLocked",
			"The scope '%s' cannot perform %s operation because following scope(s) are locked: '%s'. Please remove the lock and try again.", id, verb, scope)
	}
	return nil
}

// dispatch answers an admitted request.
func (s *Server) dispatch(req request) (reply, *armError) {
	p := req.path
	switch {
	case p.Provider == "":
		return s.getScope(req)
	case p.is(network, "locations", "operations") && p.isItem():
		return s.getOperation(req)
	case p.is(network, "locations", "operationResults") && p.isItem():
		return s.getOperationResult(req)
	case p.is(network, "networkSecurityGroups"):
		return s.serveGroup(req)
	case p.is(network, "networkSecurityGroups", "securityRules"),
		p.is(network, "networkSecurityGroups", "defaultSecurityRules"):
		return s.serveRule(req)
	}
	kind, ok := knownType(p)
	if !ok {
		return reply{}, newError(http.StatusNotFound, "InvalidResourceType",
			"The resource type '%s' could not be found in the namespace '%s' for api version '%s'.", strings.Join(p.Types, "/"), p.Provider, req.version)
	}
	return s.getResource(req, kind)
}

func methodNotAllowed(req request) *armError {
	return newError(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s of this resource is not imitated here.", req.Method)
}

func write(w http.ResponseWriter, out reply) {
	for name, values := range out.header {
		w.Header()[name] = values
	}
	if out.body == nil {
		w.WriteHeader(out.status)
		return
	}
	data, err := encode(out.body)
	if err != nil {
		out.status, data = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"The answer could not be encoded."}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(out.status)
	_, _ = w.Write(data) // the client is gone: nobody is left to tell
}

// encode writes JSON without escaping for HTML, and with the members in one
// order, so that what did not change is the same byte for byte.
func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
