// Package queue is what a Service Bus queue does, without a wire: locks and
// their expiry, delivery counts, dead-lettering, deferral, scheduling, sessions,
// duplicate detection and peeking. Nothing in it runs by itself or reads a
// clock: every call is told the time, and Advance does what fell due.
package queue

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Refusals. Which AMQP condition each becomes is for the wire code to say.
var (
	ErrLockLost        = errors.New("the lock supplied is invalid")
	ErrNotFound        = errors.New("no such message")
	ErrSessionRequired = errors.New("the message has no session id")
	ErrSessionLocked   = errors.New("the session is locked by another receiver")
	ErrSessionLockLost = errors.New("the session lock was lost")
)

// Reasons that the service itself gives for dead-lettering.
const (
	ReasonMaxDeliveryCount = "MaxDeliveryCountExceeded"
	ReasonExpired          = "TTLExpiredException"
)

// Config is how a queue behaves.
type Config struct {
	Name                   string
	LockDuration           time.Duration
	MaxDeliveryCount       uint32
	DefaultTTL             time.Duration // 0 means for ever
	DeadLetterOnExpiration bool
	RequiresSession        bool
	DuplicateWindow        time.Duration // 0 means no duplicate detection
}

// Queue is the state machine of one queue, subscription or dead-letter queue.
// It is not safe for concurrent use.
type Queue struct {
	Config
	dead    *Queue          // dead-letter queue, nil in one
	forward func() []*Queue // where messages go instead of here: a topic's subscriptions

	lastSeq  int64
	messages []*Message            // all, by Seq
	ready    []*Message            // deliverable, by Seq, if there are no sessions
	locked   map[[16]byte]*Message // by token
	sessions map[string]*session
	seen     map[string]time.Time // message ids, for duplicate detection
	seenIDs  []string             // in the order seen
	nextDue  time.Time            // nothing falls due before it; zero means nothing at all
	size     int64
}

// New makes a queue with its dead-letter queue.
func New(c Config) *Queue {
	q := newQueue(c)
	q.dead = newQueue(Config{Name: c.Name, LockDuration: c.LockDuration})
	return q
}

// NewTopic makes the part of a topic that holds messages: it detects duplicates
// and keeps scheduled messages, and passes everything else on to subscriptions.
func NewTopic(c Config, subscriptions func() []*Queue) *Queue {
	q := newQueue(c)
	q.forward = subscriptions
	return q
}

func newQueue(c Config) *Queue {
	return &Queue{Config: c, locked: map[[16]byte]*Message{}, sessions: map[string]*session{}, seen: map[string]time.Time{}}
}

// DeadLetters is the dead-letter queue; nil if the queue is one itself.
func (q *Queue) DeadLetters() *Queue { return q.dead }

// Reconfigure changes how the queue behaves from now on; messages keep their
// locks and the expiry they have. RequiresSession cannot change.
func (q *Queue) Reconfigure(c Config) {
	c.RequiresSession = q.RequiresSession
	q.Config = c
	if q.dead != nil {
		q.dead.LockDuration = c.LockDuration
	}
}

// Enqueue takes a message in and returns its sequence number: 0 if it was
// dropped, unnoticed by the sender, as a duplicate.
func (q *Queue) Enqueue(now time.Time, m *Message) (int64, error) {
	if q.RequiresSession && m.SessionID == nil {
		return 0, ErrSessionRequired
	}
	if q.duplicate(now, m.ID) {
		return 0, nil
	}
	if m.ScheduledAt.After(now) {
		m.State = Scheduled
		q.insert(m)
		q.due(m.ScheduledAt)
		return m.Seq, nil
	}
	q.activate(now, m)
	return m.Seq, nil
}

func (q *Queue) duplicate(now time.Time, id string) bool {
	if q.DuplicateWindow == 0 {
		return false
	}
	for len(q.seenIDs) > 0 && now.Sub(q.seen[q.seenIDs[0]]) >= q.DuplicateWindow {
		delete(q.seen, q.seenIDs[0])
		q.seenIDs = q.seenIDs[1:]
	}
	if _, ok := q.seen[id]; ok {
		return true
	}
	q.seen[id] = now
	q.seenIDs = append(q.seenIDs, id)
	return false
}

// insert gives the message the next sequence number and keeps it.
func (q *Queue) insert(m *Message) {
	q.lastSeq++
	m.Seq = q.lastSeq
	q.keep(m)
}

func (q *Queue) keep(m *Message) {
	i, _ := slices.BinarySearchFunc(q.messages, m.Seq, bySeq)
	q.messages = slices.Insert(q.messages, i, m)
	q.size += int64(m.Size)
}

func (q *Queue) remove(m *Message) {
	if i, ok := slices.BinarySearchFunc(q.messages, m.Seq, bySeq); ok {
		q.messages = slices.Delete(q.messages, i, i+1)
		q.size -= int64(m.Size)
	}
	delete(q.locked, m.Token)
}

func (q *Queue) find(seq int64) *Message {
	if i, ok := slices.BinarySearchFunc(q.messages, seq, bySeq); ok {
		return q.messages[i]
	}
	return nil
}

func bySeq(m *Message, seq int64) int { return cmp.Compare(m.Seq, seq) }

