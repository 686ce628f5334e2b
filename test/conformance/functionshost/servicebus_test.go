package functionshost

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Where the facts about the Service Bus trigger are from.
const (
	processor = "S azure-sdk-for-net Azure.Messaging.ServiceBus/src/Processor/ReceiverManager.cs"
	sessions  = "S azure-sdk-for-net Azure.Messaging.ServiceBus/src/Processor/SessionReceiverManager.cs"
	options   = "S azure-sdk-for-net Microsoft.Azure.WebJobs.Extensions.ServiceBus/src/Config/ServiceBusOptions.cs"
)

func TestServiceBus(t *testing.T) {
	hold(t, []fact{
		{"success completes, failure abandons", processor + ", ProcessOneMessage", settles},
		{"an abandoned message comes again at once, before later ones", processor + ", ProcessOneMessage, no delay; " +
			"D learn.microsoft.com/azure/service-bus-messaging/message-transfers-locks-settlement", atOnce},
		{"dead at the queue's MaxDeliveryCount, counted on in its own queue no more",
			"D learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues", deadLetters},
		{"maxConcurrentCalls", options + ", MaxConcurrentCalls", concurrency},
		{"a message's lock is renewed while its call runs", processor + ", RenewMessageLock", renewed},
		{"a message's lock is lost after maxAutoLockRenewalDuration", processor + ", RenewMessageLock", lockLost},
		{"a session's calls are in order, one at a time", sessions + ", ReceiveAndProcessMessagesAsync", inOrder},
		{"maxConcurrentSessions", options + ", MaxConcurrentSessions", concurrentSessions},
		{"an idle session is let go after sessionIdleTimeout", sessions + ", ReceiveAndProcessMessagesAsync", idleSession},
		{"a session is lost in mid-call and another receiver takes it over", sessions + ", RenewSessionLock; nothing tells the handler", lostInCall},
		{"a busy session is lost maxAutoLockRenewalDuration after its acceptance", sessions + ", RenewSessionLock, started by CreateAndInitializeSessionReceiver", lostWhenBusy},
		{"a killed handler's message comes again", dispatcher + ", DisposeAndRestartWorkerChannel", killedHandler},
	})
}

// gate lets calls wait until the test opens it, and knows how many wait.
type gate struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // by message
	most    int
	open    bool
}

func newGate() *gate { return &gate{waiting: map[string]chan struct{}{}} }

// pass is a handler's answer that comes when the message may pass.
func (g *gate) pass(ctx context.Context, e event) order {
	call, err := decode(e)
	if err != nil || e.Path == "/" {
		return order{}
	}
	g.mu.Lock()
	if g.open {
		g.mu.Unlock()
		return order{}
	}
	released := make(chan struct{})
	key := call.id() + "/" + call.count()
	g.waiting[key] = released
	g.most = max(g.most, len(g.waiting))
	g.mu.Unlock()
	select {
	case <-released:
	case <-ctx.Done():
	}
	g.mu.Lock()
	delete(g.waiting, key)
	g.mu.Unlock()
	return order{}
}

// let lets one delivery pass that waits, as "message/delivery count".
func (g *gate) let(t *testing.T, delivery string) {
	t.Helper()
	g.await(t, delivery)
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.waiting[delivery])
}

// await waits until the delivery is with the handler.
func (g *gate) await(t *testing.T, delivery string) {
	t.Helper()
	eventually(t, delivery+" is with the handler", func() bool { return slices.Contains(g.inside(), delivery) })
}

// inside lists the deliveries that wait.
func (g *gate) inside() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	for key := range g.waiting {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

// letAll opens the gate for good.
func (g *gate) letAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	for _, released := range g.waiting {
		close(released)
	}
}

// listening is an app with one function, On, at the queue q.
func listening(b *bus, bySession bool, options string, request func(context.Context, event) order) setup {
	return setup{bus: b, top: `,"extensions":{"serviceBus":{` + options + `}}`, request: request, functions: map[string]string{
		"On": busFunction(fmt.Sprintf(`"queueName":"q","dataType":"binary","isSessionsEnabled":%t`, bySession))}}
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func settles(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, false))
	h := listening(b, false, ``, failing(func(i invocation) bool { return i.id() == "bad" && i.count() == "1" })).run(t)
	b.send(t, "q", message("good", ""))
	b.drained(t, "q")
	b.send(t, "q", message("bad", ""))
	b.drained(t, "q")
	same(t, h.deliveries(t, "On"), "good/1", "bad/1", "bad/2")
}

