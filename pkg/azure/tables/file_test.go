package tables_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestAFileHoldsAllThatIsKeptAndNoEvents(t *testing.T) {
	w, ctx := newWorld(t, 2), t.Context()
	id := request(1)
	_, err := w.File(ctx, id)
	wantCode(t, err, access.NotFound, "row_missing")
	rec := decision(id, "x")
	rec.Grants[0].Source, rec.Grants[0].EndTime = leg(0).Source, at.Add(time.Hour)
	_, err = w.Keep(ctx, rec, []access.Event{event(string(id), "1", at), event(string(id), "2", at)})
	check(t, err)
	mark := access.Revocation{Grant: 0, Reason: access.UserRequested, At: at, By: "x"}
	check(t, w.Revoke(ctx, id, []access.Revocation{mark}))
	// The first stays; what is missing is added.
	second := access.Revocation{Grant: 7, Reason: access.RevokedByAdministrator, At: at}
	check(t, w.Revoke(ctx, id, []access.Revocation{{Grant: 0, Reason: access.PolicyChanged, At: at}, second}))
	for _, by := range []access.RequestID{request(9), request(2), request(9)} {
		check(t, w.Extended(ctx, id, by))
	}
	ended := legOf(id, 0)
	ended.State, ended.EndedAt = access.LegEnded, at
	check(t, w.EndLegs(ctx, on, []access.Leg{ended}))
	st := access.Start{Request: id, At: at, Grants: rec.Grants}
	_, err = w.DecideStart(ctx, st, []access.Event{event(string(id), "3", at)})
	check(t, err)

	calls := 0
	stop := w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if f := r.URL.Query().Get("$filter"); !strings.Contains(f, "PartitionKey eq '"+string(id)+"'") {
			t.Errorf("asked for %s", f)
		}
		if r.URL.Query().Get("NextRowKey") == "" {
			calls++
		}
		return false
	})
	got, err := w.File(ctx, id)
	stop()
	check(t, err)
	want := access.File{Record: rec, Start: &st, Ended: []access.Leg{ended}, Revoked: []access.Revocation{mark, second}, ExtendedBy: []access.RequestID{request(9), request(2)}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(access.Leg{}, "ETag"), cmpopts.EquateComparable(leg(0).Source, leg(0).Destinations[0])); diff != "" {
		t.Error(diff)
	}
	if calls != 1 {
		t.Errorf("%d queries", calls)
	}
}

func TestOneStartIsDecided(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	id := request(1)
	var g sync.WaitGroup
	var mu sync.Mutex
	got := map[access.StatusReason]int{}
	for _, reason := range []access.StatusReason{access.PolicyChanged, access.LockedDown, access.Expired, access.TargetChanged} {
		g.Go(func() {
			st, err := w.DecideStart(ctx, access.Start{Request: id, At: at, Reason: reason}, []access.Event{event(string(id), string(reason), at)})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[st.Reason]++
		})
	}
	g.Wait()
	if events, err := w.EventsOf(ctx, string(id)); err != nil || len(events) != 1 || len(got) != 1 {
		t.Errorf("%v, %v, %v", got, events, err)
	}
}

func TestWhatIsScheduledIsFoundWhenItIsDue(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Schedule(ctx, request(1), at))
	check(t, w.Schedule(ctx, request(1), at)) // again
	check(t, w.Schedule(ctx, request(2), at.Add(time.Millisecond)))
	check(t, w.Schedule(ctx, request(2), at)) // it stays as it is
	// A decision on its way is another thing.
	_, _, err := w.Begin(ctx, decision(request(3), "x"))
	check(t, err)
	if due, err := w.DueStarts(ctx, at); err != nil || len(due) != 1 || due[0] != request(1) {
		t.Errorf("%v, %v", due, err)
	}
	if recs, err := w.Pending(ctx, at.Add(time.Hour)); err != nil || len(recs) != 1 || recs[0].ID != request(3) {
		t.Errorf("%v, %v", recs, err)
	}
	for range 2 {
		check(t, w.Unschedule(ctx, request(1)))
	}
	if due, err := w.DueStarts(ctx, at.Add(time.Millisecond)); err != nil || len(due) != 1 || due[0] != request(2) {
		t.Errorf("%v, %v", due, err)
	}
	for id, want := range map[access.RequestID]bool{request(1): false, request(2): true} {
		if there, err := w.Scheduled(ctx, id); err != nil || there != want {
			t.Errorf("%v, %v", there, err)
		}
	}
}

