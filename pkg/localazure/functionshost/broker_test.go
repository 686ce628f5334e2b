package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

// delivery is what the handler printed of one invocation.
type delivery struct {
	function string
	Metadata map[string]json.RawMessage
}

// text is a metadata value that is a string within a string.
func (d delivery) text(t *testing.T, key string) string {
	t.Helper()
	var outer, inner string
	if err := json.Unmarshal(d.Metadata[key], &outer); err != nil {
		t.Fatalf("%s of %s: %v", key, d.function, err)
	}
	if err := json.Unmarshal([]byte(outer), &inner); err != nil {
		return outer // a number
	}
	return inner
}

func deliveries(t *testing.T, a *app) []delivery {
	t.Helper()
	var list []delivery
	for line := range strings.Lines(a.out.String()) {
		_, rest, ok := strings.Cut(line, "invoked /")
		if !ok || !strings.HasSuffix(line, "\n") {
			continue
		}
		name, body, _ := strings.Cut(rest, " ")
		d := delivery{function: name}
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, d)
	}
	return list
}

// bus is a broker with one queue, with or without sessions, and a sender to it.
type bus struct {
	connection string
	sender     *azservicebus.Sender
}

func startBroker(t *testing.T, sessions bool) *bus {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broker, err := servicebus.New(servicebus.Config{SASKeyName: "key", SASKey: "c2VjcmV0", Entities: servicebus.Entities{Queues: []servicebus.Queue{
		{Name: "q", Settings: servicebus.Settings{MaxDeliveryCount: 10, RequiresSession: sessions}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- broker.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(broker.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	b := &bus{connection: fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=key;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true", listener.Addr())}
	client, err := azservicebus.NewClientFromConnectionString(b.connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	if b.sender, err = client.NewSender("q", nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bus) send(t *testing.T, id, session string) {
	t.Helper()
	m := &azservicebus.Message{MessageID: &id, Body: []byte("x")}
	if session != "" {
		m.SessionID = &session
	}
	if err := b.sender.SendMessage(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
}

// triggered is a running host with one function, On, at the broker's queue.
func triggered(t *testing.T, b *bus, sessions bool) (*app, *running) {
	t.Helper()
	a := newApp(t, plainHost, map[string]string{"On": fmt.Sprintf(`{"bindings":[{"type":"serviceBusTrigger","direction":"in",
		"name":"msg","connection":"Bus","queueName":"q","dataType":"binary","isSessionsEnabled":%t}]}`, sessions)})
	a.cfg.Settings["Bus"] = b.connection
	a.cfg.ServiceBus = func(name string) (*azservicebus.Client, error) {
		return azservicebus.NewClientFromConnectionString(a.cfg.Settings[name], nil)
	}
	return a, a.start(t)
}
