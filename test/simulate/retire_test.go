package simulate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

func (p store) LegsOf(ctx context.Context, id access.ResourceID, request access.RequestID) ([]access.Leg, error) {
	return ask(p.s, ctx, theStore, "LegsOf", string(id)+" "+string(request), func() ([]access.Leg, error) { return p.in.LegsOf(ctx, id, request) })
}

func (p store) OldDay(ctx context.Context, from, to time.Time) (time.Time, bool, error) {
	v, err := ask(p.s, ctx, theStore, "OldDay", "", func() (two[time.Time, bool], error) {
		day, ok, err := p.in.OldDay(ctx, from, to)
		return two[time.Time, bool]{day, ok}, err
	})
	return v.a, v.b, err
}

func (p store) ForgetEntry(ctx context.Context, e broker.IndexEntry) error {
	return do(p.s, ctx, theStore, "ForgetEntry", string(e.Request), func() error { return p.in.ForgetEntry(ctx, e) })
}

func (p store) Retiring(ctx context.Context, id access.RequestID) (time.Time, error) {
	return ask(p.s, ctx, theStore, "Retiring", string(id), func() (time.Time, error) { return p.in.Retiring(ctx, id) })
}

func (p store) MarkRetiring(ctx context.Context, id access.RequestID, decidedAt time.Time) error {
	return do(p.s, ctx, theStore, "MarkRetiring", string(id), func() error { return p.in.MarkRetiring(ctx, id, decidedAt) })
}

func (p store) DropJournal(ctx context.Context, seals []audit.Seal) error {
	return do(p.s, ctx, theStore, "DropJournal", fmt.Sprint(len(seals)), func() error { return p.in.DropJournal(ctx, seals) })
}

// ForgetRequest is as many calls as a cut may come between.
func (p store) ForgetRequest(ctx context.Context, id access.RequestID) error {
	for n := range brokertest.ForgetParts {
		if err := do(p.s, ctx, theStore, "ForgetRequest", fmt.Sprint(id, " ", n), func() error {
			p.retired(id, n == 0)
			return p.in.ForgetPart(ctx, id, n)
		}); err != nil {
			return err
		}
	}
	return nil
}

// retire is a timer of its own, where requests are retired at all.
func (w *world) retire() {
	w.timer("retire", 10*time.Minute, w.retire, func(done func()) {
		w.start("retire", "", func(ctx context.Context, c *core) error { return c.retirer.Retire(ctx) }, func(*actor, error) { done() })
	})
}

// retiring holds what is taken out of the record: it is over, has been for the
// retention, stands on no NSG, and was published.
func (j *judge) retiring(id access.RequestID, begins bool) {
	ctx, w := context.Background(), j.w
	for _, on := range groups {
		legs, _ := w.store.LegsOf(ctx, on, id)
		if len(legs) > 0 {
			j.breach("request %s is retired, and has a leg on %s", id, on.Name())
		}
	}
	if !begins || j.gone[id] {
		return // half of it may be gone
	}
	j.gone[id] = true
	w.met["requests retired"]++
	f, err := w.store.File(ctx, id)
	if err != nil {
		return // another has done so
	}
	if _, pending, _ := w.store.Find(ctx, id); pending {
		j.breach("request %s is retired, and is still pending", id)
	}
	s := f.At(time.Now(), nil)
	for _, g := range s.Record.Grants {
		if st := s.Status(g.Index); st.Status != access.Revoked && st.Status != access.Failed || g.EndTime.After(time.Now().Add(w.knobs.skew-w.knobs.retention)) {
			j.breach("request %s is retired, and its grant %d is %s until %s", id, g.Index, st.Status, g.EndTime)
		}
	}
	events, _, _ := w.store.Chain(ctx, string(id))
	if i := slices.IndexFunc(events, func(e access.Event) bool { return !w.topic.came[string(id)+" "+e.ID()] }); i >= 0 {
		j.breach("request %s is retired, and its event %s was not published", id, events[i].ID())
	}
	delete(w.topic.sent, string(id))
}
