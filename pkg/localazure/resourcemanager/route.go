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

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
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
	kind    string // the type of resource, as Azure spells it; "" for an unknown one
	version string
	object  object // of a PUT
	now     time.Time
}

// verb is the last word of the action that the request takes.
func (r request) verb() string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return "read"
	case http.MethodDelete:
		return "delete"
	}
	return "write"
}

// action is what access is granted to, such as
// "Microsoft.Network/networkSecurityGroups/write".
func (r request) action() string { return r.path.resourceType() + "/" + r.verb() }

// ServeHTTP answers as Resource Manager does. Two paths are the stand-in's own
// and need no token: GET /_local/stats answers Stats, and fault.Path serves the
// fault plan.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	switch {
	case r.URL.Path == fault.Path:
		s.faults.ServeHTTP(w, r)
		return
	case r.URL.Path == statsPath && r.Method == http.MethodGet:
		write(w, reply{status: http.StatusOK, body: s.Stats()})
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
	req, err := readRequest(w, r)
	if err != nil {
		return reply{}, err
	}
	lost, err := s.befall(req, w.Header())
	if err != nil {
		return reply{}, err
	}
	out, err := s.handle(req, w.Header())
	if lost {
		panic(http.ErrAbortHandler)
	}
	return out, err
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

// readRequest parses the request and reads its body.
func readRequest(w http.ResponseWriter, r *http.Request) (request, *armError) {
	req := request{Request: r, version: r.URL.Query().Get("api-version")}
	switch {
	case req.version == "":
		return req, badRequest("MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	case !apiVersion.MatchString(req.version):
		return req, badRequest("InvalidApiVersionParameter", "The api-version '%s' is invalid.", req.version)
	}
	var ok bool
	if req.path, ok = parsePath(r.URL.EscapedPath()); !ok {
		return req, newError(http.StatusNotFound, "InvalidResourceId", "The path of the request is no resource id.")
	}
	req.kind, _ = spell(req.path, kinds)
	var err *armError
	if r.Method == http.MethodPut {
		req.object, err = readBody(w, r)
	}
	return req, err
}

// handle answers the request under the server's lock.
func (s *Server) handle(req request, h http.Header) (reply, *armError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req.now = s.cfg.Now()
	for _, g := range s.groups {
		g.settle(req.now)
	}
	if err := s.admit(req, h); err != nil {
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
// request: the subscription, throttling, access, locks and the resource group;
// then the network provider's quota.
func (s *Server) admit(req request, h http.Header) *armError {
	t := s.cfg.Topology
	p := req.path
	if p.Subscription != "" && !strings.EqualFold(p.Subscription, t.Subscription) {
		if uuid.Validate(p.Subscription) != nil {
			return badRequest("InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", p.Subscription)
		}
		return newError(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", p.Subscription)
	}
	if err := s.buckets.of(req.Method).take(req.now, t.Subscription, h); err != nil {
		return err
	}
	if err := s.authorize(req); err != nil {
		return err
	}
	if p.Group != "" && !strings.EqualFold(p.Group, t.ResourceGroup) {
		return newError(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", p.Group)
	}
	switch {
	case req.verb() == "read" && req.kind != "":
		s.stats.Reads[req.kind]++
	case req.verb() != "read" && strings.EqualFold(p.Provider, network):
		return s.quota.take(req.now)
	}
	return nil
}

func (s *Server) authorize(req request) *armError {
	action, id := strings.ToLower(req.action()), key(req.path.id())
	for _, denied := range s.denied {
		if strings.HasPrefix(action, denied) {
			return unauthorized(req)
		}
	}
	if req.verb() == "read" {
		return nil
	}
	for scope, kind := range s.locks {
		if kind == CanNotDelete && req.verb() != "delete" || id != scope && !strings.HasPrefix(id, scope+"/") {
			continue
		}
		return scopeLocked(req, scope)
	}
	return nil
}

// dispatch answers an admitted request.
func (s *Server) dispatch(req request) (reply, *armError) {
	p := req.path
	switch req.kind {
	case "":
		return reply{}, newError(http.StatusNotFound, "InvalidResourceType",
			"The resource type '%s' could not be found in the namespace '%s' for api version '%s'.", strings.Join(p.Types, "/"), p.Provider, req.version)
	case groupType:
		return s.serveGroup(req)
	case groupType + "/securityRules", groupType + "/defaultSecurityRules":
		return s.serveRule(req)
	case network + "/locations/operations":
		return s.getOperation(req)
	case network + "/locations/operationResults":
		return s.getOperationResult(req)
	}
	if p.Provider == "" {
		return s.getScope(req)
	}
	return s.getResource(req)
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
