package customhandler

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Invocation is one call of a function that is not an HTTP trigger.
type Invocation struct {
	// ID is the host's invocation id, for logs.
	ID string
	// Traceparent is the header of that name, where the host sends one.
	Traceparent string
	// Data is the trigger's payload: the message's bytes, or a timer's JSON.
	Data     []byte
	metadata map[string]json.RawMessage
}

// Decode reads an envelope, tolerantly: the host encodes values by their .NET
// type, some of them twice (azure-functions-host, Workers/Http).
func Decode(body []byte) (Invocation, error) {
	var envelope struct {
		Data     map[string]json.RawMessage
		Metadata map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return Invocation{}, err
	}
	if len(envelope.Data) != 1 {
		return Invocation{}, errors.New("an envelope has one trigger")
	}
	in := Invocation{metadata: envelope.Metadata}
	for _, raw := range envelope.Data {
		in.Data = payload(raw)
	}
	return in, nil
}

// payload undoes the encodings: a byte array comes as base64 (dataType
// binary), a string as JSON text within a JSON string, an object as it is.
func payload(raw json.RawMessage) []byte {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return raw
	}
	if data, err := base64.StdEncoding.DecodeString(text); err == nil {
		return data
	}
	var inner string
	if json.Unmarshal([]byte(text), &inner) == nil {
		return []byte(inner)
	}
	return []byte(text)
}

// text reads a metadata value as text: a string within a string or not, or a
// number. "" for one that is not there.
func (in Invocation) text(key string) string {
	raw, ok := in.metadata[key]
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return strings.TrimSpace(string(raw))
	}
	var inner string
	if json.Unmarshal([]byte(s), &inner) == nil {
		return inner
	}
	return s
}

// MessageID is the message's id; "" for a timer.
func (in Invocation) MessageID() string { return in.text("MessageId") }

// DeliveryCount counts the deliveries, this one included; 0 when unknown.
func (in Invocation) DeliveryCount() int {
	n, err := strconv.Atoi(in.text("DeliveryCount"))
	if err != nil {
		return 0
	}
	return n
}

// EnqueuedTime is when the broker took the message, by its clock, in whole
// seconds; zero when unknown.
func (in Invocation) EnqueuedTime() time.Time {
	if t, err := time.Parse(time.RFC3339, in.text("EnqueuedTime")); err == nil {
		return t.UTC()
	}
	// A DateTime carries no zone; the host's are UTC.
	if t, err := time.Parse("2006-01-02T15:04:05", in.text("EnqueuedTimeUtc")); err == nil {
		return t
	}
	return time.Time{}
}

// ContentType is the message's; "" for none.
func (in Invocation) ContentType() string { return in.text("ContentType") }

// Property gives an application property of the message as text; "" for none.
func (in Invocation) Property(name string) string { return in.Properties()[name] }

// Properties gives the application properties of the message as text.
func (in Invocation) Properties() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"UserProperties", "ApplicationProperties"} {
		var all map[string]json.RawMessage
		raw := in.metadata[key]
		if json.Unmarshal(raw, &all) != nil {
			var text string
			if json.Unmarshal(raw, &text) != nil || json.Unmarshal([]byte(text), &all) != nil {
				continue
			}
		}
		for name, v := range all {
			// Only the value as a whole is encoded twice; what is in it is the sender's.
			var s string
			if json.Unmarshal(v, &s) != nil {
				s = strings.TrimSpace(string(v))
			}
			out[name] = s
		}
	}
	return out
}
