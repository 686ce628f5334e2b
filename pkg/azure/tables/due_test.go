package tables_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// upset is what befalls the writers of a run.
type upset struct {
	cuts   bool // they are cut off
	frozen bool // they stand still for longer than any row is kept for them
}

const dueSeeds = 15

func TestEveryHeadThatIsDueIsFound(t *testing.T) {
	for name, u := range map[string]upset{"in time": {}, "cut off": {cuts: true}, "frozen": {frozen: true}, "frozen and cut off": {true, true}} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(dueSeeds) {
				synctest.Test(t, func(t *testing.T) { dueRun(t, seed, u) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// dueRun lets writers and readers of heads be interleaved, and looks after each
// step whether a head is due that Due would not find.
func dueRun(t *testing.T, seed uint64, u upset) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	g := &gate{h: standIn(t)}
	free := storeOver(t, func(r *http.Request) (*http.Response, error) { return serve(g.h, r), nil })
	check(t, free.Init(t.Context()))
	_, err := free.Due(t.Context(), time.Now()) // the index is whole
	check(t, err)
	var actors []*actor
	var all sync.WaitGroup
	defer func() {
		for _, a := range actors {
			a.die()
		}
		g.drain()
		all.Wait()
	}()
	var over atomic.Int32
	for i := range 4 {
		a := &actor{g: g, frozen: u.frozen && i == 0}
		actors = append(actors, a)
		own := rand.New(rand.NewPCG(seed, uint64(i)+2))
		s := storeOver(t, a.do)
		all.Go(func() {
			for range 5 {
				dueStep(context.Background(), s, own)
				time.Sleep(time.Duration(own.IntN(120)) * time.Second)
			}
			over.Add(1)
		})
	}
	// Without a freeze it holds at every moment.
	always := !u.frozen
	for int(over.Load()) < len(actors) {
		synctest.Wait()
		h := g.take(rnd.IntN)
		if h != nil && h.actor.frozen && rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(rnd.IntN(int(10 * time.Minute))))
		}
		switch {
		case h == nil:
			time.Sleep(time.Second)
		case u.cuts && rnd.IntN(12) == 0:
			h.let <- fate(1 + rnd.IntN(2))
		default:
			h.let <- pass
		}
		synctest.Wait()
		if rnd.IntN(4) == 0 {
			time.Sleep(time.Duration(rnd.IntN(int(40 * time.Second))))
		}
		if always {
			wantFound(t, free)
		}
	}
	if u.frozen && u.cuts {
		// Cut off between a late head and its row: Scan's reading of all mends it.
		_, err := free.All(t.Context())
		check(t, err)
	}
	wantFound(t, free)
	// What was found early stays as long as it may be needed, and goes then.
	time.Sleep(time.Hour)
	wantFound(t, free)
	due, err := free.Due(t.Context(), time.Now())
	check(t, err)
	rows := map[string]bool{}
	for _, key := range indexRows(t, free) {
		rows[strings.TrimPrefix(key, "-trouble-")] = true // a minute may have both
	}
	if len(rows) > len(due) {
		t.Errorf("%d rows for %d heads: %v", len(rows), len(due), rows)
	}
}

// dueStep does one thing to a head, or looks for what is due.
func dueStep(ctx context.Context, s *tables.Store, rnd *rand.Rand) {
	id := on + access.ResourceID(fmt.Sprint(rnd.IntN(2)))
	now := time.Now()
	var due time.Time
	if rnd.IntN(4) > 0 {
		due = now.Add(time.Duration(rnd.IntN(8)-2) * time.Minute)
	}
	// Their errors are those of who is cut off; what counts is what is there then.
	switch rnd.IntN(8) {
	case 0, 1:
		_ = s.Touch(ctx, id, "t", due)
	case 2:
		l := legOf(request(rnd.IntN(1000)), 0)
		l.NSG = id
		_ = s.AddLegs(ctx, id, []access.Leg{l}, "t", due)
	case 3:
		legs, err := s.Legs(ctx, id)
		if err == nil {
			_ = s.ChangeLegs(ctx, id, legs, "t", due)
		}
	case 4, 5:
		h, err := s.Head(ctx, id)
		if err == nil {
			if rnd.IntN(3) > 0 {
				h.DueAt = due
			}
			h.Trouble = []string{"", "some"}[rnd.IntN(2)]
			_, _ = s.SaveHead(ctx, h)
		}
	case 6:
		_ = s.SaveBaselines(ctx, id, nil, "t", due)
	default:
		_, _ = s.Due(ctx, now)
	}
}

// wantFound compares what Due finds for each moment that matters with what the
// heads say.
func wantFound(t *testing.T, s *tables.Store) {
	t.Helper()
	var want []broker.Head
	for i := range 2 {
		h, err := s.Head(t.Context(), on+access.ResourceID(fmt.Sprint(i)))
		check(t, err)
		want = append(want, h)
	}
	for _, h := range want {
		if h.DueAt.IsZero() {
			continue
		}
		got, err := s.Due(t.Context(), h.DueAt)
		check(t, err)
		if !slices.Contains(got, h) {
			t.Fatalf("%v: %s is due at %v and was not found among %d", time.Now(), h.NSG.Name(), h.DueAt, len(got))
		}
	}
}

// indexRows gives the keys of the index's rows.
func indexRows(t *testing.T, s *tables.Store) []string {
	t.Helper()
	rows, err := tables.DueRows(t.Context(), s)
	check(t, err)
	return rows
}
