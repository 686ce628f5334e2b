package functionshost

import (
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
)

// Where the facts about the encoding are from.
const (
	values  = "S azure-functions-host src/WebJobs.Script/Workers/MessageExtensions/ScriptInvocationContextExtensions.cs"
	binding = "S azure-sdk-for-net Microsoft.Azure.WebJobs.Extensions.ServiceBus/src/Triggers/ServiceBusTriggerBindingStrategy.cs"
	merged  = "S azure-functions-host src/WebJobs.Script/Utility.cs, ApplyBindingData"
)

// payload is the body that all the messages here have.
const payload = `{"messageId":"forged","n":42,"ok":true,"none":null,"list":[1],"inner":{"a":1},"at":"2024-04-06T15:30:00Z","fooTrigger":"x"}`

// TestEncoding sends a message to three functions, whose calls the facts are
// about.
func TestEncoding(t *testing.T) {
	b := startBus(t, queue("plain", 0, 5, false), queue("text", 0, 5, false), queue("sessions", 0, 5, true))
	h := setup{bus: b, functions: map[string]string{
		"Plain":    busFunction(`"queueName":"plain","dataType":"binary"`),
		"Text":     busFunction(`"queueName":"text"`),
		"Sessions": busFunction(`"queueName":"sessions","dataType":"binary","isSessionsEnabled":true`),
		"News":     busFunction(`"topicName":"news","subscriptionName":"mine","dataType":"binary"`),
	}}.run(t)
	m := func() *azservicebus.Message {
		subject, kind, correlation := "s", "application/json", "c"
		m := message("m-1", "")
		m.Body, m.Subject, m.ContentType, m.CorrelationID = []byte(payload), &subject, &kind, &correlation
		m.ApplicationProperties = map[string]any{"tenant": "a", "n": int64(3), "ok": true, "f": 1.5, "at": time.Date(2026, 8, 20, 10, 0, 0, 0, time.UTC)}
		return m
	}
	inSession := m()
	session := "s1"
	inSession.SessionID = &session
	b.send(t, "plain", m())
	b.send(t, "text", m())
	b.send(t, "news", m())
	b.send(t, "sessions", inSession)
	call := map[string]invocation{}
	for _, function := range []string{"Plain", "Text", "Sessions", "News"} {
		eventually(t, function+" is called", func() bool { return len(h.calls(t, function)) == 1 })
		call[function] = h.calls(t, function)[0]
	}
	// is a fact that one value of the metadata has this JSON.
	is := func(name, source, function, key, want string) fact {
		return fact{name, source, func(t *testing.T) {
			if got := string(call[function].Metadata[key]); !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("%s is %s, want %s", key, got, want)
			}
		}}
	}
	const context = values + ", GetHttpScriptInvocationContextValue"
	hold(t, []fact{
		{"the request", service + ", ProcessDefaultInvocationRequest, AddHeaders; I: chunked", func(t *testing.T) { requestLine(t, call["Plain"]) }},
		{"byte[] is base64", context + "; D dataType binary", func(t *testing.T) {
			if got := string(call["Plain"].Data["msg"]); got != `"`+base64.StdEncoding.EncodeToString([]byte(payload))+`"` || len(call["Plain"].Data) != 1 {
				t.Error(got)
			}
		}},
		{"a string trigger value is JSON in JSON", context, func(t *testing.T) {
			var i invocation
			i.Metadata = call["Text"].Data
			if i.text("msg") != payload {
				t.Errorf("%s", call["Text"].Data)
			}
		}},
		is("string", context, "Plain", "MessageId", `"\\"m-1\\""`),
		is("int", context, "Plain", "DeliveryCount", `"1"`),
		is("long", context, "Plain", "SequenceNumber", `"\d+"`),
		is("object", context, "Plain", "ApplicationProperties", `\{"at":"2026-08-20T10:00:00Z","f":1.5,"n":3,"ok":true,"tenant":"a"\}`),
		is("DateTime has whole seconds and no zone", context, "Plain", "EnqueuedTimeUtc", `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"`),
		is("DateTimeOffset has whole seconds", context, "Plain", "EnqueuedTime", `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"`),
		is("a message without an expiry ends with .NET's time", binding+", GetBindingData", "Plain", "ExpiresAt", `"9999-12-31T23:59:59\+00:00"`),
		is("a lock token", binding+", GetBindingData", "Plain", "LockToken", `"\\"[0-9a-f-]{36}\\""`),
		is("the client", binding+", GetBindingData", "Plain", "Client", `\{"FullyQualifiedNamespace":"`+regexp.QuoteMeta(b.address)+`"\}`),
		is("the host's own", "S azure-webjobs-sdk src/Microsoft.Azure.WebJobs.Host/Bindings/SystemBindingData.cs", "Plain", "sys",
			`\{"MethodName":"Plain","RandGuid":"[0-9a-f-]{36}","UtcNow":"[0-9T:.-]+Z"\}`),
		is("a session id", binding+", GetBindingData", "Sessions", "SessionId", `"\\"s1\\""`),
		is("when a session's lock ends", binding+", GetBindingData", "Sessions", "SessionActions", `\{"SessionLockedUntil":"[0-9T:.-]+\+00:00"\}`),
		{"the keys of a message; null is absent", binding + ", GetBindingData; " + values + ", ToHttpScriptInvocationContext", func(t *testing.T) {
			want := []string{"ApplicationProperties", "Client", "ContentType", "CorrelationId", "DeliveryCount", "EnqueuedTime", "EnqueuedTimeUtc", "ExpiresAt",
				"ExpiresAtUtc", "Label", "LockToken", "MessageActions", "MessageId", "MessageReceiver", "SequenceNumber", "Subject", "UserProperties", "sys"}
			if got := slices.Sorted(maps.Keys(call["Plain"].Metadata)); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		}},
		is("a payload's property replaces the broker's, in any case", merged, "Text", "MessageId", `"\\"forged\\""`),
		is("a payload's number becomes text", merged, "Text", "n", `"\\"42\\""`),
		is("a payload's boolean loses its case", merged, "Text", "ok", `"\\"True\\""`),
		is("a payload's date loses its form", merged+"; R a storage-queue call to a Go custom handler", "Text", "at", `"\\"04/06/2024 15:30:00\\""`),
		is("a payload's object stays one", merged, "Text", "inner", `\{"a":1\}`),
		{"a payload's arrays, nulls and keys ending in trigger are dropped", merged + "; " + values + ", ToHttpScriptInvocationContext", func(t *testing.T) {
			for _, key := range []string{"list", "none", "fooTrigger"} {
				if got, ok := call["Text"].Metadata[key]; ok {
					t.Errorf("%s is %s", key, got)
				}
			}
		}},
		{"binary data is not merged", merged + " takes strings alone", func(t *testing.T) {
			if got, ok := call["Plain"].Metadata["n"]; ok || call["Plain"].id() != "m-1" {
				t.Errorf("n is %s, id %s", got, call["Plain"].id())
			}
		}},
		{"a subscription's message is like a queue's", "S azure-sdk-for-net Microsoft.Azure.WebJobs.Extensions.ServiceBus/src/Listeners/ServiceBusListener.cs", func(t *testing.T) {
			if string(call["News"].Data["msg"]) != string(call["Plain"].Data["msg"]) || call["News"].id() != "m-1" {
				t.Errorf("%s", call["News"].Body)
			}
		}},
	})
}

func requestLine(t *testing.T, call invocation) {
	if call.Method != "POST" || call.Path != "/Plain" || !call.Chunked {
		t.Errorf("%s %s, chunked %v", call.Method, call.Path, call.Chunked)
	}
	version := call.Header.Get("X-Azure-Functions-HostVersion")
	if _, err := uuid.Parse(call.Header.Get("X-Azure-Functions-InvocationId")); err != nil || version == "" ||
		call.Header.Get("User-Agent") != "Azure-Functions-Host/"+version || call.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%v", call.Header)
	}
}
