package tables_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var (
	_ broker.Chains  = (*tables.Store)(nil)
	_ broker.Seals   = (*tables.Store)(nil)
	_ broker.Notices = (*tables.Store)(nil)
	_ broker.Journal = (*tables.Store)(nil)
)

// seals continues a chain with the events.
func seals(t *testing.T, last audit.Seal, events ...access.Event) (out []audit.Seal) {
	t.Helper()
	for i, e := range events {
		s, err := audit.Next(last, e, at.Add(time.Hour+time.Duration(i)*time.Nanosecond))
		check(t, err)
		out, last = append(out, s), s
	}
	return out
}

func TestAChainIsWhatWasWritten(t *testing.T) {
	w, ctx := newWorld(t, 2), t.Context() // the service answers in pages of two
	for _, subject := range []string{string(request(1)), string(on), "lockdown", "source/snow", "ticket/jira/OPS-1", "Änderung?#\\", strings.Repeat("x", 2000)} {
		var events []access.Event
		for i := range 5 {
			events = append(events, event(subject, fmt.Sprint(i), at.Add(time.Duration(i)*time.Nanosecond)))
		}
		slices.Reverse(events)
		check(t, w.Append(ctx, events))
		check(t, w.Append(ctx, events)) // again
		slices.Reverse(events)
		chain := seals(t, audit.Seal{}, events...)
		check(t, w.AddSeals(ctx, chain))
		haveEvents, haveSeals, err := w.Chain(ctx, subject)
		check(t, err)
		if diff := cmp.Diff(events, haveEvents); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(chain, haveSeals); diff != "" {
			t.Error(diff)
		}
		if found := audit.Verify(subject, haveEvents, haveSeals, at.Add(time.Hour)); len(found) > 0 {
			t.Errorf("%s: %+v", subject, found)
		}
	}
	events, chain, err := w.Chain(ctx, "nobody")
	if check(t, err); len(events)+len(chain) > 0 {
		t.Errorf("%v %v", events, chain)
	}
}

func TestAFileHoldsNothingOfTheChain(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	id := request(1)
	e := event(string(id), "1", at)
	check(t, w.Append(ctx, []access.Event{e}))
	check(t, w.AddSeals(ctx, seals(t, audit.Seal{}, e)))
	_, err := w.SaveSent(ctx, string(id), 1, "")
	check(t, err)
	if _, err := w.File(ctx, id); access.CodeOf(err) != access.NotFound {
		t.Errorf("a file of events and seals alone: %v", err)
	}
	_, err = w.Keep(ctx, decision(id, "alice"), nil)
	check(t, err)
	f, err := w.File(ctx, id)
	if check(t, err); f.Record.ID != id || len(f.Ended)+len(f.Revoked)+len(f.ExtendedBy) > 0 || f.Start != nil {
		t.Errorf("%+v", f)
	}
}

func TestOfTwoWhoSealOneHasTheNumber(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	one, two, three := event("s", "1", at), event("s", "2", at), event("s", "3", at)
	first := seals(t, audit.Seal{}, one)
	check(t, w.AddSeals(ctx, first))
	wantCode(t, w.AddSeals(ctx, seals(t, audit.Seal{}, two, three)), access.Aborted, "row_changed")
	out, err := w.Outgoing(ctx, "s")
	check(t, err)
	if diff := cmp.Diff(first, out.Seals); diff != "" {
		t.Errorf("the other's numbers: %s", diff)
	}
}

func TestHowMuchWasSentNeverGoesBack(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	sent := func() (int, string) {
		out, err := w.Outgoing(ctx, "s")
		check(t, err)
		return out.Sent, out.ETag
	}
	if n, etag := sent(); n != 0 || etag != "" {
		t.Errorf("before anything: %d %q", n, etag)
	}
	_, err := w.SaveSent(ctx, "s", 3, "")
	check(t, err)
	_, err = w.SaveSent(ctx, "s", 2, "")
	wantCode(t, err, access.Aborted, "row_changed")
	_, old := sent()
	fresh, err := w.SaveSent(ctx, "s", 5, old)
	check(t, err)
	_, err = w.SaveSent(ctx, "s", 4, old)
	wantCode(t, err, access.Aborted, "row_changed")
	if n, etag := sent(); n != 5 || etag != fresh {
		t.Errorf("%d %q, want 5 %q", n, etag, fresh)
	}
}

