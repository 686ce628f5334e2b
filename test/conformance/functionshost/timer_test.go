package functionshost

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

const timers = "S azure-webjobs-sdk-extensions src/WebJobs.Extensions/Extensions/Timers/"

// The occurrences of NCRONTAB expressions are reckoned in the package's own
// tests, where time is theirs.
func TestTimers(t *testing.T) {
	hold(t, []fact{
		{"six fields, from the seconds on; no status below a minute", timers + "TimerTriggerAttribute.cs; Scheduling/CronSchedule.cs; " +
			"Bindings/TimerTriggerAttributeBindingProvider.cs", everySecond},
		{"the payload of a slower one", timers + "TimerInfo.cs; Scheduling/ScheduleStatus.cs; R a timer call to a custom handler", timerPayload},
		{"an interval does not adjust for daylight saving", timers + "Scheduling/ConstantSchedule.cs", intervalPayload},
		{"past due after a miss", timers + "Listener/TimerListener.cs, StartAsync; Scheduling/ScheduleMonitor.cs", pastDue},
		{"one call at a time", timers + "Listener/TimerListener.cs, InvokeJobFunction", serialTimer},
		{"a failure changes nothing", timers + "Listener/TimerListener.cs, InvokeJobFunction", failingTimer},
	})
}

// timerIs checks what one call of a function said of the timer and what came
// with it.
func timerIs(t *testing.T, h *host, function, want string) {
	t.Helper()
	eventually(t, function+" is called", func() bool { return len(h.calls(t, function)) > 0 })
	call := h.calls(t, function)[0]
	if got := string(call.Data["timer"]); !regexp.MustCompile("^" + want + "$").MatchString(got) {
		t.Errorf("the timer is %s, want %s", got, want)
	}
	if len(call.Metadata) != 1 || call.Metadata["sys"] == nil {
		t.Errorf("metadata %s", call.Metadata)
	}
}

func everySecond(t *testing.T) {
	h := setup{functions: map[string]string{"Tick": timerFunction("* * * * * *", ""),
		"Off": `{"disabled":true,` + timerFunction("* * * * * *", "")[1:]}}.run(t)
	timerIs(t, h, "Tick", `\{"IsPastDue":false,"Schedule":\{"AdjustForDST":true\},"ScheduleStatus":null\}`)
	eventually(t, "it is called again", func() bool { return len(h.calls(t, "Tick")) > 1 })
	if n := len(h.calls(t, "Off")); n != 0 {
		t.Errorf("a disabled timer fired %d times", n)
	}
}

func timerPayload(t *testing.T) {
	h := setup{functions: map[string]string{"Sweep": timerFunction("0 0 * * * *", `,"runOnStartup":true`)}}.run(t)
	timerIs(t, h, "Sweep", `\{"IsPastDue":false,"Schedule":\{"AdjustForDST":true\},"ScheduleStatus":\{"Last":"0001-01-01T00:00:00\+00:00",`+
		`"LastUpdated":"[0-9T:.-]+\+00:00","Next":"[0-9-]+T\d\d:00:00\+00:00"\}\}`)
}

func intervalPayload(t *testing.T) {
	h := setup{functions: map[string]string{"Often": timerFunction("00:00:00.2", "")}}.run(t)
	timerIs(t, h, "Often", `\{"IsPastDue":false,"Schedule":\{"AdjustForDST":false\},"ScheduleStatus":null\}`)
}

func pastDue(t *testing.T) {
	dir := t.TempDir()
	// As a host left it that ended two hours ago.
	last := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	next := last.Add(time.Hour)
	status, err := json.Marshal(map[string]time.Time{"Last": last, "Next": next, "LastUpdated": last})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "timer-Sweep.json"), string(status))
	h := setup{stateDir: dir, functions: map[string]string{"Sweep": timerFunction("0 0 * * * *", "")}}.run(t)
	const offset = "2006-01-02T15:04:05-07:00"
	text := func(at time.Time) string { return regexp.QuoteMeta(at.Format(offset)) }
	timerIs(t, h, "Sweep", fmt.Sprintf(`\{"IsPastDue":true,"Schedule":\{"AdjustForDST":true\},"ScheduleStatus":\{"Last":"%s","LastUpdated":"%s","Next":"%s"\}\}`,
		text(last), text(last), text(next)))
}

func serialTimer(t *testing.T) {
	var mu sync.Mutex
	inside, most := 0, 0
	others := make(chan struct{})
	h := setup{functions: map[string]string{"Slow": timerFunction("00:00:00.1", ""), "Fast": timerFunction("00:00:00.1", "")},
		request: func(ctx context.Context, e event) order {
			if e.Path != "/Slow" {
				return order{}
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			select {
			case <-others:
			case <-ctx.Done():
			}
			mu.Lock()
			inside--
			mu.Unlock()
			return order{}
		}}.run(t)
	eventually(t, "the other timer fired ten times", func() bool { return len(h.calls(t, "Fast")) >= 10 })
	if n := len(h.calls(t, "Slow")); n != 1 {
		t.Errorf("%d calls while the first ran", n)
	}
	close(others)
	eventually(t, "it goes on", func() bool { return len(h.calls(t, "Slow")) > 1 })
	mu.Lock()
	defer mu.Unlock()
	if most != 1 {
		t.Errorf("%d at once", most)
	}
}

func failingTimer(t *testing.T) {
	h := setup{functions: map[string]string{"Often": timerFunction("00:00:00.1", "")}, request: failing(func(invocation) bool { return true })}.run(t)
	eventually(t, "it fires again and again", func() bool { return len(h.calls(t, "Often")) > 2 })
	if stats := h.Stats(); stats.Functions["Often"].Succeeded != 0 || stats.HandlerRuns != 1 {
		t.Errorf("%+v", stats)
	}
}
