package tables

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// pendingPartition holds every pending decision: there are few at a time.
const pendingPartition = "pending"

// Begin implements broker.Requests.
func (s *Store) Begin(ctx context.Context, rec access.Record) (access.Record, bool, error) {
	// A record that was finished meanwhile has decided. What is pending is found by
	// the insert, and costs no read.
	if _, err := s.kept(ctx, rec.ID); err == nil {
		return s.Find(ctx, rec.ID)
	} else if access.CodeOf(err) != access.NotFound {
		return access.Record{}, false, err
	}
	r, err := newRow(pendingPartition, string(rec.ID), rec)
	if err != nil {
		return access.Record{}, false, err
	}
	r.time("DecidedAt", rec.DecidedAt)
	created, err := insert(ctx, s.pending, r)
	if err != nil {
		return access.Record{}, false, err
	}
	if created {
		return rec, true, nil
	}
	return s.Find(ctx, rec.ID)
}

// Keep implements broker.Requests.
func (s *Store) Keep(ctx context.Context, rec access.Record, events []access.Event) (access.Record, error) {
	actions, err := keeping(rec, events)
	if err != nil {
		return access.Record{}, err
	}
	err = s.noted(ctx, events, func() error { return submit(ctx, s.requests, actions) })
	if access.ReasonOf(err) != "row_changed" {
		return rec, err
	}
	// They were written together, so the first that exists means all exist.
	return s.kept(ctx, rec.ID)
}

// kept gives the record of a request that was kept. Errors: not_found.
func (s *Store) kept(ctx context.Context, id access.RequestID) (rec access.Record, err error) {
	r, err := get(ctx, s.requests, string(id), "request")
	if err != nil {
		return rec, err
	}
	return rec, r.doc(&rec)
}

func keeping(rec access.Record, events []access.Event) ([]aztables.TransactionAction, error) {
	r, err := newRow(string(rec.ID), "request", rec)
	if err != nil {
		return nil, err
	}
	r["Outcome"], r["Requestor"] = string(rec.Outcome), rec.Request.Requestor.Name
	r.time("DecidedAt", rec.DecidedAt)
	return withEvents(aztables.TransactionTypeAdd, r, "", events)
}

// Finish implements broker.Requests.
func (s *Store) Finish(ctx context.Context, id access.RequestID) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err := s.pending.DeleteEntity(ctx, pendingPartition, string(id), nil)
	if err := failure(err, "finishing a request"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}

// Find implements broker.Requests. The pending row is read first: it goes only
// after the record is there, so one of the two is found.
func (s *Store) Find(ctx context.Context, id access.RequestID) (rec access.Record, pending bool, err error) {
	r, err := get(ctx, s.pending, pendingPartition, string(id))
	if err == nil {
		return rec, true, r.doc(&rec)
	}
	if access.CodeOf(err) != access.NotFound {
		return rec, false, err
	}
	rec, err = s.kept(ctx, id)
	return rec, false, err
}

// Pending implements broker.PendingRequests.
func (s *Store) Pending(ctx context.Context, before time.Time) ([]access.Record, error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(pendingPartition)+" and DecidedAt lt datetime"+literal(before.UTC().Format(time.RFC3339Nano)))
	if err != nil {
		return nil, err
	}
	var out []access.Record
	for _, r := range rows {
		var rec access.Record
		if e := r.doc(&rec); e != nil {
			err = errors.Join(err, e)
			continue
		}
		out = append(out, rec)
	}
	return out, err
}

func legsOf(rows []row) ([]access.Leg, error) {
	out := []access.Leg{}
	for _, r := range rows {
		var l access.Leg
		if err := r.doc(&l); err != nil {
			return nil, err
		}
		l.ETag = r.etag()
		out = append(out, l)
	}
	return out, nil
}

// eventActions add an event, and the copy of it that stands until it is sealed.
func eventActions(e access.Event) (out []aztables.TransactionAction, err error) {
	for _, key := range []string{keyEvent, keyUnsealed} {
		r, err := newRow(subject(e.Subject), key+eventKey(e.ID()), e)
		if err != nil {
			return nil, err
		}
		r["Kind"], r["Actor"], r["Subject"] = string(e.Kind), e.Actor, e.Subject
		r.time("At", e.At)
		kind := aztables.TransactionTypeAdd
		if key == keyUnsealed {
			kind = aztables.TransactionTypeInsertReplace // the event alone says whether it is there
		}
		a, err := action(kind, r, "")
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// Append implements broker.Events.
func (s *Store) Append(ctx context.Context, events []access.Event) error {
	return s.noted(ctx, events, func() error {
		for _, e := range events {
			actions, err := eventActions(e)
			if err != nil {
				return err
			}
			if err := submit(ctx, s.requests, actions); err != nil && access.ReasonOf(err) != "row_changed" {
				return err
			}
		}
		return nil
	})
}

// EventsOf gives the events of a subject, in the order they happened.
func (s *Store) EventsOf(ctx context.Context, of string) ([]access.Event, error) {
	rows, err := query(ctx, s.requests, under(subject(of), keyEvent))
	if err != nil {
		return nil, err
	}
	var out []access.Event
	for _, r := range rows {
		var e access.Event
		if err := r.doc(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortFunc(out, access.CompareEvents)
	return out, nil
}
