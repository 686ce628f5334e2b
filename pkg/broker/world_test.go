package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

const (
	group   = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod"
	vm      = access.ResourceID(group + "/providers/microsoft.compute/virtualmachines/web-1")
	subnet  = access.ResourceID(group + "/providers/microsoft.network/virtualnetworks/v/subnets/web")
	nic     = access.ResourceID(group + "/providers/microsoft.network/networkinterfaces/web-1-nic")
	onWeb   = access.ResourceID(group + "/providers/microsoft.network/networksecuritygroups/on-subnet")
	onNIC   = access.ResourceID(group + "/providers/microsoft.network/networksecuritygroups/on-nic")
	alice   = "203.0.113.7"
	bob     = "203.0.113.8"
	address = "10.0.1.4"
)

var rules = nsg.Settings{Installation: "test", Band: nsg.Band{Low: 100, High: 999}, Baseline: nsg.Band{Low: 1001, High: 1499}, MaxGrant: 24 * time.Hour}

// world is the use cases over in-memory ports.
type world struct {
	t      testing.TB
	now    time.Time
	faults *brokertest.Faults
	store  *brokertest.Store
	azure  *brokertest.Azure
	bus    *brokertest.Bus
	topic  *brokertest.Topic
	meter  *brokertest.Meter

	submitter  *broker.Submitter
	reconciler *broker.Reconciler
	sweeper    *broker.Sweeper
	scanner    *broker.Scanner
	desk       *broker.Desk
	lockdown   *broker.LockdownDesk
	enabler    *broker.Enabler
	viewer     *broker.Viewer
	tickets    *broker.TicketDesk
	publisher  *broker.Publisher
	customers  map[access.ResourceID][]nsg.Rule
}

func newWorld(t testing.TB) *world {
	t.Helper()
	f := &brokertest.Faults{}
	w := &world{
		t: t, now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), faults: f, store: brokertest.NewStore(f), azure: brokertest.NewAzure(f),
		bus: &brokertest.Bus{Faults: f}, topic: &brokertest.Topic{Faults: f}, meter: &brokertest.Meter{}, customers: map[access.ResourceID][]nsg.Rule{},
	}
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		w.azure.Edit(id, func(g *nsg.Group) {
			g.Rules = []nsg.Rule{
				{Name: "web", Priority: 1000, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"443"}},
				{Name: "shut", Priority: 4000, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"22", "3389"}},
			}
		})
		w.customers[id] = w.azure.Look(id).Rules
	}
	w.azure.Machines[vm] = machine("unique-1")
	w.store.Policies = []policy.AccessPolicy{{
		Scope: group, Version: "v1", Requestors: []string{"*"}, AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports: []policy.Port{{Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: 3 * time.Hour}},
	}}
	clock := func() time.Time { return w.now }
	w.store.Clock = clock
	var n atomic.Int64
	token := func() string { return fmt.Sprint("token-", n.Add(1)) }
	log := slog.New(slog.DiscardHandler)
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.submitter, err = broker.NewSubmitter(broker.SubmitPorts{
		Policies: w.store, Requests: w.store, Files: w.store, Marks: w.store, Index: w.store, Starts: w.store, Events: w.store, Lockdowns: w.store, Tickets: w.store, Ledger: w.store,
		Machines: w.azure, Prompts: w.bus, StartPrompts: w.bus, Clock: clock, Token: token, Meter: w.meter,
	}, broker.SubmitSettings{MaxLiveGrants: 20, MaxRequestsPerHour: 60, ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: 10 * time.Second})
	must()
	w.reconciler, err = broker.NewReconciler(broker.ReconcilePorts{
		Ledger: w.store, Legs: w.store, Baselines: w.store, Files: w.store, Index: w.store, Policies: w.store, Lockdowns: w.store, Tickets: w.store, Events: w.store, History: w.store, Machines: w.azure, Groups: w.azure, Prompts: w.bus, Clock: clock, Token: token, Log: log, Meter: w.meter,
	}, rules)
	must()
	w.lockdown, err = broker.NewLockdownDesk(broker.LockdownPorts{
		Lockdowns: w.store, Heads: w.store, Ledger: w.store, Legs: w.store, Prompts: w.bus, History: w.store, Clock: clock, Token: token,
	})
	must()
	w.publisher, err = broker.NewPublisher(broker.PublishPorts{Notices: w.store, Seals: w.store, Journal: w.store, Topic: w.topic, Clock: clock, Log: log})
	must()
	w.sweeper, err = broker.NewSweeper(broker.SweepPorts{
		Starts: w.store, Start: w.submitter.Start, Lockdown: w.lockdown.Tell, Tickets: w.store,
		WorkTicket: func(ctx context.Context, id string) error { return w.tickets.Work(ctx, id) },
		Heads:      w.store, Ledger: w.store, Pending: w.store, Prompts: w.bus, Events: w.store, Clock: clock, Log: log, Resume: w.submitter.Resume, Reconcile: w.reconciler.Reconcile,
		Publish: w.publisher.PublishDue, Meter: w.meter,
	})
	must()
	w.enabler, err = broker.NewEnabler(broker.EnablePorts{
		Policies: w.store, Lister: w.azure, Machines: w.azure, Groups: w.azure, Heads: w.store, Baselines: w.store,
		Prompts: w.bus, Clock: clock, Token: token, Log: log, Neighbourhood: w.azure,
	}, rules)
	must()
	w.scanner, err = broker.NewScanner(broker.ScanPorts{
		Subscriptions: []string{vm.Subscription()}, Lister: w.azure, Groups: w.azure, Heads: w.store, Ledger: w.store, Legs: w.store, Baselines: w.store, Machines: w.azure,
		Prompts: w.bus, Events: w.store, Clock: clock, Token: token, Log: log, Meter: w.meter, Ensure: w.enabler.Ensure,
		Forget: w.store, Retention: broker.DefaultRetention,
	}, rules)
	must()
	w.viewer, err = broker.NewViewer(w.store, w.store, w.store, clock)
	must()
	w.desk, err = broker.NewDesk(broker.DeskPorts{Submitter: w.submitter, Viewer: w.viewer, Legs: w.store, Events: w.store, History: w.store, Heads: w.store})
	must()
	w.tickets, err = broker.NewTicketDesk(broker.TicketPorts{Tickets: w.store, Kept: w.store, Works: w.store, Prompts: w.bus, Events: w.store, Desk: w.desk, Log: log})
	must()
	return w
}

