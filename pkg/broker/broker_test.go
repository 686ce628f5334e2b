package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

func TestADoorOpensOnItsWholePathAndFallsShut(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.expectStatus(rec, access.Initiating, "")
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")
	w.expectOpen(alice, 2)
	w.expectOpen(bob, 0)

	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectOpen(alice, 0)
	w.expectShut()
	if w.azure.Writes != 4 {
		t.Errorf("%d writes, want one to open and one to close per group", w.azure.Writes)
	}
	kinds := w.store.Kinds(string(rec.ID))
	for kind, want := range map[access.EventKind]int{access.EventRequested: 1, access.EventOpened: 2, access.EventClosing: 2, access.EventClosed: 2} {
		if kinds[kind] != want {
			t.Errorf("%d events %s, want %d", kinds[kind], kind, want)
		}
	}
}

func TestAPromptWithNothingToDoCostsOneRead(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.faults.Reset()
	if err := w.reconciler.Reconcile(t.Context(), onWeb, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n := w.faults.Calls(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// TestCutOffAnywhere cuts Submit and what follows off at every call, before and
// after its effect, and expects the redelivery and Sweep to end the same.
func TestCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.faults.FailAt, w.faults.After = at, after
				_, err := w.submitter.Submit(context.Background(), ask("1", alice, time.Hour))
				for _, p := range w.bus.Take(w.now) {
					_ = w.reconciler.Reconcile(context.Background(), p.NSG, time.Time{}) // may be cut off
				}
				done = w.faults.Calls() < at
				if w.faults.Reset(); err != nil && access.CodeOf(err) != access.Unavailable {
					t.Fatalf("cut at %d: %v", at, err)
				}
				if len(w.open(alice)) > 0 && len(w.bus.Take(w.now.Add(2*time.Hour))) == 0 && !done {
					t.Fatalf("cut at %d: open without a close on its way", at)
				}
				rec := w.submit(ask("1", alice, time.Hour))
				for range 3 {
					w.now = w.now.Add(time.Minute)
					if err := w.sweeper.Sweep(context.Background()); err != nil {
						t.Fatal(err)
					}
					w.deliver()
				}
				w.expectStatus(rec, access.Initiated, "")
				w.expectOpen(alice, 2)
				w.now = w.now.Add(time.Hour)
				if err := w.sweeper.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
				w.deliver()
				w.expectStatus(rec, access.Revoked, access.Expired)
				w.expectShut()
			})
			if done {
				break
			}
		}
	}
}

func TestTheEndOfOneGrantLeavesTheOther(t *testing.T) {
	w := newWorld(t)
	first := w.submit(ask("1", alice, time.Hour))
	second := w.submit(ask("2", bob, 2*time.Hour))
	same := w.submit(ask("3", alice, 2*time.Hour))
	w.deliver()
	if n := len(w.azure.Look(onWeb).Rules); n != 3 {
		t.Errorf("%d rules, want one of ours for the one door", n)
	}
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectStatus(first, access.Revoked, access.Expired)
	w.expectStatus(second, access.Initiated, "")
	w.expectStatus(same, access.Initiated, "")
	w.expectOpen(alice, 2)
	w.expectOpen(bob, 2)
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectShut()
}

func TestTheSameIDAgain(t *testing.T) {
	w := newWorld(t)
	first := w.submit(ask("1", alice, time.Hour))
	w.now = w.now.Add(10 * time.Minute)
	if again := w.submit(ask("1", alice, time.Hour)); again.ID != first.ID || !again.Grants[0].EndTime.Equal(first.Grants[0].EndTime) {
		t.Errorf("the repeat was decided anew: %+v", again)
	}
	_, err := w.submitter.Submit(t.Context(), ask("1", bob, time.Hour))
	if access.ReasonOf(err) != "id_conflict" {
		t.Errorf("another body under the id: %v", err)
	}
}

func TestARefusalIsRecordedAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		_, err := w.submitter.Submit(t.Context(), ask("1", "198.51.100.9", time.Hour))
		if access.CodeOf(err) != access.PermissionDenied || access.ReasonOf(err) != "source_outside_policy" {
			t.Fatalf("%v", err)
		}
	}
	id := access.NewRequestID(ask("1", alice, 0).RequestedBy, "1")
	if n := w.store.Kinds(string(id))[access.EventRefused]; n != 1 {
		t.Errorf("%d refusals recorded, want 1", n)
	}
	if got := w.bus.Take(w.now.Add(24 * time.Hour)); len(got) != 0 {
		t.Errorf("a refusal prompted %v", got)
	}
	w.expectShut()
}

