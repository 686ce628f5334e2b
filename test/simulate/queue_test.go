package simulate

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// queue is Service Bus behind the schedule: a session per NSG on nsg-reconcile,
// requests and starts on access-requests. A message that fails comes again at
// once until it is dead, as the Functions host has it.
type queue struct {
	s *schedule
	w *world
	// busy are the sessions in which a message is being processed, waiting those
	// that wait behind it.
	busy    map[access.ResourceID]bool
	waiting map[access.ResourceID][]*message
	// requests is how many request messages are on their way.
	requests int
	emptied  int
}

type message struct {
	kind     string // prompt, start, request, ticket or events
	nsg      access.ResourceID
	start    access.RequestID
	request  *access.Request
	event    string    // of a ticket, or the subject of events
	tries    int       // deliveries, of a request attempts
	emptied  int       // how often the queue had been emptied when it was sent
	enqueued time.Time // when it became active, by the broker's clock
}

const mostDeliveries = 10

func (q *queue) Prompt(ctx context.Context, id access.ResourceID, at time.Time) error {
	arg := string(id)
	if !at.IsZero() {
		arg += " at " + at.Format(time.TimeOnly)
	}
	return do(q.s, ctx, theQueue, "Prompt", arg, func() error {
		q.send(&message{kind: "prompt", nsg: id}, at)
		return nil
	})
}

func (q *queue) PromptStart(ctx context.Context, id access.RequestID, at time.Time) error {
	return do(q.s, ctx, theQueue, "PromptStart", string(id), func() error {
		q.send(&message{kind: "start", start: id}, at)
		return nil
	})
}

func (q *queue) Reject(ctx context.Context, r broker.Rejection) error {
	return do(q.s, ctx, theQueue, "Reject", string(r.RequestID), func() error { return nil })
}

func (q *queue) Retry(ctx context.Context, m broker.RequestMessage, _ time.Time) error {
	return do(q.s, ctx, theQueue, "Retry", m.ID, func() error { return nil })
}

// send keeps a message, or so it says: the adversary may lose it, have it come
// twice, or late. Messages of one time come in any order.
func (q *queue) send(m *message, at time.Time) {
	if now := time.Now(); at.Before(now) {
		at = now
	}
	k := q.w.knobs
	copies := 1
	switch {
	case q.s.chance(k.lose):
		copies = 0
		q.s.at(at, func() {
			q.w.met["messages lost"]++
			q.w.say("the %s for %s is lost", m.kind, m.about())
			q.w.disturbNSG(m.nsg, 0)
		})
	case q.s.chance(k.repeat):
		q.w.met["messages repeated"]++
		copies = 2
	}
	if m.kind == "request" {
		q.requests += copies
	}
	for range copies {
		c := *m
		c.emptied = q.emptied
		late := q.s.between(5*time.Millisecond, 500*time.Millisecond)
		if q.s.chance(k.late) {
			late = q.s.between(time.Second, 10*time.Minute)
			q.s.at(at, func() {
				q.w.met["messages late"]++
				q.w.say("the %s for %s is %s late", m.kind, m.about(), late.Round(time.Second))
				q.w.disturbNSG(m.nsg, late)
			})
		}
		q.s.at(at.Add(late), func() {
			c.enqueued = at
			q.deliver(&c)
		})
	}
}

func (m *message) about() string {
	if m.nsg != "" {
		return m.nsg.Name()
	}
	if m.request != nil {
		return m.request.ClientID
	}
	return string(m.start) + m.event
}

func (q *queue) deliver(m *message) {
	if q.w.stopped || m.emptied < q.emptied {
		return
	}
	if until := q.w.down[theQueue]; time.Now().Before(until) {
		q.s.at(until.Add(q.s.between(0, 2*time.Second)), func() { q.deliver(m) })
		return
	}
	switch m.kind {
	case "prompt":
		// A session is one at a time, unless its lock is lost.
		if q.busy[m.nsg] && !q.s.chance(q.w.knobs.sessionLost) {
			q.waiting[m.nsg] = append(q.waiting[m.nsg], m)
			return
		}
		q.reconcile(m)
	case "start":
		q.w.start("start of "+string(m.start), "", func(ctx context.Context, c *core) error { return c.submitter.Start(ctx, m.start, m.enqueued) }, func(a *actor, err error) {
			if a.dead {
				q.again(m)
			}
		})
	case "ticket":
		q.w.start("work of "+m.event, "", func(ctx context.Context, c *core) error { return c.tickets.Work(ctx, m.event) }, func(a *actor, err error) {
			if a.dead {
				q.again(m) // what fails is left to Sweep
			}
		})
	case "events":
		q.w.start("publishing of "+short(m.event), "", func(ctx context.Context, c *core) error { return c.publisher.Publish(ctx, m.event) }, func(a *actor, err error) {
			if a.dead {
				q.again(m)
			}
		})
	case "request":
		q.decide(m)
	}
}

func (q *queue) reconcile(m *message) {
	m.tries++
	q.busy[m.nsg] = true
	q.w.start("reconcile of "+m.nsg.Name(), m.nsg, func(ctx context.Context, c *core) error { return c.reconciler.Reconcile(ctx, m.nsg, m.enqueued) }, func(a *actor, err error) {
		if err != nil || a.dead {
			q.again(m)
		}
		q.busy[m.nsg] = false
		if next := q.waiting[m.nsg]; len(next) > 0 {
			q.waiting[m.nsg] = next[1:]
			q.deliver(next[0])
		}
	})
}

// again brings a message back that was not completed: at once, or when the lock
// of whoever died with it runs out.
func (q *queue) again(m *message) {
	if m.tries >= mostDeliveries {
		q.bury(m)
		return
	}
	q.s.in(q.s.between(time.Millisecond, 30*time.Second), func() { q.deliver(m) })
}

// bury moves a message to the dead letters, where it is delivered until it is
// dealt with.
func (q *queue) bury(m *message) {
	q.w.met["dead letters"]++
	q.w.say("the %s for %s is dead", m.kind, m.about())
	q.w.start("dead "+m.kind+" for "+m.about(), m.nsg, func(ctx context.Context, c *core) error {
		if m.kind == "prompt" {
			return c.dead.Prompt(ctx, m.nsg, "message")
		}
		return c.dead.Request(ctx, sender, m.request.ClientID, m.request.BodyHash, []byte(m.request.BodyHash))
	}, func(a *actor, err error) {
		if err != nil || a.dead {
			q.s.in(10*time.Second, func() { q.bury(m) })
		}
	})
}

// sender is the queue access-requests.
var sender = access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}

// decide is what the function RequestAccess does with a request message.
func (q *queue) decide(m *message) {
	m.tries++
	q.w.start("request "+m.request.ClientID, "", func(ctx context.Context, c *core) error {
		_, err := c.submitter.Submit(ctx, *m.request)
		if err == nil || access.CodeOf(err).Retryable() {
			return err
		}
		return c.outbox.Reject(ctx, broker.Rejection{MessageID: m.request.ClientID, Refusal: access.RefusalOf(err)})
	}, func(a *actor, err error) {
		switch {
		case err == nil && !a.dead:
			q.requests--
		case m.tries >= mostDeliveries:
			q.requests--
			q.bury(m)
		default:
			q.s.in(5*time.Second<<min(m.tries-1, 6), func() { q.deliver(m) })
		}
	})
}
