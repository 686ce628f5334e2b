package simulate

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

const (
	subscription = "00000000-0000-0000-0000-000000000001"
	scope        = access.ResourceID("/subscriptions/" + subscription + "/resourcegroups/prod")
	maxGrant     = time.Hour
)

var (
	settings = nsg.Settings{Installation: "sim", Band: nsg.Band{Low: 100, High: 119}, Baseline: nsg.Band{Low: 1001, High: 1019}, MaxGrant: maxGrant}

	onWeb, onDB = group("web"), group("db")
	onA, onB    = group("nic-a"), group("nic-b")
	groups      = []access.ResourceID{onWeb, onDB, onA, onB}
	web1, web2  = machineID("web-1"), machineID("web-2")
	db1, db2    = machineID("db-1"), machineID("db-2")
	machines    = []access.ResourceID{web1, web2, db1, db2}
	sources     = []netip.Prefix{prefix("203.0.113.7/32"), prefix("203.0.113.8/32"), prefix("203.0.113.0/29"), prefix("203.0.113.9/32")}
	sources6    = []netip.Prefix{prefix("2001:db8:7::7/128"), prefix("2001:db8:7::/64"), prefix("2001:db8:7:1::9/128")}
	ports       = []access.PortNumber{{Number: 22, Protocol: access.TCP}, {Number: 3389, Protocol: access.AnyProtocol}, {Number: 161, Protocol: access.UDP}}
)

func group(name string) access.ResourceID {
	return scope + "/providers/microsoft.network/networksecuritygroups/" + access.ResourceID(name)
}