func atOnce(t *testing.T) {
	b := startBus(t, queue("q", 0, 4, false))
	b.send(t, "q", message("bad", ""), message("later", ""))
	// A pause before the redelivery would let the other message by.
	h := listening(b, false, `"maxConcurrentCalls":1`, failing(func(i invocation) bool { return i.id() == "bad" })).run(t)
	b.drained(t, "q")
	same(t, h.deliveries(t, "On"), "bad/1", "bad/2", "bad/3", "bad/4", "later/1")
	if counts, _ := b.Counts("q"); counts.DeadLettered != 1 {
		t.Errorf("%+v", counts)
	}
}

func deadLetters(t *testing.T) {
	b := startBus(t, queue("q", 0, 2, false))
	const tries = 8 // of the dead letter; more than the queue has
	s := setup{bus: b, functions: map[string]string{
		"On":   busFunction(`"queueName":"q","dataType":"binary"`),
		"Dead": busFunction(`"queueName":"q/$DeadLetterQueue","dataType":"binary"`),
	}}
	dead := 0
	var mu sync.Mutex
	s.request = failing(func(i invocation) bool {
		mu.Lock()
		defer mu.Unlock()
		if i.Path == "/Dead" {
			dead++
		}
		return i.Path == "/On" || dead < tries
	})
	h := s.run(t)
	b.send(t, "q", message("m", ""))
	eventually(t, "the dead letter is gone", func() bool {
		counts, _ := b.Counts("q")
		return len(h.calls(t, "Dead")) == tries && counts.DeadLettered == 0
	})
	same(t, h.deliveries(t, "On"), "m/1", "m/2")
	for _, call := range h.calls(t, "Dead") {
		if call.count() != h.calls(t, "Dead")[0].count() || call.text("DeadLetterSource") != "q" {
			t.Errorf("a dead letter's delivery %s from %q", call.count(), call.text("DeadLetterSource"))
		}
	}
}

func concurrency(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, false))
	g := newGate()
	h := listening(b, false, `"maxConcurrentCalls":2`, g.pass).run(t)
	for i := range 6 {
		b.send(t, "q", message(fmt.Sprint(i), ""))
	}
	for i := range 6 {
		g.let(t, fmt.Sprintf("%d/1", i))
	}
	b.drained(t, "q")
	if g.most != 2 || len(h.calls(t, "On")) != 6 {
		t.Errorf("%d at once, %q", g.most, h.deliveries(t, "On"))
	}
}

const lock = time.Second

// locksPass waits until several locks would have run out, by a message that is
// scheduled for then.
func locksPass(t *testing.T, b *bus) {
	t.Helper()
	at := time.Now().Add(5 * lock / 2)
	m := message("clock", "")
	m.ScheduledEnqueueTime = &at
	b.send(t, "clock", m)
	receiver, err := b.client.NewReceiverForQueue("clock", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receiver.ReceiveMessages(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
}

func renewed(t *testing.T) {
	b := startBus(t, queue("q", lock, 5, false), queue("clock", 0, 5, false))
	g := newGate()
	h := listening(b, false, ``, g.pass).run(t)
	b.send(t, "q", message("m", ""))
	g.await(t, "m/1")
	locksPass(t, b)
	g.letAll()
	b.drained(t, "q")
	same(t, h.deliveries(t, "On"), "m/1")
}

func lockLost(t *testing.T) {
	b := startBus(t, queue("q", lock, 5, false))
	g := newGate()
	h := listening(b, false, `"maxAutoLockRenewalDuration":"00:00:01"`, g.pass).run(t)
	b.send(t, "q", message("m", ""))
	g.await(t, "m/1")
	g.await(t, "m/2") // beside the first
	if inside := g.inside(); !slices.Contains(inside, "m/1") {
		t.Errorf("%q", inside)
	}
	g.letAll()
	b.drained(t, "q")
	if stats := h.Stats().Functions["On"]; stats.Failed != 0 {
		t.Errorf("%+v: a lost lock fails no call", stats)
	}
}

func inOrder(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, true))
	g := newGate()
	h := listening(b, true, `"maxConcurrentSessions":4`, g.pass).run(t)
	b.send(t, "q", message("a1", "a"), message("b1", "b"), message("a2", "a"), message("a3", "a"))
	g.await(t, "a1/1")
	g.await(t, "b1/1")
	for _, delivery := range []string{"a1/1", "a2/1", "a3/1", "b1/1"} {
		g.let(t, delivery)
	}
	b.drained(t, "q")
	if g.most != 2 {
		t.Errorf("%d at once of two sessions: %q", g.most, h.deliveries(t, "On"))
	}
	same(t, slices.DeleteFunc(h.deliveries(t, "On"), func(d string) bool { return d == "b1/1" }), "a1/1", "a2/1", "a3/1")
}

