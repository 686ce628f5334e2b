package functionshost

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func parsePath(path string) (*url.URL, error) { return url.ParseRequestURI(path) }

func parseURL(t *testing.T, path string) *url.URL {
	t.Helper()
	u, err := parsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// sameJSON compares an envelope with JSON text, after putting "…" in the place
// of the random id.
func sameJSON(t *testing.T, e envelope, want string) {
	t.Helper()
	text, err := e.bytes()
	if err != nil {
		t.Fatal(err)
	}
	decode := func(text []byte) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return m
	}
	got := decode(text)
	sys := got["Metadata"].(map[string]any)["sys"].(map[string]any)
	if _, err := uuid.Parse(sys["RandGuid"].(string)); err != nil {
		t.Errorf("RandGuid: %v", err)
	}
	sys["RandGuid"] = "…"
	if diff := cmp.Diff(decode([]byte(want)), got); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
}

func queueFunction(dataType string) *function {
	return &function{
		Function: Function{Name: "ProcessOrder"}, binding: "msg", dataType: dataType,
		queue: &queueTrigger{namespace: "ns.servicebus.windows.net"},
	}
}

func ptr[T any](v T) *T { return &v }

func sampleMessage(body string) *azservicebus.ReceivedMessage {
	return &azservicebus.ReceivedMessage{
		Body: []byte(body), DeliveryCount: 1, SequenceNumber: ptr(int64(17)), MessageID: "m-1",
		LockToken:    uuid.MustParse("8f3c0000-0000-4000-8000-000000000001"),
		EnqueuedTime: ptr(time.Date(2026, 8, 20, 10, 0, 0, 999_000_000, time.UTC)),
		ExpiresAt:    ptr(time.Date(2026, 9, 3, 10, 0, 0, 0, time.UTC)),
		ContentType:  ptr("application/json"), Subject: ptr("s"), CorrelationID: ptr("c"), SessionID: ptr("s1"),
		ApplicationProperties: map[string]any{"tenant": "a", "n": int64(3)},
	}
}

var sampleNow = time.Date(2026, 8, 20, 10, 0, 0, 123_456_700, time.UTC)

// The shape below is the documented one of the host for a single message.
const sampleMetadata = `"DeliveryCount":"1","LockToken":"\"8f3c0000-0000-4000-8000-000000000001\"","SequenceNumber":"17",
	"EnqueuedTimeUtc":"2026-08-20T10:00:00","EnqueuedTime":"2026-08-20T10:00:00+00:00",
	"ExpiresAtUtc":"2026-09-03T10:00:00","ExpiresAt":"2026-09-03T10:00:00+00:00",
	"ContentType":"\"application/json\"","Subject":"\"s\"","Label":"\"s\"","CorrelationId":"\"c\"","SessionId":"\"s1\"",
	"ApplicationProperties":{"tenant":"a","n":3},"UserProperties":{"tenant":"a","n":3},
	"MessageReceiver":{},"MessageActions":{},"Client":{"FullyQualifiedNamespace":"ns.servicebus.windows.net"},
	"sys":{"MethodName":"ProcessOrder","UtcNow":"2026-08-20T10:00:00.1234567Z","RandGuid":"…"}`

