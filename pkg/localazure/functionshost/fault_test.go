package functionshost

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// set puts a plan of one rule into force.
func set(t *testing.T, h *Host, r fault.Rule) {
	t.Helper()
	if err := h.Faults().Set(fault.Plan{Rules: []fault.Rule{r}}); err != nil {
		t.Fatal(err)
	}
}

// struck is how many operations the plan's first rule has befallen.
func struck(h *Host) int {
	_, counts := h.Faults().State()
	return counts[0].Struck
}

// seen lists the delivery counts with which the handler got a message.
func seen(t *testing.T, a *app, id string) string {
	t.Helper()
	var list []string
	for _, d := range deliveries(t, a) {
		if d.text(t, "MessageId") == id {
			list = append(list, d.text(t, "DeliveryCount"))
		}
	}
	slices.Sort(list) // a lost lock lets two of them run at once
	return strings.Join(list, " ")
}

func TestFaultsOfTriggers(t *testing.T) {
	for name, sessions := range map[string]bool{"messages": false, "sessions": true} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, sessions)
			a, h := triggered(t, b, sessions)
			for _, test := range []struct {
				rule              fault.Rule
				seen              string
				succeeded, failed int
				runs              int
			}{
				{fault.Rule{Do: fault.Drop}, "2", 1, 1, 0},
				{fault.Rule{Do: fault.Throttle}, "2", 1, 1, 0},
				{fault.Rule{Do: fault.Refuse}, "2", 1, 1, 0},
				{fault.Rule{Do: fault.LoseReply}, "1 2", 1, 1, 0},
				{fault.Rule{Do: fault.Lock}, "1 2", 2, 0, 0},
				{fault.Rule{Do: fault.Kill, Delay: fault.Duration(time.Hour)}, "1 2", 1, 1, 1}, // at the answer
			} {
				t.Run(string(test.rule.Do), func(t *testing.T) {
					before := h.Stats()
					test.rule.On, test.rule.Times = "INVOKE on", 1
					set(t, h.Host, test.rule)
					session := ""
					if sessions {
						session = "s"
					}
					b.send(t, string(test.rule.Do), session)
					var got Invocations
					eventually(t, "the outcomes", func() bool {
						got = h.Stats().Functions["On"]
						got.Succeeded -= before.Functions["On"].Succeeded
						got.Failed -= before.Functions["On"].Failed
						return got.Running == 0 && got.Succeeded >= test.succeeded && got.Failed >= test.failed
					})
					if got.Succeeded != test.succeeded || got.Failed != test.failed || struck(h.Host) != 1 {
						t.Errorf("%+v, struck %d", got, struck(h.Host))
					}
					eventually(t, "the handler says what it saw", func() bool { return len(seen(t, a, string(test.rule.Do))) >= len(test.seen) })
					if got := seen(t, a, string(test.rule.Do)); got != test.seen {
						t.Errorf("the handler saw the deliveries %q, want %q", got, test.seen)
					}
					if got := h.Stats().HandlerRuns - before.HandlerRuns; got != test.runs {
						t.Errorf("%d new runs of the handler, want %d", got, test.runs)
					}
				})
			}
		})
	}
}

