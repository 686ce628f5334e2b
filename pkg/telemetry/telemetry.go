// Package telemetry makes metrics and traces of what the use cases tell, by
// OpenTelemetry, and exports them as OTLP over HTTP.
//
// The host ends the handler by killing it, so nothing can be flushed then: what is
// lost is what the last export intervals held. The intervals are short therefore.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	notraces "go.opentelemetry.io/otel/trace/noop"
)

// scope names what the metrics and spans of ours come from.
const scope = "github.com/portcullis-access/portcullis"

const (
	exportTimeout = 5 * time.Second
	retryFor      = 20 * time.Second
	// maxValue bounds the text of an attribute, in characters; maxAttributes and
	// maxLinks what a span holds of them, maxWaiting the spans that wait for an export.
	maxValue      = 256
	maxAttributes = 32
	maxLinks      = 4
	maxWaiting    = 2048
	// sayAgainAfter is how often the log is told that nothing can be exported.
	sayAgainAfter = 5 * time.Minute
)

// Settings say where to export to, and how much.
type Settings struct {
	// Endpoint is the receiver's base URL; v1/traces and v1/metrics are added to
	// it. "" exports nothing, and costs next to nothing.
	Endpoint string
	// Headers go with every export; they may hold a secret.
	Headers map[string]string
	// Service is the name under which everything is exported.
	Service string
	// Ratio is the part of the traces that is kept, 0 to 1.
	Ratio float64
	// MetricsEvery and SpansEvery are the export intervals.
	MetricsEvery, SpansEvery time.Duration
	// Cumulative exports sums since the start instead of since the last export.
	Cumulative bool
}

// Telemetry implements the broker's Meter, and follows a trace over queues and
// calls. It is safe for concurrent use.
type Telemetry struct {
	instruments
	traces trace.TracerProvider
	tracer trace.Tracer
	flush  func(context.Context) error
}

// New makes a Telemetry that exports to the settings' endpoint, or nothing without
// one. Nothing is asked of the network yet. log is told when exports fail.
func New(ctx context.Context, s Settings, log *slog.Logger) (*Telemetry, error) {
	if log == nil {
		return nil, errors.New("telemetry: a logger is required")
	}
	if s.Endpoint == "" {
		made, err := newInstruments(nometrics.NewMeterProvider().Meter(scope))
		traces := notraces.NewTracerProvider()
		return &Telemetry{made, traces, traces.Tracer(scope), func(context.Context) error { return nil }}, err
	}
	at := strings.TrimSuffix(s.Endpoint, "/")
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(at+"/v1/traces"), otlptracehttp.WithHeaders(s.Headers), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: exportTimeout, MaxElapsedTime: retryFor}))
	if err != nil {
		return nil, err
	}
	metrics, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(at+"/v1/metrics"), otlpmetrichttp.WithHeaders(s.Headers), otlpmetrichttp.WithTimeout(exportTimeout),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: exportTimeout, MaxElapsedTime: retryFor}),
		otlpmetrichttp.WithTemporalitySelector(s.Temporality))
	if err != nil {
		return nil, err
	}
	// The SDK has no other way to tell of an export that failed, and its own would
	// write to stderr, each time.
	otel.SetErrorHandler(&complaints{log: log})
	return Over(s, spans, metric.NewPeriodicReader(metrics, metric.WithInterval(s.MetricsEvery), metric.WithTimeout(exportTimeout)))
}

// Temporality is the readers' choice of sums. A gauge is told once and not again:
// Sweep runs on one instance now and on another later, and what the first saw last
// must not stand beside what the second sees.
func (s Settings) Temporality(kind metric.InstrumentKind) metricdata.Temporality {
	if s.Cumulative && kind != metric.InstrumentKindGauge {
		return metricdata.CumulativeTemporality
	}
	return metric.DeltaTemporalitySelector(kind)
}

// Over is New with another exporter of spans and reader of metrics.
func Over(s Settings, spans sdktrace.SpanExporter, reader metric.Reader) (*Telemetry, error) {
	about := resource.NewSchemaless(attribute.String("service.name", s.Service), attribute.String("service.instance.id", uuid.NewString()))
	metrics := metric.NewMeterProvider(metric.WithResource(about), metric.WithReader(reader))
	made, err := newInstruments(metrics.Meter(scope))
	if err != nil {
		return nil, err
	}
	// A parent from another process is not believed when it says that it is kept or
	// not: the ratio goes by the trace's id, so that all parts of a trace come to the
	// same end by themselves, and nobody outside can have everything kept, or hide.
	ratio := sdktrace.TraceIDRatioBased(s.Ratio)
	limits := sdktrace.SpanLimits{AttributeValueLengthLimit: maxValue, AttributeCountLimit: maxAttributes, LinkCountLimit: maxLinks}
	traces := sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithSampler(sdktrace.ParentBased(ratio, sdktrace.WithRemoteParentSampled(ratio), sdktrace.WithRemoteParentNotSampled(ratio))),
		sdktrace.WithBatcher(scrubber{spans}, sdktrace.WithBatchTimeout(s.SpansEvery), sdktrace.WithExportTimeout(exportTimeout),
			sdktrace.WithMaxQueueSize(maxWaiting), sdktrace.WithMaxExportBatchSize(maxWaiting/4)),
	)
	return &Telemetry{made, traces, traces.Tracer(scope), func(ctx context.Context) error {
		return errors.Join(traces.ForceFlush(ctx), metrics.ForceFlush(ctx))
	}}, nil
}

// Flush exports what is waiting.
func (t *Telemetry) Flush(ctx context.Context) error { return t.flush(ctx) }

// Traces gives the provider for the spans of SDKs.
func (t *Telemetry) Traces() trace.TracerProvider { return t.traces }

// complaints tells the log that exports fail, now and then.
type complaints struct {
	log *slog.Logger

	mu     sync.Mutex
	told   time.Time
	untold int
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.untold++
	if now := time.Now(); now.Sub(c.told) >= sayAgainAfter {
		c.log.Warn("telemetry is not exported", "error", err, "times", c.untold)
		c.told, c.untold = now, 0
	}
}