// writers are all ways in which an event is written.
func writers(w *world) map[string]func(context.Context, access.Event) error {
	id := request(1)
	return map[string]func(context.Context, access.Event) error{
		"Append": func(ctx context.Context, e access.Event) error { return w.Append(ctx, []access.Event{e}) },
		"Keep": func(ctx context.Context, e access.Event) error {
			_, err := w.Keep(ctx, decision(id, "a"), []access.Event{e})
			return err
		},
		"DecideStart": func(ctx context.Context, e access.Event) error {
			_, err := w.DecideStart(ctx, access.Start{Request: id}, []access.Event{e})
			return err
		},
		"SetLockdown": func(ctx context.Context, e access.Event) error {
			return w.SetLockdown(ctx, access.Lockdown{}, []access.Event{e})
		},
	}
}

// TestNoEventIsThereWithoutANotice cuts every writer off between its calls.
func TestNoEventIsThereWithoutANotice(t *testing.T) {
	for name := range writers(nil) {
		subject := string(request(1))
		if name == "SetLockdown" {
			subject = "lockdown"
		}
		e := event(subject, "1", at)
		for cut := 1; ; cut++ {
			w := newWorld(t, 1000)
			n := 0
			stop := w.intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
				if n++; n >= cut {
					refuse(rw, http.StatusForbidden, "AuthorizationFailure")
					return true
				}
				return false
			})
			err := writers(w)[name](t.Context(), e)
			stop()
			events, chainErr := w.EventsOf(t.Context(), subject)
			check(t, chainErr)
			_, unnoted := w.Notice(t.Context(), subject)
			if len(events) > 0 && unnoted != nil {
				t.Errorf("%s, cut off at call %d: an event without a notice", name, cut)
			}
			if err == nil {
				if len(events) != 1 || unnoted != nil || cut < 3 {
					t.Errorf("%s: %d events, notice %v, after %d calls", name, len(events), unnoted, cut-1)
				}
				break
			}
		}
	}
}

// TestALockdownWaitsForNoNotice sets one while no notice can be written, and
// finds the notice once all were told.
func TestALockdownWaitsForNoNotice(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	stop := w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		body, err := io.ReadAll(r.Body)
		check(t, err)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if unsent := bytes.Contains(body, []byte("unsent")); unsent {
			refuse(rw, http.StatusForbidden, "AuthorizationFailure")
			return true
		}
		return false
	})
	check(t, w.SetLockdown(ctx, access.Lockdown{Active: true, Reason: "x"}, []access.Event{event("lockdown", "1", at)}))
	l, err := w.Lockdown(ctx)
	if check(t, err); !l.Active {
		t.Fatal("not locked down")
	}
	l.Told = true
	wantCode(t, w.SetLockdown(ctx, l, nil), access.Unavailable, "azure_permission")
	stop()
	check(t, w.SetLockdown(ctx, l, nil))
	_, err = w.Notice(ctx, "lockdown")
	check(t, err)
}

func TestANoticeIsMarkedAndDroppedAsItWasRead(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	write := func(key string) { check(t, w.Append(ctx, []access.Event{event("s", key, at), event("s2", key, at)})) }
	read := func() broker.Notice {
		n, err := w.Notice(ctx, "s")
		check(t, err)
		return n
	}
	write("1")
	n := read()
	if n.Subject != "s" || n.Seen || n.At.IsZero() {
		t.Errorf("%+v", n)
	}
	write("2")
	wantCode(t, w.MarkSeen(ctx, n), access.Aborted, "row_changed")
	wantCode(t, w.DropNotice(ctx, n), access.Aborted, "row_changed")
	n = read()
	check(t, w.MarkSeen(ctx, n))
	if seen := read(); !seen.Seen || seen.At.Before(n.At) {
		t.Errorf("%+v", seen)
	}
	write("3")
	if n = read(); n.Seen {
		t.Error("noted again, it is still seen")
	}
	check(t, w.DropNotice(ctx, n))
	check(t, w.DropNotice(ctx, n)) // again
	wantCode(t, w.MarkSeen(ctx, n), access.Aborted, "row_changed")
	_, err := w.Notice(ctx, "s")
	wantCode(t, err, access.NotFound, "row_missing")
	all, err := w.Notices(ctx)
	if check(t, err); len(all) != 1 || all[0].Subject != "s2" {
		t.Errorf("%+v", all)
	}
}

