package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// logged lets the scanner and the reconciler write to a log that the test reads.
func (w *world) logged() *strings.Builder {
	w.t.Helper()
	var log strings.Builder
	to := slog.New(slog.NewTextHandler(&log, nil))
	w.again(func(p *broker.ReconcilePorts) { p.Log = to })
	ports := w.scanner.ScanPorts
	ports.Log = to
	var err error
	if w.scanner, err = broker.NewScanner(ports, rules); err != nil {
		w.t.Fatal(err)
	}
	return &log
}

// again makes the reconciler anew over other ports.
func (w *world) again(change func(*broker.ReconcilePorts)) {
	w.t.Helper()
	ports := w.reconciler.ReconcilePorts
	change(&ports)
	var err error
	if w.reconciler, err = broker.NewReconciler(ports, rules); err != nil {
		w.t.Fatal(err)
	}
}

// doors opens n doors on both groups: ports of one machine, from 23 on.
func (w *world) doors(n int, d time.Duration) (recs []access.Record) {
	w.t.Helper()
	w.limit(100, 100)
	before := w.ours()
	for i := range n {
		port := w.store.Policies[0].Ports[0]
		port.Number += uint16(i) + 1
		w.store.Policies[0].Ports = append(w.store.Policies[0].Ports, port)
		req := ask(fmt.Sprint(i), alice, d)
		req.Ports[0].Port = port.Number
		recs = append(recs, w.submit(req))
	}
	w.deliver()
	if got := w.ours() - before; got != 2*n {
		w.t.Fatalf("%d doors of %d", got, 2*n)
	}
	return recs
}

// ours counts the rules of ours on both groups.
func (w *world) ours() (n int) {
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		for _, r := range w.azure.Look(id).Rules {
			if rules.Owns(r) {
				n++
			}
		}
	}
	return n
}