func TestPathsThatCannotBeOpenedAreRefused(t *testing.T) {
	for reason, spoil := range map[string]func(*world){
		"vm_not_found": func(w *world) { delete(w.azure.Machines, vm) },
		"no_nsg_on_path": func(w *world) {
			m := machine("u")
			m.NICs[0].NSG, m.NICs[0].Addresses[0].SubnetNSG = "", ""
			w.azure.Machines[vm] = m
		},
		"ambiguous_destination": func(w *world) {
			m := machine("u")
			m.NICs[0].Addresses[0].AmbiguousOn = onWeb
			w.azure.Machines[vm] = m
		},
		"not_permitted": func(w *world) { w.store.Policies = nil },
	} {
		w := newWorld(t)
		spoil(w)
		if _, err := w.submitter.Submit(t.Context(), ask("1", alice, time.Hour)); access.ReasonOf(err) != reason {
			t.Errorf("%v, want %s", err, reason)
		}
	}
}

func TestWhatSomebodyRemovedIsNotReopened(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
	if err := w.scanner.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectOpen(alice, 0)
	w.expectStatus(rec, access.Revoked, access.RemovedExternally)
	w.expectShut()
}

func TestAnotherMachineBehindTheAddressClosesTheDoor(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.azure.Machines[vm] = machine("another")
	if err := w.scanner.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.TargetChanged)
	w.expectShut()

	late := w.submit(ask("2", alice, time.Hour))
	w.azure.Machines[vm] = machine("yet another")
	w.deliver()
	w.expectStatus(late, access.Failed, access.TargetChanged)
	w.expectShut()
}

func TestALateWriterCannotBringBackAnEndedLeg(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) })
	if err := w.scanner.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	if err := w.submitter.Resume(t.Context(), rec); err != nil { // paused all the while
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.RemovedExternally)
	w.expectShut()
}

func TestWithoutTheLedgerDoorsCloseByTheirOwnDescription(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.store.Down = true
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err == nil {
			t.Fatal("a reconcile without its ledger did not fail")
		}
	}
	w.expectOpen(alice, 2) // not yet due
	// The clock stands still; the broker's time alone says that it is due.
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		if err := w.reconciler.Reconcile(t.Context(), id, w.now.Add(time.Hour)); err == nil {
			t.Fatal("a reconcile without its ledger did not fail")
		}
	}
	w.expectShut()
}

func TestACustomerWritingMeanwhileIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	once := true
	w.azure.BeforeApply = func() {
		if once {
			once = false
			w.azure.Edit(onNIC, func(g *nsg.Group) { g.Rules[0].Description = "edited" })
			w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules[0].Description = "edited" })
		}
	}
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")
	if w.azure.Look(onWeb).Rules[0].Description != "edited" {
		t.Error("the customer's edit is lost")
	}
}

func TestADenyOfTheCustomersIsNamedAndFailsTheGrantInTime(t *testing.T) {
	w := newWorld(t)
	block := nsg.Rule{Name: "block", Priority: 100, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"203.0.113.0/24"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"*"}}
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules = append(g.Rules, block) })
	w.customers[onWeb] = w.azure.Look(onWeb).Rules
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.expectStatus(rec, access.Initiating, "")
	if s := w.status(rec); !strings.Contains(s.BlockedBy, "block (priority 100)") {
		t.Errorf("blocked by %q", s.BlockedBy)
	}
	w.now = w.now.Add(15 * time.Minute)
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Failed, access.NotOpenedInTime)
	w.expectShut()
}

func TestALossyGroupOpensNothingAndStillCloses(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		w.azure.Edit(id, func(g *nsg.Group) { g.Loss = "properties.future" })
	}
	second := w.submit(ask("2", bob, 2*time.Hour))
	w.now = w.now.Add(time.Hour)
	writes := w.azure.Writes
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectOpen(bob, 0)
	if s := w.status(second); s.Status == access.Initiated || w.azure.Writes != writes {
		t.Errorf("a lossy group was written: %+v", s)
	}
	w.expectShut()
}

// TestNoLegWithoutItsCloseOnTheWay cuts Submit off at every call: from the
// moment a leg is written anybody may open it, so its close is scheduled before.
func TestNoLegWithoutItsCloseOnTheWay(t *testing.T) {
	seen := 0
	for at := 1; at < 30; at++ {
		w := newWorld(t)
		w.faults.FailAt, w.faults.After = at, true
		_, err := w.submitter.Submit(context.Background(), ask("1", alice, time.Hour))
		w.faults.Reset()
		sent := w.bus.Take(w.now.Add(time.Hour))
		for _, id := range []access.ResourceID{onNIC, onWeb} {
			legs, legErr := w.store.Legs(context.Background(), id)
			if legErr != nil {
				t.Fatal(legErr)
			}
			for _, l := range legs {
				seen++
				if !slices.ContainsFunc(sent, func(p brokertest.Prompted) bool { return p.NSG == id && p.At.Equal(l.EndTime) }) {
					t.Errorf("cut at %d: a leg on %s and no close scheduled", at, id.Name())
				}
			}
		}
		if err == nil {
			break
		}
	}
	if seen == 0 {
		t.Error("no cut left a leg behind: the test proves nothing")
	}
}
