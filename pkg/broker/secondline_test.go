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

// Somebody whose clock is ahead has acted by it: who comes after them does not
// turn the time back.
func TestTheClockNeverRunsBehindWhatWasActedBy(t *testing.T) {
	w, rec, _ := opened(t)
	w.now = w.now.Add(time.Hour - 5*time.Second)
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		h, err := w.store.Head(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		h.AsOf, h.Wanted = w.now.Add(6*time.Second), "another"
		if _, err := w.store.SaveHead(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
}

// overtaken is written by the customer right after each whole write.
type overtaken struct {
	broker.Groups
	edit func(id access.ResourceID)
}

func (g overtaken) Apply(ctx context.Context, group nsg.Group, plan nsg.Plan) error {
	err := g.Groups.Apply(ctx, group, plan)
	g.edit(group.ID)
	return err
}

func TestWhatWasWrittenIsReadBackBeforeItCountsAsOpen(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	ports := w.reconciler.ReconcilePorts
	ports.Groups = overtaken{w.azure, func(id access.ResourceID) {
		w.azure.Edit(id, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
	}}
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.bus.Take(w.now) {
		if err := w.reconciler.Reconcile(t.Context(), p.NSG, p.At); err != nil {
			t.Fatal(err)
		}
	}
	w.expectOpen(alice, 0)
	w.expectStatus(rec, access.Initiating, "")
}

// latelyLaid lets others go on before legs are added on one NSG.
type latelyLaid struct {
	broker.Ledger
	on        access.ResourceID
	meanwhile func()
}

func (l latelyLaid) AddLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	if id == l.on {
		l.meanwhile()
	}
	return l.Ledger.AddLegs(ctx, id, legs, token, due)
}

// A grant's first leg ends before its second is written: that one does not open.
func TestALegThatComesAfterItsSiblingHasEndedDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	ports := w.submitter.SubmitPorts
	ports.Ledger = latelyLaid{w.store, onWeb, func() {
		if err := w.reconciler.Reconcile(t.Context(), onNIC, time.Time{}); err != nil {
			t.Fatal(err)
		}
		w.azure.Edit(onNIC, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
		if err := w.scanner.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
	}}
	slow, err := broker.NewSubmitter(ports, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := slow.Submit(t.Context(), ask("1", alice, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectOpen(alice, 0)
	if s := w.status(rec); s.Reason != access.RemovedExternally {
		t.Errorf("%+v", s)
	}
	w.expectShut()
}
