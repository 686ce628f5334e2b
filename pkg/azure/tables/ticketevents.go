package tables

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

const (
	// ticketWorks is the partition of pending that holds the events of tickets which
	// are not worked: there are few at a time.
	ticketWorks = "tickets"
	// ticketEventRow is the one row of an event's partition.
	ticketEventRow = "event"
)

func ticketEventPartition(id string) string { return "d-" + hash(id) }

// KeepTicketEvent implements broker.TicketEvents. The note comes first: an event
// that is kept and not noted would be taken for one that was worked.
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
	work, err := newRow(ticketWorks, hash(e.ID), broker.TicketWork{Event: e})
	if err != nil {
		return access.TicketEvent{}, false, err
	}
	work["Event"], work["Ticket"] = e.ID, e.Ticket.String()
	work.time("ReceivedAt", e.ReceivedAt)
	noted, err := insert(ctx, s.pending, work)
	if err != nil {
		return access.TicketEvent{}, false, err
	}
	if !noted {
		w, err := s.TicketWork(ctx, e.ID)
		switch {
		case err == nil:
			e = w.Event // whoever noted first has said what it is
		case access.CodeOf(err) != access.NotFound:
			return access.TicketEvent{}, false, err
		}
	}
	r, err := newRow(ticketEventPartition(e.ID), ticketEventRow, e)
	if err != nil {
		return access.TicketEvent{}, false, err
	}
	r["Event"], r["Ticket"] = e.ID, e.Ticket.String()
	r.time("ReceivedAt", e.ReceivedAt)
	kept, err := insert(ctx, s.tickets, r)
	if err == nil && !kept {
		e, err = s.TicketEvent(ctx, e.ID)
	}
	return e, true, err
}

// TicketEvent implements broker.TicketEvents.
func (s *Store) TicketEvent(ctx context.Context, id string) (e access.TicketEvent, err error) {
	r, err := get(ctx, s.tickets, ticketEventPartition(id), ticketEventRow)
	if err != nil {
		return e, err
	}
	return e, r.doc(&e)
}

// TicketWork implements broker.TicketWorks.
func (s *Store) TicketWork(ctx context.Context, id string) (w broker.TicketWork, err error) {
	r, err := get(ctx, s.pending, ticketWorks, hash(id))
	if err != nil {
		return w, err
	}
	w.Taken, _ = r["Taken"].(bool)
	taken := w.Taken
	err = r.doc(&w)
	w.Taken = taken
	return w, err
}

// TakeTicketEvent implements broker.TicketWorks. It is merged, so that a row which
// is gone is not written anew.
func (s *Store) TakeTicketEvent(ctx context.Context, id string) error {
	data, err := row{"PartitionKey": ticketWorks, "RowKey": hash(id), "Taken": true}.bytes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = s.pending.UpdateEntity(ctx, data, &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge})
	if err := failure(err, "taking a ticket's event"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}

// FinishTicketEvent implements broker.TicketWorks.
func (s *Store) FinishTicketEvent(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err := s.pending.DeleteEntity(ctx, ticketWorks, hash(id), nil)
	if err := failure(err, "finishing a ticket's event"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}

// PendingTicketEvents implements broker.PendingTickets.
func (s *Store) PendingTicketEvents(ctx context.Context, before time.Time) ([]access.TicketEvent, error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(ticketWorks)+" and ReceivedAt lt datetime"+literal(before.UTC().Format(time.RFC3339Nano)))
	if err != nil {
		return nil, err
	}
	var out []access.TicketEvent
	for _, r := range rows {
		var w broker.TicketWork
		if e := r.doc(&w); e != nil {
			err = errors.Join(err, e)
			continue
		}
		out = append(out, w.Event)
	}
	return out, err
}
