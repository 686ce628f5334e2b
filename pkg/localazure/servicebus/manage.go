package servicebus

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// maxListed bounds how many messages or sessions one request may ask for.
const maxListed = 1000

// operation is one call of $management (Service Bus documentation, "AMQP 1.0 in
// Microsoft Azure Service Bus: request-response-based operations").
type operation struct {
	l      *link
	n      *node
	now    time.Time
	body   map[string]any
	holder any // the receiver that the request is about, or nil
}

func (l *link) manage(name string, m *amqp.Message, holder any) reply {
	o := operation{l: l, n: l.node, now: time.Now(), body: body(m), holder: holder}
	defer l.ss.c.s.pump(l.node.entity)
	switch name = strings.TrimPrefix(name, "com.microsoft:"); name {
	case "schedule-message":
		return o.schedule()
	case "cancel-scheduled-message":
		return o.cancel()
	case "peek-message":
		return o.peek()
	case "renew-lock":
		return o.renew()
	case "receive-by-sequence-number":
		return o.receiveDeferred()
	case "update-disposition":
		return o.updateDisposition()
	case "renew-session-lock", "get-session-state", "set-session-state":
		return o.session(name)
	case "get-message-sessions":
		return o.listSessions()
	}
	return failed(http.StatusNotImplemented, &wire.Error{Condition: condNotSupported, Description: "The operation is not supported."})
}

func (l *link) associated(name string) *link {
	for _, other := range l.node.links {
		if other.name == name && other.ss.c == l.ss.c && other.sender && other.kind == linkMessages {
			return other
		}
	}
	return nil
}

func badRequest(what string) reply {
	return failed(http.StatusBadRequest, &wire.Error{Condition: condArgument, Description: what})
}

// refused says by the status what kind of failure it is: 410 is a lost lock.
func refused(err error) reply {
	switch e := refusal(err); {
	case errors.Is(err, queue.ErrLockLost), errors.Is(err, queue.ErrSessionLockLost):
		return failed(http.StatusGone, e)
	case errors.Is(err, queue.ErrNotFound):
		return failed(http.StatusNotFound, e)
	default:
		return failed(http.StatusBadRequest, e)
	}
}

func (o *operation) schedule() reply {
	if o.n != o.n.entity.main || o.n.entity.kind == kindSubscription {
		return badRequest("Messages cannot be sent to a subscription or a sub-queue.")
	}
	entries, ok := values[map[string]any](o.body["messages"])
	if !ok || len(entries) == 0 {
		return badRequest("There are no messages.")
	}
	var messages []*queue.Message
	for _, entry := range entries {
		data, _ := entry["message"].([]byte)
		if len(data) > maxMessageSize {
			return failed(http.StatusBadRequest, &wire.Error{Condition: condTooLarge, Description: "A message is too large."})
		}
		m, err := receivedOne(data)
		if err != nil {
			return badRequest(err.Error())
		}
		if o.n.q.RequiresSession && m.SessionID == nil {
			return refused(queue.ErrSessionRequired)
		}
		messages = append(messages, m)
	}
	seqs := make([]int64, 0, len(messages))
	for _, m := range messages {
		seq, err := o.n.q.Enqueue(o.now, m)
		if err != nil {
			return refused(err)
		}
		seqs = append(seqs, seq)
	}
	return reply{status: http.StatusOK, description: "OK", value: map[string]any{"sequence-numbers": seqs}}
}

func (o *operation) cancel() reply {
	seqs, ok := values[int64](o.body["sequence-numbers"])
	if !ok {
		return badRequest("There are no sequence numbers.")
	}
	if err := o.n.q.CancelScheduled(o.now, seqs); err != nil {
		return refused(err)
	}
	return reply{status: http.StatusOK, description: "OK"}
}

func (o *operation) peek() reply {
	from, ok := o.body["from-sequence-number"].(int64)
	count, ok2 := o.body["message-count"].(int32)
	if !ok || !ok2 || count < 1 {
		return badRequest("from-sequence-number or message-count is missing.")
	}
	session := o.sessionID()
	var found []any
	for _, m := range o.n.q.Peek(o.now, from, min(int(count), maxListed), session) {
		data, err := encodeMessage(m, false, true)
		if err != nil {
			return refused(err)
		}
		found = append(found, map[string]any{"message": data})
	}
	if len(found) == 0 {
		return reply{status: http.StatusNoContent, description: "No messages"}
	}
	return reply{status: http.StatusOK, description: "OK", value: map[string]any{"messages": found}}
}

