package queue

import (
	"maps"
	"time"

	"github.com/Azure/go-amqp"
)

// State is where a message stands.
type State int

// The states that peeking shows, with the values of the annotation
// x-opt-message-state (azservicebus, message.go).
const (
	Active    State = 0
	Deferred  State = 1
	Scheduled State = 2
)

// Message is a message in a queue. What comes back from a Queue may be read
// until the next call on it, and must not be changed.
type Message struct {
	ID        string // message-id, for duplicate detection
	SessionID *string
	Body      *amqp.Message // as sent; its sections are shared, never changed in place
	Size      int           // octets, as sent
	TTL       time.Duration // asked for by the sender; 0 means the queue's default

	ScheduledAt time.Time // zero for a message to be delivered at once

	Seq           int64
	State         State
	EnqueuedAt    time.Time
	DeliveryCount uint32 // deliveries that failed
	Source        string // queue that dead-lettered the message

	Token       [16]byte // lock token of the latest delivery, RFC 4122 order
	LockedUntil time.Time

	locked    bool
	expiresAt time.Time // zero for never
}

// withProperties gives the message further application properties.
func (m *Message) withProperties(properties map[string]any) {
	if len(properties) == 0 {
		return
	}
	body := *m.Body
	body.ApplicationProperties = maps.Clone(body.ApplicationProperties)
	if body.ApplicationProperties == nil {
		body.ApplicationProperties = map[string]any{}
	}
	maps.Copy(body.ApplicationProperties, properties)
	m.Body = &body
}

// fresh returns a copy with nothing but what the sender gave, for another queue.
func (m *Message) fresh() *Message {
	return &Message{ID: m.ID, SessionID: m.SessionID, Body: m.Body, Size: m.Size, TTL: m.TTL}
}
