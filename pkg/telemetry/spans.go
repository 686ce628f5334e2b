package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The application properties that carry a trace. delayedProperty marks a message
// that was scheduled.
const (
	traceparentProperty  = "traceparent"
	diagnosticIDProperty = "Diagnostic-Id" // older SDKs' name for the same
	delayedProperty      = "portcullis-delayed"
)

// Span implements broker.Meter.
func (t *Telemetry) Span(ctx context.Context, name string, about ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(attributes(about)...))
	return ctx, func(err error, more ...slog.Attr) {
		span.SetAttributes(attributes(more)...)
		finish(span, err)
	}
}

// attributes puts ours under our prefix.
func attributes(from []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(from))
	for _, a := range from {
		key := attribute.Key("portcullis." + a.Key)
		switch a.Value.Kind() {
		case slog.KindInt64:
			out = append(out, key.Int64(a.Value.Int64()))
		case slog.KindBool:
			out = append(out, key.Bool(a.Value.Bool()))
		default:
			out = append(out, key.String(a.Value.String()))
		}
	}
	return out
}

// finish ends a span with its outcome: code and reason, and never a message. A
// refusal is no fault.
func finish(span trace.Span, err error) {
	if err != nil {
		code := access.CodeOf(err)
		span.SetAttributes(attribute.String("portcullis.code", string(code)), attribute.String("portcullis.reason", access.ReasonOf(err)))
		if code.Retryable() {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}

// remote reads a W3C traceparent, strictly; tracestate and baggage are not taken
// up at all.
func remote(traceparent string) trace.SpanContext {
	const length = 55 // of version 00
	if len(traceparent) != length {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceparentProperty: traceparent})
	return trace.SpanContextFromContext(ctx)
}

// links gives a link to each of the contexts that is one.
func links(to ...trace.SpanContext) trace.SpanStartOption {
	var out []trace.Link
	for _, c := range to {
		if c.IsValid() && !slices.ContainsFunc(out, func(l trace.Link) bool { return l.SpanContext.Equal(c) }) {
			out = append(out, trace.Link{SpanContext: c})
		}
	}
	return trace.WithLinks(out...)
}

// Trust says what a message's trace means.
type Trust int

// A message on a queue that is ours alone goes on with the sender's trace; one
// from anybody is only linked to it.
const (
	Anybody Trust = iota
	Ours
)

// Queue traces a function that a queue triggers.
//
// Who may send to a queue can write any traceparent. On a queue that takes other
// systems' messages it becomes a link, which says where the message claims to come
// from: it picks neither our trace's id nor whether it is kept. On ours the trace
// goes on, so that a request and what it set going are one; but not where the
// message was scheduled. What is done at a deadline, hours later and for all who
// ended then, is a trace of its own with a link to whoever scheduled it.
func (t *Telemetry) Queue(name, queue string, from Trust, f customhandler.Function) customhandler.Function {
	return func(ctx context.Context, in customhandler.Invocation) error {
		sent := remote(in.Property(traceparentProperty))
		if !sent.IsValid() {
			sent = remote(in.Property(diagnosticIDProperty))
		}
		options := []trace.SpanStartOption{
			trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(attribute.String("faas.trigger", "pubsub"), attribute.String("faas.invocation_id", in.ID), attribute.String("messaging.system", "servicebus"),
				attribute.String("messaging.operation.type", "process"), attribute.String("messaging.destination.name", queue), attribute.Int("portcullis.delivery", in.DeliveryCount())),
		}
		if from == Ours && sent.IsValid() && in.Property(delayedProperty) == "" {
			ctx = trace.ContextWithRemoteSpanContext(ctx, sent)
			options = append(options, links(remote(in.Traceparent)))
		} else {
			options = append(options, trace.WithNewRoot(), links(sent, remote(in.Traceparent)))
		}
		return t.run(ctx, in, name, f, options)
	}
}

// Timer traces a function that a timer triggers.
func (t *Telemetry) Timer(name string, f customhandler.Function) customhandler.Function {
	return func(ctx context.Context, in customhandler.Invocation) error {
		return t.run(ctx, in, name, f, []trace.SpanStartOption{
			trace.WithNewRoot(), links(remote(in.Traceparent)),
			trace.WithAttributes(attribute.String("faas.trigger", "timer"), attribute.String("faas.invocation_id", in.ID)),
		})
	}
}

func (t *Telemetry) run(ctx context.Context, in customhandler.Invocation, name string, f customhandler.Function, options []trace.SpanStartOption) error {
	ctx, span := t.tracer.Start(ctx, name, options...)
	defer span.End() // also after a panic; a second End does nothing
	err := f(ctx, in)
	finish(span, err)
	return err
}

// Send begins the sending of a message, and gives the properties by which its
// receiver goes on with the trace: none where there is no trace.
func (t *Telemetry) Send(ctx context.Context, to string, delayed bool) (_ context.Context, properties map[string]any, end func(error)) {
	ctx, span := t.tracer.Start(ctx, "send "+to, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "servicebus"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", to), attribute.Bool("portcullis.delayed", delayed)))
	if span.SpanContext().IsValid() {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		properties = map[string]any{traceparentProperty: carrier[traceparentProperty]}
		if delayed {
			properties[delayedProperty] = true
		}
	}
	return ctx, properties, func(err error) { finish(span, err) }
}

// Web traces the calls of the API and of webhooks. A caller's traceparent becomes
// a link, as a message's does.
func (t *Telemetry) Web(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/webhooks/") {
			next.ServeHTTP(w, r) // the page, and the host's ping
			return
		}
		method := r.Method
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, method) {
			method = "_OTHER"
		}
		ctx, span := t.tracer.Start(r.Context(), method, trace.WithNewRoot(), links(remote(r.Header.Get("Traceparent"))), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("faas.trigger", "http"), attribute.String("http.request.method", method)))
		defer span.End()
		r = r.WithContext(ctx)
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		// The route, as it is registered: the path holds names.
		_, route, ok := strings.Cut(r.Pattern, " ")
		if strings.HasPrefix(r.URL.Path, "/webhooks/") {
			route, ok = "/webhooks/{source}", true
		}
		if ok {
			span.SetName(method + " " + route)
			span.SetAttributes(attribute.String("http.route", route))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", answer.status))
		if answer.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	})
}

// answer notes the status.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController through.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