// sessionID is the message session of the request: the one it names, or its receiver's.
func (o *operation) sessionID() *string {
	if id, ok := o.body["session-id"].(string); ok {
		return &id
	}
	if l, ok := o.holder.(*link); ok {
		return l.sessionID
	}
	return nil
}

func (o *operation) renew() reply {
	tokens, ok := values[amqp.UUID](o.body["lock-tokens"])
	if !ok || len(tokens) == 0 {
		return badRequest("There are no lock tokens.")
	}
	ends := make([]time.Time, 0, len(tokens))
	for _, token := range tokens {
		until, err := o.n.q.Renew(o.now, token)
		if err != nil {
			return refused(err)
		}
		ends = append(ends, until)
	}
	return reply{status: http.StatusOK, description: "OK", value: map[string]any{"expirations": ends}}
}

func (o *operation) receiveDeferred() reply {
	seqs, ok := values[int64](o.body["sequence-numbers"])
	if !ok {
		return badRequest("There are no sequence numbers.")
	}
	// 1 is settle mode "second", which is peek-lock.
	mode, _ := o.body["receiver-settle-mode"].(uint32)
	lock := mode == 1
	var found []any
	for _, seq := range seqs {
		m, err := o.n.q.ReceiveDeferred(o.now, seq, lock)
		if err != nil {
			return refused(err)
		}
		data, err := encodeMessage(m, lock, false)
		if err != nil {
			return refused(err)
		}
		found = append(found, map[string]any{"message": data, "lock-token": amqp.UUID(m.Token)})
	}
	if len(found) == 0 {
		return reply{status: http.StatusNoContent, description: "No messages"}
	}
	return reply{status: http.StatusOK, description: "OK", value: map[string]any{"messages": found}}
}

func (o *operation) updateDisposition() reply {
	tokens, ok := values[amqp.UUID](o.body["lock-tokens"])
	if !ok || len(tokens) == 0 {
		return badRequest("There are no lock tokens.")
	}
	status, _ := o.body["disposition-status"].(string)
	reason, _ := o.body["deadletter-reason"].(string)
	description, _ := o.body["deadletter-description"].(string)
	properties, _ := o.body["properties-to-modify"].(map[string]any)
	for _, token := range tokens {
		var err error
		switch status {
		case "completed":
			err = o.n.q.Complete(o.now, token)
		case "abandoned":
			err = o.n.q.Abandon(o.now, token, maps.Clone(properties))
		case "defered": // sic
			err = o.n.q.Defer(o.now, token, maps.Clone(properties))
		case "suspended":
			err = o.n.q.DeadLetter(o.now, token, reason, description, maps.Clone(properties))
		default:
			return badRequest("The disposition is unknown.")
		}
		if err != nil {
			return refused(err)
		}
	}
	return reply{status: http.StatusOK, description: "OK"}
}

func (o *operation) session(name string) reply {
	id := o.sessionID()
	if !o.n.q.RequiresSession || id == nil {
		return badRequest("There is no session.")
	}
	value := map[string]any{}
	var err error
	switch name {
	case "renew-session-lock":
		value["expiration"], err = o.n.q.RenewSession(o.now, *id, o.holder)
	case "get-session-state":
		var state []byte
		if state, err = o.n.q.SessionState(o.now, *id, o.holder); state != nil {
			value["session-state"] = state
		} else {
			value["session-state"] = nil
		}
	case "set-session-state":
		// azservicebus clears the state with empty octets, others with null.
		state, _ := o.body["session-state"].([]byte)
		if len(state) == 0 {
			state = nil
		}
		err = o.n.q.SetSessionState(o.now, *id, o.holder, state)
	}
	if err != nil {
		return refused(err)
	}
	return reply{status: http.StatusOK, description: "OK", value: value}
}

func (o *operation) listSessions() reply {
	if !o.n.q.RequiresSession {
		return badRequest("The entity has no sessions.")
	}
	var after *time.Time
	// The largest time of .NET, or one above it, asks for all sessions with
	// messages or state (azservicebus, client.go).
	if t, ok := o.body["last-updated-time"].(time.Time); ok && t.Year() < 9999 {
		after = &t
	}
	skip, _ := o.body["skip"].(int32)
	top, _ := o.body["top"].(int32)
	ids := o.n.q.Sessions(o.now, after)
	ids = ids[min(max(int(skip), 0), len(ids)):]
	ids = ids[:min(max(int(top), 0), maxListed, len(ids))]
	if len(ids) == 0 {
		return reply{status: http.StatusNoContent, description: "No sessions"}
	}
	return reply{status: http.StatusOK, description: "OK", value: map[string]any{"skip": skip + int32(len(ids)), "sessions-ids": ids}}
}
