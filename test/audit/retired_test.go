package audit

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

const (
	aDay      = 24 * time.Hour
	retention = 30 * aDay
)

// refused is a request that was decided at once, indexed, sealed and sent.
func (w *world) refused(id access.RequestID) {
	w.t.Helper()
	rec := access.Record{ID: id, DecidedAt: w.now, Outcome: access.Refused}
	_, err := w.store.Keep(w.t.Context(), rec, []access.Event{{Subject: string(id), Kind: access.EventRefused, At: w.now}})
	w.must(err)
	w.must(w.publisher.Publish(w.t.Context(), string(id)))
	w.must(w.store.Enter(w.t.Context(), broker.IndexEntry{Request: id, DecidedAt: w.now, Outcome: access.Refused}))
}

// dropNotices is what a sweep does a quarter of an hour later.
func (w *world) dropNotices() {
	w.t.Helper()
	all, err := w.store.Notices(w.t.Context())
	w.must(err)
	for _, n := range all {
		w.must(w.store.DropNotice(w.t.Context(), n))
	}
}

// anchorAll anchors up to now; one run takes a week at most.
func (w *world) anchorAll() {
	w.t.Helper()
	for range 8 {
		w.anchor()
	}
}

// month is a request of a day, in two hours of which there are seals of others, and
// another of 20 days later; it ends when the first may be retired, by so much.
func month(t *testing.T, past time.Duration) *world {
	w := newWorld(t)
	w.happen("lockdown", "1")
	w.refused(request)
	w.now = w.now.Add(time.Hour)
	w.happen(request, "2")
	w.happen("lockdown", "2")
	last := w.now
	w.now = start.Add(20 * aDay)
	w.refused(other)
	w.dropNotices()
	w.now = last.Add(retention + past)
	w.anchorAll()
	return w
}

func TestWhatWasRetiredIsToldAndIsNoFinding(t *testing.T) {
	w := month(t, 25*time.Hour)
	w.refused("ar-cccccccccccccccccccccccccc") // of now
	q := broker.CheckQuery{Retention: retention}
	if r := w.check(q, true); len(r.Findings) > 0 || r.Retired != 0 || r.Subjects != 4 {
		t.Fatalf("before: %+v", r)
	}
	w.retire(30)
	if left := w.rows("requests", request, ""); len(left) > 0 || len(w.journal(request)) > 0 {
		t.Fatal(left)
	}
	waits := w.waits
	r := w.check(q, true)
	if len(r.Findings) > 0 || r.Retired != 1 || r.Subjects != 3 || w.waits != waits {
		t.Errorf("after: %+v", r)
	}
	if r := w.check(broker.CheckQuery{Retention: retention, Subject: request}, true); len(r.Findings) > 0 || r.Retired != 1 || r.Subjects != 0 {
		t.Errorf("by itself: %+v", r)
	}
	if r := w.check(broker.CheckQuery{Retention: retention, From: start.Add(time.Hour), To: start.Add(3 * time.Hour)}, true); len(r.Findings) > 0 || r.Retired != 1 {
		t.Errorf("in a time: %+v", r)
	}
	// Who says that the retention is longer, or that there is none, is told what is gone.
	want := []string{"/0 journal_missing", "/0 journal_missing", "request/1 anchor_mismatch", "request/2 anchor_mismatch"}
	for _, longer := range []time.Duration{0, 60 * aDay} {
		if got := problems(w.check(broker.CheckQuery{Retention: longer}, true)); !slices.Equal(got, want) {
			t.Errorf("%s: %v", longer, got)
		}
	}
	if r := w.check(q, false); len(r.Findings) > 0 || r.Retired != 0 {
		t.Errorf("without anchors: %+v", r)
	}
}

// Whoever removes what may not be retired yet, or not at all, is found.
func TestWhatIsGoneBeforeItsTimeIsAFinding(t *testing.T) {
	gone := func(w *world, subject string) {
		w.remove("requests", w.rows("requests", subject, ""))
		w.remove("journal", w.journal(subject))
	}
	for name, c := range map[string]struct {
		past   time.Duration
		remove func(w *world)
		want   []string
	}{
		"three hours early": {-3 * time.Hour, func(w *world) { gone(w, request) }, []string{"/0 journal_missing", "/0 journal_missing", "request/1 anchor_mismatch", "request/2 anchor_mismatch"}},
		"ten days early":    {aDay, func(w *world) { gone(w, other) }, []string{"/0 journal_missing", "other/1 anchor_mismatch"}},
		"of no request":     {aDay, func(w *world) { gone(w, "lockdown") }, []string{"/0 journal_missing", "/0 journal_missing", "lockdown/1 anchor_mismatch", "lockdown/2 anchor_mismatch"}},
		"but for its journal": {aDay, func(w *world) { w.remove("requests", w.rows("requests", request, "")) },
			[]string{"request/1 anchor_mismatch", "request/1 journal_mismatch", "request/2 anchor_mismatch", "request/2 journal_mismatch"}},
		"but for one entry": {aDay, func(w *world) {
			w.remove("requests", w.rows("requests", request, ""))
			w.remove("journal", w.journal(request)[:1])
		}, []string{"/0 journal_missing", "request/1 anchor_mismatch", "request/2 anchor_mismatch", "request/2 journal_mismatch"}},
		"but for a seal": {aDay, func(w *world) {
			w.remove("requests", w.rows("requests", request, "chain-00000002"))
			w.remove("journal", w.journal(request))
		}, []string{"/0 journal_missing", "/0 journal_missing", "request/0 event_unsealed", "request/1 journal_missing", "request/2 anchor_mismatch"}},
		"and an old entry of another": {aDay, func(w *world) {
			gone(w, request)
			w.remove("journal", w.journal("lockdown")[:1])
		}, []string{"/0 journal_missing", "/0 journal_missing", "lockdown/1 journal_missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := month(t, c.past)
			c.remove(w)
			r := w.check(broker.CheckQuery{Retention: retention}, true)
			if got := problems(r); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// late are chains before the first of which something happens.
type late struct {
	*tables.Store
	once  sync.Once
	first func()
}

func (l *late) Chain(ctx context.Context, subject string) ([]access.Event, []chains.Seal, error) {
	l.once.Do(l.first)
	return l.Store.Chain(ctx, subject)
}

// A request that is retired while the record is checked is no finding.
func TestARetirementWhileItIsChecked(t *testing.T) {
	w := month(t, aDay)
	c, err := broker.NewAuditCheck(broker.CheckPorts{
		Chains: &late{Store: w.store, first: func() { w.retire(30) }}, Journal: w.store, Anchors: w.anchors, Clock: w.clock,
		Wait: func(context.Context, time.Duration) error { return nil },
	})
	w.must(err)
	r, err := c.Check(t.Context(), broker.CheckQuery{Retention: retention})
	w.must(err)
	if len(r.Findings) > 0 || r.Retired != 1 || len(w.rows("requests", request, "")) > 0 {
		t.Errorf("%+v", r)
	}
	// Cut off between the journal and the rest, it is looked at again.
	w = month(t, aDay)
	_, seals, err := w.store.Chain(t.Context(), request)
	w.must(err)
	w.must(w.store.DropJournal(t.Context(), seals))
	w.between = func() { w.between = nil; w.retire(30) }
	if r := w.check(broker.CheckQuery{Retention: retention}, true); len(r.Findings) > 0 || r.Retired != 1 {
		t.Errorf("%+v", r)
	}
}
