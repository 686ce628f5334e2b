package queue

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Settlement. Each of these wants the token of a lock that still holds, and
// answers ErrLockLost otherwise.

func (q *Queue) lockedMessage(now time.Time, token [16]byte) (*Message, error) {
	q.Advance(now)
	if m, ok := q.locked[token]; ok {
		return m, nil
	}
	return nil, ErrLockLost
}

// Complete removes a message for good.
func (q *Queue) Complete(now time.Time, token [16]byte) error {
	m, err := q.lockedMessage(now, token)
	if err == nil {
		q.remove(m)
	}
	return err
}

// Abandon makes a message deliverable again at once, its delivery count raised;
// at MaxDeliveryCount deliveries it is dead-lettered instead.
func (q *Queue) Abandon(now time.Time, token [16]byte, properties map[string]any) error {
	m, err := q.lockedMessage(now, token)
	if err == nil {
		m.withProperties(properties)
		q.failed(m)
	}
	return err
}

// Release makes a message deliverable again as if it had not been delivered.
func (q *Queue) Release(now time.Time, token [16]byte) error {
	m, err := q.lockedMessage(now, token)
	if err == nil {
		q.unlock(m)
	}
	return err
}

// Defer sets a message aside; ReceiveDeferred finds it.
func (q *Queue) Defer(now time.Time, token [16]byte, properties map[string]any) error {
	m, err := q.lockedMessage(now, token)
	if err == nil {
		m.withProperties(properties)
		m.State = Deferred
		q.unlock(m)
	}
	return err
}

// DeadLetter moves a message to the dead-letter queue. In a dead-letter queue
// itself it removes the message.
func (q *Queue) DeadLetter(now time.Time, token [16]byte, reason, description string, properties map[string]any) error {
	m, err := q.lockedMessage(now, token)
	if err == nil {
		m.withProperties(properties)
		q.bury(m, reason, description)
	}
	return err
}

// Renew extends a lock by LockDuration from now and returns its new end.
func (q *Queue) Renew(now time.Time, token [16]byte) (time.Time, error) {
	m, err := q.lockedMessage(now, token)
	if err != nil {
		return time.Time{}, err
	}
	if q.RequiresSession {
		return time.Time{}, ErrLockLost // only the session's lock can be renewed
	}
	m.LockedUntil = now.Add(q.LockDuration)
	q.due(m.LockedUntil)
	return m.LockedUntil, nil
}

func (q *Queue) unlock(m *Message) {
	delete(q.locked, m.Token)
	m.locked = false
	m.Token = [16]byte{}
	if m.State == Active {
		q.makeReady(m)
	}
	if !m.expiresAt.IsZero() {
		q.due(m.expiresAt) // a lock held the expiry off
	}
}

// failed counts a delivery that came to nothing.
func (q *Queue) failed(m *Message) {
	if q.dead == nil { // the counts of a dead-letter queue stand still
		q.unlock(m)
		return
	}
	if q.MaxDeliveryCount > 0 && m.DeliveryCount+1 >= q.MaxDeliveryCount {
		q.bury(m, ReasonMaxDeliveryCount,
			"Message could not be consumed after "+strconv.Itoa(int(q.MaxDeliveryCount))+" delivery attempts.")
		return
	}
	m.DeliveryCount++
	q.unlock(m)
}

// bury moves a message to the dead-letter queue, where it keeps its sequence
// number and never expires.
func (q *Queue) bury(m *Message, reason, description string) {
	q.remove(m)
	if m.State == Active && !m.locked {
		q.unready(m)
	}
	if q.dead == nil {
		return
	}
	m.withProperties(stated(map[string]string{"DeadLetterReason": reason, "DeadLetterErrorDescription": description}))
	m.State, m.locked, m.Token, m.expiresAt = Active, false, [16]byte{}, time.Time{}
	m.Source = q.Name
	q.dead.keep(m)
	q.dead.makeReady(m)
}

// stated keeps the properties that say something.
func stated(properties map[string]string) map[string]any {
	kept := map[string]any{}
	for name, text := range properties {
		if text != "" {
			kept[name] = text
		}
	}
	return kept
}

// Advance does what has fallen due: it activates scheduled messages in the
// order of their times, lets locks go, and expires messages. It tells whether
// anything changed.
func (q *Queue) Advance(now time.Time) bool {
	changed := q.dead != nil && q.dead.Advance(now)
	if q.nextDue.IsZero() || q.nextDue.After(now) {
		return changed
	}
	q.nextDue = time.Time{}
	var scheduled, failed, expired []*Message
	for _, m := range q.messages {
		switch {
		case m.State == Scheduled && m.ScheduledAt.After(now):
			q.due(m.ScheduledAt)
		case m.State == Scheduled:
			scheduled = append(scheduled, m)
		case m.locked && q.RequiresSession:
		case m.locked && m.LockedUntil.After(now):
			q.due(m.LockedUntil)
		case m.locked:
			failed = append(failed, m)
		case !m.expiresAt.IsZero() && m.expiresAt.After(now):
			q.due(m.expiresAt)
		case !m.expiresAt.IsZero():
			expired = append(expired, m)
		}
	}
	slices.SortStableFunc(scheduled, func(a, b *Message) int { return cmp.Compare(a.ScheduledAt.UnixNano(), b.ScheduledAt.UnixNano()) })
	for _, m := range scheduled {
		q.remove(m)
		q.activate(now, m)
	}
	for _, m := range failed {
		q.failed(m)
	}
	for _, m := range expired {
		q.expire(m)
	}
	return q.expireSessions(now) || changed || len(scheduled)+len(failed)+len(expired) > 0
}

func (q *Queue) expire(m *Message) {
	if q.DeadLetterOnExpiration {
		q.bury(m, ReasonExpired, "The message expired and was dead lettered.")
		return
	}
	q.remove(m)
	if m.State == Active {
		q.unready(m)
	}
}
