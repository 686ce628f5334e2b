package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// TestATicketsEventCutOffAnywhere cuts it off at every call, before and after its
// effect, sends it again, and leaves the rest to Sweep; then the same with its end.
func TestATicketsEventCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := ticketWorld(t)
				cut := func(e access.TicketEvent, again bool) {
					w.faults.Reset()
					w.faults.FailAt, w.faults.After = at, after
					_, err := w.tickets.Receive(context.Background(), e)
					told := err == nil
					_ = w.tickets.Work(context.Background(), e.ID) // may be cut off
					done = w.faults.Calls() < at
					w.faults.Reset()
					if !told || again { // its sender tries again until it is told
						if _, err := w.tickets.Receive(context.Background(), e); err != nil {
							t.Fatalf("cut at %d: %v", at, err)
						}
					}
					w.bus.TakeTickets() // lost
					w.sweepAll()
				}
				cut(w.asking("e1"), at%2 == 0)
				rec := w.record(requestOf("e1"))
				w.expectStatus(rec, access.Initiated, "")
				w.expectOpen(alice, 2)
				cut(w.closing("e2"), at%2 == 0)
				w.expectStatus(rec, access.Revoked, access.TicketEnded)
				w.expectShut()
				if kinds := w.store.Kinds(string(rec.ID)); kinds[access.EventRequested] != 1 || kinds[access.EventRevoked] != 1 {
					t.Errorf("cut at %d: %v", at, kinds)
				}
				if kinds := w.store.Kinds(broker.TicketSubject(change)); kinds[access.EventTicket] != 2 {
					t.Errorf("cut at %d: %v", at, kinds)
				}
				for _, id := range []string{"e1", "e2"} {
					if _, err := w.store.TicketWork(context.Background(), id); access.CodeOf(err) != access.NotFound {
						t.Errorf("cut at %d: %s is still pending: %v", at, id, err)
					}
				}
			})
			if done || t.Failed() {
				break
			}
		}
	}
}

// TestTheEndOfATicketBesideItsAskHolds lets the end come and be worked at every
// call of the work of the ask.
func TestTheEndOfATicketBesideItsAskHolds(t *testing.T) {
	for at := 1; ; at++ {
		came := false
		synctest.Test(t, func(t *testing.T) {
			w := ticketWorld(t)
			ask := w.asking("e1")
			w.receive(ask, broker.TicketAccepted)
			end := w.closing("e2")
			end.At = ask.At.Add(time.Second)
			start := w.faults.Calls()
			w.faults.Before = func(n int) {
				if n == start+at && !came {
					came = true
					w.receive(end, broker.TicketAccepted)
					if err := w.tickets.Work(context.Background(), "e2"); err != nil {
						t.Error(err)
					}
				}
			}
			if err := w.tickets.Work(context.Background(), "e1"); err != nil {
				t.Fatal(err)
			}
			w.faults.Before = nil
			if !came {
				return
			}
			w.deliver()
			w.expectShut()
			if w.azure.Writes != 0 {
				t.Errorf("at %d: %d writes", at, w.azure.Writes)
			}
		})
		if !came || t.Failed() {
			return
		}
	}
}

// TestAnAskThatDiesBesideTheEndOfItsTicketOpensNothing cuts the ask off at every
// call, works the end, and lets everything that was cut off go on.
func TestAnAskThatDiesBesideTheEndOfItsTicketOpensNothing(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := ticketWorld(t)
			ask := w.asking("e1")
			w.receive(ask, broker.TicketAccepted)
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, true
			_ = w.tickets.Work(context.Background(), "e1") // may be cut off
			done = w.faults.Calls() < at
			w.faults.Reset()
			end := w.closing("e2")
			end.At = ask.At.Add(time.Second)
			w.receive(end, broker.TicketAccepted)
			if err := w.tickets.Work(context.Background(), "e2"); err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			w.deliver()
			w.sweepAll()
			w.expectShut()
			if w.azure.Writes != 0 {
				t.Errorf("cut at %d: %d writes", at, w.azure.Writes)
			}
		})
		if done || t.Failed() {
			return
		}
	}
}
