package servicebus

import (
	"maps"
	"slices"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// sessionWindow is how many transfer frames the peer may have on the way.
const sessionWindow = 5000

// session is an AMQP session, which has nothing to do with message sessions.
// Both sides use the same channel and handle numbers: the peer's.
type session struct {
	c       *conn
	channel uint16

	nextIncomingID uint32
	sinceFlow      uint32 // transfers received since the last flow frame
	nextOutgoingID uint32
	remoteWindow   uint32 // transfers that the peer will take
	nextDeliveryID uint32

	links     map[uint32]*link     // by handle
	unsettled map[uint32]*delivery // by delivery id
}

// delivery is a message that went out under a lock.
type delivery struct {
	link  *link
	token [16]byte
}

func (c *conn) begin(channel uint16, p *wire.Begin) {
	c.sessions[channel] = &session{c: c, channel: channel, nextIncomingID: p.NextOutgoingID, remoteWindow: p.IncomingWindow,
		links: map[uint32]*link{}, unsettled: map[uint32]*delivery{}}
	c.send(channel, &wire.Begin{RemoteChannel: &channel, IncomingWindow: sessionWindow, OutgoingWindow: sessionWindow}, nil)
}

func (ss *session) send(p wire.Performative) { ss.c.send(ss.channel, p, nil) }

// sendFlow sends the session's windows, with a link's credit in it if f has one.
func (ss *session) sendFlow(f wire.Flow) {
	next := ss.nextIncomingID
	f.NextIncomingID = &next
	f.IncomingWindow, f.OutgoingWindow = sessionWindow, sessionWindow
	f.NextOutgoingID = ss.nextOutgoingID
	ss.sinceFlow = 0
	ss.send(&f)
}

func (ss *session) flow(p *wire.Flow) {
	// AMQP 1.0 part 2 section 2.5.6, in the arithmetic of serial numbers.
	ss.nextIncomingID = p.NextOutgoingID
	var next uint32
	if p.NextIncomingID != nil {
		next = *p.NextIncomingID
	}
	window := int32(next + p.IncomingWindow - ss.nextOutgoingID)
	ss.remoteWindow = uint32(max(window, 0))
	if p.Handle == nil {
		if p.Echo {
			ss.sendFlow(wire.Flow{})
		}
	} else if l := ss.links[*p.Handle]; l != nil && !l.detached {
		l.flow(p)
	}
	for _, l := range ss.links {
		if l.sender && l.node != nil && (l.credit > 0 || l.drain) {
			ss.c.s.pump(l.node.entity)
		}
	}
}

// disposition settles what the peer received. It is answered with a settled
// disposition of our own, for which receivers in settle mode "second" wait.
func (ss *session) disposition(p *wire.Disposition) {
	if !p.Receiver {
		return // the end of what we settled ourselves already
	}
	last := p.First
	if p.Last != nil {
		last = *p.Last
	}
	// The range may be as wide as it likes; what is unsettled bounds the work.
	var ids []uint32
	for id := range ss.unsettled {
		if id-p.First <= last-p.First {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		d := ss.unsettled[id]
		if d == nil || !p.Settled && !outcome(p.State) {
			continue
		}
		delete(ss.unsettled, id)
		l := d.link
		answer := func(state any) {
			if !p.Settled && !l.released {
				ss.send(&wire.Disposition{First: id, Settled: true, State: state})
			}
		}
		ss.c.s.perform(act{c: ss.c, verb: "settle", n: l.node, holder: l, tokens: [][16]byte{d.token},
			do: func() {
				answer(l.settle(d.token, p.State))
				ss.c.s.pump(l.node.entity)
			},
			refuse: func(r *denial) { answer(wire.Rejected{Error: r.Error}) },
		})
	}
}

// outcome tells whether a delivery state is the last one (AMQP 1.0 part 3
// section 3.4).
func outcome(state any) bool {
	switch state.(type) {
	case wire.Accepted, wire.Released, wire.Rejected, wire.Modified:
		return true
	}
	return false
}

// settle applies an outcome to a message and returns the answer. What is settled
// without an outcome is released.
func (l *link) settle(token [16]byte, state any) any {
	q, now := l.node.q, time.Now()
	var err error
	switch st := state.(type) {
	case wire.Accepted:
		err = q.Complete(now, token)
	case wire.Rejected:
		reason, description, properties := deadLetterInfo(st.Error)
		err = q.DeadLetter(now, token, reason, description, properties)
	case wire.Modified:
		properties := annotations(st.Annotations)
		if st.UndeliverableHere {
			err = q.Defer(now, token, properties)
		} else {
			err = q.Abandon(now, token, properties)
		}
	default:
		err = q.Release(now, token)
	}
	if err == nil {
		return wire.Accepted{}
	}
	if q.RequiresSession && !q.HoldsSession(now, l) {
		err = queue.ErrSessionLockLost
	}
	return wire.Rejected{Error: refusal(err)}
}

// deadLetterInfo takes the reason, the description and further properties from
// the error of a rejected outcome (azservicebus, messageSettler.go).
func deadLetterInfo(e *wire.Error) (reason, description string, properties map[string]any) {
	if e == nil {
		return "", "", nil
	}
	properties = annotations(e.Info)
	reason, _ = properties["DeadLetterReason"].(string)
	description, _ = properties["DeadLetterErrorDescription"].(string)
	maps.DeleteFunc(properties, func(name string, _ any) bool {
		return name == "DeadLetterReason" || name == "DeadLetterErrorDescription"
	})
	return reason, description, properties
}

// annotations turns a map into application properties, which hold simple values only.
func annotations(m wire.Map) map[string]any {
	properties := map[string]any{}
	for _, e := range m {
		name, ok := wire.Text(e.Key)
		if !ok {
			continue
		}
		switch v := e.Value.(type) {
		case wire.Symbol:
			properties[name] = string(v)
		case wire.UUID:
			properties[name] = amqp.UUID(v)
		case []any, wire.Map, wire.Described:
		default:
			properties[name] = v
		}
	}
	return properties
}

// drop forgets a session that has ended, with its links.
func (ss *session) drop() {
	for _, l := range ss.links {
		l.release()
	}
	clear(ss.links)
	clear(ss.unsettled)
}
