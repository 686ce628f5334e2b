package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// TestWhatWasAskedForBeforeTheEndOfATicketIsNotOpenedByItsReopening lets a ticket be
// ended and opened again at every call of the work of an event that asks.
func TestWhatWasAskedForBeforeTheEndOfATicketIsNotOpenedByItsReopening(t *testing.T) {
	for at := 1; at < 100; at++ {
		w := ticketWorld(t)
		w.receive(w.asking("e1"), broker.TicketAccepted)
		w.bus.TakeTickets()
		came, start := false, w.faults.Calls()
		w.faults.Before = func(n int) {
			if n != start+at || came {
				return
			}
			came = true
			ends, again := w.closing("e2"), w.said("e3", "Implement")
			ends.At, again.At = w.now.Add(time.Second), w.now.Add(2*time.Second)
			for _, e := range []access.TicketEvent{ends, again} {
				w.receive(e, broker.TicketAccepted)
				w.work()
			}
		}
		if err := w.tickets.Work(context.Background(), "e1"); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		w.faults.Before = nil
		w.deliver()
		if !came {
			w.expectOpen(alice, 2)
			return
		}
		w.sweepAll()
		if n := len(w.open(alice)); n != 0 {
			t.Errorf("at %d: it is open on %d", at, n)
		}
	}
}

// TestAnAskThatWaitedOutTheEndOfItsTicketAsksForNothing has an event that was taken
// and could not be worked to its end until its ticket was ended and opened again.
func TestAnAskThatWaitedOutTheEndOfItsTicketAsksForNothing(t *testing.T) {
	w := ticketWorld(t)
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.bus.TakeTickets() // lost
	if err := w.store.TakeTicketEvent(t.Context(), "e1"); err != nil {
		t.Fatal(err)
	}
	for _, say := range []func() access.TicketEvent{func() access.TicketEvent { return w.closing("e2") }, func() access.TicketEvent { return w.said("e3", "Implement") }} {
		w.now = w.now.Add(time.Second)
		w.receive(say(), broker.TicketAccepted)
		w.work()
	}
	w.sweepAll()
	w.expectShut()
	if _, _, err := w.store.Find(t.Context(), requestOf("e1")); access.CodeOf(err) != access.NotFound {
		t.Errorf("it was submitted: %v", err)
	}
	events, err := w.store.EventsOf(t.Context(), broker.TicketSubject(change))
	if err != nil || len(events) != 3 || events[0].Detail["done"] != "superseded" || events[0].Detail["request"] != "" {
		t.Errorf("%+v, %v", events, err)
	}
	// What the ticket asks for since then opens.
	w.now = w.now.Add(time.Second)
	w.receive(w.asking("e4"), broker.TicketAccepted)
	w.work()
	w.expectStatus(w.record(requestOf("e4")), access.Initiated, "")
}
