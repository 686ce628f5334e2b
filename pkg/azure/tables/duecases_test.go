package tables_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

// direct makes a store over the stand-in that nothing holds.
func direct(t *testing.T, h http.Handler) *tables.Store {
	t.Helper()
	s := storeOver(t, func(r *http.Request) (*http.Response, error) { return serve(h, r), nil })
	check(t, s.Init(t.Context()))
	_, err := s.Due(t.Context(), time.Now())
	check(t, err)
	return s
}

func wantDue(t *testing.T, s *tables.Store, now time.Time, n int) {
	t.Helper()
	if got, err := s.Due(t.Context(), now); err != nil || len(got) != n {
		t.Errorf("%d are due, not %d: %v", len(got), n, err)
	}
}

func writesHead(r *http.Request) bool { return strings.Contains(r.URL.Path, "nsgs") || batches(r) }

func batches(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "$batch") }

func TestAHeadThatIsWrittenLateIsFound(t *testing.T) {
	for name, cut := range map[string]bool{"goes on": false, "is cut off": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := standIn(t)
				free := direct(t, h)
				var dead bool
				slow := storeOver(t, func(r *http.Request) (*http.Response, error) {
					if dead {
						return nil, errCutOff
					}
					if writesHead(r) {
						time.Sleep(10 * time.Minute) // frozen, with the request on its way
						dead = cut
					}
					return serve(h, r), nil
				})
				due := time.Now()
				go func() {
					// It is past its deadline, so it takes for lost what has landed.
					wantCode(t, slow.Touch(t.Context(), on, "t", due), access.Unavailable, "tables_unavailable")
				}()
				time.Sleep(8 * time.Minute)
				wantDue(t, free, time.Now(), 0)
				if rows := indexRows(t, free); len(rows) != 0 {
					t.Errorf("still waiting for a writer: %v", rows)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if cut {
					wantDue(t, free, time.Now(), 0) // what Scan is for
					all, err := free.All(t.Context())
					if err != nil || len(all) != 1 {
						t.Errorf("%v, %v", all, err)
					}
				}
				wantDue(t, free, time.Now(), 1)
			})
		})
	}
}

func TestARowThatIsWrittenAnewIsNotRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := standIn(t)
		free := direct(t, h)
		due := time.Now()
		check(t, free.Touch(t.Context(), on, "t", due))
		check(t, free.Touch(t.Context(), on, "t", time.Time{}))
		time.Sleep(time.Hour)
		// Between the reading of the head and the removal, somebody sets it again.
		reader := storeOver(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				check(t, free.Touch(t.Context(), on, "u", due))
			}
			return serve(h, r), nil
		})
		wantDue(t, reader, time.Now(), 0)
		wantDue(t, free, time.Now(), 1)
	})
}

func TestHeadsOfAVersionWithoutAnIndexAreFound(t *testing.T) {
	w, ctx := newWorld(t, 3), t.Context()
	old := func(i int) {
		id := on + access.ResourceID(fmt.Sprint(i))
		data := fmt.Sprintf(`{"PartitionKey":"%s","RowKey":"head","NSG":%q,"Wanted":"t","DueAt@odata.type":"Edm.DateTime","DueAt":"2026-11-24T09:00:00.0000000Z"}`, tables.Partition(id), id)
		_, err := w.service.NewClient("nsgs").AddEntity(ctx, []byte(data), nil)
		check(t, err)
	}
	for i := range 7 {
		old(i)
	}
	wantDue(t, w.Store, at.Add(-time.Second), 0)
	wantDue(t, w.Store, at, 7)
	// One that an older instance writes while it is replaced is found with the next Scan.
	old(7)
	wantDue(t, w.Store, at, 7)
	_, err := w.All(ctx)
	check(t, err)
	wantDue(t, w.Store, at, 8)
}

// TestAHeadThatCannotBeReadIsToldOfByEachSweep comes upon one before there is an
// index of it.
func TestAHeadThatCannotBeReadIsToldOfByEachSweep(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Touch(ctx, on, "t", at))
	heads := w.service.NewClient("nsgs")
	_, err := heads.AddEntity(ctx, []byte(`{"PartitionKey":"x","RowKey":"head","NSG":"no id"}`), nil)
	check(t, err)
	for range 3 {
		due, err := w.Due(ctx, at)
		if wantCode(t, err, access.Internal, "record_unreadable"); len(due) != 1 || due[0].NSG != on {
			t.Errorf("what can be read is due all the same: %+v", due)
		}
	}
	_, err = heads.DeleteEntity(ctx, "x", "head", nil)
	check(t, err)
	wantDue(t, w.Store, at, 1)
	before := w.calls.Load()
	wantDue(t, w.Store, at, 1)
	if n := w.calls.Load() - before; n != 2 { // the index and the head
		t.Errorf("the index is not whole: %d calls", n)
	}
}

// counted counts requests, and the rows that answers hold.
type counted struct{ calls, rows atomic.Int64 }

func (c *counted) over(h http.Handler) transport {
	return func(r *http.Request) (*http.Response, error) {
		c.calls.Add(1)
		res := serve(h, r)
		body, err := io.ReadAll(res.Body)
		c.rows.Add(int64(strings.Count(string(body), `"RowKey":`)))
		res.Body = io.NopCloser(strings.NewReader(string(body)))
		return res, err
	}
}

// prompted counts the prompts.
type prompted struct{ n atomic.Int64 }

