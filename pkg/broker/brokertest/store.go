// Package brokertest holds in-memory ports for tests of the use cases, with
// faults that cut a use case off at any call.
package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// Faults cuts calls off. One is shared by all ports of a test.
type Faults struct {
	mu sync.Mutex
	n  int
	// FailAt makes the call of that number (from 1) fail, and all after it;
	// 0 lets all pass. After lets the failing call have its effect first.
	FailAt int
	After  bool
	// Before runs before each call with its number, and may call in turn:
	// somebody else's turn.
	Before func(n int)
}

// Calls counts the calls so far.
func (f *Faults) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Reset lets every call pass again, and counts from the start.
func (f *Faults) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.FailAt = 0, 0
}

// Do runs a call's effect, or not, as the plan says.
func (f *Faults) Do(effect func() error) error {
	f.mu.Lock()
	f.n++
	cut := f.FailAt > 0 && f.n >= f.FailAt
	first := f.n == f.FailAt
	after, n, before := f.After, f.n, f.Before
	f.mu.Unlock()
	if before != nil {
		before(n)
	}
	if !cut {
		return effect()
	}
	if first && after {
		if err := effect(); err != nil {
			return err
		}
	}
	return access.Errorf(access.Unavailable, "cut_off", "cut off by the test")
}

// Store is the record in memory. Its zero value is not usable; see NewStore.
type Store struct {
	*Faults
	mu       sync.Mutex
	version  int
	Policies []policy.AccessPolicy
	records  map[access.RequestID]access.Record
	pending  map[access.RequestID]access.Record
	ended    map[access.RequestID][]access.Leg
	heads    map[access.ResourceID]broker.Head
	legs     map[access.ResourceID]map[string]access.Leg
	rows     map[access.ResourceID]map[string]access.Baseline
	events   map[string]access.Event
	starts   map[access.RequestID]access.Start
	planned  map[access.RequestID]time.Time
	revoked  map[access.RequestID][]access.Revocation
	extended map[access.RequestID][]access.RequestID
	retiring map[access.RequestID]time.Time
	index    map[string]map[string]indexRow
	lockdown access.Lockdown
	tickets  map[access.TicketID]access.Ticket
	told     map[string]access.TicketEvent
	works    map[string]broker.TicketWork
	sources  map[string]ticket.Source
	chains   chains
	// Clock is the store's own; the system's unless it is set.
	Clock func() time.Time
	// NotedApart leaves the notices of events to calls of Note, so that something may
	// come between; only a lockdown's is written with it.
	NotedApart bool
	// Down makes every call fail.
	Down bool
}

// NewStore makes an empty store.
func NewStore(f *Faults) *Store {
	return &Store{
		Faults: f, records: map[access.RequestID]access.Record{}, pending: map[access.RequestID]access.Record{},
		ended: map[access.RequestID][]access.Leg{}, heads: map[access.ResourceID]broker.Head{},
		legs: map[access.ResourceID]map[string]access.Leg{}, events: map[string]access.Event{},
		rows: map[access.ResourceID]map[string]access.Baseline{}, starts: map[access.RequestID]access.Start{},
		planned: map[access.RequestID]time.Time{}, revoked: map[access.RequestID][]access.Revocation{},
		extended: map[access.RequestID][]access.RequestID{}, retiring: map[access.RequestID]time.Time{}, index: map[string]map[string]indexRow{},
		told: map[string]access.TicketEvent{}, works: map[string]broker.TicketWork{}, sources: map[string]ticket.Source{}, tickets: map[access.TicketID]access.Ticket{},
		chains: newChains(), Clock: now,
	}
}

func (s *Store) do(effect func() error) error {
	return s.Do(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.Down {
			return access.Errorf(access.Unavailable, "tables_unavailable", "the store is down")
		}
		return effect()
	})
}

func (s *Store) etag() string { s.version++; return fmt.Sprint(s.version) }

