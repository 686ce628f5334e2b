package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// TicketPorts are what TicketDesk needs.
type TicketPorts struct {
	Tickets Tickets
	Kept    TicketEvents
	Works   TicketWorks
	Prompts TicketPrompts
	Events  Events
	// Desk decides what a ticket asks for, and ends what it vouched for.
	Desk *Desk
	Log  *slog.Logger
}

// TicketDesk takes the verified events of tickets and does what they ask.
type TicketDesk struct{ TicketPorts }

// NewTicketDesk makes a TicketDesk; every port is required.
func NewTicketDesk(p TicketPorts) (*TicketDesk, error) {
	if p.Tickets == nil || p.Kept == nil || p.Works == nil || p.Prompts == nil || p.Events == nil || p.Desk == nil || p.Log == nil {
		return nil, errors.New("broker: a port of the ticket desk is missing")
	}
	return &TicketDesk{p}, nil
}

// Receipt says what became of a ticket's event when it was received.
type Receipt string

// The receipts.
const (
	TicketAccepted Receipt = "accepted" // it is recorded, and will be worked
	TicketRepeated Receipt = "repeated" // it was worked before; nothing is done again
)

// maxTicketEventID bounds the id of an event, in bytes.
const maxTicketEventID = 512

// Receive records the event and asks for its work. Once it has returned without
// an error the event is not lost, whatever comes. The same event again, by its id
// and body, is no error and does nothing twice.
//
// Errors: failed_precondition, id_conflict, where another event stands under the
// id; invalid_argument, ticket_event_invalid; and those that may pass by.
func (d *TicketDesk) Receive(ctx context.Context, e access.TicketEvent) (Receipt, error) {
	if e.ID == "" || len(e.ID) > maxTicketEventID || e.BodyHash == "" || e.Ticket.Source == "" || e.Ticket.Key == "" || e.ReceivedAt.IsZero() {
		return "", access.Errorf(access.InvalidArgument, "ticket_event_invalid", "the event lacks its id, its ticket, its time or its content")
	}
	if e.At.IsZero() {
		e.At = e.ReceivedAt
	}
	stored, pending, err := d.Kept.KeepTicketEvent(ctx, e)
	switch {
	case err != nil:
		return "", err
	case stored.BodyHash != e.BodyHash || stored.Ticket.Source != e.Ticket.Source:
		return "", access.Errorf(access.FailedPrecondition, "id_conflict", "an event of other content came under this id before")
	case !pending:
		return TicketRepeated, nil
	}
	if err := d.Prompts.PromptTicket(ctx, e.ID); err != nil {
		// It is noted as pending: Sweep works it within two minutes.
		d.Log.WarnContext(ctx, "the work of a ticket's event is left to Sweep", "event", e.ID, "ticket", e.Ticket, "error", err)
	}
	return TicketAccepted, nil
}

// Work does what a pending event asks: it writes down what is known of the ticket
// now, ends what the ticket vouches for no more, and submits the access request
// that it makes. An event that is not news when it is first worked, because a
// later one was, asks for nothing.
//
// An id that is not pending is none of its business and no error, so it may be
// asked for by anybody at any time. It may be cut off anywhere and be repeated;
// every error is worth trying again.
func (d *TicketDesk) Work(ctx context.Context, id string) error {
	w, err := d.Works.TicketWork(ctx, id)
	if access.CodeOf(err) == access.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	// It may have been cut off before it was kept.
	stored, _, err := d.Kept.KeepTicketEvent(ctx, w.Event)
	if err != nil {
		return err
	}
	if stored.BodyHash != w.Event.BodyHash {
		// Two came under one id at once. Its sender was told: id_conflict.
		return d.Works.FinishTicketEvent(ctx, id)
	}
	t, taken, err := d.apply(ctx, w)
	if err != nil {
		return err
	}
	if err := d.Events.Append(ctx, []access.Event{ticketEvent(w.Event, taken && !endedSince(w.Event, t))}); err != nil {
		return err
	}
	if taken {
		if err := d.follow(ctx, w.Event, t); err != nil {
			return err
		}
	}
	return d.Works.FinishTicketEvent(ctx, id)
}

