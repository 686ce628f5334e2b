package servicebus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

// in runs a test in a bubble in which time is the test's own.
func in(t *testing.T, test func(b *broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newBroker(t)) })
}

func TestSendReceiveComplete(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("PLAIN") // names compare without case
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte("hello"),
			ApplicationProperties: map[string]any{"n": int64(7)}, Subject: ptr("subject"), CorrelationID: ptr("c")}, nil))
		m := b.one(b.receiver("plain"))
		if text(m) != "hello" || m.ApplicationProperties["n"] != int64(7) || *m.Subject != "subject" || *m.CorrelationID != "c" {
			t.Errorf("got %+v", m)
		}
		if m.DeliveryCount != 1 || m.MessageID == "" || *m.SequenceNumber != 1 {
			t.Errorf("count %d, id %q, number %d", m.DeliveryCount, m.MessageID, *m.SequenceNumber)
		}
		if !m.EnqueuedTime.Equal(time.Now()) || time.Until(*m.LockedUntil) != time.Minute {
			t.Errorf("enqueued %s, locked until %s; now %s", m.EnqueuedTime, m.LockedUntil, time.Now())
		}
		b.counts("Plain", servicebus.Counts{Active: 1})
		b.must(b.receiver("plain").CompleteMessage(b.t.Context(), m, nil))
		b.counts("plain", servicebus.Counts{})
	})
}

func ptr[T any](v T) *T { return &v }

func TestCompleteOnItsOwnLink(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "1", "2")
		r := b.receiver("plain")
		for _, want := range []string{"1", "2"} {
			m := b.one(r)
			if text(m) != want {
				t.Errorf("got %q, want %q", text(m), want)
			}
			b.must(r.CompleteMessage(b.t.Context(), m, nil))
		}
		b.counts("plain", servicebus.Counts{})
	})
}

func TestReceiveAndDelete(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "1", "2", "3")
		r, err := b.client.NewReceiverForQueue("plain", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		b.must(err)
		got, err := r.ReceiveMessages(b.t.Context(), 2, nil)
		b.must(err)
		if len(got) != 2 || text(got[0]) != "1" || text(got[1]) != "2" {
			t.Errorf("got %d messages", len(got))
		}
		b.counts("plain", servicebus.Counts{Active: 1})
	})
}

func TestAbandonComesBackAtOnceUntilDead(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r := b.receiver("plain")
		began := time.Now()
		for n := uint32(1); n <= 3; n++ {
			m := b.one(r)
			if m.DeliveryCount != n {
				t.Errorf("delivery count %d, want %d", m.DeliveryCount, n)
			}
			b.must(r.AbandonMessage(b.t.Context(), m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"tries": int64(n)}}))
		}
		// A receive gathers further messages for 20 ms; the broker itself adds nothing.
		if d := time.Since(began); d > time.Second {
			t.Errorf("three deliveries took %s: there is no back-off on abandon", d)
		}
		b.none(r)
		b.counts("plain", servicebus.Counts{DeadLettered: 1})
		m := b.one(b.deadLetters("plain"))
		if *m.DeadLetterReason != "MaxDeliveryCountExceeded" || *m.DeadLetterSource != "plain" || m.ApplicationProperties["tries"] != int64(3) {
			t.Errorf("dead letter: %v from %v, %v", *m.DeadLetterReason, *m.DeadLetterSource, m.ApplicationProperties)
		}
	})
}

func TestDeadLetterCountsStandStill(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r := b.receiver("plain")
		b.must(r.DeadLetterMessage(b.t.Context(), b.one(r), &azservicebus.DeadLetterOptions{
			Reason: ptr("why"), ErrorDescription: ptr("because"), PropertiesToModify: map[string]any{"k": "v"}}))
		d := b.deadLetters("plain")
		for range 5 {
			m := b.one(d)
			if *m.DeadLetterReason != "why" || *m.DeadLetterErrorDescription != "because" || m.ApplicationProperties["k"] != "v" || m.DeliveryCount != 1 {
				t.Errorf("dead letter: %s, %s, %v, count %d", *m.DeadLetterReason, *m.DeadLetterErrorDescription, m.ApplicationProperties, m.DeliveryCount)
			}
			b.must(d.AbandonMessage(b.t.Context(), m, nil))
		}
		b.must(d.CompleteMessage(b.t.Context(), b.one(d), nil))
		b.counts("plain", servicebus.Counts{})
	})
}

func TestLockExpires(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r := b.receiver("plain")
		for n := uint32(1); n <= 3; n++ {
			m := b.one(r)
			if m.DeliveryCount != n {
				t.Errorf("delivery count %d, want %d", m.DeliveryCount, n)
			}
			time.Sleep(61 * time.Second)
			b.code(r.CompleteMessage(b.t.Context(), m, nil), azservicebus.CodeLockLost)
		}
		b.counts("plain", servicebus.Counts{DeadLettered: 1})
	})
}

