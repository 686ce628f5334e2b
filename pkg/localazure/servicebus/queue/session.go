package queue

import (
	"slices"
	"strings"
	"time"
)

type session struct {
	ready        []*Message
	holder       any // receiver that has the lock, or nil
	lockedUntil  time.Time
	state        []byte
	stateUpdated time.Time // zero while there is no state
}

func (q *Queue) session(id string) *session {
	s := q.sessions[id]
	if s == nil {
		s = &session{}
		q.sessions[id] = s
	}
	return s
}

func (q *Queue) heldBy(holder any) *session {
	for _, s := range q.sessions {
		if s.holder == holder && holder != nil {
			return s
		}
	}
	return nil
}

// AcceptSession locks a session for holder, which must be comparable and not
// nil: the one named, existing or not, or with nil the next one that nobody
// holds and that has a message to deliver. It returns ErrSessionLocked if the
// named one is held, and ErrNotFound if there is no next one now.
func (q *Queue) AcceptSession(now time.Time, id *string, holder any) (string, time.Time, error) {
	q.Advance(now)
	if id == nil {
		next, ok := q.nextSession()
		if !ok {
			return "", time.Time{}, ErrNotFound
		}
		id = &next
	}
	s := q.session(*id)
	if s.holder != nil {
		return "", time.Time{}, ErrSessionLocked
	}
	s.holder = holder
	s.lockedUntil = now.Add(q.LockDuration)
	q.due(s.lockedUntil)
	return *id, s.lockedUntil, nil
}

// nextSession picks the free session whose first message has waited longest.
func (q *Queue) nextSession() (id string, ok bool) {
	var first int64
	for name, s := range q.sessions {
		if s.holder == nil && len(s.ready) > 0 && (!ok || s.ready[0].Seq < first) {
			id, first, ok = name, s.ready[0].Seq, true
		}
	}
	return id, ok
}

// ReleaseSession gives up whatever session holder has. Messages it had locked
// become deliverable again, their delivery counts as they were (Service Bus
// documentation, "Message sessions", impact of delivery count).
func (q *Queue) ReleaseSession(now time.Time, holder any) {
	q.Advance(now)
	for id, s := range q.sessions {
		if s.holder == holder {
			q.free(id, s, q.unlock)
		}
	}
}

// LoseSession takes the lock of holder's session away as if it had run out.
func (q *Queue) LoseSession(now time.Time, holder any) {
	q.Advance(now)
	for id, s := range q.sessions {
		if s.holder == holder {
			q.free(id, s, q.failed)
		}
	}
}

func (q *Queue) free(id string, s *session, each func(*Message)) {
	s.holder = nil
	var held []*Message
	for _, m := range q.locked {
		if *m.SessionID == id {
			held = append(held, m)
		}
	}
	for _, m := range held {
		each(m)
	}
	if len(s.ready) == 0 && s.state == nil {
		delete(q.sessions, id)
	}
}

// expireSessions lets session locks go that ran out; that counts as a failed
// delivery of the messages in them.
func (q *Queue) expireSessions(now time.Time) (changed bool) {
	for id, s := range q.sessions {
		switch {
		case s.holder == nil:
		case s.lockedUntil.After(now):
			q.due(s.lockedUntil)
		default:
			q.free(id, s, q.failed)
			changed = true
		}
	}
	return changed
}

// held returns the session if holder has its lock; any holder will do for nil,
// as for a management request that does not name its receiver.
func (q *Queue) held(now time.Time, id string, holder any) (*session, error) {
	q.Advance(now)
	s := q.sessions[id]
	if s == nil || s.holder == nil || holder != nil && s.holder != holder {
		return nil, ErrSessionLockLost
	}
	return s, nil
}

// HoldsSession tells whether holder still has a session's lock.
func (q *Queue) HoldsSession(now time.Time, holder any) bool {
	q.Advance(now)
	return q.heldBy(holder) != nil
}

// RenewSession extends a session's lock, and with it those of its messages.
func (q *Queue) RenewSession(now time.Time, id string, holder any) (time.Time, error) {
	s, err := q.held(now, id, holder)
	if err != nil {
		return time.Time{}, err
	}
	s.lockedUntil = now.Add(q.LockDuration)
	q.due(s.lockedUntil)
	for _, m := range q.locked {
		if *m.SessionID == id {
			m.LockedUntil = s.lockedUntil
		}
	}
	return s.lockedUntil, nil
}

// SessionState returns what SetSessionState stored; nil if nothing.
func (q *Queue) SessionState(now time.Time, id string, holder any) ([]byte, error) {
	s, err := q.held(now, id, holder)
	if err != nil {
		return nil, err
	}
	return s.state, nil
}

// SetSessionState stores a session's state, or clears it with nil.
func (q *Queue) SetSessionState(now time.Time, id string, holder any, state []byte) error {
	s, err := q.held(now, id, holder)
	if err != nil {
		return err
	}
	s.state, s.stateUpdated = state, now
	if state == nil {
		s.stateUpdated = time.Time{}
	}
	return nil
}

// Sessions lists ids in order: of sessions with messages or state, or, given a
// time, of those whose state changed after it.
func (q *Queue) Sessions(now time.Time, updatedAfter *time.Time) []string {
	q.Advance(now)
	found := map[string]bool{}
	for id, s := range q.sessions {
		if updatedAfter == nil {
			found[id] = len(s.ready) > 0 || s.state != nil
		} else {
			found[id] = s.stateUpdated.After(*updatedAfter)
		}
	}
	if updatedAfter == nil {
		for _, m := range q.locked {
			if m.SessionID != nil {
				found[*m.SessionID] = true
			}
		}
	}
	var ids []string
	for id, ok := range found {
		if ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return ids
}