func machineID(name string) access.ResourceID {
	return scope + "/providers/microsoft.compute/virtualmachines/" + access.ResourceID(name)
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// place is where a machine stands: behind its subnet's NSG and its NIC's.
type place struct {
	subnet    string
	onSubnet  access.ResourceID
	onNIC     access.ResourceID
	addresses []string // that the subnet gives out
	// second is the address of a second NIC, in the subnet db behind its NSG; "" for
	// none.
	second string
}

var places = map[access.ResourceID]place{
	web1: {"web", onWeb, onA, []string{"10.0.1.4", "10.0.1.5", "10.0.1.6"}, ""},
	web2: {"web", onWeb, onB, []string{"10.0.1.4", "10.0.1.5", "10.0.1.6"}, "10.0.2.9"},
	db1:  {"db", onDB, "", []string{"10.0.2.4", "10.0.2.5", "10.0.2.6"}, ""},
	db2:  {"db", onDB, onB, []string{"10.0.2.4", "10.0.2.5", "10.0.2.6"}, ""},
}

// core is the use cases as one instance has them.
type core struct {
	submitter  *broker.Submitter
	reconciler *broker.Reconciler
	sweeper    *broker.Sweeper
	scanner    *broker.Scanner
	desk       *broker.Desk
	policies   *broker.PolicyDesk
	lockdown   *broker.LockdownDesk
	enabler    *broker.Enabler
	viewer     *broker.Viewer
	dead       *broker.DeadLetters
	tickets    *broker.TicketDesk
	publisher  *broker.Publisher
	retirer    *broker.Retirer
	outbox     broker.Outbox
	clock      broker.Clock
}

// wire makes an instance's use cases over the ports: all there is of wiring.
func wire(s store, c cloud, q *queue, clock broker.Clock, token func() string, retention time.Duration) (_ *core, err error) {
	k, log, meter := &core{outbox: q, clock: clock}, slog.New(slog.DiscardHandler), &brokertest.Meter{}
	step := func(make func() error) {
		if err == nil {
			err = make()
		}
	}
	step(func() error {
		k.submitter, err = broker.NewSubmitter(broker.SubmitPorts{
			Policies: s, Requests: s, Files: s, Marks: s, Index: s, Starts: s, Events: s, Lockdowns: s, Tickets: s, Ledger: s,
			Machines: c, Prompts: q, StartPrompts: q, Clock: clock, Token: token, Meter: meter,
		}, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: 10 * time.Second, MaxLiveGrants: 20, MaxRequestsPerHour: 60})
		return err
	})
	step(func() error {
		k.reconciler, err = broker.NewReconciler(broker.ReconcilePorts{
			Ledger: s, Legs: s, Files: s, Index: s, Policies: s, Lockdowns: s, Tickets: s, Baselines: s, Events: s, History: s, Machines: c, Groups: c, Prompts: q, Clock: clock, Token: token, Log: log, Meter: meter,
		}, settings)
		return err
	})
	step(func() error {
		k.lockdown, err = broker.NewLockdownDesk(broker.LockdownPorts{Lockdowns: s, Heads: s, Ledger: s, Legs: s, Prompts: q, History: s, Clock: clock, Token: token})
		return err
	})
	step(func() error {
		k.enabler, err = broker.NewEnabler(broker.EnablePorts{
			Policies: s, Lister: c, Machines: c, Groups: c, Heads: s, Baselines: s, Prompts: q, Clock: clock, Token: token, Log: log, Neighbourhood: c,
		}, settings)
		return err
	})
	step(func() error { k.viewer, err = broker.NewViewer(s, s, s, clock); return err })
	step(func() error {
		k.desk, err = broker.NewDesk(broker.DeskPorts{Submitter: k.submitter, Viewer: k.viewer, Legs: s, Events: s, History: s, Heads: s})
		return err
	})
	step(func() error {
		k.tickets, err = broker.NewTicketDesk(broker.TicketPorts{Tickets: s, Kept: s, Works: s, Prompts: q, Events: s, Desk: k.desk, Log: log})
		return err
	})
	step(func() error {
		k.publisher, err = broker.NewPublisher(broker.PublishPorts{Notices: s, Seals: s, Journal: s, Topic: q, Clock: clock, Log: log})
		return err
	})
	step(func() error {
		k.sweeper, err = broker.NewSweeper(broker.SweepPorts{
			Heads: s, Ledger: s, Pending: s, Prompts: q, Events: s, Clock: clock, Log: log, Resume: k.submitter.Resume, Starts: s, Start: k.submitter.Start,
			Lockdown: k.lockdown.Tell, Reconcile: k.reconciler.Reconcile, Publish: k.publisher.PublishDue, Tickets: s, WorkTicket: k.tickets.Work, Meter: meter,
		})
		return err
	})
	step(func() error {
		k.scanner, err = broker.NewScanner(broker.ScanPorts{
			Subscriptions: []string{subscription}, Lister: c, Groups: c, Heads: s, Ledger: s, Legs: s, Baselines: s, Machines: c, Prompts: q, Events: s,
			Clock: clock, Token: token, Log: log, Meter: meter, Ensure: k.enabler.Ensure,
			Forget: s, Retention: 20 * time.Minute, // a very short one, so that there are heads to forget
		}, settings)
		return err
	})
	step(func() error {
		k.policies, err = broker.NewPolicyDesk(broker.PolicyPorts{
			Policies: s, Grants: k.desk, Events: s, Clock: clock, Token: token, Baselines: k.enabler.Plan, Ensure: k.enabler.Ensure,
			Document: accessjson.EncodePolicy,
		})
		return err
	})
	// Nothing in the use case depends on how long the retention is.
	k.retirer = &broker.Retirer{RetirePorts: broker.RetirePorts{
		Index: s, Record: s, Files: s, Seals: s, Notices: s, Starts: s, Pending: s, Legs: s, Clock: clock, Log: log, Retention: retention,
	}}
	step(func() error { k.dead, err = broker.NewDeadLetters(s, q, s, q, clock, token, log, meter); return err })
	return k, err
}

