package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"golang.org/x/sync/errgroup"
)

const (
	// bulkRemoval is how many doors that no leg accounts for, their time not over,
	// one look may find before that is an alarm, and before they are kept while the
	// record of the requests cannot be read: a late writer leaves one or two, a lost
	// part of the record all of them.
	bulkRemoval = 20
	// restoreWithin is how long a leg that was laid again has to be confirmed.
	restoreWithin = 15 * time.Minute
	// searchWithin bounds the search for lost legs, as other legs wait for it.
	searchWithin = 30 * time.Second
)

// account decides about rules of ours that no leg accounts for, though their time
// is not over, before the plan removes them. Where live grants account for them
// their legs are laid again, and again is true: the next round judges them. The
// rest go.
//
// This is the circuit breaker on bulk removal. Where not all requests can be read,
// a few are removed all the same, but many are kept, as nobody can tell whether
// they are rightly there; either way the search is owed. What has expired by its
// own description never waits for this, nor does a lockdown, nor a rule that cannot
// be one of ours.
func (w *round) account(ctx context.Context, group nsg.Group, legs []access.Leg, lost []nsg.Lost, now time.Time) (again bool, err error) {
	n := 0
	for _, l := range lost {
		if w.rules.Keepable(l.Rule) {
			n, w.kept = n+l.Doors, append(w.kept, l.Rule)
		}
	}
	bulk := n > bulkRemoval
	if !w.sought {
		w.sought = true
		var laid int
		if laid, err = w.restore(ctx, group, legs, bulk, now); err != nil {
			w.sought = false
			return false, err // half of them are laid, and the others must not go for that
		}
		if laid > 0 {
			w.Log.WarnContext(ctx, "legs that the record had lost were laid again", "nsg", w.id, "legs", laid)
			return true, nil
		}
	}
	if w.unsearched == nil || w.lockedDown || !bulk {
		w.kept = nil
		return false, nil
	}
	w.rules = w.rules.Keeping(w.kept)
	w.Log.ErrorContext(ctx, "ALARM many rules of ours are on no record, and are kept while the requests cannot be read",
		"alarm", "bulk_removal", "nsg", w.id, "doors", n, "error", w.unsearched)
	return false, nil
}

// release keeps those rules no more by which a leg goes that is to be closed: what
// is on record as ended must not stand. It says whether to plan again.
func (w *round) release(legs []access.Leg, plan nsg.Plan) bool {
	ending := slices.DeleteFunc(slices.Concat(legs, plan.Closing), func(l access.Leg) bool { return l.State != access.LegClosing })
	keep := slices.DeleteFunc(slices.Clone(w.kept), func(r nsg.Rule) bool {
		alone := nsg.Group{ID: w.id, Rules: []nsg.Rule{r}}
		return slices.ContainsFunc(ending, func(l access.Leg) bool { return w.rules.Covered(alone, l) })
	})
	if len(keep) == len(w.kept) {
		return false
	}
	w.kept, w.rules = keep, w.rules.Keeping(keep)
	return true
}

// restore lays again the legs that live grants have on the NSG and that its record
// has lost. It says how many. Where it could not read all it lays those that it could
// find, unless all are wanted: a rule that is kept belongs to nobody in part.
//
// All are laid as Opening, so that the next round reads again whatever speaks
// against a grant (its revocation, the policies, the ticket, the machine, the
// lockdown), which may have changed while this searched. Those that were opened are
// Restored besides: they keep rules that stand and open nothing, so that one whose
// rule somebody removed ends on record. One that never was opened is laid as Submit
// would, with its close on the way.
func (w *round) restore(ctx context.Context, group nsg.Group, legs []access.Leg, all bool, now time.Time) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	lockdown, err := w.Lockdowns.Lockdown(ctx)
	if err != nil {
		w.unsearched = err
		return 0, nil
	}
	w.lockedDown = lockdown.Active
	have := map[access.RequestID]bool{}
	for _, l := range legs {
		have[l.Request] = true
	}
	ids, err := liveRequests(ctx, w.Index, IndexQuery{}, now, func(e IndexEntry) bool {
		// An NSG and what is behind it are of one subscription.
		return slices.ContainsFunc(e.VMs, func(vm access.ResourceID) bool { return vm.Subscription() == w.id.Subscription() })
	})
	if err != nil {
		w.unsearched = err
		return 0, nil
	}
	// The legs of a request on one NSG are laid in one transaction, here too.
	ids = slices.DeleteFunc(ids, func(id access.RequestID) bool { return have[id] })
	missing, err := w.grantedHere(ctx, ids, now)
	if w.unsearched = err; err != nil && all {
		return 0, nil
	}
	missing = w.relaid(ctx, group, missing, now)
	for _, some := range byRequests(missing) {
		if err := w.Ledger.AddLegs(ctx, w.id, some, w.Token(), now); err != nil {
			return n, err
		}
		n += len(some)
	}
	return n, nil
}

