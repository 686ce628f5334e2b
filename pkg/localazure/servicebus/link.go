package servicebus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

const (
	// maxMessageSize is the limit of the Standard tier, in octets.
	maxMessageSize = 256 << 10
	// maxRequestSize leaves room for a scheduled message and what wraps it.
	maxRequestSize = 1 << 20
	linkCredit     = 1000

	sessionFilter         = "com.microsoft:session-filter"
	defaultSessionTimeout = 60 * time.Second
	settleModeSettled     = 1 // snd-settle-mode, AMQP 1.0 part 2 section 2.8.2
)

type linkKind int

const (
	linkMessages linkKind = iota
	linkManagement
	linkTokens // $cbs
)

// link is one direction of messages between the peer and us.
type link struct {
	ss     *session
	handle uint32
	name   string
	kind   linkKind
	sender bool  // we send
	node   *node // nil for $cbs

	settled       bool    // what we send is settled: receive and delete
	replyTo       string  // target address of a link for replies
	sessionID     *string // message session held
	waiting       *waiting
	detached      bool // our detach is sent; the peer's is still to come
	released      bool
	deliveryCount uint32
	credit        uint32
	drain         bool
	held          bool     // a fault holds the next delivery up
	excused       bool     // it was held long enough
	replies       [][]byte // waiting for credit

	partial  []byte // message being received
	first    *wire.Transfer
	received uint32 // since credit was last granted
}

// waiting is an attach that is not answered until a message session is free.
type waiting struct {
	attach *wire.Attach
	timer  *time.Timer
}

// attach takes a link in, or refuses it: then the answer has no terminus and a
// detach follows (AMQP 1.0 part 2 section 2.6.3).
func (ss *session) attach(p *wire.Attach) error {
	if old := ss.links[p.Handle]; old != nil {
		return fmt.Errorf("handle %d is in use", p.Handle)
	}
	l := &link{ss: ss, handle: p.Handle, name: p.Name, sender: p.Receiver,
		settled: p.SndSettleMode != nil && *p.SndSettleMode == settleModeSettled}
	if !l.sender && p.InitialDeliveryCount != nil {
		l.deliveryCount = *p.InitialDeliveryCount
	}
	ss.links[p.Handle] = l
	n, management, err := l.target(p)
	if err != nil {
		l.refuse(p, err)
		return nil
	}
	if n == nil {
		l.accept(p, nil) // $cbs
		return nil
	}
	l.waiting = &waiting{attach: p}
	ss.c.s.perform(act{c: ss.c, verb: "attach", n: n,
		do: func() {
			if l.waiting == nil {
				return // it gave up
			}
			l.waiting = nil
			if err := l.open(n, management, p); err != nil {
				l.refuse(p, err)
			}
		},
		refuse: func(d *denial) { l.refuse(p, d.Error) },
	})
	return nil
}

// target is what a link is to attach to, if it may; no node is $cbs.
func (l *link) target(p *wire.Attach) (n *node, management bool, err *wire.Error) {
	if p.Coordinator {
		return nil, false, &wire.Error{Condition: condNotSupported, Description: "Transactions are not supported."}
	}
	address := ""
	if l.sender && p.Source != nil {
		address = p.Source.Address
	} else if !l.sender && p.Target != nil {
		address = p.Target.Address
	}
	if l.sender && p.Target != nil {
		l.replyTo = p.Target.Address
	}
	if entityPath(address) == "$cbs" {
		return nil, false, l.openTokens()
	}
	n, management, ok := l.ss.c.s.resolve(address)
	if !ok {
		return nil, false, notFound(address)
	}
	return n, management, l.ss.c.authorize(address, l.sender, management)
}

func (l *link) open(n *node, management bool, p *wire.Attach) *wire.Error {
	n.entity.accessed = time.Now()
	if management {
		l.kind = linkManagement
		l.join(n)
		l.accept(p, nil)
		return nil
	}
	if l.sender {
		return l.openReceiver(n, p)
	}
	if n != n.entity.main || n.entity.kind == kindSubscription {
		return &wire.Error{Condition: condNotAllowed, Description: "Messages cannot be sent to a subscription or a sub-queue."}
	}
	l.join(n)
	l.accept(p, nil)
	return nil
}