func TestRenewLock(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r := b.receiver("plain")
		m := b.one(r)
		for range 5 {
			time.Sleep(50 * time.Second)
			b.must(r.RenewMessageLock(b.t.Context(), m, nil))
			if !m.LockedUntil.Equal(time.Now().Add(time.Minute)) {
				t.Errorf("locked until %s at %s", m.LockedUntil, time.Now())
			}
		}
		b.must(r.CompleteMessage(b.t.Context(), m, nil))
		b.code(r.RenewMessageLock(b.t.Context(), m, nil), azservicebus.CodeLockLost)
	})
}

func TestReleaseDoesNotCount(t *testing.T) {
	in(t, func(b *broker) {
		r := b.receiver("plain")
		b.none(r) // leaves a credit behind
		b.send("plain", "x")
		synctest.Wait() // the SDK's background releaser gives the message back, unasked for
		if m := b.one(r); m.DeliveryCount != 1 {
			t.Errorf("delivery count %d after a release, want 1", m.DeliveryCount)
		}
	})
}

func TestDefer(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r := b.receiver("plain")
		m := b.one(r)
		b.must(r.DeferMessage(b.t.Context(), m, &azservicebus.DeferMessageOptions{PropertiesToModify: map[string]any{"k": "v"}}))
		b.none(r)
		peeked, err := r.PeekMessages(b.t.Context(), 1, nil)
		b.must(err)
		if len(peeked) != 1 || peeked[0].State != azservicebus.MessageStateDeferred {
			t.Errorf("peeked %+v", peeked)
		}
		got, err := r.ReceiveDeferredMessages(b.t.Context(), []int64{*m.SequenceNumber}, nil)
		b.must(err)
		if len(got) != 1 || text(got[0]) != "x" || got[0].ApplicationProperties["k"] != "v" {
			t.Fatalf("got %+v", got)
		}
		b.must(r.CompleteMessage(b.t.Context(), got[0], nil))
		b.counts("plain", servicebus.Counts{})
		_, err = r.ReceiveDeferredMessages(b.t.Context(), []int64{*m.SequenceNumber}, nil)
		b.code(err, azservicebus.CodeNotFound)
	})
}

func TestSchedule(t *testing.T) {
	in(t, func(b *broker) {
		s, r := b.sender("plain"), b.receiver("plain")
		at := time.Now().Add(time.Hour)
		seqs, err := s.ScheduleMessages(b.t.Context(), []*azservicebus.Message{{Body: []byte("later")}, {Body: []byte("never")}}, at, nil)
		b.must(err)
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte("sooner"), ScheduledEnqueueTime: ptr(at.Add(-time.Minute))}, nil))
		b.counts("plain", servicebus.Counts{Scheduled: 3})
		peeked, err := r.PeekMessages(b.t.Context(), 10, nil)
		b.must(err)
		if len(peeked) != 3 || peeked[0].State != azservicebus.MessageStateScheduled {
			t.Errorf("peeked %d messages", len(peeked))
		}
		b.must(s.CancelScheduledMessages(b.t.Context(), seqs[1:], nil))
		b.code(s.CancelScheduledMessages(b.t.Context(), seqs[1:], nil), azservicebus.CodeNotFound)
		b.none(r)

		time.Sleep(time.Until(at))
		for _, want := range []string{"sooner", "later"} {
			m := b.one(r)
			if text(m) != want {
				t.Errorf("got %q, want %q", text(m), want)
			}
			b.must(r.CompleteMessage(b.t.Context(), m, nil))
			if want != "later" {
				continue
			}
			if *m.SequenceNumber == seqs[0] || !m.EnqueuedTime.Equal(at) || !m.ScheduledEnqueueTime.Equal(at) {
				t.Errorf("number %d was %d; enqueued %s, want %s", *m.SequenceNumber, seqs[0], m.EnqueuedTime, at)
			}
		}
		b.code(s.CancelScheduledMessages(b.t.Context(), seqs[:1], nil), azservicebus.CodeNotFound)
	})
}

