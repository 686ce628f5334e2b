package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// reasonUnsearched is the trouble of a head whose NSG has lost legs, or may have,
// while the requests could not be searched for them: the search is owed.
const reasonUnsearched = "requests_unreadable"

// owesSearch says whether legs of the NSG may be lost: no head is there, or the last
// reconcile could not search.
func owesSearch(h Head) bool {
	return h.ETag == "" || strings.HasPrefix(h.Trouble, reasonUnsearched)
}

// account decides about rules of ours that no leg accounts for, though their time
// is not over, before the plan removes them. Where live grants account for them
// their legs are laid again, and again is true: the next round judges them. The
// rest go.
//
// This is the circuit breaker on bulk removal. Where the requests cannot be read,
// a few are removed all the same, but many are kept, as nobody can tell whether
// they are rightly there; either way the search is owed. What has expired by its
// own description never waits for this, nor does a lockdown, nor a rule that cannot
// be one of ours.
func (w *round) account(ctx context.Context, group nsg.Group, legs []access.Leg, lost []nsg.Rule, now time.Time) (again bool) {
	if !w.sought {
		w.sought = true
		var n int
		n, w.unsearched = w.restore(ctx, group, legs, now)
		if n > 0 {
			w.Log.WarnContext(ctx, "legs that the record had lost were laid again", "nsg", w.id, "legs", n)
			return true
		}
	}
	if w.unsearched == nil || nsg.Doors(lost) <= bulkRemoval {
		return false
	}
	keep := slices.DeleteFunc(slices.Clone(lost), func(r nsg.Rule) bool { return !w.rules.Keepable(r) })
	w.rules = w.rules.Keeping(keep)
	w.Log.ErrorContext(ctx, "ALARM many rules of ours are on no record, and are kept while the requests cannot be read",
		"alarm", "bulk_removal", "nsg", w.id, "doors", nsg.Doors(keep), "error", w.unsearched)
	return false
}

// restore lays again the legs that live grants have on the NSG and that its record
// has lost. It says how many; those that it could find, where it could not read all.
//
// All are laid as Opening, so that the next round reads again whatever speaks
// against a grant (its revocation, the policies, the ticket, the machine, the
// lockdown), which may have changed while this searched. Those that were opened are
// Restored besides: they keep rules that stand and open nothing, so that one whose
// rule somebody removed ends on record. One that never was opened is laid as Submit
// would, with its close on the way.
func (w *round) restore(ctx context.Context, group nsg.Group, legs []access.Leg, now time.Time) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	lockdown, err := w.Lockdowns.Lockdown(ctx)
	if lockdown.Active || err != nil {
		return 0, err
	}
	ids, err := w.liveRequests(ctx, now)
	if err != nil {
		return 0, err
	}
	have := byKey(legs)
	granted, err := w.grantedHere(ctx, ids, now)
	missing := slices.DeleteFunc(granted, func(l access.Leg) bool {
		_, known := have[l.Key()]
		return known
	})
	stands := byKey(w.rules.CoveredWhole(group, missing))
	scheduled := map[time.Time]bool{}
	for i, l := range missing {
		if _, ok := stands[l.Key()]; ok && l.OpenedAt.IsZero() {
			l.OpenedAt = now // as is seen
		}
		if !l.OpenedAt.IsZero() {
			l.Restored, l.OpenBy = true, now.Add(restoreWithin)
		} else if !scheduled[l.EndTime] {
			if err := w.Prompts.Prompt(ctx, w.id, l.EndTime); err != nil {
				return 0, err
			}
			scheduled[l.EndTime] = true
		}
		missing[i] = l
	}
	for some := range slices.Chunk(missing, access.MaxPorts) {
		if err := w.Ledger.AddLegs(ctx, w.id, some, w.Token(), now); err != nil {
			return n, err
		}
		n += len(some)
	}
	return n, err
}

// liveRequests gives the accepted requests with grants that have not ended, of
// machines in the NSG's subscription. It costs one call for every thousand requests
// of the last sixteen days.
func (w *round) liveRequests(ctx context.Context, now time.Time) (ids []access.RequestID, err error) {
	q := IndexQuery{From: now.Add(-LiveWithin), Most: 1000}
	for {
		entries, err := w.Index.Entries(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			q.After = e.Position()
			near := slices.ContainsFunc(e.VMs, func(vm access.ResourceID) bool { return vm.Subscription() == w.id.Subscription() })
			if near && e.Outcome == access.Accepted && e.Until().After(now) {
				ids = append(ids, e.Request)
			}
		}
		if len(entries) < q.Most {
			return ids, nil
		}
	}
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
		return errors.Join(access.Wrap(w.unsearched, access.Unavailable, reasonUnsearched,
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
