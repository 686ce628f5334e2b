package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const foreign = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// message is a delivery with application properties.
func message(t *testing.T, properties map[string]any) customhandler.Invocation {
	t.Helper()
	doc, err := json.Marshal(map[string]any{"Data": map[string]string{"msg": ""}, "Metadata": map[string]any{"ApplicationProperties": properties}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := customhandler.Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// exported gives what was exported, by name, and forgets it.
func (w *world) exported() map[string]tracetest.SpanStub {
	w.t.Helper()
	if err := w.seen.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	out := map[string]tracetest.SpanStub{}
	for _, s := range w.spans.GetSpans() {
		out[s.Name] = s
	}
	w.spans.Reset()
	return out
}

func value(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

// sent gives the properties that a message gets which is sent within the function.
func (w *world) sent(delayed bool) map[string]any {
	var properties map[string]any
	f := w.seen.Queue("RequestAccess", "access-requests", telemetry.Anybody, func(ctx context.Context, _ customhandler.Invocation) error {
		_, p, end := w.seen.Send(ctx, "nsg-reconcile", delayed)
		end(nil)
		properties = p
		return nil
	})
	if err := f(w.t.Context(), message(w.t, nil)); err != nil {
		w.t.Fatal(err)
	}
	return properties
}

func nothing(context.Context, customhandler.Invocation) error { return nil }

func TestAPromptGoesOnWithTheTraceAndADelayedOneIsLinked(t *testing.T) {
	w := newWorld(t)
	for _, delayed := range []bool{false, true} {
		properties := w.sent(delayed)
		if err := w.seen.Queue("ReconcileNsg", "nsg-reconcile", telemetry.Ours, nothing)(t.Context(), message(t, properties)); err != nil {
			t.Fatal(err)
		}
		got := w.exported()
		send, reconcile := got["send nsg-reconcile"], got["ReconcileNsg"]
		if send.Parent.SpanID() != got["RequestAccess"].SpanContext.SpanID() || send.SpanKind != trace.SpanKindProducer || reconcile.SpanKind != trace.SpanKindConsumer {
			t.Fatalf("%+v", got)
		}
		same := reconcile.SpanContext.TraceID() == send.SpanContext.TraceID()
		switch {
		case !delayed && (!same || reconcile.Parent.SpanID() != send.SpanContext.SpanID()):
			t.Errorf("a prompt: %+v after %+v", reconcile, send)
		case delayed && (same || len(reconcile.Links) != 1 || reconcile.Links[0].SpanContext.SpanID() != send.SpanContext.SpanID()):
			t.Errorf("a delayed close: %+v after %+v", reconcile, send)
		}
	}
}

func TestATraceFromOutsideIsALinkAndDecidesNothing(t *testing.T) {
	w := newWorld(t)
	for name, properties := range map[string]map[string]any{
		"traceparent":   {"traceparent": foreign},
		"Diagnostic-Id": {"Diagnostic-Id": foreign},
		"both":          {"traceparent": foreign, "Diagnostic-Id": strings.Replace(foreign, "4bf9", "aaaa", 1)},
	} {
		if err := w.seen.Queue("RequestAccess", "access-requests", telemetry.Anybody, nothing)(t.Context(), message(t, properties)); err != nil {
			t.Fatal(err)
		}
		s := w.exported()["RequestAccess"]
		if s.Parent.IsValid() || len(s.Links) != 1 || s.Links[0].SpanContext.TraceID().String() != foreign[3:35] || s.SpanContext.TraceID().String() == foreign[3:35] {
			t.Errorf("%s: %+v", name, s)
		}
	}
	r := httptest.NewRequest("GET", "/api/me", nil)
	r.Header.Set("Traceparent", foreign)
	w.seen.Web(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	if s := w.exported()["GET"]; s.Parent.IsValid() || len(s.Links) != 1 || value(s, "http.response.status_code") != "404" {
		t.Errorf("a call: %+v", s)
	}
}

func TestWhatIsNoTraceparentIsNotTakenUp(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{
		"", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff" + foreign[2:], foreign + "-more", strings.ToUpper(foreign), strings.Repeat("0", 55),
		"|4bf92f3577b34da6.1.", strings.Repeat("a", 100_000), foreign[:54] + "\n",
	} {
		for _, from := range []telemetry.Trust{telemetry.Anybody, telemetry.Ours} {
			if err := w.seen.Queue("Q", "q", from, nothing)(t.Context(), message(t, map[string]any{"traceparent": bad, "Diagnostic-Id": bad})); err != nil {
				t.Fatal(err)
			}
			if s := w.exported()["Q"]; s.Parent.IsValid() || len(s.Links) != 0 {
				t.Errorf("%.60q: %+v", bad, s)
			}
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(foreign, "true")
	f.Add("00-0-0-0", "")
	spans := tracetest.NewInMemoryExporter()
	seen, err := telemetry.Over(telemetry.Settings{Ratio: 1, SpansEvery: time.Hour}, spans, metric.NewManualReader())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, traceparent, delayed string) {
		if err := seen.Queue("Q", "q", telemetry.Ours, nothing)(t.Context(), message(t, map[string]any{"traceparent": traceparent, "portcullis-delayed": delayed})); err != nil {
			t.Error(err)
		}
	})
}

// TestAForgedFlagKeepsNothing: whoever may prompt cannot have all of it kept.
func TestAForgedFlagKeepsNothing(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	seen, err := telemetry.Over(telemetry.Settings{Ratio: 0, SpansEvery: time.Hour}, spans, metric.NewManualReader())
	if err != nil {
		t.Fatal(err)
	}
	var properties map[string]any
	f := seen.Queue("ReconcileNsg", "nsg-reconcile", telemetry.Ours, func(ctx context.Context, _ customhandler.Invocation) error {
		_, p, end := seen.Send(ctx, "nsg-reconcile", false)
		end(nil)
		properties = p
		return nil
	})
	if err := f(t.Context(), message(t, map[string]any{"traceparent": foreign})); err != nil {
		t.Fatal(err)
	}
	if err := seen.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Its id goes on, and says that it is not kept.
	if got := spans.GetSpans(); len(got) != 0 || !strings.HasPrefix(fmt.Sprint(properties["traceparent"]), foreign[:36]) || !strings.HasSuffix(fmt.Sprint(properties["traceparent"]), "-00") {
		t.Errorf("%d spans, sent %v", len(got), properties)
	}
}

func TestAnOutcomeIsACodeAndAReason(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		err    error
		reason string
		status codes.Code
	}{
		{nil, "", codes.Unset},
		{access.Errorf(access.PermissionDenied, "not_permitted", "%s may not", person), "not_permitted", codes.Unset},
		{access.Wrap(errors.New("POST https://store/x?sig=hush"), access.Unavailable, "store_unavailable", "no"), "store_unavailable", codes.Error},
		{errors.New("as " + person), "internal", codes.Error},
	} {
		err := w.seen.Timer("Sweep", func(context.Context, customhandler.Invocation) error { return c.err })(t.Context(), message(t, nil))
		if !errors.Is(err, c.err) {
			t.Fatal(err)
		}
		s := w.exported()["Sweep"]
		if value(s, "portcullis.reason") != c.reason || s.Status.Code != c.status || s.Status.Description != "" {
			t.Errorf("%v: %+v", c.err, s)
		}
	}
}

func TestASpanIsExportedAfterAPanic(t *testing.T) {
	w := newWorld(t)
	func() {
		defer func() { _ = recover() }()
		_ = w.seen.Timer("Sweep", func(context.Context, customhandler.Invocation) error { panic("boom") })(t.Context(), message(t, nil))
	}()
	if _, ok := w.exported()["Sweep"]; !ok {
		t.Error("it is gone")
	}
}

func TestACallIsNamedByItsRoute(t *testing.T) {
	w := newWorld(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/grants/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	web := w.seen.Web(mux)
	for _, target := range []string{"/api/grants/" + person, "/", "/portal/app.js"} {
		web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
	}
	got := w.exported()
	s, ok := got["GET /api/grants/{id}"]
	if len(got) != 1 || !ok || value(s, "http.response.status_code") != "503" || s.Status.Code != codes.Error || strings.Contains(fmt.Sprint(got), person) {
		t.Errorf("%+v", got)
	}
	web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/webhooks/"+person, nil))
	if got := w.exported(); len(got) != 1 || got["POST /webhooks/{source}"].Name == "" {
		t.Errorf("a webhook: %+v", got)
	}
	web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(strings.Repeat("X", 5000), "/api/x", nil))
	if got := w.exported(); len(got) != 1 || got["_OTHER"].Name == "" {
		t.Errorf("another method: %+v", got)
	}
}

// TestWhatAnSDKSaysIsScrubbed: its spans hold URLs, errors and events.
func TestWhatAnSDKSaysIsScrubbed(t *testing.T) {
	w := newWorld(t)
	_, span := w.seen.Traces().Tracer("sdk").Start(t.Context(), "Client.GetEntity", trace.WithAttributes(
		attribute.String("http.url", "https://store/index(PartitionKey='"+person+"')"), attribute.String("http.method", "GET"), attribute.String("az.namespace", strings.Repeat("x", 5000))))
	span.AddEvent("exception", trace.WithAttributes(attribute.String("message", why)))
	span.SetStatus(codes.Error, "the entity of "+person)
	span.End()
	s := w.exported()["Client.GetEntity"]
	if value(s, "http.method") != "GET" || len(s.Attributes) != 2 || len(s.Events) != 0 || s.Status.Code != codes.Error || s.Status.Description != "" || len(value(s, "az.namespace")) > 300 {
		t.Errorf("%+v", s)
	}
}

func TestNothingPersonalIsExportedOfAUseCase(t *testing.T) {
	w := newWorld(t)
	w.open("1")
	if _, err := w.submit(t.Context(), "2", "198.51.100.9"); err == nil {
		t.Fatal("it was not refused")
	}
	_ = w.seen.Flush(t.Context())
	all, err := json.Marshal(w.spans.GetSpans())
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{person, why, source, "198.51.100.9"} {
		if strings.Contains(string(all), hidden) {
			t.Errorf("%q is exported", hidden)
		}
	}
	got := w.exported()
	if value(got["Reconcile"], "portcullis.nsg") != "on-subnet" || value(got["Reconcile"], "portcullis.rounds") != "1" || value(got["Submit"], "portcullis.reason") != "source_outside_policy" {
		t.Errorf("%+v", got)
	}
}

func TestALineWithinATraceNamesIt(t *testing.T) {
	w := newWorld(t)
	w.azure.ReadOnly = true
	var id string
	f := w.seen.Queue("ReconcileNsg", "nsg-reconcile", telemetry.Ours, func(ctx context.Context, _ customhandler.Invocation) error {
		id = trace.SpanContextFromContext(ctx).TraceID().String()
		return w.reconciler.Reconcile(ctx, onWeb, time.Time{})
	})
	if _, err := w.submit(t.Context(), "1", source); err != nil {
		t.Fatal(err)
	}
	if err := f(t.Context(), message(t, nil)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.log.String(), `"traceId":"`+id+`"`) {
		t.Errorf("%s", w.log.String())
	}
}
