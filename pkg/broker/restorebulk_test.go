package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// unsearchable cannot list requests while it is set.
type unsearchable struct {
	broker.Index
	is *bool
}

func (u unsearchable) Entries(ctx context.Context, q broker.IndexQuery) ([]broker.IndexEntry, error) {
	if *u.is {
		return nil, access.Errorf(access.Unavailable, "tables_unavailable", "not now")
	}
	return u.Index.Entries(ctx, q)
}

// TestBulkRemovalWaitsForTheRecordAndExpiryDoesNot: many doors that nobody accounts
// for are kept, with an alarm, while it cannot be read whether a request does. What
// ends by its own description ends, and so does what cannot be ours.
func TestBulkRemovalWaitsForTheRecordAndExpiryDoesNot(t *testing.T) {
	w := newWorld(t)
	log := w.logged()
	dark := true
	w.again(func(p *broker.ReconcilePorts) { p.Index = unsearchable{p.Index, &dark} })
	short := w.request(anna, wants("short", bob, 10*time.Minute))
	w.deliver()
	recs := w.doors(21, time.Hour)
	w.store.LoseLedger()
	w.azure.Edit(onWeb, func(g *nsg.Group) { // with a rule of its own, and a time that is not over
		g.Rules = slices.Clone(g.Rules)
		r := g.Rules[slices.IndexFunc(g.Rules, func(r nsg.Rule) bool { return rules.Owns(r) && slices.Contains(r.DestinationPorts, "22") })]
		r.Name, r.Priority, r.Sources = strings.Replace(r.Name, "-22-", "-2222-", 1), 500, []string{"*"}
		r.DestinationPorts = []string{"2222"}
		g.Rules = append(g.Rules, r)
	})
	minute := func(ours int) {
		t.Helper()
		w.now = w.now.Add(time.Minute)
		if err := w.sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
		if n := w.ours(); n != ours {
			t.Fatalf("%d rules of ours stand, want %d", n, ours)
		}
	}
	w.scan()
	for range 8 {
		minute(2 * 22)
	}
	if !strings.Contains(log.String(), `are kept while the requests cannot be read" alarm=bulk_removal nsg=`+string(onWeb)+" doors=22") {
		t.Error(log)
	}
	minute(2 * 22)
	minute(2 * 21) // the short one has ended
	w.expectOpen(bob, 0)
	w.expectStatus(recs[0], access.Initiating, "") // of which nothing is known
	dark = false
	minute(2 * 21)
	for _, rec := range recs {
		w.expectStatus(rec, access.Initiated, "")
	}
	if s := w.status(short); s.EndedAt.IsZero() || s.Reason != access.Expired {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expectShut()
}

// TestALockdownWaitsForNoRecord: it shuts what nobody accounts for, however much it is.
func TestALockdownWaitsForNoRecord(t *testing.T) {
	w := newWorld(t)
	dark := true
	w.again(func(p *broker.ReconcilePorts) { p.Index = unsearchable{p.Index, &dark} })
	w.doors(21, time.Hour)
	w.store.LoseLedger()
	w.lock("an attack")
	w.scan()
	w.expectShut()
}

// TestAFewLostDoorsDoNotWait: they are shut at once, and once the requests can be
// read their grants are told to have ended, on all of their path.
func TestAFewLostDoorsDoNotWait(t *testing.T) {
	w := newWorld(t)
	dark := true
	w.again(func(p *broker.ReconcilePorts) { p.Index = unsearchable{p.Index, &dark} })
	recs := w.doors(10, time.Hour)
	w.now = w.now.Add(20 * time.Minute)
	w.store.LoseLedger()
	w.scan()
	w.expectShut()
	dark = false
	for range 3 {
		w.now = w.now.Add(time.Minute)
		if err := w.sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
	}
	for _, rec := range recs {
		w.expectStatus(rec, access.Revoked, access.RemovedExternally)
	}
	w.expectShut()
}
