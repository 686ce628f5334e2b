package tables_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func entry(n int, name string, after time.Duration) broker.IndexEntry {
	return broker.IndexEntry{
		Request: request(n), Requestor: access.Requestor{Name: name, ObjectID: "o"}, By: access.Sender{Channel: access.ChannelHTTP, Principal: "t/o", Name: name},
		DecidedAt: at.Add(after), Outcome: access.Accepted, VMs: []access.ResourceID{vm}, Ends: []time.Time{at.Add(after + time.Hour)},
	}
}

// walk reads everything in pages and gives the requests in their order.
func walk(t *testing.T, w *world, q broker.IndexQuery) (out []access.RequestID) {
	t.Helper()
	for {
		got, err := w.Entries(t.Context(), q)
		check(t, err)
		for _, e := range got {
			out, q.After = append(out, e.Request), e.Position()
		}
		if len(got) < q.Most {
			return out
		}
	}
}

func TestEntriesComeNewestFirstFromEveryList(t *testing.T) {
	w, ctx := newWorld(t, 3), t.Context() // the service answers in pages of three
	var all []access.RequestID
	for i := range 12 { // over three days, in two names
		e := entry(i, []string{"Anna@contoso.com", "ben@contoso.com"}[i%2], time.Duration(i)*6*time.Hour)
		check(t, w.Enter(ctx, e))
		check(t, w.Enter(ctx, e)) // again
		all = append([]access.RequestID{request(i)}, all...)
	}
	annas := slices.DeleteFunc(slices.Clone(all), func(id access.RequestID) bool { return slices.Index(all, id)%2 == 0 })
	for name, c := range map[string]struct {
		q    broker.IndexQuery
		want []access.RequestID
	}{
		"all":               {broker.IndexQuery{}, all},
		"a machine":         {broker.IndexQuery{VM: vm}, all},
		"another machine":   {broker.IndexQuery{VM: vm + "x"}, nil},
		"a name":            {broker.IndexQuery{Name: "ANNA@contoso.com"}, annas},
		"from, included":    {broker.IndexQuery{From: at.Add(30 * time.Hour)}, all[:7]},
		"to, not included":  {broker.IndexQuery{To: at.Add(30 * time.Hour)}, all[7:]},
		"a day":             {broker.IndexQuery{From: at.Add(24 * time.Hour), To: at.Add(48 * time.Hour)}, all[4:8]},
		"a name, in a time": {broker.IndexQuery{Name: "anna@contoso.com", From: at.Add(12 * time.Hour), To: at.Add(25 * time.Hour)}, []access.RequestID{request(4), request(2)}},
		"nothing":           {broker.IndexQuery{From: at.Add(100 * time.Hour)}, nil},
	} {
		for _, most := range []int{1, 4, 1000} {
			c.q.Most = most
			if diff := cmp.Diff(c.want, walk(t, w, c.q)); diff != "" {
				t.Errorf("%s, %d at a time: %s", name, most, diff)
			}
		}
	}
	got, err := w.Entries(ctx, broker.IndexQuery{Most: 1})
	check(t, err)
	if diff := cmp.Diff(entry(11, "ben@contoso.com", 66*time.Hour), got[0]); diff != "" {
		t.Error(diff)
	}
}

// TestNoListScansTheTable looks at what is asked of the service.
func TestNoListScansTheTable(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	var filters []string
	stop := w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		filters = append(filters, r.URL.Query().Get("$filter"))
		return false
	})
	for _, q := range []broker.IndexQuery{{}, {VM: vm}, {Name: "x"}} {
		q.Most, q.From, q.After = 10, at, entry(1, "x", time.Hour).Position()
		_, err := w.Entries(ctx, q)
		check(t, err)
	}
	stop()
	for _, f := range filters {
		if !strings.Contains(f, "PartitionKey eq '") && !(strings.Contains(f, "PartitionKey ge 'all-97") && strings.Contains(f, "PartitionKey le 'all-97")) || !strings.Contains(f, "RowKey ge '") || !strings.Contains(f, "RowKey lt '") {
			t.Errorf("%s", f)
		}
	}
	if len(filters) != 3 {
		t.Errorf("%d calls", len(filters))
	}
}

func TestARefusalReplacesTheClaim(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	e := entry(1, "anna@contoso.com", 0)
	_, err := w.Claim(ctx, e, at.Add(-time.Hour), at)
	check(t, err)
	e.Outcome, e.Reason, e.Ends = access.Refused, "limit_live_grants", nil
	check(t, w.Enter(ctx, e))
	got, err := w.Entries(ctx, broker.IndexQuery{Name: "anna@contoso.com", Most: 10})
	check(t, err)
	if diff := cmp.Diff([]broker.IndexEntry{e}, got); diff != "" {
		t.Error(diff)
	}
	// Whoever counts finds the refusal alone, and within the hour only.
	check(t, w.Enter(ctx, e)) // again
	for n, want := range []int{1, 0} {
		now := at.Add(time.Duration(n) * 2 * time.Hour)
		later := entry(2+n, "anna@contoso.com", now.Sub(at))
		later.Outcome, later.Ends = access.Refused, nil
		counted, err := w.Claim(ctx, later, now.Add(-time.Hour), now)
		check(t, err)
		if len(counted) != want || want > 0 && counted[0].Reason != "limit_live_grants" {
			t.Errorf("%+v", counted)
		}
	}
}

func TestAClaimSeesThoseThatWereThereBefore(t *testing.T) {
	w, ctx := newWorld(t, 3), t.Context()
	check(t, w.Enter(ctx, entry(1, "anna@contoso.com", -3*time.Hour)))     // over, and long ago
	check(t, w.Enter(ctx, entry(2, "anna@contoso.com", -30*time.Minute)))  // live
	check(t, w.Enter(ctx, entry(3, "ben@contoso.com", -30*time.Minute)))   // another's
	check(t, w.Enter(ctx, entry(4, "anna@contoso.com", -17*24*time.Hour))) // older than anything live
	refused := entry(5, "anna@contoso.com", -10*time.Minute)
	refused.Outcome, refused.Ends = access.Refused, nil
	check(t, w.Enter(ctx, refused))
	got, err := w.Claim(ctx, entry(6, "Anna@contoso.com", 0), at.Add(-time.Hour), at)
	check(t, err)
	var ids []access.RequestID
	for _, e := range got {
		ids = append(ids, e.Request)
	}
	slices.Sort(ids)
	want := []access.RequestID{request(2), request(5)}
	slices.Sort(want)
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
}

func TestOfClaimsAtOnceNoTwoOverlookEachOther(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	const n = 12
	var g sync.WaitGroup
	var mu sync.Mutex
	var counts []int
	for i := range n {
		g.Go(func() {
			got, err := w.Claim(ctx, entry(i, "anna@contoso.com", time.Duration(i)*time.Millisecond), at.Add(-time.Hour), at)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			counts = append(counts, len(got))
		})
	}
	g.Wait()
	slices.Sort(counts)
	for i, c := range counts { // each has its own place
		if c != i {
			t.Errorf("places %v", counts)
			break
		}
	}
}

func TestAnotherAskerIsCountedToo(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	e := entry(1, "anna@contoso.com", 0)
	e.By.Name = "help@contoso.com"
	check(t, w.Enter(ctx, e))
	for _, name := range []string{"anna@contoso.com", "help@contoso.com"} {
		got, err := w.Entries(ctx, broker.IndexQuery{Name: name, Most: 10})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := w.Claim(ctx, entry(2, "help@contoso.com", time.Minute), at.Add(-time.Hour), at)
	if err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
