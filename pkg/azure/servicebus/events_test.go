package servicebus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var (
	_ broker.EventPrompts = (*servicebus.Sender)(nil)
	_ broker.EventTopic   = (*servicebus.EventTopic)(nil)
)

// sealed makes n events of the subject from the number on, each with a text of
// the size.
func sealed(subject string, from, n, size int) (out []broker.SealedEvent) {
	for i := range n {
		out = append(out, broker.SealedEvent{Seq: from + i, Event: access.Event{
			Subject: subject, Kind: access.EventOpened, Key: fmt.Sprint(i), At: time.Now(), Detail: map[string]string{"text": strings.Repeat("x", size)},
		}})
	}
	return out
}

// subscribed takes n messages of the subject off the subscription "all".
func (w *world) subscribed(subject string, n int) (out []*azservicebus.ReceivedMessage) {
	w.Helper()
	s, err := w.client.AcceptSessionForSubscription(context.Background(), queues.Events, "all", accessevent.Session(subject), &azservicebus.SessionReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	w.check(err)
	defer func() { w.check(s.Close(context.Background())) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(out) < n {
		got, err := s.ReceiveMessages(ctx, n-len(out), nil)
		w.check(err)
		out = append(out, got...)
	}
	return out
}

func TestEventsComeInTheirOrderHoweverLarge(t *testing.T) {
	for name, c := range map[string]struct{ n, size int }{"one": {1, 10}, "many small ones": {300, 10}, "large ones": {12, 100 << 10}, "too large ones": {3, 300 << 10}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				subject := string(web) + strings.Repeat("x", 100)
				topic := w.EventTopic(accessevent.NewEncoder("test"))
				w.check(topic.SendEvents(context.Background(), nil))
				w.check(topic.SendEvents(context.Background(), sealed(subject, 1, c.n, c.size)))
				w.check(topic.SendEvents(context.Background(), sealed("another", 1, 1, 1)))
				for i, m := range w.subscribed(subject, c.n) {
					var ce struct{ ID, Subject, Sequence, Type string }
					w.check(json.Unmarshal(m.Body, &ce))
					if ce.Sequence != fmt.Sprintf("%08d", i+1) || ce.Subject != subject || ce.ID != m.MessageID || ce.Type != "io.portcullis.access.opened.v1" ||
						*m.ContentType != "application/cloudevents+json" || m.ApplicationProperties[servicebus.KindProperty] != "opened" {
						w.Fatalf("message %d: %s %v %.300s", i, m.MessageID, m.ApplicationProperties, m.Body)
					}
				}
				if got := w.subscribed("another", 1); len(got) != 1 || got[0].MessageID != "another/1" {
					w.Errorf("%v", got)
				}
			})
		})
	}
}

func TestAnEventThatNoMessageCanHoldKeepsNoneBack(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.EventTopic(accessevent.NewEncoder("test"))
		topic.Limit(4 << 10)
		w.check(topic.SendEvents(context.Background(), append(sealed("s", 1, 1, 8<<10), sealed("s", 2, 1, 1)...)))
		got := w.subscribed("s", 2)
		if !strings.Contains(string(got[0].Body), `"omitted"`) || got[0].MessageID != "s/1" || strings.Contains(string(got[1].Body), `"omitted"`) {
			w.Errorf("%s\n%s", got[0].Body, got[1].Body)
		}
	})
}

func TestEventsThatCannotBeSentAreLeftToAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.EventTopic(accessevent.NewEncoder("test"))
		w.check(topic.SendEvents(context.Background(), sealed("s", 1, 1, 1)))
		w.check(w.bus.Close())
		for _, err := range []error{topic.SendEvents(context.Background(), sealed("s", 1, 1, 1)), w.PromptEvents(context.Background(), "s")} {
			if access.CodeOf(err) != access.Unavailable || access.ReasonOf(err) != "queue_unavailable" {
				w.Error(err)
			}
		}
	})
}

func TestPromptsOfOneSubjectShareASession(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 2 {
			w.check(w.PromptEvents(context.Background(), string(web)))
		}
		s, err := w.client.AcceptSessionForQueue(context.Background(), queues.EventOutbox, accessevent.Session(string(web)), nil)
		w.check(err)
		defer func() { w.check(s.Close(context.Background())) }()
		got, err := s.ReceiveMessages(context.Background(), 5, nil)
		w.check(err)
		if len(got) != 2 || string(got[0].Body) != fmt.Sprintf(`{"subject":%q}`, web) {
			w.Errorf("%v", got)
		}
	})
}