// byRequests cuts legs, those of a request in a row, into parts of at most MaxPorts,
// each with all legs of its requests.
func byRequests(legs []access.Leg) (parts [][]access.Leg) {
	var part []access.Leg
	for len(legs) > 0 {
		n := 1
		for n < len(legs) && legs[n].Request == legs[0].Request {
			n++
		}
		if len(part) > 0 && len(part)+n > access.MaxPorts {
			parts, part = append(parts, part), nil
		}
		part, legs = append(part, legs[:n]...), legs[n:]
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	return parts
}

// relaid gives lost legs as they are laid again, without those whose close cannot be
// scheduled now.
func (w *round) relaid(ctx context.Context, group nsg.Group, missing []access.Leg, now time.Time) (out []access.Leg) {
	stands := byKey(w.rules.CoveredWhole(group, missing))
	scheduled := map[time.Time]bool{}
	for _, l := range missing {
		if _, ok := stands[l.Key()]; ok && l.OpenedAt.IsZero() {
			l.OpenedAt = now // as is seen
		}
		if !l.OpenedAt.IsZero() {
			l.Restored, l.OpenBy = true, now.Add(restoreWithin)
		} else if !scheduled[l.EndTime] {
			if err := w.Prompts.Prompt(ctx, w.id, l.EndTime); err != nil {
				w.unsearched = err
				continue
			}
			scheduled[l.EndTime] = true
		}
		out = append(out, l)
	}
	return out
}

// grantedHere gives the legs that the requests' grants have on the NSG and that are
// not on record as ended, with when they were opened, if they were. What cannot be
// read is an error and does not keep the others back.
func (w *round) grantedHere(ctx context.Context, ids []access.RequestID, now time.Time) (out []access.Leg, err error) {
	found, errs := make([][]access.Leg, len(ids)), make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(confirmAtOnce)
	for i, id := range ids {
		g.Go(func() error {
			found[i], errs[i] = w.legsHere(ctx, id, now)
			return nil
		})
	}
	_ = g.Wait() // each keeps its error by itself
	return slices.Concat(found...), errors.Join(errs...)
}

func (w *round) legsHere(ctx context.Context, id access.RequestID, now time.Time) (out []access.Leg, err error) {
	f, err := w.Files.File(ctx, id)
	if access.CodeOf(err) == access.NotFound {
		return nil, nil // entered in the index, and never recorded
	} else if err != nil {
		return nil, err
	}
	if f.Record.Outcome != access.Accepted || f.Start != nil && f.Start.Reason != "" {
		return nil, nil
	}
	for _, grant := range f.Grants() {
		for _, l := range grant.Legs {
			if _, ended := endedBefore(l, f.Ended); l.NSG == w.id && l.EndTime.After(now) && !ended {
				l.State = access.LegOpening
				out = append(out, l)
			}
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	events, err := w.History.EventsOf(ctx, string(id))
	if err != nil {
		return nil, err
	}
	for i, l := range out {
		opened := legEvent(access.EventOpened, l, now).ID()
		for _, e := range events {
			if e.ID() == opened {
				out[i].OpenedAt = e.At
			}
		}
	}
	return out, nil
}

// unfinished is why the round has not done all, though what it could do is done.
func (w *round) unfinished() error {
	if w.unsearched != nil {
		return errors.Join(access.Wrap(w.unsearched, access.Unavailable, "requests_unreadable",
			"the requests that may account for rules of ours cannot all be read"), w.unread)
	}
	return w.unread
}

// restoredEvent tells of a restored leg that was confirmed. A leg may be lost again.
func restoredEvent(l access.Leg) access.Event {
	at := l.OpenBy.Add(-restoreWithin)
	e := legEvent(access.EventRestored, l, at)
	e.Key += "-" + at.UTC().Format(time.RFC3339)
	return e
}
