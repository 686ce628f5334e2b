package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func TestAnUntouchedRecordIsWhole(t *testing.T) {
	w := day(t)
	for _, anchored := range []bool{true, false} {
		r := w.check(broker.CheckQuery{}, anchored)
		if len(r.Findings) > 0 || r.Subjects != 3 || r.Events != 6 || r.Seals != 6 || r.Journal != 6 || w.waits > 0 {
			t.Errorf("anchored %v: %+v", anchored, r)
		}
		if anchored && (r.Anchors != 2 || !r.LastAnchor.Equal(start.Add(time.Hour)) || r.UncoveredSeals != 0 || r.LastAnchorHash == "") {
			t.Errorf("%+v", r)
		}
		if !anchored && (r.Anchors != 0 || r.UncoveredSeals != 6) {
			t.Errorf("%+v", r)
		}
	}
	// Every part of it alone.
	for _, q := range []broker.CheckQuery{
		{Subject: request}, {From: start.Add(time.Hour)}, {To: start.Add(time.Hour)}, {From: start.Add(time.Second), To: start.Add(time.Hour + time.Minute)}, {From: start.Add(30 * time.Minute), To: start.Add(40 * time.Minute)},
	} {
		if r := w.check(q, true); len(r.Findings) > 0 {
			t.Errorf("%+v: %+v", q, r.Findings)
		}
	}
}

// A change of any kind in the tables or the container is found. Where it needs
// the anchors, the same check without them finds less, or nothing at all: that is
// the promise that docs/audit.md does not make.
func TestEveryChangeIsFound(t *testing.T) {
	event := func(w *world, n int) [][2]string {
		seals := w.rows("requests", request, "chain-0")
		_, chain, err := w.store.Chain(t.Context(), request)
		w.must(err)
		for _, k := range w.rows("requests", request, "event-") {
			// A row's key is a hash: the document tells which it is.
			res, err := w.service.NewClient("requests").GetEntity(t.Context(), k[0], k[1], nil)
			w.must(err)
			if strings.Contains(string(res.Value), fmt.Sprintf(`\"key\":\"%s\"`, strings.TrimPrefix(chain[n-1].Event, "Opened-"))) {
				return [][2]string{k, seals[n-1]}
			}
		}
		w.t.Fatal("no such event")
		return nil
	}
	for name, c := range map[string]struct {
		tamper   func(w *world)
		bare     []string // without anchors
		anchored []string // what the anchors add
	}{
		"a word of an event": {func(w *world) { w.edit("requests", event(w, 2)[:1], "web-1", "web-2") }, []string{"request/2 event_altered"}, nil},
		"an event is gone":   {func(w *world) { w.remove("requests", event(w, 2)[:1]) }, []string{"request/2 event_missing"}, nil},
		"an event is put in": {func(w *world) {
			w.must(w.store.Append(t.Context(), []access.Event{{Subject: request, Kind: access.EventClosed, Key: "9", At: start}}))
		}, []string{"request/0 event_unsealed"}, nil},
		"a seal is gone": {func(w *world) { w.remove("requests", event(w, 2)[1:]) }, []string{"request/0 event_unsealed", "request/2 journal_mismatch", "request/2 seal_missing", "request/3 seal_altered"}, []string{"request/2 anchor_mismatch"}},
		"a seal is altered": {func(w *world) { w.edit("requests", event(w, 1)[1:], `"at":"2026-11-24T09`, `"at":"2026-11-24T08`) },
			[]string{"request/1 journal_mismatch", "request/1 seal_altered"}, nil},
		"a seal's number is made up": {func(w *world) { w.edit("requests", event(w, 3)[1:], `"seq":3`, `"seq":2000000000`) },
			[]string{"request/2000000000 journal_missing", "request/2000000000 seal_altered", "request/3 journal_mismatch", "request/3 seal_missing"}, []string{"request/3 anchor_mismatch"}},
		"an event with its seal": {func(w *world) { w.remove("requests", event(w, 2)) },
			[]string{"request/2 journal_mismatch", "request/2 seal_missing", "request/3 seal_altered"}, []string{"request/2 anchor_mismatch"}},
		"a row of the journal":  {func(w *world) { w.remove("journal", w.journal(request)[1:2]) }, []string{"request/2 journal_missing"}, []string{"/0 journal_missing"}},
		"a word of the journal": {func(w *world) { w.edit("journal", w.journal(request)[1:2], "portcullis", "somebody") }, []string{"request/2 journal_mismatch"}, nil},
		"a kind in the journal": {func(w *world) { w.edit("journal", w.journal(request)[1:2], `"kind":"Opened"`, `"kind":"Closed"`) }, []string{"request/2 journal_mismatch"}, nil},
		"the end, from a chain": {func(w *world) { w.remove("requests", event(w, 3)) }, []string{"request/3 journal_mismatch"}, []string{"request/3 anchor_mismatch"}},
		"a whole subject":       {func(w *world) { w.remove("requests", w.rows("requests", request, "")) }, []string{"request/1 journal_mismatch", "request/2 journal_mismatch", "request/3 journal_mismatch"}, []string{"request/2 anchor_mismatch", "request/3 anchor_mismatch"}},
		"the end, everywhere": {func(w *world) {
			w.remove("requests", event(w, 3))
			w.remove("journal", w.journal(request)[2:])
		}, nil, []string{"/0 journal_missing", "request/3 anchor_mismatch"}},
		"a whole subject, everywhere": {func(w *world) {
			w.remove("requests", w.rows("requests", request, ""))
			w.remove("journal", w.journal(request))
		}, nil, []string{"/0 journal_missing", "/0 journal_missing", "request/2 anchor_mismatch", "request/3 anchor_mismatch"}},
		"a chain made anew, everywhere": {func(w *world) { w.remake(request) }, nil, []string{"request/2 anchor_mismatch", "request/3 anchor_mismatch"}},
		"an anchor is gone": {func(w *world) {
			w.now = w.now.Add(3 * time.Hour)
			w.anchor()
			w.blobs.Tamper("anchors", "2026/11/24/10.json", nil)
		}, nil, []string{"/0 anchor_missing"}},
		"the first anchor is gone":   {func(w *world) { w.blobs.Tamper("anchors", "2026/11/24/09.json", nil) }, nil, []string{"/0 anchor_missing"}},
		"the last anchors are gone":  {func(w *world) { w.now = w.now.Add(2 * time.Hour) }, nil, []string{"/0 anchor_missing"}},
		"an anchor is something new": {func(w *world) { w.blobs.Tamper("anchors", "2026/11/24/10.json", []byte("{}")) }, nil, []string{"/0 anchor_altered"}},
		"an anchor is altered": {func(w *world) {
			data, err := w.anchors.Anchor(t.Context(), start)
			w.must(err)
			w.blobs.Tamper("anchors", "2026/11/24/09.json", []byte(strings.Replace(string(data), `"count": 4`, `"count": 3`, 1)))
		}, nil, []string{"/0 anchor_altered"}},
		"an anchor of what is to come": {func(w *world) {
			w.must(w.anchors.AddAnchor(t.Context(), start.Add(5*time.Hour), []byte("{}")))
		}, nil, []string{"/0 anchor_altered", "/0 anchor_altered", "/0 anchor_missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := day(t)
			c.tamper(w)
			if got := problems(w.check(broker.CheckQuery{}, false)); !slices.Equal(got, c.bare) {
				t.Errorf("without anchors: %v, want %v", got, c.bare)
			}
			want := append(slices.Clone(c.bare), c.anchored...)
			slices.Sort(want)
			if got := problems(w.check(broker.CheckQuery{}, true)); !slices.Equal(got, want) {
				t.Errorf("with anchors: %v, want %v", got, want)
			}
		})
	}
}

