package brokertest

import (
	"context"
	"log/slog"
	"sync"

	"github.com/portcullis-access/portcullis/pkg/broker"
)

// Meter keeps what it is told: the sum of a counter, the last value of a gauge,
// how many values a histogram got. Its zero value is ready.
type Meter struct {
	mu     sync.Mutex
	values map[string]float64
}

// Measure implements broker.Meter.
func (m *Meter) Measure(_ context.Context, metric broker.Metric, v float64, by string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string]float64{}
	}
	key := metric.Name + "/" + by
	switch metric.Kind {
	case broker.Counter:
		m.values[key] += v
	case broker.Histogram:
		m.values[key]++
	default:
		m.values[key] = v
	}
}

// Span implements broker.Meter; it keeps nothing.
func (m *Meter) Span(ctx context.Context, _ string, _ ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
	return ctx, func(error, ...slog.Attr) {}
}

// Value gives what is kept of a metric's series; 0 for nothing.
func (m *Meter) Value(metric broker.Metric, by string) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[metric.Name+"/"+by]
}
