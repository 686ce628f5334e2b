package broker_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// ids walks all pages and gives the requests' client ids.
func (w *world) ids(by access.Caller, f broker.Filter) (out []string) {
	w.t.Helper()
	for range 100 {
		page, err := w.desk.List(context.Background(), by, f)
		if err != nil {
			w.t.Fatal(err)
		}
		if most := max(f.PageSize, 1); f.PageSize > 0 && len(page.Items) > most {
			w.t.Fatalf("%d items on a page of %d", len(page.Items), most)
		}
		for _, s := range page.Items {
			out = append(out, s.Record.Request.ClientID)
		}
		if f.Token = page.Next; f.Token == "" {
			return out
		}
	}
	w.t.Fatal("the pages do not come to an end")
	return nil
}

func TestEverybodyListsWhatIsTheirs(t *testing.T) {
	w := newWorld(t)
	start := w.now
	tick := func() { w.now = w.now.Add(time.Minute) }
	w.request(anna, wants("a1", alice, time.Hour))
	tick()
	w.request(ben, wants("b1", bob, time.Hour))
	tick()
	ask := wants("h1", "203.0.113.9", time.Hour)
	ask.Requestor = anna.Name
	w.request(help, ask)
	tick()
	w.submit(askFor("q1", anna.Name))
	tick()
	_, _ = w.desk.Request(t.Context(), anna, wants("a2", "198.51.100.9", time.Hour)) // refused
	tick()
	later := w.request(anna, w.later("a3", time.Hour, time.Hour))
	w.deliver()
	if _, err := w.desk.Revoke(t.Context(), anna, access.NewRequestID(anna.Sender(), "a1"), broker.GiveBack{}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	_ = later

	for name, c := range map[string]struct {
		by   access.Caller
		f    broker.Filter
		want string
	}{
		"one's own":                 {anna, broker.Filter{}, "a3 a2 h1 a1"},
		"of another, for oneself":   {ben, broker.Filter{}, "b1"},
		"handed in for another":     {help, broker.Filter{}, "h1"},
		"all":                       {audit, broker.Filter{}, "a3 a2 q1 h1 b1 a1"},
		"all of a requestor":        {admin, broker.Filter{Requestor: "Anna@contoso.com"}, "a3 a2 q1 h1 a1"},
		"another's, without a role": {ben, broker.Filter{Requestor: anna.Name}, ""},
		"for whom one asked":        {help, broker.Filter{Requestor: anna.Name}, "h1"},
		"a machine's":               {audit, broker.Filter{VM: vm}, "a3 a2 q1 h1 b1 a1"},
		"a machine's, one's own":    {ben, broker.Filter{VM: vm}, "b1"},
		"another machine's":         {audit, broker.Filter{VM: vm + "2"}, ""},
		"initiated":                 {audit, broker.Filter{Status: "Initiated"}, "q1 h1 b1"},
		"revoked":                   {anna, broker.Filter{Status: "Revoked"}, "a1"},
		"scheduled":                 {audit, broker.Filter{Status: "Scheduled"}, "a3"},
		"refused":                   {audit, broker.Filter{Status: "Refused"}, "a2"},
		"from":                      {audit, broker.Filter{From: start.Add(3 * time.Minute)}, "a3 a2 q1"},
		"to, not included":          {audit, broker.Filter{To: start.Add(2 * time.Minute)}, "b1 a1"},
		"from to":                   {audit, broker.Filter{From: start.Add(time.Minute), To: start.Add(2 * time.Minute)}, "b1"},
	} {
		for _, size := range []int{0, 1, 2, 200} {
			c.f.PageSize = size
			if got := strings.Join(w.ids(c.by, c.f), " "); got != c.want {
				t.Errorf("%s, pages of %d: %s, want %s", name, size, got, c.want)
			}
		}
	}
	_, err := w.desk.List(t.Context(), none, broker.Filter{})
	wantReason(t, err, access.PermissionDenied, "role_required")
}

func TestAFilterThatIsNone(t *testing.T) {
	w := newWorld(t)
	for reason, f := range map[string]broker.Filter{
		"page_size_invalid":          {PageSize: 201},
		"status_invalid":             {Status: "initiated"},
		"time_range_invalid":         {From: w.now, To: w.now},
		"continuation_token_invalid": {Token: base64.RawURLEncoding.EncodeToString([]byte("0' or PartitionKey ne '"))},
	} {
		_, err := w.desk.List(t.Context(), audit, f)
		wantReason(t, err, access.InvalidArgument, reason)
	}
	for _, token := range []string{"!", strings.Repeat("A", 5000), "AAAA"} {
		_, err := w.desk.List(t.Context(), audit, broker.Filter{Token: token})
		wantReason(t, err, access.InvalidArgument, "continuation_token_invalid")
	}
}

// TestAForgedPlaceShowsNobodyMore takes the token of an auditor's page.
func TestAForgedPlaceShowsNobodyMore(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		w.request([]access.Caller{anna, ben}[i%2], wants(fmt.Sprint(i), alice, time.Hour))
		w.now = w.now.Add(time.Second)
	}
	page, err := w.desk.List(t.Context(), audit, broker.Filter{PageSize: 2})
	if err != nil || page.Next == "" {
		t.Fatal(page, err)
	}
	if got := w.ids(anna, broker.Filter{Token: page.Next}); !slices.Equal(got, []string{"2", "0"}) {
		t.Errorf("%v", got)
	}
}

