package tables_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var (
	_ broker.OldIndex    = (*tables.Store)(nil)
	_ broker.Retirements = (*tables.Store)(nil)
)

// keep writes all that there is of a request that has ended, with so many events,
// and gives its place in the index. Nothing of it is left to be done.
func keep(t *testing.T, s *tables.Store, n, events int, after time.Duration) broker.IndexEntry {
	t.Helper()
	ctx, e := t.Context(), entry(n, "anna@contoso.com", after)
	e.Tickets = []access.TicketID{{Source: "snow", Key: "CHG1"}}
	e.VMs = append(e.VMs, vm+"x")
	id := e.Request
	l := legOf(id, 0)
	l.EndTime, l.OpenBy, l.State, l.EndedAt = e.Ends[0], e.DecidedAt, access.LegEnded, e.Ends[0]
	rec := access.Record{ID: id, DecidedAt: e.DecidedAt, Outcome: access.Accepted, Grants: []access.Grant{{VM: vm, EndTime: e.Ends[0], Legs: []access.Leg{l}}}}
	var told []access.Event
	var chain []audit.Seal
	var journal []broker.JournalEntry
	var last audit.Seal
	for i := range events {
		what := event(string(id), fmt.Sprint(i), e.DecidedAt.Add(time.Duration(i)*time.Second))
		var err error
		last, err = audit.Next(last, what, what.At.Add(20*time.Minute*time.Duration(i))) // over more than a day
		check(t, err)
		told, chain = append(told, what), append(chain, last)
		journal = append(journal, broker.JournalEntry{Seal: last, Kind: what.Kind, At: what.At, Actor: what.Actor})
	}
	_, err := s.Keep(ctx, rec, told)
	check(t, err)
	check(t, s.AddSeals(ctx, chain))
	check(t, s.EnterJournal(ctx, journal))
	_, err = s.SaveSent(ctx, string(id), len(chain), "")
	check(t, err)
	check(t, s.EndLegs(ctx, l.NSG, []access.Leg{l}))
	check(t, s.Revoke(ctx, id, []access.Revocation{{Grant: 0, At: e.DecidedAt}}))
	check(t, s.Extended(ctx, id, request(1000)))
	check(t, s.Extended(ctx, id, request(1001)))
	check(t, s.Enter(ctx, e))
	notices, err := s.Notices(ctx)
	check(t, err)
	for _, n := range notices {
		check(t, s.DropNotice(ctx, n))
	}
	return e
}

func TestAHeadIsForgottenUnlessItWasWrittenSince(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	wantCode(t, w.ForgetHead(ctx, broker.Head{NSG: on}), access.Internal, "head_not_read")
	check(t, w.Touch(ctx, on, "t", at))
	all, err := w.All(ctx)
	check(t, err)
	check(t, w.AddLegs(ctx, on, []access.Leg{leg(0)}, "u", at))
	wantCode(t, w.ForgetHead(ctx, all[0]), access.Aborted, "row_changed")
	h, err := w.Head(ctx, on)
	if check(t, err); h.Wanted != "u" || h.At.IsZero() {
		t.Errorf("%+v", h)
	}
	check(t, w.ForgetHead(ctx, h))
	check(t, w.ForgetHead(ctx, h)) // again
	h.Wanted = "late"
	_, err = w.SaveHead(ctx, h) // of somebody who read it before
	wantCode(t, err, access.Aborted, "row_changed")
	wantDue(t, w.Store, at, 0)
	if h, err = w.Head(ctx, on); err != nil || h != (broker.Head{NSG: on}) {
		t.Errorf("%+v, %v", h, err)
	}
}

// contents gives the keys of all rows of the tables that a retirement changes.
func contents(t *testing.T, c *aztables.ServiceClient) (out []string) {
	t.Helper()
	for _, table := range []string{"requests", "journal", "index", "pending", "nsgs", "tickets"} {
		for pager := c.NewClient(table).NewListEntitiesPager(nil); pager.More(); {
			page, err := pager.NextPage(t.Context())
			check(t, err)
			for _, data := range page.Entities {
				var r struct{ PartitionKey, RowKey string }
				check(t, json.Unmarshal(data, &r))
				out = append(out, table+" "+r.PartitionKey+" "+r.RowKey)
			}
		}
	}
	slices.Sort(out)
	return out
}

func retirerOver(t *testing.T, s *tables.Store, now time.Time) *broker.Retirer {
	t.Helper()
	r, err := broker.NewRetirer(broker.RetirePorts{
		Index: s, Record: s, Files: s, Seals: s, Notices: s, Starts: s, Pending: s, Legs: s,
		Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Retention: broker.DefaultRetention,
	})
	check(t, err)
	return r
}

