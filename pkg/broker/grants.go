package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// grantsAtOnce bounds the partitions and records that are read side by side.
const grantsAtOnce = 16

// Grants finds live grants in the ledger, and ends them. It implements
// LiveGrants.
type Grants struct {
	requests Requests
	heads    Heads
	ledger   Ledger
	legs     LegWriter
	prompts  Prompts
	clock    Clock
	token    func() string
}

// NewGrants makes a Grants; every port is required.
func NewGrants(requests Requests, heads Heads, ledger Ledger, legs LegWriter, prompts Prompts, clock Clock, token func() string) (*Grants, error) {
	if requests == nil || heads == nil || ledger == nil || legs == nil || prompts == nil || clock == nil || token == nil {
		return nil, errors.New("broker: a port of the grants is missing")
	}
	return &Grants{requests, heads, ledger, legs, prompts, clock, token}, nil
}

// NotAllowed implements LiveGrants.
func (g *Grants) NotAllowed(ctx context.Context, scope access.ResourceID, policies []policy.AccessPolicy) ([]NotAllowedGrant, error) {
	records, err := g.liveRecords(ctx, scope)
	if err != nil {
		return nil, err
	}
	var out []NotAllowedGrant
	for _, rec := range records {
		for _, grant := range rec.Grants {
			if !slices.Contains(grant.VM.Scopes(), scope) || !grant.EndTime.After(g.clock()) {
				continue
			}
			if v := policy.Still(rec, grant, policies); len(v) > 0 {
				out = append(out, NotAllowedGrant{Request: rec.ID, Grant: grant, Requestor: rec.Request.Requestor, Violations: v})
			}
		}
	}
	return out, nil
}

// liveRecords gives the requests with a live leg on a machine of the scope, by
// their ids.
func (g *Grants) liveRecords(ctx context.Context, scope access.ResourceID) ([]access.Record, error) {
	heads, err := g.heads.All(ctx)
	if err != nil {
		return nil, err
	}
	perHead := make([][]access.RequestID, len(heads))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(grantsAtOnce)
	for i, h := range heads {
		group.Go(func() error {
			legs, err := g.ledger.Legs(gctx, h.NSG)
			for _, l := range legs {
				if l.Live() && slices.Contains(l.VM.Scopes(), scope) {
					perHead[i] = append(perHead[i], l.Request)
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	ids := slices.Concat(perHead...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	records := make([]access.Record, len(ids))
	group, gctx = errgroup.WithContext(ctx)
	group.SetLimit(grantsAtOnce)
	for i, id := range ids {
		group.Go(func() (err error) {
			records[i], _, err = g.requests.Find(gctx, id)
			return err
		})
	}
	return records, group.Wait()
}

// End implements LiveGrants. It goes on past what fails and joins the errors.
func (g *Grants) End(ctx context.Context, grants []NotAllowedGrant, reason access.StatusReason) error {
	keys := map[access.ResourceID]map[string]bool{}
	for _, n := range grants {
		for _, l := range n.Grant.Legs {
			if keys[l.NSG] == nil {
				keys[l.NSG] = map[string]bool{}
			}
			keys[l.NSG][l.Key()] = true
		}
	}
	var err error
	for id, of := range keys {
		err = errors.Join(err, closeLegs(ctx, g.ledger, g.legs, g.prompts, id, g.token(), g.clock().UTC(), reason, func(l access.Leg) bool { return of[l.Key()] }))
	}
	return err
}
