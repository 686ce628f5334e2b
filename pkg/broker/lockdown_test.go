package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func (w *world) lock(reason string) {
	w.t.Helper()
	if l, err := w.lockdown.On(context.Background(), admin, reason); err != nil || !l.Active {
		w.t.Fatal(l, err)
	}
}

func TestALockdownShutsEveryDoorUntilItIsLiftedAndReopensNone(t *testing.T) {
	w := newWorld(t)
	open := w.request(anna, wants("1", alice, 2*time.Hour))
	w.deliver()
	opening := w.request(ben, wants("1", bob, 2*time.Hour))
	w.lock("incident 7")
	w.lock("incident 7") // again
	w.deliver()
	w.expectStatus(open, access.Revoked, access.LockedDown)
	w.expectStatus(opening, access.Failed, access.LockedDown)
	w.expectShut()
	_, err := w.desk.Request(t.Context(), anna, wants("2", alice, time.Hour))
	wantReason(t, err, access.FailedPrecondition, "locked_down")
	if m := access.AsError(err).Message; m == "" || !contains(m, "incident 7") {
		t.Errorf("the reason is not told: %q", m)
	}
	for range 2 {
		if l, err := w.lockdown.Off(t.Context(), admin); err != nil || l.Active {
			t.Fatal(l, err)
		}
	}
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectShut()
	w.request(anna, wants("3", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	events, err := w.lockdown.EventsOf(t.Context(), audit)
	if err != nil || len(events) != 2 || events[0].Kind+events[1].Kind != access.EventLockedDown+access.EventLockdownLifted && events[1].Kind+events[0].Kind != access.EventLockedDown+access.EventLockdownLifted {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestOnlyAdministratorsLockDown(t *testing.T) {
	w := newWorld(t)
	for _, by := range []access.Caller{none, anna, help, audit} {
		_, err := w.lockdown.On(t.Context(), by, "x")
		wantReason(t, err, access.PermissionDenied, "role_required")
		_, err = w.lockdown.Off(t.Context(), by)
		wantReason(t, err, access.PermissionDenied, "role_required")
	}
	for by, want := range map[string]struct {
		access.Caller
		reason string
	}{"none": {none, "role_required"}, "anna": {anna, ""}, "audit": {audit, ""}, "admin": {admin, ""}} {
		if _, err := w.lockdown.Get(t.Context(), want.Caller); access.ReasonOf(err) != want.reason {
			t.Errorf("%s: %v", by, err)
		}
	}
	_, err := w.lockdown.On(t.Context(), admin, "")
	wantReason(t, err, access.InvalidArgument, "reason_missing")
}

// blind cannot tell whether there is a lockdown.
type blind struct{ broker.Lockdowns }

func (blind) Lockdown(context.Context) (access.Lockdown, error) {
	return access.Lockdown{}, access.Errorf(access.Unavailable, "tables_unavailable", "not now")
}

func TestWhereNobodyCanTellNothingOpensAndNothingCloses(t *testing.T) {
	w := newWorld(t)
	open := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	opening := w.request(ben, wants("1", bob, 10*time.Minute))
	ports := w.reconciler.ReconcilePorts
	ports.Lockdowns = blind{w.store}
	blinded, err := broker.NewReconciler(ports, rules)
	if err != nil {
		t.Fatal(err)
	}
	seeing := w.reconciler
	w.reconciler = blinded
	w.deliver()
	w.expectStatus(open, access.Initiated, "")
	w.expectStatus(opening, access.Initiating, "")
	w.expectOpen(bob, 0)
	if s := w.status(opening); !contains(s.BlockedBy, "lockdown") {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(time.Hour) // what is to end ends all the same
	w.deliver()
	w.expectStatus(open, access.Revoked, access.Expired)
	w.expectShut()
	w.reconciler = seeing

	submit := w.submitter.SubmitPorts
	submit.Lockdowns = blind{w.store}
	s, err := broker.NewSubmitter(submit, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(t.Context(), ask("9", alice, time.Hour)); !access.CodeOf(err).Retryable() {
		t.Errorf("submitted: %v", err)
	}
}

// TestALockdownCutOffAnywhere cuts it off at every call; from when it is recorded,
// Sweep completes it.
func TestALockdownCutOffAnywhere(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, wants("1", alice, 2*time.Hour))
			w.deliver()
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, true
			_, _ = w.lockdown.On(context.Background(), admin, "x") // may be cut off
			done = w.faults.Calls() < at
			w.faults.Reset()
			w.bus.Take(w.now) // lost
			for range 2 {
				w.now = w.now.Add(time.Minute)
				if err := w.sweeper.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
				w.deliver()
			}
			l, err := w.lockdown.Get(context.Background(), admin)
			if err != nil {
				t.Fatal(err)
			}
			if l.Active {
				w.expectStatus(rec, access.Revoked, access.LockedDown)
				w.expectShut()
			} else if at > 3 {
				t.Errorf("cut at %d: not recorded", at)
			}
		})
		if done || t.Failed() {
			break
		}
	}
}

// TestARequestBesideALockdownDoesNotOpen lets the lockdown come at every call of a
// request and of what follows.
func TestARequestBesideALockdownDoesNotOpen(t *testing.T) {
	for at := 1; at < 80; at++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			came := false
			w.faults.Before = func(n int) {
				if n == at && !came {
					came = true
					w.lock("now")
				}
			}
			_, _ = w.desk.Request(context.Background(), anna, wants("1", alice, time.Hour)) // may be refused
			w.deliver()
			w.faults.Before = nil
			if came {
				w.deliver()
				w.expectShut()
			}
		})
	}
}
