package servicebus

import (
	"context"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// Entity is a queue or a subscription as it stands.
type Entity struct {
	// Settings are by the names and in the notation of the REST API's description
	// (durations in ISO 8601).
	Settings map[string]any
	Active   bool
	Waiting  int // messages that can be received
	Dead     int // dead letters
}

// Entities reads the entities of a namespace. It takes the right to manage it
// (Azure Service Bus Data Owner), and writes nothing.
type Entities struct{ client *admin.Client }

// NewEntities makes an Entities.
func NewEntities(client *admin.Client) (*Entities, error) {
	if client == nil {
		return nil, errors.New("servicebus: a client is required")
	}
	return &Entities{client}, nil
}

// Queue reads a queue. Errors: not_found; unavailable, azure_permission for a
// right that is missing.
func (e *Entities) Queue(ctx context.Context, name string) (Entity, error) {
	q, err := e.client.GetQueue(ctx, name, nil)
	if err != nil || q == nil {
		return Entity{}, unread(err, "the queue "+name)
	}
	run, err := e.client.GetQueueRuntimeProperties(ctx, name, nil)
	if err != nil || run == nil {
		return Entity{}, unread(err, "the queue "+name)
	}
	return Entity{
		Active: active(q.Status), Waiting: int(run.ActiveMessageCount), Dead: int(run.DeadLetterMessageCount),
		Settings: map[string]any{
			"lockDuration": value(q.LockDuration), "maxDeliveryCount": value(q.MaxDeliveryCount), "requiresSession": value(q.RequiresSession),
			"requiresDuplicateDetection": value(q.RequiresDuplicateDetection), "deadLetteringOnMessageExpiration": value(q.DeadLetteringOnMessageExpiration),
			"defaultMessageTimeToLive": value(q.DefaultMessageTimeToLive),
		},
	}, nil
}

// Subscription reads a topic's subscription. Errors as of Queue.
func (e *Entities) Subscription(ctx context.Context, topic, name string) (Entity, error) {
	what := "the subscription " + name + " of the topic " + topic
	s, err := e.client.GetSubscription(ctx, topic, name, nil)
	if err != nil || s == nil {
		return Entity{}, unread(err, what)
	}
	run, err := e.client.GetSubscriptionRuntimeProperties(ctx, topic, name, nil)
	if err != nil || run == nil {
		return Entity{}, unread(err, what)
	}
	return Entity{
		Active: active(s.Status), Waiting: int(run.ActiveMessageCount), Dead: int(run.DeadLetterMessageCount),
		Settings: map[string]any{
			"lockDuration": value(s.LockDuration), "maxDeliveryCount": value(s.MaxDeliveryCount), "requiresSession": value(s.RequiresSession),
			"deadLetteringOnMessageExpiration": value(s.DeadLetteringOnMessageExpiration), "defaultMessageTimeToLive": value(s.DefaultMessageTimeToLive),
		},
	}, nil
}

func active(s *admin.EntityStatus) bool { return s != nil && *s == admin.EntityStatusActive }

// value is what the pointer points to; nil for nothing.
func value[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// unread gives the error of a read; the SDK gives neither answer nor error for
// what is not there.
func unread(err error, what string) error {
	if err == nil {
		return access.Errorf(access.NotFound, "entity_missing", "%s does not exist", what)
	}
	if res, ok := errors.AsType[*azcore.ResponseError](err); ok {
		switch res.StatusCode {
		case http.StatusNotFound:
			return access.Wrap(err, access.NotFound, "entity_missing", what+" does not exist")
		case http.StatusUnauthorized, http.StatusForbidden:
			return access.Wrap(err, access.Unavailable, "azure_permission", what+" may not be read")
		}
	}
	return access.Wrap(err, access.Unavailable, "queue_unavailable", what+" cannot be read now")
}
