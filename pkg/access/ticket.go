package access

import (
	"strings"
	"time"
)

// TicketID names a ticket: the source that vouches for it, and its key there.
type TicketID struct {
	Source string `json:"source"`
	Key    string `json:"key"`
}

// String gives "source:key", which ParseTicket reads back.
func (id TicketID) String() string { return id.Source + ":" + id.Key }

// Zero says whether it names no ticket.
func (id TicketID) Zero() bool { return id == TicketID{} }

// ParseTicket reads a request's ticket: "source:key", or a key alone, which may
// be that of any source. A key that itself has a colon is written with its source.
func ParseTicket(s string) TicketID {
	s = strings.TrimSpace(s)
	if source, key, ok := strings.Cut(s, ":"); ok {
		return TicketID{Source: source, Key: strings.TrimSpace(key)}
	}
	return TicketID{Key: s}
}

// TicketEvent is one verified word of a source about one of its tickets.
type TicketEvent struct {
	// ID is the same for every delivery of the same event.
	ID     string   `json:"id"`
	Ticket TicketID `json:"ticket"`
	// At is when it happened, as the verified payload or its signed timestamp says;
	// when it was received, where neither does.
	At         time.Time `json:"at"`
	ReceivedAt time.Time `json:"receivedAt"`
	BodyHash   string    `json:"bodyHash"`

	TicketFacts
	// Actor is who caused the event; "" where the source does not say.
	Actor string `json:"actor,omitempty"`
	// Ends asks that whatever the ticket vouched for be revoked.
	Ends bool `json:"ends,omitempty"`
	// Ask is the access that it asks for; nil for none.
	Ask *TicketAsk `json:"ask,omitempty"`
}

// TicketFacts are what a ticket vouches by.
type TicketFacts struct {
	State string `json:"state,omitempty"`
	// Assignee is who works on it, by the name that requestors go by.
	Assignee string `json:"assignee,omitempty"`
	// WindowStart and WindowEnd are the change window; zero for none.
	WindowStart time.Time `json:"windowStart,omitzero"`
	WindowEnd   time.Time `json:"windowEnd,omitzero"`
}

func (f TicketFacts) same(g TicketFacts) bool {
	return f.State == g.State && f.Assignee == g.Assignee && f.WindowStart.Equal(g.WindowStart) && f.WindowEnd.Equal(g.WindowEnd)
}

// TicketAsk is an access request that a ticket makes.
type TicketAsk struct {
	Requestor     string        `json:"requestor"`
	Justification string        `json:"justification,omitempty"`
	Ports         []PortRequest `json:"ports"`
	StartTime     time.Time     `json:"startTimeUtc,omitzero"`
}

// Ticket is what is known of a ticket by the last verified event.
type Ticket struct {
	ID TicketID `json:"id"`
	TicketFacts
	// SetBy is who last changed any of the facts, as the event said that did it; ""
	// where it did not say.
	SetBy string `json:"setBy,omitempty"`
	// Ended says that the last event asked for all that it vouched for to be revoked.
	Ended bool `json:"ended,omitempty"`
	// EndedAt is when the last of its events happened that asked for that; zero for
	// none. What was asked for or allowed by then stays over, though the ticket be
	// opened again.
	EndedAt time.Time `json:"endedAt,omitzero"`
	// Event is the id of the last event, EventAt when that happened.
	Event   string    `json:"event"`
	EventAt time.Time `json:"eventAt"`

	// ETag is the store's mark of the version that was read; not part of it.
	ETag string `json:"-"`
}

// After gives the ticket as it is after the event, and whether the event is news:
// one that happened before the last, or is the last, changes nothing. Of two at
// the same time the one that ends counts, and else the one that came later.
func (t Ticket) After(e TicketEvent) (Ticket, bool) {
	if t.Event == e.ID || e.At.Before(t.EventAt) || e.At.Equal(t.EventAt) && t.Ended && !e.Ends {
		return t, false
	}
	if t.Event == "" || !t.same(e.TicketFacts) {
		t.SetBy = e.Actor
	}
	t.ID, t.TicketFacts, t.Ended, t.Event, t.EventAt = e.Ticket, e.TicketFacts, e.Ends, e.ID, e.At
	if e.Ends {
		t.EndedAt = e.At
	}
	return t, true
}

// Vouched names the ticket, and the event of it, by which something was allowed.
type Vouched struct {
	Ticket TicketID `json:"ticket"`
	Event  string   `json:"event"`
}
