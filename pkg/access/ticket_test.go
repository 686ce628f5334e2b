package access_test

import (
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestATicketIsWhatItsLatestEventSays(t *testing.T) {
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	e := func(id string, after time.Duration, state, assignee, actor string, ends bool) access.TicketEvent {
		return access.TicketEvent{
			ID: id, Ticket: access.TicketID{Source: "itsm", Key: "CHG1"}, At: at.Add(after), Actor: actor, Ends: ends,
			TicketFacts: access.TicketFacts{State: state, Assignee: assignee},
		}
	}
	var known access.Ticket
	for _, step := range []struct {
		name              string
		event             access.TicketEvent
		news              bool
		state, by, latest string
		ended             bool
	}{
		{"the first", e("1", 0, "New", "alice", "alice", false), true, "New", "alice", "1", false},
		{"an approval", e("2", 2, "Approved", "alice", "boss", false), true, "Approved", "boss", "2", false},
		{"the same again", e("2", 2, "Approved", "alice", "boss", false), false, "Approved", "boss", "2", false},
		{"one that comes late", e("1b", 1, "Rejected", "alice", "boss", true), false, "Approved", "boss", "2", false},
		{"a comment by another changes no fact", e("3", 3, "Approved", "alice", "mallory", false), true, "Approved", "boss", "3", false},
		{"a new assignee is vouched for by who set them", e("4", 4, "Approved", "mallory", "mallory", false), true, "Approved", "mallory", "4", false},
		{"the end", e("5", 5, "Closed", "mallory", "boss", true), true, "Closed", "boss", "5", true},
		{"at the same time the end counts", e("6", 5, "Approved", "alice", "boss", false), false, "Closed", "boss", "5", true},
		{"reopened", e("7", 6, "Approved", "alice", "boss", false), true, "Approved", "boss", "7", false},
		{"of two at one time the later counts", e("8", 6, "Approved", "bob", "boss2", false), true, "Approved", "boss2", "8", false},
		{"but for an end", e("9", 6, "Closed", "bob", "boss", true), true, "Closed", "boss", "9", true},
	} {
		next, news := known.After(step.event)
		known = next
		if news != step.news || known.State != step.state || known.SetBy != step.by || known.Event != step.latest || known.Ended != step.ended {
			t.Errorf("%s: news %v, %+v", step.name, news, known)
		}
		if !known.EndedAt.IsZero() != (step.latest >= "5") || step.latest >= "5" && step.latest < "9" && !known.EndedAt.Equal(at.Add(5)) {
			t.Errorf("%s: it was ended at %s", step.name, known.EndedAt)
		}
	}
}

func TestTicketsAreReadBack(t *testing.T) {
	for text, want := range map[string]access.TicketID{
		"CHG1": {Key: "CHG1"}, "itsm:CHG1": {Source: "itsm", Key: "CHG1"}, " itsm: a:b ": {Source: "itsm", Key: "a:b"}, "": {},
	} {
		if got := access.ParseTicket(text); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
	id := access.TicketID{Source: "itsm", Key: "a:b"}
	if access.ParseTicket(id.String()) != id {
		t.Errorf("%v does not come back", id)
	}
}
