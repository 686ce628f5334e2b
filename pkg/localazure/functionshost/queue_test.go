package functionshost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// fakeBus is a broker of one entity: sessions of messages, "" for none, that
// are delivered again at once when abandoned.
type fakeBus struct {
	mu       sync.Mutex
	waiting  map[string][]*azservicebus.ReceivedMessage
	held     map[string]bool // sessions somebody has
	changed  chan struct{}   // closed and replaced at every change
	events   []string
	start    time.Time
	lockFor  time.Duration
	broken   int // calls of Receive or Accept that fail, from now on
	lockLost bool
}

func newFakeBus(lockFor time.Duration) *fakeBus {
	return &fakeBus{
		waiting: map[string][]*azservicebus.ReceivedMessage{}, held: map[string]bool{},
		changed: make(chan struct{}), start: time.Now(), lockFor: lockFor,
	}
}

func (b *fakeBus) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf("%gs ", time.Since(b.start).Seconds())+fmt.Sprintf(format, args...))
}

func (b *fakeBus) log() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *fakeBus) put(session string, messages ...*azservicebus.ReceivedMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[session] = append(b.waiting[session], messages...)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *fakeBus) send(session string, ids ...string) {
	for _, id := range ids {
		m := &azservicebus.ReceivedMessage{MessageID: id}
		if session != "" {
			m.SessionID = &session
		}
		b.put(session, m)
	}
}

// wait calls try at every change until it is satisfied.
func (b *fakeBus) wait(ctx context.Context, try func() bool) error {
	for {
		b.mu.Lock()
		if b.broken > 0 {
			b.broken--
			b.mu.Unlock()
			return errors.New("broken")
		}
		ok, changed := try(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (b *fakeBus) Open(*queueTrigger) (receiver, error) { return &fakeReceiver{bus: b}, nil }

func (b *fakeBus) Accept(ctx context.Context, _ *queueTrigger) (session, error) {
	var id string
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := b.wait(ctx, func() bool {
		ids := slices.Sorted(func(yield func(string) bool) {
			for id, messages := range b.waiting {
				if len(messages) > 0 && !b.held[id] && !yield(id) {
					return
				}
			}
		})
		if len(ids) > 0 {
			id = ids[0]
			b.held[id] = true
		}
		return len(ids) > 0
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return session{}, errNoSession
	}
	if err != nil {
		return session{}, err
	}
	b.note("accept %s", id)
	return session{receiver: &fakeReceiver{bus: b, session: id}, id: id, lockedUntil: time.Now().Add(b.lockFor)}, nil
}

type fakeReceiver struct {
	bus     *fakeBus
	session string
}

func (r *fakeReceiver) Receive(ctx context.Context, limit int) ([]*azservicebus.ReceivedMessage, error) {
	var got []*azservicebus.ReceivedMessage
	err := r.bus.wait(ctx, func() bool {
		queue := r.bus.waiting[r.session]
		n := min(limit, len(queue))
		got, r.bus.waiting[r.session] = queue[:n:n], queue[n:]
		return n > 0
	})
	for _, m := range got {
		m.DeliveryCount++
		until := time.Now().Add(r.bus.lockFor)
		m.LockedUntil = &until
	}
	return got, err
}

func (r *fakeReceiver) Settle(_ context.Context, m *azservicebus.ReceivedMessage, complete bool) error {
	if r.bus.lockLost {
		r.bus.note("lost %s", m.MessageID)
		return &azservicebus.Error{Code: azservicebus.CodeLockLost}
	}
	if complete {
		r.bus.note("complete %s", m.MessageID)
		return nil
	}
	r.bus.note("abandon %s", m.MessageID)
	if m.DeliveryCount < 3 {
		r.bus.put(r.session, m)
	}
	return nil
}

func (r *fakeReceiver) Renew(_ context.Context, m *azservicebus.ReceivedMessage) (time.Time, error) {
	if m == nil {
		r.bus.note("renew session %s", r.session)
	} else {
		r.bus.note("renew %s", m.MessageID)
	}
	return time.Now().Add(r.bus.lockFor), nil
}

func (r *fakeReceiver) Close(context.Context) error {
	if r.session != "" {
		r.bus.note("close %s", r.session)
		r.bus.mu.Lock()
		delete(r.bus.held, r.session)
		r.bus.mu.Unlock()
		r.bus.put(r.session)
	}
	return nil
}

// listen runs a trigger's listener against the bus for a while of fake time.
func listen(t *testing.T, bus *fakeBus, sessions bool, options serviceBusOptions, until time.Duration, call caller) {
	t.Helper()
	f := &function{Function: Function{Name: "F", Source: "q"}, binding: "msg", dataType: "binary",
		queue: &queueTrigger{entity: entity{queue: "q"}, sessions: sessions, options: options}}
	h := &Host{call: call, console: newConsole(nil), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), until)
	defer cancel()
	if sessions {
		h.runSessions(ctx, f, bus)
	} else {
		h.runQueue(ctx, f, bus)
	}
}

func options(calls, sessions int, renewal, idle time.Duration) serviceBusOptions {
	return serviceBusOptions{maxConcurrentCalls: calls, maxConcurrentSessions: sessions, maxAutoLockRenewal: renewal, sessionIdleTimeout: idle}
}

// takes is a function that takes so long, and succeeds or fails.
func takes(bus *fakeBus, d time.Duration, err error) caller {
	return func(ctx context.Context, _ call) error {
		bus.note("call")
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestQueueConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("", "a", "b", "c")
		running, most := 0, 0
		var mu sync.Mutex
		listen(t, bus, false, options(2, 1, time.Minute, time.Minute), time.Minute,
			func(context.Context, call) error {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			})
		got := bus.log()
		slices.Sort(got)
		expect(t, got, "1s complete a", "1s complete b", "2s complete c")
		if most != 2 {
			t.Errorf("%d calls at once", most)
		}
	})
}

func TestFailureIsRedeliveredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("", "a")
		listen(t, bus, false, options(2, 1, time.Minute, time.Minute), time.Minute, takes(bus, 0, errNotJSON))
		expect(t, bus.log(), "0s call", "0s abandon a", "0s call", "0s abandon a", "0s call", "0s abandon a")
	})
}

func TestMessageLockRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("", "a")
		// Renewed ten seconds before each end, for 110 s at most.
		listen(t, bus, false, options(1, 1, 110*time.Second, time.Minute), 5*time.Minute, takes(bus, 3*time.Minute, nil))
		expect(t, bus.log(), "0s call", "50s renew a", "100s renew a", "180s complete a")
	})
	if got := renewDelay(4 * time.Second); got != 2*time.Second {
		t.Errorf("delay of a short lock: %v", got)
	}
	if got := renewDelay(-time.Second); got != 0 {
		t.Errorf("delay of a lock that ended: %v", got)
	}
}

func TestNothingIsSettledWhenTheHostStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("", "a")
		listen(t, bus, false, options(1, 1, time.Minute, time.Minute), 10*time.Second, takes(bus, time.Hour, nil))
		expect(t, bus.log(), "0s call")
	})
}

func TestQueueSurvivesABrokenLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.broken = 2
		bus.send("", "a")
		listen(t, bus, false, options(1, 1, time.Minute, time.Minute), time.Minute, takes(bus, 0, nil))
		expect(t, bus.log(), "0.75s call", "0.75s complete a") // after pauses of 250 and 500 ms
	})
}

func TestSessionsAreSerialAndParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("s1", "a1", "a2")
		bus.send("s2", "b1")
		listen(t, bus, true, options(9, 2, time.Minute, 5*time.Second), 20*time.Second, func(context.Context, call) error {
			time.Sleep(time.Second)
			return nil
		})
		got := bus.log()
		slices.Sort(got)
		expect(t, got, "0s accept s1", "0s accept s2", "1s complete a1", "1s complete b1", "2s complete a2", "6s close s2", "7s close s1")
	})
}

func TestIdleSessionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("s1", "a")
		bus.send("s2", "b")
		listen(t, bus, true, options(1, 1, time.Minute, 5*time.Second), 8*time.Second, takes(bus, 0, nil))
		expect(t, bus.log(), "0s accept s1", "0s call", "0s complete a", "5s close s1", "5s accept s2", "5s call", "5s complete b", "8s close s2")
	})
}

func TestSessionLockRenewalEndsAfterAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.send("s", "a", "b")
		// Two calls of 80 s: the renewal of 110 s counts from the acceptance, so
		// the second call runs into the end of the lock.
		listen(t, bus, true, options(1, 1, 110*time.Second, time.Hour), 170*time.Second, takes(bus, 80*time.Second, nil))
		expect(t, bus.log(), "0s accept s", "0s call", "50s renew session s", "80s complete a", "80s call", "100s renew session s",
			"160s complete b", "170s close s")
	})
}

func TestLostLockIsNotFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		bus.lockLost = true
		bus.send("s", "a", "b")
		listen(t, bus, true, options(1, 1, time.Minute, time.Second), 500*time.Millisecond, takes(bus, 0, nil))
		expect(t, bus.log(), "0s accept s", "0s call", "0s lost a", "0s call", "0s lost b", "0.5s close s")
	})
}

func TestNoSessionIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		go func() {
			time.Sleep(90 * time.Second) // past the minute after which Accept gives up
			bus.send("s", "a")
		}()
		listen(t, bus, true, options(1, 1, time.Minute, 5*time.Second), 2*time.Minute, takes(bus, 0, nil))
		expect(t, bus.log(), "90s accept s", "90s call", "90s complete a", "95s close s")
	})
}

func TestUnreadableBodyNeverReachesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus(time.Minute)
		f := &function{Function: Function{Name: "F"}, binding: "msg", queue: &queueTrigger{options: options(1, 1, time.Minute, time.Minute)}}
		h := &Host{console: newConsole(nil), log: slog.New(slog.DiscardHandler), call: takes(bus, 0, nil)}
		m := &azservicebus.ReceivedMessage{MessageID: "a", Body: []byte{0xff}, DeliveryCount: 3}
		h.deliver(t.Context(), f, &fakeReceiver{bus: bus}, m, nil)
		expect(t, bus.log(), "0s abandon a")
	})
}
