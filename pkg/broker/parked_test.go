package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// throttled refuses writes, and asks for patience.
type throttled struct {
	broker.Groups
	patience time.Duration
}

func (g throttled) Apply(context.Context, nsg.Group, nsg.Plan) error {
	return &access.Error{Code: access.ResourceExhausted, Reason: "throttled", Message: "too many requests", RetryAfter: g.patience}
}

// An NSG that was left for later is not deaf: the delayed close of another grant
// comes in between, and finds Resource Manager well.
func TestADelayedCloseIsHeardWhileTheNSGIsLeftForLater(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, 10*time.Minute))
	w.submit(ask("2", bob, 12*time.Minute))
	w.deliver()
	w.now = w.now.Add(10 * time.Minute)
	ports := w.reconciler.ReconcilePorts
	ports.Groups = throttled{w.azure, time.Hour}
	refused, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.bus.Take(w.now) {
		if err := refused.Reconcile(t.Context(), p.NSG, p.At); err != nil {
			t.Fatal(err)
		}
	}
	w.expectOpen(alice, 2)
	w.now = w.now.Add(2 * time.Minute)
	w.deliver()
	w.expectOpen(bob, 0)
	w.expectOpen(alice, 0)
	w.expectShut()
}

// The delayed close comes for a grant of which the record has lost all traces.
func TestADelayedCloseShutsWhatALostPartitionToldOf(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, 10*time.Minute))
	w.deliver()
	w.store.LoseLedger()
	w.now = w.now.Add(10 * time.Minute)
	w.deliver()
	w.expectOpen(alice, 0)
	w.expectShut()
}
