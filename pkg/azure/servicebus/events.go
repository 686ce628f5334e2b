package servicebus

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// KindProperty is the application property that names an event's kind, in lower
// case, for the filters of subscriptions.
const KindProperty = "kind"

// PromptEvents implements broker.EventPrompts.
func (s *Sender) PromptEvents(ctx context.Context, subject string) error {
	body, err := json.Marshal(map[string]string{"subject": subject})
	if err != nil {
		return err
	}
	m := message(body)
	m.SessionID = to.Ptr(accessevent.Session(subject))
	return s.send(ctx, s.queues.EventOutbox, m)
}

// EventTopic implements broker.EventTopic: it sends events as CloudEvents to the
// topic access-events.
type EventTopic struct {
	sender *Sender
	encode accessevent.Encoder
	most   uint64 // bytes of a batch; 0 for what the namespace takes
}

// EventTopic gives the topic for events in the encoder's name.
func (s *Sender) EventTopic(e accessevent.Encoder) *EventTopic {
	return &EventTopic{sender: s, encode: e}
}

// SendEvents implements broker.EventTopic. A batch is taken as a whole, in its
// order, so that a session never holds an event before one of a lower number that
// was not sent.
func (t *EventTopic) SendEvents(ctx context.Context, events []broker.SealedEvent) error {
	for len(events) > 0 {
		n := 0
		err := t.sender.with(ctx, t.sender.queues.Events, func(ctx context.Context, sender *azservicebus.Sender) (err error) {
			n, err = t.sendSome(ctx, sender, events)
			return err
		})
		if err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// sendSome sends as many of the events as one batch holds, and gives their number.
func (t *EventTopic) sendSome(ctx context.Context, sender *azservicebus.Sender, events []broker.SealedEvent) (int, error) {
	batch, err := sender.NewMessageBatch(ctx, &azservicebus.MessageBatchOptions{MaxBytes: t.most})
	if err != nil {
		return 0, err
	}
	n := 0
	for ; n < len(events); n++ {
		err := t.add(batch, events[n])
		if errors.Is(err, azservicebus.ErrMessageTooLarge) && n > 0 {
			break // it comes first in the next
		}
		if err != nil {
			return 0, err
		}
	}
	return n, sender.SendMessageBatch(ctx, batch, nil)
}

// add puts the event into the batch; one that not even an empty batch can hold
// goes without its detail.
func (t *EventTopic) add(batch *azservicebus.MessageBatch, e broker.SealedEvent) error {
	m, err := t.encode.Encode(e.Event, e.Seq)
	if err != nil {
		return err
	}
	err = batch.AddMessage(eventMessage(e.Event.Subject, m), nil)
	if !errors.Is(err, azservicebus.ErrMessageTooLarge) || batch.NumMessages() > 0 {
		return err
	}
	if m, err = t.encode.Bare(e.Event, e.Seq); err != nil {
		return err
	}
	return batch.AddMessage(eventMessage(e.Event.Subject, m), nil)
}

func eventMessage(subject string, m accessevent.Message) *azservicebus.Message {
	return &azservicebus.Message{
		Body: m.Body, ContentType: to.Ptr(accessevent.ContentType), MessageID: &m.ID, SessionID: to.Ptr(accessevent.Session(subject)),
		ApplicationProperties: map[string]any{KindProperty: m.Kind},
	}
}
