package broker_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// shut makes the policy of the world's group keep its machines shut.
func (w *world) shut(yes bool) {
	w.store.Policies[0].Baseline = &yes
	w.store.Policies[0].Version += "+"
}

func (w *world) ensure() {
	w.t.Helper()
	if err := w.enabler.Ensure(context.Background(), vm.Subscription()); err != nil {
		w.t.Fatal(err)
	}
	w.deliver()
}

// denied are the addresses that our denies name, by group.
func (w *world) denied() string {
	var out []string
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		for _, r := range w.azure.Look(id).Rules {
			if rules.Owns(r) && r.Access == nsg.Deny {
				out = append(out, fmt.Sprintf("%s %s:%s", id.Name(), strings.Join(r.Destinations, ","), strings.Join(r.DestinationPorts, ",")))
			}
		}
	}
	return strings.Join(out, "; ")
}

func (w *world) expectDenied(want string) {
	w.t.Helper()
	if got := w.denied(); got != want {
		w.t.Fatalf("\n got %s\nwant %s", got, want)
	}
}

func TestABaselineComesAndGoesByRecordAlone(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	w.expectDenied("")
	w.shut(true)
	w.ensure()
	both := "on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22"
	w.expectDenied(both)
	if n := w.store.Kinds(string(onNIC))[access.EventBaselineShut]; n != 1 {
		t.Errorf("%d events", n)
	}
	// A lost table of policies opens nothing.
	policies := w.store.Policies
	w.store.Policies = nil
	w.ensure()
	w.expectDenied(both)
	// Nor does a lost ledger, and the rows come back.
	w.store.LoseLedger()
	w.ensure()
	w.expectDenied(both)
	w.store.Policies = policies
	w.ensure()
	w.expectDenied(both)

	w.store.Policies[0].Disabled = true
	w.ensure()
	w.expectShut()
	w.ensure()
	if len(w.store.Policies) != 0 {
		t.Error("the disabled policy stays")
	}
}

func TestAPolicyThatSaysNoBaselineLiftsIt(t *testing.T) {
	w := newWorld(t)
	w.shut(true)
	w.ensure()
	w.store.Policies[0].Baseline = nil // does not say
	w.ensure()
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	w.shut(false)
	w.ensure()
	w.expectShut()
}

func TestBaselinesFollowTheMachine(t *testing.T) {
	w := newWorld(t)
	w.shut(true)
	w.ensure()
	m := machine("unique-1")
	m.NICs[0].Addresses[0].IP = netip.MustParseAddr("10.0.1.9")
	w.azure.Machines[vm] = m
	w.ensure()
	w.expectDenied("on-nic 10.0.1.9:22; on-subnet 10.0.1.9:22")
	m = machine("unique-1")
	m.NICs[0].NSG = ""
	w.azure.Machines[vm] = m
	w.ensure()
	w.expectDenied("on-subnet 10.0.1.4:22")
	unknown := broker.Machine{ID: vm, Unreadable: "it cannot be read"}
	w.azure.Machines[vm] = unknown
	w.ensure()
	w.expectDenied("on-subnet 10.0.1.4:22")
	delete(w.azure.Machines, vm)
	w.ensure()
	w.expectShut()
	// A machine that comes later has its baseline with the next scan.
	w.azure.Machines[vm] = machine("unique-2")
	if err := w.scanner.Scan(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
}

func TestARemovedDenyComesBackAndGrantsStayOpenThroughARedeploy(t *testing.T) {
	w := newWorld(t)
	w.shut(true)
	w.ensure()
	rec := w.submit(ask("a", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		w.azure.Edit(id, func(g *nsg.Group) { g.Rules = w.customers[id] })
	}
	if err := w.scanner.Scan(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	w.expectOpen(alice, 2)
	w.expectStatus(rec, access.Initiated, "")
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectOpen(alice, 0)
	w.expectStatus(rec, access.Revoked, access.Expired)
}

func TestBaselinesSurviveEveryCut(t *testing.T) {
	for after := range 2 {
		for at := 1; ; at++ {
			w := newWorld(t)
			w.shut(true)
			w.faults.FailAt, w.faults.After = at, after == 1
			err := w.enabler.Ensure(context.Background(), vm.Subscription())
			calls := w.faults.Calls()
			w.faults.Reset()
			for _, p := range w.bus.Take(w.now) {
				w.faults.FailAt, w.faults.After = max(0, at-calls), after == 1
				_ = w.reconciler.Reconcile(context.Background(), p.NSG, p.At) // cut off; its fate is not what is looked at
				calls += w.faults.Calls()
				w.faults.Reset()
			}
			w.now = w.now.Add(2 * time.Minute)
			w.ensure()
			if err := w.sweeper.Sweep(context.Background()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
			if err == nil && at > calls {
				break
			}
		}
	}
}

func TestDisablingLiftsUnderAWiderPolicyThatDoesNotSay(t *testing.T) {
	w := newWorld(t)
	one := w.store.Policies[0]
	one.Scope, one.Version = vm, "v9"
	yes := true
	one.Baseline = &yes
	w.store.Policies = append(w.store.Policies, one)
	w.ensure()
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	w.store.Policies[1].Disabled = true
	w.ensure()
	w.expectShut()
	w.ensure()
	if len(w.store.Policies) != 1 {
		t.Error("the disabled policy stays")
	}
}

func TestALostPolicyUnderAWiderOneThatShutsNothingLiftsNothing(t *testing.T) {
	w := newWorld(t)
	w.shut(false)
	one, yes := w.store.Policies[0], true
	one.Scope, one.Version, one.Baseline = vm, "v9", &yes
	w.store.Policies = append(w.store.Policies, one)
	w.ensure()
	both := "on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22"
	w.expectDenied(both)
	w.store.Policies = w.store.Policies[:1] // nobody disabled it
	w.ensure()
	w.expectDenied(both)
}

// interrupted lets somebody else have a turn once, where the machines or the
// NSGs are listed.
type interrupted struct {
	broker.MachineLister
	broker.Heads
	listing, heads func()
}

func once(do *func()) {
	if f := *do; f != nil {
		*do = nil
		f()
	}
}

func (i *interrupted) List(ctx context.Context, subscription string) ([]broker.Machine, error) {
	once(&i.listing)
	return i.MachineLister.List(ctx, subscription)
}

func (i *interrupted) All(ctx context.Context) ([]broker.Head, error) {
	once(&i.heads)
	return i.Heads.All(ctx)
}

func TestWhoReadOlderPoliciesLiftsNothing(t *testing.T) {
	for _, listing := range []bool{true, false} {
		w := newWorld(t)
		w.shut(false)
		w.ensure()
		both := "on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22"
		enable := func() {
			w.shut(true)
			w.ensure()
			w.expectDenied(both)
		}
		ports := w.enabler.EnablePorts
		i := &interrupted{MachineLister: ports.Lister, Heads: ports.Heads, heads: enable}
		if listing {
			i.listing, i.heads = enable, nil
		}
		ports.Lister, ports.Heads = i, i
		slow, err := broker.NewEnabler(ports, rules)
		if err != nil {
			t.Fatal(err)
		}
		if err := slow.Ensure(context.Background(), vm.Subscription()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
		w.expectDenied(both)
	}
}