func (w *world) scan() {
	w.t.Helper()
	if err := w.scanner.Scan(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.deliver()
}

// TestALostRecordIsRestoredFromTheRequests: doors of which the record of the NSGs
// has lost all traces stay open without a break, as the requests account for them,
// and end as they would have; many are an alarm.
func TestALostRecordIsRestoredFromTheRequests(t *testing.T) {
	for _, c := range []struct {
		doors int
		alarm bool
	}{{10, false}, {11, true}} { // each on two groups
		w := newWorld(t)
		log := w.logged()
		recs := w.doors(c.doors, time.Hour)
		w.now = w.now.Add(20 * time.Minute)
		opened := w.status(recs[0]).OpenedAt
		w.store.LoseLedger()
		w.faults.Before = func(int) {
			if n := w.ours(); n != 2*c.doors {
				t.Fatalf("%d doors of %d", n, 2*c.doors)
			}
		}
		w.scan()
		w.faults.Before = nil
		for _, rec := range recs {
			w.expectStatus(rec, access.Initiated, "")
			if k := w.store.Kinds(string(rec.ID)); k[access.EventRestored] != 2 || k[access.EventOpened] != 2 || k[access.EventClosing] != 0 {
				t.Fatalf("%v", k)
			}
		}
		if at := w.status(recs[0]).OpenedAt; !at.Equal(opened) {
			t.Errorf("opened at %v, and was at %v", at, opened)
		}
		if n := w.store.Kinds(string(onWeb))[access.EventRuleRemoved]; n != 0 {
			t.Errorf("%d removals recorded", n)
		}
		if got := strings.Contains(log.String(), "alarm=bulk_removal doors=22"); got != c.alarm {
			t.Errorf("%d doors: %s", c.doors, log)
		}
		w.now = w.now.Add(40 * time.Minute)
		w.deliver()
		w.expectShut()
		w.expectStatus(recs[0], access.Revoked, access.Expired)
	}
}

// TestWhatIsOverIsNotRestored: where anything speaks against a grant, its lost door
// is shut, and stays shut.
func TestWhatIsOverIsNotRestored(t *testing.T) {
	giveBack := func(w *world, rec access.Record) {
		if _, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		before, after func(w *world, rec access.Record) // the loss
		reason        access.StatusReason
	}{
		"revoked":            {nil, giveBack, access.UserRequested},
		"the policy is gone": {nil, func(w *world, _ access.Record) { w.store.Policies = nil }, access.PolicyChanged},
		"another machine":    {nil, func(w *world, _ access.Record) { w.azure.Machines[vm] = machine("unique-2") }, access.TargetChanged},
		"locked down":        {nil, func(w *world, _ access.Record) { w.lock("an attack") }, ""},
		"its time is over":   {nil, func(w *world, _ access.Record) { w.now = w.now.Add(time.Hour) }, access.Expired},
		"ended, and opened late by somebody who stood still": {func(w *world, rec access.Record) {
			stood := w.rules()
			giveBack(w, rec)
			w.deliver()
			w.expectShut()
			for id, r := range stood {
				w.azure.Edit(id, func(g *nsg.Group) { g.Rules = slices.Clone(r) })
			}
		}, nil, access.UserRequested},
		"it opens no other rule": {nil, func(w *world, _ access.Record) {
			for id := range w.rules() {
				w.azure.Edit(id, func(g *nsg.Group) {
					g.Rules = slices.Clone(g.Rules)
					g.Rules[slices.IndexFunc(g.Rules, rules.Owns)].Sources = []string{bob}
				})
			}
			w.now = w.now.Add(20 * time.Minute)
		}, access.RemovedExternally},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, time.Hour))
			w.deliver()
			w.expectOpen(alice, 2)
			if c.before != nil {
				c.before(w, rec)
			}
			w.store.LoseLedger()
			if c.after != nil {
				c.after(w, rec)
			}
			w.scan()
			w.expectShut()
			if c.reason != "" {
				if s := w.status(rec); s.Status != access.Revoked && c.reason != access.Expired || s.Reason != c.reason || s.EndedAt.IsZero() {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestRulesThatNobodyRecordedAreRemoved: a fail-over has lost the request with all
// that was made of it, or somebody has made rules with our prefix.
func TestRulesThatNobodyRecordedAreRemoved(t *testing.T) {
	for _, n := range []int{1, 30} {
		w := newWorld(t)
		lose := w.store.Snapshot()
		w.doors(n, time.Hour)
		lose()
		w.scan()
		w.expectShut()
		if got := w.store.Kinds(string(onWeb))[access.EventRuleRemoved]; got != n {
			t.Errorf("%d removals recorded, want %d", got, n)
		}
	}
}

// TestARestoreCutOffAnywhere: whatever is cut off, in the end the door is open and
// on record as open, or shut and on record as ended; and it never came back.
func TestARestoreCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, time.Hour))
			w.deliver()
			w.now = w.now.Add(20 * time.Minute)
			w.store.LoseLedger()
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = n, after
			shut := map[access.ResourceID]bool{}
			w.faults.Before = func(int) {
				for _, id := range []access.ResourceID{onNIC, onWeb} {
					if open := slices.Contains(w.open(alice), id); !open {
						shut[id] = true
					} else if shut[id] {
						t.Fatalf("cut off at call %d: it came back on %s", n, id.Name())
					}
				}
			}
			err := w.scanner.Scan(t.Context())
			for _, id := range []access.ResourceID{onWeb, onNIC} {
				err = errors.Join(err, w.reconciler.Reconcile(t.Context(), id, time.Time{}))
			}
			calls := w.faults.Calls()
			w.faults.Reset()
			for range 3 {
				w.now = w.now.Add(time.Minute)
				w.scan()
				if err := w.sweeper.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.deliver()
			}
			switch s := w.status(rec); {
			case s.Status == access.Initiated && s.Reason == "":
				w.expectOpen(alice, 2)
			case s.Status == access.Revoked && s.Reason == access.RemovedExternally && !s.EndedAt.IsZero():
				w.expectShut()
			default:
				t.Fatalf("cut off at call %d: %+v", n, s)
			}
			if calls < n {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
}

// TestARestoredDoorWaitsToBeConfirmed: while it cannot be read whether its policy
// still allows it, it neither breaks nor counts as open again; and not for ever.
func TestARestoredDoorWaitsToBeConfirmed(t *testing.T) {
	for _, readable := range []bool{true, false} {
		w := newWorld(t)
		rec := w.request(anna, wants("1", alice, time.Hour))
		w.deliver()
		seeing := w.reconciler
		w.again(func(p *broker.ReconcilePorts) { p.Policies = noPolicies{} })
		w.store.LoseLedger()
		w.scan()
		w.expectOpen(alice, 2)
		if k := w.store.Kinds(string(rec.ID)); k[access.EventRestored] != 0 {
			t.Errorf("%v", k)
		}
		if s := w.status(rec); !contains(s.BlockedBy, "policies") {
			t.Errorf("%+v", s)
		}
		if readable {
			w.reconciler = seeing
		}
		w.now = w.now.Add(15 * time.Minute)
		if readable {
			w.now = w.now.Add(-14 * time.Minute)
		}
		for _, id := range []access.ResourceID{onWeb, onNIC} {
			if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if readable {
			w.expectStatus(rec, access.Initiated, "")
			w.expectOpen(alice, 2)
			continue
		}
		w.expectStatus(rec, access.Revoked, access.NotOpenedInTime)
		w.expectShut()
	}
}

// TestWhatWasOnItsWayStillOpens: the record has lost a leg before it was opened.
func TestWhatWasOnItsWayStillOpens(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.store.LoseLedger()
	closes := len(w.bus.Take(w.now.Add(2 * time.Hour)))
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	w.expectStatus(rec, access.Initiated, "")
	if k := w.store.Kinds(string(rec.ID)); k[access.EventRestored] != 0 || closes == 0 {
		t.Errorf("%v, %d messages", k, closes)
	}
	w.now = w.now.Add(time.Hour)
	w.deliver() // the close that came with the legs
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
}

// TestWhatNeverOpenedIsToldToHaveFailed: the time in which it was to open is over.
func TestWhatNeverOpenedIsToldToHaveFailed(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.store.LoseLedger()
	w.now = w.now.Add(15 * time.Minute)
	w.deliver()
	w.expectStatus(rec, access.Failed, access.NotOpenedInTime)
	w.expectShut()
}