func TestScheduledMessageReachesAWaitingReceiver(t *testing.T) {
	in(t, func(b *broker) {
		at := time.Now().Add(20 * time.Second)
		_, err := b.sender("plain").ScheduleMessages(b.t.Context(), []*azservicebus.Message{{}}, at, nil)
		b.must(err)
		b.one(b.receiver("plain"))
		if now := time.Now(); now.Before(at) || now.Sub(at) > time.Second {
			t.Errorf("received at %s, was scheduled for %s", now, at)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	in(t, func(b *broker) {
		b.send("expiring", "x")
		b.send("vanishing", "x")
		b.must(b.sender("plain").SendMessage(b.t.Context(), &azservicebus.Message{TimeToLive: ptr(time.Minute)}, nil))
		// A lock holds expiry off.
		r := b.receiver("expiring")
		m := b.one(r)
		for range 10 {
			time.Sleep(time.Minute - time.Second)
			b.must(r.RenewMessageLock(b.t.Context(), m, nil))
		}
		b.counts("vanishing", servicebus.Counts{Active: 1})
		b.counts("plain", servicebus.Counts{})
		time.Sleep(30 * time.Second)
		b.counts("vanishing", servicebus.Counts{})
		b.counts("expiring", servicebus.Counts{Active: 1})
		b.must(r.AbandonMessage(b.t.Context(), m, nil))
		b.none(r)
		if dead := b.one(b.deadLetters("expiring")); *dead.DeadLetterReason != "TTLExpiredException" {
			t.Errorf("reason %q", *dead.DeadLetterReason)
		}
		time.Sleep(time.Hour) // nothing expires in a dead-letter queue
		b.counts("expiring", servicebus.Counts{DeadLettered: 1})
	})
}

func TestDuplicateDetection(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("once")
		send := func(id string) {
			t.Helper()
			b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{MessageID: &id}, nil))
		}
		send("a")
		send("a")
		send("b")
		_, err := s.ScheduleMessages(b.t.Context(), []*azservicebus.Message{{MessageID: ptr("a")}, {MessageID: ptr("c")}}, time.Now().Add(time.Hour), nil)
		b.must(err)
		b.counts("once", servicebus.Counts{Active: 2, Scheduled: 1})
		time.Sleep(5 * time.Minute)
		send("a")
		b.counts("once", servicebus.Counts{Active: 3, Scheduled: 1})
	})
}

func TestPeek(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "1", "2", "3")
		r := b.receiver("plain")
		locked := b.one(r)
		var seen []string
		for range 3 {
			got, err := r.PeekMessages(b.t.Context(), 2, nil)
			b.must(err)
			for _, m := range got {
				seen = append(seen, text(m))
			}
		}
		if strings.Join(seen, "") != "123" {
			t.Errorf("peeked %v", seen)
		}
		b.must(r.CompleteMessage(b.t.Context(), locked, nil)) // peeking left the lock alone
	})
}

func TestBatch(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("plain")
		batch, err := s.NewMessageBatch(b.t.Context(), nil)
		b.must(err)
		for i := range 500 {
			b.must(batch.AddMessage(&azservicebus.Message{Body: fmt.Appendf(nil, "%03d", i)}, nil))
		}
		b.must(s.SendMessageBatch(b.t.Context(), batch, nil))
		b.counts("plain", servicebus.Counts{Active: 500})
		r := b.receiver("plain")
		next := 0
		for next < 500 {
			got, err := r.ReceiveMessages(b.t.Context(), 200, nil)
			b.must(err)
			for _, m := range got {
				if text(m) != fmt.Sprintf("%03d", next) {
					t.Fatalf("message %d is %q", next, text(m))
				}
				next++
				b.must(r.CompleteMessage(b.t.Context(), m, nil))
			}
		}
	})
}

func TestMessageSize(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("plain")
		big := make([]byte, 255<<10)
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: big}, nil)) // several frames each way
		if m := b.one(b.receiver("plain")); len(m.Body) != len(big) {
			t.Errorf("got %d octets back", len(m.Body))
		}
		err := s.SendMessage(b.t.Context(), &azservicebus.Message{Body: make([]byte, 256<<10)}, nil)
		if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
			t.Errorf("got %v, want ErrMessageTooLarge", err)
		}
	})
}

// The SDK and go-amqp check the size themselves, so the broker's own limit takes
// a client that is told of another. The message's disposition says what became
// of it, before the link ends: the SDK for JavaScript looks nowhere else.
func TestMessageSizeIsEnforced(t *testing.T) {
	in(t, func(b *broker) {
		var seen unlimited
		err := b.rawOver("plain", seen.wrap).sender("plain").Send(b.t.Context(), &amqp.Message{Data: [][]byte{make([]byte, 400<<10)}}, nil)
		if got, ok := errors.AsType[*amqp.Error](err); !ok || got.Condition != amqp.ErrCondMessageSizeExceeded || !strings.Contains(got.Description, "262144") {
			t.Errorf("got %v, want the broker's error", err)
		}
		if !seen.rejection() {
			t.Error("the link ended, but the message was not rejected")
		}
		b.counts("plain", servicebus.Counts{})
	})
}

func TestTopic(t *testing.T) {
	in(t, func(b *broker) {
		s := b.sender("news")
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte("now")}, nil))
		_, err := s.ScheduleMessages(b.t.Context(), []*azservicebus.Message{{Body: []byte("later")}}, time.Now().Add(time.Minute), nil)
		b.must(err)
		b.counts("news", servicebus.Counts{Scheduled: 1})
		time.Sleep(time.Minute)
		for _, sub := range []string{"a", "b"} {
			r, err := b.client.NewReceiverForSubscription("news", sub, nil)
			b.must(err)
			for _, want := range []string{"now", "later"} {
				m := b.one(r)
				if text(m) != want {
					t.Errorf("%s got %q, want %q", sub, text(m), want)
				}
				b.must(r.CompleteMessage(b.t.Context(), m, nil))
			}
			b.counts("news/subscriptions/"+sub, servicebus.Counts{})
		}
	})
}
