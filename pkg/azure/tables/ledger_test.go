package tables_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// fill puts n legs of n requests on the NSG.
func fill(t *testing.T, w *world, n int) []access.Leg {
	t.Helper()
	for i := range n {
		check(t, w.AddLegs(t.Context(), on, []access.Leg{legOf(request(i), 0)}, "t", at))
	}
	legs, err := w.Legs(t.Context(), on)
	check(t, err)
	if len(legs) != n {
		t.Fatalf("%d legs, not %d", len(legs), n)
	}
	return legs
}

func TestLegsAreAddedWithTheHeadOrNotAtAll(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	h, err := w.SaveHead(ctx, broker.Head{NSG: on, Wanted: "old", Done: "done", AsOf: at, Trouble: "some"})
	check(t, err)
	large := leg(1)
	large.BlockedBy = strings.Repeat("x", 2<<20) // more than a row may hold
	wantCode(t, w.AddLegs(ctx, on, []access.Leg{leg(0), large}, "new", at), access.Internal, "tables_refused")
	legs, err := w.Legs(ctx, on)
	check(t, err)
	now, err := w.Head(ctx, on)
	check(t, err)
	if h.At = now.At; len(legs) != 0 || now != h || now.At.IsZero() {
		t.Errorf("half of it is there: %v, %+v", legs, now)
	}
	var most []access.Leg
	for i := range access.MaxPorts {
		most = append(most, leg(i))
	}
	check(t, w.AddLegs(ctx, on, most, "new", at.Add(time.Minute)))
	now, err = w.Head(ctx, on)
	check(t, err)
	want := broker.Head{NSG: on, Wanted: "new", Done: "done", DueAt: at.Add(time.Minute), AsOf: at, Trouble: "some", At: now.At, ETag: now.ETag}
	if now != want || now.ETag == h.ETag {
		t.Errorf("%+v, want %+v", now, want)
	}
	wantCode(t, w.AddLegs(ctx, on, append(most, leg(50)), "x", at), access.Internal, "too_many_legs")
}

func TestLegsAddedAtOnceAreAllThere(t *testing.T) {
	w := newWorld(t, 1000)
	var g sync.WaitGroup
	for i := range 6 {
		g.Go(func() {
			// Each shares one leg with the next.
			legs := []access.Leg{leg(i), leg(i + 1)}
			if err := w.AddLegs(t.Context(), on, legs, fmt.Sprint(i), at); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	legs, err := w.Legs(t.Context(), on)
	if err != nil || len(legs) != 7 {
		t.Errorf("%d legs, %v", len(legs), err)
	}
}

func TestManyLegsAreChangedUnderTheirVersions(t *testing.T) {
	w, ctx := newWorld(t, 40), t.Context()
	legs := fill(t, w, 130)
	for i := range legs {
		legs[i].State = access.LegOpen
	}
	check(t, w.UpdateLegs(ctx, on, legs))
	now, err := w.Legs(ctx, on)
	check(t, err)
	for i, l := range now {
		if l.State != access.LegOpen || l.ETag == legs[i].ETag {
			t.Fatalf("not changed: %+v", l)
		}
	}
	wantCode(t, w.UpdateLegs(ctx, on, legs[:2]), access.Aborted, "row_changed")
	check(t, w.EndLegs(ctx, on, now[:1]))
	now[1].State = access.LegClosing
	wantCode(t, w.UpdateLegs(ctx, on, now[:2]), access.Aborted, "row_changed")
	if after, err := w.Legs(ctx, on); err != nil || after[0].State != access.LegOpen {
		t.Errorf("a transaction that failed changed a leg: %+v, %v", after[0], err)
	}
	now[1].ETag = ""
	wantCode(t, w.UpdateLegs(ctx, on, now[1:2]), access.Internal, "leg_not_read")
	check(t, w.UpdateLegs(ctx, on, nil))
}

var _ broker.LegFinder = (*tables.Store)(nil)

func TestTheLegsOfOneRequestAreFoundWithoutTheOthers(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	fill(t, w, 30)
	check(t, w.AddLegs(ctx, on, []access.Leg{legOf(request(7), 1)}, "t", at))
	calls := 0
	stop := w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		calls++
		return false
	})
	got, err := w.LegsOf(ctx, on, request(7))
	stop()
	check(t, err)
	if len(got) != 2 || got[0].Request != request(7) || got[1].Grant != 1 || got[0].ETag == "" {
		t.Errorf("%+v", got)
	}
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
	if none, err := w.LegsOf(ctx, on, request(99)); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestAnEndThatIsCutOffLosesNoLeg(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	legs := fill(t, w, 110)
	for i := range legs {
		legs[i].State, legs[i].EndedAt = access.LegEnded, at
	}
	stop := w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		// The removal is a transaction of its own, or goes row by row.
		if r.Method != http.MethodDelete && !strings.HasSuffix(r.URL.Path, "$batch") {
			return false
		}
		refuse(rw, http.StatusServiceUnavailable, "ServerBusy")
		return true
	})
	wantCode(t, w.EndLegs(ctx, on, legs), access.Unavailable, "tables_unavailable")
	stop()
	if left, err := w.Legs(ctx, on); err != nil || len(left) != 110 {
		t.Fatalf("%d left, %v", len(left), err)
	}
	for _, l := range legs {
		if f, err := w.File(ctx, l.Request); err != nil || len(f.Ended) != 1 || f.Ended[0].State != access.LegEnded {
			t.Fatalf("not in its request's partition: %+v, %v", f, err)
		}
	}
	// The repeat says another time; what was written first stays. One leg is gone
	// already, and one comes twice.
	check(t, w.EndLegs(ctx, on, legs[7:8]))
	for i := range legs {
		legs[i].EndedAt = at.Add(time.Hour)
	}
	check(t, w.EndLegs(ctx, on, append(legs, legs[0])))
	if left, err := w.Legs(ctx, on); err != nil || len(left) != 0 {
		t.Errorf("left: %d, %v", len(left), err)
	}
	if f, err := w.File(ctx, legs[0].Request); err != nil || len(f.Ended) != 1 || !f.Ended[0].EndedAt.Equal(at) {
		t.Errorf("the ended row was changed: %+v, %v", f, err)
	}
}

