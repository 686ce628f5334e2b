package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
)

func TestWithoutAnEndpointNothingIsExportedAndNothingIsSaid(t *testing.T) {
	seen, err := telemetry.New(t.Context(), telemetry.Settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range broker.Metrics() {
		seen.Measure(t.Context(), m, 1, "x")
	}
	ctx, end := seen.Span(t.Context(), "Submit")
	_, properties, sent := seen.Send(ctx, "nsg-reconcile", true)
	sent(nil)
	end(nil)
	if len(properties) != 0 {
		t.Errorf("a message carries %v", properties)
	}
	if err := seen.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := telemetry.New(t.Context(), telemetry.Settings{}, nil); err == nil {
		t.Error("it was made without a logger")
	}
}

// TestAReceiverThatIsDownHoldsNothingUp: what fails is told once, in the log.
func TestAReceiverThatIsDownHoldsNothingUp(t *testing.T) {
	var mu sync.Mutex
	var calls int
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if r.Header.Get("Api-Key") != "hush" {
			t.Errorf("%s came without its header", r.URL.Path)
		}
		w.WriteHeader(http.StatusBadRequest) // not to be tried again
	}))
	defer down.Close()
	var log bytes.Buffer
	seen, err := telemetry.New(t.Context(), telemetry.Settings{
		Endpoint: down.URL + "/", Headers: map[string]string{"api-key": "hush"}, Service: "s", Ratio: 1, MetricsEvery: time.Hour, SpansEvery: time.Hour,
	}, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, end := seen.Span(t.Context(), "Submit")
		end(nil)
		seen.Measure(t.Context(), broker.MetricRounds, 1, "")
		_ = seen.Flush(context.Background()) // each fails
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "telemetry is not exported"); calls < 6 || n > 1 || strings.Contains(log.String(), "hush") {
		t.Errorf("%d calls, %d lines: %s", calls, n, log.String())
	}
}

// TestTheDocumentListsEveryMetric holds docs/observability.md against the code.
func TestTheDocumentListsEveryMetric(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Metric | Kind | Unit | By | What it says, and promises |\n|---|---|---|---|---|\n")
	for _, m := range broker.Metrics() {
		by := ""
		if m.By != "" {
			by = "`" + m.By + "`"
		}
		b.WriteString("| `" + m.Name + "` | " + string(m.Kind) + " | `" + m.Unit + "` | " + by + " | " + m.Doc + " |\n")
	}
	const file = "../../docs/observability.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), "<!-- metrics: begin -->\n")
	have, after, ok2 := strings.Cut(rest, "<!-- metrics: end -->\n")
	if !ok || !ok2 {
		t.Fatal("the table has no place")
	}
	if have == b.String() {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is not what the metrics say: run the test with UPDATE_DOCS=1", file)
	}
	if err := os.WriteFile(file, []byte(before+"<!-- metrics: begin -->\n"+b.String()+"<!-- metrics: end -->\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