// world is one story: instances of the use cases over one record, one queue and
// one cloud, with people, customers and an adversary.
type world struct {
	*schedule
	*judge
	knobs knobs
	began time.Time
	store *brokertest.Store
	azure *brokertest.Azure
	queue *queue
	cloud cloud
	cores []*core
	// down are the parts that cannot be reached, and until when.
	down map[port]time.Time
	calm bool // the adversary has gone
	// stopped is the whole function app.
	stopped bool
	story   *strings.Builder
	// singletons are the timers that run: the host never runs one twice at once.
	singletons map[string]bool
	unique     int
	asked      []asked
	tickets    []*ticket
	topic      *topic
	gone       map[access.ResourceID]bool // NSGs that were deleted
	// met counts what the use cases had to do with.
	met map[string]int
}

func newWorld(seed uint64, draw func(*schedule) knobs, tell bool) (*world, error) {
	f := &brokertest.Faults{}
	w := &world{schedule: newSchedule(seed), began: time.Now(), store: brokertest.NewStore(f), azure: brokertest.NewAzure(f), down: map[port]time.Time{}, singletons: map[string]bool{}, gone: map[access.ResourceID]bool{}, met: map[string]int{}}
	if tell {
		w.story = &strings.Builder{}
	}
	w.knobs = draw(w.schedule)
	w.judge = newJudge(w)
	w.topic = &topic{w: w, sent: map[string][]string{}, came: map[string]bool{}, unnoted: map[string]bool{}}
	w.store.NotedApart = true
	w.queue = &queue{s: w.schedule, w: w, busy: map[access.ResourceID]bool{}, waiting: map[access.ResourceID][]*message{}}
	w.cloud = cloud{s: w.schedule, in: w.azure, w: w, life: map[access.ResourceID]*life{}}
	w.furnish()
	var tokens atomic.Int64
	token := func() string { return fmt.Sprint("token-", tokens.Add(1)) }
	s := store{s: w.schedule, in: w.store, read: w.judge.read, kept: w.judge.kept, changed: func() { w.judge.stale = true }, past: &w.judge.past, ends: w.judge.ends, topic: w.topic, retired: w.judge.retiring, turned: w.turned}
	for i := range 3 {
		skew := time.Duration(0)
		if w.knobs.skew > 0 {
			skew = w.between(-w.knobs.skew, w.knobs.skew)
		}
		c, err := wire(s, w.cloud, w.queue, func() time.Time { return time.Now().Add(skew) }, token, w.knobs.retention)
		if err != nil {
			return nil, err
		}
		w.cores = append(w.cores, c)
		w.say("instance %d is %s off", i, skew.Round(time.Millisecond))
	}
	w.schedule.fate = w.fateOf
	w.schedule.after = w.judge.judge
	w.turned()
	return w, nil
}

// furnish sets up the NSGs, the machines and the policy.
func (w *world) furnish() {
	for _, id := range groups {
		w.cloud.life[id] = &life{}
		w.azure.Edit(id, func(g *nsg.Group) { g.Rules = customers() })
		w.judge.watch(id)
	}
	for i, vm := range machines {
		w.placeMachine(vm, places[vm].addresses[i%2])
	}
	yes := true
	p := policyOf(scope, prefix("203.0.113.0/24"), nil)
	if w.chance(0.4) {
		p.Baseline = &yes
	}
	w.demand(&p)
	p.Version = "v1"
	w.store.Policies = []policy.AccessPolicy{p}
}

// customers are the rules that a customer has in every NSG.
func customers() []nsg.Rule {
	return []nsg.Rule{
		{Name: "web", Priority: 1000, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"443"}},
		{Name: "shut", Priority: 4000, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"22", "161", "3389"}},
	}
}

// turned tells the judge how the policies and machines stand now.
func (w *world) turned() { w.judge.past.turn(w.store.Policies, w.azure.Machines) }

