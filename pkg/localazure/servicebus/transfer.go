package servicebus

import (
	"errors"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// transfer takes a part of a message from the peer. What it returns besides an
// error is to be done without the server's lock.
func (ss *session) transfer(p *wire.Transfer, payload []byte) (after func(), err error) {
	ss.nextIncomingID++
	ss.sinceFlow++
	if ss.sinceFlow >= sessionWindow/2 {
		ss.sendFlow(wire.Flow{})
	}
	l := ss.links[p.Handle]
	if l == nil || l.sender {
		return nil, fmt.Errorf("a transfer on handle %d, which is no link to send on", p.Handle)
	}
	if l.detached {
		return nil, nil // it was on its way when we closed the link
	}
	if l.first == nil {
		if p.DeliveryID == nil {
			return nil, errors.New("a transfer has no delivery id")
		}
		l.first = p
		l.partial = nil
	}
	if p.Aborted {
		l.first, l.partial = nil, nil
		return nil, nil
	}
	limit := maxMessageSize
	if l.kind != linkMessages {
		limit = maxRequestSize
	}
	if len(l.partial)+len(payload) > limit {
		l.tooLarge(p, len(l.partial)+len(payload), limit)
		return nil, nil
	}
	l.partial = append(l.partial, payload...)
	if p.More {
		return nil, nil
	}
	first, data := l.first, l.partial
	l.first, l.partial = nil, nil
	l.deliveryCount++
	l.received++
	after = l.take(first, data, first.Settled || p.Settled)
	if l.received >= linkCredit/2 && !l.detached {
		l.grant()
	}
	return after, nil
}

// tooLarge refuses a message and ends the link. The SDK for JavaScript looks for
// a message's fate in its disposition alone, and would wait for it.
func (l *link) tooLarge(p *wire.Transfer, size, limit int) {
	err := &wire.Error{Condition: condTooLarge, Description: fmt.Sprintf(
		"The received message (delivery-id:%d, size:%d bytes) exceeds the limit (%d bytes) currently allowed on the link.",
		*l.first.DeliveryID, size, limit)}
	if !l.first.Settled && !p.Settled {
		l.ss.send(&wire.Disposition{Receiver: true, First: *l.first.DeliveryID, Settled: true, State: wire.Rejected{Error: err}})
	}
	l.detach(err)
}

// take handles a whole message.
func (l *link) take(first *wire.Transfer, data []byte, settled bool) (after func()) {
	answer := func(err *wire.Error) {
		var state any = wire.Accepted{}
		if err != nil {
			state = wire.Rejected{Error: err}
		}
		if !settled && !l.released {
			l.ss.send(&wire.Disposition{Receiver: true, First: *first.DeliveryID, Settled: true, State: state})
		}
	}
	if l.kind == linkMessages {
		l.ss.c.s.perform(act{c: l.ss.c, verb: "send", n: l.node,
			do:     func() { answer(l.enqueue(first, data)) },
			refuse: func(d *denial) { answer(d.Error) },
		})
		return nil
	}
	request, err := decode(data)
	if err != nil {
		answer(&wire.Error{Condition: condDecode, Description: err.Error()})
		return nil
	}
	answer(nil)
	return l.request(request)
}

// enqueue takes a message or a batch, as a whole or not at all.
func (l *link) enqueue(first *wire.Transfer, data []byte) *wire.Error {
	var format uint32
	if first.MessageFormat != nil {
		format = *first.MessageFormat
	}
	messages, err := received(data, format)
	if err != nil {
		return &wire.Error{Condition: condInvalidField, Description: err.Error()}
	}
	if err := l.ss.c.s.enqueue(l.node, messages); err != nil {
		return refusal(err)
	}
	return nil
}

// enqueue puts messages into an entity: all or, if one has no session id where
// one is needed, none.
func (s *Server) enqueue(n *node, messages []*queue.Message) error {
	for _, m := range messages {
		if n.q.RequiresSession && m.SessionID == nil {
			return queue.ErrSessionRequired
		}
	}
	now := time.Now()
	n.entity.accessed = now
	for _, m := range messages {
		if _, err := n.q.Enqueue(now, m); err != nil {
			return err
		}
	}
	s.pump(n.entity)
	return nil
}