func TestLegsOfOneRequestOnTwoGroupsEndApart(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	other := leg(0)
	other.NSG = on + "2"
	check(t, w.EndLegs(ctx, on, []access.Leg{leg(0), leg(1)}))
	check(t, w.EndLegs(ctx, other.NSG, []access.Leg{other}))
	f, err := w.File(ctx, leg(0).Request)
	if err != nil || len(f.Ended) != 3 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestAHeadIsWrittenUnderItsVersion(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	h, err := w.Head(ctx, on)
	if err != nil || h != (broker.Head{NSG: on}) {
		t.Fatalf("never written: %+v, %v", h, err)
	}
	saved, err := w.SaveHead(ctx, broker.Head{NSG: on, Wanted: "1", Trouble: "é"})
	check(t, err)
	if read, err := w.Head(ctx, on); err != nil || read.ETag != saved.ETag || !read.DueAt.IsZero() || !read.AsOf.IsZero() || read.Trouble != "é" {
		t.Errorf("%+v, %v", read, err)
	}
	_, err = w.SaveHead(ctx, h)
	wantCode(t, err, access.Aborted, "row_changed")
	next, err := w.SaveHead(ctx, saved) // under the version that SaveHead gave back
	check(t, err)
	_, err = w.SaveHead(ctx, saved)
	wantCode(t, err, access.Aborted, "row_changed")
	check(t, w.Touch(ctx, on, "2", at))
	_, err = w.SaveHead(ctx, next)
	wantCode(t, err, access.Aborted, "row_changed")
	next, err = w.Head(ctx, on)
	check(t, err)
	for raw := range heads(t, w) {
		_, err = w.service.NewClient("nsgs").DeleteEntity(ctx, raw, "head", nil)
		check(t, err)
	}
	_, err = w.SaveHead(ctx, next)
	wantCode(t, err, access.Aborted, "row_changed")
}

// heads gives the partitions of the ledger that have a head.
func heads(t *testing.T, w *world) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for p := w.service.NewClient("nsgs").NewListEntitiesPager(nil); p.More(); {
		page, err := p.NextPage(t.Context())
		check(t, err)
		for _, data := range page.Entities {
			var e aztables.EDMEntity
			check(t, e.UnmarshalJSON(data))
			if e.RowKey == "head" {
				out[e.PartitionKey] = true
			}
		}
	}
	return out
}

