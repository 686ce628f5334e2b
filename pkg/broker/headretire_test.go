package broker_test

import (
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// scanAlone scans, and delivers nothing that it asks for.
func (w *world) scanAlone() {
	w.t.Helper()
	if err := w.scanner.Scan(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// heads gives the NSGs that have a head.
func (w *world) heads() map[access.ResourceID]broker.Head {
	w.t.Helper()
	all, err := w.store.All(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[access.ResourceID]broker.Head{}
	for _, h := range all {
		out[h.NSG] = h
	}
	return out
}

// unused lives through a grant that has ended, and lets the retention pass.
func unused(t *testing.T) *world {
	w := newWorld(t)
	w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.now = w.now.Add(2 * time.Hour)
	w.deliver()
	w.sweep(3)
	w.expectShut()
	w.now = w.now.Add(broker.DefaultRetention - time.Hour)
	w.scanAlone()
	if n := len(w.heads()); n != 2 {
		t.Fatalf("%d heads before the retention is over", n)
	}
	w.now = w.now.Add(2 * time.Hour)
	return w
}

func TestTheHeadsOfGroupsThatAreNotUsedGo(t *testing.T) {
	w := unused(t)
	w.azure.Remove(onNIC) // gone from Resource Manager, which changes nothing
	w.scanAlone()
	if left := w.heads(); len(left) > 0 {
		t.Fatalf("%+v", left)
	}
	w.scanAlone()
	// A delayed close that comes after all finds nothing to do, and nothing opens.
	if err := w.reconciler.Reconcile(t.Context(), onWeb, w.now); err != nil {
		t.Fatal(err)
	}
	if open := w.open(alice); len(open) > 0 {
		t.Errorf("open on %v", open)
	}
	w.scanAlone()
	if h := w.heads()[onWeb]; h.Wanted != h.Done || !h.DueAt.IsZero() || h.Trouble != "" {
		t.Errorf("%+v", h)
	}
}

func TestAGroupWhoseHeadIsGoneIsUsedAgain(t *testing.T) {
	w := unused(t)
	w.scanAlone()
	w.submit(ask("2", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	w.now = w.now.Add(2 * time.Hour)
	w.deliver()
	w.expectShut()
}

// TestAHeadThatIsNeededStays changes one thing about the head of a group that was not
// used for long.
func TestAHeadThatIsNeededStays(t *testing.T) {
	for name, change := range map[string]func(*broker.Head){
		"somebody wants something": func(h *broker.Head) { h.Wanted = "x" },
		"it is due":                func(h *broker.Head) { h.DueAt = h.AsOf.Add(broker.DefaultRetention * 2) },
		"it is in trouble":         func(h *broker.Head) { h.Trouble = "some" },
		"a clock was ahead":        func(h *broker.Head) { h.AsOf = h.AsOf.Add(broker.DefaultRetention) },
	} {
		t.Run(name, func(t *testing.T) {
			w := unused(t)
			now := w.now
			w.now = w.now.Add(-broker.DefaultRetention - time.Minute) // written long ago
			h := w.heads()[onWeb]
			change(&h)
			if _, err := w.store.SaveHead(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			w.now = now
			w.scanAlone()
			if left := w.heads(); len(left) != 1 || left[onWeb].NSG == "" {
				t.Errorf("%+v", left)
			}
		})
	}
	t.Run("it was written not long ago", func(t *testing.T) {
		w := unused(t)
		if _, err := w.store.SaveHead(t.Context(), w.heads()[onWeb]); err != nil {
			t.Fatal(err)
		}
		w.scanAlone()
		if left := w.heads(); len(left) != 1 || left[onWeb].NSG == "" {
			t.Errorf("%+v", left)
		}
	})
	t.Run("there is a baseline", func(t *testing.T) {
		w := newWorld(t)
		w.shut(true)
		w.ensure()
		w.now = w.now.Add(2 * broker.DefaultRetention)
		w.scanAlone()
		if len(w.heads()) != 2 {
			t.Errorf("%+v", w.heads())
		}
	})
}

// TestARequestBesideAScanThatForgetsTheHead asks before any call of a scan.
func TestARequestBesideAScanThatForgetsTheHead(t *testing.T) {
	for at := 1; ; at++ {
		w := unused(t)
		w.faults.Reset()
		w.faults.Before = func(n int) {
			if n == at {
				w.faults.Before = nil
				w.submit(ask("2", alice, time.Hour))
			}
		}
		w.scanAlone()
		if w.faults.Before != nil {
			if at < 6 {
				t.Errorf("%d calls", at)
			}
			return
		}
		w.bus.Take(w.now) // every prompt is lost
		w.sweep(4)
		w.expectOpen(alice, 2)
		w.now = w.now.Add(2 * time.Hour)
		w.bus.Take(w.now)
		w.sweep(4)
		w.expectShut()
	}
}