// TestWhatIsToBeStartedLaterCostsASweepNothing counts the rows that are read.
func TestWhatIsToBeStartedLaterCostsASweepNothing(t *testing.T) {
	h, now := standIn(t), time.Now()
	s := direct(t, h)
	for i := range 50 {
		check(t, s.Schedule(t.Context(), request(i), now.Add(time.Duration(i-2)*time.Hour)))
	}
	check(t, s.Unschedule(t.Context(), request(0)))
	var filters []string
	var c counted
	due, err := storeOver(t, func(r *http.Request) (*http.Response, error) {
		filters = append(filters, r.URL.Query().Get("$filter"))
		return c.over(h)(r)
	}).DueStarts(t.Context(), now)
	if err != nil || len(due) != 2 || c.rows.Load() != 2 || len(filters) != 1 || !byKeys.MatchString(filters[0]) {
		t.Errorf("%d are due by %d rows of %q: %v", len(due), c.rows.Load(), filters, err)
	}
}

func TestTheLockdownIsWrittenUnderItsVersionWithItsEvent(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	l, err := w.Lockdown(ctx)
	if err != nil || l != (access.Lockdown{}) {
		t.Fatal(l, err)
	}
	on := access.Lockdown{Active: true, Reason: "é", By: "x", At: at}
	check(t, w.SetLockdown(ctx, on, []access.Event{event("lockdown", "1", at)}))
	wantCode(t, w.SetLockdown(ctx, on, []access.Event{event("lockdown", "2", at)}), access.Aborted, "row_changed")
	first, err := w.Lockdown(ctx)
	check(t, err)
	stale := first
	first.Told = true
	check(t, w.SetLockdown(ctx, first, nil))
	stale.Active = false
	wantCode(t, w.SetLockdown(ctx, stale, []access.Event{event("lockdown", "3", at)}), access.Aborted, "row_changed")
	l, err = w.Lockdown(ctx)
	if err != nil || !l.Active || !l.Told || l.Reason != "é" || !l.At.Equal(at) {
		t.Errorf("%+v, %v", l, err)
	}
	if events, err := w.EventsOf(ctx, "lockdown"); err != nil || len(events) != 1 {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestLegsChangeTogetherWithTheWordOfIt(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	for i := range 110 { // more than one transaction holds
		check(t, w.AddLegs(ctx, on, []access.Leg{legOf(request(i), 0)}, "t", at))
	}
	legs, err := w.Legs(ctx, on)
	check(t, err)
	stale := legs[0]
	for i := range legs {
		legs[i].State = access.LegClosing
	}
	check(t, w.ChangeLegs(ctx, on, legs, "asked", at.Add(time.Minute)))
	h, err := w.Head(ctx, on)
	if err != nil || h.Wanted != "asked" || !h.DueAt.Equal(at.Add(time.Minute)) {
		t.Errorf("%+v, %v", h, err)
	}
	if now, err := w.Legs(ctx, on); err != nil || len(now) != 110 || now[109].State != access.LegClosing {
		t.Errorf("%d, %v", len(now), err)
	}
	wantCode(t, w.ChangeLegs(ctx, on, []access.Leg{stale}, "stale", at), access.Aborted, "row_changed")
	if h, err := w.Head(ctx, on); err != nil || h.Wanted != "asked" {
		t.Errorf("asked for what was not changed: %+v, %v", h, err)
	}
}