func TestHeadsThatAreDue(t *testing.T) {
	w, ctx := newWorld(t, 2), t.Context()
	for i := range 7 {
		id := on + access.ResourceID(fmt.Sprint(i))
		check(t, w.Touch(ctx, id, "t", at.Add(time.Duration(i)*time.Millisecond)))
	}
	check(t, w.Touch(ctx, on, "t", time.Time{}))
	check(t, w.AddLegs(ctx, on, []access.Leg{leg(0)}, "t", time.Time{}))
	due, err := w.Due(ctx, at.Add(3*time.Millisecond))
	if err != nil || len(due) != 4 {
		t.Errorf("due: %d, %v", len(due), err)
	}
	if due, err := w.Due(ctx, at.AddDate(5000, 0, 0)); err != nil || len(due) != 7 {
		t.Errorf("never came: %d, %v", len(due), err)
	}
	all, err := w.All(ctx)
	if err != nil || len(all) != 8 {
		t.Errorf("all: %d, %v", len(all), err)
	}
}

func TestABadHeadDoesNotHideTheOthers(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Touch(ctx, on, "t", at))
	_, err := w.service.NewClient("nsgs").AddEntity(ctx, []byte(`{"PartitionKey":"p","RowKey":"head","NSG":"no id"}`), nil)
	check(t, err)
	all, err := w.All(ctx)
	wantCode(t, err, access.Internal, "record_unreadable")
	if len(all) != 1 || all[0].NSG != on {
		t.Errorf("%+v", all)
	}
}

func TestALegThatCannotBeReadIsAnError(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Touch(ctx, on, "t", at))
	for p := range heads(t, w) {
		_, err := w.service.NewClient("nsgs").AddEntity(ctx, []byte(`{"PartitionKey":"`+p+`","RowKey":"leg-x","Doc0":"{"}`), nil)
		check(t, err)
	}
	_, err := w.Legs(ctx, on)
	wantCode(t, err, access.Internal, "record_unreadable")
}

func TestWhatCannotBeReachedIsNeverEmpty(t *testing.T) {
	batchBusy := "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\n" +
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n" +
		`{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"0:\"code\":\"EntityAlreadyExists\""}}}` + "\r\n--c--\r\n--b--\r\n"
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		reason string
	}{
		"busy":      {func(rw http.ResponseWriter) { refuse(rw, 503, "ServerBusy") }, "tables_unavailable"},
		"internal":  {func(rw http.ResponseWriter) { refuse(rw, 500, "InternalError") }, "tables_unavailable"},
		"forbidden": {func(rw http.ResponseWriter) { refuse(rw, 403, "AuthorizationPermissionMismatch") }, "azure_permission"},
		"no table":  {func(rw http.ResponseWriter) { refuse(rw, 404, "TableNotFound") }, "table_missing"},
		"going":     {func(rw http.ResponseWriter) { refuse(rw, 409, "TableBeingDeleted") }, "tables_unavailable"},
		"hung up":   {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "tables_unavailable"},
		"busy within a batch": {func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Type", "multipart/mixed; boundary=b")
			rw.WriteHeader(202)
			fmt.Fprint(rw, batchBusy)
		}, "tables_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			w, ctx := newWorld(t, 1000), t.Context()
			defer w.intercept(func(rw http.ResponseWriter, _ *http.Request) bool { c.answer(rw); return true })()
			wantCode(t, w.Touch(ctx, on, "t", at), access.Unavailable, c.reason)
			if strings.HasPrefix(name, "busy w") {
				return // only a transaction is answered so
			}
			for call, f := range reads(w) {
				if err := f(ctx); access.CodeOf(err) != access.Unavailable || access.ReasonOf(err) != c.reason {
					t.Errorf("%s: %v", call, err)
				}
			}
		})
	}
}

func reads(w *world) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Head":        func(ctx context.Context) error { _, err := w.Head(ctx, on); return err },
		"Legs":        func(ctx context.Context) error { _, err := w.Legs(ctx, on); return err },
		"Due":         func(ctx context.Context) error { _, err := w.Due(ctx, at); return err },
		"File":        func(ctx context.Context) error { _, err := w.File(ctx, request(1)); return err },
		"Pending":     func(ctx context.Context) error { _, err := w.Pending(ctx, at); return err },
		"Find":        func(ctx context.Context) error { _, _, err := w.Find(ctx, request(1)); return err },
		"PoliciesFor": func(ctx context.Context) error { _, err := w.PoliciesFor(ctx, vm); return err },
		"Begin":       func(ctx context.Context) error { _, _, err := w.Begin(ctx, decision(request(1), "x")); return err },
		"EndLegs":     func(ctx context.Context) error { return w.EndLegs(ctx, on, []access.Leg{leg(0)}) },
	}
}

func TestACallThatIsGivenUpIsUnavailable(t *testing.T) {
	w := newWorld(t, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, w.Touch(ctx, on, "t", at), access.Unavailable, "tables_unavailable")
}