// activate makes a message deliverable that is new here: it gets its sequence
// number now, as a scheduled message does for the second time.
func (q *Queue) activate(now time.Time, m *Message) {
	if q.forward != nil {
		q.lastSeq++
		m.Seq = q.lastSeq
		for _, s := range q.forward() {
			copied := m.fresh()
			copied.TTL = shorter(m.TTL, q.DefaultTTL)
			if s.RequiresSession && m.SessionID == nil {
				continue // no session could ever deliver it
			}
			s.activate(now, copied)
		}
		return
	}
	m.State = Active
	m.EnqueuedAt = now
	if ttl := shorter(m.TTL, q.DefaultTTL); ttl > 0 {
		m.expiresAt = now.Add(ttl)
		q.due(m.expiresAt)
	}
	q.insert(m)
	q.makeReady(m)
}

// shorter returns the lesser of two durations of which 0 stands for none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (q *Queue) readyList(m *Message) *[]*Message {
	if q.RequiresSession {
		return &q.session(*m.SessionID).ready
	}
	return &q.ready
}

func (q *Queue) makeReady(m *Message) {
	list := q.readyList(m)
	i, _ := slices.BinarySearchFunc(*list, m.Seq, bySeq)
	*list = slices.Insert(*list, i, m)
}

// unready takes a message out of the deliverable ones, if it is one of them.
func (q *Queue) unready(m *Message) {
	list := q.readyList(m)
	if i, ok := slices.BinarySearchFunc(*list, m.Seq, bySeq); ok {
		*list = slices.Delete(*list, i, i+1)
	}
}

func (q *Queue) due(at time.Time) {
	if q.nextDue.IsZero() || at.Before(q.nextDue) {
		q.nextDue = at
	}
}

// NextDue tells when Advance should be called again, for the dead-letter queue
// too; false if nothing is pending.
func (q *Queue) NextDue() (time.Time, bool) {
	next := q.nextDue
	if q.dead != nil && !q.dead.nextDue.IsZero() && (next.IsZero() || q.dead.nextDue.Before(next)) {
		next = q.dead.nextDue
	}
	return next, !next.IsZero()
}

// Receive delivers the first deliverable message, or nil. With lock it is
// locked for LockDuration under a new token, else it is gone. In a queue with
// sessions, holder names the receiver whose session to take from.
func (q *Queue) Receive(now time.Time, lock bool, holder any) *Message {
	list, until := q.deliverable(now, holder)
	if list == nil {
		return nil
	}
	m := (*list)[0]
	*list = slices.Delete(*list, 0, 1)
	if lock {
		q.lock(m, until)
	} else {
		q.remove(m)
	}
	return m
}

// HasReady tells whether Receive would deliver a message.
func (q *Queue) HasReady(now time.Time, holder any) bool {
	list, _ := q.deliverable(now, holder)
	return list != nil
}

// deliverable is the list that holder gets its next message from, if there is
// one, and when the lock of it would end.
func (q *Queue) deliverable(now time.Time, holder any) (list *[]*Message, until time.Time) {
	q.Advance(now)
	list, until = &q.ready, now.Add(q.LockDuration)
	if q.RequiresSession {
		s := q.heldBy(holder)
		if s == nil {
			return nil, until
		}
		list, until = &s.ready, s.lockedUntil
	}
	if len(*list) == 0 {
		return nil, until
	}
	return list, until
}

func (q *Queue) lock(m *Message, until time.Time) {
	m.Token = uuid.New()
	m.LockedUntil = until
	m.locked = true
	q.locked[m.Token] = m
	if !q.RequiresSession {
		q.due(until) // in a session, the session's lock counts
	}
}

// ReceiveDeferred delivers a deferred message by its sequence number.
func (q *Queue) ReceiveDeferred(now time.Time, seq int64, lock bool) (*Message, error) {
	q.Advance(now)
	m := q.find(seq)
	if m == nil || m.State != Deferred || m.locked {
		return nil, ErrNotFound
	}
	if !lock {
		q.remove(m)
		return m, nil
	}
	until := now.Add(q.LockDuration)
	if q.RequiresSession {
		s := q.session(*m.SessionID)
		if s.holder == nil {
			return nil, ErrSessionLockLost
		}
		until = s.lockedUntil
	}
	q.lock(m, until)
	return m, nil
}

// Peek returns up to count messages from a sequence number on, whatever their
// state; only those of one session if session is not nil.
func (q *Queue) Peek(now time.Time, from int64, count int, session *string) []*Message {
	q.Advance(now)
	var found []*Message
	i, _ := slices.BinarySearchFunc(q.messages, from, bySeq)
	for ; i < len(q.messages) && len(found) < count; i++ {
		m := q.messages[i]
		if session == nil || m.SessionID != nil && *m.SessionID == *session {
			found = append(found, m)
		}
	}
	return found
}

// CancelScheduled removes scheduled messages: all of them, or none and
// ErrNotFound if one is not there or was already activated.
func (q *Queue) CancelScheduled(now time.Time, seqs []int64) error {
	q.Advance(now)
	for _, seq := range seqs {
		if m := q.find(seq); m == nil || m.State != Scheduled {
			return ErrNotFound
		}
	}
	for _, seq := range seqs {
		if m := q.find(seq); m != nil {
			q.remove(m)
		}
	}
	return nil
}

// Counts are the numbers of messages. Active ones include the locked and the
// deferred, as in the service's own CountDetails.
type Counts struct {
	Active, Scheduled, DeadLettered int
	Size                            int64 // octets
}

// Counts counts what is there.
func (q *Queue) Counts(now time.Time) Counts {
	q.Advance(now)
	c := Counts{Size: q.size}
	for _, m := range q.messages {
		if m.State == Scheduled {
			c.Scheduled++
		} else {
			c.Active++
		}
	}
	if q.dead != nil {
		c.DeadLettered = len(q.dead.messages)
		c.Size += q.dead.size
	}
	return c
}
