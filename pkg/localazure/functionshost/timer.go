package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// subMinute tells that a schedule occurs more often than once a minute, judged
// like the timer extension by its next occurrences.
func subMinute(s schedule) bool {
	t := s.next(time.Now().UTC())
	for range 10 {
		next := s.next(t)
		if next.Sub(t) < time.Minute {
			return true
		}
		t = next
	}
	return false
}

// runTimer is the listener of one timer trigger: it invokes the function on
// schedule, one invocation at a time, until ctx ends. Times are UTC, the zone of
// an Azure function app.
func (h *Host) runTimer(ctx context.Context, f *function) {
	loop := timerLoop{
		trigger: f.timer,
		store:   h.timers,
		name:    f.Name,
		invoke: func(ctx context.Context, status *scheduleStatus, pastDue bool) error {
			e, err := timerEnvelope(f, status, pastDue, time.Now().UTC())
			if err != nil {
				return err
			}
			return h.call(ctx, call{fn: f, reason: "Timer fired at " + time.Now().UTC().Format(time.RFC3339), envelope: e})
		},
		warn: func(err error) { h.log.Warn("timer", "function", f.Name, "error", err) },
	}
	loop.run(ctx)
}

// timerLoop is the schedule of one timer (TimerListener of the timer extension).
type timerLoop struct {
	trigger *timerTrigger
	store   timerStore
	name    string
	invoke  func(ctx context.Context, status *scheduleStatus, pastDue bool) error
	warn    func(error)
}

func (l *timerLoop) run(ctx context.Context) {
	status, pastDue := l.start(time.Now().UTC())
	if pastDue {
		status = l.fire(ctx, status, true, true)
	} else if l.trigger.runOnStartup {
		status = l.fire(ctx, status, false, true)
	}
	for {
		// An occurrence that passed while the function ran fires at once; those
		// after it, up to now, are skipped.
		wait := time.NewTimer(time.Until(status.Next))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
			status = l.fire(ctx, status, false, false)
		}
	}
}

// start reads the stored status and tells whether the timer is past due. Where
// the schedule changed since, the next occurrence is reckoned anew.
func (l *timerLoop) start(now time.Time) (scheduleStatus, bool) {
	fresh := scheduleStatus{Next: l.trigger.schedule.next(now), LastUpdated: now}
	if !l.trigger.useMonitor {
		return fresh, false
	}
	stored, ok, err := l.store.load(l.name)
	if err != nil {
		l.warn(err)
	}
	if !ok {
		l.save(fresh)
		return fresh, false
	}
	since := stored.Last
	if since.IsZero() {
		since = stored.LastUpdated
	}
	if next := l.trigger.schedule.next(since); !next.Equal(stored.Next) {
		stored.Next = l.trigger.schedule.next(now)
		stored.LastUpdated = now
		l.save(stored)
	}
	return stored, now.After(stored.Next)
}

// fire invokes the function and returns the status after it. A failure is
// logged by the invocation and changes nothing.
func (l *timerLoop) fire(ctx context.Context, status scheduleStatus, pastDue, unscheduled bool) scheduleStatus {
	at := time.Now().UTC()
	told := &status
	if !l.trigger.useMonitor {
		told = nil
	}
	_ = l.invoke(ctx, told, pastDue) // its error is in the invocation's own log line
	if ctx.Err() != nil {
		return status
	}
	// A timer that fired a little early must not find the same occurrence again.
	if !unscheduled && status.Next.After(at) {
		at = status.Next
	}
	next := scheduleStatus{Last: at, Next: l.trigger.schedule.next(at), LastUpdated: at}
	if l.trigger.useMonitor {
		l.save(next)
	}
	return next
}

func (l *timerLoop) save(s scheduleStatus) {
	if err := l.store.save(l.name, s); err != nil {
		l.warn(err)
	}
}

// timerStore keeps schedule status in files of a folder; the zero value keeps
// nothing.
type timerStore struct{ dir string }

func (s timerStore) path(name string) string {
	return filepath.Join(s.dir, "timer-"+name+".json")
}

func (s timerStore) load(name string) (scheduleStatus, bool, error) {
	if s.dir == "" {
		return scheduleStatus{}, false, nil
	}
	var status scheduleStatus
	err := readJSON(s.path(name), &status)
	if errors.Is(err, fs.ErrNotExist) {
		return status, false, nil
	}
	if err != nil {
		return scheduleStatus{}, false, fmt.Errorf("status of timer %s: %w", name, err)
	}
	return status, true, nil
}

// save replaces the file in one step, so that a crash leaves the old or the new.
func (s timerStore) save(name string, status scheduleStatus) error {
	if s.dir == "" {
		return nil
	}
	data, err := json.Marshal(status)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	temporary := s.path(name) + ".tmp"
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, s.path(name))
}