// What is sealed after the last anchor is proven by none, and named.
func TestWhatNoAnchorCoversIsNamed(t *testing.T) {
	w := day(t)
	w.happen(request, "4")
	w.happen(request, "5")
	w.happen("new", "1")
	r := w.check(broker.CheckQuery{}, true)
	if len(r.Findings) > 0 || r.UncoveredSeals != 3 || len(r.Uncovered) != 2 || r.Uncovered[0] != (broker.Uncovered{Subject: request, FromSeq: 4, ToSeq: 5, Since: w.now}) || r.Uncovered[1].Subject != "new" {
		t.Errorf("%+v", r)
	}
	// And it can be made anew unseen.
	w.remove("requests", w.rows("requests", "new", ""))
	w.remove("journal", w.journal("new"))
	if r := w.check(broker.CheckQuery{}, true); len(r.Findings) > 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// An event that is being sealed while it is read is looked at again.
func TestWhatIsUnderWayIsNoFinding(t *testing.T) {
	w := day(t)
	at := w.now
	w.now = start // it happened long ago, and is written only now
	w.must(w.store.Append(t.Context(), []access.Event{{Subject: request, Kind: access.EventClosing, Key: "1", At: w.now}}))
	w.now = at
	w.between = func() {
		w.between = nil
		w.must(w.publisher.Publish(t.Context(), request))
	}
	if r := w.check(broker.CheckQuery{}, true); len(r.Findings) > 0 || w.waits != 1 || r.UncoveredSeals != 1 {
		t.Errorf("%+v after %d waits", r, w.waits)
	}
}

func TestOneSubjectIsCheckedByItself(t *testing.T) {
	w := day(t)
	w.remove("requests", w.rows("requests", other, "event-"))
	if r := w.check(broker.CheckQuery{Subject: request}, true); len(r.Findings) > 0 || r.Subjects != 1 || r.Journal != 0 || r.Anchors != 2 {
		t.Errorf("%+v", r)
	}
	if got := problems(w.check(broker.CheckQuery{Subject: other}, true)); !slices.Equal(got, []string{"other/1 event_missing", "other/2 event_missing"}) {
		t.Error(got)
	}
	w.remove("requests", w.rows("requests", request, ""))
	if got := problems(w.check(broker.CheckQuery{Subject: request}, true)); !slices.Equal(got, []string{"request/2 anchor_mismatch", "request/3 anchor_mismatch"}) {
		t.Error(got)
	}
}

func TestWhereNothingIsAnchoredThatIsSaid(t *testing.T) {
	w := newWorld(t)
	w.happen(request, "1")
	w.now = w.now.Add(3 * time.Hour)
	if got := problems(w.check(broker.CheckQuery{}, true)); !slices.Equal(got, []string{"/0 anchor_missing"}) {
		t.Error(got)
	}
}