// openTokens lets each connection have one link each way, as the service does.
func (l *link) openTokens() *wire.Error {
	for _, ss := range l.ss.c.sessions {
		for _, other := range ss.links {
			if other != l && other.kind == linkTokens && other.sender == l.sender && !other.detached {
				return &wire.Error{Condition: condNotAllowed, Description: "A link to connection's $cbs node has already been opened."}
			}
		}
	}
	l.kind = linkTokens
	return nil
}

// openReceiver attaches a link that messages go out on, for which a queue with
// sessions has to find one.
func (l *link) openReceiver(n *node, p *wire.Attach) *wire.Error {
	if n.entity.kind == kindTopic {
		return &wire.Error{Condition: condNotAllowed, Description: "Messages cannot be received from a topic."}
	}
	var filter any
	asked := false
	if p.Source != nil {
		filter, asked = p.Source.Filter.Get(sessionFilter)
	}
	switch {
	case n.q.RequiresSession && !asked:
		return &wire.Error{Condition: condNotAllowed, Description: "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."}
	case !n.q.RequiresSession && asked:
		return &wire.Error{Condition: condNotAllowed, Description: "A sessionful message receiver cannot be created on an entity that does not require sessions. Ensure RequiresSession is set to true when creating a Queue or Subscription to enable sessionful behavior."}
	case !asked:
		l.join(n)
		l.accept(p, nil)
		return nil
	}
	if d, ok := filter.(wire.Described); ok {
		filter = d.Value
	}
	l.join(n)
	if id, ok := wire.Text(filter); ok {
		return l.acceptSession(p, &id)
	}
	if l.waiting != nil || filter != nil {
		return &wire.Error{Condition: condInvalidField, Description: "The session filter is not a string."}
	}
	l.waiting = &waiting{attach: p}
	timeout := defaultSessionTimeout
	if v, ok := p.Properties.Get("com.microsoft:timeout"); ok {
		if ms, ok := v.(uint32); ok {
			timeout = time.Duration(ms) * time.Millisecond
		}
	}
	l.ss.c.s.pump(n.entity)
	if l.waiting != nil {
		l.waiting.timer = time.AfterFunc(timeout, l.timedOut)
	}
	return nil
}

// acceptSession answers an attach with a message session: the one with the id,
// or the next. With none to be had, an attach that asks for the next waits on.
func (l *link) acceptSession(p *wire.Attach, id *string) *wire.Error {
	got, until, err := l.node.q.AcceptSession(time.Now(), id, l)
	if errors.Is(err, queue.ErrSessionLocked) {
		return &wire.Error{Condition: condSessionLocked, Description: fmt.Sprintf(
			"The requested session '%s' cannot be accepted. It may be locked by another receiver.", *id)}
	}
	if err != nil {
		return refusal(err)
	}
	l.sessionID = &got
	l.ss.c.s.arm(l.node.entity)
	l.accept(p, wire.Map{{Key: wire.Symbol("com.microsoft:locked-until-utc"), Value: ticks(until)}})
	return nil
}

// ticks are .NET's: 100 ns since the year 1.
func ticks(t time.Time) int64 { return t.UnixMilli()*10_000 + 621_355_968_000_000_000 }

func (l *link) timedOut() {
	s := l.ss.c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := l.waiting; w != nil {
		l.refuse(w.attach, &wire.Error{Condition: condTimeout, Description: "The operation did not complete within the allotted timeout: no session was free."})
	}
}

func (l *link) join(n *node) {
	l.node = n
	n.links = append(n.links, l)
}

