package servicebus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/broker"
	local "github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

var (
	_ broker.Prompts = (*servicebus.Sender)(nil)
	_ broker.Outbox  = (*servicebus.Sender)(nil)

	queues = servicebus.Queues{Requests: "access-requests", Reconcile: "nsg-reconcile", Rejected: "access-rejected", EventOutbox: "event-outbox", Events: "access-events"}
)

const (
	prod = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.network/networksecuritygroups/"
	web  = access.ResourceID(prod + "web")
	db   = access.ResourceID(prod + "db")
)

// pipes is a listener without a network, for a bubble of its own time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// world is a Sender over the stand-in, with the queues of the deployment.
type world struct {
	*testing.T
	*servicebus.Sender
	bus    *local.Server
	client *azservicebus.Client
	traced bool
	ended  []error // of the sends
}

// inWorld runs the test in a bubble, where weeks pass in no time.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	doc, err := os.ReadFile("../../../infra/entities.json")
	if err != nil {
		t.Fatal(err)
	}
	entities, err := local.ParseEntities(doc)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t}
		bus, err := local.New(local.Config{Entities: entities, SASKeyName: "key", SASKey: "secret"})
		w.check(err)
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- bus.Serve(p) }()
		w.bus = bus
		w.client, err = azservicebus.NewClientFromConnectionString("Endpoint=sb://test;SharedAccessKeyName=key;SharedAccessKey=secret",
			&azservicebus.ClientOptions{NewWebSocketConn: p.dial})
		w.check(err)
		w.Sender, err = servicebus.New(w.client, queues, w)
		w.check(err)
		test(w)
		w.check(w.Sender.Close(context.Background()))
		_ = w.client.Close(context.Background()) // the test may have shut the broker before
		w.check(bus.Close())
		w.check(<-served)
	})
}

// Send implements servicebus.Tracer: a trace that says what it was asked.
func (w *world) Send(ctx context.Context, to string, delayed bool) (context.Context, map[string]any, func(error)) {
	if !w.traced {
		return ctx, nil, func(error) {}
	}
	return ctx, map[string]any{"traceparent": to, "delayed": delayed}, func(err error) { w.ended = append(w.ended, err) }
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// counts waits until all is quiet and counts the queue's messages.
func (w *world) counts(queue string) local.Counts {
	w.Helper()
	synctest.Wait()
	c, ok := w.bus.Counts(queue)
	if !ok {
		w.Fatalf("no queue %s", queue)
	}
	return c
}

// receive takes one message off a queue without sessions.
func (w *world) receive(queue string) *azservicebus.ReceivedMessage {
	w.Helper()
	r, err := w.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	w.check(err)
	defer func() { w.check(r.Close(context.Background())) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := r.ReceiveMessages(ctx, 1, nil)
	w.check(err)
	return all[0]
}

func TestPromptsOfOneGroupShareASessionOfTheirOwn(t *testing.T) {
	long := access.ResourceID(prod + strings.Repeat("n", 80))
	if a, b := servicebus.SessionID(web), servicebus.SessionID(db); a == b || a != servicebus.SessionID(web) || len(servicebus.SessionID(long)) > 128 {
		t.Errorf("%s %s", a, b)
	}
	inWorld(t, func(w *world) {
		for _, id := range []access.ResourceID{web, web, db} {
			w.check(w.Prompt(context.Background(), id, time.Time{}))
		}
		for id, want := range map[access.ResourceID]int{web: 2, db: 1} {
			s, err := w.client.AcceptSessionForQueue(context.Background(), queues.Reconcile, servicebus.SessionID(id), nil)
			w.check(err)
			got, err := s.ReceiveMessages(context.Background(), 5, nil)
			w.check(err)
			if len(got) != want {
				w.Errorf("%s has %d prompts, want %d", id.Name(), len(got), want)
			}
			for _, m := range got {
				if string(m.Body) != fmt.Sprintf(`{"nsg":%q}`, id) || m.ContentType == nil || *m.ContentType != "application/json" {
					w.Errorf("a prompt of %s: %s", id.Name(), m.Body)
				}
			}
			w.check(s.Close(context.Background()))
		}
	})
}

func TestAScheduledCloseComesAtItsTimeAndNotBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		end := time.Now().Add(3 * time.Hour).In(time.FixedZone("elsewhere", 7200))
		w.check(w.Prompt(context.Background(), web, end))
		if c := w.counts(queues.Reconcile); c.Scheduled != 1 || c.Active != 0 {
			w.Errorf("before its time: %+v", c)
		}
		time.Sleep(time.Until(end) - time.Second) // of the bubble's clock
		if c := w.counts(queues.Reconcile); c.Active != 0 {
			w.Errorf("a second early: %+v", c)
		}
		time.Sleep(2 * time.Second)
		if c := w.counts(queues.Reconcile); c.Scheduled != 0 || c.Active != 1 {
			w.Errorf("after its time: %+v", c)
		}
		s, err := w.client.AcceptSessionForQueue(context.Background(), queues.Reconcile, servicebus.SessionID(web), nil)
		w.check(err)
		defer func() { w.check(s.Close(context.Background())) }()
		got, err := s.ReceiveMessages(context.Background(), 1, nil)
		w.check(err)
		if m := got[0]; m.EnqueuedTime.Before(end.Add(-time.Second)) {
			w.Errorf("the broker's time %v is not the close's %v", m.EnqueuedTime, end)
		}
	})
}

