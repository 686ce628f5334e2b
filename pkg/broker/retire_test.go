package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

const days = 24 * time.Hour

func (w *world) retirer() *broker.Retirer {
	w.t.Helper()
	r, err := broker.NewRetirer(broker.RetirePorts{
		Index: w.store, Record: w.store, Files: w.store, Seals: w.store, Notices: w.store, Starts: w.store, Pending: w.store, Legs: w.store,
		Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler), Retention: 400 * days,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) retire() {
	w.t.Helper()
	if err := w.retirer().Retire(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// settle lets what was asked for happen and be sent, until no notice is left.
func (w *world) settle() {
	w.t.Helper()
	w.deliver()
	w.publishAll()
	w.sweep(20)
	w.publishAll()
	w.sweep(20)
	w.expectNoNotice()
}

// past lives through one request that was let in and has ended, one that was
// refused, one for later that was given back, and one for later that began.
func past(t *testing.T) (w *world, old []access.RequestID) {
	w = newWorld(t)
	rec := w.submit(ask("in", alice, time.Hour))
	no, err := w.submitter.Submit(t.Context(), ask("refused", "192.0.2.1", time.Hour))
	if no.Outcome != access.Refused {
		t.Fatal(no, err)
	}
	given := w.request(anna, w.later("1", time.Hour, time.Hour))
	w.revoke(anna)
	begun := w.request(anna, w.later("2", time.Hour, time.Hour))
	w.deliver()
	w.now = w.now.Add(time.Hour)
	w.deliverStarts()
	w.now = w.now.Add(3 * time.Hour)
	w.settle()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectStatus(begun, access.Revoked, access.Expired)
	return w, []access.RequestID{rec.ID, no.ID, given.ID, begun.ID}
}

func (w *world) expectGone(ids ...access.RequestID) {
	w.t.Helper()
	for _, id := range ids {
		if left := w.store.Trace(id); len(left) > 0 {
			w.t.Fatalf("%s: %v is left", id, left)
		}
	}
}

// expectKept checks that nothing of a request is gone, given what there was.
func (w *world) expectKept(id access.RequestID, before []string) {
	w.t.Helper()
	if left := w.store.Trace(id); len(before) == 0 || !slices.Equal(left, before) {
		w.t.Fatalf("%s: there was %v, and is %v", id, before, left)
	}
}

func TestWhatWasOverBeforeTheRetentionIsRetired(t *testing.T) {
	w, old := past(t)
	over := w.now
	w.now = over.Add(399 * days)
	young := w.submit(ask("young", alice, time.Hour))
	w.deliver()
	trace := w.store.Trace(young.ID)
	var before [][]string
	for _, id := range old {
		before = append(before, w.store.Trace(id))
	}
	w.retire()
	for i, id := range old {
		w.expectKept(id, before[i])
	}
	w.now = over.Add(401 * days)
	w.retire()
	w.expectGone(old...)
	w.expectKept(young.ID, trace)
	list, err := w.store.Entries(t.Context(), broker.IndexQuery{Most: 100})
	if err != nil || len(list) != 1 || list[0].Request != young.ID {
		t.Errorf("%+v, %v", list, err)
	}
	w.retire() // again
	w.expectKept(young.ID, trace)
	w.settle()
	w.expectShut()
	// What was recorded of others than requests stays.
	w.event("lockdown", "1", over)
	w.publishAll()
	w.retire()
	if _, seals, err := w.store.Chain(t.Context(), "lockdown"); err != nil || len(seals) != 1 {
		t.Errorf("%v, %v", seals, err)
	}
}

// Whatever call it is cut off at, before its effect or after, the next run ends as
// if there had been no cut.
func TestARetirementIsCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, done := 1, false; !done; at++ {
			w, old := past(t)
			w.now = w.now.Add(400*days - time.Hour)
			young := w.submit(ask("young", alice, time.Hour))
			trace := w.store.Trace(young.ID)
			w.now = w.now.Add(2 * time.Hour)
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, after
			err := w.retirer().Retire(t.Context())
			if done = w.faults.Calls() < at; !done && err == nil {
				t.Fatalf("cut off at %d it tells of no error", at)
			}
			w.faults.Reset()
			w.retire()
			w.expectGone(old...)
			w.expectKept(young.ID, trace)
			if t.Failed() || at > 500 {
				t.Fatalf("cut at %d", at)
			}
		}
	}
}

// What is unknown, or not over, is kept, whole.
func TestWhatIsNotOverIsNeverTouched(t *testing.T) {
	var at time.Time
	for name, c := range map[string]func(w *world, id access.RequestID){
		"a live leg": func(w *world, id access.RequestID) {
			f, err := w.store.File(w.t.Context(), id)
			if err != nil {
				w.t.Fatal(err)
			}
			l := f.Ended[0]
			l.State = access.LegOpen
			if err := w.store.AddLegs(w.t.Context(), l.NSG, []access.Leg{l}, "t", w.now); err != nil {
				w.t.Fatal(err)
			}
		},
		"a decision is pending": func(w *world, id access.RequestID) { w.store.Unfinish(w.record(id)) },
		"one that extends it is pending": func(w *world, id access.RequestID) {
			rec := access.Record{ID: access.NewRequestID(anna.Sender(), "next"), DecidedAt: w.now}
			rec.Request.Extends = id
			w.store.Unfinish(rec)
		},
		"a start is planned": func(w *world, id access.RequestID) {
			if err := w.store.Schedule(w.t.Context(), id, w.now); err != nil {
				w.t.Fatal(err)
			}
		},
		"an event that is not sealed": func(w *world, id access.RequestID) {
			w.event(string(id), "late", at)
			w.store.DropNotices()
		},
		"a notice": func(w *world, id access.RequestID) { w.event(string(id), "late", at) },
		"an event that was sealed lately": func(w *world, id access.RequestID) {
			w.event(string(id), "late", at)
			w.publishAll()
			w.store.DropNotices()
		},
		"an event is gone": func(w *world, id access.RequestID) {
			w.store.Tamper(string(id), func(e *access.Event) bool { return e.Kind != access.EventOpened })
		},
		"an event was altered": func(w *world, id access.RequestID) {
			w.store.Tamper(string(id), func(e *access.Event) bool { e.Actor = "nobody"; return true })
		},
		"a mark of late": func(w *world, id access.RequestID) {
			if err := w.store.Revoke(w.t.Context(), id, []access.Revocation{{Grant: 0, At: w.now}}); err != nil {
				w.t.Fatal(err)
			}
		},
		"an end of which nothing tells": func(w *world, id access.RequestID) { w.store.LoseEnded(id, func(access.Leg) bool { return true }) },
		"half an end of which there is no": func(w *world, id access.RequestID) {
			w.store.LoseEnded(id, func(l access.Leg) bool { return l.NSG == onNIC })
		},
		"a leg that was seen to end lately": func(w *world, id access.RequestID) {
			w.store.ChangeEnded(id, func(l *access.Leg) { l.EndedAt = w.now })
		},
		"a leg of a state that is not known": func(w *world, id access.RequestID) { w.store.ChangeEnded(id, func(l *access.Leg) { l.State = "Ajar" }) },
		"an outcome that is not known": func(w *world, id access.RequestID) {
			w.store.ChangeRecord(id, func(r *access.Record) { r.Outcome = "Maybe" })
		},
		"a record of another decision": func(w *world, id access.RequestID) {
			w.store.ChangeRecord(id, func(r *access.Record) { r.DecidedAt = r.DecidedAt.Add(1) })
		},
		"a grant that ends later": func(w *world, id access.RequestID) {
			w.store.ChangeRecord(id, func(r *access.Record) { r.Grants[0].EndTime = w.now })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, old := past(t)
			at = w.now
			w.now = w.now.Add(401 * days)
			c(w, old[0])
			trace := w.store.Trace(old[0])
			w.retire()
			w.retire()
			w.expectKept(old[0], trace)
			w.expectGone(old[1:]...)
		})
	}
}

