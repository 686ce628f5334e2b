package broker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

var change = access.TicketID{Source: "snow", Key: "CHG0001"}

// ticketWorld is a world whose policy takes a ticket's word for the requestor.
func ticketWorld(t *testing.T) *world {
	w := newWorld(t)
	w.believeTickets()
	return w
}

func (w *world) believeTickets() {
	w.store.Policies[0].AssertedRequestorsFrom = append(w.store.Policies[0].AssertedRequestorsFrom, "ticket:snow")
}

// said is an event of the ticket that happened now.
func (w *world) said(id, state string) access.TicketEvent {
	return access.TicketEvent{
		ID: id, Ticket: change, At: w.now, ReceivedAt: w.now, BodyHash: "hash of " + id, Actor: "approver@contoso.com",
		TicketFacts: access.TicketFacts{State: state, Assignee: "anna@contoso.com"},
	}
}

// asking is an event that asks for an hour from alice's address.
func (w *world) asking(id string) access.TicketEvent {
	e := w.said(id, "Implement")
	e.Ask = &access.TicketAsk{Requestor: "anna@contoso.com", Justification: "the change", Ports: []access.PortRequest{{VM: vm, Port: 22, Source: mask(alice), Duration: time.Hour}}}
	return e
}

func (w *world) closing(id string) access.TicketEvent {
	e := w.said(id, "Closed")
	e.Ends = true
	return e
}

// requestOf is the id of the access request that an event makes.
func requestOf(event string) access.RequestID {
	return access.NewRequestID(access.Sender{Channel: access.ChannelTicket, Principal: change.Source}, event)
}

func (w *world) receive(e access.TicketEvent, want broker.Receipt) {
	w.t.Helper()
	if got, err := w.tickets.Receive(context.Background(), e); err != nil || got != want {
		w.t.Fatalf("%s: %q, %v, want %q", e.ID, got, err, want)
	}
}

// work works the events that were asked for, and delivers what follows.
func (w *world) work() {
	w.t.Helper()
	for _, id := range w.bus.TakeTickets() {
		if err := w.tickets.Work(context.Background(), id); err != nil {
			w.t.Fatalf("working %s: %v", id, err)
		}
	}
	w.deliver()
}

// sweepAll lets Sweep finish what was cut off.
func (w *world) sweepAll() {
	w.t.Helper()
	for range 3 {
		w.now = w.now.Add(time.Minute)
		if err := w.sweeper.Sweep(context.Background()); err != nil {
			w.t.Fatal(err)
		}
		w.deliver()
	}
}

func (w *world) record(id access.RequestID) access.Record {
	w.t.Helper()
	rec, pending, err := w.store.Find(context.Background(), id)
	if err != nil || pending {
		w.t.Fatalf("pending %v, %v", pending, err)
	}
	return rec
}

