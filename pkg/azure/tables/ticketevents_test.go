package tables_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var plain = cmpopts.EquateComparable(netip.Prefix{})

func ticketEvent(id string) access.TicketEvent {
	return access.TicketEvent{
		ID: id, Ticket: access.TicketID{Source: "snow", Key: "CHG/1 #?%"}, At: at, ReceivedAt: at.Add(time.Second), BodyHash: "h-" + id,
		TicketFacts: access.TicketFacts{State: "Implement", Assignee: "anna@contoso.com"}, Actor: "ben",
		Ask: &access.TicketAsk{Requestor: "anna@contoso.com", Ports: []access.PortRequest{{VM: vm, Port: 22, Duration: time.Hour}}},
	}
}

func TestATicketsEventIsKeptOnceAndPendingUntilItIsFinished(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	e := ticketEvent("te-1")
	for range 2 {
		got, pending, err := w.KeepTicketEvent(ctx, e)
		check(t, err)
		if diff := cmp.Diff(e, got, plain); diff != "" || !pending {
			t.Errorf("pending %v: %s", pending, diff)
		}
	}
	other := e
	other.BodyHash = "another"
	if got, _, err := w.KeepTicketEvent(ctx, other); err != nil || got.BodyHash != e.BodyHash {
		t.Errorf("another took its place: %+v, %v", got, err)
	}
	for range 2 {
		check(t, w.TakeTicketEvent(ctx, "te-1"))
	}
	work, err := w.TicketWork(ctx, "te-1")
	check(t, err)
	if diff := cmp.Diff(broker.TicketWork{Event: e, Taken: true}, work, plain); diff != "" {
		t.Error(diff)
	}
	for before, want := range map[time.Time]int{e.ReceivedAt: 0, e.ReceivedAt.Add(time.Millisecond): 1} {
		if list, err := w.PendingTicketEvents(ctx, before); err != nil || len(list) != want {
			t.Errorf("before %v: %d, %v", before, len(list), err)
		}
	}
	for range 2 {
		check(t, w.FinishTicketEvent(ctx, "te-1"))
		check(t, w.TakeTicketEvent(ctx, "te-1")) // brings nothing back
	}
	_, err = w.TicketWork(ctx, "te-1")
	wantCode(t, err, access.NotFound, "row_missing")
	if got, pending, err := w.KeepTicketEvent(ctx, e); err != nil || pending || got.BodyHash != e.BodyHash {
		t.Errorf("finished: pending %v, %v", pending, err)
	}
	if got, err := w.TicketEvent(ctx, "te-1"); err != nil || cmp.Diff(e, got, plain) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(e, got, plain))
	}
	_, err = w.TicketEvent(ctx, "te-2")
	wantCode(t, err, access.NotFound, "row_missing")
}

// TestANoteWithoutItsEventIsCompleted loses the connection between the two writes.
func TestANoteWithoutItsEventIsCompleted(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	stop := w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tickets") {
			refuse(rw, http.StatusServiceUnavailable, "ServerBusy")
			return true
		}
		return false
	})
	first := ticketEvent("te-1")
	if _, _, err := w.KeepTicketEvent(ctx, first); access.CodeOf(err) != access.Unavailable {
		t.Fatalf("%v", err)
	}
	stop()
	if list, err := w.PendingTicketEvents(ctx, at.Add(time.Hour)); err != nil || len(list) != 1 {
		t.Fatalf("%d, %v", len(list), err)
	}
	// Whoever noted first has said what it is.
	later := first
	later.ReceivedAt, later.BodyHash = first.ReceivedAt.Add(time.Minute), "another"
	if got, pending, err := w.KeepTicketEvent(ctx, later); err != nil || !pending || cmp.Diff(first, got, plain) != "" {
		t.Errorf("pending %v, %v: %s", pending, err, cmp.Diff(first, got, plain))
	}
	if got, err := w.TicketEvent(ctx, "te-1"); err != nil || cmp.Diff(first, got, plain) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(first, got, plain))
	}
}

func TestAPendingEventThatCannotBeReadDoesNotKeepTheOthersBack(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	for _, id := range []string{"te-1", "te-2"} {
		_, _, err := w.KeepTicketEvent(ctx, ticketEvent(id))
		check(t, err)
	}
	pending := w.service.NewClient("pending")
	_, err := pending.UpsertEntity(ctx, []byte(`{"PartitionKey":"tickets","RowKey":"x","Doc0":"{","ReceivedAt":"2026-01-01T00:00:00Z","ReceivedAt@odata.type":"Edm.DateTime"}`), nil)
	check(t, err)
	list, err := w.PendingTicketEvents(ctx, at.Add(time.Hour))
	if len(list) != 2 || access.ReasonOf(err) != "record_unreadable" {
		t.Errorf("%d, %v", len(list), err)
	}
}

func TestRequestsAreFoundByTheTicketThatVouched(t *testing.T) {
	w, ctx := newWorld(t, 3), t.Context()
	mine, other := access.TicketID{Source: "snow", Key: "CHG/1"}, access.TicketID{Source: "jira", Key: "CHG/1"}
	for i, tickets := range [][]access.TicketID{{mine}, {other}, nil, {other, mine}} {
		e := entry(i, "anna@contoso.com", time.Duration(i)*time.Hour)
		e.Tickets = tickets
		for range 2 {
			check(t, w.Enter(ctx, e))
		}
	}
	for id, want := range map[access.TicketID][]access.RequestID{
		mine: {request(3), request(0)}, other: {request(3), request(1)}, {Source: "snow", Key: "CHG"}: nil,
	} {
		if diff := cmp.Diff(want, walk(t, w, broker.IndexQuery{Ticket: id, Most: 1})); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	if got := walk(t, w, broker.IndexQuery{Ticket: mine, From: at.Add(time.Minute), Most: 10}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}