func TestMessageEnvelope(t *testing.T) {
	t.Run("binary", func(t *testing.T) {
		e, err := messageEnvelope(queueFunction("binary"), sampleMessage(`{"orderId":42}`), time.Time{}, sampleNow)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, e, `{"Data":{"msg":"eyJvcmRlcklkIjo0Mn0="},"Metadata":{"MessageId":"\"m-1\"",`+sampleMetadata+`}}`)
	})
	t.Run("string", func(t *testing.T) {
		body := `{"messageId":"forged","orderId":42,"list":[1],"none":null,"ok":true,"at":"2024-04-06T15:30:00Z",
			"inner":{"a":"2024-04-06T15:30:00Z"},"fooTrigger":"x","amount":1.50}`
		e, err := messageEnvelope(queueFunction(""), sampleMessage(body), time.Time{}, sampleNow)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(string(encoded))
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, e, `{"Data":{"msg":`+string(twice)+`},"Metadata":{"MessageId":"\"forged\"","orderId":"\"42\"","ok":"\"True\"",
			"at":"\"04/06/2024 15:30:00\"","inner":{"a":"2024-04-06T15:30:00Z"},"amount":"\"1.50\"",`+sampleMetadata+`}}`)
	})
	t.Run("session", func(t *testing.T) {
		e, err := messageEnvelope(queueFunction("binary"), sampleMessage(""), sampleNow, sampleNow)
		if err != nil {
			t.Fatal(err)
		}
		actions := `{"SessionLockedUntil":"2026-08-20T10:00:00.1234567+00:00"}`
		want := strings.Replace(sampleMetadata, `"MessageReceiver":{},"MessageActions":{}`,
			`"MessageReceiver":`+actions+`,"MessageActions":`+actions+`,"MessageSession":`+actions+`,"SessionActions":`+actions, 1)
		sameJSON(t, e, `{"Data":{"msg":""},"Metadata":{"MessageId":"\"m-1\"",`+want+`}}`)
	})
	t.Run("not text", func(t *testing.T) {
		if _, err := messageEnvelope(queueFunction("string"), sampleMessage("\xff"), time.Time{}, sampleNow); !errors.Is(err, errNotText) {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("bare", func(t *testing.T) {
		f := queueFunction("binary")
		f.queue.namespace = ""
		e, err := messageEnvelope(f, &azservicebus.ReceivedMessage{}, time.Time{}, sampleNow)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, e, `{"Data":{"msg":""},"Metadata":{"DeliveryCount":"0","LockToken":"\"00000000-0000-0000-0000-000000000000\"",
			"SequenceNumber":"-1","MessageId":"\"\"","EnqueuedTimeUtc":"0001-01-01T00:00:00","EnqueuedTime":"0001-01-01T00:00:00+00:00",
			"ExpiresAtUtc":"9999-12-31T23:59:59","ExpiresAt":"9999-12-31T23:59:59+00:00","ApplicationProperties":{},"UserProperties":{},
			"MessageReceiver":{},"MessageActions":{},"Client":{},
			"sys":{"MethodName":"ProcessOrder","UtcNow":"2026-08-20T10:00:00.1234567Z","RandGuid":"…"}}}`)
	})
}

func TestTimerEnvelope(t *testing.T) {
	hourly, err := parseSchedule("0 55 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	f := &function{Function: Function{Name: "Sweep"}, binding: "timer", timer: &timerTrigger{schedule: hourly}}
	status := &scheduleStatus{
		Next:        time.Date(2026, 8, 7, 3, 55, 0, 0, time.UTC),
		LastUpdated: time.Date(2026, 8, 7, 3, 51, 56, 509_649_300, time.UTC),
	}
	e, err := timerEnvelope(f, status, false, sampleNow)
	if err != nil {
		t.Fatal(err)
	}
	sys := `"sys":{"MethodName":"Sweep","UtcNow":"2026-08-20T10:00:00.1234567Z","RandGuid":"…"}`
	sameJSON(t, e, `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},
		"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"2026-08-07T03:55:00+00:00","LastUpdated":"2026-08-07T03:51:56.5096493+00:00"},
		"IsPastDue":false}},"Metadata":{`+sys+`}}`)
	f.timer.schedule = interval(time.Second)
	if e, err = timerEnvelope(f, nil, true, sampleNow); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, e, `{"Data":{"timer":{"Schedule":{"AdjustForDST":false},"ScheduleStatus":null,"IsPastDue":true}},"Metadata":{`+sys+`}}`)
}

// TestRecordedMerge rebuilds a storage-queue invocation recorded from a real
// host: the merge of a string payload, and the date that lost its form.
func TestRecordedMerge(t *testing.T) {
	payload := `{"scraperId":"v2","timestamp":"2024-04-06T15:30:00Z"}`
	var d bindingData
	d.set("DequeueCount", 5)
	d.set("ExpirationTime", time.Date(2024, 5, 17, 16, 13, 45, 0, time.UTC))
	d.set("Id", "4434c659-0000")
	d.set("QueueTrigger", "dropped")
	d.set("PopReceipt", nil)
	d.addSystem("scraperResultTrigger", time.Date(2024, 5, 10, 16, 13, 47, 175_635_200, time.UTC))
	d.merge(payload)
	e, err := newEnvelope("msg", payload, &d)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, e, `{"Data":{"msg":"\"{\\\"scraperId\\\":\\\"v2\\\",\\\"timestamp\\\":\\\"2024-04-06T15:30:00Z\\\"}\""},
		"Metadata":{"DequeueCount":"5","ExpirationTime":"2024-05-17T16:13:45+00:00","Id":"\"4434c659-0000\"",
		"sys":{"MethodName":"scraperResultTrigger","UtcNow":"2024-05-10T16:13:47.1756352Z","RandGuid":"…"},
		"scraperId":"\"v2\"","timestamp":"\"04/06/2024 15:30:00\""}}`)
}

