package servicebus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

func (b *broker) accept(id string) *azservicebus.SessionReceiver {
	b.t.Helper()
	r, err := b.client.AcceptSessionForQueue(b.t.Context(), "sessions", id, nil)
	b.must(err)
	return r
}

func (b *broker) acceptNext() *azservicebus.SessionReceiver {
	b.t.Helper()
	r, err := b.client.AcceptNextSessionForQueue(b.t.Context(), "sessions", nil)
	b.must(err)
	return r
}

func TestSessionIsExclusiveAndInOrder(t *testing.T) {
	in(t, func(b *broker) {
		b.sendSession("sessions", "one", "1", "2", "3")
		b.sendSession("sessions", "two", "4")
		first, second := b.acceptNext(), b.acceptNext()
		if first.SessionID() != "one" || second.SessionID() != "two" {
			t.Fatalf("got sessions %q and %q", first.SessionID(), second.SessionID())
		}
		if time.Until(first.LockedUntil()) != time.Minute {
			t.Errorf("locked until %s at %s", first.LockedUntil(), time.Now())
		}
		_, err := b.client.AcceptSessionForQueue(b.t.Context(), "sessions", "one", nil)
		condition(t, err, "com.microsoft:session-cannot-be-locked")
		for _, want := range []string{"1", "2", "3"} {
			m := b.one(first)
			if text(m) != want || *m.SessionID != "one" {
				t.Errorf("got %q of %q, want %q", text(m), *m.SessionID, want)
			}
			b.must(first.CompleteMessage(b.t.Context(), m, nil))
		}
		b.none(first) // the other session's message is not for this receiver
		b.counts("sessions", servicebus.Counts{Active: 1})
	})
}

