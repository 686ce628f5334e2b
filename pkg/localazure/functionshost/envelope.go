package functionshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
)

var (
	errNotJSON = errors.New("not JSON")
	errNotText = errors.New("the message body is not UTF-8 text, which a trigger without dataType binary needs")
)

// maxDotNetTime is DateTimeOffset.MaxValue, the expiry of a message without one.
var maxDotNetTime = time.Date(9999, 12, 31, 23, 59, 59, 999_999_900, time.UTC)

// envelope is the body of a non-HTTP invocation.
type envelope struct {
	Data     map[string]json.RawMessage
	Metadata json.RawMessage
}

// bytes is the envelope's JSON.
func (e envelope) bytes() ([]byte, error) { return jsonText(e) }

// newEnvelope encodes one trigger value with its metadata.
func newEnvelope(binding string, value any, metadata *bindingData) (envelope, error) {
	encoded, err := encodeValue(value)
	if err != nil {
		return envelope{}, fmt.Errorf("data %s: %w", binding, err)
	}
	meta, err := metadata.encode()
	if err != nil {
		return envelope{}, err
	}
	return envelope{Data: map[string]json.RawMessage{binding: encoded}, Metadata: meta}, nil
}

// addSystem adds the host's own binding data.
func (d *bindingData) addSystem(function string, now time.Time) {
	d.set("sys", object{
		"MethodName": function,
		"UtcNow":     now,
		"RandGuid":   uuid.NewString(),
	})
}

// messageEnvelope encodes a received message. sessionLock is when the session's
// lock ends, zero where there is no session. The error tells a body that the
// binding cannot take; then the invocation fails without reaching the handler.
func messageEnvelope(f *function, m *azservicebus.ReceivedMessage, sessionLock, now time.Time) (envelope, error) {
	metadata := messageMetadata(m, sessionLock)
	if f.queue.namespace != "" {
		metadata.set("Client", object{"FullyQualifiedNamespace": f.queue.namespace})
	} else {
		metadata.set("Client", object{})
	}
	metadata.addSystem(f.Name, now)
	if f.dataType == "binary" {
		return newEnvelope(f.binding, orEmpty(m.Body), metadata)
	}
	if !utf8.Valid(m.Body) {
		return envelope{}, errNotText
	}
	text := string(m.Body)
	metadata.merge(text)
	return newEnvelope(f.binding, text, metadata)
}

// orEmpty keeps an absent body from being taken for null.
func orEmpty(body []byte) []byte {
	if body == nil {
		return []byte{}
	}
	return body
}

// messageMetadata is the binding data of a single message, in the order of
// ServiceBusTriggerBindingStrategy.GetBindingData.
func messageMetadata(m *azservicebus.ReceivedMessage, sessionLock time.Time) *bindingData {
	var d bindingData
	d.set("MessageReceiver", object{})
	d.set("MessageActions", object{})
	if !sessionLock.IsZero() {
		actions := object{"SessionLockedUntil": sessionLock.Format(ticksFormat)}
		d.set("MessageReceiver", actions)
		d.set("MessageSession", actions)
		d.set("MessageActions", actions)
		d.set("SessionActions", actions)
	}
	d.set("DeliveryCount", m.DeliveryCount)
	d.setText("DeadLetterSource", m.DeadLetterSource)
	d.set("LockToken", uuid.UUID(m.LockToken).String())
	expires, enqueued := maxDotNetTime, time.Time{}
	// The Go SDK takes a message without a time to live for one of 0, .NET's for
	// one without an end (AmqpMessageExtensions.GetTimeToLive).
	if m.ExpiresAt != nil && (m.TimeToLive == nil || *m.TimeToLive > 0) {
		expires = m.ExpiresAt.UTC()
	}
	if m.EnqueuedTime != nil {
		enqueued = m.EnqueuedTime.UTC()
	}
	d.set("ExpiresAtUtc", dateTime(expires))
	d.set("ExpiresAt", expires)
	d.set("EnqueuedTimeUtc", dateTime(enqueued))
	d.set("EnqueuedTime", enqueued)
	d.set("MessageId", m.MessageID)
	d.setText("ContentType", m.ContentType)
	d.setText("ReplyTo", m.ReplyTo)
	sequence := int64(-1)
	if m.SequenceNumber != nil {
		sequence = *m.SequenceNumber
	}
	d.set("SequenceNumber", sequence)
	d.setText("To", m.To)
	d.setText("Subject", m.Subject)
	d.setText("Label", m.Subject)
	d.setText("CorrelationId", m.CorrelationID)
	d.setText("SessionId", m.SessionID)
	d.setText("ReplyToSessionId", m.ReplyToSessionID)
	d.setText("PartitionKey", m.PartitionKey)
	properties := object(m.ApplicationProperties)
	d.set("ApplicationProperties", properties)
	d.set("UserProperties", properties)
	return &d
}

// scheduleStatus is when a timer last ran and runs next (ScheduleStatus of the
// timer extension).
type scheduleStatus struct {
	Last, Next, LastUpdated time.Time
}

func (s scheduleStatus) wire() object {
	return object{
		"Last":        s.Last.Format(ticksFormat),
		"Next":        s.Next.Format(ticksFormat),
		"LastUpdated": s.LastUpdated.Format(ticksFormat),
	}
}

// timerEnvelope encodes a TimerInfo; status is nil where none is kept.
func timerEnvelope(f *function, status *scheduleStatus, pastDue bool, now time.Time) (envelope, error) {
	info := object{
		"Schedule":       object{"AdjustForDST": f.timer.schedule.adjustsForDST()},
		"ScheduleStatus": nil,
		"IsPastDue":      pastDue,
	}
	if status != nil {
		info["ScheduleStatus"] = status.wire()
	}
	var metadata bindingData
	metadata.addSystem(f.Name, now)
	return newEnvelope(f.binding, info, &metadata)
}
