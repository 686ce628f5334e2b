package functionshost

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

// delivery is what the handler printed of one invocation.
type delivery struct {
	function string
	Data     map[string]string
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

func busFunction(more string) string {
	return `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","connection":"Bus",` + more + `}]}`
}

// TestAgainstTheBroker runs a real handler process, the real SDK and the local
// broker together.
func TestAgainstTheBroker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lock := servicebus.Duration(time.Minute)
	broker, err := servicebus.New(servicebus.Config{SASKeyName: "key", SASKey: "c2VjcmV0", Entities: servicebus.Entities{
		Queues: []servicebus.Queue{
			{Name: "plain", Settings: servicebus.Settings{LockDuration: lock, MaxDeliveryCount: 10}},
			{Name: "failing", Settings: servicebus.Settings{LockDuration: lock, MaxDeliveryCount: 3}},
			{Name: "slow", Settings: servicebus.Settings{LockDuration: servicebus.Duration(time.Second), MaxDeliveryCount: 10}},
			{Name: "slowsessions", Settings: servicebus.Settings{LockDuration: servicebus.Duration(time.Second), MaxDeliveryCount: 10, RequiresSession: true}},
			{Name: "sessions", Settings: servicebus.Settings{LockDuration: lock, MaxDeliveryCount: 10, RequiresSession: true}},
		},
		Topics: []servicebus.Topic{{Name: "news", Subscriptions: []servicebus.Subscription{{Name: "mine"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- broker.Serve(listener) }()
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	connection := fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=key;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true", listener.Addr())

	a := newApp(t, strings.Replace(plainHost, `"version"`, `"extensions":{"serviceBus":{"maxConcurrentSessions":4,"sessionIdleTimeout":"00:00:01"}},"version"`, 1),
		map[string]string{
			"Plain": busFunction(`"queueName":"plain","dataType":"binary"`),
			"Fail":  busFunction(`"queueName":"failing"`),
			"Dead":  busFunction(`"queueName":"failing/$DeadLetterQueue","dataType":"binary"`),
			"Ses":   busFunction(`"queueName":"sessions","dataType":"binary","isSessionsEnabled":true`),
			"Slow":  busFunction(`"queueName":"slow","dataType":"binary"`),
			"SlowS": busFunction(`"queueName":"slowsessions","dataType":"binary","isSessionsEnabled":true`),
			"News":  busFunction(`"topicName":"news","subscriptionName":"mine","dataType":"binary"`),
		})
	a.cfg.Settings["Bus"] = connection
	a.cfg.ServiceBus = func(name string) (*azservicebus.Client, error) {
		return azservicebus.NewClientFromConnectionString(a.cfg.Settings[name], nil)
	}
	client, err := azservicebus.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(t.Context()) })
	send := func(entity, id, body, session string) {
		t.Helper()
		sender, err := client.NewSender(entity, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := &azservicebus.Message{MessageID: &id, Body: []byte(body), ApplicationProperties: map[string]any{"n": int64(3)}}
		if session != "" {
			m.SessionID = &session
		}
		if err := sender.SendMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		if err := sender.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a.start(t)
	send("slow", "l1", "slow", "")
	send("slowsessions", "l2", "slow", "z")
	send("plain", "p1", "one", "")
	send("failing", "f1", `{"a":1}`, "")
	for _, session := range []string{"x", "y"} {
		for i := range 3 {
			send("sessions", fmt.Sprint(session, i), "s", session)
		}
	}
	send("news", "n1", "two", "")

	eventually(t, "all deliveries", func() bool { return len(deliveries(t, a)) >= 2+1+3+1+6+1 })
	byFunction := map[string][]delivery{}
	for _, d := range deliveries(t, a) {
		byFunction[d.function] = append(byFunction[d.function], d)
	}
	plain := byFunction["Plain"][0]
	if plain.Data["msg"] != "b25l" || plain.text(t, "MessageId") != "p1" || plain.text(t, "DeliveryCount") != "1" ||
		string(plain.Metadata["ApplicationProperties"]) != `{"n":3}` ||
		string(plain.Metadata["Client"]) != `{"FullyQualifiedNamespace":"`+listener.Addr().String()+`"}` {
		t.Errorf("plain: %s %s", plain.Data, plain.Metadata)
	}
	for i, d := range byFunction["Fail"] {
		if d.text(t, "DeliveryCount") != fmt.Sprint(i+1) || d.Data["msg"] != `"{\"a\":1}"` || d.text(t, "a") != "1" {
			t.Errorf("failing, delivery %d: %s %s", i+1, d.Data, d.Metadata)
		}
	}
	if n := len(byFunction["Fail"]); n != 3 {
		t.Errorf("the failing message was delivered %d times", n)
	}
	if dead := byFunction["Dead"][0]; dead.text(t, "MessageId") != "f1" || dead.text(t, "DeadLetterSource") != "failing" {
		t.Errorf("dead: %s", dead.Metadata)
	}
	next := map[string]int{}
	for _, d := range byFunction["Ses"] {
		session := d.text(t, "SessionId")
		if id := d.text(t, "MessageId"); id != fmt.Sprint(session, next[session]) {
			t.Errorf("session %s: %s came out of order", session, id)
		}
		next[session]++
	}
	if next["x"] != 3 || next["y"] != 3 {
		t.Errorf("sessions: %v", next)
	}
	if byFunction["News"][0].Data["msg"] != "dHdv" {
		t.Errorf("news: %s", byFunction["News"][0].Data)
	}
	for _, queue := range []string{"plain", "failing", "sessions", "slow", "slowsessions"} {
		eventually(t, queue+" is empty", func() bool {
			counts, ok := broker.Counts(queue)
			return ok && counts == servicebus.Counts{}
		})
	}
	// Both ran longer than their lock, which was renewed: one delivery each.
	for _, d := range deliveries(t, a) {
		if strings.HasPrefix(d.function, "Slow") && d.text(t, "DeliveryCount") != "1" {
			t.Errorf("%s was delivered again", d.function)
		}
	}
}
