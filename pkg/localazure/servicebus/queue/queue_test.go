package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

// clock is what a test says the time is.
type clock struct{ time.Time }

func newClock() *clock                   { return &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} }
func (c *clock) advance(d time.Duration) { c.Time = c.Add(d) }

func message(id string) *Message {
	return &Message{ID: id, Body: &amqp.Message{}, Size: 10}
}

func inSession(id, session string) *Message {
	m := message(id)
	m.SessionID = &session
	return m
}

func put(t *testing.T, q *Queue, c *clock, messages ...*Message) {
	t.Helper()
	for _, m := range messages {
		if _, err := q.Enqueue(c.Time, m); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, q *Queue, c *clock, holder any, want string) *Message {
	t.Helper()
	m := q.Receive(c.Time, true, holder)
	if m == nil {
		t.Fatalf("nothing to receive, want %s", want)
	}
	if m.ID != want {
		t.Fatalf("received %s, want %s", m.ID, want)
	}
	return m
}

func empty(t *testing.T, q *Queue, c *clock, holder any) {
	t.Helper()
	if m := q.Receive(c.Time, true, holder); m != nil {
		t.Fatalf("received %s, want nothing", m.ID)
	}
}

func counts(t *testing.T, q *Queue, c *clock, active, scheduled, dead int) {
	t.Helper()
	got := q.Counts(c.Time)
	if want := (Counts{active, scheduled, dead, int64(10 * (active + scheduled + dead))}); got != want {
		t.Fatalf("counts %+v, want %+v", got, want)
	}
}

func TestAbandonKeepsThePlaceInLine(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 10})
	put(t, q, c, message("a"), message("b"), message("c"))
	a, b := get(t, q, c, nil, "a"), get(t, q, c, nil, "b")
	if err := errors.Join(q.Abandon(c.Time, b.Token, nil), q.Abandon(c.Time, a.Token, nil)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b", "c"} {
		get(t, q, c, nil, want)
	}
}

func TestLocksEndOnTheirTime(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 10})
	put(t, q, c, message("a"))
	m := get(t, q, c, nil, "a")
	token := m.Token
	if next, ok := q.NextDue(); !ok || !next.Equal(c.Add(time.Minute)) {
		t.Errorf("next due %s, %v", next, ok)
	}
	c.advance(time.Minute - 1)
	if q.Advance(c.Time) {
		t.Error("something happened before the lock ended")
	}
	c.advance(1)
	if !q.Advance(c.Time) {
		t.Error("nothing happened when the lock ended")
	}
	if err := q.Complete(c.Time, token); !errors.Is(err, ErrLockLost) {
		t.Errorf("got %v", err)
	}
	if m := get(t, q, c, nil, "a"); m.DeliveryCount != 1 || m.Token == token {
		t.Errorf("count %d; the token must be another", m.DeliveryCount)
	}
}

// Two dead-letter queues' worth of locks: the timer must cover the inner one.
func TestNextDueCoversDeadLetters(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 1})
	put(t, q, c, message("a"))
	if err := q.Abandon(c.Time, get(t, q, c, nil, "a").Token, nil); err != nil {
		t.Fatal(err)
	}
	get(t, q.DeadLetters(), c, nil, "a")
	if next, ok := q.NextDue(); !ok || !next.Equal(c.Add(time.Minute)) {
		t.Errorf("next due %s, %v", next, ok)
	}
	c.advance(time.Minute)
	if !q.Advance(c.Time) {
		t.Error("the lock in the dead-letter queue stays")
	}
	if m := get(t, q.DeadLetters(), c, nil, "a"); m.DeliveryCount != 0 {
		t.Errorf("count %d in the dead-letter queue, where counts stand still", m.DeliveryCount)
	}
}