func policyOf(at access.ResourceID, from netip.Prefix, baseline *bool) policy.AccessPolicy {
	p := policy.AccessPolicy{Scope: at, Requestors: []string{"*"}, AssertedRequestorsFrom: []access.Channel{access.ChannelQueue, access.ChannelTicket + ":" + itsm}, Baseline: baseline}
	six := prefix("2001:db8:7::/48")
	if from.Bits() > 24 {
		six = prefix("2001:db8:7::/64")
	}
	for _, n := range ports {
		p.Ports = append(p.Ports, policy.Port{Number: n.Number, Protocol: n.Protocol, Sources: []netip.Prefix{from, six}, MaxDuration: maxGrant})
	}
	return p
}

// placeMachine makes a machine anew, with an address.
func (w *world) placeMachine(vm access.ResourceID, address string) {
	w.unique++
	w.judge.stale = true
	p := places[vm]
	m := broker.Machine{ID: vm, Name: vm.Name(), UniqueID: fmt.Sprint("unique-", w.unique), Tags: map[string]string{"door": "open"}, NICs: []broker.NIC{{
		ID: access.ResourceID(strings.Replace(string(vm), "microsoft.compute/virtualmachines", "microsoft.network/networkinterfaces", 1)) + "-nic", NSG: p.onNIC,
		Addresses: []broker.Address{{IP: netip.MustParseAddr(address), Subnet: scope + "/providers/microsoft.network/virtualnetworks/v/subnets/" + access.ResourceID(p.subnet), SubnetNSG: p.onSubnet}},
	}}}
	if w.knobs.six > 0 {
		first := &m.NICs[0].Addresses
		*first = append(*first, (*first)[0])
		(*first)[1].IP = sixOf((*first)[0].IP)
	}
	if p.second != "" {
		m.NICs = append(m.NICs, broker.NIC{ID: m.NICs[0].ID + "-2", Addresses: []broker.Address{{
			IP: netip.MustParseAddr(p.second), Subnet: scope + "/providers/microsoft.network/virtualnetworks/v/subnets/db", SubnetNSG: onDB,
		}}})
	}
	w.azure.Machines[vm] = m
	w.attach()
}

// sixOf is the address of the other family that goes with one.
func sixOf(four netip.Addr) netip.Addr {
	b := four.As4()
	return netip.MustParseAddr(fmt.Sprintf("fd00::%d:%d", b[2], b[3]))
}

// attach has the machines stand behind those of their NSGs that there are.
func (w *world) attach() {
	there := func(id access.ResourceID) access.ResourceID {
		if id == "" || w.gone[id] {
			return ""
		}
		return id
	}
	for vm, m := range w.azure.Machines {
		m.NICs = slices.Clone(m.NICs)
		for i := range m.NICs {
			nic := &m.NICs[i]
			subnet := places[vm].onSubnet
			if i == 0 {
				nic.NSG = there(places[vm].onNIC)
			} else {
				subnet = onDB
			}
			nic.Addresses = slices.Clone(nic.Addresses)
			for j := range nic.Addresses {
				nic.Addresses[j].SubnetNSG = there(subnet)
			}
		}
		w.azure.Machines[vm] = m
	}
}

// start runs a use case on some instance.
func (w *world) start(name string, on access.ResourceID, run func(context.Context, *core) error, done func(*actor, error)) {
	i := w.rng.IntN(len(w.cores))
	w.say("%s begins on instance %d (#%d)", name, i, w.actors+1)
	w.spawn(name, i, on, w.drawStall(), func(ctx context.Context) error { return run(ctx, w.cores[i]) }, func(a *actor, err error) {
		switch {
		case a.dead:
			w.say("#%d %s was cut off", a.id, a.name)
		case err != nil:
			w.say("#%d %s fails: %v", a.id, a.name, err)
		default:
			w.say("#%d %s is done", a.id, a.name)
		}
		if done != nil {
			done(a, err)
		}
	})
}

// say tells the story, where somebody listens.
func (w *world) say(format string, args ...any) {
	if w.story != nil {
		fmt.Fprintf(w.story, "%9.3f  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
	}
}
