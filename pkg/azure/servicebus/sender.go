// Package servicebus sends what the use cases want sent, over azservicebus.
package servicebus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// sendTimeout bounds one send: the SDK's own retries took most of a minute to
// give up on a broker that is gone.
const sendTimeout = 20 * time.Second

// Queues names the queues, and the topic Events.
type Queues struct{ Requests, Reconcile, Rejected, EventOutbox, Events string }

// Tracer lets a trace go on with a message.
type Tracer interface {
	// Send begins the sending to a queue, and gives the application properties that
	// carry the trace; delayed says that the message is scheduled.
	Send(ctx context.Context, to string, delayed bool) (_ context.Context, properties map[string]any, end func(error))
}

// Sender implements the broker's Prompts, EventPrompts and Outbox. It is safe for
// concurrent use.
type Sender struct {
	client *azservicebus.Client
	queues Queues
	tracer Tracer

	mu      sync.Mutex
	senders map[string]*azservicebus.Sender
}

// New makes a Sender; it connects at the first send.
func New(client *azservicebus.Client, queues Queues, tracer Tracer) (*Sender, error) {
	if client == nil || tracer == nil || queues.Requests == "" || queues.Reconcile == "" || queues.Rejected == "" || queues.EventOutbox == "" || queues.Events == "" {
		return nil, errors.New("servicebus: a client, the names of all queues and a tracer are required")
	}
	return &Sender{client: client, queues: queues, tracer: tracer, senders: map[string]*azservicebus.Sender{}}, nil
}

// SessionID is the session of an NSG on the queue nsg-reconcile. A session's id
// has at most 128 characters, fewer than a resource id may have, so it is a hash.
func SessionID(nsg access.ResourceID) string {
	sum := sha256.Sum256([]byte(nsg))
	return hex.EncodeToString(sum[:])
}

// Prompt implements broker.Prompts.
func (s *Sender) Prompt(ctx context.Context, nsg access.ResourceID, at time.Time) error {
	body, err := json.Marshal(map[string]string{"nsg": string(nsg)})
	if err != nil {
		return err
	}
	m := message(body)
	m.SessionID = to.Ptr(SessionID(nsg))
	if !at.IsZero() {
		m.ScheduledEnqueueTime = to.Ptr(at.UTC())
	}
	return s.send(ctx, s.queues.Reconcile, m)
}

// Retry implements broker.Outbox.
func (s *Sender) Retry(ctx context.Context, r broker.RequestMessage, at time.Time) error {
	m := message(r.Body)
	m.MessageID = &r.ID
	if r.ContentType != "" {
		m.ContentType = &r.ContentType
	}
	m.ScheduledEnqueueTime = to.Ptr(at.UTC())
	m.ApplicationProperties = map[string]any{}
	for name, v := range r.Properties {
		m.ApplicationProperties[name] = v
	}
	m.ApplicationProperties[broker.AttemptsProperty] = int64(r.Attempts)
	return s.send(ctx, s.queues.Requests, m)
}

// PromptStart implements broker.StartPrompts. The body is for people to read.
func (s *Sender) PromptStart(ctx context.Context, id access.RequestID, at time.Time) error {
	body, err := json.Marshal(map[string]string{"start": string(id)})
	if err != nil {
		return err
	}
	m := message(body)
	m.ScheduledEnqueueTime = to.Ptr(at.UTC())
	m.ApplicationProperties = map[string]any{broker.StartProperty: string(id)}
	return s.send(ctx, s.queues.Requests, m)
}

// PromptTicket implements broker.TicketPrompts. The body is for people to read.
func (s *Sender) PromptTicket(ctx context.Context, id string) error {
	body, err := json.Marshal(map[string]string{"ticketEvent": id})
	if err != nil {
		return err
	}
	m := message(body)
	m.ApplicationProperties = map[string]any{broker.TicketEventProperty: id}
	return s.send(ctx, s.queues.Requests, m)
}

// maxNamed bounds the violations of a rejection, so that it fits a message.
const maxNamed = 50

// Reject implements broker.Outbox.
func (s *Sender) Reject(ctx context.Context, r broker.Rejection) error {
	doc := map[string]any{
		"messageId": r.MessageID, "requestId": r.RequestID, "code": r.Refusal.Code, "reason": r.Refusal.Reason,
		"message": r.Refusal.Message, "violations": r.Refusal.Violations[:min(len(r.Refusal.Violations), maxNamed)], "bodyHash": r.BodyHash,
	}
	excerpt := r.Excerpt[:min(len(r.Excerpt), broker.MaxExcerpt)]
	if utf8.Valid(excerpt) {
		doc["excerpt"] = string(excerpt)
	} else {
		doc["excerptBase64"] = excerpt
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	m := message(body)
	m.CorrelationID = to.Ptr(string(r.RequestID))
	return s.send(ctx, s.queues.Rejected, m)
}

func message(body []byte) *azservicebus.Message {
	return &azservicebus.Message{Body: body, ContentType: to.Ptr("application/json")}
}

func (s *Sender) send(ctx context.Context, queue string, m *azservicebus.Message) (err error) {
	ctx, properties, end := s.tracer.Send(ctx, queue, m.ScheduledEnqueueTime != nil)
	defer func() { end(err) }()
	if m.ApplicationProperties == nil {
		m.ApplicationProperties = map[string]any{}
	}
	maps.Copy(m.ApplicationProperties, properties)
	return s.with(ctx, queue, func(ctx context.Context, sender *azservicebus.Sender) error { return sender.SendMessage(ctx, m, nil) })
}

// with lets something be sent to a queue or topic.
func (s *Sender) with(ctx context.Context, queue string, send func(context.Context, *azservicebus.Sender) error) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	sender, err := s.sender(queue)
	if err == nil {
		err = send(ctx, sender)
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*azservicebus.Error](err); ok && e.Code == azservicebus.CodeClosed {
		s.drop(queue, sender)
	}
	return access.Wrap(err, access.Unavailable, "queue_unavailable", "the queue "+queue+" does not take the message now")
}

func (s *Sender) sender(queue string) (*azservicebus.Sender, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.senders[queue]; ok {
		return have, nil
	}
	made, err := s.client.NewSender(queue, nil)
	if err == nil {
		s.senders[queue] = made
	}
	return made, err
}

// drop forgets a sender that is closed, so that the next send makes another.
func (s *Sender) drop(queue string, old *azservicebus.Sender) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.senders[queue] == old {
		delete(s.senders, queue)
	}
}

// Close closes the senders; the client is its owner's.
func (s *Sender) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, queue := range slices.Sorted(maps.Keys(s.senders)) {
		err = errors.Join(err, s.senders[queue].Close(ctx))
		delete(s.senders, queue)
	}
	return err
}
