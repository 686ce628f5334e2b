package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Telemetry says where metrics and traces go, by the variables that OpenTelemetry
// names.
type Telemetry struct {
	Endpoint string // "" exports nothing
	Headers  map[string]Secret
	Service  string
	Ratio    float64

	MetricsEvery, SpansEvery time.Duration
	Cumulative               bool
}

func (l *loader) telemetry() (t Telemetry) {
	t.Endpoint = l.text("OTEL_EXPORTER_OTLP_ENDPOINT")
	t.Headers = l.headers("OTEL_EXPORTER_OTLP_HEADERS")
	if t.Endpoint != "" {
		u, err := url.Parse(t.Endpoint)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "":
			l.fault("OTEL_EXPORTER_OTLP_ENDPOINT", "must be an https or http URL without a query")
		case u.Scheme == "http" && len(t.Headers) > 0 && !onThisMachine(u.Hostname()):
			l.fault("OTEL_EXPORTER_OTLP_ENDPOINT", "must be an https URL where headers are sent to another machine")
		}
	}
	if p := l.text("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "http/protobuf" {
		l.fault("OTEL_EXPORTER_OTLP_PROTOCOL", "must be http/protobuf or left out")
	}
	switch l.text("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") {
	case "delta":
	case "cumulative":
		t.Cumulative = true
	default:
		l.fault("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "must be delta or cumulative")
	}
	var err error
	if t.Ratio, err = strconv.ParseFloat(l.text("OTEL_TRACES_SAMPLER_ARG"), 64); err != nil || !(t.Ratio >= 0 && t.Ratio <= 1) {
		l.fault("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
	}
	t.Service = l.text("OTEL_SERVICE_NAME")
	t.MetricsEvery = time.Duration(l.number("OTEL_METRIC_EXPORT_INTERVAL", 100, 300_000)) * time.Millisecond
	t.SpansEvery = time.Duration(l.number("OTEL_BSP_SCHEDULE_DELAY", 10, 60_000)) * time.Millisecond
	return t
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// headers reads name=value pairs. What is wrong with one is said without it.
func (l *loader) headers(name string) map[string]Secret {
	out := map[string]Secret{}
	for _, pair := range l.list(name) {
		key, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || key == "" || err != nil {
			l.fault(name, "must be pairs name=value, separated by commas, with percent-encoded values")
			continue
		}
		out[key] = Secret(value)
	}
	return out
}