// apply brings what is known of the ticket up to the event, and gives what is known
// then and whether the event is taken. That it is taken is noted first: a
// cut-off event that another has overtaken since is as one that was applied just
// before that.
func (d *TicketDesk) apply(ctx context.Context, w TicketWork) (access.Ticket, bool, error) {
	var last error
	for range maxRounds {
		t, err := d.Tickets.Ticket(ctx, w.Event.Ticket)
		if err != nil && access.CodeOf(err) != access.NotFound {
			return t, false, err
		}
		after, news := t.After(w.Event)
		if !news {
			return t, w.Taken || t.Event == w.Event.ID, nil
		}
		if !w.Taken {
			if err := d.Works.TakeTicketEvent(ctx, w.Event.ID); err != nil {
				return t, false, err
			}
			w.Taken = true
		}
		if last = d.Tickets.SaveTicket(ctx, after); access.CodeOf(last) != access.Aborted {
			return after, true, last
		}
	}
	return access.Ticket{}, false, last
}

// follow does what the ticket, as it is known now, and the event ask. What is to
// end comes first.
func (d *TicketDesk) follow(ctx context.Context, e access.TicketEvent, t access.Ticket) error {
	if err := d.endUnvouched(ctx, e, t); err != nil || !asks(e) || endedSince(e, t) {
		return err
	}
	if _, err := d.Desk.Submitter.Submit(ctx, request(e)); retryable(err) {
		return err // a refusal is recorded, and final
	}
	// A later event may have been worked since the ticket was read, and have looked
	// for what it vouches for before the request was there to be found.
	now, err := d.Tickets.Ticket(ctx, e.Ticket)
	if err != nil || now.Event == t.Event {
		return err
	}
	return d.endUnvouched(ctx, e, now)
}

// endedSince says whether the ticket was ended after an event that does not end it,
// be it open again or not.
func endedSince(e access.TicketEvent, t access.Ticket) bool {
	return !e.Ends && (t.Ended || !t.EndedAt.IsZero() && !e.At.After(t.EndedAt))
}

// asks says whether the event makes an access request. One that ends at once what
// it asks for asks for nothing.
func asks(e access.TicketEvent) bool { return e.Ask != nil && !e.Ends }

// request is the access request that an event makes. The requestor is who the
// source's mapping says; no token vouches for them.
func request(e access.TicketEvent) access.Request {
	return access.Request{
		ClientID: e.ID, Requestor: access.Requestor{Name: e.Ask.Requestor, Asserted: true}, RequestedBy: ticketSender(e),
		Justification: e.Ask.Justification, Ticket: e.Ticket.String(), Event: &access.Vouched{Ticket: e.Ticket, Event: e.ID},
		Ports: e.Ask.Ports, StartTime: e.Ask.StartTime, BodyHash: e.BodyHash,
	}
}

func ticketSender(e access.TicketEvent) access.Sender {
	return access.Sender{Channel: access.ChannelTicket, Principal: e.Ticket.Source, Name: e.Ticket.String()}
}

// TicketSubject is the subject of a ticket's events.
func TicketSubject(id access.TicketID) string { return "ticket/" + id.Source + "/" + id.Key }

// ticketEvent records what was heard of a ticket and what was made of it.
func ticketEvent(e access.TicketEvent, taken bool) access.Event {
	out := access.Event{
		Subject: TicketSubject(e.Ticket), Kind: access.EventTicket, At: e.ReceivedAt.UTC(), Actor: "source/" + e.Ticket.Source, Key: e.ID,
		Detail: map[string]string{"event": e.ID, "happenedAt": e.At.UTC().Format(time.RFC3339Nano), "bodyHash": e.BodyHash, "done": done(e, taken)},
	}
	for name, value := range map[string]string{"state": e.State, "assignee": e.Assignee, "actor": e.Actor} {
		if value != "" {
			out.Detail[name] = value
		}
	}
	for name, at := range map[string]time.Time{"windowStart": e.WindowStart, "windowEnd": e.WindowEnd} {
		if !at.IsZero() {
			out.Detail[name] = at.UTC().Format(time.RFC3339)
		}
	}
	if e.Ends {
		out.Detail["ends"] = "true"
	}
	if taken && asks(e) {
		out.Detail["request"] = string(access.NewRequestID(ticketSender(e), e.ID))
		out.Detail["requestor"] = e.Ask.Requestor
	}
	return out
}

// done says in one word what an event was good for.
func done(e access.TicketEvent, taken bool) string {
	switch {
	case !taken:
		return "superseded" // a later event was known before, or has ended the ticket since
	case e.Ends:
		return "ends"
	case e.Ask != nil:
		return "asks"
	}
	return "noted"
}