func (p *prompted) Prompt(context.Context, access.ResourceID, time.Time) error {
	p.n.Add(1)
	return nil
}

func sweeperOver(t *testing.T, s *tables.Store, p broker.Prompts, now time.Time) *broker.Sweeper {
	t.Helper()
	none := func(context.Context) error { return nil }
	sweeper, err := broker.NewSweeper(broker.SweepPorts{
		Heads: s, Ledger: s, Pending: s, Prompts: p, Events: s, Starts: s, Tickets: s, Meter: &brokertest.Meter{},
		Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Resume:     func(context.Context, access.Record) error { return nil },
		Start:      func(context.Context, access.RequestID, time.Time) error { return nil },
		WorkTicket: func(context.Context, string) error { return nil },
		Reconcile:  func(context.Context, access.ResourceID, time.Time) error { return nil },
		Lockdown:   none, Publish: none,
	})
	check(t, err)
	return sweeper
}

func TestASweepCostsWhatIsDueAndNotWhatThereIs(t *testing.T) {
	const groups = 5000
	h, now := standIn(t), time.Now()
	s := direct(t, h)
	for i := range groups {
		check(t, s.Touch(t.Context(), on+access.ResourceID(fmt.Sprint(i)), "t", now.Add(3*time.Minute)))
	}
	for _, due := range []int{0, 10} {
		for i := range due {
			check(t, s.Touch(t.Context(), on+access.ResourceID(fmt.Sprint(i*groups/due)), "t", now))
		}
		var c counted
		prompts := &prompted{}
		check(t, sweeperOver(t, storeOver(t, frugal(t, c.over(h))), prompts, now).Sweep(t.Context()))
		if n := int(prompts.n.Load()); n != due {
			t.Errorf("%d groups were prompted", n)
		}
		// Beside the heads: one query each for what is due, pending, to be started
		// and left of tickets; and the row that says that the index is whole.
		if calls, rows := c.calls.Load(), c.rows.Load(); calls != int64(4+due) || rows != int64(1+2*due) {
			t.Errorf("%d calls and %d rows for %d groups that are due", calls, rows, due)
		}
	}
}

// TestWhatIsPutOffIsFoundBeforeItsTime puts a head off for some trouble, lets
// somebody else come to it, and puts it off again.
func TestWhatIsPutOffIsFoundBeforeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := standIn(t)
		s, ctx := direct(t, h), t.Context()
		putOff := func(trouble string, until time.Duration) {
			t.Helper()
			head, err := s.Head(ctx, on)
			check(t, err)
			head.Trouble, head.DueAt = trouble, time.Now().Add(until)
			_, err = s.SaveHead(ctx, head)
			check(t, err)
			want := 0
			if trouble != "" {
				want = 1
			}
			wantDue(t, s, time.Now(), want)
			wantDue(t, s, time.Now().Add(until), 1)
		}
		putOff("throttled", 5*time.Minute)
		check(t, s.Touch(ctx, on, "t", time.Now()))
		putOff("throttled", 7*time.Minute)
		// Whoever reads them all finds what a lost table lacks.
		rows, err := s.All(ctx)
		check(t, err)
		if len(rows) != 1 || rows[0].Trouble == "" {
			t.Errorf("%+v", rows)
		}
		putOff("", 7*time.Minute) // no trouble any more
		putOff("locked", 8*time.Minute)
		putOff("", 20*time.Minute)
		time.Sleep(10 * time.Minute)
		wantDue(t, s, time.Now(), 0)
		if rows := indexRows(t, s); len(rows) != 1 {
			t.Errorf("rows that nobody needs stay: %v", rows)
		}
		time.Sleep(10 * time.Minute)
		wantDue(t, s, time.Now(), 1)
	})
}

// TestAllMendsTheIndexOfWhatIsPutOff loses its rows.
func TestAllMendsTheIndexOfWhatIsPutOff(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	wantDue(t, w.Store, at, 0)
	_, err := w.SaveHead(ctx, broker.Head{NSG: on, Wanted: "1", Trouble: "some", DueAt: at.Add(time.Hour)})
	check(t, err)
	for _, key := range indexRows(t, w.Store) {
		_, err := w.service.NewClient("pending").DeleteEntity(ctx, "due", key, nil)
		check(t, err)
	}
	wantDue(t, w.Store, at, 0)
	_, err = w.All(ctx)
	check(t, err)
	wantDue(t, w.Store, at, 1)
}

// TestACloseNeedsTheHeadAlone saves a head as on the way to a close, while nothing
// else can be written.
func TestACloseNeedsTheHeadAlone(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	check(t, w.Touch(ctx, on, "t", at))
	h, err := w.Head(ctx, on)
	check(t, err)
	stop := w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "nsgs") {
			return false
		}
		refuse(rw, http.StatusServiceUnavailable, "ServerBusy")
		return true
	})
	h.AsOf = at
	h, err = w.SaveHead(ctx, h)
	check(t, err)
	h.Trouble = "some"
	h, err = w.SaveHead(ctx, h) // under the version that it gave
	check(t, err)
	h.DueAt = at.Add(time.Hour)
	_, err = w.SaveHead(ctx, h)
	wantCode(t, err, access.Unavailable, "tables_unavailable")
	due, err := w.Due(ctx, at) // and Sweep does not need its index
	if wantCode(t, err, access.Unavailable, "tables_unavailable"); len(due) != 1 {
		t.Errorf("%+v", due)
	}
	stop()
	wantDue(t, w.Store, at, 1)
}
