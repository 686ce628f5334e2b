package network

import (
	"context"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// snapshot shares reads among callers: a burst of requests for one machine, or
// for machines of one subnet, reads each resource once.
type snapshot struct {
	clock broker.Clock
	mu    sync.Mutex
	items map[access.ResourceID]*item
}

type item struct {
	startedAt time.Time
	done      chan struct{}
	value     any
	err       error
}

const (
	keepFor  = time.Minute
	maxItems = 60_000
)

func newSnapshot(clock broker.Clock) *snapshot {
	return &snapshot{clock: clock, items: map[access.ResourceID]*item{}}
}

// read gives the resource as read not before the time, joining a read under way.
func read[T any](ctx context.Context, s *snapshot, id access.ResourceID, notBefore time.Time, load func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	it, ok := s.items[id]
	if !ok || it.startedAt.Before(notBefore) {
		it = &item{startedAt: s.clock(), done: make(chan struct{})}
		s.drop()
		s.items[id] = it
		s.mu.Unlock()
		// A read that its first caller gives up must not fail for the others.
		v, err := load(context.WithoutCancel(ctx))
		it.value, it.err = v, err
		if err != nil {
			s.mu.Lock()
			if s.items[id] == it {
				delete(s.items, id)
			}
			s.mu.Unlock()
		}
		close(it.done)
	} else {
		s.mu.Unlock()
	}
	var zero T
	select {
	case <-it.done:
	case <-ctx.Done():
		return zero, access.Wrap(ctx.Err(), access.Unavailable, "azure_unreachable", "reading "+id.Name()+" took too long")
	}
	if it.err != nil {
		return zero, it.err
	}
	return it.value.(T), nil
}

// has says whether the resource is known, or being read, as of the time.
func (s *snapshot) has(id access.ResourceID, notBefore time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[id]
	return ok && !it.startedAt.Before(notBefore)
}

// keep puts what was read otherwise into the snapshot, unless that has something
// newer or no room.
func (s *snapshot) keep(id access.ResourceID, startedAt time.Time, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[id]
	if ok && it.startedAt.After(startedAt) || !ok && len(s.items) >= maxItems {
		return
	}
	it = &item{startedAt: startedAt, done: make(chan struct{}), value: value}
	close(it.done)
	s.items[id] = it
}

// drop forgets what is old, and everything when there is too much; under mu.
func (s *snapshot) drop() {
	if len(s.items) > maxItems {
		clear(s.items)
	}
	if len(s.items)%64 != 0 {
		return
	}
	old := s.clock().Add(-keepFor)
	for id, it := range s.items {
		if it.startedAt.Before(old) {
			delete(s.items, id)
		}
	}
}
