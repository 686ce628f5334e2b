package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func (w *world) later(id string, in, d time.Duration) broker.Ask {
	ask := wants(id, alice, d)
	ask.StartTime = w.now.Add(in)
	return ask
}

// deliverStarts hands out the asked starts that are due, and what follows.
func (w *world) deliverStarts() {
	w.t.Helper()
	for _, p := range w.bus.TakeStarts(w.now) {
		if err := w.submitter.Start(context.Background(), p.Request, p.At); err != nil {
			w.t.Fatal(err)
		}
	}
	w.deliver()
}

func TestARequestForLaterOpensThen(t *testing.T) {
	w := newWorld(t)
	start := w.now.Add(26 * time.Hour)
	rec := w.request(anna, w.later("1", 26*time.Hour, 2*time.Hour))
	w.deliverStarts()
	w.expectStatus(rec, access.Scheduled, "")
	if !rec.Grants[0].EndTime.Equal(start.Add(2*time.Hour)) || len(rec.Request.Roles) != 1 {
		t.Errorf("%+v", rec)
	}
	// Forged or too early, it is nobody's business.
	for _, id := range []access.RequestID{rec.ID, access.NewRequestID(anna.Sender(), "unknown")} {
		if err := w.submitter.Start(t.Context(), id, time.Time{}); err != nil {
			t.Error(err)
		}
	}
	w.deliver()
	w.expectStatus(rec, access.Scheduled, "")

	w.now = start
	w.deliverStarts()
	w.expectStatus(rec, access.Initiated, "")
	w.expectOpen(alice, 2)
	writes := w.azure.Writes
	if err := w.submitter.Start(t.Context(), rec.ID, start); err != nil { // again
		t.Fatal(err)
	}
	w.deliver()
	if w.azure.Writes != writes {
		t.Error("a repeated start writes")
	}
	w.now = start.Add(2 * time.Hour)
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
	kinds := w.store.Kinds(string(rec.ID))
	if kinds[access.EventRequested] != 1 || kinds[access.EventStarted] != 1 {
		t.Errorf("%v", kinds)
	}
}

func TestTheBoundsOfAStart(t *testing.T) {
	for name, c := range map[string]struct {
		in     time.Duration
		d      time.Duration
		reason string
	}{
		"just passed":    {-30 * time.Second, time.Hour, ""},
		"long passed":    {-2 * time.Minute, time.Hour, "start_time_past"},
		"a week ahead":   {7 * 24 * time.Hour, time.Hour, ""},
		"too far ahead":  {7*24*time.Hour + time.Second, time.Hour, "start_time_too_far"},
		"too long then":  {time.Hour, 4 * time.Hour, "duration_too_long"},
		"too short then": {time.Hour, time.Second, "duration_too_short"},
	} {
		w := newWorld(t)
		_, err := w.desk.Request(t.Context(), anna, w.later("1", c.in, c.d))
		if access.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newWorld(t)
	ask := w.later("1", 2*time.Hour, 0)
	ask.Ports[0].Duration, ask.Ports[0].EndTime = 0, w.now.Add(time.Hour)
	_, err := w.desk.Request(t.Context(), anna, ask)
	wantReason(t, err, access.PermissionDenied, "end_time_past")
}

func TestAtTheStartItIsJudgedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*world)
		status access.Status
		reason access.StatusReason
	}{
		"the policy is gone":         {func(w *world) { w.store.Policies = nil }, access.Failed, access.PolicyChanged},
		"the requestor is left out":  {func(w *world) { w.store.Policies[0].Requestors = []string{"ben@contoso.com"} }, access.Failed, access.PolicyChanged},
		"shorter times":              {func(w *world) { w.store.Policies[0].Ports[0].MaxDuration = 30 * time.Minute }, access.Failed, access.PolicyChanged},
		"a lockdown":                 {func(w *world) { w.lock("drill") }, access.Failed, access.LockedDown},
		"the machine is gone":        {func(w *world) { delete(w.azure.Machines, vm) }, access.Failed, access.TargetChanged},
		"another machine":            {func(w *world) { w.azure.Machines[vm] = machine("another") }, access.Failed, access.TargetChanged},
		"nobody was there in time":   {func(w *world) { w.now = w.now.Add(2 * time.Hour) }, access.Failed, access.Expired},
		"it was given back":          {func(w *world) { w.revoke(anna) }, access.Revoked, access.UserRequested},
		"an administrator ended it":  {func(w *world) { w.revoke(admin) }, access.Revoked, access.RevokedByAdministrator},
		"other machines have no say": {func(w *world) { w.store.Policies[0].Requestors = append(w.store.Policies[0].Requestors, "x") }, access.Initiated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, w.later("1", time.Hour, time.Hour))
			c.spoil(w)
			w.now = w.now.Add(time.Hour)
			w.deliverStarts()
			w.expectStatus(rec, c.status, c.reason)
			if c.status == access.Initiated {
				return
			}
			if err := w.sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectShut()
			if w.azure.Writes != 0 {
				t.Errorf("%d writes", w.azure.Writes)
			}
		})
	}
}

func (w *world) revoke(by access.Caller) {
	w.t.Helper()
	if _, err := w.desk.Revoke(context.Background(), by, access.NewRequestID(anna.Sender(), "1"), broker.GiveBack{}); err != nil {
		w.t.Fatal(err)
	}
}

func TestAScheduledRequestIsGivenBackAtOnce(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, w.later("1", time.Hour, time.Hour))
	w.revoke(anna)
	w.expectStatus(rec, access.Revoked, access.UserRequested)
	_, err := w.desk.Extend(t.Context(), anna, rec.ID, more("e", 3*time.Hour))
	wantReason(t, err, access.FailedPrecondition, "grant_not_live")
}

// TestAStartCutOffAnywhere cuts the request and its start off at every call, loses
// every message, and leaves the rest to Sweep.
func TestAStartCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ask := w.later("1", time.Hour, time.Hour)
				w.faults.FailAt, w.faults.After = at, after
				_, err := w.desk.Request(context.Background(), anna, ask)
				recorded := w.faults.Calls()
				w.now = w.now.Add(time.Hour)
				id := access.NewRequestID(anna.Sender(), "1")
				_ = w.submitter.Start(context.Background(), id, time.Time{}) // may be cut off
				done = w.faults.Calls() < at
				w.faults.Reset()
				if err != nil {
					w.now = w.now.Add(-59 * time.Minute)
					ask.StartTime = w.now.Add(59 * time.Minute)
					w.request(anna, ask)
					w.now = w.now.Add(59 * time.Minute)
				}
				rec, _, err := w.store.Find(context.Background(), id)
				if err != nil {
					t.Fatalf("cut at %d of %d: %v", at, recorded, err)
				}
				w.bus.TakeStarts(w.now.Add(2 * time.Hour)) // lost
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
				w.deliver()
				w.expectShut()
			})
			if done || t.Failed() {
				break
			}
		}
	}
}
