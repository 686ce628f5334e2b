package brokertest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// KeepTicketEvent implements broker.TicketEvents. It is several calls, as a cut may
// come between them.
func (s *Store) KeepTicketEvent(ctx context.Context, e access.TicketEvent) (access.TicketEvent, bool, error) {
	stored, err := s.TicketEvent(ctx, e.ID)
	if err == nil {
		_, err := s.TicketWork(ctx, e.ID)
		if access.CodeOf(err) == access.NotFound {
			return stored, false, nil
		}
		return stored, true, err
	}
	if access.CodeOf(err) != access.NotFound {
		return access.TicketEvent{}, false, err
	}
	if e, err = s.NoteTicketEvent(ctx, e); err != nil {
		return access.TicketEvent{}, false, err
	}
	stored, err = s.EnterTicketEvent(ctx, e)
	return stored, true, err
}

// NoteTicketEvent is the first write of KeepTicketEvent; it gives the event that is
// pending now.
func (s *Store) NoteTicketEvent(_ context.Context, e access.TicketEvent) (access.TicketEvent, error) {
	err := s.do(func() error {
		if have, ok := s.works[e.ID]; ok {
			e = have.Event
		}
		s.works[e.ID] = broker.TicketWork{Event: e, Taken: s.works[e.ID].Taken}
		return nil
	})
	return e, err
}

// EnterTicketEvent is the second write of KeepTicketEvent; it gives the event that
// is kept now.
func (s *Store) EnterTicketEvent(_ context.Context, e access.TicketEvent) (access.TicketEvent, error) {
	err := s.do(func() error {
		if have, ok := s.told[e.ID]; ok {
			e = have
		}
		s.told[e.ID] = e
		return nil
	})
	return e, err
}

// TicketEvent implements broker.TicketEvents.
func (s *Store) TicketEvent(_ context.Context, id string) (e access.TicketEvent, err error) {
	err = s.do(func() error {
		var ok bool
		if e, ok = s.told[id]; !ok {
			return access.Errorf(access.NotFound, "row_missing", "no such event")
		}
		return nil
	})
	return e, err
}

// TicketWork implements broker.TicketWorks.
func (s *Store) TicketWork(_ context.Context, id string) (w broker.TicketWork, err error) {
	err = s.do(func() error {
		var ok bool
		if w, ok = s.works[id]; !ok {
			return access.Errorf(access.NotFound, "row_missing", "it is not pending")
		}
		return nil
	})
	return w, err
}

// TakeTicketEvent implements broker.TicketWorks.
func (s *Store) TakeTicketEvent(_ context.Context, id string) error {
	return s.do(func() error {
		if w, ok := s.works[id]; ok {
			w.Taken = true
			s.works[id] = w
		}
		return nil
	})
}

// FinishTicketEvent implements broker.TicketWorks.
func (s *Store) FinishTicketEvent(_ context.Context, id string) error {
	return s.do(func() error { delete(s.works, id); return nil })
}

// PendingTicketEvents implements broker.PendingTickets.
func (s *Store) PendingTicketEvents(_ context.Context, before time.Time) (out []access.TicketEvent, err error) {
	err = s.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(s.works)) {
			if e := s.works[id].Event; e.ReceivedAt.Before(before) {
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}

// PromptTicket implements broker.TicketPrompts.
func (b *Bus) PromptTicket(_ context.Context, id string) error {
	return b.Do(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.tickets = append(b.tickets, id)
		return nil
	})
}

// TakeTickets gives the events whose work was asked for and forgets them.
func (b *Bus) TakeTickets() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.tickets
	b.tickets = nil
	return out
}
