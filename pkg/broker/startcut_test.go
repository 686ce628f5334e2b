package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// A start that is cut off between the legs of a grant, and taken up again when
// what it had laid has ended: the grant has an end too.
func TestAStartThatIsTakenUpTooLateIsNotInitiatingForEver(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			rec := w.request(anna, w.later("1", time.Hour, time.Hour))
			w.now = w.now.Add(time.Hour)
			w.faults.Reset()
			w.faults.FailAt, w.faults.After = at, true
			_ = w.submitter.Start(context.Background(), rec.ID, time.Time{}) // may be cut off
			done = w.faults.Calls() < at
			w.faults.Reset()
			w.now = w.now.Add(2 * time.Hour)
			for range 3 {
				w.deliver()
				w.now = w.now.Add(time.Minute)
				if err := w.sweeper.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if s := w.status(rec); s.Status != access.Failed || s.Reason == "" {
				t.Errorf("cut at %d: %+v", at, s)
			}
			w.expectShut()
		})
		if done || t.Failed() {
			break
		}
	}
}

// A store that has lost the record and kept the note of its start does not keep
// Sweep failing for ever.
func TestAStartWhoseRecordIsLostIsForgotten(t *testing.T) {
	w := newWorld(t)
	id := access.NewRequestID(anna.Sender(), "lost")
	if err := w.store.Schedule(t.Context(), id, w.now); err != nil {
		t.Fatal(err)
	}
	if err := w.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there, err := w.store.Scheduled(t.Context(), id); there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
}