// accept answers an attach. The settle modes are repeated because clients check
// that they got what they asked for; so is the filter, with the session's id.
func (l *link) accept(p *wire.Attach, properties wire.Map) {
	l.waiting = nil
	answer := &wire.Attach{Name: p.Name, Handle: p.Handle, Receiver: !p.Receiver,
		SndSettleMode: p.SndSettleMode, RcvSettleMode: p.RcvSettleMode,
		Source: p.Source, Target: p.Target, Properties: properties, MaxMessageSize: maxMessageSize}
	if l.kind != linkMessages {
		answer.MaxMessageSize = maxRequestSize
	}
	if answer.Source == nil {
		answer.Source = &wire.Terminus{}
	}
	if answer.Target == nil {
		answer.Target = &wire.Terminus{}
	}
	if l.sender {
		answer.InitialDeliveryCount = new(uint32)
	}
	if l.sessionID != nil {
		answer.Source = &wire.Terminus{Address: p.Source.Address, Filter: withSession(p.Source.Filter, *l.sessionID)}
	}
	l.ss.send(answer)
	if !l.sender {
		l.grant()
	}
}

// withSession puts a session's id where the filter asked for one, in the form
// in which it was asked.
func withSession(filter wire.Map, id string) wire.Map {
	filter = slices.Clone(filter)
	for i, e := range filter {
		if name, _ := wire.Text(e.Key); name != sessionFilter {
			continue
		}
		if d, ok := e.Value.(wire.Described); ok {
			filter[i].Value = wire.Described{Descriptor: d.Descriptor, Value: id}
		} else {
			filter[i].Value = id
		}
	}
	return filter
}

// refuse answers an attach with an error.
func (l *link) refuse(p *wire.Attach, reason *wire.Error) {
	l.ss.c.s.log.Debug("link refused", "name", l.name, "condition", reason.Condition)
	l.release()
	l.ss.send(&wire.Attach{Name: p.Name, Handle: p.Handle, Receiver: !p.Receiver,
		SndSettleMode: p.SndSettleMode, RcvSettleMode: p.RcvSettleMode, InitialDeliveryCount: new(uint32)})
	l.detach(reason)
}

// detach closes the link from our side. Its handle stays taken until the peer
// has answered; until then its frames are ignored.
func (l *link) detach(reason *wire.Error) {
	if l.detached {
		return
	}
	l.release()
	l.detached = true
	l.ss.send(&wire.Detach{Handle: l.handle, Closed: true, Error: reason})
}

// detached handles the peer's detach, be it the first or the answer to ours.
func (ss *session) detached(p *wire.Detach) {
	l := ss.links[p.Handle]
	if l == nil {
		return
	}
	if w := l.waiting; w != nil {
		// It gave up before the attach was answered; the answer comes first.
		ss.send(&wire.Attach{Name: l.name, Handle: l.handle, InitialDeliveryCount: new(uint32),
			SndSettleMode: w.attach.SndSettleMode, RcvSettleMode: w.attach.RcvSettleMode})
	}
	l.release()
	delete(ss.links, p.Handle)
	if !l.detached {
		ss.send(&wire.Detach{Handle: p.Handle, Closed: true})
	}
}

// release gives up what the link has. Messages that it received stay locked
// until their locks end, except those of a message session.
func (l *link) release() {
	if l.released {
		return
	}
	l.released = true
	if w := l.waiting; w != nil {
		l.waiting = nil
		if w.timer != nil {
			w.timer.Stop()
		}
	}
	for id, d := range l.ss.unsettled {
		if d.link == l {
			delete(l.ss.unsettled, id)
		}
	}
	if l.node == nil {
		return
	}
	l.node.links = slices.DeleteFunc(l.node.links, func(other *link) bool { return other == l })
	if l.sessionID != nil {
		l.node.q.ReleaseSession(time.Now(), l)
		l.ss.c.s.pump(l.node.entity)
	}
}

// linksOf lists an entity's links.
func linksOf(e *entity) []*link {
	var all []*link
	for _, n := range e.nodes() {
		all = append(all, n.links...)
	}
	return all
}

// detachAll closes those of the links that are still open.
func detachAll(links []*link, reason *wire.Error) {
	for _, l := range links {
		switch {
		case l.released:
		case l.waiting != nil:
			l.refuse(l.waiting.attach, reason)
		default:
			l.detach(reason)
		}
	}
}
