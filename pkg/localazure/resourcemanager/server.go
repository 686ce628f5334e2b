// Package resourcemanager stands in for Azure Resource Manager on a machine
// without Azure: virtual machines, network interfaces, virtual networks with
// their peerings, load balancers, and network security groups with their
// long-running writes, in the JSON of Microsoft.Network 2025-05-01 and
// Microsoft.Compute 2026-04-01. Unmodified armnetwork and armcompute clients work
// against it.
//
// It refuses what Azure refuses, with Azure's codes and, where they are on public
// record, its words. It differs where it must: one subscription and one resource
// group, and writes to network security groups alone.
package resourcemanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

const defaultPageSize = 100

// Config describes a server.
type Config struct {
	// Verify checks a bearer token for an audience, which is
	// "https://management.azure.com" or its older name
	// "https://management.core.windows.net"; nil refuses all.
	Verify func(ctx context.Context, token, audience string) error
	// Topology is what there is at the start.
	Topology Topology
	// OperationLatency is how long a write's long-running operation takes. With
	// zero it is under way in the answer to the write and done at the next request.
	OperationLatency time.Duration
	// BaseURL is the absolute https URL that clients reach the server by. It is
	// the base of every link in an answer.
	BaseURL string
	// PageSize is how many items a list answers at once; 0 means 100.
	PageSize int
	// Now is the clock of operations and of throttling; nil means time.Now.
	Now func() time.Time
	// Logger gets refused requests; nil discards.
	Logger *slog.Logger
}

// LockKind is the kind of a management lock.
type LockKind string

// The kinds of lock: CanNotDelete refuses DELETE, ReadOnly every write.
const (
	CanNotDelete LockKind = "CanNotDelete"
	ReadOnly     LockKind = "ReadOnly"
)

// Server is the stand-in. It is an http.Handler; all methods are safe for
// concurrent use.
type Server struct {
	cfg    Config
	faults *fault.Injector

	mu         sync.Mutex
	resources  map[string]object // all but network security groups, by key
	groups     map[string]*group // network security groups, by key
	operations operations
	buckets    buckets
	quota      quota
	locks      map[string]LockKind
	denied     []string
	supersede  bool
	stats      Stats
}

// New makes a server that holds the topology.
func New(cfg Config) (*Server, error) {
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if host, ok := strings.CutPrefix(cfg.BaseURL, "https://"); !ok || host == "" {
		return nil, fmt.Errorf("resourcemanager: base URL %q is not an https URL", cfg.BaseURL)
	}
	if cfg.PageSize < 0 || cfg.OperationLatency < 0 {
		return nil, errors.New("resourcemanager: page size and operation latency cannot be negative")
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = defaultPageSize
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:        cfg,
		faults:     newFaults(),
		resources:  map[string]object{},
		groups:     map[string]*group{},
		operations: operations{byID: map[string]*operation{}},
		buckets:    newBuckets(cfg.Now()),
		locks:      map[string]LockKind{},
		stats:      newStats(),
	}
	if err := s.load(cfg.Topology); err != nil {
		return nil, fmt.Errorf("resourcemanager: topology: %w", err)
	}
	return s, nil
}

// SetResource adds or replaces a machine, interface, network, subnet or load
// balancer, given as Resource Manager would answer it: "id" and "properties" are
// needed, "name" and "type" follow from the id. Nothing checks that what it refers
// to exists.
func (s *Server) SetResource(body json.RawMessage) error {
	o, ok := decodeObject(body)
	if !ok {
		return errors.New("resourcemanager: the resource is not a JSON object")
	}
	id, _ := o["id"].(string)
	if _, ok := o["properties"].(object); !ok {
		return errors.New("resourcemanager: the resource has no properties")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(id, o)
}

// put stores a resource under its id, which settles its name and type.
func (s *Server) put(id string, o object) error {
	p, ok := parsePath(id)
	if !ok || !p.isItem() || p.Group == "" {
		return fmt.Errorf("resourcemanager: %q is no resource id", id)
	}
	kind, ok := spell(p, readOnly)
	if !ok {
		return fmt.Errorf("resourcemanager: %s is not imitated here", p.resourceType())
	}
	o["id"], o["name"], o["type"] = id, p.Names[len(p.Names)-1], kind
	s.resources[key(id)] = o
	return nil
}

// RemoveResource removes a resource; its children, and what refers to it, stay.
func (s *Server) RemoveResource(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resources, key(id))
	delete(s.groups, key(id))
}

// SetLock puts a management lock on a scope, a subscription, resource group or
// resource, and what lies under it; an empty kind takes the lock off.
func (s *Server) SetLock(scope string, kind LockKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	scope = strings.TrimRight(scope, "/")
	delete(s.locks, key(scope))
	if kind != "" {
		s.locks[key(scope)] = kind
	}
}

// Deny makes every action with the prefix, such as
// "Microsoft.Network/networkSecurityGroups/write", answer AuthorizationFailed.
func (s *Server) Deny(actionPrefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, strings.ToLower(actionPrefix))
}

// AllowAll takes back every Deny.
func (s *Server) AllowAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = nil
}

// Supersede makes a write to a network security group cancel the one under way,
// which then ends as CanceledAndSupersededDueToAnotherOperation, instead of being
// refused. Azure does either.
func (s *Server) Supersede(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.supersede = on
}

// NSG gives a network security group as a GET would now.
func (s *Server) NSG(id string) (json.RawMessage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[key(id)]
	if !ok {
		return nil, false
	}
	g.settle(s.cfg.Now())
	data, err := encode(s.renderGroup(g))
	return data, err == nil
}
