package functionshost

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// receiver is what a Service Bus trigger needs from a queue or a session. Only
// one call of Receive runs at a time; the others may run concurrently.
type receiver interface {
	// Receive waits for at least one message and returns up to limit; it may
	// return none without an error.
	Receive(ctx context.Context, limit int) ([]*azservicebus.ReceivedMessage, error)
	Settle(ctx context.Context, m *azservicebus.ReceivedMessage, complete bool) error
	// Renew extends the message's lock, or the session's where there is one,
	// and returns when it ends.
	Renew(ctx context.Context, m *azservicebus.ReceivedMessage) (time.Time, error)
	Close(ctx context.Context) error
}

// session is a receiver of one session's messages.
type session struct {
	receiver
	id          string
	lockedUntil time.Time // at its acceptance
}

// queueOpener opens receivers.
type queueOpener interface {
	Open(q *queueTrigger) (receiver, error)
	// Accept waits for a session that nobody has and locks it. errNoSession
	// tells that there was none for a while.
	Accept(ctx context.Context, q *queueTrigger) (session, error)
}

var errNoSession = errors.New("no session with messages")

// entity is where a trigger receives from.
type entity struct {
	queue               string
	topic, subscription string
	dead                bool // its dead-letter queue
}

const deadLetterSuffix = "/$deadletterqueue"

// cutDeadLetter splits "queue/$DeadLetterQueue", in any case.
func cutDeadLetter(path string) (string, bool) {
	if n := len(path) - len(deadLetterSuffix); n > 0 && strings.EqualFold(path[n:], deadLetterSuffix) {
		return path[:n], true
	}
	return path, false
}

// String is the entity's path as the broker has it.
func (e entity) String() string {
	path := e.queue
	if e.topic != "" {
		path = e.topic + "/Subscriptions/" + e.subscription
	}
	if e.dead {
		path += "/$DeadLetterQueue"
	}
	return path
}

// sdkOpener opens receivers of azservicebus clients, by connection.
type sdkOpener struct {
	clients map[string]*azservicebus.Client
}

func (o sdkOpener) client(q *queueTrigger) (*azservicebus.Client, error) {
	if c := o.clients[q.connection]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no client for connection %q", q.connection)
}

func (o sdkOpener) Open(q *queueTrigger) (receiver, error) {
	client, err := o.client(q)
	if err != nil {
		return nil, err
	}
	var options azservicebus.ReceiverOptions
	if q.entity.dead {
		options.SubQueue = azservicebus.SubQueueDeadLetter
	}
	var r *azservicebus.Receiver
	if q.entity.topic != "" {
		r, err = client.NewReceiverForSubscription(q.entity.topic, q.entity.subscription, &options)
	} else {
		r, err = client.NewReceiverForQueue(q.entity.queue, &options)
	}
	if err != nil {
		return nil, err
	}
	return sdkReceiver{sdkMessages: r, renew: func(ctx context.Context, m *azservicebus.ReceivedMessage) (time.Time, error) {
		if err := r.RenewMessageLock(ctx, m, nil); err != nil {
			return time.Time{}, err
		}
		return *m.LockedUntil, nil
	}}, nil
}

func (o sdkOpener) Accept(ctx context.Context, q *queueTrigger) (session, error) {
	client, err := o.client(q)
	if err != nil {
		return session{}, err
	}
	var r *azservicebus.SessionReceiver
	if q.entity.topic != "" {
		r, err = client.AcceptNextSessionForSubscription(ctx, q.entity.topic, q.entity.subscription, nil)
	} else {
		r, err = client.AcceptNextSessionForQueue(ctx, q.entity.queue, nil)
	}
	var sdkErr *azservicebus.Error
	if errors.As(err, &sdkErr) && sdkErr.Code == azservicebus.CodeTimeout {
		return session{}, errNoSession
	}
	if err != nil {
		return session{}, err
	}
	wrapped := sdkReceiver{sdkMessages: r, renew: func(ctx context.Context, _ *azservicebus.ReceivedMessage) (time.Time, error) {
		if err := r.RenewSessionLock(ctx, nil); err != nil {
			return time.Time{}, err
		}
		return r.LockedUntil(), nil
	}}
	return session{receiver: wrapped, id: r.SessionID(), lockedUntil: r.LockedUntil()}, nil
}

// sdkMessages is what azservicebus.Receiver and SessionReceiver have in common.
type sdkMessages interface {
	ReceiveMessages(ctx context.Context, maxMessages int, options *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(ctx context.Context, m *azservicebus.ReceivedMessage, options *azservicebus.CompleteMessageOptions) error
	AbandonMessage(ctx context.Context, m *azservicebus.ReceivedMessage, options *azservicebus.AbandonMessageOptions) error
	Close(ctx context.Context) error
}

type sdkReceiver struct {
	sdkMessages
	renew func(ctx context.Context, m *azservicebus.ReceivedMessage) (time.Time, error)
}

func (r sdkReceiver) Receive(ctx context.Context, limit int) ([]*azservicebus.ReceivedMessage, error) {
	return r.ReceiveMessages(ctx, limit, nil)
}

func (r sdkReceiver) Settle(ctx context.Context, m *azservicebus.ReceivedMessage, complete bool) error {
	if complete {
		return r.CompleteMessage(ctx, m, nil)
	}
	return r.AbandonMessage(ctx, m, nil)
}

func (r sdkReceiver) Renew(ctx context.Context, m *azservicebus.ReceivedMessage) (time.Time, error) {
	return r.renew(ctx, m)
}

// isLockLost tells the error of a lock that somebody else may hold by now.
func isLockLost(err error) bool {
	var sdkErr *azservicebus.Error
	return errors.As(err, &sdkErr) && sdkErr.Code == azservicebus.CodeLockLost
}
