package fault_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

func injector(t *testing.T, p fault.Plan) *fault.Injector {
	t.Helper()
	i := fault.New(fault.Slow, fault.Throttle, fault.Drop, fault.Pause, fault.Kill)
	if err := i.Set(p); err != nil {
		t.Fatal(err)
	}
	return i
}

// story is what befalls the operations, in their order.
func story(i *fault.Injector, operations ...string) string {
	var told []string
	for _, op := range operations {
		kind := "-"
		if s := i.Take(op); s != nil {
			kind = string(s.Kind)
		}
		told = append(told, kind)
	}
	return strings.Join(told, " ")
}

func TestTheFirstRuleThatStrikesCounts(t *testing.T) {
	i := injector(t, fault.Plan{Rules: []fault.Rule{
		{On: "PUT *", Do: fault.Drop, Skip: 1, Times: 1},
		{On: "put /a", Do: fault.Throttle},
		{On: "PUT /a.c", Do: fault.Slow, Delay: fault.Duration(time.Second)},
	}})
	if got := story(i, "PUT /a", "PUT /a", "PUT /a", "GET /a", "PUT /abc", "PUT /a.c", "PUT /b/a"); got != "throttle drop throttle - - slow -" {
		t.Error(got)
	}
	if _, counts := i.State(); counts[0] != (fault.Count{Matched: 6, Struck: 1}) || counts[1].Struck != 2 {
		t.Errorf("%+v", counts)
	}
}

func TestAPlanRepeatsItselfBySeed(t *testing.T) {
	run := func(seed uint64, between string) string {
		i := injector(t, fault.Plan{Seed: seed, Rules: []fault.Rule{
			{On: "a", Do: fault.Drop, Chance: 0.5}, {On: "b", Do: fault.Drop, Chance: 0.5},
		}})
		var told strings.Builder
		for range 64 {
			told.WriteString(story(i, "a"))
			story(i, between)
		}
		return told.String()
	}
	one := run(1, "b")
	if one != run(1, "c") {
		t.Error("other operations change what befalls these")
	}
	if one == run(2, "b") {
		t.Error("another seed gives the same")
	}
	if n := strings.Count(one, "drop"); n < 16 || n > 48 {
		t.Errorf("%d of 64 at a chance of one half", n)
	}
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := injector(t, fault.Plan{Rules: []fault.Rule{
			{On: "slow", Do: fault.Slow, Delay: fault.Duration(time.Minute)}, {On: "pause", Do: fault.Pause}, {On: "drop", Do: fault.Drop},
		}})
		start := time.Now()
		if err := i.Take("drop").Hold(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("drop: %v after %v", err, time.Since(start))
		}
		if err := i.Take("slow").Hold(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("slow: %v after %v", err, time.Since(start))
		}
		paused := i.Take("pause")
		if paused.Over() {
			t.Error("over before it began")
		}
		go func() {
			time.Sleep(time.Hour)
			if err := i.Set(fault.Plan{}); err != nil {
				t.Error(err)
			}
		}()
		if err := paused.Hold(t.Context()); err != nil || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("pause: %v after %v", err, time.Since(start))
		}
		if !paused.Over() {
			t.Error("not over once the plan was replaced")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := injector(t, fault.Plan{Rules: []fault.Rule{{On: "*", Do: fault.Pause}}}).Take("x").Hold(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestFaultyPlansChangeNothing(t *testing.T) {
	i := injector(t, fault.Plan{Rules: []fault.Rule{{On: "*", Do: fault.Drop}}})
	for _, body := range []string{
		``, `[]`, `{"rules":[{"do":"drop"}]}`, `{"rules":[{"on":"*","do":"explode"}]}`, `{"rules":[{"on":"*","do":"lock"}]}`,
		`{"rules":[{"on":"*","do":"slow"}]}`, `{"rules":[{"on":"*","do":"slow","delay":"-1s"}]}`, `{"rules":[{"on":"*","do":"drop","delay":"1s"}]}`,
		`{"rules":[{"on":"*","do":"drop","times":-1}]}`, `{"rules":[{"on":"*","do":"drop","chance":1.5}]}`, `{"rules":[{"on":"*","do":"drop","tiems":1}]}`,
	} {
		w := httptest.NewRecorder()
		i.ServeHTTP(w, httptest.NewRequest(http.MethodPut, fault.Path, strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if i.Take("x") == nil {
		t.Error("the plan is gone")
	}
}

func TestAdmin(t *testing.T) {
	i := injector(t, fault.Plan{})
	call := func(method, body string) (int, string) {
		w := httptest.NewRecorder()
		i.ServeHTTP(w, httptest.NewRequest(method, fault.Path, strings.NewReader(body)))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	if code, body := call("PUT", `{"seed":7,"rules":[{"on":"GET *","do":"slow","delay":"1.5s","times":2}]}`); code != 200 {
		t.Fatal(code, body)
	}
	if s := i.Take("GET /"); s == nil || s.Delay != 1500*time.Millisecond {
		t.Errorf("%+v", s)
	}
	later := injector(t, fault.Plan{Rules: []fault.Rule{{On: "*", Do: fault.Kill, Delay: fault.Duration(time.Second)}}})
	if s := later.Take("GET /"); s == nil || s.Kind != fault.Kill || s.Delay != time.Second {
		t.Errorf("kill: %+v", s)
	}
	want := `{"plan":{"seed":7,"rules":[{"on":"GET *","do":"slow","delay":"1.5s","times":2}]},"counts":[{"matched":1,"struck":1}]}`
	if code, body := call("GET", ""); code != 200 || body != want {
		t.Error(code, body)
	}
	if code, body := call("DELETE", ""); code != 200 || body != `{"plan":{"rules":[]},"counts":[]}` || i.Take("GET /") != nil {
		t.Error(code, body)
	}
	if code, _ := call("POST", ""); code != http.StatusMethodNotAllowed {
		t.Error(code)
	}
}