func concurrentSessions(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, true))
	g := newGate()
	listening(b, true, `"maxConcurrentSessions":2,"sessionIdleTimeout":"00:00:00.1"`, g.pass).run(t)
	for _, session := range []string{"a", "b", "c", "d"} {
		b.send(t, "q", message(session, session))
	}
	eventually(t, "two sessions are held", func() bool { return len(g.inside()) == 2 })
	g.letAll()
	b.drained(t, "q")
	if g.most != 2 {
		t.Errorf("%d at once", g.most)
	}
}

func idleSession(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, true))
	h := listening(b, true, `"sessionIdleTimeout":"00:00:00.5"`, nil).run(t)
	b.send(t, "q", message("m", "s"))
	b.drained(t, "q")
	// Its lock would last a minute.
	b.takeOver(t, "q", "s")
	same(t, h.deliveries(t, "On"), "m/1")
}

func lostInCall(t *testing.T) {
	b := startBus(t, queue("q", lock, 5, true))
	g := newGate()
	h := listening(b, true, `"maxAutoLockRenewalDuration":"00:00:01","maxConcurrentSessions":1`, g.pass).run(t)
	b.send(t, "q", message("m", "s"))
	g.await(t, "m/1")
	other := b.takeOver(t, "q", "s")
	messages, err := other.ReceiveMessages(t.Context(), 1, nil)
	if err != nil || len(messages) != 1 || messages[0].DeliveryCount != 2 {
		t.Fatalf("%v, %v", messages, err)
	}
	same(t, g.inside(), "m/1") // it works on and knows nothing
	g.letAll()
	eventually(t, "the call is over", func() bool { return h.Stats().Functions["On"].Succeeded == 1 })
	if counts, _ := b.Counts("q"); counts.Active != 1 {
		t.Errorf("%+v: the late success settled the message", counts)
	}
	if err := other.CompleteMessage(t.Context(), messages[0], nil); err != nil {
		t.Errorf("the new owner cannot complete it: %v", err)
	}
}

func lostWhenBusy(t *testing.T) {
	b := startBus(t, queue("q", lock, 5, true))
	h := listening(b, true, `"maxAutoLockRenewalDuration":"00:00:01","maxConcurrentSessions":1,"sessionIdleTimeout":"00:10:00"`, nil).run(t)
	b.send(t, "q", message("0", "s"))
	eventually(t, "the session is held", func() bool { return len(h.calls(t, "On")) > 0 })
	// Renewal for each message would hold the session for as long as they come.
	busy, taken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(busy)
		sender, err := b.client.NewSender("q", nil)
		if err != nil {
			t.Error(err)
			return
		}
		for {
			m := message("more", "s")
			m.Body = []byte("x")
			if err := sender.SendMessage(t.Context(), m, nil); err != nil {
				t.Error(err)
			}
			select {
			case <-taken:
				return
			case <-t.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	var other *azservicebus.SessionReceiver
	func() {
		defer func() { close(taken); <-busy }()
		other = b.takeOver(t, "q", "s")
	}()
	b.send(t, "q", message("last", "s")) // the others may all be done
	if messages, err := other.ReceiveMessages(t.Context(), 1, nil); err != nil || len(messages) != 1 {
		t.Errorf("%v, %v", messages, err)
	}
	if stats := h.Stats().Functions["On"]; stats.Succeeded < 2 || stats.Failed != 0 {
		t.Errorf("it was not busy: %+v", stats)
	}
}

func killedHandler(t *testing.T) {
	b := startBus(t, queue("q", 0, 5, false))
	h := listening(b, false, ``, func(_ context.Context, e event) order {
		if call, err := decode(e); err == nil && e.Path != "/" && call.count() == "1" {
			return exit(9)
		}
		return order{}
	}).run(t)
	b.send(t, "q", message("m", ""))
	b.drained(t, "q")
	same(t, h.deliveries(t, "On"), "m/1", "m/2")
	if calls := h.calls(t, "On"); calls[0].Pid == calls[1].Pid {
		t.Error("the same process")
	}
}
