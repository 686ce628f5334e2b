package servicebus

import (
	"encoding/binary"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// pump delivers whatever an entity can deliver now, and sets its timer. It is
// called after everything that may have changed what that is.
func (s *Server) pump(e *entity) {
	if e.kind == kindTopic {
		e.main.q.Advance(time.Now())
		s.arm(e)
		for _, sub := range s.subscriptions(e) {
			s.pump(sub)
		}
		return
	}
	for _, n := range e.nodes() {
		n.q.Advance(time.Now())
		n.endLostSessions()
		n.serveWaiting()
		n.deliver()
	}
	s.arm(e)
}

// arm sets the timer for what falls due next.
func (s *Server) arm(e *entity) {
	next, ok := e.main.q.NextDue()
	switch {
	case !ok || s.closed:
		if e.timer != nil {
			e.timer.Stop()
		}
	case e.timer == nil:
		e.timer = time.AfterFunc(time.Until(next), func() { s.tick(e) })
	default:
		e.timer.Reset(time.Until(next))
	}
}

func (s *Server) tick(e *entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.pump(e)
	}
}

// endLostSessions closes the links whose message session's lock ran out.
func (n *node) endLostSessions() {
	if !n.q.RequiresSession {
		return
	}
	for i := len(n.links) - 1; i >= 0; i-- {
		if l := n.links[i]; l.sessionID != nil && !n.q.HoldsSession(time.Now(), l) {
			l.sessionID = nil // nothing to give back
			l.detach(refusal(queue.ErrSessionLockLost))
		}
	}
}

// serveWaiting gives free message sessions to those who wait, first come first served.
func (n *node) serveWaiting() {
	if !n.q.RequiresSession {
		return
	}
	for _, l := range n.links {
		w := l.waiting
		if w == nil {
			continue
		}
		if l.acceptSession(w.attach, nil) != nil {
			return // none is free
		}
		if w.timer != nil {
			w.timer.Stop()
		}
	}
}

// deliver hands messages out, one to each receiver in turn, as long as there
// are messages and receivers that can take one.
func (n *node) deliver() {
	for served := true; served; {
		served = false
		for range n.links {
			n.next = (n.next + 1) % len(n.links)
			l := n.links[n.next]
			if !l.canSend() || !n.q.HasReady(time.Now(), l) {
				continue
			}
			if served = true; !l.serve() {
				break // the links may have changed
			}
		}
	}
	for _, l := range n.links {
		if l.drain && l.kind == linkMessages {
			l.drained()
		}
	}
}

// serve delivers the next message, unless a fault befalls it. False if the link
// is closed for that.
func (l *link) serve() bool {
	s, n := l.ss.c.s, l.node
	next := func() {
		if m := n.q.Receive(time.Now(), !l.settled, l); m != nil {
			l.deliver(m)
		}
	}
	if l.excused {
		l.excused = false
		next()
		return true
	}
	strike := s.strike("receive", n.path)
	if strike == nil {
		next()
		return true
	}
	switch strike.Kind {
	case fault.Slow, fault.Pause:
		l.held = true
		s.later(strike, func() {
			l.held, l.excused = false, true
			s.pump(n.entity)
		})
	case fault.LoseReply:
		before := len(l.ss.c.out)
		next()
		l.ss.c.cut(before)
	case fault.Drop:
		l.ss.c.cut(len(l.ss.c.out))
	default:
		if strike.Kind == fault.Lock && n.q.RequiresSession {
			n.q.LoseSession(time.Now(), l)
		}
		reason := refusalOf(strike, "receive", n).Error
		if strike.Kind == fault.Throttle {
			// With server-busy, azservicebus would ask the dead link for ever.
			reason.Condition = condDetachForced
		}
		l.detach(reason)
		return false
	}
	return true
}

func (l *link) canSend() bool {
	return l.sender && l.kind == linkMessages && l.waiting == nil && !l.held && l.credit > 0 &&
		// The window counts frames and a message may be several: the peer may
		// get a few frames more than it asked for, which clients buffer.
		l.ss.remoteWindow > 0 && len(l.ss.c.out) < outputLimit && !l.ss.c.closing
}

func (l *link) deliver(m *queue.Message) {
	payload, err := encodeMessage(m, !l.settled, false)
	if err != nil {
		// It was decoded on the way in, so this cannot be the sender's doing.
		l.ss.c.s.log.Error("a message could not be encoded", "entity", l.node.entity.path, "error", err.Error())
		return
	}
	tag := netGUID(m.Token)
	if l.settled {
		tag = netGUID([16]byte{})
	} else {
		l.ss.unsettled[l.ss.nextDeliveryID] = &delivery{link: l, token: m.Token}
	}
	l.transfer(tag[:], payload)
}

// transfer sends one message in as many frames as the peer wants.
func (l *link) transfer(tag, payload []byte) {
	ss := l.ss
	id, format := ss.nextDeliveryID, uint32(0)
	ss.nextDeliveryID++
	l.deliveryCount++
	l.credit--
	const overhead = 64 // of the frame and its performative
	part := ss.c.maxFrame - overhead
	p := &wire.Transfer{Handle: l.handle, DeliveryID: &id, DeliveryTag: tag, MessageFormat: &format, Settled: l.settled}
	for {
		n := min(part, len(payload))
		p.More = n < len(payload)
		ss.c.send(ss.channel, p, payload[:n])
		ss.nextOutgoingID++
		ss.remoteWindow -= min(ss.remoteWindow, 1)
		payload = payload[n:]
		if len(payload) == 0 {
			return
		}
	}
}

// flow takes the peer's view of a link. Credit is absolute: AMQP 1.0 part 2
// section 2.6.7.
func (l *link) flow(p *wire.Flow) {
	if !l.sender {
		if p.Echo {
			l.grant()
		}
		return
	}
	if p.LinkCredit != nil {
		var count uint32
		if p.DeliveryCount != nil {
			count = *p.DeliveryCount
		}
		l.credit = uint32(max(int32(count+*p.LinkCredit-l.deliveryCount), 0))
		l.drain = p.Drain
	}
	if l.kind != linkMessages {
		l.flushReplies()
	}
	if p.Echo {
		l.sendCredit(false)
	}
}

// drained uses up the credit that no message took, as a drain asks.
func (l *link) drained() {
	if l.credit > 0 && (l.ss.remoteWindow == 0 || len(l.ss.c.out) >= outputLimit) {
		return // there may be messages still that it could not get yet
	}
	l.drain = false
	l.deliveryCount += l.credit
	l.credit = 0
	l.sendCredit(true)
}

func (l *link) sendCredit(drain bool) {
	handle, count, credit := l.handle, l.deliveryCount, l.credit
	l.ss.sendFlow(wire.Flow{Handle: &handle, DeliveryCount: &count, LinkCredit: &credit, Drain: drain})
}

// grant gives the peer the full credit for a link that it sends on.
func (l *link) grant() {
	l.received = 0
	handle, count, credit := l.handle, l.deliveryCount, uint32(linkCredit)
	l.ss.sendFlow(wire.Flow{Handle: &handle, DeliveryCount: &count, LinkCredit: &credit})
}

// netGUID turns a UUID into the octet order of .NET's Guid, as delivery tags
// are (azservicebus, message.go), and back.
func netGUID(u [16]byte) [16]byte {
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
	return u
}

// replyTag numbers replies, whose tags mean nothing.
func replyTag(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