func machine(unique string) broker.Machine {
	return broker.Machine{ID: vm, Name: "web-1", UniqueID: unique, NICs: []broker.NIC{{
		ID: nic, NSG: onNIC, Addresses: []broker.Address{{IP: netip.MustParseAddr(address), Subnet: subnet, SubnetNSG: onWeb}},
	}}}
}

func ask(id, source string, d time.Duration) access.Request {
	return access.Request{
		ClientID: id, Requestor: access.Requestor{Name: "alice@contoso.com", Asserted: true},
		RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}, BodyHash: id + source,
		Ports: []access.PortRequest{{VM: vm, Port: 22, Source: netip.PrefixFrom(netip.MustParseAddr(source), 32), Duration: d}},
	}
}

func (w *world) submit(req access.Request) access.Record {
	w.t.Helper()
	rec, err := w.submitter.Submit(context.Background(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return rec
}

// deliver hands out every message that is due until none is left.
func (w *world) deliver() {
	w.t.Helper()
	for range 50 {
		due := w.bus.Take(w.now)
		if len(due) == 0 {
			return
		}
		for _, p := range due {
			if err := w.reconciler.Reconcile(context.Background(), p.NSG, p.At); err != nil {
				w.t.Fatalf("reconcile: %v", err)
			}
		}
	}
	w.t.Fatal("prompts do not come to an end")
}

// open says which groups let the source through to port 22.
func (w *world) open(source string) (open []access.ResourceID) {
	f := nsg.Flow{Source: netip.PrefixFrom(netip.MustParseAddr(source), 32), Destination: netip.MustParseAddr(address), Port: 22, Protocol: access.TCP}
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		if w.azure.Look(id).Evaluate(f).Outcome == nsg.OutcomeAllowed {
			open = append(open, id)
		}
	}
	return open
}

func (w *world) expectOpen(source string, want int) {
	w.t.Helper()
	if got := w.open(source); len(got) != want {
		w.t.Fatalf("%s is let through by %v, want %d groups", source, got, want)
	}
}

func (w *world) status(rec access.Record) access.GrantStatus {
	w.t.Helper()
	now, err := w.viewer.View(context.Background(), rec.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return now.Status(0)
}

func (w *world) expectStatus(rec access.Record, status access.Status, reason access.StatusReason) {
	w.t.Helper()
	if s := w.status(rec); s.Status != status || s.Reason != reason {
		w.t.Fatalf("status is %+v, want %s %s", s, status, reason)
	}
}

// expectShut checks that nothing of ours is left and that the customers' rules
// are what they were.
func (w *world) expectShut() {
	w.t.Helper()
	for id, want := range w.customers {
		if got := w.azure.Look(id).Rules; !slices.EqualFunc(got, want, func(a, b nsg.Rule) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
			w.t.Fatalf("%s holds %v, want %v", id.Name(), got, want)
		}
	}
}

func contains(s, part string) bool { return strings.Contains(s, part) }
