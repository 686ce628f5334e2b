package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// opened gives a world with one open door, and its rule in the subnet's group.
func opened(t *testing.T) (*world, access.Record, nsg.Rule) {
	t.Helper()
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	return w, rec, ours(w)[0]
}

// ours gives the rules of ours in the subnet's group.
func ours(w *world) []nsg.Rule {
	return slices.DeleteFunc(slices.Clone(w.azure.Look(onWeb).Rules), func(r nsg.Rule) bool { return !rules.Owns(r) })
}

func TestTheLadderThatClosesARule(t *testing.T) {
	edit := func(w *world, change func(*nsg.Group)) func() {
		return func() { w.azure.Edit(onWeb, change) }
	}
	for name, c := range map[string]struct {
		prepare func(*world)
		reason  string
		left    []nsg.Access // of our rules
	}{
		"nothing in the way":                        {func(*world) {}, "", nil},
		"a lock on deletions: a write of the whole": {func(w *world) { w.azure.Locked = true }, "", nil},
		"and a group that a whole write would damage: a deny": {func(w *world) {
			w.azure.Locked = true
			w.azure.Edit(onWeb, func(g *nsg.Group) { g.Loss = "properties.future" })
		}, "", []nsg.Access{nsg.Deny}},
		"and a group that is being written: a deny": {func(w *world) {
			w.azure.Locked = true
			w.azure.Edit(onWeb, func(g *nsg.Group) { g.Updating = true })
		}, "", []nsg.Access{nsg.Deny}},
		"and somebody who writes meanwhile: a deny": {func(w *world) {
			w.azure.Locked = true
			w.azure.BeforeApply = edit(w, func(g *nsg.Group) { g.Rules[0].Description = "edited" })
		}, "", []nsg.Access{nsg.Deny}},
		"a lock on every write": {func(w *world) { w.azure.ReadOnly = true }, "scope_locked", []nsg.Access{nsg.Allow}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, rule := opened(t)
			closer, err := broker.NewCloser(w.azure, rules)
			if err != nil {
				t.Fatal(err)
			}
			c.prepare(w)
			if err := closer.CloseRule(t.Context(), onWeb, rule); access.ReasonOf(err) != c.reason {
				t.Errorf("%v, want %q", err, c.reason)
			}
			var left []nsg.Access
			for _, r := range ours(w) {
				left = append(left, r.Access)
			}
			if !slices.Equal(left, c.left) {
				t.Errorf("left %v, want %v", left, c.left)
			}
			if w.azure.Look(onWeb).Rules[0].Name != "web" || len(w.azure.Look(onWeb).Rules) != 2+len(left) {
				t.Errorf("the customer's rules are not what they were: %+v", w.azure.Look(onWeb).Rules)
			}
			want := 1 // the NIC's group alone
			if c.reason != "" {
				want = 2
			}
			w.expectOpen(alice, want)
		})
	}
}

// Only a lock leads on to a write of the whole: what else fails may be over
// the next time, and a child call is the least that can go wrong.
func TestAFailureThatIsNoLockStaysAtTheFirstRung(t *testing.T) {
	w, _, rule := opened(t)
	closer, err := broker.NewCloser(w.azure, rules)
	if err != nil {
		t.Fatal(err)
	}
	w.faults.Reset()
	w.faults.FailAt = 1
	if err := closer.CloseRule(t.Context(), onWeb, rule); access.CodeOf(err) != access.Unavailable || w.faults.Calls() != 1 {
		t.Errorf("%v after %d calls", err, w.faults.Calls())
	}
	w.faults.Reset()
	customers := w.azure.Look(onWeb).Rules[0]
	if err := closer.CloseRule(t.Context(), onWeb, customers); access.ReasonOf(err) != "not_ours" || w.faults.Calls() != 0 {
		t.Errorf("a rule of the customer's: %v after %d calls", err, w.faults.Calls())
	}
}

