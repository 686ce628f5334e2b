package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// minutes passes the time with what Sweep and its prompts do.
func (w *world) minutes(n int) {
	w.t.Helper()
	for range n {
		w.now = w.now.Add(time.Minute)
		_ = w.sweeper.Sweep(w.t.Context()) // what it says of others is not the matter here
		w.deliver()
	}
}

// sources opens n doors that share a rule: sources of one port of one machine.
func (w *world) sources(n int) (recs []access.Record) {
	w.t.Helper()
	w.limit(200, 200)
	for i := range n {
		recs = append(recs, w.submit(ask(fmt.Sprint("source-", i), sourceOf(i), time.Hour)))
	}
	w.deliver()
	return recs
}

func sourceOf(i int) string { return fmt.Sprintf("203.0.113.%d", 2*i+1) }

func (w *world) expectAllOpen(recs []access.Record) {
	w.t.Helper()
	for i, rec := range recs {
		w.expectOpen(sourceOf(i), 2)
		w.expectStatus(rec, access.Initiated, "")
	}
}

// TestANewAskDoesNotHideWhatIsLost: somebody asks for a door of the same rule before
// anybody has looked. The head that is made with it does not vouch for the rest.
func TestANewAskDoesNotHideWhatIsLost(t *testing.T) {
	w := newWorld(t)
	recs := w.sources(3)
	waiting := w.submit(ask("waiting", bob, time.Hour))
	w.bus.Take(w.now) // its prompts are lost
	w.store.LoseLedger()
	late := w.submit(ask("late", alice, time.Hour))
	w.deliver()
	w.expectAllOpen(recs)
	w.expectStatus(late, access.Initiated, "")
	w.expectStatus(waiting, access.Initiated, "")
}

// someFiles cannot read the files of some requests.
type someFiles struct {
	broker.Files
	not func(access.RequestID) bool
}

func (s someFiles) File(ctx context.Context, id access.RequestID) (access.File, error) {
	if s.not(id) {
		return access.File{}, access.Errorf(access.Unavailable, "tables_unavailable", "not now")
	}
	return s.Files.File(ctx, id)
}

// TestManyDoorsWaitForTheLastRequest: as long as a single request cannot be read
// that may account for a door of many, none of them is shut, whoever has asked since.
func TestManyDoorsWaitForTheLastRequest(t *testing.T) {
	w := newWorld(t)
	recs := w.sources(30)
	dark := true
	w.again(func(p *broker.ReconcilePorts) {
		p.Files = someFiles{p.Files, func(id access.RequestID) bool { return dark && id == recs[0].ID }}
	})
	w.store.LoseLedger()
	late := w.submit(ask("late", "203.0.113.200", 30*time.Minute))
	w.deliver()
	w.scan()
	w.minutes(20) // longer than a restored leg waits
	for i := range recs {
		w.expectOpen(sourceOf(i), 2)
	}
	w.expectStatus(late, access.Initiated, "")
	w.expectOpen("203.0.113.200", 2)
	w.now = w.now.Add(10 * time.Minute) // what is on record ends all the same
	w.minutes(1)
	w.expectStatus(late, access.Revoked, access.Expired)
	w.expectOpen("203.0.113.200", 0)
	dark = false
	w.minutes(2)
	w.expectAllOpen(recs)
}

// TestALockdownTellsOfWhatWasLost: the doors are shut, and their grants are told to
// have ended by it.
func TestALockdownTellsOfWhatWasLost(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.store.LoseLedger()
	w.lock("an attack")
	w.scan()
	w.expectShut()
	w.expectStatus(rec, access.Revoked, access.LockedDown)
}

// unwell cannot be read while it is set.
type unwell struct {
	broker.Groups
	is *bool
}

func (u unwell) Group(ctx context.Context, id access.ResourceID) (nsg.Group, error) {
	if *u.is {
		return nsg.Group{}, access.Errorf(access.Unavailable, "azure_unavailable", "not now")
	}
	return u.Groups.Group(ctx, id)
}

// TestASearchStaysOwed: another trouble that comes after it is not forgotten with it.
func TestASearchStaysOwed(t *testing.T) {
	w := newWorld(t)
	dark, ill := true, false
	w.again(func(p *broker.ReconcilePorts) {
		p.Index, p.Groups = unsearchable{p.Index, &dark}, unwell{p.Groups, &ill}
	})
	recs := w.doors(3, time.Hour)
	w.store.LoseLedger()
	w.scan()
	w.expectShut()
	dark, ill = false, true
	w.minutes(1)
	ill = false
	w.minutes(3)
	for _, rec := range recs {
		w.expectStatus(rec, access.Revoked, access.RemovedExternally)
	}
}

// cutShort lays legs once and then no more, while it is set.
type cutShort struct {
	broker.Ledger
	is *bool
	n  int
}

func (c *cutShort) AddLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	if c.n++; *c.is && c.n > 1 {
		return access.Errorf(access.Unavailable, "tables_unavailable", "not now")
	}
	return c.Ledger.AddLegs(ctx, id, legs, token, due)
}

// TestARestoreOfManyIsCutOffHalfway: legs are laid by fifty, and the head that comes
// with the first of them does not vouch for the rest.
func TestARestoreOfManyIsCutOffHalfway(t *testing.T) {
	for _, opened := range []bool{true, false} {
		w := newWorld(t)
		cut := true
		w.limit(200, 200)
		var recs []access.Record
		for i := range 60 {
			recs = append(recs, w.submit(ask(fmt.Sprint("source-", i), sourceOf(i), time.Hour)))
		}
		if opened {
			w.deliver()
		}
		w.bus.Take(w.now)
		w.store.LoseLedger()
		w.again(func(p *broker.ReconcilePorts) { p.Ledger = &cutShort{Ledger: p.Ledger, is: &cut} })
		ctx, cancel := context.WithCancel(t.Context())
		_ = w.reconciler.Reconcile(ctx, onWeb, time.Time{})
		cancel()
		cut = false
		for range 2 {
			for _, id := range []access.ResourceID{onWeb, onNIC} {
				if err := w.reconciler.Reconcile(t.Context(), id, time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			w.minutes(1)
		}
		w.expectAllOpen(recs)
	}
}

// TestNoCloseWaitsForARestore: the ledger takes no legs, and a door of another grant
// has come to its end.
func TestNoCloseWaitsForARestore(t *testing.T) {
	w := newWorld(t)
	cut := true
	w.request(anna, wants("short", bob, 10*time.Minute))
	w.deliver()
	w.store.LoseLedger()
	lost := w.doors(3, time.Hour)
	w.bus.Take(w.now.Add(2 * time.Hour))
	w.store.LoseLedger()
	w.again(func(p *broker.ReconcilePorts) { p.Ledger = &cutShort{Ledger: p.Ledger, is: &cut, n: 1} })
	w.now = w.now.Add(10 * time.Minute)
	w.scan()
	w.expectOpen(bob, 0)
	if n := w.ours(); n != 2*len(lost) {
		t.Errorf("%d rules of ours stand", n)
	}
}