// Something that happens between two parts of a retirement stops it, however far it
// had come, and so does the note of a decision that is not there any more.
func TestAHalfRetiredRequestIsLookedAtAgain(t *testing.T) {
	w, old := past(t)
	over := w.now
	w.now = over.Add(401 * days)
	_, seals, err := w.store.Chain(t.Context(), string(old[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.store.MarkRetiring(t.Context(), old[0], w.record(old[0]).DecidedAt), w.store.DropJournal(t.Context(), seals),
		w.store.MarkRetiring(t.Context(), old[3], over),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.event(string(old[0]), "late", w.now)
	w.store.LoseEnded(old[3], func(l access.Leg) bool { return l.NSG == onNIC })
	before, other := w.store.Trace(old[0]), w.store.Trace(old[3])
	w.retire()
	w.expectKept(old[0], before)
	w.expectKept(old[3], other)
	w.expectGone(old[1:3]...)
	w.store.DropNotices() // and the event was sealed, or not
	w.retire()
	w.expectKept(old[0], before)
	// A notice between the mark and the rest.
	w, old = past(t)
	w.now = w.now.Add(401 * days)
	w.faults.Reset()
	noted := false
	w.faults.Before = func(int) {
		if !noted && slices.Contains(w.store.Trace(old[0]), "retiring") {
			noted = true
			w.event(string(old[0]), "late", w.now)
		}
	}
	w.retire()
	w.faults.Before = nil
	if left := w.store.Trace(old[0]); !noted || !slices.Contains(left, "record") || !slices.Contains(left, "seals") || !slices.Contains(left, "journal") {
		t.Errorf("%t, %v", noted, left)
	}
}

// One run looks at 200 at most, and those that have to stay keep back none.
func TestARetirementIsBounded(t *testing.T) {
	w := newWorld(t)
	const n = 450
	for i := range n {
		id := access.NewRequestID(anna.Sender(), fmt.Sprint(i))
		rec := access.Record{ID: id, DecidedAt: w.now.Add(time.Duration(i) * time.Hour), Outcome: access.Refused}
		e := access.Event{Subject: string(id), Kind: access.EventRefused, At: rec.DecidedAt}
		s, err := chains.Next(chains.Seal{}, e, rec.DecidedAt)
		for _, do := range []func() error{
			func() error { return err },
			func() error { _, err := w.store.Keep(t.Context(), rec, []access.Event{e}); return err },
			func() error { return w.store.AddSeals(t.Context(), []chains.Seal{s}) },
			func() error { _, err := w.store.SaveSent(t.Context(), string(id), 1, ""); return err },
			func() error {
				return w.store.Enter(t.Context(), broker.IndexEntry{Request: id, DecidedAt: rec.DecidedAt, Outcome: access.Refused})
			},
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
		if i < 210 {
			w.store.ChangeRecord(id, func(r *access.Record) { r.Outcome = "Maybe" }) // has to stay
		}
	}
	w.store.DropNotices()
	w.now = w.now.Add(500 * days)
	left := func() int {
		all, err := w.store.Entries(t.Context(), broker.IndexQuery{Most: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	r := w.retirer()
	for i, want := range []int{450, 260, 210, 210} {
		w.faults.Reset()
		if err := r.Retire(t.Context()); err != nil || left() != want {
			t.Fatalf("after run %d: %d are left, want %d, %v", i+1, left(), want, err)
		}
		if calls := w.faults.Calls(); calls > 200*13+100 {
			t.Errorf("run %d took %d calls", i+1, calls)
		}
	}
}

func TestARetirerNeedsItsPortsAndARetention(t *testing.T) {
	if _, err := broker.NewRetirer(broker.RetirePorts{}); err == nil {
		t.Error("it takes none")
	}
	w := newWorld(t)
	p := w.retirer().RetirePorts
	p.Retention = 29 * days
	if _, err := broker.NewRetirer(p); err == nil {
		t.Error("it takes a month")
	}
}

// Decided anew under the same id, after it was retired and before its place in the
// index was: what is new stays.
func TestADecisionUnderTheIdOfARetiredOneStays(t *testing.T) {
	w, old := past(t)
	w.now = w.now.Add(401 * days)
	r := w.retirer()
	var again access.Record
	w.faults.Reset()
	w.faults.Before = func(int) {
		if again.ID == "" && !slices.Contains(w.store.Trace(old[0]), "record") {
			again.ID = old[0] // not twice
			again = w.submit(ask("in", alice, time.Hour))
		}
	}
	if err := r.Retire(t.Context()); err != nil || again.DecidedAt.IsZero() {
		t.Fatal(err, again)
	}
	w.faults.Before = nil
	trace := w.store.Trace(old[0])
	if !slices.Contains(trace, "record") || !slices.Contains(trace, "events") || !slices.Contains(trace, "index all") {
		t.Fatal(trace)
	}
	w.retire()
	w.expectKept(old[0], trace)
	w.now = w.now.Add(2 * time.Hour)
	w.settle()
	w.expectShut()
	w.expectGone(old[1:]...)
}