func TestScheduledAreActivatedInTimeOrder(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 10})
	for i, d := range []int{3, 1, 2} {
		m := message(fmt.Sprint(d))
		m.ScheduledAt = c.Add(time.Duration(d) * time.Hour)
		put(t, q, c, m)
		if m.Seq != int64(i+1) {
			t.Errorf("number %d", m.Seq)
		}
	}
	counts(t, q, c, 0, 3, 0)
	c.advance(4 * time.Hour)
	for i, want := range []string{"1", "2", "3"} {
		if m := get(t, q, c, nil, want); m.Seq != int64(4+i) {
			t.Errorf("number %d after activation, want %d", m.Seq, 4+i)
		}
	}
}

func TestCancelIsAllOrNothing(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute})
	m := message("a")
	m.ScheduledAt = c.Add(time.Hour)
	put(t, q, c, m)
	if err := q.CancelScheduled(c.Time, []int64{m.Seq, 99}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	counts(t, q, c, 0, 1, 0)
	if err := q.CancelScheduled(c.Time, []int64{m.Seq, m.Seq}); err != nil {
		t.Error(err)
	}
	counts(t, q, c, 0, 0, 0)
	c.advance(2 * time.Hour)
	empty(t, q, c, nil)
}

func TestTheShorterTimeToLiveCounts(t *testing.T) {
	for _, tc := range []struct{ asked, initial, want time.Duration }{
		{0, 0, 0}, {time.Hour, 0, time.Hour}, {0, time.Hour, time.Hour}, {time.Hour, time.Minute, time.Minute}, {time.Minute, time.Hour, time.Minute},
	} {
		c, q := newClock(), New(Config{LockDuration: time.Minute, DefaultTTL: tc.initial})
		m := message("a")
		m.TTL = tc.asked
		put(t, q, c, m)
		next, ok := q.NextDue()
		if ok != (tc.want > 0) || ok && !next.Equal(c.Add(tc.want)) {
			t.Errorf("%+v: due %s, %v", tc, next, ok)
		}
	}
}

func TestDeferredSurviveTheirLock(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 10})
	put(t, q, c, message("a"))
	m := get(t, q, c, nil, "a")
	if err := q.Defer(c.Time, m.Token, nil); err != nil {
		t.Fatal(err)
	}
	m, err := q.ReceiveDeferred(c.Time, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.ReceiveDeferred(c.Time, 1, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("a locked one was received again: %v", err)
	}
	c.advance(2 * time.Minute)
	empty(t, q, c, nil)
	if m, err = q.ReceiveDeferred(c.Time, m.Seq, false); err != nil || m.DeliveryCount != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	counts(t, q, c, 0, 0, 0)
}

func TestSessionsHaveOneHolder(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, MaxDeliveryCount: 2, RequiresSession: true})
	put(t, q, c, inSession("a1", "a"), inSession("b1", "b"), inSession("a2", "a"))
	empty(t, q, c, "nobody")
	if id, _, err := q.AcceptSession(c.Time, nil, "first"); err != nil || id != "a" {
		t.Fatalf("%q, %v", id, err)
	}
	if id, _, err := q.AcceptSession(c.Time, nil, "second"); err != nil || id != "b" {
		t.Fatalf("%q, %v", id, err)
	}
	if _, _, err := q.AcceptSession(c.Time, nil, "third"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a third session: %v", err)
	}
	name := "a"
	if _, _, err := q.AcceptSession(c.Time, &name, "third"); !errors.Is(err, ErrSessionLocked) {
		t.Errorf("a held session: %v", err)
	}
	a1 := get(t, q, c, "first", "a1")
	get(t, q, c, "second", "b1")
	get(t, q, c, "first", "a2")
	empty(t, q, c, "first")

	// The first gives up: uncounted. The second's lock runs out: counted.
	token := a1.Token
	q.ReleaseSession(c.Time, "first")
	if err := q.Complete(c.Time, token); !errors.Is(err, ErrLockLost) {
		t.Errorf("completed without the session: %v", err)
	}
	c.advance(time.Minute)
	q.Advance(c.Time)
	if q.HoldsSession(c.Time, "second") {
		t.Error("the session's lock did not run out")
	}
	for _, want := range []struct {
		id    string
		count uint32
	}{{"a1", 0}, {"b1", 1}} {
		if _, _, err := q.AcceptSession(c.Time, nil, want.id); err != nil {
			t.Fatal(err)
		}
		if m := get(t, q, c, want.id, want.id); m.DeliveryCount != want.count {
			t.Errorf("%s has count %d, want %d", m.ID, m.DeliveryCount, want.count)
		}
	}
}