func condition(t *testing.T, err error, want amqp.ErrCond) {
	t.Helper()
	var refused *amqp.Error
	if !errors.As(err, &refused) || refused.Condition != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAcceptNextSessionWaits(t *testing.T) {
	in(t, func(b *broker) {
		got := make(chan string)
		go func() {
			ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
			defer cancel()
			r, err := b.client.AcceptNextSessionForQueue(ctx, "sessions", nil)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- r.SessionID()
		}()
		time.Sleep(10 * time.Second)
		b.sendSession("sessions", "s", "x")
		if id := <-got; id != "s" {
			t.Errorf("got %q", id)
		}
	})
}

func TestAcceptNextSessionGivesUp(t *testing.T) {
	in(t, func(b *broker) {
		link := b.raw("sessions")
		for _, tc := range []struct {
			properties map[string]any
			want       time.Duration
		}{{nil, time.Minute}, {map[string]any{"com.microsoft:timeout": uint32(7000)}, 7 * time.Second}} {
			began := time.Now()
			_, err := link.session.NewReceiver(b.t.Context(), "sessions", &amqp.ReceiverOptions{Properties: tc.properties,
				Filters: []amqp.LinkFilter{amqp.NewLinkFilter("com.microsoft:session-filter", 0x00000137000000C, nil)}})
			condition(t, err, "com.microsoft:timeout")
			if d := time.Since(began); d != tc.want {
				t.Errorf("gave up after %s, want %s", d, tc.want)
			}
		}
	})
}

// A client that gives up waiting must not end up with a session nobody serves.
func TestAcceptNextSessionAbandonedTakesNothing(t *testing.T) {
	in(t, func(b *broker) {
		ctx, cancel := context.WithCancel(b.t.Context())
		time.AfterFunc(5*time.Second, cancel)
		if _, err := b.client.AcceptNextSessionForQueue(ctx, "sessions", nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		synctest.Wait()
		b.sendSession("sessions", "s", "x")
		if r := b.acceptNext(); text(b.one(r)) != "x" {
			t.Error("the message is lost")
		}
	})
}

func TestSessionLockExpires(t *testing.T) {
	in(t, func(b *broker) {
		b.sendSession("sessions", "s", "x")
		r := b.acceptNext()
		m := b.one(r)
		time.Sleep(61 * time.Second)
		if err := r.CompleteMessage(b.t.Context(), m, nil); err == nil {
			t.Error("completed after the session's lock had run out")
		}
		b.must(r.Close(b.t.Context()))
		again := b.acceptNext()
		if m := b.one(again); text(m) != "x" || m.DeliveryCount != 2 {
			t.Errorf("got %q with count %d, want count 2", text(m), m.DeliveryCount)
		}
	})
}

func TestSessionClosedReturnsMessagesUncounted(t *testing.T) {
	in(t, func(b *broker) {
		b.sendSession("sessions", "s", "x")
		for range 5 {
			r := b.acceptNext()
			if m := b.one(r); m.DeliveryCount != 1 {
				t.Errorf("delivery count %d, want 1", m.DeliveryCount)
			}
			b.must(r.Close(b.t.Context()))
		}
	})
}

func TestRenewSessionLock(t *testing.T) {
	in(t, func(b *broker) {
		b.sendSession("sessions", "s", "x")
		r := b.acceptNext()
		m := b.one(r)
		for range 5 {
			time.Sleep(50 * time.Second)
			b.must(r.RenewSessionLock(b.t.Context(), nil))
			if d := time.Until(r.LockedUntil()); d != time.Minute {
				t.Errorf("locked for %s more", d)
			}
		}
		b.must(r.CompleteMessage(b.t.Context(), m, nil))
	})
}

func TestSessionAbandonToDeath(t *testing.T) {
	in(t, func(b *broker) {
		b.sendSession("sessions", "s", "x", "y")
		r := b.acceptNext()
		for n := uint32(1); n <= 3; n++ {
			m := b.one(r)
			if text(m) != "x" || m.DeliveryCount != n {
				t.Errorf("got %q with count %d, want x with %d: order is kept", text(m), m.DeliveryCount, n)
			}
			b.must(r.AbandonMessage(b.t.Context(), m, nil))
		}
		if m := b.one(r); text(m) != "y" {
			t.Errorf("got %q after the dead one", text(m))
		}
		if dead := b.one(b.deadLetters("sessions")); text(dead) != "x" || *dead.SessionID != "s" {
			t.Errorf("dead letter %q", text(dead))
		}
	})
}

func TestSessionState(t *testing.T) {
	in(t, func(b *broker) {
		r := b.accept("s")
		state, err := r.GetSessionState(b.t.Context(), nil)
		b.must(err)
		if state != nil {
			t.Errorf("state %q before any was set", state)
		}
		b.must(r.SetSessionState(b.t.Context(), []byte("here"), nil))
		b.must(r.Close(b.t.Context()))
		r = b.accept("s")
		if state, err = r.GetSessionState(b.t.Context(), nil); err != nil || string(state) != "here" {
			t.Errorf("state %q, %v", state, err)
		}
		b.sendSession("sessions", "t", "x")
		page, err := b.client.NewListSessionsForQueuePager("sessions", nil).NextPage(b.t.Context())
		b.must(err)
		if got := fmt.Sprint(page.Sessions); got != "[s t]" {
			t.Errorf("sessions %s", got)
		}
	})
}

func TestSessionIDIsRequired(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("sessions")
		condition(t, s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte("x")}, nil), amqp.ErrCondNotAllowed)
		if _, err := s.ScheduleMessages(b.t.Context(), []*azservicebus.Message{{}}, time.Now().Add(time.Hour),
			nil); err == nil {
			t.Error("scheduled a message without a session id")
		}
		b.counts("sessions", servicebus.Counts{})
	})
}

func TestReceiverMustFitTheQueue(t *testing.T) {
	in(t, func(b *broker) {
		_, err := b.receiver("sessions").ReceiveMessages(b.t.Context(), 1, nil)
		condition(t, err, amqp.ErrCondNotAllowed)
		_, err = b.client.AcceptSessionForQueue(b.t.Context(), "plain", "s", nil)
		condition(t, err, amqp.ErrCondNotAllowed)
	})
}

func TestScheduledSessionMessage(t *testing.T) {
	in(t, func(b *broker) {
		_, err := b.sender("sessions").ScheduleMessages(b.t.Context(),
			[]*azservicebus.Message{{Body: []byte("x"), SessionID: ptr("s")}}, time.Now().Add(30*time.Second), nil)
		b.must(err)
		began := time.Now()
		r := b.acceptNext()
		if m := b.one(r); text(m) != "x" || time.Since(began) < 30*time.Second {
			t.Errorf("got %q after %s", text(m), time.Since(began))
		}
	})
}