func TestHeldInvocations(t *testing.T) {
	b := startBroker(t, false)
	a, h := triggered(t, b, false)
	for kind, delay := range map[fault.Kind]time.Duration{fault.Slow: time.Hour, fault.Pause: 0} {
		set(t, h.Host, fault.Rule{On: "invoke *", Do: kind, Delay: fault.Duration(delay), Times: 1})
		held, next := "held-"+string(kind), "next-"+string(kind)
		b.send(t, held, "")
		eventually(t, "it is held", func() bool { return struck(h.Host) == 1 })
		b.send(t, next, "")
		eventually(t, "the next one passes", func() bool { return seen(t, a, next) == "1" })
		if got := seen(t, a, held); got != "" {
			t.Errorf("%s: it reached the handler: %q", kind, got)
		}
		if err := h.Faults().Set(fault.Plan{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it goes on", func() bool { return seen(t, a, held) == "1" })
	}
}

// TestKilledInTheMiddle kills a handler that would never answer.
func TestKilledInTheMiddle(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	// More often than the errors that would stop the host.
	for range errorLimit + 1 {
		set(t, h.Host, fault.Rule{On: "http * /api/hang", Do: fault.Kill, Delay: fault.Duration(time.Millisecond)})
		runs := h.Stats().HandlerRuns
		before := h.echo(t, "GET", "/api/x", "", nil).Pid
		if response, _ := h.do(t, "POST", "/api/hang", "", nil); response.StatusCode != http.StatusBadGateway {
			t.Fatalf("the caller got %s", response.Status)
		}
		if after := h.echo(t, "GET", "/api/x", "", nil).Pid; after == before || h.Stats().HandlerRuns != runs+1 {
			t.Fatalf("pid %d after %d, %d runs", after, before, h.Stats().HandlerRuns)
		}
	}
}

func TestFaultsOfRequests(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	h := a.start(t)
	plan := func(body string) {
		t.Helper()
		if response, text := h.do(t, "PUT", fault.Path, body, nil); response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, text)
		}
	}
	// post reports the status, 0 for a connection that ended without one.
	post := func() (int, http.Header) {
		response, err := http.Post(h.url+"/api/x", "", strings.NewReader("x"))
		if err != nil {
			return 0, nil
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode, response.Header
	}
	for _, test := range []struct {
		rule    string
		status  int
		retry   string
		invoked int // how often the function was
		runs    int
	}{
		{`{"on":"http * /api/x","do":"throttle","delay":"1.2s","times":1}`, 429, "2", 0, 0},
		{`{"on":"http post *","do":"throttle","times":1}`, 429, "1", 0, 0},
		{`{"on":"*","do":"refuse","times":1}`, 403, "", 0, 0},
		{`{"on":"*","do":"drop","times":1}`, 0, "", 0, 0},
		{`{"on":"*","do":"lose-reply","times":1}`, 0, "", 1, 0},
		{`{"on":"*","do":"kill","delay":"1h","times":1}`, 502, "", 1, 1},
		{`{"on":"*","do":"slow","delay":"1ms","times":1}`, 200, "", 1, 0},
		{`{"on":"*","do":"lock","times":1}`, 200, "", 1, 0},
	} {
		plan(`{"rules":[` + test.rule + `]}`)
		before := h.Stats()
		status, header := post()
		if status != test.status || header.Get("Retry-After") != test.retry || struck(h.Host) != 1 {
			t.Errorf("%s: %d, Retry-After %q, struck %d", test.rule, status, header.Get("Retry-After"), struck(h.Host))
		}
		count := func(s Stats) int { i := s.Functions["Any"]; return i.Succeeded + i.Failed }
		// An answer reaches the caller before its invocation is over.
		eventually(t, test.rule+": the count", func() bool { return count(h.Stats())-count(before) == test.invoked })
		if status, _ := post(); status != http.StatusOK {
			t.Errorf("after %s: %d", test.rule, status)
		}
		if got := h.Stats().HandlerRuns - before.HandlerRuns; got != test.runs {
			t.Errorf("%s: %d new runs of the handler", test.rule, got)
		}
	}
}

func TestPausedRequestsGoOn(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	ask := func() <-chan int {
		answered := make(chan int, 1)
		go func() {
			response, err := http.Get(h.url + "/api/x")
			if err != nil {
				answered <- 0
				return
			}
			response.Body.Close()
			answered <- response.StatusCode
		}()
		return answered
	}
	set(t, h.Host, fault.Rule{On: "http *", Do: fault.Pause, Times: 1})
	first := ask()
	eventually(t, "it is held", func() bool { return struck(h.Host) == 1 })
	if status := <-ask(); status != http.StatusOK {
		t.Errorf("the next one: %d", status)
	}
	select {
	case status := <-first:
		t.Fatalf("answered %d while paused", status)
	default:
	}
	if err := h.Faults().Set(fault.Plan{}); err != nil {
		t.Fatal(err)
	}
	if status := <-first; status != http.StatusOK {
		t.Errorf("the held one: %d", status)
	}
	// The host's end lets nobody wait.
	set(t, h.Host, fault.Rule{On: "http *", Do: fault.Pause, Times: 1})
	last := ask()
	eventually(t, "it is held", func() bool { return struck(h.Host) == 1 })
	h.cancel()
	if status := <-last; status != http.StatusServiceUnavailable {
		t.Errorf("at the end: %d", status)
	}
}

func TestStats(t *testing.T) {
	host := strings.Replace(plainHost, `"version"`, `"functionTimeout":"00:00:01","version"`, 1)
	h := newApp(t, host, map[string]string{"Any": anyRoute, "Idle": timerJSON}).start(t)
	h.do(t, "GET", "/api/teapot", "", nil) // whatever the status
	h.do(t, "GET", "/api/hang", "", nil)
	h.do(t, "GET", "/api/exit/200", "", nil)
	_, text := h.do(t, "GET", StatsPath, "", nil)
	var got Stats
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if want := (Invocations{Succeeded: 1, Failed: 1, TimedOut: 1}); got.Functions["Any"] != want || len(got.Functions) != 1 || got.HandlerRuns < 2 {
		t.Errorf("%s", text)
	}
	if response, _ := h.do(t, "POST", StatsPath, "", nil); response.StatusCode != http.StatusMethodNotAllowed {
		t.Error(response.Status)
	}
}
