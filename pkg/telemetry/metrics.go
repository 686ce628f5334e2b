package telemetry

import (
	"context"
	"fmt"
	"sync"

	"github.com/portcullis-access/portcullis/pkg/broker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// latencies are the bounds of the histograms, in seconds: a good open takes some
// ten, a grant is given up after 900.
var latencies = metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 900, 3600)

// instruments are those of the broker's metrics, by name.
type instruments struct {
	counters   map[string]metric.Int64Counter
	gauges     map[string]metric.Float64Gauge
	histograms map[string]metric.Float64Histogram
	lowest     map[string]*lowest
}

func newInstruments(from metric.Meter) (instruments, error) {
	out := instruments{map[string]metric.Int64Counter{}, map[string]metric.Float64Gauge{}, map[string]metric.Float64Histogram{}, map[string]*lowest{}}
	for _, m := range broker.Metrics() {
		unit, doc := metric.WithUnit(m.Unit), metric.WithDescription(m.Doc)
		var err error
		switch m.Kind {
		case broker.Counter:
			out.counters[m.Name], err = from.Int64Counter(m.Name, unit, doc)
		case broker.Gauge:
			out.gauges[m.Name], err = from.Float64Gauge(m.Name, unit, doc)
		case broker.Histogram:
			out.histograms[m.Name], err = from.Float64Histogram(m.Name, unit, doc, latencies)
		case broker.Lowest:
			low := &lowest{by: m.By, values: map[string]float64{}}
			out.lowest[m.Name] = low
			_, err = from.Float64ObservableGauge(m.Name, unit, doc, metric.WithFloat64Callback(low.observe))
		default:
			err = fmt.Errorf("telemetry: metric %s is of no known kind", m.Name)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Measure implements broker.Meter.
func (i instruments) Measure(ctx context.Context, m broker.Metric, v float64, by string) {
	var series metric.MeasurementOption = metric.WithAttributes()
	if m.By != "" {
		series = metric.WithAttributes(attribute.String(m.By, by))
	}
	switch m.Kind {
	case broker.Counter:
		i.counters[m.Name].Add(ctx, int64(v), series)
	case broker.Gauge:
		i.gauges[m.Name].Record(ctx, v, series)
	case broker.Histogram:
		i.histograms[m.Name].Record(ctx, v, series)
	case broker.Lowest:
		i.lowest[m.Name].note(by, v)
	}
}

// lowest keeps the lowest value of each series until it is exported.
type lowest struct {
	by string

	mu     sync.Mutex
	values map[string]float64
}

func (l *lowest) note(by string, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.values[by]; !ok || v < have {
		l.values[by] = v
	}
}

func (l *lowest) observe(_ context.Context, to metric.Float64Observer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for by, v := range l.values {
		to.Observe(v, metric.WithAttributes(attribute.String(l.by, by)))
	}
	clear(l.values)
	return nil
}
