package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const (
	group  = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod"
	vm     = access.ResourceID(group + "/providers/microsoft.compute/virtualmachines/web-1")
	onWeb  = access.ResourceID(group + "/providers/microsoft.network/networksecuritygroups/on-subnet")
	source = "203.0.113.7"
	person = "alice@contoso.com"
	why    = "look at the payroll"
)

var rules = nsg.Settings{Installation: "test", Band: nsg.Band{Low: 100, High: 999}, Baseline: nsg.Band{Low: 1001, High: 1499}, MaxGrant: 24 * time.Hour}

// world is the use cases over in-memory ports, seen by the SDK's own reader and
// exporter.
type world struct {
	t      *testing.T
	now    time.Time
	faults *brokertest.Faults
	store  *brokertest.Store
	azure  *brokertest.Azure
	bus    *brokertest.Bus

	seen   *telemetry.Telemetry
	reader *metric.ManualReader
	spans  *tracetest.InMemoryExporter
	log    bytes.Buffer

	submitter  *broker.Submitter
	reconciler *broker.Reconciler
	sweeper    *broker.Sweeper
	scanner    *broker.Scanner
	dead       *broker.DeadLetters
}

func newWorld(t *testing.T) *world {
	t.Helper()
	f := &brokertest.Faults{}
	w := &world{
		t: t, now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), faults: f, store: brokertest.NewStore(f), azure: brokertest.NewAzure(f), bus: &brokertest.Bus{Faults: f},
		spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader(metric.WithTemporalitySelector(telemetry.Settings{}.Temporality)),
	}
	w.azure.Edit(onWeb, func(g *nsg.Group) {
		g.Rules = []nsg.Rule{{Name: "shut", Priority: 4000, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"22"}}}
	})
	w.azure.Machines[vm] = broker.Machine{ID: vm, Name: "web-1", UniqueID: "u", NICs: []broker.NIC{{
		ID:        access.ResourceID(group + "/providers/microsoft.network/networkinterfaces/web-1-nic"),
		Addresses: []broker.Address{{IP: netip.MustParseAddr("10.0.1.4"), Subnet: access.ResourceID(group + "/providers/microsoft.network/virtualnetworks/v/subnets/web"), SubnetNSG: onWeb}},
	}}}
	w.store.Policies = []policy.AccessPolicy{{
		Scope: group, Version: "v1", Requestors: []string{"*"}, AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports: []policy.Port{{Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: 3 * time.Hour}},
	}}
	var err error
	must := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	w.seen, err = telemetry.Over(telemetry.Settings{Service: "test", Ratio: 1, SpansEvery: time.Hour}, w.spans, w.reader)
	must(err)
	clock := func() time.Time { return w.now }
	w.store.Clock = clock
	var n atomic.Int64
	token := func() string { return fmt.Sprint("token-", n.Add(1)) }
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(&w.log, nil)))
	w.submitter, err = broker.NewSubmitter(broker.SubmitPorts{
		Policies: w.store, Requests: w.store, Files: w.store, Marks: w.store, Index: w.store, Starts: w.store, Events: w.store, Lockdowns: w.store, Tickets: w.store, Ledger: w.store,
		Machines: w.azure, Prompts: w.bus, StartPrompts: w.bus, Clock: clock, Token: token, Meter: w.seen,
	}, broker.SubmitSettings{MaxLiveGrants: 20, MaxRequestsPerHour: 60, ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: 10 * time.Second})
	must(err)
	w.reconciler, err = broker.NewReconciler(broker.ReconcilePorts{
		Ledger: w.store, Legs: w.store, Baselines: w.store, Files: w.store, Index: w.store, Policies: w.store, Lockdowns: w.store, Tickets: w.store, Events: w.store, History: w.store,
		Machines: w.azure, Groups: w.azure, Prompts: w.bus, Clock: clock, Token: token, Log: log, Meter: w.seen,
	}, rules)
	must(err)
	nothing := func(context.Context) error { return nil }
	w.sweeper, err = broker.NewSweeper(broker.SweepPorts{
		Heads: w.store, Ledger: w.store, Pending: w.store, Prompts: w.bus, Events: w.store, Clock: clock, Log: log, Resume: w.submitter.Resume,
		Starts: w.store, Start: w.submitter.Start, Lockdown: nothing, Reconcile: w.reconciler.Reconcile, Publish: nothing, Meter: w.seen,
		Tickets: w.store, WorkTicket: func(context.Context, string) error { return nil },
	})
	must(err)
	w.scanner, err = broker.NewScanner(broker.ScanPorts{
		Subscriptions: []string{vm.Subscription()}, Lister: w.azure, Groups: w.azure, Heads: w.store, Ledger: w.store, Legs: w.store, Baselines: w.store, Machines: w.azure,
		Prompts: w.bus, Events: w.store, Clock: clock, Token: token, Log: log, Meter: w.seen, Ensure: func(context.Context, string) error { return nil },
		Forget: w.store, Retention: broker.DefaultRetention,
	}, rules)
	must(err)
	w.dead, err = broker.NewDeadLetters(w.store, w.bus, w.store, w.bus, clock, token, log, w.seen)
	must(err)
	return w
}

func (w *world) submit(ctx context.Context, id, from string) (access.Record, error) {
	return w.submitter.Submit(ctx, access.Request{
		ClientID: id, Requestor: access.Requestor{Name: person, Asserted: true}, Justification: why,
		RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}, BodyHash: id + from,
		Ports: []access.PortRequest{{VM: vm, Port: 22, Source: netip.PrefixFrom(netip.MustParseAddr(from), 32), Duration: time.Hour}},
	})
}

// open submits a request and opens it, ten seconds after its decision.
func (w *world) open(id string) {
	w.t.Helper()
	if _, err := w.submit(w.t.Context(), id, source); err != nil {
		w.t.Fatal(err)
	}
	w.now = w.now.Add(10 * time.Second)
	w.deliver()
}

// deliver hands out the prompts that are due.
func (w *world) deliver() {
	w.t.Helper()
	for _, p := range w.bus.Take(w.now) {
		if err := w.reconciler.Reconcile(w.t.Context(), p.NSG, p.At); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) sweep() error { return w.sweeper.Sweep(w.t.Context()) }

// point is what was exported of a series: a value, or a histogram's count and sum.
type point struct{ value, count, sum float64 }

// collect gives what a collection exports, by "name{value of its attribute}".
func (w *world) collect() map[string]point {
	w.t.Helper()
	var all metricdata.ResourceMetrics
	if err := w.reader.Collect(context.Background(), &all); err != nil {
		w.t.Fatal(err)
	}
	out := map[string]point{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					out[m.Name+series(p.Attributes.Encoded(attribute.DefaultEncoder()))] = point{value: float64(p.Value)}
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					out[m.Name+series(p.Attributes.Encoded(attribute.DefaultEncoder()))] = point{value: p.Value}
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[m.Name] = point{count: float64(p.Count), sum: p.Sum}
				}
			default:
				w.t.Fatalf("%s is exported as %T", m.Name, d)
			}
		}
	}
	return out
}

func series(attributes string) string {
	if _, value, ok := strings.Cut(attributes, "="); ok {
		return "{" + value + "}"
	}
	return ""
}