func TestARetryKeepsItsIDAndCountsItsAttempts(t *testing.T) {
	inWorld(t, func(w *world) {
		at := time.Now().Add(20 * time.Second)
		w.check(w.Retry(context.Background(), broker.RequestMessage{ID: "m-1", Body: []byte("not JSON, but all of it"), Attempts: 2}, at))
		if c := w.counts(queues.Requests); c.Scheduled != 1 {
			w.Errorf("%+v", c)
		}
		m := w.receive(queues.Requests)
		if time.Now().Before(at.Add(-time.Second)) {
			w.Errorf("%v early", time.Until(at))
		}
		if m.MessageID != "m-1" || string(m.Body) != "not JSON, but all of it" || fmt.Sprint(m.ApplicationProperties) != "map[portcullis-attempts:2]" || *m.ContentType != "application/json" {
			w.Errorf("%s %s %v", m.MessageID, m.Body, m.ApplicationProperties)
		}
		properties := map[string]string{"cloudEvents:id": "1", broker.AttemptsProperty: "forged"}
		w.check(w.Retry(context.Background(), broker.RequestMessage{ID: "m-2", ContentType: "text/json", Properties: properties, Attempts: 3}, at))
		if m = w.receive(queues.Requests); fmt.Sprint(m.ApplicationProperties) != "map[cloudEvents:id:1 portcullis-attempts:3]" || *m.ContentType != "text/json" {
			w.Errorf("%v %s", m.ApplicationProperties, *m.ContentType)
		}
	})
}

func TestEachMessageCarriesItsTrace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.traced = true
		soon := func() time.Time { return time.Now().Add(10 * time.Second) }
		for want, send := range map[string]func() error{
			"map[delayed:true portcullis-attempts:1 traceparent:access-requests]": func() error {
				forged := map[string]string{"traceparent": "forged"}
				return w.Retry(context.Background(), broker.RequestMessage{ID: "m", Properties: forged, Attempts: 1}, soon())
			},
			"map[delayed:true portcullis-start:ar-1 traceparent:access-requests]": func() error { return w.PromptStart(context.Background(), "ar-1", soon()) },
		} {
			w.check(send())
			if m := w.receive(queues.Requests); fmt.Sprint(m.ApplicationProperties) != want {
				w.Errorf("%v, want %v", m.ApplicationProperties, want)
			}
		}
		for _, when := range []time.Time{{}, soon()} {
			w.check(w.Prompt(context.Background(), web, when))
			s, err := w.client.AcceptSessionForQueue(context.Background(), queues.Reconcile, servicebus.SessionID(web), nil)
			w.check(err)
			got, err := s.ReceiveMessages(context.Background(), 1, nil)
			w.check(err)
			w.check(s.CompleteMessage(context.Background(), got[0], nil))
			w.check(s.Close(context.Background()))
			if p := fmt.Sprint(got[0].ApplicationProperties); p != fmt.Sprintf("map[delayed:%v traceparent:nsg-reconcile]", !when.IsZero()) {
				w.Errorf("%v", p)
			}
		}
		if len(w.ended) != 4 || slices.ContainsFunc(w.ended, func(err error) bool { return err != nil }) {
			w.Errorf("%v", w.ended)
		}
	})
}

