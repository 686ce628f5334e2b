package tables_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func decision(id access.RequestID, by string) access.Record {
	return access.Record{
		ID: id, Outcome: access.Accepted, DecidedAt: at,
		Request: access.Request{ClientID: by, BodyHash: "h", Requestor: access.Requestor{Name: by}},
		Grants:  []access.Grant{{VM: vm, Port: 22, Protocol: access.TCP, Source: leg(0).Source, EndTime: at.Add(time.Hour), Legs: []access.Leg{legOf(id, 0)}}},
	}
}

func isPending(t *testing.T, r *http.Request, method string) bool {
	t.Helper()
	return r.Method == method && strings.HasSuffix(r.URL.Path, "/pending")
}

func TestOfTwoThatBeginAtOnceOneDecides(t *testing.T) {
	w := newWorld(t, 1000)
	id := request(1)
	var g sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for i := range 8 {
		g.Go(func() {
			stored, pending, err := w.Begin(t.Context(), decision(id, fmt.Sprint(i)))
			if err != nil || !pending {
				t.Errorf("pending %v, %v", pending, err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[stored.Request.ClientID]++
		})
	}
	g.Wait()
	if len(got) != 1 {
		t.Errorf("several decisions: %v", got)
	}
}

func TestADecisionThatWasFinishedMeanwhileHolds(t *testing.T) {
	w := newWorld(t, 1000)
	id := request(1)
	var once sync.Once
	stop := w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if isPending(t, r, http.MethodPost) {
			// Ours has looked and found nothing; all of the other's comes in now.
			once.Do(func() {
				first := decision(id, "first")
				if _, _, err := w.Begin(t.Context(), first); err != nil {
					t.Error(err)
				}
				if _, err := w.Keep(t.Context(), first, nil); err != nil {
					t.Error(err)
				}
				if err := w.Finish(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
		return false
	})
	defer stop()
	// once.Do would wait for itself if the other's insert entered it too.
	w.hook.Store(ptr(unlessInside(*w.hook.Load())))
	second, pending, err := w.Begin(t.Context(), decision(id, "second"))
	check(t, err)
	if !pending {
		t.Errorf("nobody would look what stands: %+v", second)
	}
	// Whoever finishes it carries out what was kept first.
	if stored, err := w.Keep(t.Context(), second, nil); err != nil || stored.Request.ClientID != "first" {
		t.Errorf("decided by %s, %v", stored.Request.ClientID, err)
	}
}

func ptr[T any](v T) *T { return &v }

// unlessInside calls f for one request at a time and leaves out those that
// come in while it runs.
func unlessInside(f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	return func(rw http.ResponseWriter, r *http.Request) bool {
		if !mu.TryLock() {
			return false
		}
		defer mu.Unlock()
		return f(rw, r)
	}
}

func TestALostReplyToBegin(t *testing.T) {
	w := newWorld(t, 1000)
	rec := decision(request(1), "me")
	lost := false
	stop := w.intercept(unlessInside(func(rw http.ResponseWriter, r *http.Request) bool {
		if !isPending(t, r, http.MethodPost) || lost {
			return false
		}
		lost = true
		if _, _, err := w.Begin(t.Context(), rec); err != nil { // it is written …
			t.Error(err)
		}
		refuse(rw, http.StatusInternalServerError, "OperationTimedOut") // … and not answered
		return true
	}))
	defer stop()
	stored, pending, err := w.Begin(t.Context(), rec)
	check(t, err)
	if d := cmp.Diff(rec, stored, cmpopts.EquateComparable(rec.Grants[0].Source, leg(0).Destinations[0])); d != "" || !pending || !lost {
		t.Errorf("pending %v, lost %v: %s", pending, lost, d)
	}
}

func TestARecordIsKeptWithItsEventsOrNotAtAll(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	rec := decision(request(1), "me")
	large := event(string(rec.ID), "k", at)
	large.Detail["a"] = strings.Repeat("x", 3<<19) // more than a row may hold
	_, err := w.Keep(ctx, rec, []access.Event{large})
	wantCode(t, err, access.Internal, "tables_refused")
	if _, _, err := w.Find(ctx, rec.ID); access.CodeOf(err) != access.NotFound {
		t.Errorf("the record is there without its event: %v", err)
	}
}

func TestPendingIsReadPageByPage(t *testing.T) {
	w, ctx := newWorld(t, 2), t.Context()
	for i := range 5 {
		rec := decision(request(i), "x")
		rec.DecidedAt = at.Add(time.Duration(i) * 100 * time.Millisecond)
		_, _, err := w.Begin(ctx, rec)
		check(t, err)
	}
	recs, err := w.Pending(ctx, at.Add(400*time.Millisecond))
	if err != nil || len(recs) != 4 {
		t.Errorf("%d, %v: made before the time are four", len(recs), err)
	}
}

func TestEventsAreWrittenOnceInAnyNumber(t *testing.T) {
	w, ctx := newWorld(t, 50), t.Context()
	var events []access.Event
	for i := range 130 {
		events = append(events, event(string(on), fmt.Sprint(i), at.Add(-time.Duration(i)*time.Second)))
	}
	check(t, w.Append(ctx, events[:3]))
	changed := events[0]
	changed.Actor = "another"
	// Some are there, one is in it twice, and other subjects are among them.
	check(t, w.Append(ctx, append(events, changed, event(string(request(1)), "k", at))))
	got, err := w.EventsOf(ctx, string(on))
	check(t, err)
	if len(got) != 130 || got[129].Key != "0" || got[129].Actor != "portcullis" || !got[0].At.Before(got[1].At) {
		t.Errorf("%d events, the last %+v", len(got), got[len(got)-1])
	}
	if one, err := w.EventsOf(ctx, string(request(1))); err != nil || len(one) != 1 {
		t.Errorf("%v, %v", one, err)
	}
}

func TestADecisionThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	_, _, err := w.Begin(ctx, decision(request(1), "x"))
	check(t, err)
	_, err = w.service.NewClient("pending").AddEntity(ctx, []byte(`{"PartitionKey":"pending","RowKey":"a","Doc0":"{","DecidedAt@odata.type":"Edm.DateTime","DecidedAt":"2020-01-01T00:00:00Z"}`), nil)
	check(t, err)
	if recs, err := w.Pending(ctx, at.Add(time.Second)); access.CodeOf(err) != access.Internal || len(recs) != 1 {
		t.Errorf("%d, %v", len(recs), err)
	}
}
