package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// paused is a writer that stands still before its write, and dies after it.
type paused struct {
	broker.Groups
	on        access.ResourceID
	meanwhile func()
	dies      func()
}

func (p *paused) Apply(ctx context.Context, g nsg.Group, plan nsg.Plan) error {
	if g.ID != p.on || p.meanwhile == nil {
		return p.Groups.Apply(ctx, g, plan)
	}
	p.meanwhile()
	err := p.Groups.Apply(ctx, g, plan)
	p.dies()
	return err
}

func TestADoorThatAPausedWriterOpensIsNotLeftToScan(t *testing.T) {
	for name, end := range map[string]func(*world, access.Record) error{
		"lockdown": func(w *world, _ access.Record) error {
			_, err := w.lockdown.On(context.Background(), admin, "incident")
			return err
		},
		"revocation": func(w *world, rec access.Record) error {
			_, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{})
			return err
		},
	} {
		w := newWorld(t)
		rec := w.request(anna, wants("1", alice, 3*time.Hour))
		w.bus.Take(w.now) // those that ask for the opening
		ports := w.reconciler.ReconcilePorts
		ports.Groups = &paused{w.azure, onNIC, func() {
			if err := end(w, rec); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectShut()
		}, func() { w.faults.FailAt = 1 }}
		slow, err := broker.NewReconciler(ports, rules)
		if err != nil {
			t.Fatal(err)
		}
		_ = slow.Reconcile(context.Background(), onNIC, w.now) // it dies
		w.faults.Reset()
		if len(w.open(alice)) == 0 {
			t.Fatalf("%s: the paused writer wrote nothing", name)
		}
		for range 10 {
			w.now = w.now.Add(time.Minute)
			if err := w.sweeper.Sweep(context.Background()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
		}
		if n := len(w.open(alice)); n > 0 {
			t.Errorf("%s: it is still open after 10 minutes", name)
		}
	}
}
