package broker_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

func (w *world) policyDesk() *broker.PolicyDesk {
	w.t.Helper()
	clock := func() time.Time { return w.now }
	token := func() string { return "token-d" }
	d, err := broker.NewPolicyDesk(broker.PolicyPorts{
		Policies: w.store, Grants: w.desk, Events: w.store, Clock: clock, Token: token, Ensure: w.enabler.Ensure,
		Baselines: w.enabler.Plan, Document: accessjson.EncodePolicy,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) put(d *broker.PolicyDesk, p policy.AccessPolicy, o broker.ChangeOptions) broker.PolicyChange {
	w.t.Helper()
	c, err := d.Put(context.Background(), admin, p, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.deliver()
	return c
}

func TestOnlyAdministratorsChangePolicies(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	p := w.store.Policies[0]
	for _, c := range []struct {
		role         access.Role
		read, change bool
	}{{"", false, false}, {access.RoleRequest, false, false}, {access.RoleRequestForOthers, false, false}, {access.RoleReadAll, true, false}, {access.RoleAdminister, true, true}} {
		by := access.Caller{Roles: []access.Role{c.role}}
		_, listed := d.List(context.Background(), by)
		_, got := d.Get(context.Background(), by, p.Scope)
		_, stored := d.Put(context.Background(), by, p, broker.ChangeOptions{Version: p.Version, Plan: true})
		_, deleted := d.Delete(context.Background(), by, p.Scope, broker.ChangeOptions{Version: p.Version, Plan: true})
		for _, err := range []error{listed, got} {
			if (err == nil) != c.read || err != nil && access.ReasonOf(err) != "role_required" {
				t.Errorf("%q reads: %v", c.role, err)
			}
		}
		for _, err := range []error{stored, deleted} {
			if (err == nil) != c.change || err != nil && access.ReasonOf(err) != "role_required" {
				t.Errorf("%q changes: %v", c.role, err)
			}
		}
	}
}

func TestEnablingShutsAndDisablingRestores(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	yes := true
	p := w.store.Policies[0]
	p.Baseline = &yes
	if c := w.put(d, p, broker.ChangeOptions{Version: p.Version, Plan: true}); c.Policy.Version != p.Version || w.denied() != "" {
		t.Fatal("a plan changes something")
	}
	c := w.put(d, p, broker.ChangeOptions{Version: p.Version})
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	if w.store.Kinds(string(p.Scope))[access.EventPolicyChanged] != 1 {
		t.Error("no event")
	}
	// One that does not say leaves it as it is; an old version changes nothing.
	p.Baseline, p.RequireTicket = nil, true
	if _, err := d.Put(context.Background(), admin, p, broker.ChangeOptions{Version: p.Version}); access.ReasonOf(err) != "policy_changed" {
		t.Errorf("an old version: %v", err)
	}
	c = w.put(d, p, broker.ChangeOptions{Version: c.Policy.Version})
	if !c.Policy.Shuts() {
		t.Error("left unsaid, it was lifted")
	}
	one := p
	one.Scope = vm
	if c := w.put(d, one, broker.ChangeOptions{}); !c.Policy.Shuts() {
		t.Error("a nearer policy that does not say lifts it")
	} else if _, err := d.Delete(context.Background(), admin, vm, broker.ChangeOptions{Version: c.Policy.Version}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	if _, err := d.Delete(context.Background(), admin, p.Scope, broker.ChangeOptions{Version: c.Policy.Version}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectShut()
	if _, err := w.submitter.Submit(context.Background(), ask("late", alice, time.Hour)); access.ReasonOf(err) != "not_permitted" {
		t.Errorf("under a disabled policy: %v", err)
	}
	w.ensure()
	if all, _ := d.List(context.Background(), admin); len(all) != 0 || len(w.store.Policies) != 0 {
		t.Errorf("%d policies are left", len(w.store.Policies))
	}
}

func TestAPolicyUnderRemovalDoesNotStandInTheWay(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	p := w.store.Policies[0]
	w.store.Policies[0].Disabled = true
	if _, err := d.Get(context.Background(), admin, p.Scope); access.ReasonOf(err) != "policy_unknown" {
		t.Errorf("%v", err)
	}
	if _, err := d.Delete(context.Background(), admin, p.Scope, broker.ChangeOptions{Version: p.Version}); access.ReasonOf(err) != "policy_unknown" {
		t.Errorf("%v", err)
	}
	w.put(d, p, broker.ChangeOptions{})
	if w.store.Policies[0].Disabled {
		t.Error("it is still disabled")
	}
}

func TestATighterPolicyNamesWhatItWouldClose(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	stays, goes := w.submit(ask("a", alice, time.Hour)), w.submit(ask("b", bob, time.Hour))
	w.deliver()
	p := w.store.Policies[0]
	p.Ports = []policy.Port{p.Ports[0]}
	p.Ports[0].Sources = []netip.Prefix{netip.MustParsePrefix(alice + "/32")}
	p.Ports[0].MaxDuration = 2 * time.Hour
	w.now = w.now.Add(30 * time.Minute)
	c := w.put(d, p, broker.ChangeOptions{Version: p.Version, Plan: true})
	if len(c.NotAllowed) != 1 || c.NotAllowed[0].Request != goes.ID || c.NotAllowed[0].Violations[0].Reason != "source_outside_policy" {
		t.Fatalf("%+v", c.NotAllowed)
	}
	c = w.put(d, p, broker.ChangeOptions{Version: p.Version})
	w.expectOpen(bob, 2) // closed only when that is asked for
	w.put(d, p, broker.ChangeOptions{Version: c.Policy.Version, CloseGrants: true})
	w.expectOpen(bob, 0)
	w.expectOpen(alice, 2)
	w.expectStatus(goes, access.Revoked, access.PolicyChanged)
	w.expectStatus(stays, access.Initiated, "")
}

// beside runs something before the first events are written.
type beside struct {
	broker.Events
	do func()
}

func (b *beside) Append(ctx context.Context, events []access.Event) error {
	if do := b.do; do != nil {
		b.do = nil
		do()
	}
	return b.Events.Append(ctx, events)
}

func TestAGrantThatOpensBesideTheChangeIsClosedToo(t *testing.T) {
	for _, remove := range []bool{false, true} {
		w := newWorld(t)
		d := w.policyDesk()
		var rec access.Record
		d.Events = &beside{w.store, func() {
			rec = w.submit(ask("b", bob, time.Hour))
			w.deliver()
			w.expectOpen(bob, 2)
		}}
		p := w.store.Policies[0]
		p.Ports = []policy.Port{p.Ports[0]}
		p.Ports[0].Sources = []netip.Prefix{netip.MustParsePrefix(alice + "/32")}
		o := broker.ChangeOptions{Version: p.Version, CloseGrants: true}
		var err error
		if remove {
			_, err = d.Delete(context.Background(), admin, p.Scope, o)
		} else {
			_, err = d.Put(context.Background(), admin, p, o)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.deliver()
		w.expectOpen(bob, 0)
		w.expectStatus(rec, access.Revoked, access.PolicyChanged)
	}
}
