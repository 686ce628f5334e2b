package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

// Viewer shows requests as they now stand.
type Viewer struct {
	requests Requests
	files    Files
	ledger   Ledger
	clock    Clock
}

// NewViewer makes a Viewer; every port is required.
func NewViewer(requests Requests, files Files, ledger Ledger, clock Clock) (*Viewer, error) {
	if requests == nil || files == nil || ledger == nil || clock == nil {
		return nil, errors.New("broker: a port of the viewer is missing")
	}
	return &Viewer{requests, files, ledger, clock}, nil
}

// View gives a request as it now stands. Who may see it is the caller's to
// decide. Errors: not_found, unavailable.
func (v *Viewer) View(ctx context.Context, id access.RequestID) (access.Situation, error) {
	found, err := v.Views(ctx, []access.RequestID{id})
	if err != nil {
		return access.Situation{}, err
	}
	s, ok := found[id]
	if !ok {
		return access.Situation{}, access.Errorf(access.NotFound, "request_unknown", "there is no such access request")
	}
	return s, nil
}

// Views gives those of the requests that there are. What several need is read
// once: a file per request, and each NSG behind which something has not ended.
func (v *Viewer) Views(ctx context.Context, ids []access.RequestID) (map[access.RequestID]access.Situation, error) {
	files, err := v.read(ctx, ids)
	if err != nil {
		return nil, err
	}
	// The live legs are read before the ended ones: a leg on its way from here to
	// there is in both, never in neither. So what has not ended is read again.
	groups := map[access.ResourceID][]access.RequestID{}
	var again []access.RequestID
	for id, f := range files {
		unfinished := false
		for _, g := range f.Grants() {
			for _, l := range g.Legs {
				if endedIn(f, l) {
					continue
				}
				unfinished = true
				if !slices.Contains(groups[l.NSG], id) {
					groups[l.NSG] = append(groups[l.NSG], id)
				}
			}
		}
		if unfinished {
			again = append(again, id)
		}
	}
	live, err := v.live(ctx, groups)
	if err != nil {
		return nil, err
	}
	later, err := v.read(ctx, again)
	if err != nil {
		return nil, err
	}
	now := v.clock().UTC()
	out := map[access.RequestID]access.Situation{}
	for id, f := range files {
		if l, ok := later[id]; ok {
			f = l
		}
		out[id] = f.At(now, live[id])
	}
	return out, nil
}

func endedIn(f access.File, l access.Leg) bool {
	_, ok := endedBefore(l, f.Ended)
	return ok
}

// read reads the files of those requests that there are; of one that is still
// pending there may be nothing but its decision.
func (v *Viewer) read(ctx context.Context, ids []access.RequestID) (map[access.RequestID]access.File, error) {
	files := make([]access.File, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, id := range ids {
		g.Go(func() error {
			f, err := v.files.File(gctx, id)
			if err != nil && access.CodeOf(err) != access.NotFound {
				return err
			}
			if f.Record.ID == "" {
				f.Record, _, err = v.requests.Find(gctx, id)
				if err != nil && access.CodeOf(err) != access.NotFound {
					return err
				}
			}
			files[i] = f
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := map[access.RequestID]access.File{}
	for i, f := range files {
		if f.Record.ID != "" {
			out[ids[i]] = f
		}
	}
	return out, nil
}

// live reads the requests' live legs on the NSGs, by request.
func (v *Viewer) live(ctx context.Context, groups map[access.ResourceID][]access.RequestID) (map[access.RequestID][]access.Leg, error) {
	out := map[access.RequestID][]access.Leg{}
	found := make(chan []access.Leg, len(groups))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for id, of := range groups {
		g.Go(func() error {
			legs, err := v.liveOn(gctx, id, of)
			found <- legs
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	close(found)
	for legs := range found {
		for _, l := range legs {
			out[l.Request] = append(out[l.Request], l)
		}
	}
	return out, nil
}

// fewRequests are read one by one where the ledger can; of more, all that is on
// the NSG is read at once.
const fewRequests = 4

func (v *Viewer) liveOn(ctx context.Context, on access.ResourceID, of []access.RequestID) ([]access.Leg, error) {
	head, err := v.ledger.Head(ctx, on)
	if err != nil {
		return nil, err
	}
	legs, err := v.legsOf(ctx, on, of)
	for i, l := range legs {
		if l.BlockedBy == "" && l.State != access.LegOpen {
			legs[i].BlockedBy = head.Trouble
		}
	}
	return legs, err
}

// legsOf reads the legs of the requests, and perhaps those of others.
func (v *Viewer) legsOf(ctx context.Context, on access.ResourceID, of []access.RequestID) (legs []access.Leg, err error) {
	finder, ok := v.ledger.(LegFinder)
	if !ok || len(of) > fewRequests {
		return v.ledger.Legs(ctx, on)
	}
	for _, id := range of {
		some, err := finder.LegsOf(ctx, on, id)
		if err != nil {
			return nil, err
		}
		legs = append(legs, some...)
	}
	return legs, nil
}
