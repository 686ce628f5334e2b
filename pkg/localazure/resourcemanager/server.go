// Package resourcemanager stands in for Azure Resource Manager: virtual
// machines, network interfaces, virtual networks, and network security groups
// with their long-running writes, in the JSON of Microsoft.Network 2025-05-01.
package resourcemanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// audience is what a token for Resource Manager is issued for.
const audience = "https://management.azure.com"

// Config describes a server.
type Config struct {
	// Verify checks a bearer token for the audience; nil refuses all.
	Verify   func(ctx context.Context, token, audience string) error
	Topology Topology
	// OperationLatency is how long a write takes.
	OperationLatency time.Duration
	// BaseURL is the https URL that clients reach the server by.
	BaseURL string
	Logger  *slog.Logger
	// Fault may answer a request in the server's stead, for tests.
	Fault func(r *http.Request) *Fault
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Fault is an answer given in place of the real one. After lets the request
// have its effect first.
type Fault struct {
	Status     int
	Code       string
	RetryAfter string
	After      bool
}

// LockKind is the kind of a management lock.
type LockKind string

// The kinds of lock.
const (
	CanNotDelete LockKind = "CanNotDelete"
	ReadOnly     LockKind = "ReadOnly"
)

// Server is the stand-in.
type Server struct {
	cfg Config

	mu         sync.Mutex
	resources  map[string]object // by id in lower case
	order      []string
	groups     map[string]*group
	operations map[string]*operation
	locks      map[string]LockKind
	denied     []string
	reads      int
	writes     int
	pageSize   int
	supersede  bool
}

// New makes a server that holds the topology.
func New(cfg Config) (*Server, error) {
	if !strings.HasPrefix(cfg.BaseURL, "https://") || cfg.Logger == nil {
		return nil, errors.New("resourcemanager: an https base URL and a logger are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg: cfg, resources: map[string]object{}, groups: map[string]*group{}, operations: map[string]*operation{},
		locks: map[string]LockKind{}, pageSize: 100,
	}
	return s, s.load(cfg.Topology)
}

func (s *Server) put(o object) {
	id := strings.ToLower(o["id"].(string))
	if _, ok := s.resources[id]; !ok {
		s.order = append(s.order, id)
	}
	s.resources[id] = clone(o)
}

// SetResource adds or replaces a machine, interface, network or subnet, given
// as Resource Manager would answer it.
func (s *Server) SetResource(body json.RawMessage) error {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return err
	}
	if id, _ := o["id"].(string); id == "" {
		return errors.New("resourcemanager: a resource has an id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(o)
	return nil
}

// RemoveResource removes a machine, interface, network or subnet.
func (s *Server) RemoveResource(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resources, strings.ToLower(id))
}

// SetLock locks a scope; "" unlocks it.
func (s *Server) SetLock(scope string, kind LockKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == "" {
		delete(s.locks, strings.ToLower(scope))
		return
	}
	s.locks[strings.ToLower(scope)] = kind
}

// Deny makes every action with the prefix, such as
// "Microsoft.Network/networkSecurityGroups/write", answer AuthorizationFailed.
func (s *Server) Deny(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, strings.ToLower(action))
}

// Supersede makes a competing write take over, cancelling the one under way,
// instead of being refused.
func (s *Server) Supersede(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.supersede = on
}

// NSG gives a group as a GET would.
func (s *Server) NSG(id string) (json.RawMessage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[strings.ToLower(id)]
	if !ok {
		return nil, false
	}
	g.settle(s.cfg.Now())
	data, err := json.Marshal(s.body(g))
	return data, err == nil
}

// Writes counts the accepted writes of groups and rules so far.
func (s *Server) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// failure is an error as Resource Manager answers it.
type failure struct {
	status        int
	code, message string
	retryAfter    string
}

func badRequest(code, format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, code: code, message: fmt.Sprintf(format, args...)}
}

func notFound(id string) *failure {
	return &failure{status: http.StatusNotFound, code: "ResourceNotFound", message: fmt.Sprintf("The Resource '%s' was not found.", id)}
}

func (f *failure) write(w http.ResponseWriter) {
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	answer(w, f.status, object{"error": object{"code": f.code, "message": f.message}})
}

func answer(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"encoding"}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client is gone: nobody is left to tell
}
