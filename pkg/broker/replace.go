package broker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

// endReplaced ends the grants that were taken over by grants which are open on
// all of their path, and says whether that changed anything here. Both are one
// rule as long as the doors are the same, so nothing shuts in between: the old
// leg only goes once the new one was read back as open.
func (w *round) endReplaced(ctx context.Context, live, changed []access.Leg, now time.Time) (bool, error) {
	// Whoever opened last has to tell the others. The old leg here is ended last,
	// so that as long as it stands all of this is repeated.
	var taking []access.Leg
	siblings := map[access.ResourceID][]access.Leg{}
	for _, l := range live {
		if l.Replaces == "" || l.State != access.LegOpen {
			continue
		}
		justOpened := slices.ContainsFunc(changed, func(c access.Leg) bool { return c.Key() == l.Key() && c.State == access.LegOpen })
		standsHere := slices.ContainsFunc(live, func(o access.Leg) bool { return o.Key() == l.Replaces })
		if justOpened || standsHere {
			taking = append(taking, l)
			for _, other := range l.Siblings {
				siblings[other] = nil
			}
		}
	}
	if err := w.readLegs(ctx, siblings); err != nil {
		return false, err
	}
	old := map[access.ResourceID][]string{}
	for _, l := range taking {
		if slices.ContainsFunc(l.Siblings, func(other access.ResourceID) bool { return !isOpen(siblings[other], l.Key()) }) {
			continue
		}
		for _, on := range append(slices.Clone(l.Siblings), w.id) {
			old[on] = append(old[on], l.Replaces)
		}
	}
	for _, on := range slices.Sorted(maps.Keys(old)) {
		if on == w.id {
			continue
		}
		keys := old[on]
		if err := closeLegs(ctx, w.Ledger, w.Legs, w.Prompts, on, w.Token(), now, access.NewerRequestInitiated, func(o access.Leg) bool {
			return slices.Contains(keys, o.Key())
		}); err != nil {
			return false, err
		}
	}
	if !slices.ContainsFunc(live, func(l access.Leg) bool { return slices.Contains(old[w.id], l.Key()) }) {
		return false, nil
	}
	fresh, err := w.Ledger.Legs(ctx, w.id)
	if err != nil {
		return false, err
	}
	var ending []access.Leg
	for _, l := range fresh {
		if l.Live() && slices.Contains(old[w.id], l.Key()) {
			ending = append(ending, closing(l, access.NewerRequestInitiated, now))
		}
	}
	return true, w.Legs.UpdateLegs(ctx, w.id, ending)
}

func isOpen(legs []access.Leg, key string) bool {
	return slices.ContainsFunc(legs, func(l access.Leg) bool { return l.Key() == key && l.State == access.LegOpen })
}

// readLegs fills in the legs of each NSG.
func (w *round) readLegs(ctx context.Context, of map[access.ResourceID][]access.Leg) error {
	var ids []access.ResourceID
	for id := range of {
		ids = append(ids, id)
	}
	found := make([][]access.Leg, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, id := range ids {
		g.Go(func() (err error) {
			found[i], err = w.Ledger.Legs(gctx, id)
			return err
		})
	}
	err := g.Wait()
	for i, id := range ids {
		of[id] = found[i]
	}
	return err
}
