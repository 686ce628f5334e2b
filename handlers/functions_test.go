package handlers_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
)

const onWeb = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.network/networksecuritygroups/web"

func (f *fake) Request(context.Context, access.Sender, string, string, []byte) error {
	f.got = append(f.got, access.Request{})
	return f.dead()
}

func (f *fake) Prompt(_ context.Context, id access.ResourceID, _ string) error {
	f.prompted = append(f.prompted, id)
	return f.dead()
}

func TestAPromptIsReadStrictly(t *testing.T) {
	var got []access.ResourceID
	reconcile := handlers.ReconcileNsg(func(_ context.Context, id access.ResourceID, enqueued time.Time) error {
		if got = append(got, id); !enqueued.IsZero() {
			t.Errorf("the body set the clock: %v", enqueued)
		}
		return nil
	})
	for name, body := range map[string]string{
		"not JSON":         "x",
		"nothing":          "",
		"null":             "null",
		"another field":    `{"nsg":"` + onWeb + `","at":"2026-01-01T00:00:00Z"}`,
		"twice":            `{"nsg":"` + onWeb + `","nsg":"` + onWeb + `"}`,
		"another case":     `{"NSG":"` + onWeb + `"}`,
		"more after it":    `{"nsg":"` + onWeb + `"}{}`,
		"no resource id":   `{"nsg":"web"}`,
		"of another type":  `{"nsg":"` + strings.Replace(onWeb, "networksecuritygroups", "virtualnetworks", 1) + `"}`,
		"longer than ever": `{"nsg":"` + onWeb + `"` + strings.Repeat(" ", 5000) + `}`,
	} {
		if err := reconcile(t.Context(), message(t, body, "m", "")); access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(got) != 0 {
		t.Errorf("reconciled %v", got)
	}
	if err := reconcile(t.Context(), message(t, `{"nsg":"`+onWeb+`"}`, "m", "")); err != nil || len(got) != 1 || got[0] != onWeb {
		t.Errorf("%v, %v", got, err)
	}
}

func TestADeadPromptThatNamesNoGroupIsRecordedAsAMessage(t *testing.T) {
	f := &fake{dead: func() error { return nil }}
	for _, body := range []string{`{"nsg":"` + onWeb + `"}`, "x"} {
		if err := handlers.DeadReconcile(f)(t.Context(), message(t, body, "m", "")); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.prompted) != 1 || f.prompted[0] != onWeb || len(f.got) != 1 {
		t.Errorf("prompted %v, recorded %d", f.prompted, len(f.got))
	}
}

// The delivery count is frozen in a dead-letter queue and the host delivers
// again at once.
func TestADeadLetterFunctionFailsOnlyAfterAWhile(t *testing.T) {
	for name, c := range map[string]struct {
		dead func() error
		want time.Duration
	}{
		"success": {func() error { return nil }, 0},
		"error":   {func() error { return errors.New("down") }, 10 * time.Second},
		"panic":   {func() error { panic("boom") }, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now() // of the bubble's clock
			func() {
				defer func() {
					if p := recover(); (p != nil) != (name == "panic") {
						t.Errorf("%s: recovered %v", name, p)
					}
				}()
				if err := handlers.DeadRequest(&fake{dead: c.dead})(context.Background(), message(t, good, "m", "")); (err != nil) != (name == "error") {
					t.Errorf("%s: %v", name, err)
				}
			}()
			if held := time.Since(begun); held != c.want {
				t.Errorf("%s: held for %v", name, held)
			}
		})
	}
}

func TestARefusalThatCannotBeRecordedIsNotOver(t *testing.T) {
	f := &fake{unwritten: access.Errorf(access.FailedPrecondition, "x", "a code that would end it")}
	if err := request(t, f).Handle(t.Context(), message(t, "hello", "m-1", "")); err != nil {
		t.Fatal(err)
	}
	if len(f.rejected) != 0 || len(f.retried) != 1 {
		t.Errorf("rejected %v, retried %v", f.rejected, f.retried)
	}
}

func TestWaitsBetweenAttemptsDoubleWithinBounds(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		attempts string
		asked    time.Duration
		want     time.Duration
	}{
		{"", 0, 5 * time.Second}, {"1", 0, 10 * time.Second}, {"2", 0, 20 * time.Second}, {"50", 0, 5 * time.Minute},
		{"", time.Minute, time.Minute}, {"", 240 * time.Hour, time.Hour}, {"50", time.Second, 5 * time.Minute},
		{"-7", 0, 5 * time.Second}, {`"x"`, 0, 5 * time.Second},
	} {
		f := &fake{err: &access.Error{Code: access.ResourceExhausted, Reason: "throttled", RetryAfter: c.asked}}
		h, err := handlers.NewRequestAccess(f, f, f, func() time.Time { return now }, 100, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Handle(t.Context(), message(t, good, "m-1", c.attempts)); err != nil || len(f.retriedAt) != 1 || f.retriedAt[0].Sub(now) != c.want {
			t.Errorf("attempts %q, asked for %v: again at %v, %v", c.attempts, c.asked, f.retriedAt, err)
		}
	}
}
