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

var chg1 = access.TicketID{Source: "itsm", Key: "CHG1"}

// demanding is a world whose policy demands a ticket, with one that is Anna's.
func demanding(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.store.Policies[0].Ports = slices.Clone(w.store.Policies[0].Ports)
	w.store.Policies[0].Ticket = &policy.TicketDemand{
		Sources: []string{"itsm", "jira"}, States: []string{"Approved"}, AssignedToRequestor: true, MaxEventAge: 10 * time.Minute, NotByRequestor: true,
	}
	w.ticket(func(k *access.Ticket) {
		k.TicketFacts, k.SetBy = access.TicketFacts{State: "Approved", Assignee: anna.Name}, "boss@contoso.com"
	})
	return w
}

// ticket changes the ticket by an event of now.
func (w *world) ticket(change func(*access.Ticket)) {
	w.t.Helper()
	ctx := context.Background()
	k, err := w.store.Ticket(ctx, chg1)
	if err != nil && access.CodeOf(err) != access.NotFound {
		w.t.Fatal(err)
	}
	k.ID, k.Event, k.EventAt = chg1, k.Event+"e", w.now
	change(&k)
	if err := w.store.SaveTicket(ctx, k); err != nil {
		w.t.Fatal(err)
	}
}

func withTicket(ask broker.Ask) broker.Ask {
	ask.Ticket = chg1.Key
	return ask
}

func ends(w *world)    { w.ticket(func(k *access.Ticket) { k.Ended = true }) }
func changes(w *world) { w.ticket(func(k *access.Ticket) { k.State = "Review" }) }

func TestAGrantNamesTheEventThatVouched(t *testing.T) {
	w := demanding(t)
	rec := w.request(anna, withTicket(wants("1", alice, time.Hour)))
	if g := rec.Grants[0].Ticket; g == nil || *g != (access.Vouched{Ticket: chg1, Event: "e"}) {
		t.Errorf("%+v", g)
	}
	w.deliver()
	w.expectOpen(alice, 2)
	_, err := w.desk.Request(t.Context(), ben, withTicket(wants("2", bob, time.Hour)))
	wantReason(t, err, access.PermissionDenied, "ticket_not_assigned")
	_, err = w.desk.Request(t.Context(), anna, wants("3", alice, time.Hour))
	wantReason(t, err, access.PermissionDenied, "ticket_required")
	w.now = w.now.Add(11 * time.Minute)
	_, err = w.desk.Request(t.Context(), anna, withTicket(wants("4", alice, time.Hour)))
	wantReason(t, err, access.PermissionDenied, "ticket_stale")
}

func TestBeforeTheFirstOpenTheTicketIsLookedAtAgain(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*world)
		status access.Status
		reason access.StatusReason
	}{
		"nothing was heard since":       {func(*world) {}, access.Initiated, ""},
		"an event that changes nothing": {func(w *world) { w.ticket(func(*access.Ticket) {}) }, access.Initiated, ""},
		// It was fresh when the request was decided.
		"its event has aged":    {func(w *world) { w.now = w.now.Add(14 * time.Minute) }, access.Initiated, ""},
		"another of its key":    {func(w *world) { w.another() }, access.Initiated, ""},
		"it has ended":          {ends, access.Failed, access.TicketEnded},
		"it left its state":     {changes, access.Failed, access.TicketEnded},
		"it is somebody else's": {func(w *world) { w.ticket(func(k *access.Ticket) { k.Assignee = ben.Name }) }, access.Failed, access.TicketEnded},
		"she approved it":       {func(w *world) { w.ticket(func(k *access.Ticket) { k.SetBy = anna.Name }) }, access.Failed, access.TicketEnded},
		"the policy takes other sources": {func(w *world) {
			w.store.Policies[0].Ticket = &policy.TicketDemand{Sources: []string{"jira"}, States: []string{"Approved"}, MaxEventAge: time.Hour}
		}, access.Failed, access.PolicyChanged},
		"it has ended, and the policy is gone": {func(w *world) { ends(w); w.store.Policies = nil }, access.Failed, access.PolicyChanged},
		"the policy demands none any more":     {func(w *world) { ends(w); w.store.Policies[0].Ticket = nil }, access.Initiated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := demanding(t)
			rec := w.request(anna, withTicket(wants("1", alice, time.Hour)))
			c.spoil(w)
			w.deliver()
			w.expectStatus(rec, c.status, c.reason)
			if c.reason != "" {
				w.expectShut()
				if s := w.status(rec); s.BlockedBy == "" {
					t.Error("nothing says why")
				}
			}
		})
	}
}

