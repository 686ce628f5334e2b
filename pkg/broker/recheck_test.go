package broker_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

func TestAChangeOfPolicyMeetsARequestInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*policy.AccessPolicy)
		status access.Status
		reason access.StatusReason
	}{
		"the same":               {func(*policy.AccessPolicy) {}, access.Initiated, ""},
		"nobody":                 {func(p *policy.AccessPolicy) { p.Requestors = nil }, access.Failed, access.PolicyChanged},
		"another range":          {func(p *policy.AccessPolicy) { p.Ports[0].Sources = []netip.Prefix{mask(bob)} }, access.Failed, access.PolicyChanged},
		"a shorter time":         {func(p *policy.AccessPolicy) { p.Ports[0].MaxDuration = 30 * time.Minute }, access.Failed, access.PolicyChanged},
		"a ticket":               {func(p *policy.AccessPolicy) { p.RequireTicket = true }, access.Failed, access.PolicyChanged},
		"disabled":               {func(p *policy.AccessPolicy) { p.Disabled = true }, access.Failed, access.PolicyChanged},
		"a longer time, another": {func(p *policy.AccessPolicy) { p.Ports[0].MaxDuration, p.Version = 5*time.Hour, "v2" }, access.Initiated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store.Policies[0].Ports = slices.Clone(w.store.Policies[0].Ports)
			rec := w.request(anna, wants("1", alice, time.Hour))
			c.change(&w.store.Policies[0])
			w.now = w.now.Add(5 * time.Minute) // judged as at the time of the decision
			w.deliver()
			w.expectStatus(rec, c.status, c.reason)
			if c.reason != "" {
				w.expectShut()
				if s := w.status(rec); s.BlockedBy == "" {
					t.Error("nothing says what the policy does not allow")
				}
			}
		})
	}
}

func TestWhatIsOpenStaysOpenUnderAChangedPolicy(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.store.Policies[0].Requestors = nil
	w.request2(bob)
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")
	w.expectOpen(alice, 2)
}

// request2 makes a reconcile due, by a request that is refused or not.
func (w *world) request2(source string) {
	_, _ = w.submitter.Submit(context.Background(), ask("x", source, time.Hour))
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		if err := w.store.Touch(context.Background(), id, "again", w.now); err != nil {
			w.t.Fatal(err)
		}
		if err := w.bus.Prompt(context.Background(), id, time.Time{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

type noPolicies struct{}

func (noPolicies) PoliciesFor(context.Context, access.ResourceID) ([]policy.AccessPolicy, error) {
	return nil, access.Errorf(access.Unavailable, "tables_unavailable", "not now")
}

func TestUnreadablePoliciesOpenNothingAndNothingIsLost(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	ports := w.reconciler.ReconcilePorts
	ports.Policies = noPolicies{}
	blinded, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.bus.Take(w.now) {
		if err := blinded.Reconcile(t.Context(), p.NSG, p.At); err != nil {
			t.Fatal(err)
		}
	}
	w.expectStatus(rec, access.Initiating, "")
	if s := w.status(rec); !contains(s.BlockedBy, "policies") {
		t.Errorf("%+v", s)
	}
	w.expectShut()
	w.now = w.now.Add(time.Minute) // Sweep looks again, and they can be read
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")
	if s := w.status(rec); s.BlockedBy != "" {
		t.Errorf("%+v", s)
	}
}

func TestALegThatNoRecordTellsOfOpensNothing(t *testing.T) {
	w := newWorld(t)
	stray := w.request(anna, wants("1", alice, time.Hour)).Legs()
	for i := range stray {
		stray[i].Request, stray[i].Source = access.NewRequestID(ben.Sender(), "none"), mask(bob)
		if err := w.store.AddLegs(t.Context(), stray[i].NSG, stray[i:i+1], "t", w.now); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver()
	w.expectOpen(alice, 2)
	w.expectOpen(bob, 0)
}

// TestABurstSharesItsReads bounds what one reconcile of many legs reads: a file
// per request, and each machine's policies once.
func TestABurstSharesItsReads(t *testing.T) {
	w := newWorld(t)
	const n = 20
	for i := range n {
		w.submit(ask(fmt.Sprint(i), fmt.Sprintf("203.0.113.%d", i+1), time.Hour))
	}
	var policies, files atomic.Int64
	ports := w.reconciler.ReconcilePorts
	ports.Policies, ports.Files = countPolicies{w.store, &policies}, countFiles{w.store, &files}
	r, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if policies.Load() != 1 || files.Load() != n || w.azure.Writes != 1 {
		t.Errorf("%d reads of policies, %d files, %d writes", policies.Load(), files.Load(), w.azure.Writes)
	}
}

type countPolicies struct {
	broker.Policies
	n *atomic.Int64
}

func (c countPolicies) PoliciesFor(ctx context.Context, vm access.ResourceID) ([]policy.AccessPolicy, error) {
	c.n.Add(1)
	return c.Policies.PoliciesFor(ctx, vm)
}

type countFiles struct {
	broker.Files
	n *atomic.Int64
}

func (c countFiles) File(ctx context.Context, id access.RequestID) (access.File, error) {
	c.n.Add(1)
	return c.Files.File(ctx, id)
}

func TestLiveGrantsAreJudgedAsAtTheirDecision(t *testing.T) {
	w := newWorld(t)
	first := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.now = w.now.Add(59 * time.Minute)
	second := w.request(ben, wants("1", bob, 2*time.Hour))
	w.deliver()
	p := w.store.Policies[0]
	p.Ports = slices.Clone(p.Ports)
	p.Ports[0].MaxDuration = 90 * time.Minute
	got, err := w.desk.NotAllowed(t.Context(), group, []policy.AccessPolicy{p})
	if err != nil || len(got) != 1 || got[0].Request != second.ID || got[0].Violations[0].Reason != "duration_too_long" {
		t.Fatalf("%+v, %v", got, err)
	}
	if all, err := w.desk.NotAllowed(t.Context(), vm, nil); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if elsewhere, err := w.desk.NotAllowed(t.Context(), group+"-other", nil); err != nil || len(elsewhere) != 0 {
		t.Errorf("%+v, %v", elsewhere, err)
	}
	for range 2 {
		if err := w.desk.End(t.Context(), got, access.PolicyChanged); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver()
	w.expectStatus(second, access.Revoked, access.PolicyChanged)
	w.expectStatus(first, access.Initiated, "")
	w.expectOpen(bob, 0)
	w.expectOpen(alice, 2)
}
