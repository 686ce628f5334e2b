package functionshost

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// timerRun runs a timer for a while of fake time and lists what it invoked:
// seconds since the start, and what was told of the schedule. Fake time starts
// at midnight, 2000-01-01 UTC.
func timerRun(t *testing.T, trigger timerTrigger, store timerStore, until time.Duration, work func(n int) time.Duration) []string {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), until)
	defer cancel()
	var list []string
	busy := false
	loop := timerLoop{trigger: &trigger, store: store, name: "Sweep", warn: func(err error) { t.Error(err) },
		invoke: func(ctx context.Context, status *scheduleStatus, pastDue bool) error {
			if busy {
				t.Error("two invocations at once")
			}
			busy = true
			entry := fmt.Sprintf("%g", time.Since(start).Seconds())
			if status != nil {
				entry += fmt.Sprintf(" last %s next %s", clock(status.Last), clock(status.Next))
			}
			if pastDue {
				entry += " past due"
			}
			list = append(list, entry)
			time.Sleep(work(len(list)))
			busy = false
			return errNotJSON // a failure changes nothing
		}}
	loop.run(ctx)
	return list
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format("15:04:05")
}

func atOnce(int) time.Duration { return 0 }

func mustSchedule(t *testing.T, text string) timerTrigger {
	t.Helper()
	s, err := parseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return timerTrigger{schedule: s, text: text, useMonitor: !subMinute(s)}
}

func TestTimerSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := timerRun(t, mustSchedule(t, "0 */5 * * * *"), timerStore{}, 11*time.Minute, atOnce)
		want := []string{"300 last never next 00:05:00", "600 last 00:05:00 next 00:10:00"}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		got := timerRun(t, mustSchedule(t, "*/10 * * * * *"), timerStore{}, 35*time.Second, atOnce)
		if want := []string{"10", "20", "30"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTimerIsSerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first call takes until 35 s: the occurrence of 20 s, due next by
		// its start, fires at once; then the schedule goes on.
		got := timerRun(t, mustSchedule(t, "*/10 * * * * *"), timerStore{}, 55*time.Second, func(n int) time.Duration {
			if n == 1 {
				return 25 * time.Second
			}
			return 0
		})
		if want := []string{"10", "35", "40", "50"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTimerRunOnStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trigger := mustSchedule(t, "00:10:00")
		trigger.runOnStartup = true
		got := timerRun(t, trigger, timerStore{}, 11*time.Minute, atOnce)
		want := []string{"0 last never next 00:10:00", "600 last 00:00:00 next 00:10:00"}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTimerPastDue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		store := timerStore{dir: dir}
		trigger := mustSchedule(t, "0 */5 * * * *")
		timerRun(t, trigger, store, 6*time.Minute, atOnce) // ran at 00:05
		time.Sleep(20 * time.Minute)                       // down until 00:26
		got := timerRun(t, trigger, store, 5*time.Minute, atOnce)
		want := []string{"0 last 00:05:00 next 00:10:00 past due", "240 last 00:26:00 next 00:30:00"}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		// Another schedule does not make it past due.
		time.Sleep(20 * time.Minute)
		got = timerRun(t, mustSchedule(t, "0 0 * * * *"), store, 20*time.Minute, atOnce)
		if want := []string{"540 last 00:30:00 next 01:00:00"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTimerStoreIgnoresGarbage(t *testing.T) {
	store := timerStore{dir: t.TempDir()}
	write(t, store.path("Sweep"), "{")
	if _, ok, err := store.load("Sweep"); ok || err == nil {
		t.Errorf("load: %v, %v", ok, err)
	}
}