// another gives another source a ticket of the same key.
func (w *world) another() {
	w.t.Helper()
	if err := w.store.SaveTicket(context.Background(), access.Ticket{ID: access.TicketID{Source: "jira", Key: chg1.Key}, Event: "x", EventAt: w.now}); err != nil {
		w.t.Fatal(err)
	}
}

// TestATicketThatEndsWhileItsRequestIsInFlight ends it before every call of the
// request: nothing opens by it, whoever looks.
func TestATicketThatEndsWhileItsRequestIsInFlight(t *testing.T) {
	for at := 1; ; at++ {
		w := demanding(t)
		w.faults.Reset()
		ended := false
		w.faults.Before = func(n int) {
			if n == at && !ended {
				ended = true
				w.faults.Before = nil
				ends(w)
			}
		}
		_, err := w.desk.Request(t.Context(), anna, withTicket(wants("1", alice, time.Hour)))
		w.faults.Before = nil
		if !ended {
			if at < 10 {
				t.Fatalf("only %d calls", at)
			}
			return
		}
		if err != nil && access.ReasonOf(err) != "ticket_ended" {
			t.Fatalf("at %d: %v", at, err)
		}
		w.deliver()
		if len(w.open(alice)) != 0 {
			t.Fatalf("at %d: a door is open by a ticket that has ended", at)
		}
		w.expectShut()
	}
}

type noTickets struct{ broker.Tickets }

func (noTickets) Ticket(context.Context, access.TicketID) (access.Ticket, error) {
	return access.Ticket{}, access.Errorf(access.Unavailable, "tables_unavailable", "not now")
}

