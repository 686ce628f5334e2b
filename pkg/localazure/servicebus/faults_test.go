package servicebus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

func (b *broker) plan(rules ...fault.Rule) {
	b.t.Helper()
	b.must(b.s.Faults().Set(fault.Plan{Rules: rules}))
}

// first is a rule for the first of the operations.
func first(on string, do fault.Kind) fault.Rule {
	r := fault.Rule{On: on, Do: do, Times: 1}
	if do == fault.Slow {
		r.Delay = fault.Duration(time.Second)
	}
	return r
}

// operations checks how often something was done.
func (b *broker) operations(name string, want int) {
	b.t.Helper()
	if got := b.s.Operations()[name]; got != want {
		b.t.Errorf("%d times %q, want %d; all: %v", got, name, want, b.s.Operations())
	}
}

// outcome checks an error: of a code, or none at all for "".
func (b *broker) outcome(err error, want azservicebus.Code) {
	b.t.Helper()
	if want == "" {
		b.must(err)
	} else {
		b.code(err, want)
	}
}

func TestFaultsOfSending(t *testing.T) {
	for kind, want := range map[fault.Kind]struct {
		code             azservicebus.Code
		messages, trials int
	}{
		fault.Throttle:  {"", 1, 2}, // the SDK tries again
		fault.Drop:      {"", 1, 2},
		fault.LoseReply: {"", 2, 2}, // so it came twice
		fault.Refuse:    {azservicebus.CodeUnauthorizedAccess, 0, 1},
		fault.Slow:      {"", 1, 1},
	} {
		t.Run(string(kind), func(t *testing.T) {
			in(t, func(b *broker) {
				b.plan(first("send plain", kind))
				b.outcome(b.sender("plain").SendMessage(b.t.Context(), &azservicebus.Message{}, nil), want.code)
				b.counts("plain", servicebus.Counts{Active: want.messages})
				b.operations("send plain", want.trials)
			})
		})
	}
}

// What duplicate detection is for: the reply is lost, and yet the message is
// not there twice.
func TestLostReplyWithDuplicateDetection(t *testing.T) {
	in(t, func(b *broker) {
		b.plan(first("send once", fault.LoseReply))
		b.must(b.sender("once").SendMessage(b.t.Context(), &azservicebus.Message{MessageID: ptr("id")}, nil))
		b.operations("send once", 2)
		b.counts("once", servicebus.Counts{Active: 1})
	})
}

func TestSlowAndPausedHoldUpNothingElse(t *testing.T) {
	in(t, func(b *broker) {
		b.plan(first("send plain", fault.Slow), fault.Rule{On: "receive other", Do: fault.Pause})
		s, r := b.sender("plain"), b.receiver("other")
		sent := make(chan error, 1)
		go func() { sent <- s.SendMessage(b.t.Context(), &azservicebus.Message{}, nil) }()
		synctest.Wait()
		b.operations("send plain", 1)
		b.send("other", "x")
		b.counts("plain", servicebus.Counts{})
		b.must(<-sent)
		b.counts("plain", servicebus.Counts{Active: 1})
		b.none(r)
		b.plan()
		if m := b.one(r); text(m) != "x" || m.DeliveryCount != 1 {
			t.Errorf("got %q, delivery %d", text(m), m.DeliveryCount)
		}
	})
}

// Close waits for nobody, not even for what is paused.
func TestCloseWhilePaused(t *testing.T) {
	in(t, func(b *broker) {
		b.plan(fault.Rule{On: "*", Do: fault.Pause})
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		if err := b.sender("plain").SendMessage(ctx, &azservicebus.Message{}, nil); err == nil {
			t.Error("a paused namespace took a message")
		}
		b.operations("authorize plain", 1)
		b.must(b.s.Close())
	})
}

func TestFaultsOfSettling(t *testing.T) {
	for kind, want := range map[fault.Kind]struct {
		code azservicebus.Code
		left int
	}{
		fault.Lock:      {azservicebus.CodeLockLost, 1},
		fault.Refuse:    {azservicebus.CodeUnauthorizedAccess, 1},
		fault.LoseReply: {azservicebus.CodeConnectionLost, 0}, // the SDK does not try again
		fault.Drop:      {azservicebus.CodeConnectionLost, 1},
		fault.Slow:      {"", 0},
	} {
		t.Run(string(kind), func(t *testing.T) {
			in(t, func(b *broker) {
				b.send("plain", "x")
				r := b.receiver("plain")
				m := b.one(r)
				b.plan(first("settle plain", kind))
				b.outcome(r.CompleteMessage(b.t.Context(), m, nil), want.code)
				b.counts("plain", servicebus.Counts{Active: want.left})
			})
		})
	}
}

// A lock that a plan takes away is lost: the message comes again, counted.
func TestLockOfAMessageIsLost(t *testing.T) {
	for operation, do := range map[string]func(*azservicebus.Receiver, context.Context, *azservicebus.ReceivedMessage) error{
		"settle": func(r *azservicebus.Receiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.CompleteMessage(ctx, m, nil)
		},
		"renew-lock": func(r *azservicebus.Receiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.RenewMessageLock(ctx, m, nil)
		},
	} {
		t.Run(operation, func(t *testing.T) {
			in(t, func(b *broker) {
				b.send("plain", "x")
				r := b.receiver("plain")
				m := b.one(r)
				b.plan(first(operation+" plain", fault.Lock))
				b.code(do(r, b.t.Context(), m), azservicebus.CodeLockLost)
				again := b.one(r)
				if again.DeliveryCount != 2 {
					t.Errorf("delivery %d, want the second", again.DeliveryCount)
				}
				b.must(r.CompleteMessage(b.t.Context(), again, nil))
			})
		})
	}
}

// The same for a session. The SDK accepts it anew by itself and reports success,
// even of completing a message that is still there and comes again.
func TestLockOfASessionIsLost(t *testing.T) {
	for operation, do := range map[string]func(*azservicebus.SessionReceiver, context.Context, *azservicebus.ReceivedMessage) error{
		"settle": func(r *azservicebus.SessionReceiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.CompleteMessage(ctx, m, nil)
		},
		"renew-lock": func(r *azservicebus.SessionReceiver, ctx context.Context, _ *azservicebus.ReceivedMessage) error {
			return r.RenewSessionLock(ctx, nil)
		},
		"set-session-state": func(r *azservicebus.SessionReceiver, ctx context.Context, _ *azservicebus.ReceivedMessage) error {
			return r.SetSessionState(ctx, []byte("state"), nil)
		},
	} {
		t.Run(operation, func(t *testing.T) {
			in(t, func(b *broker) {
				b.sendSession("sessions", "s", "x")
				r := b.accept("s")
				m := b.one(r)
				b.plan(first(operation+" sessions", fault.Lock))
				b.must(do(r, b.t.Context(), m))
				b.counts("sessions", servicebus.Counts{Active: 1})
				again := b.one(r)
				if again.DeliveryCount != 2 {
					t.Errorf("delivery %d, want the second", again.DeliveryCount)
				}
				b.must(r.CompleteMessage(b.t.Context(), again, nil))
				b.counts("sessions", servicebus.Counts{})
			})
		})
	}
}
