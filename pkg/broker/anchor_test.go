package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

// anchorWorld is a world with anchors.
type anchorWorld struct {
	*world
	anchors  *brokertest.Anchors
	anchorer *broker.Anchorer
}

func newAnchorWorld(t *testing.T) *anchorWorld {
	t.Helper()
	w := &anchorWorld{world: newWorld(t)}
	w.anchors = &brokertest.Anchors{Faults: w.faults}
	w.again()
	return w
}

// again is another process that anchors.
func (w *anchorWorld) again() {
	w.t.Helper()
	var err error
	w.anchorer, err = broker.NewAnchorer(broker.AnchorPorts{Journal: w.store, Anchors: w.anchors, Clock: func() time.Time { return w.now }, Installation: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
}

// sealed has an event of the subject that is sealed at the time.
func (w *anchorWorld) sealed(subject, key string, at time.Time) {
	w.t.Helper()
	now := w.now
	w.now = at
	w.event(subject, key, at)
	w.publish(subject)
	w.now = now
}

func (w *anchorWorld) anchor() {
	w.t.Helper()
	if err := w.anchorer.Anchor(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// expectAnchors checks the anchors there are, each as "hour:heads", and that each
// names the one before.
func (w *anchorWorld) expectAnchors(want ...string) {
	w.t.Helper()
	hours, err := w.anchors.AnchoredHours(context.Background(), time.Time{}, w.now.AddDate(1, 0, 0))
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	prev := ""
	for _, h := range hours {
		data, err := w.anchors.Anchor(context.Background(), h)
		if err != nil {
			w.t.Fatal(err)
		}
		a, err := chains.ParseAnchor(data, h)
		if err != nil || a.Prev != prev || a.Installation != "test" {
			w.t.Fatalf("%s: %+v, %v", h, a, err)
		}
		prev = chains.SumOf(data)
		text := fmt.Sprintf("%s %d", h.Format("02T15"), a.Count)
		if a.Late > 0 {
			text += fmt.Sprintf("+%d", a.Late)
		}
		for _, head := range a.Heads {
			text += fmt.Sprintf(" %s/%d", head.Subject, head.Seq)
		}
		got = append(got, text)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		w.t.Errorf("anchors:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func hour(h, m int) time.Time { return time.Date(2026, 11, 24, h, m, 0, 0, time.UTC) }

func TestAnHourIsAnchoredOnceItIsOverAndSettled(t *testing.T) {
	w := newAnchorWorld(t)
	w.sealed("a", "1", hour(9, 10))
	w.sealed("b", "1", hour(9, 20))
	w.sealed("a", "2", hour(9, 59))
	for _, at := range []time.Time{hour(9, 30), hour(10, 5), hour(10, 14)} {
		w.now = at
		w.anchor()
		w.expectAnchors("24T08 0")
	}
	w.now = hour(10, 20)
	w.anchor()
	w.expectAnchors("24T08 0", "24T09 3 a/2 b/1")
	w.anchor() // again
	w.expectAnchors("24T08 0", "24T09 3 a/2 b/1")
	// An hour without a seal has an anchor too, so that one that is gone shows.
	w.sealed("b", "2", hour(11, 30))
	w.now = hour(12, 20)
	w.anchor()
	w.expectAnchors("24T08 0", "24T09 3 a/2 b/1", "24T10 0", "24T11 1 b/2")
}

func TestBeforeAnythingHappensTheLastHourIsAnchored(t *testing.T) {
	w := newAnchorWorld(t)
	w.now = hour(10, 20)
	w.anchor()
	w.expectAnchors("24T09 0")
}

func TestMissedHoursAreCaughtUpInOrderAndInBounds(t *testing.T) {
	w := newAnchorWorld(t)
	w.sealed("a", "1", hour(9, 10))
	w.sealed("a", "2", hour(9, 10).AddDate(0, 0, 8))
	w.now = hour(10, 20).AddDate(0, 0, 10) // ten days down, at first
	count := func() int {
		hours, err := w.anchors.AnchoredHours(context.Background(), time.Time{}, w.now)
		if err != nil {
			t.Fatal(err)
		}
		return len(hours)
	}
	w.anchor()
	if n := count(); n != 7*24 {
		t.Errorf("one run writes %d anchors", n)
	}
	w.again()
	w.anchor()
	if n := count(); n != 10*24+1 {
		t.Errorf("two runs write %d anchors", n)
	}
	if data, err := w.anchors.Anchor(context.Background(), hour(9, 0).AddDate(0, 0, 8)); err != nil || !strings.Contains(string(data), `"seq": 2`) {
		t.Errorf("%s, %v", data, err)
	}
	// The last anchor may be long ago.
	w.now = w.now.AddDate(0, 2, 0)
	for range 10 {
		w.anchor()
	}
	if n, want := count(), int(w.now.Sub(hour(9, 0))/time.Hour); n != want {
		t.Errorf("%d anchors, want %d", n, want)
	}
}

// A publisher that was cut off has sealed and not entered; the next enters.
func TestWhatIsEnteredLateIsInTheNextAnchor(t *testing.T) {
	w := newAnchorWorld(t)
	w.sealed("a", "1", hour(9, 10))
	w.sealed("b", "1", hour(9, 40))
	late, _, err := w.store.Journal(context.Background(), broker.JournalQuery{From: hour(9, 30), Most: 10})
	if err != nil || len(late) != 1 {
		t.Fatal(late, err)
	}
	w.store.ForgetJournal(late[0].Seal)
	w.now = hour(10, 20)
	w.anchor()
	if err := w.store.EnterJournal(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	w.now = hour(12, 20)
	w.anchor()
	w.expectAnchors("24T09 1 a/1", "24T10 0+1 b/1", "24T11 0")
}

func TestAnchoringThatIsCutOffAnywhereIsCompletedByTheNext(t *testing.T) {
	for after := range 2 {
		for at := 1; ; at++ {
			w := newAnchorWorld(t)
			w.sealed("a", "1", hour(9, 10))
			w.sealed("b", "1", hour(11, 10))
			w.now = hour(12, 20)
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, after == 1
			err := w.anchorer.Anchor(context.Background())
			calls := w.faults.Calls()
			w.faults.Reset()
			if err == nil && calls < at {
				break
			}
			if access.CodeOf(err) != access.Unavailable {
				t.Fatalf("cut at %d: %v", at, err)
			}
			w.again()
			w.anchor()
			w.expectAnchors("24T09 1 a/1", "24T10 0", "24T11 1 b/1")
		}
	}
}

// Two run at once: of every hour there is one anchor, and each is behind the one
// that stands.
func TestTwoWhoAnchorAtOnceMakeOneChain(t *testing.T) {
	for at := 1; at < 12; at++ {
		w := newAnchorWorld(t)
		w.sealed("a", "1", hour(9, 10))
		w.sealed("b", "1", hour(11, 10))
		w.now = hour(12, 20)
		w.faults.Reset()
		busy := false
		w.faults.Before = func(n int) {
			if n < at || busy {
				return
			}
			busy = true
			w.now = w.now.Add(time.Second) // another's anchors are other bytes
			w.anchor()
		}
		w.anchor()
		w.faults.Before = nil
		w.expectAnchors("24T09 1 a/1", "24T10 0", "24T11 1 b/1")
	}
}
