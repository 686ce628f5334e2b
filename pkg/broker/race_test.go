package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// lateBegin is a record whose Begin, as in two tables, looks, is overtaken by
// all of another delivery, and then writes.
type lateBegin struct {
	broker.Requests
	overtake func()
}

func (l *lateBegin) Begin(_ context.Context, rec access.Record) (access.Record, bool, error) {
	l.overtake()
	return rec, true, nil
}

func TestWhatWasKeptFirstIsCarriedOutThoughAnotherBegan(t *testing.T) {
	for name, c := range map[string]struct {
		second access.Request
		reason string
	}{
		"the same":     {ask("1", alice, time.Hour), ""},
		"another body": {ask("1", bob, time.Hour), "id_conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := access.Record{}
			late := &lateBegin{Requests: w.store, overtake: func() {
				first = w.submit(ask("1", alice, time.Hour))
				w.now = w.now.Add(10 * time.Minute)
			}}
			ports := w.submitter.SubmitPorts
			ports.Requests = late
			s, err := broker.NewSubmitter(ports, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			rec, err := s.Submit(t.Context(), c.second)
			if access.ReasonOf(err) != c.reason || err == nil && !rec.Grants[0].EndTime.Equal(first.Grants[0].EndTime) {
				t.Errorf("%+v, %v", rec.Grants, err)
			}
			w.deliver()
			w.expectOpen(alice, 2)
			w.expectOpen(bob, 0)
			w.now = w.now.Add(time.Hour)
			w.deliver()
			w.expectShut()
		})
	}
}

// A refusal that was kept first is not undone by an acceptance that comes late.
func TestARefusalKeptFirstOpensNothing(t *testing.T) {
	w := newWorld(t)
	policies := w.store.Policies
	w.store.Policies = nil
	if _, err := w.submitter.Submit(t.Context(), ask("1", alice, time.Hour)); access.ReasonOf(err) != "not_permitted" {
		t.Fatal(err)
	}
	w.store.Policies = policies
	rec := w.submit(ask("2", alice, time.Hour))
	rec.ID = access.NewRequestID(ask("1", alice, 0).RequestedBy, "1")
	for i, g := range rec.Grants {
		rec.Grants[i].Legs = slices.Clone(g.Legs)
		for j := range g.Legs {
			rec.Grants[i].Legs[j].Request = rec.ID
		}
	}
	if err := w.submitter.Resume(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if legs, err := w.store.Legs(t.Context(), onWeb); err != nil || len(legs) != 1 {
		t.Errorf("legs of a refused request: %+v, %v", legs, err)
	}
}

// half gives what it found and an error, as a store with one bad row does.
type half struct{ broker.Heads }

func (h half) Due(ctx context.Context, now time.Time) ([]broker.Head, error) {
	heads, err := h.Heads.Due(ctx, now)
	return heads, errors.Join(err, access.Errorf(access.Internal, "record_unreadable", "one row cannot be read"))
}

type halfPending struct{ broker.PendingRequests }

func (h halfPending) Pending(ctx context.Context, before time.Time) ([]access.Record, error) {
	recs, err := h.PendingRequests.Pending(ctx, before)
	return recs, errors.Join(err, access.Errorf(access.Internal, "record_unreadable", "one row cannot be read"))
}

func TestOneBadRowDoesNotKeepSweepFromTheOthers(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, time.Hour))
	w.deliver()
	cut := ask("2", bob, time.Hour)
	w.faults.Reset()
	w.faults.FailAt, w.faults.After = 7, true // after it began
	if _, err := w.submitter.Submit(t.Context(), cut); err == nil {
		t.Fatal("it was not cut off")
	}
	w.faults.Reset()
	sweeper, err := broker.NewSweeper(broker.SweepPorts{
		Heads: half{w.store}, Ledger: w.store, Pending: halfPending{w.store}, Prompts: w.bus, Events: w.store, Publish: w.publisher.PublishDue, Meter: w.meter, Clock: w.sweeper.Clock, Log: w.sweeper.Log,
		Resume: w.submitter.Resume, Starts: w.store, Start: w.submitter.Start, Lockdown: w.lockdown.Tell, Reconcile: w.reconciler.Reconcile,
		Tickets: w.store, WorkTicket: w.tickets.Work,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.bus.Take(w.now.Add(2 * time.Hour)) // every message is lost
	w.now = w.now.Add(time.Minute)
	if err := sweeper.Sweep(t.Context()); access.ReasonOf(err) != "record_unreadable" {
		t.Errorf("the bad row is not told: %v", err)
	}
	w.deliver()
	w.expectOpen(bob, 2)
	w.bus.Take(w.now.Add(2 * time.Hour))
	w.now = w.now.Add(3 * time.Hour)
	if err := sweeper.Sweep(t.Context()); access.ReasonOf(err) != "record_unreadable" {
		t.Errorf("the bad row is not told: %v", err)
	}
	w.deliver()
	w.expectShut()
}
