package broker

import (
	"context"
	"errors"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Viewer shows requests as they now stand.
type Viewer struct {
	requests Requests
	ended    EndedLegs
	ledger   Ledger
}

// NewViewer makes a Viewer; every port is required.
func NewViewer(requests Requests, ended EndedLegs, ledger Ledger) (*Viewer, error) {
	if requests == nil || ended == nil || ledger == nil {
		return nil, errors.New("broker: a port of the viewer is missing")
	}
	return &Viewer{requests, ended, ledger}, nil
}

// View gives a request and its legs as they now stand. Who may see it is the
// caller's to decide. Errors: not_found, unavailable.
func (v *Viewer) View(ctx context.Context, id access.RequestID) (access.Record, []access.Leg, error) {
	rec, _, err := v.requests.Find(ctx, id)
	if err != nil {
		return access.Record{}, nil, err
	}
	legs := rec.Legs()
	if len(legs) == 0 {
		return rec, nil, nil
	}
	type place struct {
		key string
		nsg access.ResourceID
	}
	now := map[place]access.Leg{}
	// The live legs are read before the ended ones: a leg on its way from here to
	// there is in both, never in neither.
	seen := map[access.ResourceID]bool{}
	for _, l := range legs {
		if seen[l.NSG] {
			continue
		}
		seen[l.NSG] = true
		if err := v.live(ctx, rec.ID, l.NSG, func(l access.Leg) { now[place{l.Key(), l.NSG}] = l }); err != nil {
			return access.Record{}, nil, err
		}
	}
	ended, err := v.ended.Ended(ctx, id)
	if err != nil {
		return access.Record{}, nil, err
	}
	for _, l := range ended {
		now[place{l.Key(), l.NSG}] = l
	}
	for i, l := range legs {
		if n, ok := now[place{l.Key(), l.NSG}]; ok {
			legs[i] = n
		}
	}
	return rec, legs, nil
}

func (v *Viewer) live(ctx context.Context, id access.RequestID, on access.ResourceID, keep func(access.Leg)) error {
	head, err := v.ledger.Head(ctx, on)
	if err != nil {
		return err
	}
	legs, err := v.ledger.Legs(ctx, on)
	if err != nil {
		return err
	}
	for _, l := range legs {
		if l.Request != id {
			continue
		}
		if l.BlockedBy == "" && l.State != access.LegOpen {
			l.BlockedBy = head.Trouble
		}
		keep(l)
	}
	return nil
}
