package broker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func more(id string, d time.Duration) broker.Extension {
	return broker.Extension{ClientID: id, Duration: d, BodyHash: id + d.String()}
}

func (w *world) extend(by access.Caller, id access.RequestID, e broker.Extension) access.Record {
	w.t.Helper()
	now, err := w.desk.Extend(context.Background(), by, id, e)
	if err != nil {
		w.t.Fatal(err)
	}
	return now.Record
}

// watchOpen fails the test when the source is shut out at any call.
func (w *world) watchOpen(source string) {
	w.faults.Before = func(int) {
		if len(w.open(source)) != 2 {
			w.t.Errorf("shut in between: %v", w.open(source))
		}
	}
}

func TestAnExtensionTakesOverWithoutShuttingTheDoor(t *testing.T) {
	w := newWorld(t)
	start := w.now
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.now = start.Add(50 * time.Minute)
	w.watchOpen(alice)
	longer := w.extend(anna, rec.ID, more("e", time.Hour))
	w.deliver()
	w.now = start.Add(70 * time.Minute)
	w.deliver()
	w.faults.Before = nil
	w.expectStatus(rec, access.Revoked, access.NewerRequestInitiated)
	w.expectStatus(longer, access.Initiated, "")
	w.expectOpen(alice, 2)
	if got := longer.Grants[0]; !got.Since.Equal(start) || !got.EndTime.Equal(start.Add(110*time.Minute)) || longer.Request.Justification != "work" {
		t.Errorf("%+v", got)
	}
	if again := w.extend(anna, rec.ID, more("e", time.Hour)); again.ID != longer.ID {
		t.Error("the repeat was decided anew")
	}
	now, err := w.desk.View(t.Context(), anna, rec.ID)
	if err != nil || now.ExtendedBy != longer.ID || longer.Request.Extends != rec.ID {
		t.Errorf("%q, %q, %v", now.ExtendedBy, longer.Request.Extends, err)
	}
	if w.store.Kinds(string(rec.ID))[access.EventExtended] != 1 {
		t.Error("no event on the old one")
	}
	w.now = start.Add(110 * time.Minute)
	w.deliver()
	w.expectStatus(longer, access.Revoked, access.Expired)
	w.expectShut()
}

func TestTheLongestTimeCountsFromTheFirstStart(t *testing.T) {
	w := newWorld(t) // three hours at most
	rec := w.request(anna, wants("1", alice, 2*time.Hour))
	w.deliver()
	w.now = w.now.Add(90 * time.Minute)
	rec = w.extend(anna, rec.ID, more("e1", time.Hour)) // until 2:30
	w.deliver()
	w.now = w.now.Add(30 * time.Minute)
	_, err := w.desk.Extend(t.Context(), anna, rec.ID, more("e2", 61*time.Minute)) // until 3:01
	wantReason(t, err, access.PermissionDenied, "duration_too_long")
	w.extend(anna, rec.ID, more("e3", time.Hour)) // until 3:00
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.NewerRequestInitiated)
	w.expectOpen(alice, 2)
}

