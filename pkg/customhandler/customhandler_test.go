package customhandler_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

func TestEveryAnswerHasABodyThatTheHostTakes(t *testing.T) {
	s, err := customhandler.New(map[string]customhandler.Function{
		"Good":  func(context.Context, customhandler.Invocation) error { return nil },
		"Bad":   func(context.Context, customhandler.Invocation) error { return errors.New("no") },
		"Panic": func(context.Context, customhandler.Invocation) error { panic("boom") },
	}, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/", "", 200}, {"POST", "/Good", recorded, 200}, {"POST", "/Bad", recorded, 500}, {"POST", "/Panic", recorded, 500},
		{"POST", "/Good", "{", 400}, {"POST", "/Good", "", 400}, {"POST", "/Good", "null", 400}, {"GET", "/Good", "", 405},
		{"POST", "/Good", `{"Data":{"msg":"` + strings.Repeat("x", 3<<20) + `"}}`, 400},
		{"POST", "/good", recorded, 404}, {"POST", "/Good/", recorded, 404}, {"POST", "/api/x", "", 404},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.want)
		}
		if c.want != 404 && (w.Header().Get("Content-Type") != "application/json" || w.Body.String() != "{}") {
			t.Errorf("%s %s: %q as %q", c.method, c.path, w.Body, w.Header().Get("Content-Type"))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(recorded))
	f.Add([]byte(`{"Data":{"timer":{"IsPastDue":false}},"Metadata":{"sys":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := customhandler.Decode(data)
		if err != nil {
			return
		}
		in.MessageID()
		in.DeliveryCount()
		in.EnqueuedTime()
		in.Property("portcullis-attempts")
	})
}