// PoliciesFor implements broker.Policies.
func (s *Store) PoliciesFor(_ context.Context, vm access.ResourceID) (out []policy.AccessPolicy, err error) {
	err = s.do(func() error {
		for _, p := range s.Policies {
			if slices.Contains(vm.Scopes(), p.Scope) {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// Begin implements broker.Requests.
func (s *Store) Begin(_ context.Context, rec access.Record) (stored access.Record, pending bool, err error) {
	err = s.do(func() error {
		if have, ok := s.pending[rec.ID]; ok {
			stored, pending = have, true
		} else if have, ok := s.records[rec.ID]; ok {
			stored = have
		} else {
			s.pending[rec.ID] = rec
			stored, pending = rec, true
		}
		return nil
	})
	return stored, pending, err
}

// Keep implements broker.Requests.
func (s *Store) Keep(_ context.Context, rec access.Record, events []access.Event) (stored access.Record, err error) {
	if err := s.note(events); err != nil {
		return stored, err
	}
	err = s.do(func() error {
		if _, ok := s.records[rec.ID]; !ok {
			s.records[rec.ID] = rec
			s.append(events)
		}
		stored = s.records[rec.ID]
		return nil
	})
	return stored, err
}

// Finish implements broker.Requests.
func (s *Store) Finish(_ context.Context, id access.RequestID) error {
	return s.do(func() error { delete(s.pending, id); return nil })
}

// Find implements broker.Requests.
func (s *Store) Find(_ context.Context, id access.RequestID) (rec access.Record, pending bool, err error) {
	err = s.do(func() error {
		if rec, pending = s.pending[id]; pending {
			return nil
		}
		var ok bool
		if rec, ok = s.records[id]; !ok {
			return access.Errorf(access.NotFound, "row_missing", "no such request")
		}
		return nil
	})
	return rec, pending, err
}

// Pending implements broker.PendingRequests.
func (s *Store) Pending(_ context.Context, before time.Time) (out []access.Record, err error) {
	err = s.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(s.pending)) {
			if s.pending[id].DecidedAt.Before(before) {
				out = append(out, s.pending[id])
			}
		}
		return nil
	})
	return out, err
}

// Head implements broker.Ledger.
func (s *Store) Head(_ context.Context, id access.ResourceID) (h broker.Head, err error) {
	err = s.do(func() error {
		if h = s.heads[id]; h.NSG == "" {
			h.NSG = id
		}
		return nil
	})
	return h, err
}

// SaveHead implements broker.Ledger.
func (s *Store) SaveHead(_ context.Context, h broker.Head) (broker.Head, error) {
	err := s.do(func() error {
		if s.heads[h.NSG].ETag != h.ETag {
			return access.Errorf(access.Aborted, "row_changed", "the head has changed")
		}
		h.At, h.ETag = s.Clock(), s.etag()
		s.heads[h.NSG] = h
		return nil
	})
	return h, err
}

// Legs implements broker.Ledger.
func (s *Store) Legs(_ context.Context, id access.ResourceID) (out []access.Leg, err error) {
	err = s.do(func() error {
		for _, k := range slices.Sorted(maps.Keys(s.legs[id])) {
			out = append(out, s.legs[id][k])
		}
		return nil
	})
	return out, err
}

// LegsOf implements broker.LegFinder.
func (s *Store) LegsOf(ctx context.Context, id access.ResourceID, request access.RequestID) ([]access.Leg, error) {
	legs, err := s.Legs(ctx, id)
	return slices.DeleteFunc(legs, func(l access.Leg) bool { return l.Request != request }), err
}

func (s *Store) touch(id access.ResourceID, token string, due time.Time) {
	h := s.heads[id]
	h.NSG, h.Wanted, h.DueAt, h.At, h.ETag = id, token, due, s.Clock(), s.etag()
	s.heads[id] = h
}

// AddLegs implements broker.Ledger.
func (s *Store) AddLegs(_ context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	return s.do(func() error {
		if s.legs[id] == nil {
			s.legs[id] = map[string]access.Leg{}
		}
		for _, l := range legs {
			if _, ok := s.legs[id][l.Key()]; !ok {
				l.ETag = s.etag()
				s.legs[id][l.Key()] = l
			}
		}
		s.touch(id, token, due)
		return nil
	})
}

// Touch implements broker.LegWriter.
func (s *Store) Touch(_ context.Context, id access.ResourceID, token string, due time.Time) error {
	return s.do(func() error { s.touch(id, token, due); return nil })
}

// UpdateLegs implements broker.LegWriter.
func (s *Store) UpdateLegs(_ context.Context, id access.ResourceID, legs []access.Leg) error {
	return s.do(func() error { return s.update(id, legs) })
}

// ChangeLegs implements broker.LegWriter.
func (s *Store) ChangeLegs(_ context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	return s.do(func() error {
		if err := s.update(id, legs); err != nil {
			return err
		}
		s.touch(id, token, due)
		return nil
	})
}

func (s *Store) update(id access.ResourceID, legs []access.Leg) error {
	for _, l := range legs {
		if s.legs[id][l.Key()].ETag != l.ETag || l.ETag == "" {
			return access.Errorf(access.Aborted, "row_changed", "a leg has changed")
		}
	}
	for _, l := range legs {
		l.ETag = s.etag()
		s.legs[id][l.Key()] = l
	}
	return nil
}

// EndLegs implements broker.LegWriter.
func (s *Store) EndLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	for _, l := range legs {
		// Two calls, as a cut may come between them.
		if err := s.KeepEnded(ctx, l); err != nil {
			return err
		}
		if err := s.RemoveLeg(ctx, id, l); err != nil {
			return err
		}
	}
	return nil
}

// KeepEnded is the first half of EndLegs, for one leg.
func (s *Store) KeepEnded(_ context.Context, l access.Leg) error {
	return s.do(func() error {
		if !slices.ContainsFunc(s.ended[l.Request], func(e access.Leg) bool { return e.Key() == l.Key() && e.NSG == l.NSG }) {
			s.ended[l.Request] = append(s.ended[l.Request], l)
		}
		return nil
	})
}

// RemoveLeg is the second half of EndLegs, for one leg.
func (s *Store) RemoveLeg(_ context.Context, id access.ResourceID, l access.Leg) error {
	return s.do(func() error { delete(s.legs[id], l.Key()); return nil })
}

// Due implements broker.Heads.
func (s *Store) Due(ctx context.Context, now time.Time) ([]broker.Head, error) {
	all, err := s.All(ctx)
	return slices.DeleteFunc(all, func(h broker.Head) bool { return h.DueAt.IsZero() || h.DueAt.After(now) && h.Trouble == "" }), err
}

// All implements broker.Heads.
func (s *Store) All(context.Context) (out []broker.Head, err error) {
	err = s.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(s.heads)) {
			out = append(out, s.heads[id])
		}
		return nil
	})
	return out, err
}

func (s *Store) append(events []access.Event) {
	for _, e := range events {
		if key := e.Subject + "/" + e.ID(); s.events[key].Subject == "" {
			s.events[key] = e
		}
	}
}

// Append implements broker.Events.
func (s *Store) Append(_ context.Context, events []access.Event) error {
	if err := s.note(events); err != nil {
		return err
	}
	return s.do(func() error { s.append(events); return nil })
}

// Kinds counts the events of the subject by kind.
func (s *Store) Kinds(subject string) map[access.EventKind]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[access.EventKind]int{}
	for _, e := range s.events {
		if e.Subject == subject {
			out[e.Kind]++
		}
	}
	return out
}

// LosePartition forgets all that is on record of an NSG.
func (s *Store) LosePartition(id access.ResourceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.heads, id)
	delete(s.legs, id)
	delete(s.rows, id)
}

// LoseLedger forgets every head and live leg, as a fail-over might.
func (s *Store) LoseLedger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads, s.legs = map[access.ResourceID]broker.Head{}, map[access.ResourceID]map[string]access.Leg{}
	s.rows = map[access.ResourceID]map[string]access.Baseline{}
}
