package servicebus

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// Annotations, azservicebus message.go.
const (
	annEnqueuedTime  = "x-opt-enqueued-time"
	annSequence      = "x-opt-sequence-number"
	annEnqueuedSeq   = "x-opt-enqueue-sequence-number"
	annLockedUntil   = "x-opt-locked-until"
	annScheduledTime = "x-opt-scheduled-enqueue-time"
	annState         = "x-opt-message-state"
	annDeadSource    = "x-opt-deadletter-source"
	annLockToken     = "x-opt-lock-token"
)

// batchFormat marks a message whose data sections are messages.
const batchFormat = 0x80013700

// decode decodes a message. go-amqp believes the counts it reads and panics on
// some input, such as a map with a list for a key; a peer must not be able to
// end the process with either, so the sections are gone through before.
func decode(data []byte) (m *amqp.Message, err error) {
	for rest := data; len(rest) > 0; {
		if _, rest, err = wire.Decode(rest); err != nil {
			return nil, err
		}
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the message cannot be decoded: %v", r)
		}
	}()
	m = &amqp.Message{}
	return m, m.UnmarshalBinary(data)
}

// received turns what a sender sent into messages: several if it is a batch.
func received(data []byte, format uint32) ([]*queue.Message, error) {
	if format != batchFormat {
		m, err := receivedOne(data)
		return []*queue.Message{m}, err
	}
	batch, err := decode(data)
	if err != nil {
		return nil, err
	}
	var messages []*queue.Message
	for _, section := range batch.Data {
		m, err := receivedOne(section)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

func receivedOne(data []byte) (*queue.Message, error) {
	// go-amqp's decoder aliases what it decodes; frames' buffers are not reused.
	body, err := decode(data)
	if err != nil {
		return nil, err
	}
	m := &queue.Message{Body: body, Size: len(data)}
	if v, ok := body.Annotations[annScheduledTime]; ok {
		if m.ScheduledAt, ok = v.(time.Time); !ok {
			return nil, errors.New(annScheduledTime + " is not a timestamp")
		}
	}
	// These are the broker's to set.
	for _, name := range []string{annEnqueuedTime, annSequence, annEnqueuedSeq, annLockedUntil, annState} {
		delete(body.Annotations, name)
	}
	delete(body.DeliveryAnnotations, annLockToken)
	if h := body.Header; h != nil {
		m.TTL = h.TTL
		h.DeliveryCount = 0
	}
	if body.Properties == nil {
		body.Properties = &amqp.MessageProperties{}
	}
	if body.Properties.MessageID == nil {
		id := uuid.New()
		body.Properties.MessageID = fmt.Sprintf("%x", id[:])
	}
	m.ID = fmt.Sprint(body.Properties.MessageID)
	m.SessionID = body.Properties.GroupID
	return m, nil
}

// encodeMessage makes what a receiver gets: the message as sent, with what the
// broker knows of it.
func encodeMessage(m *queue.Message, locked, peeked bool) ([]byte, error) {
	body := *m.Body
	header, err := encodeHeader(body.Header, m.DeliveryCount)
	if err != nil {
		return nil, err
	}
	body.Header = nil
	body.Annotations = maps.Clone(body.Annotations)
	if body.Annotations == nil {
		body.Annotations = amqp.Annotations{}
	}
	body.Annotations[annSequence] = m.Seq
	if !m.EnqueuedAt.IsZero() {
		body.Annotations[annEnqueuedTime] = m.EnqueuedAt
	}
	if m.Source != "" {
		body.Annotations[annDeadSource] = m.Source
	}
	if peeked && m.State != queue.Active || m.State == queue.Deferred {
		body.Annotations[annState] = int32(m.State)
	}
	if locked {
		body.Annotations[annLockedUntil] = m.LockedUntil
		body.DeliveryAnnotations = maps.Clone(body.DeliveryAnnotations)
		if body.DeliveryAnnotations == nil {
			body.DeliveryAnnotations = amqp.Annotations{}
		}
		body.DeliveryAnnotations[annLockToken] = amqp.UUID(m.Token)
	}
	rest, err := body.MarshalBinary()
	return append(header, rest...), err
}

// encodeHeader writes the header section (AMQP 1.0 part 3 section 3.2.1) with
// the delivery count even if it is zero, which go-amqp leaves out and the SDK
// for JavaScript then does not know.
func encodeHeader(h *amqp.MessageHeader, deliveryCount uint32) ([]byte, error) {
	fields := []any{false, uint8(4), nil, false, deliveryCount}
	if h != nil {
		fields[0], fields[1], fields[3] = h.Durable, h.Priority, h.FirstAcquirer
		if h.TTL > 0 {
			fields[2] = uint32(h.TTL / time.Millisecond)
		}
	}
	return wire.Append(nil, wire.Described{Descriptor: uint64(0x70), Value: fields})
}
