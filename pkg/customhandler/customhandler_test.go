package customhandler_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// recorded is the envelope that a host sends for a Service Bus message with
// dataType binary.
const recorded = `{"Data":{"msg":"eyJvcmRlcklkIjo0Mn0="},
 "Metadata":{"DeliveryCount":"1","LockToken":"\"8f3c\"","SequenceNumber":"17","MessageId":"\"m-1\"",
  "EnqueuedTimeUtc":"2026-08-20T10:00:00","EnqueuedTime":"2026-08-20T10:00:00+00:00",
  "ApplicationProperties":{"portcullis-attempts":3,"tenant":"a"},"MessageReceiver":{},
  "sys":{"MethodName":"ProcessOrder","UtcNow":"2026-08-20T10:00:00.1234567Z","RandGuid":"x"}}}`

func TestAServiceBusEnvelopeIsDecoded(t *testing.T) {
	in, err := customhandler.Decode([]byte(recorded))
	if err != nil {
		t.Fatal(err)
	}
	if string(in.Data) != `{"orderId":42}` || in.MessageID() != "m-1" || in.DeliveryCount() != 1 ||
		in.Property("portcullis-attempts") != "3" || in.Property("tenant") != "a" || in.Property("none") != "" {
		t.Errorf("%s %+v", in.Data, in)
	}
	if want := time.Date(2026, 8, 20, 10, 0, 0, 0, time.UTC); !in.EnqueuedTime().Equal(want) {
		t.Errorf("enqueued %v", in.EnqueuedTime())
	}
	utc, err := customhandler.Decode([]byte(strings.Replace(recorded, `"EnqueuedTime":`, `"X":`, 1)))
	if err != nil || utc.EnqueuedTime().Hour() != 10 {
		t.Errorf("without an offset: %v, %v", utc.EnqueuedTime(), err)
	}
}

func TestAStringPayloadIsUnwrapped(t *testing.T) {
	in, err := customhandler.Decode([]byte(`{"Data":{"msg":"\"{\\\"a\\\":1}\""},"Metadata":{}}`))
	if err != nil || string(in.Data) != `{"a":1}` {
		t.Errorf("%s, %v", in.Data, err)
	}
}

// storageQueue is an envelope recorded from a host: a string payload, encoded
// twice and merged into the metadata.
const storageQueue = `{"Data":{"msg":"\"{\\\"scraperId\\\":\\\"v2\\\",\\\"timestamp\\\":\\\"2024-04-06T15:30:00Z\\\"}\""},
 "Metadata":{"DequeueCount":"5","ExpirationTime":"2024-05-17T16:13:45+00:00","Id":"\"4434c659-0000\"",
  "sys":{"MethodName":"scraperResultTrigger","UtcNow":"2024-05-10T16:13:47.1756352Z","RandGuid":"828f"},
  "scraperId":"\"v2\"","timestamp":"\"04/06/2024 15:30:00\""}}`

const timer = `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}},
 "Metadata":{"sys":{"MethodName":"Sweep","UtcNow":"2026-08-07T03:51:56.5094963Z","RandGuid":"x"}}}`

func decoded(t *testing.T, envelope string) customhandler.Invocation {
	t.Helper()
	in, err := customhandler.Decode([]byte(envelope))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestRecordedEnvelopes(t *testing.T) {
	if in := decoded(t, storageQueue); string(in.Data) != `{"scraperId":"v2","timestamp":"2024-04-06T15:30:00Z"}` || in.MessageID() != "" {
		t.Errorf("storage queue: %s", in.Data)
	}
	if in := decoded(t, timer); !strings.HasPrefix(string(in.Data), `{"Schedule"`) || !in.EnqueuedTime().IsZero() || in.DeliveryCount() != 0 {
		t.Errorf("timer: %s", in.Data)
	}
}

func TestPayloads(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"an empty message":              {`""`, ""},
		"bytes that are no text":        {`"//4A"`, "\xff\xfe\x00"},
		"a message that is itself text": {`"` + base64.StdEncoding.EncodeToString([]byte(`"quoted"`)) + `"`, `"quoted"`},
		"plain text":                    {`"hello, world"`, "hello, world"},
		"an object":                     {`{"a":1}`, `{"a":1}`},
	} {
		if in := decoded(t, `{"Data":{"msg":`+c.data+`},"Metadata":{}}`); string(in.Data) != c.want {
			t.Errorf("%s: %q", name, in.Data)
		}
	}
}

func TestMetadataOfAnotherShapeReadsAsUnknown(t *testing.T) {
	for _, meta := range []string{`{}`, `null`, `{"MessageId":null,"DeliveryCount":"x","EnqueuedTime":"soon","ApplicationProperties":[1]}`,
		`{"EnqueuedTime":{},"EnqueuedTimeUtc":[],"ApplicationProperties":"\"none\"","UserProperties":7}`} {
		in := decoded(t, `{"Data":{"msg":""},"Metadata":`+meta+`}`)
		if in.MessageID() != "" || in.DeliveryCount() != 0 || !in.EnqueuedTime().IsZero() || in.Property("a") != "" {
			t.Errorf("%s: %+v", meta, in)
		}
	}
	// Properties that come as text, or with values of the sender's making.
	in := decoded(t, `{"Data":{"msg":""},"Metadata":{"UserProperties":"{\"n\":3,\"s\":\"\\\"q\\\"\"}"}}`)
	if in.Property("n") != "3" || in.Property("s") != `"q"` {
		t.Errorf("properties %q %q", in.Property("n"), in.Property("s"))
	}
}

func TestNoEnvelope(t *testing.T) {
	for _, body := range []string{"", "{", "null", "[]", `"x"`, `{}`, `{"Data":{}}`, `{"Data":null}`, `{"Data":{"a":"","b":""}}`, `{"Data":[]}`, `{"Data":{"a":""}}{}`} {
		if _, err := customhandler.Decode([]byte(body)); err == nil {
			t.Errorf("%q was decoded", body)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{recorded, storageQueue, timer, `{"Data":{"msg":"\"\\\"x\\\"\""},"Metadata":{"MessageId":"\"\\u0000\""}}`, `{"data":{"m":null},"metadata":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := customhandler.Decode(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Errorf("decoded what is not JSON: %q", data)
		}
		// Nothing grows: every value is a part of the envelope, decoded.
		if len(in.Data) > len(data)*3 || len(in.MessageID()) > len(data)*3 {
			t.Errorf("%d bytes became %d and %d", len(data), len(in.Data), len(in.MessageID()))
		}
		if at := in.EnqueuedTime(); at.Location() != time.UTC || at.Nanosecond() != 0 && !strings.Contains(string(data), ".") {
			t.Errorf("enqueued %v", at)
		}
		in.DeliveryCount()
		in.Property("portcullis-attempts")
	})
}