// TestARetirementLeavesNothingAndTouchesNothingElse has it cut off at every call,
// before and after its effect.
func TestARetirementLeavesNothingAndTouchesNothingElse(t *testing.T) {
	for _, after := range []bool{false, true} {
		for cut, done := 1, false; !done; cut++ {
			h := standIn(t)
			s, c := direct(t, h), service(t, transport(func(r *http.Request) (*http.Response, error) { return serve(h, r), nil }))
			// What is of the same name, machines, ticket, group and days stays.
			check(t, s.Append(t.Context(), []access.Event{event("lockdown", "1", at), event(string(on), "1", at)}))
			lockdown := seals(t, audit.Seal{}, event("lockdown", "1", at))
			check(t, s.EnterJournal(t.Context(), []broker.JournalEntry{{Seal: lockdown[0], At: at}}))
			keep(t, s, 3, 3, 49*time.Hour)
			want := contents(t, c)
			keep(t, s, 1, 47, 0) // 101 rows with the note: one more than a transaction holds
			keep(t, s, 2, 2, 26*time.Hour)
			n := 0
			cutting := storeOver(t, func(r *http.Request) (*http.Response, error) {
				n++
				if n >= cut {
					if n == cut && after {
						serve(h, r)
					}
					return nil, errors.New("cut off by the test")
				}
				return serve(h, r), nil
			})
			now := at.Add(broker.DefaultRetention + 40*time.Hour)
			err := retirerOver(t, cutting, now).Retire(context.Background())
			if done = n < cut; !done && err == nil {
				t.Fatalf("cut off at %d it tells of no error", cut)
			}
			check(t, retirerOver(t, s, now).Retire(t.Context()))
			got := contents(t, c)
			notPending := func(rows []string) []string {
				return slices.DeleteFunc(slices.Clone(rows), func(r string) bool { return strings.HasPrefix(r, "pending ") })
			}
			if diff := cmp.Diff(notPending(want), notPending(got)); diff != "" {
				t.Fatalf("cut off at %d (after: %t): %s", cut, after, diff)
			}
			if cut > 100 {
				t.Fatal("it makes calls without end")
			}
		}
	}
}

// TestAnOldDayIsFoundWithoutAScan looks at what is asked of the service.
func TestAnOldDayIsFoundWithoutAScan(t *testing.T) {
	h := standIn(t)
	s := direct(t, h)
	day := 24 * time.Hour
	for i, after := range []time.Duration{0, 3 * day, 3*day + time.Hour, 300 * day} {
		check(t, s.Enter(t.Context(), entry(i, "anna@contoso.com", after)))
	}
	calls := 0
	watched := storeOver(t, func(r *http.Request) (*http.Response, error) {
		calls++
		q := r.URL.Query()
		if f := q.Get("$filter"); q.Get("$top") != "1" || !strings.HasPrefix(f, "PartitionKey ge 'all-") || !strings.Contains(f, "' and PartitionKey le 'all-") {
			t.Errorf("it asks for %s of %q", q.Get("$top"), f)
		}
		return serve(h, r), nil
	})
	midnight := at.Truncate(day)
	for _, c := range []struct {
		from, to time.Time
		want     time.Time
		none     bool
	}{
		{to: at.Add(400 * day), want: midnight},
		{to: at, want: midnight},
		{to: at.Add(-day), none: true},
		{from: midnight.Add(day), to: at.Add(400 * day), want: midnight.Add(3 * day)},
		{from: midnight.Add(3 * day), to: at.Add(3 * day), want: midnight.Add(3 * day)},
		{from: midnight.Add(4 * day), to: at.Add(299 * day), none: true},
		{from: midnight.Add(4 * day), to: at.Add(300 * day), want: midnight.Add(300 * day)},
		{from: midnight.Add(301 * day), to: at.Add(400 * day), none: true},
		{from: at.Add(2 * day), to: at, none: true},
	} {
		calls = 0
		got, ok, err := watched.OldDay(t.Context(), c.from, c.to)
		check(t, err)
		if ok == c.none || !got.Equal(c.want) || calls > 20 {
			t.Errorf("from %s to %s: %s, %t after %d calls", c.from, c.to, got, ok, calls)
		}
	}
}

// Whoever has read what there was of a request removes nothing that was written
// since under the same keys.
func TestWhatIsWrittenAnewIsNotForgotten(t *testing.T) {
	h := standIn(t)
	s := direct(t, h)
	e := keep(t, s, 1, 2, 0)
	first := true
	slow := storeOver(t, func(r *http.Request) (*http.Response, error) {
		if first && batches(r) {
			first = false
			check(t, s.ForgetRequest(t.Context(), e.Request)) // somebody who does the same
			keep(t, s, 1, 2, time.Hour)
		}
		return serve(h, r), nil
	})
	err := slow.ForgetRequest(t.Context(), e.Request)
	wantCode(t, err, access.Aborted, "row_changed")
	f, err := s.File(t.Context(), e.Request)
	check(t, err)
	if events, err := s.EventsOf(t.Context(), string(e.Request)); err != nil || len(events) != 2 || len(f.Ended) != 1 || !f.Record.DecidedAt.Equal(e.DecidedAt.Add(time.Hour)) {
		t.Errorf("%+v, %v, %v", f, events, err)
	}
}