func TestEmptySessionsAreForgotten(t *testing.T) {
	c, q := newClock(), New(Config{LockDuration: time.Minute, RequiresSession: true})
	for i := range 100 {
		id := fmt.Sprint(i)
		if _, _, err := q.AcceptSession(c.Time, &id, i); err != nil {
			t.Fatal(err)
		}
		q.ReleaseSession(c.Time, i)
	}
	if len(q.sessions) != 0 {
		t.Errorf("%d sessions are left", len(q.sessions))
	}
}

// Whatever is done in whatever order, no message is lost or there twice, and
// nothing in hand is deliverable.
func TestNothingIsLostOrDoubled(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := newClock()
		cfg := Config{LockDuration: time.Minute, MaxDeliveryCount: 3, RequiresSession: seed%2 == 0}
		q := New(cfg)
		var tokens [][16]byte
		in, out := 0, 0
		settled := func(err error) {
			if err == nil {
				out++
			}
		}
		for range 300 {
			c.advance(time.Duration(r.IntN(20)) * time.Second)
			holder := r.IntN(3)
			token := [16]byte{}
			if len(tokens) > 0 {
				token = tokens[r.IntN(len(tokens))]
			}
			switch r.IntN(9) {
			case 0, 1:
				m := inSession(fmt.Sprint(in), fmt.Sprint(r.IntN(3)))
				if r.IntN(3) == 0 {
					m.ScheduledAt = c.Add(time.Duration(r.IntN(300)) * time.Second)
				}
				put(t, q, c, m)
				in++
			case 2, 3:
				if cfg.RequiresSession && !q.HoldsSession(c.Time, holder) {
					_, _, _ = q.AcceptSession(c.Time, nil, holder) // there may be none
				}
				if m := q.Receive(c.Time, true, holder); m != nil {
					tokens = append(tokens, m.Token)
				}
			case 4:
				settled(q.Complete(c.Time, token))
			case 5:
				_ = q.Abandon(c.Time, token, nil) // the lock may be gone
			case 6:
				_ = q.DeadLetter(c.Time, token, "r", "d", nil)
			case 7:
				if cfg.RequiresSession {
					q.ReleaseSession(c.Time, holder)
				}
			case 8:
				if m := q.DeadLetters().Receive(c.Time, false, nil); m != nil {
					out++
				}
			}
			check(t, q, seed, in-out)
		}
	}
}

func check(t *testing.T, q *Queue, seed uint64, want int) {
	t.Helper()
	if got := len(q.messages) + len(q.dead.messages); got != want {
		t.Fatalf("seed %d: %d messages, want %d", seed, got, want)
	}
	ready := slices.Clone(q.ready)
	for _, s := range q.sessions {
		ready = append(ready, s.ready...)
	}
	seen := map[*Message]bool{}
	for _, m := range ready {
		if seen[m] || m.locked || m.State != Active || q.find(m.Seq) != m {
			t.Fatalf("seed %d: message %s is deliverable: twice %v, locked %v, state %d", seed, m.ID, seen[m], m.locked, m.State)
		}
		seen[m] = true
	}
	for _, m := range q.messages {
		if m.State == Active && m.locked == seen[m] {
			t.Fatalf("seed %d: message %s: locked %v, deliverable %v", seed, m.ID, m.locked, seen[m])
		}
		if m.locked != (q.locked[m.Token] == m) {
			t.Fatalf("seed %d: message %s and the locks disagree", seed, m.ID)
		}
	}
}
