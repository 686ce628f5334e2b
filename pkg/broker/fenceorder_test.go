package broker_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// between lets others go on between a reconcile's reads of the group and of its
// legs, whichever comes first.
type between struct {
	broker.Groups
	broker.Baselines
	meanwhile func()
	// written runs after each write of a whole group.
	written func()
}

func (b *between) pause() {
	if do := b.meanwhile; do != nil {
		b.meanwhile = nil
		do()
	}
}

func (b *between) Group(ctx context.Context, id access.ResourceID) (nsg.Group, error) {
	g, err := b.Groups.Group(ctx, id)
	b.pause()
	return g, err
}

func (b *between) Partition(ctx context.Context, id access.ResourceID) ([]access.Leg, []access.Baseline, error) {
	legs, rows, err := b.Baselines.Partition(ctx, id)
	b.pause()
	return legs, rows, err
}

func (b *between) Apply(ctx context.Context, g nsg.Group, plan nsg.Plan) error {
	err := b.Groups.Apply(ctx, g, plan)
	b.written()
	return err
}

// The customer deploys an infrastructure in which our rules are not, twice, and in
// between the grant is given back. Who would put its rule back must have read the
// group before the legs: read after them, it is the second one, under whose version
// the rule of a grant that is over would be written.
func TestLegsThatWereReadBeforeTheGroupPutNothingBack(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.store.Policies[0].Baseline = &yes
	if err := w.enabler.Ensure(t.Context(), vm.Subscription()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	redeploy := func() {
		for _, id := range []access.ResourceID{onWeb, onNIC} {
			w.azure.Edit(id, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
		}
	}
	redeploy()
	ports := w.reconciler.ReconcilePorts
	slow := &between{Groups: w.azure, Baselines: w.store, meanwhile: func() {
		if _, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}); err != nil {
			t.Fatal(err)
		}
		w.deliver()
		w.expectStatus(rec, access.Revoked, access.UserRequested)
		redeploy()
	}, written: func() { w.expectOpen(alice, 0) }}
	ports.Groups, ports.Baselines = slow, slow
	late, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Touch(t.Context(), onWeb, "another", w.now); err != nil {
		t.Fatal(err)
	}
	if err := late.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectOpen(alice, 0)
}

// A Submit that was cut off is repeated after its grant has ended, and lays the
// legs again: they are taken away, and nothing is said of them a second time.
func TestALegThatIsLaidAgainAfterItsEndIsNotToldOfAgain(t *testing.T) {
	w, rec, _ := opened(t)
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	before := w.store.Kinds(string(rec.ID))
	for _, l := range rec.Legs() {
		if err := w.store.AddLegs(t.Context(), l.NSG, []access.Leg{l}, "again", w.now); err != nil {
			t.Fatal(err)
		}
		if err := w.reconciler.Reconcile(t.Context(), l.NSG, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if legs, err := w.store.Legs(t.Context(), l.NSG); err != nil || len(legs) > 0 {
			t.Errorf("%d legs are left, %v", len(legs), err)
		}
	}
	w.expectStatus(rec, access.Revoked, access.Expired)
	if after := w.store.Kinds(string(rec.ID)); !maps.Equal(before, after) {
		t.Errorf("told before: %v, now: %v", before, after)
	}
	w.expectShut()
}

// Somebody puts our rule back right after it was removed, from a template that holds
// it: the grant has not ended as long as that is read.
func TestWhatIsStillThereAfterTheWriteHasNotEnded(t *testing.T) {
	w, rec, _ := opened(t)
	was := map[access.ResourceID][]nsg.Rule{onWeb: w.azure.Look(onWeb).Rules, onNIC: w.azure.Look(onNIC).Rules}
	w.now = w.now.Add(time.Hour)
	ports := w.reconciler.ReconcilePorts
	ports.Groups = overtaken{w.azure, func(id access.ResourceID) {
		if back := was[id]; back != nil {
			delete(was, id)
			w.azure.Edit(id, func(g *nsg.Group) { g.Rules = back })
		}
	}}
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	if len(was) > 0 {
		t.Fatalf("nothing was written to %d groups", len(was))
	}
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
}

// One deployment replaces the machine and takes our rules away: what was open is put
// back for the machine that it was granted for, and for no other.
func TestNothingIsPutBackForAnotherMachine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		fails  bool
		open   int
		reason access.StatusReason
	}{
		"the same":          {func(*world) {}, false, 2, ""},
		"another":           {func(w *world) { w.azure.Machines[vm] = machine("unique-2") }, false, 0, access.TargetChanged},
		"none":              {func(w *world) { delete(w.azure.Machines, vm) }, false, 0, access.TargetChanged},
		"it cannot be read": {func(*world) {}, true, 0, access.RemovedExternally},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			yes := true
			w.store.Policies[0].Baseline = &yes
			if err := w.enabler.Ensure(t.Context(), vm.Subscription()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			rec := w.request(anna, wants("1", alice, time.Hour))
			w.deliver()
			w.expectOpen(alice, 2)
			c.change(w)
			ports := w.reconciler.ReconcilePorts
			if c.fails {
				ports.Machines = unreadableMachines{}
			}
			late, err := broker.NewReconciler(ports, rules)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []access.ResourceID{onWeb, onNIC} {
				w.azure.Edit(id, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
				if err := w.store.Touch(t.Context(), id, "another", w.now); err != nil {
					t.Fatal(err)
				}
				if err := late.Reconcile(t.Context(), id, time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			w.expectOpen(alice, c.open)
			w.now = w.now.Add(time.Minute)
			if err := w.sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectOpen(alice, c.open)
			if c.reason == "" {
				w.expectStatus(rec, access.Initiated, "")
			} else {
				w.expectStatus(rec, access.Revoked, c.reason)
			}
		})
	}
}

type unreadableMachines struct{}

func (unreadableMachines) Machine(context.Context, access.ResourceID, time.Time) (broker.Machine, error) {
	return broker.Machine{}, access.Errorf(access.Unavailable, "unreadable", "it cannot be read now")
}