func TestWhatCannotBeExtended(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	n := 0
	extend := func(by access.Caller, id access.RequestID, d time.Duration) error {
		n++
		_, err := w.desk.Extend(context.Background(), by, id, more(fmt.Sprint(n), d))
		return err
	}
	wantReason(t, extend(ben, rec.ID, 2*time.Hour), access.NotFound, "request_unknown")
	wantReason(t, extend(audit, rec.ID, 2*time.Hour), access.PermissionDenied, "not_yours")
	wantReason(t, extend(admin, rec.ID, 2*time.Hour), access.PermissionDenied, "not_yours")
	wantReason(t, extend(none, rec.ID, 2*time.Hour), access.PermissionDenied, "role_required")
	wantReason(t, extend(anna, rec.ID, time.Hour), access.FailedPrecondition, "extension_not_longer")
	once := anna
	once.Roles = []access.Role{access.RoleReadAll}
	wantReason(t, extend(once, rec.ID, 2*time.Hour), access.PermissionDenied, "role_required")

	w.store.Policies[0].Requestors = []string{"ben@contoso.com"}
	wantReason(t, extend(anna, rec.ID, 2*time.Hour), access.PermissionDenied, "not_permitted")
	w.store.Policies[0].Requestors = []string{"*"}

	refused, _ := w.desk.Request(t.Context(), anna, wants("2", "198.51.100.9", time.Hour))
	wantReason(t, extend(anna, refused.Record.ID, 2*time.Hour), access.FailedPrecondition, "grant_not_live")

	if _, err := w.desk.Revoke(t.Context(), admin, rec.ID, broker.GiveBack{}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, extend(anna, rec.ID, 2*time.Hour), access.FailedPrecondition, "grant_not_live")
	rec = w.request(anna, wants("3", alice, time.Hour))
	w.deliver()
	w.now = w.now.Add(time.Hour)
	wantReason(t, extend(anna, rec.ID, 2*time.Hour), access.FailedPrecondition, "grant_not_live")
	w.deliver()
	w.expectShut()
}

func TestWhoExtendsForAnother(t *testing.T) {
	w := newWorld(t)
	w.store.Policies[0].Requestors = []string{"ben@contoso.com"}
	ask := wants("1", alice, time.Hour)
	ask.Requestor = ben.Name
	rec := w.request(help, ask)
	w.deliver()
	byHelp := w.extend(help, rec.ID, more("e", 2*time.Hour))
	w.deliver()
	if who := byHelp.Request.Requestor; who.Name != ben.Name || who.ObjectID != "" {
		t.Errorf("%+v", who)
	}
	byBen := w.extend(ben, byHelp.ID, more("e", 150*time.Minute))
	w.deliver()
	if who := byBen.Request.Requestor; who.ObjectID != ben.ObjectID {
		t.Errorf("%+v", who)
	}
	w.expectOpen(alice, 2)
	w.expectStatus(byHelp, access.Revoked, access.NewerRequestInitiated)
}

// TestAnExtensionThatDoesNotOpenEndsNothing blocks the new one on one NSG: the
// old one stays on both.
func TestAnExtensionThatDoesNotOpenEndsNothing(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	longer := w.extend(anna, rec.ID, more("e", 2*time.Hour))
	for _, p := range w.bus.Take(w.now) {
		if p.NSG == onWeb {
			if err := w.reconciler.Reconcile(t.Context(), p.NSG, p.At); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.expectStatus(rec, access.Initiated, "")
	w.expectStatus(longer, access.Initiating, "")
	w.expectOpen(alice, 2)
	w.bus.Take(w.now)
	if err := w.reconciler.Reconcile(t.Context(), onNIC, time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.NewerRequestInitiated)
	w.expectStatus(longer, access.Initiated, "")
}

// TestExtendCutOffAnywhere cuts the extension and what follows off at every call.
func TestExtendCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				rec := w.request(anna, wants("1", alice, time.Hour))
				w.deliver()
				w.faults.Reset()
				w.faults.FailAt, w.faults.After = at, after
				_, _ = w.desk.Extend(context.Background(), anna, rec.ID, more("e", 2*time.Hour)) // may be cut off
				for _, p := range w.bus.Take(w.now) {
					_ = w.reconciler.Reconcile(context.Background(), p.NSG, time.Time{}) // may be cut off
				}
				done = w.faults.Calls() < at
				w.faults.Reset()
				longer := w.extend(anna, rec.ID, more("e", 2*time.Hour))
				for range 4 {
					w.now = w.now.Add(time.Minute)
					if err := w.sweeper.Sweep(context.Background()); err != nil {
						t.Fatal(err)
					}
					w.deliver()
				}
				w.expectStatus(rec, access.Revoked, access.NewerRequestInitiated)
				w.expectStatus(longer, access.Initiated, "")
				w.expectOpen(alice, 2)
				w.now = w.now.Add(2 * time.Hour)
				w.deliver()
				w.expectShut()
			})
			if done || t.Failed() {
				break
			}
		}
	}
}