// TestTheIndexIsCompletedAfterACut cuts a request off at every call.
func TestTheIndexIsCompletedAfterACut(t *testing.T) {
	for at := 1; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.faults.FailAt, w.faults.After = at, true
			_, _ = w.desk.Request(context.Background(), anna, wants("1", alice, time.Hour)) // may be cut off
			done = w.faults.Calls() < at
			w.faults.Reset()
			_, _, err := w.store.Find(context.Background(), access.NewRequestID(anna.Sender(), "1"))
			w.now = w.now.Add(time.Minute)
			if err := w.sweeper.Sweep(context.Background()); err != nil {
				t.Fatal(err)
			}
			want := 0 // what was not decided is not listed, though its place may be claimed
			if err == nil {
				want = 1
			}
			for name, f := range map[string]broker.Filter{"all": {}, "vm": {VM: vm}, "name": {Requestor: anna.Name}} {
				if got := w.ids(audit, f); len(got) != want {
					t.Errorf("cut at %d: %s gives %v", at, name, got)
				}
			}
			w.now = w.now.Add(time.Minute)
			w.request(anna, wants("1", alice, time.Hour)) // the repeat shows once
			if got := w.ids(audit, broker.Filter{}); len(got) != 1 {
				t.Errorf("cut at %d: %v", at, got)
			}
			if got := w.ids(anna, broker.Filter{}); len(got) != 1 {
				t.Errorf("cut at %d: %v", at, got)
			}
		})
		if done {
			break
		}
	}
}

func TestHowAMachineWasUsed(t *testing.T) {
	w := newWorld(t)
	index := broker.UsageIndex{Index: w.store, Clock: w.sweeper.Clock}
	use := func() broker.Usage {
		t.Helper()
		all, err := index.Usages(t.Context(), []access.ResourceID{vm, vm + "2"})
		if err != nil || all[vm+"2"] != (broker.Usage{}) {
			t.Fatal(all, err)
		}
		return all[vm]
	}
	if u := use(); u != (broker.Usage{}) {
		t.Errorf("%+v", u)
	}
	w.request(anna, wants("1", alice, time.Hour))
	w.now = w.now.Add(time.Hour)
	last := w.now
	w.request(ben, wants("1", bob, time.Hour))
	w.now = w.now.Add(time.Hour)
	_, _ = w.desk.Request(t.Context(), anna, wants("2", "198.51.100.9", time.Hour)) // refused: no use
	if u := use(); u.Approved != 2 || u.LastUser != ben.Name || !u.LastAccess.Equal(last) {
		t.Errorf("%+v", u)
	}
	w.now = last.Add(8 * 24 * time.Hour)
	if u := use(); u.Approved != 0 || u.LastUser != ben.Name || !u.LastAccess.Equal(last) {
		t.Errorf("%+v", u)
	}
}