func TestATicketOpensADoorAndItsEndShutsIt(t *testing.T) {
	w := ticketWorld(t)
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.work()
	rec := w.record(requestOf("e1"))
	w.expectStatus(rec, access.Initiated, "")
	w.expectOpen(alice, 2)
	if r := rec.Request; !r.Requestor.Asserted || r.Requestor.ObjectID != "" || r.Ticket != "snow:CHG0001" || *r.Event != (access.Vouched{Ticket: change, Event: "e1"}) {
		t.Errorf("%+v", r)
	}
	// Again it is answered and does nothing.
	w.receive(w.asking("e1"), broker.TicketRepeated)
	if got := w.bus.TakeTickets(); len(got) != 0 {
		t.Errorf("a repeat asks for work: %v", got)
	}

	w.now = w.now.Add(10 * time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.work()
	w.expectStatus(rec, access.Revoked, access.TicketEnded)
	w.expectShut()
	events, err := w.store.EventsOf(t.Context(), string(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events {
		if e.Kind == access.EventRevoked && e.Detail["ticketEvent"] == "e2" && e.Detail["ticket"] == "snow:CHG0001" && e.Detail["ticketActor"] == "approver@contoso.com" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events say which event of the ticket ended it: %+v", told, events)
	}
	events, err = w.store.EventsOf(t.Context(), broker.TicketSubject(change))
	if err != nil || len(events) != 2 || events[0].Detail["done"] != "asks" || events[0].Detail["request"] != string(rec.ID) || events[1].Detail["done"] != "ends" || events[1].Detail["state"] != "Closed" {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestAnIDStandsForOneEvent(t *testing.T) {
	w := ticketWorld(t)
	w.receive(w.asking("e1"), broker.TicketAccepted)
	other := w.asking("e1")
	other.BodyHash = "another"
	_, err := w.tickets.Receive(t.Context(), other)
	wantReason(t, err, access.FailedPrecondition, "id_conflict")
	for _, spoil := range []func(*access.TicketEvent){
		func(e *access.TicketEvent) { e.ID = "" }, func(e *access.TicketEvent) { e.BodyHash = "" }, func(e *access.TicketEvent) { e.Ticket.Key = "" },
		func(e *access.TicketEvent) { e.Ticket.Source = "" }, func(e *access.TicketEvent) { e.ReceivedAt = time.Time{} },
	} {
		e := w.asking("e2")
		spoil(&e)
		_, err := w.tickets.Receive(t.Context(), e)
		wantReason(t, err, access.InvalidArgument, "ticket_event_invalid")
	}
}

// TestOfTwoUnderOneIDAtOnceOneCounts lets another body under the id be received
// and worked at every call of the receipt of the first.
func TestOfTwoUnderOneIDAtOnceOneCounts(t *testing.T) {
	for at := 1; at < 20; at++ {
		w := ticketWorld(t)
		mine, other := w.asking("e1"), w.asking("e1")
		other.BodyHash, other.Ask.Ports[0].Source = "another", mask(bob)
		came, start := false, w.faults.Calls()
		var errs []error
		w.faults.Before = func(n int) {
			if n == start+at && !came {
				came = true
				_, err := w.tickets.Receive(context.Background(), other)
				if errs = append(errs, err); err == nil {
					w.work()
				}
			}
		}
		_, err := w.tickets.Receive(t.Context(), mine)
		w.faults.Before = nil
		if errs = append(errs, err); !came {
			return
		}
		refused := 0
		for _, err := range errs {
			if access.ReasonOf(err) == "id_conflict" {
				refused++
			}
		}
		w.work()
		w.sweepAll()
		if rec := w.record(requestOf("e1")); refused != 1 || len(w.open(alice))+len(w.open(bob)) != 2 || (rec.Request.BodyHash == "another") != (len(w.open(bob)) == 2) {
			t.Errorf("at %d: %v; %s stands, %v and %v are open", at, errs, rec.Request.BodyHash, w.open(alice), w.open(bob))
		}
		if _, err := w.store.TicketWork(t.Context(), "e1"); access.CodeOf(err) != access.NotFound {
			t.Errorf("at %d: it is still pending: %v", at, err)
		}
	}
}

func TestAForgedPromptOnlyMakesItLook(t *testing.T) {
	w := ticketWorld(t)
	for _, id := range []string{"", "unknown", string(requestOf("e1"))} {
		if err := w.tickets.Work(t.Context(), id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.work()
	writes := w.azure.Writes
	if err := w.tickets.Work(t.Context(), "e1"); err != nil { // again
		t.Error(err)
	}
	w.deliver()
	if w.azure.Writes != writes {
		t.Error("a repeated prompt writes")
	}
}

func TestAnEventThatALaterOneHasOvertakenAsksForNothing(t *testing.T) {
	w := ticketWorld(t)
	early, late := w.asking("e1"), w.closing("e2")
	late.At = early.At.Add(time.Second)
	for _, e := range []access.TicketEvent{late, early} {
		w.receive(e, broker.TicketAccepted)
		w.work()
	}
	if _, _, err := w.store.Find(t.Context(), requestOf("e1")); access.CodeOf(err) != access.NotFound {
		t.Errorf("it was submitted: %v", err)
	}
	w.expectShut()
	events, err := w.store.EventsOf(t.Context(), broker.TicketSubject(change))
	if err != nil || len(events) != 2 || events[0].Detail["done"]+events[1].Detail["done"] != "endssuperseded" && events[0].Detail["done"]+events[1].Detail["done"] != "supersededends" {
		t.Errorf("%+v, %v", events, err)
	}
	w.receive(early, broker.TicketRepeated)
}

func TestAnAskThatEndsAtOnceOnlyEnds(t *testing.T) {
	w := ticketWorld(t)
	e := w.asking("e1")
	e.Ends = true
	w.receive(e, broker.TicketAccepted)
	w.work()
	if _, _, err := w.store.Find(t.Context(), requestOf("e1")); access.CodeOf(err) != access.NotFound {
		t.Errorf("it was submitted: %v", err)
	}
}

func TestARefusedAskIsRecordedAndOver(t *testing.T) {
	w := newWorld(t) // takes no ticket's word
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.work()
	if rec := w.record(requestOf("e1")); rec.Outcome != access.Refused || rec.Refusal.Reason != "asserted_requestor_refused" {
		t.Errorf("%+v", rec)
	}
	w.receive(w.asking("e1"), broker.TicketRepeated)
}

func TestOnlyWhatTheTicketVouchedForEnds(t *testing.T) {
	w := ticketWorld(t)
	other := w.asking("e0")
	other.Ticket.Key, other.Ask.Ports[0].Source = "CHG0002", mask(bob)
	for _, e := range []access.TicketEvent{other, w.asking("e1")} {
		w.receive(e, broker.TicketAccepted)
		w.work()
	}
	mine := w.request(ben, wants("1", alice, time.Hour)) // no ticket's, the same door
	w.deliver()
	w.now = w.now.Add(time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.work()
	w.expectStatus(w.record(requestOf("e1")), access.Revoked, access.TicketEnded)
	w.expectStatus(w.record(requestOf("e0")), access.Initiated, "")
	w.expectStatus(mine, access.Initiated, "")
}

// TestAnEndThatIsLateSparesWhatWasAllowedSince cuts the end of a ticket off once it
// is taken, opens the ticket again, and lets the end go on.
func TestAnEndThatIsLateSparesWhatWasAllowedSince(t *testing.T) {
	w := ticketWorld(t)
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.work()
	w.now = w.now.Add(time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.bus.TakeTickets() // lost
	if err := w.store.TakeTicketEvent(t.Context(), "e2"); err != nil {
		t.Fatal(err)
	}
	again := w.asking("e3")
	again.At, again.Ask.Ports[0].Source = w.now.Add(time.Second), mask(bob)
	w.receive(again, broker.TicketAccepted)
	w.work()
	w.sweepAll()
	w.expectStatus(w.record(requestOf("e1")), access.Revoked, access.TicketEnded)
	w.expectStatus(w.record(requestOf("e3")), access.Initiated, "")
}

func TestAScheduledAskIsEndedBeforeItsTime(t *testing.T) {
	w := ticketWorld(t)
	e := w.asking("e1")
	e.Ask.StartTime = w.now.Add(time.Hour)
	w.receive(e, broker.TicketAccepted)
	w.work()
	rec := w.record(requestOf("e1"))
	w.expectStatus(rec, access.Scheduled, "")
	w.now = w.now.Add(time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.work()
	w.now = w.now.Add(time.Hour)
	w.deliverStarts()
	w.expectShut()
	if w.azure.Writes != 0 {
		t.Errorf("%d writes", w.azure.Writes)
	}
}

// TestATicketThatCeasesToVouchEndsWhatItAllowed has a person ask under a policy that
// demands a ticket, and the ticket change.
func TestATicketThatCeasesToVouchEndsWhatItAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*access.TicketEvent)
		why    string
	}{
		"nothing changes":     {func(*access.TicketEvent) {}, ""},
		"its window grows":    {func(e *access.TicketEvent) { e.WindowEnd = e.WindowEnd.Add(time.Hour) }, ""},
		"it is another's":     {func(e *access.TicketEvent) { e.Assignee = "ben@contoso.com" }, "ticket_not_assigned"},
		"it is nobody's":      {func(e *access.TicketEvent) { e.Assignee = "" }, "ticket_not_assigned"},
		"it leaves its state": {func(e *access.TicketEvent) { e.State = "Review" }, "ticket_state"},
		"its window is cut":   {func(e *access.TicketEvent) { e.WindowEnd = e.WindowEnd.Add(-90 * time.Minute) }, "ticket_outside_window"},
		"somebody sets it who may not": {func(e *access.TicketEvent) {
			e.Actor, e.WindowEnd = "eve@contoso.com", e.WindowEnd.Add(time.Minute)
		}, "ticket_not_authorised"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store.Policies[0].Ticket = &policy.TicketDemand{
				Sources: []string{"snow"}, States: []string{"Implement"}, AssignedToRequestor: true, InsideWindow: true, MaxEventAge: time.Hour, SetBy: []string{"approver@contoso.com"},
			}
			said := w.said("e1", "Implement")
			said.WindowStart, said.WindowEnd = w.now.Add(-time.Hour), w.now.Add(2*time.Hour)
			w.receive(said, broker.TicketAccepted)
			w.work()
			asked := wants("1", alice, time.Hour)
			asked.Ticket = "CHG0001"
			rec := w.request(anna, asked)
			w.deliver()
			w.expectStatus(rec, access.Initiated, "")

			w.now = w.now.Add(time.Minute)
			later := said
			later.ID, later.At, later.ReceivedAt, later.BodyHash = "e2", w.now, w.now, "h2"
			c.change(&later)
			w.receive(later, broker.TicketAccepted)
			w.work()
			if c.why == "" {
				w.expectStatus(rec, access.Initiated, "")
				return
			}
			w.expectStatus(rec, access.Revoked, access.TicketEnded)
			w.expectShut()
			events, err := w.store.EventsOf(t.Context(), string(rec.ID))
			if err != nil || !slices.ContainsFunc(events, func(e access.Event) bool { return e.Kind == access.EventRevoked && e.Detail["grant.0"] == c.why }) {
				t.Errorf("%+v, %v", events, err)
			}
		})
	}
}

// TestTheEndOfATicketWaitsForNoPolicy takes the policies away.
func TestTheEndOfATicketWaitsForNoPolicy(t *testing.T) {
	w := ticketWorld(t)
	w.receive(w.asking("e1"), broker.TicketAccepted)
	w.work()
	w.store.Policies = nil
	w.now = w.now.Add(time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.work()
	w.expectStatus(w.record(requestOf("e1")), access.Revoked, access.TicketEnded)
	w.expectShut()
}
