package broker_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func TestGivingBackClosesTheDoorAndSaysWhoAndWhy(t *testing.T) {
	for name, c := range map[string]struct {
		by     access.Caller
		reason access.StatusReason
	}{"one's own": {anna, access.UserRequested}, "an administrator": {admin, access.RevokedByAdministrator}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, time.Hour))
			other := w.request(ben, wants("1", alice, time.Hour)) // the same door
			w.deliver()
			for range 2 {
				if _, err := w.desk.Revoke(t.Context(), c.by, rec.ID, broker.GiveBack{Reason: "done"}); err != nil {
					t.Fatal(err)
				}
			}
			w.deliver()
			w.expectStatus(rec, access.Revoked, c.reason)
			w.expectStatus(other, access.Initiated, "")
			w.expectOpen(alice, 2)
			events, err := w.desk.EventsOf(t.Context(), anna, rec.ID)
			if err != nil {
				t.Fatal(err)
			}
			said := 0
			for _, e := range events {
				if e.Kind == access.EventRevoked && e.Actor == c.by.Name && e.Detail["reason"] == "done" && e.Detail["statusReason"] == string(c.reason) {
					said++
				}
			}
			if said != 1 {
				t.Errorf("%d events say who and why: %+v", said, events)
			}
			if _, err := w.desk.Revoke(t.Context(), ben, other.ID, broker.GiveBack{}); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectShut()
		})
	}
}

// mute is a record that takes no event.
type mute struct{ broker.Events }

func (mute) Append(context.Context, []access.Event) error {
	return access.Errorf(access.Unavailable, "tables_unavailable", "no event is taken")
}

func TestADoorClosesThoughItsEventCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	desk := w.desk
	ports := desk.DeskPorts
	ports.Events = mute{w.store}
	deaf, err := broker.NewDesk(ports)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deaf.Revoke(t.Context(), anna, rec.ID, broker.GiveBack{Reason: "done"}); access.ReasonOf(err) != "tables_unavailable" {
		t.Fatalf("the caller is told nothing of it: %v", err)
	}
	w.deliver()
	w.expectShut()
	// The same again writes down who it was.
	if _, err := desk.Revoke(t.Context(), anna, rec.ID, broker.GiveBack{Reason: "done"}); err != nil {
		t.Fatal(err)
	}
	events, err := desk.EventsOf(t.Context(), anna, rec.ID)
	if err != nil || !slices.ContainsFunc(events, func(e access.Event) bool { return e.Kind == access.EventRevoked && e.Actor == anna.Name }) {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestWhoMayNotRevoke(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	for by, want := range map[string]struct {
		access.Caller
		code   access.Code
		reason string
	}{
		"another": {ben, access.NotFound, "request_unknown"}, "a reader": {audit, access.PermissionDenied, "role_required"}, "no role": {none, access.PermissionDenied, "role_required"},
	} {
		_, err := w.desk.Revoke(t.Context(), want.Caller, rec.ID, broker.GiveBack{})
		if access.CodeOf(err) != want.code || access.ReasonOf(err) != want.reason {
			t.Errorf("%s: %v", by, err)
		}
	}
	_, err := w.desk.Revoke(t.Context(), anna, rec.ID, broker.GiveBack{Grants: []int{0, 1}})
	wantReason(t, err, access.InvalidArgument, "grant_unknown")
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")

	refused, err := w.desk.Request(t.Context(), anna, wants("2", "198.51.100.9", time.Hour))
	if err == nil {
		t.Fatal("accepted")
	}
	_, err = w.desk.Revoke(t.Context(), anna, refused.Record.ID, broker.GiveBack{})
	wantReason(t, err, access.FailedPrecondition, "grant_not_live")
}

func TestSomeGrantsAreGivenBackAndTheOthersStay(t *testing.T) {
	w := newWorld(t)
	ask := wants("1", alice, time.Hour)
	second := ask.Ports[0]
	second.Source = mask(bob)
	ask.Ports = append(ask.Ports, second)
	ask.Ports[1].Port = 3389
	w.store.Policies[0].Ports = append(w.store.Policies[0].Ports, w.store.Policies[0].Ports[0])
	w.store.Policies[0].Ports[1].Number = 3389
	rec := w.request(anna, ask)
	w.deliver()
	if _, err := w.desk.Revoke(t.Context(), anna, rec.ID, broker.GiveBack{Grants: []int{1}}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	now, err := w.viewer.View(t.Context(), rec.ID)
	if err != nil || now.Status(0).Status != access.Initiated || now.Status(1).Status != access.Revoked {
		t.Errorf("%+v, %+v, %v", now.Status(0), now.Status(1), err)
	}
}

// TestRevokeCutOffAnywhere cuts it off at every call, and repeats it.
func TestRevokeCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				rec := w.request(anna, wants("1", alice, time.Hour))
				w.deliver()
				w.faults.Reset()
				w.faults.FailAt, w.faults.After = at, after
				_, _ = w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}) // may be cut off
				done = w.faults.Calls() < at
				w.faults.Reset()
				if _, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}); err != nil {
					t.Fatalf("cut at %d: %v", at, err)
				}
				w.deliver()
				if err := w.sweeper.Sweep(context.Background()); err != nil { // a prompt may be lost
					t.Fatal(err)
				}
				w.deliver()
				w.expectStatus(rec, access.Revoked, access.UserRequested)
				w.expectShut()
				if n := w.store.Kinds(string(rec.ID))[access.EventRevoked]; n != 1 {
					t.Errorf("cut at %d: %d events", at, n)
				}
			})
			if done {
				break
			}
		}
	}
}

