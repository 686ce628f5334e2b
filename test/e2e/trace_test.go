package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	metricsv1 "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// collector takes OTLP over HTTP, and keeps it.
type collector struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*trace.Span
	metrics map[string]bool
	all     bytes.Buffer // everything that came, as text
	faults  []string
}

func newCollector(t *testing.T) *collector {
	c := &collector{metrics: map[string]bool{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// ServeHTTP implements http.Handler.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	var message proto.Message
	switch r.URL.Path {
	case "/v1/traces":
		m := &tracev1.ExportTraceServiceRequest{}
		if err = errorsOf(err, proto.Unmarshal(body, m)); err == nil {
			for _, rs := range m.ResourceSpans {
				for _, ss := range rs.ScopeSpans {
					c.spans = append(c.spans, ss.Spans...)
				}
			}
		}
		message = m
	case "/v1/metrics":
		m := &metricsv1.ExportMetricsServiceRequest{}
		if err = errorsOf(err, proto.Unmarshal(body, m)); err == nil {
			for _, rm := range m.ResourceMetrics {
				for _, sm := range rm.ScopeMetrics {
					for _, x := range sm.Metrics {
						c.metrics[x.Name] = true
					}
				}
			}
		}
		message = m
	default:
		err = fmt.Errorf("%s %s", r.Method, r.URL.Path)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Api-Key") != "collector key" {
		c.faults = append(c.faults, fmt.Sprintf("%v, headers %v", err, r.Header))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.all.WriteString(protojson.Format(message))
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func errorsOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// find gives the spans of a name that have all that is asked of them.
func (c *collector) find(name string, want ...func(*trace.Span) bool) (out []*trace.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name && !slices.ContainsFunc(want, func(ok func(*trace.Span) bool) bool { return !ok(s) }) {
			out = append(out, s)
		}
	}
	return out
}

// one waits for the one span of a name that has what is asked of it.
func (c *collector) one(t *testing.T, name string, want ...func(*trace.Span) bool) *trace.Span {
	t.Helper()
	var got []*trace.Span
	eventually(t, func() string {
		if got = c.find(name, want...); len(got) == 0 {
			return "no span " + name
		}
		return ""
	})
	return got[0]
}

func attribute(s *trace.Span, key string) string {
	i := slices.IndexFunc(s.Attributes, func(kv *common.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return ""
	}
	switch v := s.Attributes[i].Value.Value.(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	}
	return ""
}

func with(key, value string) func(*trace.Span) bool {
	return func(s *trace.Span) bool { return attribute(s, key) == value }
}
func in(of *trace.Span) func(*trace.Span) bool {
	return func(s *trace.Span) bool { return bytes.Equal(s.TraceId, of.TraceId) }
}
func under(parent *trace.Span) func(*trace.Span) bool {
	return func(s *trace.Span) bool { return in(parent)(s) && bytes.Equal(s.ParentSpanId, parent.SpanId) }
}
func linkedTo(trace_, span []byte) func(*trace.Span) bool {
	return func(s *trace.Span) bool {
		return slices.ContainsFunc(s.Links, func(l *trace.Span_Link) bool {
			return bytes.Equal(l.TraceId, trace_) && (span == nil || bytes.Equal(l.SpanId, span))
		})
	}
}

// traced is a stack beside the other, under the same CA, whose grants may be seconds long and whose handler
// exports to a collector.
func traced(t *testing.T) (*localazure.Stack, *collector, *bytes.Buffer) {
	t.Helper()
	c := newCollector(t)
	read := func(file string) []byte {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	log := &bytes.Buffer{}
	stack, err := localazure.Start(t.Context(), localazure.Config{
		Dir: filepath.Join(w.dir, "local"), AppRoot: filepath.Join(w.dir, "app"), Topology: read("docs/examples/topology.json"), Entities: read("infra/entities.json"),
		OperationLatency: 50 * time.Millisecond, Stdout: log, Logger: slog.New(slog.DiscardHandler),
		Settings: map[string]string{
			"PORTCULLIS_SHORTEST_DURATION": "PT1S", "OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=collector%20key",
			"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_BSP_SCHEDULE_DELAY": "50",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the handler and its host said:\n%s", log)
		}
	})
	if _, out, err := w.tool(t.Context(), "portcullis", stack.Env(), "policy", "apply", "--tables", "-f", filepath.Join(root, "docs/examples/policy.json")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return stack, c, log
}

const traceRequest = `{"id":%q,"requestor":"alice@contoso.com","justification":"look at the payroll","virtualMachines":[{"id":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1",
 "ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.77","duration":"PT2S"}]}]}`

const foreignTrace, foreignSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

// TestATraceFollowsARequestToItsDelayedClose reads what the real handler exports:
// from the request's message, or the call, over the prompt to the NSG, and from the
// delayed close by its link back to where it was scheduled.
func TestATraceFollowsARequestToItsDelayedClose(t *testing.T) {
	stack, c, log := traced(t)
	env := stack.Env()
	bus, err := azservicebus.NewClientFromConnectionString(env["SERVICEBUS_CONNECTION_STRING"], nil)
	if err != nil {
		t.Fatal(err)
	}
	posts, err := bus.NewSender("access-requests", nil)
	if err != nil {
		t.Fatal(err)
	}
	id := "traced-1"
	if err := posts.SendMessage(t.Context(), &azservicebus.Message{
		MessageID: &id, Body: fmt.Appendf(nil, traceRequest, id),
		ApplicationProperties: map[string]any{"Diagnostic-Id": "00-" + foreignTrace + "-" + foreignSpan + "-00"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	foreign, err := hex.DecodeString(foreignTrace)
	if err != nil {
		t.Fatal(err)
	}
	first := c.one(t, "RequestAccess", linkedTo(foreign, nil))
	if bytes.Equal(first.TraceId, foreign) || len(first.ParentSpanId) != 0 {
		t.Error("a message from outside chose our trace's id")
	}
	c.follow(t, first)

	// The same by the API. The caller says that nothing is to be kept.
	token, err := w.tokenOf(t.Context(), stack, "alice@contoso.com", "--role", "Access.Request")
	if err != nil {
		t.Fatal(err)
	}
	call := func(authorization string) int {
		body := strings.Replace(fmt.Sprintf(traceRequest, "traced-2"), `"requestor":"alice@contoso.com",`, "", 1)
		r, err := http.NewRequestWithContext(t.Context(), "POST", env["FUNCTIONS_ENDPOINT"]+"/api/access-requests", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {authorization}, "Content-Type": {"application/json"}, "Traceparent": {"00-" + foreignTrace + "-" + foreignSpan + "-00"}}
		if authorization == "" {
			r.Header.Del("Authorization")
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close() // nothing more is asked of it
		return res.StatusCode
	}
	if status := call("Bearer " + token); status >= 300 {
		t.Fatalf("%d", status)
	}
	second := c.one(t, "POST /api/access-requests", linkedTo(foreign, nil))
	c.follow(t, second)
	if status := call(""); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	c.measured(t, "portcullis.open.latency", "portcullis.close.latency", "portcullis.nsg.writes", "portcullis.reconcile.rounds", "portcullis.arm.quota.remaining", "portcullis.identities.refused")

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) > 0 {
		t.Errorf("%v", c.faults)
	}
	all := c.all.String()
	for what, hidden := range map[string]string{
		"the requestor": "alice", "the justification": "payroll", "the source": "203.0.113.77", "the token": token, "a part of it": strings.Split(token, ".")[1],
		"a connection string": "SharedAccessKey", "a key": "collector key", "a message's id": id,
	} {
		if strings.Contains(all, hidden) {
			t.Errorf("%s is exported", what)
		}
	}
	for _, line := range strings.Split(log.String(), "\n") {
		if strings.Contains(line, "telemetry is not exported") || strings.Contains(line, "collector key") {
			t.Error(line)
		}
	}
}

// measured waits for metrics.
func (c *collector) measured(t *testing.T, names ...string) {
	t.Helper()
	eventually(t, func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, name := range names {
			if !c.metrics[name] {
				return "no metric " + name
			}
		}
		return ""
	})
}

// follow follows one request from the span that took it.
func (c *collector) follow(t *testing.T, first *trace.Span) {
	t.Helper()
	submit := c.one(t, "Submit", under(first))
	if !strings.HasPrefix(attribute(submit, "portcullis.request.id"), "ar-") || attribute(submit, "portcullis.grants") != "1" {
		t.Errorf("%v", submit.Attributes)
	}
	c.one(t, "HTTP GET", in(first)) // a call of an SDK
	prompt := c.one(t, "send nsg-reconcile", under(submit), with("portcullis.delayed", "false"))
	scheduled := c.one(t, "send nsg-reconcile", under(submit), with("portcullis.delayed", "true"))
	opening := c.one(t, "Reconcile", under(c.one(t, "ReconcileNsg", under(prompt))))
	if attribute(opening, "portcullis.nsg") == "" || attribute(opening, "portcullis.rounds") == "0" {
		t.Errorf("%v", opening.Attributes)
	}
	c.one(t, "SecurityGroupsClient.BeginCreateOrUpdate", in(first))
	closing := c.one(t, "ReconcileNsg", linkedTo(scheduled.TraceId, scheduled.SpanId))
	if in(first)(closing) || len(closing.ParentSpanId) != 0 {
		t.Error("the delayed close is no trace of its own")
	}
	c.one(t, "Reconcile", under(closing))
	c.one(t, "SecurityGroupsClient.BeginCreateOrUpdate", in(closing))
}