func TestOneRuleThatCannotBeClosedDoesNotHoldUpTheNext(t *testing.T) {
	w, _, rule := opened(t)
	second := rule
	second.Name, second.Priority = rule.Name[:len(rule.Name)-1]+"x", rule.Priority+1
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules = append(g.Rules, second) })
	closer, err := broker.NewCloser(&refusing{Groups: w.azure, name: rule.Name}, rules)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := closer.CloseExpired(t.Context(), w.azure.Look(onWeb), w.now.Add(time.Hour))
	if access.ReasonOf(err) != "throttled" || !slices.Equal(closed, []string{second.Name}) {
		t.Errorf("closed %v, %v", closed, err)
	}
}

type refusing struct {
	broker.Groups
	name string
}

func (r *refusing) DeleteRule(ctx context.Context, id access.ResourceID, name string) error {
	if name == r.name {
		return access.Errorf(access.ResourceExhausted, "throttled", "not now")
	}
	return r.Groups.DeleteRule(ctx, id, name)
}

// Under a lock the doors fall shut through Reconcile, too; under one that
// forbids every write they stay due until it is gone.
func TestDoorsUnderALock(t *testing.T) {
	w, rec, _ := opened(t)
	w.azure.ReadOnly = true
	w.now = w.now.Add(time.Hour)
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err != nil {
			t.Error(err)
		}
		if h, err := w.store.Head(t.Context(), id); err != nil || !strings.HasPrefix(h.Trouble, "scope_locked") || h.DueAt.IsZero() {
			t.Errorf("nobody will come back to it, or cannot tell why: %+v, %v", h, err)
		}
	}
	w.expectOpen(alice, 2)
	if s := w.status(rec); s.Status != access.Initiated || s.Reason != access.Expired {
		t.Errorf("an honest status is open and ending: %+v", s)
	}
	w.bus.Take(w.now.Add(time.Hour)) // no message is left: Sweep alone comes back to it
	w.azure.ReadOnly, w.azure.Locked = false, true
	w.now = w.now.Add(10 * time.Minute)
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
}

// unreadable cannot read what is wanted of an NSG, beyond its head.
type unreadable struct{ broker.Baselines }

func (unreadable) Partition(context.Context, access.ResourceID) ([]access.Leg, []access.Baseline, error) {
	return nil, nil, access.Errorf(access.Internal, "record_unreadable", "a stored row cannot be read")
}

func TestWhereALegCannotBeReadRulesCloseByTheirOwnDescription(t *testing.T) {
	w := newWorld(t)
	w.shut(true)
	w.ensure()
	w.submit(ask("a", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	ports := w.reconciler.ReconcilePorts
	ports.Baselines = unreadable{w.store}
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(59 * time.Minute)
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		if err := w.store.Touch(context.Background(), id, "t", w.now); err != nil {
			t.Fatal(err)
		}
		_ = w.reconciler.Reconcile(context.Background(), id, w.now)
	}
	w.expectOpen(alice, 2)
	w.now = w.now.Add(time.Minute)
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		_ = w.reconciler.Reconcile(context.Background(), id, w.now)
	}
	w.expectOpen(alice, 0)
	w.expectDenied("on-nic 10.0.1.4:22; on-subnet 10.0.1.4:22")
	for _, id := range []access.ResourceID{onNIC, onWeb} {
		if n := len(w.azure.Look(id).Rules); n != len(w.customers[id])+1 {
			t.Errorf("%d rules", n)
		}
	}
}

// torn cannot read the file of one request.
type torn struct {
	broker.Files
	of access.RequestID
}

func (f torn) File(ctx context.Context, id access.RequestID) (access.File, error) {
	if id == f.of {
		return access.File{}, access.Errorf(access.Internal, "record_unreadable", "a stored row cannot be read")
	}
	return f.Files.File(ctx, id)
}

func TestARecordThatCannotBeReadKeepsNoOtherDoorOpen(t *testing.T) {
	w := newWorld(t)
	open := w.submit(ask("a", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	bad := w.submit(ask("b", bob, 2*time.Hour))
	ports := w.reconciler.ReconcilePorts
	ports.Files = torn{w.store, bad.ID}
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectStatus(open, access.Revoked, access.Expired)
	w.expectOpen(alice, 0)
	w.expectOpen(bob, 0)
}