func TestAnUnreadableNoticeKeepsNoOtherBack(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Append(ctx, []access.Event{event("s", "1", at)}))
	_, err := w.service.NewClient("pending").UpsertEntity(ctx, []byte(`{"PartitionKey":"unsent","RowKey":"x"}`), replace())
	check(t, err)
	all, err := w.Notices(ctx)
	wantCode(t, err, access.Internal, "record_unreadable")
	if len(all) != 1 || all[0].Subject != "s" {
		t.Errorf("%+v", all)
	}
}

func TestTheStoreTellsOfEverySubjectOnce(t *testing.T) {
	w := newWorld(t, 1000)
	var told []string
	s := w.Telling(func(subject string) {
		events, err := w.EventsOf(t.Context(), subject)
		if check(t, err); len(events) == 0 {
			t.Errorf("told of %s before it was written", subject)
		}
		told = append(told, subject)
	})
	check(t, s.Append(t.Context(), []access.Event{event("s", "1", at), event("s2", "1", at), event("s", "2", at)}))
	check(t, s.Append(t.Context(), nil))
	if diff := cmp.Diff([]string{"s", "s2"}, told); diff != "" {
		t.Error(diff)
	}
	before := w.calls.Load()
	check(t, s.Append(t.Context(), []access.Event{event("s3", "1", at)}))
	if n := w.calls.Load() - before; n != 3 { // the notice, the event, and the reading above
		t.Errorf("%d calls", n)
	}
}

func TestTheJournalIsReadInItsOrder(t *testing.T) {
	w, ctx := newWorld(t, 3), t.Context() // the service answers in pages of three
	var want []broker.JournalEntry
	for i := range 12 { // over three days
		e := event([]string{"s", string(on)}[i%2], fmt.Sprint(i), at)
		s, err := audit.Next(audit.Seal{Seq: i}, e, at.Add(time.Duration(i/2)*12*time.Hour))
		check(t, err)
		want = append(want, broker.JournalEntry{Seal: s, Kind: e.Kind, At: e.At, Actor: e.Actor})
	}
	check(t, w.EnterJournal(ctx, want))
	check(t, w.EnterJournal(ctx, want)) // again
	check(t, w.EnterJournal(ctx, nil))
	seqs := func(list []broker.JournalEntry) (out []int) {
		for _, e := range list {
			out = append(out, e.Seal.Seq)
		}
		slices.Sort(out) // those sealed in one moment may stand in any order
		return out
	}
	for name, c := range map[string]struct {
		q    broker.JournalQuery
		want []broker.JournalEntry
	}{
		"all":              {broker.JournalQuery{}, want},
		"from, included":   {broker.JournalQuery{From: at.Add(24 * time.Hour)}, want[4:]},
		"to, not included": {broker.JournalQuery{To: at.Add(24 * time.Hour)}, want[:4]},
		"a day":            {broker.JournalQuery{From: at.Add(24 * time.Hour), To: at.Add(48 * time.Hour)}, want[4:8]},
		"any year":         {broker.JournalQuery{From: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, want},
		"nothing":          {broker.JournalQuery{From: at.Add(100 * 24 * time.Hour)}, nil},
	} {
		for _, most := range []int{1, 4, 12, 1000} {
			var got []broker.JournalEntry
			for c.q.Most, c.q.After = most, ""; ; {
				page, next, err := w.Journal(ctx, c.q)
				check(t, err)
				if len(page) > most || next != "" && len(page) < most {
					t.Fatalf("%s: a page of %d, next %q", name, len(page), next)
				}
				got = append(got, page...)
				if c.q.After = next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(seqs(c.want), seqs(got)); diff != "" {
				t.Errorf("%s, %d at a time: %s", name, most, diff)
			}
			if !slices.IsSortedFunc(got, func(a, b broker.JournalEntry) int { return a.Seal.At.Compare(b.Seal.At) }) {
				t.Errorf("%s, %d at a time: not in the order of sealing", name, most)
			}
		}
	}
	got, _, err := w.Journal(ctx, broker.JournalQuery{Most: 1})
	check(t, err)
	if i := got[0].Seal.Seq - 1; cmp.Diff(want[i], got[0]) != "" {
		t.Error(cmp.Diff(want[i], got[0]))
	}
	if _, _, err := w.Journal(ctx, broker.JournalQuery{After: "' or 1 eq 1", Most: 5}); err != nil {
		t.Errorf("a forged mark: %v", err)
	}
}
