package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

// bus is the Service Bus stand-in on a socket, and a client of it.
type bus struct {
	*servicebus.Server
	connection, address string
	client              *azservicebus.Client
}

func startBus(t *testing.T, queues ...servicebus.Queue) *bus {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bus{address: listener.Addr().String()}
	b.Server, err = servicebus.New(servicebus.Config{SASKeyName: "key", SASKey: "c2VjcmV0", Entities: servicebus.Entities{
		Queues: queues,
		Topics: []servicebus.Topic{{Name: "news", Subscriptions: []servicebus.Subscription{{Name: "mine"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	b.connection = fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=key;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true", b.address)
	if b.client, err = azservicebus.NewClientFromConnectionString(b.connection, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.client.Close(context.Background()) })
	return b
}

// queue describes a queue; a lock of 0 is a minute.
func queue(name string, lock time.Duration, deliveries int, sessions bool) servicebus.Queue {
	return servicebus.Queue{Name: name, Settings: servicebus.Settings{
		LockDuration: servicebus.Duration(lock), MaxDeliveryCount: deliveries, RequiresSession: sessions}}
}

// send sends messages of a body each.
func (b *bus) send(t *testing.T, entity string, messages ...*azservicebus.Message) {
	t.Helper()
	sender, err := b.client.NewSender(entity, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Body == nil {
			m.Body = []byte("x")
		}
		if err := sender.SendMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// message is one with an id, and in a session unless that is "".
func message(id, session string) *azservicebus.Message {
	m := &azservicebus.Message{MessageID: &id}
	if session != "" {
		m.SessionID = &session
	}
	return m
}

// drained waits until a queue holds nothing, but for the dead letters.
func (b *bus) drained(t *testing.T, queue string) {
	t.Helper()
	eventually(t, queue+" is empty", func() bool {
		counts, ok := b.Counts(queue)
		return ok && counts.Active == 0 && counts.Scheduled == 0
	})
}

// takeOver waits until it has a session, and gives its receiver.
func (b *bus) takeOver(t *testing.T, queue, session string) *azservicebus.SessionReceiver {
	t.Helper()
	var taken *azservicebus.SessionReceiver
	eventually(t, "the session "+session+" is free", func() bool {
		var err error
		taken, err = b.client.AcceptSessionForQueue(t.Context(), queue, session, nil)
		return err == nil // else somebody has it
	})
	t.Cleanup(func() { _ = taken.Close(context.Background()) })
	return taken
}

func busFunction(more string) string {
	return `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","connection":"Bus",` + more + `}]}`
}

// invocation is the body of a call that is not HTTP.
type invocation struct {
	event
	Data     map[string]json.RawMessage
	Metadata map[string]json.RawMessage
}

func decode(e event) (invocation, error) {
	call := invocation{event: e}
	return call, json.Unmarshal(e.Body, &call)
}

// text is what a metadata value stands for: the JSON within a JSON string.
func (i invocation) text(key string) string {
	var outer, inner string
	if json.Unmarshal(i.Metadata[key], &outer) != nil {
		return ""
	}
	if json.Unmarshal([]byte(outer), &inner) != nil {
		return outer // a number
	}
	return inner
}

// id and count name a delivery of a message.
func (i invocation) id() string    { return i.text("MessageId") }
func (i invocation) count() string { return i.text("DeliveryCount") }

// calls lists the invocations of a function.
func (h *host) calls(t *testing.T, function string) []invocation {
	t.Helper()
	var list []invocation
	for _, e := range h.told("request") {
		if e.Path != "/"+function {
			continue
		}
		call, err := decode(e)
		if err != nil {
			t.Fatalf("%v: %s", err, e.Body)
		}
		list = append(list, call)
	}
	return list
}

// deliveries lists a function's calls as "message/delivery count".
func (h *host) deliveries(t *testing.T, function string) []string {
	t.Helper()
	var list []string
	for _, call := range h.calls(t, function) {
		list = append(list, call.id()+"/"+call.count())
	}
	return list
}

// failing answers 500 to the deliveries that it is asked about with true.
func failing(fails func(i invocation) bool) func(context.Context, event) order {
	return func(_ context.Context, e event) order {
		if call, err := decode(e); err == nil && e.Path != "/" && fails(call) {
			return order{Answer: &answer{Status: 500}}
		}
		return order{}
	}
}