func TestARejectionSaysWhyAndIsKeptForAWhile(t *testing.T) {
	var many []access.Violation
	for i := range 200 {
		many = append(many, access.Violation{Path: fmt.Sprint(i), Reason: "port_not_in_policy", Message: strings.Repeat("m", 300)})
	}
	inWorld(t, func(w *world) {
		for _, c := range []struct {
			name    string
			excerpt []byte
			field   string
			want    string
		}{
			{"text", []byte(`{"ports":[` + "ü"), "excerpt", `{"ports":[ü`},
			{"no text", []byte{0xff, 0xfe}, "excerptBase64", "//4="},
			{"the most there may be", bytes.Repeat([]byte{1}, 3*broker.MaxExcerpt), "excerpt", strings.Repeat("\x01", broker.MaxExcerpt)},
		} {
			w.check(w.Reject(context.Background(), broker.Rejection{
				MessageID: "m-1", RequestID: "ar-1", BodyHash: "h", Excerpt: c.excerpt,
				Refusal: access.Refusal{Code: access.PermissionDenied, Reason: "policy_violation", Message: "no", Violations: many},
			}))
			m := w.receive(queues.Rejected)
			var doc map[string]any
			w.check(json.Unmarshal(m.Body, &doc))
			if doc["messageId"] != "m-1" || doc["requestId"] != "ar-1" || doc["code"] != "permission_denied" || doc["reason"] != "policy_violation" || doc["bodyHash"] != "h" {
				w.Errorf("%s: %.300s", c.name, m.Body)
			}
			if v, ok := doc["violations"].([]any); !ok || len(v) != 50 {
				w.Errorf("%s: %d violations", c.name, len(v))
			}
			if doc[c.field] != c.want {
				w.Errorf("%s: %.100v", c.name, doc[c.field])
			}
			if m.CorrelationID == nil || *m.CorrelationID != "ar-1" {
				w.Errorf("%s: it does not name its request", c.name)
			}
		}
		w.check(w.Reject(context.Background(), broker.Rejection{MessageID: "m-2"}))
		w.check(w.client.Close(context.Background())) // no heartbeat for a month
		time.Sleep(29 * 24 * time.Hour)               // of the bubble's clock
		if c := w.counts(queues.Rejected); c.Active != 1 {
			w.Errorf("gone before its time: %+v", c)
		}
		time.Sleep(2 * 24 * time.Hour)
		if c := w.counts(queues.Rejected); c.Active != 0 || c.DeadLettered != 0 {
			w.Errorf("kept for ever: %+v", c)
		}
	})
}

func TestABrokerThatIsGoneIsUnavailableWithinBounds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check(w.Prompt(context.Background(), web, time.Time{}))
		w.check(w.bus.Close())
		begun := time.Now()
		err := w.Prompt(context.Background(), web, time.Time{})
		if access.CodeOf(err) != access.Unavailable || access.ReasonOf(err) != "queue_unavailable" {
			w.Errorf("%v", err)
		}
		if waited := time.Since(begun); waited > 25*time.Second { // of the bubble's clock
			w.Errorf("gave up after %v", waited)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			w.Errorf("the key is in the error: %v", err)
		}
	})
}

func TestASenderThatWasClosedIsMadeAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 2 {
			w.check(w.Prompt(context.Background(), web, time.Time{}))
			w.check(w.Sender.Close(context.Background()))
		}
		if c := w.counts(queues.Reconcile); c.Active != 2 {
			w.Errorf("%+v", c)
		}
		w.check(w.client.Close(context.Background()))
		if err := w.Prompt(context.Background(), web, time.Time{}); access.CodeOf(err) != access.Unavailable {
			w.Errorf("over a closed client: %v", err)
		}
	})
}

func TestNewNeedsAClientAndAllQueues(t *testing.T) {
	if _, err := servicebus.New(nil, queues, &world{}); err == nil {
		t.Error("made without a client")
	}
	if _, err := servicebus.New(&azservicebus.Client{}, servicebus.Queues{Requests: "a", Reconcile: "b"}, &world{}); err == nil {
		t.Error("made without a queue")
	}
}

func TestAStartIsNamedInAPropertyAndComesAtItsTime(t *testing.T) {
	inWorld(t, func(w *world) {
		at := time.Now().Add(20 * time.Second)
		id := access.NewRequestID(access.Sender{Channel: access.ChannelHTTP, Principal: "t/o"}, "1")
		w.check(w.PromptStart(context.Background(), id, at))
		m := w.receive(queues.Requests)
		if time.Now().Before(at.Add(-time.Second)) {
			w.Errorf("%v early", time.Until(at))
		}
		if m.ApplicationProperties[broker.StartProperty] != string(id) || len(m.ApplicationProperties) != 1 {
			w.Errorf("%s %v", m.Body, m.ApplicationProperties)
		}
	})
}

func TestATicketsEventIsNamedInAProperty(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check(w.PromptTicket(context.Background(), "te-1"))
		m := w.receive(queues.Requests)
		if m.ApplicationProperties[broker.TicketEventProperty] != "te-1" || len(m.ApplicationProperties) != 1 {
			w.Errorf("%s %v", m.Body, m.ApplicationProperties)
		}
	})
}