func TestAnUnreadableTicketOpensNothingAndNothingIsLost(t *testing.T) {
	w := demanding(t)
	rec := w.request(anna, withTicket(wants("1", alice, time.Hour)))
	ports := w.reconciler.ReconcilePorts
	ports.Tickets = noTickets{}
	blinded, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.bus.Take(w.now) {
		if err := blinded.Reconcile(t.Context(), p.NSG, p.At); err != nil {
			t.Fatal(err)
		}
	}
	w.expectStatus(rec, access.Initiating, "")
	if s := w.status(rec); !contains(s.BlockedBy, "ticket") {
		t.Errorf("%+v", s)
	}
	w.expectShut()
	w.now = w.now.Add(time.Minute)
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")

	submit := w.submitter.SubmitPorts
	submit.Tickets = noTickets{}
	s, err := broker.NewSubmitter(submit, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	req := ask("u", bob, time.Hour)
	req.Ticket = chg1.Key
	if _, err := s.Submit(t.Context(), req); access.CodeOf(err) != access.Unavailable {
		t.Errorf("%v", err)
	}
	if _, _, err := w.store.Find(t.Context(), access.NewRequestID(req.RequestedBy, "u")); access.CodeOf(err) != access.NotFound {
		t.Errorf("it was decided without its ticket: %v", err)
	}
}

func TestAtTheStartTheTicketIsJudgedAsOfThen(t *testing.T) {
	fresh := func(w *world) { w.ticket(func(*access.Ticket) {}) }
	for name, c := range map[string]struct {
		then   func(*world)
		status access.Status
		reason access.StatusReason
	}{
		"heard of lately":       {fresh, access.Initiated, ""},
		"not heard of for long": {func(*world) {}, access.Failed, access.TicketEnded},
		"ended":                 {ends, access.Failed, access.TicketEnded},
		"in another state":      {changes, access.Failed, access.TicketEnded},
		"another of its key":    {func(w *world) { fresh(w); w.another() }, access.Initiated, ""},
		"the policy is gone":    {func(w *world) { fresh(w); w.store.Policies = nil }, access.Failed, access.PolicyChanged},
	} {
		t.Run(name, func(t *testing.T) {
			w := demanding(t)
			rec := w.request(anna, withTicket(w.later("1", time.Hour, time.Hour)))
			w.now = w.now.Add(time.Hour)
			c.then(w)
			w.deliverStarts()
			w.expectStatus(rec, c.status, c.reason)
			if c.status == access.Failed {
				w.expectShut()
				return
			}
			now, err := w.viewer.View(t.Context(), rec.ID)
			if err != nil || now.Record.Grants[0].Ticket == nil || now.Record.Grants[0].Ticket.Event != "ee" {
				t.Errorf("vouched by %+v, %v", now.Record.Grants[0].Ticket, err)
			}
		})
	}
	t.Run("opened late after the start", func(t *testing.T) {
		w := demanding(t)
		rec := w.request(anna, withTicket(w.later("1", time.Hour, time.Hour)))
		w.now = w.now.Add(time.Hour)
		fresh(w)
		for _, p := range w.bus.TakeStarts(w.now) {
			if err := w.submitter.Start(t.Context(), p.Request, p.At); err != nil {
				t.Fatal(err)
			}
		}
		w.now = w.now.Add(14 * time.Minute)
		w.deliver()
		w.expectStatus(rec, access.Initiated, "")
	})
}

func TestAChangedPolicyNamesWhatNoTicketVouchesFor(t *testing.T) {
	w := demanding(t)
	with := *w.store.Policies[0].Ticket
	w.store.Policies[0].Ticket = nil
	one := w.request(anna, withTicket(wants("1", alice, time.Hour)))
	two := w.request(ben, wants("2", bob, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	w.expectOpen(bob, 2)
	p := w.store.Policies[0]
	p.Ticket = &with
	d := w.policyDesk()
	c := w.put(d, p, broker.ChangeOptions{Version: p.Version, Plan: true})
	if len(c.NotAllowed) != 1 || c.NotAllowed[0].Request != two.ID || c.NotAllowed[0].Violations[0].Reason != "ticket_required" {
		t.Fatalf("%+v", c.NotAllowed)
	}
	w.put(d, p, broker.ChangeOptions{Version: p.Version, CloseGrants: true})
	w.expectStatus(one, access.Initiated, "")
	w.expectStatus(two, access.Revoked, access.PolicyChanged)
	w.expectOpen(bob, 0)
}

func TestWhatATicketAskedForIsCheckedAgainstIt(t *testing.T) {
	for ended, want := range map[bool]access.Status{false: access.Initiated, true: access.Failed} {
		w := newWorld(t)
		w.ticket(func(*access.Ticket) {})
		w.store.Policies[0].AssertedRequestorsFrom = []access.Channel{"ticket:itsm"}
		req := ask("1", alice, time.Hour)
		req.RequestedBy, req.Ticket, req.Event = access.Sender{Channel: access.ChannelTicket, Principal: "itsm"}, chg1.String(), &access.Vouched{Ticket: chg1, Event: "e"}
		rec := w.submit(req)
		if g := rec.Grants[0].Ticket; g == nil || g.Event != "e" {
			t.Errorf("%+v", g)
		}
		if ended {
			ends(w)
		}
		w.deliver()
		w.expectStatus(rec, want, map[bool]access.StatusReason{true: access.TicketEnded}[ended])
	}
}
