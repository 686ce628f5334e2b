package telemetry

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exported are the attributes that leave the process, with ours. What the SDKs add
// to their spans is taken out: their URLs hold rows' keys, and their errors hold
// answers, with whatever a person wrote.
var exported = []attribute.Key{
	"faas.trigger", "faas.invocation_id",
	"messaging.system", "messaging.operation.type", "messaging.destination.name",
	"http.request.method", "http.route", "http.response.status_code",
	"http.method", "http.status_code", "net.peer.name", // azcore's names
	"az.namespace", "az.client_request_id", "az.service_request_id",
}

// scrubber exports spans without anything that is not known to be harmless.
type scrubber struct{ sdktrace.SpanExporter }

// ExportSpans implements sdktrace.SpanExporter.
func (s scrubber) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	out := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		out[i] = scrubbed{span}
	}
	return s.SpanExporter.ExportSpans(ctx, out)
}

// scrubbed is a span with the attributes that may be told alone: no events, and a
// status without its words.
type scrubbed struct{ sdktrace.ReadOnlySpan }

// Attributes implements sdktrace.ReadOnlySpan.
func (s scrubbed) Attributes() []attribute.KeyValue {
	return slices.DeleteFunc(slices.Clone(s.ReadOnlySpan.Attributes()), func(kv attribute.KeyValue) bool {
		return !strings.HasPrefix(string(kv.Key), "portcullis.") && !slices.Contains(exported, kv.Key)
	})
}

// Events implements sdktrace.ReadOnlySpan.
func (s scrubbed) Events() []sdktrace.Event { return nil }

// Status implements sdktrace.ReadOnlySpan.
func (s scrubbed) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}