func TestEncodeValue(t *testing.T) {
	offset := time.FixedZone("", 2*60*60)
	for _, test := range []struct {
		value any
		want  string
	}{
		{"<&>", `"\"<&>\""`},
		{int64(-3), `"-3"`},
		{[]byte{0xff}, `"/w=="`},
		{dateTime(time.Date(2026, 8, 20, 12, 0, 0, 1, offset)), `"2026-08-20T10:00:00"`},
		{time.Date(2026, 8, 20, 12, 0, 0, 1, offset), `"2026-08-20T12:00:00+02:00"`},
		{object{"u": amqp.UUID{0xab}, "s": amqp.Symbol("x"), "t": time.Date(2026, 8, 20, 12, 0, 0, 0, offset), "b": []byte("a")},
			`{"b":"YQ==","s":"x","t":"2026-08-20T10:00:00Z","u":"ab000000-0000-0000-0000-000000000000"}`},
		{object{"nan": math.NaN(), "inf": math.Inf(-1), "f": 1.5, "nil": nil, "map": map[string]any{"x": float32(2)}},
			`{"f":1.5,"inf":"-Infinity","map":{"x":2},"nan":"NaN","nil":null}`},
	} {
		got, err := encodeValue(test.value)
		if err != nil || string(got) != test.want {
			t.Errorf("%v: %s, %v, want %s", test.value, got, err, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	const okay, fails, hangs = "succeeds", "fails", "hangs"
	for _, test := range []struct {
		status            int
		contentType, body string
		want              string
	}{
		{200, "application/json", `{}`, okay},
		{201, "application/json; charset=utf-8", `{"Outputs":{},"Logs":["a"],"ReturnValue":null}`, okay},
		{200, "application/json", `{"outputs":null,"unknown":1}`, okay},
		{200, "", `{}`, fails},
		{200, "text/plain", `{}`, fails},
		{200, "application/json", `[]`, fails},
		{200, "application/json", `{`, fails},
		{200, "application/json", `{"Outputs":[]}`, fails},
		{200, "application/json", ``, hangs},
		{200, "text/plain", ``, hangs},
		{204, "", ``, hangs},
		{200, "application/json", `null`, hangs},
		{302, "application/json", `{}`, fails},
		{400, "application/json", `{}`, fails},
		{500, "application/json", ``, fails},
	} {
		_, err := judge(test.status, http.Header{"Content-Type": {test.contentType}}, []byte(test.body))
		got := okay
		if errors.Is(err, errHangs) {
			got = hangs
		} else if err != nil {
			got = fails
		}
		if got != test.want {
			t.Errorf("%d %q %q: %s (%v), want %s", test.status, test.contentType, test.body, got, err, test.want)
		}
	}
}

// FuzzEnvelope checks that any text body gives valid JSON that decodes to the
// body again, and that no body can change the host's own Data.
func FuzzEnvelope(f *testing.F) {
	f.Add(`{"messageId":"x","MESSAGEID":1,"sys":{}}`)
	f.Add(`{"a":"2024-04-06T15:30:00+02:00","b":1e400,"c":"\ud800"}`)
	f.Add(" [1] ")
	f.Fuzz(func(t *testing.T, body string) {
		e, err := messageEnvelope(queueFunction("string"), sampleMessage(body), time.Time{}, sampleNow)
		if errors.Is(err, errNotText) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := e.bytes()
		if err != nil {
			t.Fatal(err)
		}
		var back struct {
			Data     map[string]string
			Metadata map[string]json.RawMessage
		}
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var inner string
		if err := json.Unmarshal([]byte(back.Data["msg"]), &inner); err != nil || inner != body || len(back.Data) != 1 {
			t.Fatalf("data %q, %v, of body %q", back.Data, err, body)
		}
	})
}