// TestARevocationThatIsNotRepeatedLeavesNoDoorHalfShut cuts it off at every call,
// and leaves the rest to Sweep: it holds for all NSGs or for none.
func TestARevocationThatIsNotRepeatedLeavesNoDoorHalfShut(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, time.Hour))
			w.deliver()
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, true
			_, _ = w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}) // may be cut off
			done = w.faults.Calls() < at
			w.faults.Reset()
			for range 2 {
				if err := w.sweeper.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
				w.deliver()
			}
			if n := len(w.open(alice)); n == 1 {
				t.Errorf("cut at %d: %v", at, w.open(alice))
			} else if marks, _ := w.store.File(context.Background(), rec.ID); n == 2 && len(marks.Revoked) > 0 {
				t.Errorf("cut at %d: it is marked, and open", at)
			}
		})
		if done {
			break
		}
	}
}

// TestAPausedSubmitBringsNothingBack cuts a submit off at every call, revokes
// what it has decided, and lets it go on.
func TestAPausedSubmitBringsNothingBack(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.faults.FailAt, w.faults.After = at, true
			_, err := w.desk.Request(context.Background(), anna, wants("1", alice, time.Hour))
			done = err == nil && w.faults.Calls() < at
			w.faults.Reset()
			id := access.NewRequestID(anna.Sender(), "1")
			rec, _, err := w.store.Find(context.Background(), id)
			if err != nil {
				return // nothing was decided yet, so there is nothing to revoke
			}
			if _, err := w.desk.Revoke(context.Background(), admin, id, broker.GiveBack{}); err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			now, err := w.viewer.View(context.Background(), id)
			if err != nil || now.Status(0).Reason != access.RevokedByAdministrator {
				t.Fatalf("cut at %d: %+v, %v", at, now.Status(0), err)
			}
			if err := w.submitter.Resume(context.Background(), rec); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expectOpen(alice, 0)
			w.expectStatus(rec, access.Revoked, access.RevokedByAdministrator)
			w.expectShut()
			if w.azure.Writes != 0 {
				t.Errorf("cut at %d: %d writes", at, w.azure.Writes)
			}
		})
		if done {
			break
		}
	}
}

// TestARevocationBesideAReconcileHolds lets it come at every call of the
// reconcile that opens.
func TestARevocationBesideAReconcileHolds(t *testing.T) {
	for at := 1; at < 60; at++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, time.Hour))
			start, came := w.faults.Calls(), false
			w.faults.Before = func(n int) {
				if n == start+at && !came {
					came = true
					if _, err := w.desk.Revoke(context.Background(), anna, rec.ID, broker.GiveBack{}); err != nil {
						t.Error(err)
					}
				}
			}
			w.deliver()
			w.faults.Before = nil
			if !came {
				return
			}
			w.deliver()
			w.expectStatus(rec, access.Revoked, access.UserRequested)
			w.expectShut()
		})
	}
}
