// Package handlers turns what the Functions host delivers into one call of a
// use case, and its outcome into an answer. One file per function; nothing is
// decided here.
package handlers

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// The waits between attempts at a request message: they double from the first
// to the longest. A longer one that a service asks for is honoured up to a bound,
// so that no answer of somebody else's can shelve a request.
const (
	firstDelay   = 5 * time.Second
	longestDelay = 5 * time.Minute
	mostAskedFor = time.Hour
)

// Requests decides requests and records what is none.
type Requests interface {
	Submit(ctx context.Context, req access.Request) (access.Record, error)
	RefuseMalformed(ctx context.Context, sender access.Sender, messageID, bodyHash string, cause error) (access.RequestID, error)
	Start(ctx context.Context, id access.RequestID, enqueued time.Time) error
}

// TicketWork works the events of tickets: a broker.TicketDesk.
type TicketWork interface {
	Work(ctx context.Context, id string) error
}

// QueueSender is who a message on access-requests comes from, as far as
// anybody can tell.
func QueueSender() access.Sender {
	return access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}
}

// RequestAccess handles the request messages of other systems, plain or as
// CloudEvents.
type RequestAccess struct {
	requests    Requests
	tickets     TicketWork
	outbox      broker.Outbox
	clock       broker.Clock
	maxAttempts int
	log         *slog.Logger
}

// NewRequestAccess makes the function; a message is tried maxAttempts times.
func NewRequestAccess(requests Requests, tickets TicketWork, outbox broker.Outbox, clock broker.Clock, maxAttempts int, log *slog.Logger) (*RequestAccess, error) {
	if requests == nil || tickets == nil || outbox == nil || clock == nil || maxAttempts < 1 || log == nil {
		return nil, errors.New("handlers: RequestAccess lacks a part")
	}
	return &RequestAccess{requests, tickets, outbox, clock, maxAttempts, log}, nil
}

// Handle decides one message. A refusal is recorded, told on access-rejected
// and completed; what may succeed later is sent again with a delay, because the
// host would deliver it again at once. Safe to repeat.
func (h *RequestAccess) Handle(ctx context.Context, in customhandler.Invocation) error {
	if name := in.Property(broker.StartProperty); name != "" {
		h.start(ctx, name, in)
		return nil
	}
	if id := in.Property(broker.TicketEventProperty); id != "" {
		h.ticket(ctx, id, in)
		return nil
	}
	req, hash, err := queueRequest(in)
	var id access.RequestID
	if err != nil {
		var unrecorded error
		if id, unrecorded = h.requests.RefuseMalformed(ctx, QueueSender(), in.MessageID(), hash, err); unrecorded != nil {
			// Whatever its code: a refusal that is not recorded is not over.
			return h.later(ctx, in, unrecorded)
		}
	} else {
		id = access.NewRequestID(req.RequestedBy, req.ClientID)
		_, err = h.requests.Submit(ctx, req)
	}
	switch {
	case err == nil:
		return nil
	case access.CodeOf(err).Retryable():
		return h.later(ctx, in, err)
	}
	h.log.InfoContext(ctx, "refused", "request", id, "reason", access.ReasonOf(err), "messageId", in.MessageID())
	if e := h.outbox.Reject(ctx, broker.Rejection{
		MessageID: in.MessageID(), RequestID: id, Refusal: access.RefusalOf(err), BodyHash: hash, Excerpt: in.Data[:min(len(in.Data), broker.MaxExcerpt)],
	}); e != nil {
		return h.later(ctx, in, e)
	}
	return nil
}

// start begins a scheduled request. What cannot be started now is left to Sweep,
// which looks every minute.
func (h *RequestAccess) start(ctx context.Context, name string, in customhandler.Invocation) {
	id, err := access.ParseRequestID(name)
	if err == nil {
		err = h.requests.Start(ctx, id, in.EnqueuedTime())
	}
	if err != nil {
		h.log.WarnContext(ctx, "not started", "request", id, "messageId", in.MessageID(), "error", err)
	}
}

// ticket works a ticket's event. What cannot be worked now is pending still, and is
// left to Sweep, which looks every minute.
func (h *RequestAccess) ticket(ctx context.Context, id string, in customhandler.Invocation) {
	if err := h.tickets.Work(ctx, id); err != nil {
		h.log.WarnContext(ctx, "a ticket's event is not worked", "messageId", in.MessageID(), "error", err)
	}
}

// queueRequest reads the request of a message, and gives the hash of what it says.
// Of a CloudEvent that is its data: the envelope is the sender's affair.
func queueRequest(in customhandler.Invocation) (req access.Request, hash string, err error) {
	body, id := in.Data, in.MessageID()
	event, is, err := accessevent.DecodeRequest(in.ContentType(), in.Properties(), in.Data)
	if is && err == nil {
		body, id = event.Data, event.ClientID
	}
	hash = accessjson.Hash(body)
	if err != nil {
		return req, hash, err
	}
	m, err := accessjson.DecodeRequest(body)
	if err != nil {
		return req, hash, err
	}
	if m.Requestor == "" {
		const message = "requestor is missing: a message on the queue names who the access is for"
		return req, hash, &access.Error{Code: access.InvalidArgument, Reason: "requestor_missing", Message: message,
			Violations: []access.Violation{{Path: "requestor", Reason: "requestor_missing", Message: message}}}
	}
	if m.ID == "" {
		m.ID = id
	}
	if m.ID == "" {
		return req, hash, access.Errorf(access.InvalidArgument, "id_missing", "neither the message nor its body has an id")
	}
	return access.Request{
		ClientID: m.ID, Requestor: access.Requestor{Name: m.Requestor, Asserted: true}, RequestedBy: QueueSender(),
		Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, StartTime: m.StartTime, BodyHash: hash,
	}, hash, nil
}

// later sends the message again, delayed; once it was tried often enough it is
// left to the dead-letter queue, by failing.
func (h *RequestAccess) later(ctx context.Context, in customhandler.Invocation, cause error) error {
	attempts, err := strconv.Atoi(in.Property(broker.AttemptsProperty))
	if err != nil || attempts < 0 {
		attempts = 0
	}
	attempts++
	if attempts >= h.maxAttempts {
		return cause
	}
	delay := max(min(access.AsError(cause).RetryAfter, mostAskedFor), min(firstDelay<<min(attempts-1, 10), longestDelay))
	again := broker.RequestMessage{
		ID: in.MessageID(), Body: in.Data, ContentType: in.ContentType(), Properties: accessevent.Properties(in.Properties()), Attempts: attempts,
	}
	if err := h.outbox.Retry(ctx, again, h.clock().Add(delay)); err != nil {
		return errors.Join(cause, err)
	}
	h.log.WarnContext(ctx, "put off", "messageId", in.MessageID(), "attempts", attempts, "delay", delay, "error", cause)
	return nil
}
