package broker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// lateReader pauses once after it has read a group.
type lateReader struct {
	broker.Groups
	on        access.ResourceID
	meanwhile func()
}

func (r *lateReader) Group(ctx context.Context, id access.ResourceID) (nsg.Group, error) {
	g, err := r.Groups.Group(ctx, id)
	if do := r.meanwhile; do != nil && id == r.on {
		r.meanwhile = nil
		do()
	}
	return g, err
}

// Who read the group before a door opened and the legs after it finds no rule
// for an open leg. Nobody has removed it, and the door is not to be forgotten.
func TestADoorThatOpensBetweenTwoReadsIsNotTakenForRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*world)
		status    access.Status
		reason    access.StatusReason
		open      int
	}{
		"opened":             {func(w *world) { w.deliver() }, access.Initiated, "", 2},
		"opened and expired": {func(w *world) { w.deliver(); w.now = w.now.Add(time.Hour) }, access.Revoked, access.Expired, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rec := w.submit(ask("1", alice, time.Hour))
			ports := w.reconciler.ReconcilePorts
			ports.Groups = &lateReader{w.azure, onWeb, func() { c.meanwhile(w) }}
			slow, err := broker.NewReconciler(ports, rules)
			if err != nil {
				t.Fatal(err)
			}
			if err := slow.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectStatus(rec, c.status, c.reason)
			w.expectOpen(alice, c.open)
		})
	}
}

// lateTeller pauses once before it writes an event.
type lateTeller struct {
	broker.Events
	meanwhile func()
}

func (l *lateTeller) Append(ctx context.Context, events []access.Event) error {
	if do := l.meanwhile; do != nil {
		l.meanwhile = nil
		do()
	}
	return l.Events.Append(ctx, events)
}

// A reconcile has confirmed the machine and written the rule, and pauses before it
// records that the door is open. The machine changes, and a scan comes by: it is
// the last one for a quarter of an hour.
func TestAScanFindsAChangedMachineBehindADoorThatIsNotRecordedAsOpenYet(t *testing.T) {
	w := newWorld(t)
	alone := func(unique string) {
		m := machine(unique)
		m.NICs[0].NSG = ""
		w.azure.Machines[vm] = m
	}
	alone("unique-1")
	rec := w.submit(ask("1", alice, 3*time.Hour))
	ports := w.reconciler.ReconcilePorts
	ports.Events = &lateTeller{w.store, func() {
		w.expectOpen(alice, 1)
		alone("unique-2")
		if err := w.scanner.Scan(t.Context()); err != nil {
			t.Error(err)
		}
	}}
	slow, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Failed, access.TargetChanged)
	w.expectShut()
}

// The lockdown has told every NSG, and the reconciles that were to close cannot
// read it: that is not done with.
func TestAnOpenDoorOutlivesNoLockdownThatCouldNotBeRead(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, 3*time.Hour))
	w.deliver()
	w.lock("incident")
	ports := w.reconciler.ReconcilePorts
	ports.Lockdowns = blind{w.store}
	unlucky, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.bus.Take(w.now) {
		if err := unlucky.Reconcile(t.Context(), p.NSG, p.At); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.now = w.now.Add(time.Minute)
		if err := w.sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
	}
	w.expectStatus(rec, access.Revoked, access.LockedDown)
	w.expectShut()
}

// A redeploy of the infrastructure takes all our rules away in a lockdown which
// cannot be read: what is live then is not put back.
func TestNothingIsPutBackWhileNobodyCanTellOfALockdown(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.store.Policies[0].Baseline = &yes
	if err := w.enabler.Ensure(t.Context(), vm.Subscription()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	w.lock("incident")
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		w.azure.Edit(id, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
	}
	seeing, ports := w.reconciler, w.reconciler.ReconcilePorts
	ports.Lockdowns = blind{w.store}
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectOpen(alice, 0)
	w.expectStatus(rec, access.Initiated, "")
	w.reconciler = seeing
	w.now = w.now.Add(time.Minute)
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.LockedDown)
	w.expectOpen(alice, 0)
}

// outpaced lets others go on before it changes legs for the first time.
type outpaced struct {
	broker.LegWriter
	meanwhile func()
}

func (l *outpaced) UpdateLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	if do := l.meanwhile; do != nil {
		l.meanwhile = nil
		do()
	}
	return l.LegWriter.UpdateLegs(ctx, id, legs)
}

// While a reconcile records the end of one grant, another that it is about to
// open is given back: that is not written over.
func TestARevocationBesideTheEndOfAnotherGrantIsNotWrittenOver(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, 10*time.Minute))
	w.deliver()
	w.now = w.now.Add(10 * time.Minute)
	rec := w.request(anna, wants("2", bob, time.Hour))
	ports := w.reconciler.ReconcilePorts
	ports.Legs = &outpaced{w.store, func() {
		if _, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}); err != nil {
			t.Fatal(err)
		}
	}}
	slow, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if open := w.open(bob); slices.Contains(open, onWeb) {
		t.Errorf("it is left open by %v", open)
	}
	w.deliver()
	w.expectOpen(bob, 0)
	w.expectStatus(rec, access.Revoked, access.UserRequested)
	w.expectShut()
}
