package tables_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestATicketIsWrittenUnderItsVersion(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	id := access.TicketID{Source: "itsm", Key: "a/b#? é:c"} // a key need not be one of Table Storage
	_, err := w.Ticket(ctx, id)
	wantCode(t, err, access.NotFound, "ticket_unknown")
	first := access.Ticket{
		ID: id, SetBy: "boss", Event: "1", EventAt: at,
		TicketFacts: access.TicketFacts{State: "Approved", Assignee: "alice", WindowStart: at, WindowEnd: at.Add(time.Hour)},
	}
	check(t, w.SaveTicket(ctx, first))
	wantCode(t, w.SaveTicket(ctx, first), access.Aborted, "row_changed")
	read, err := w.Ticket(ctx, id)
	check(t, err)
	stale := read
	if read.ETag == "" {
		t.Error("no version")
	}
	read.ETag = ""
	if !reflect.DeepEqual(read, first) {
		t.Errorf("%+v, want %+v", read, first)
	}
	next := stale
	next.Ended, next.Event = true, "2"
	check(t, w.SaveTicket(ctx, next))
	wantCode(t, w.SaveTicket(ctx, stale), access.Aborted, "row_changed")
	if read, err = w.Ticket(ctx, id); err != nil || !read.Ended || read.Event != "2" {
		t.Errorf("%+v, %v", read, err)
	}
	for _, other := range []access.TicketID{{Source: "jira", Key: id.Key}, {Source: id.Source, Key: "A/B#? É:C"}, {Key: id.String()}} {
		if _, err := w.Ticket(ctx, other); access.ReasonOf(err) != "ticket_unknown" && access.ReasonOf(err) != "record_unreadable" {
			t.Errorf("%v: %v", other, err)
		}
	}
	// One that is gone was changed by somebody.
	gone := next
	gone.ID.Key, gone.ETag = "gone", `W/"datetime'2026-11-24T09%3A00%3A00.0000000Z'"`
	wantCode(t, w.SaveTicket(ctx, gone), access.Aborted, "row_changed")
}

func TestATicketThatCannotBeReadIsNotUnknown(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	id := access.TicketID{Source: "itsm", Key: "1"}
	check(t, w.SaveTicket(ctx, access.Ticket{ID: id, Event: "1", EventAt: at}))
	for _, c := range []struct {
		status int
		code   string
		reason string
	}{{503, "ServerBusy", "tables_unavailable"}, {404, "TableNotFound", "table_missing"}, {403, "AuthorizationFailure", "azure_permission"}} {
		stop := w.intercept(func(rw http.ResponseWriter, _ *http.Request) bool { refuse(rw, c.status, c.code); return true })
		_, err := w.Ticket(ctx, id)
		stop()
		wantCode(t, err, access.Unavailable, c.reason)
	}
}
