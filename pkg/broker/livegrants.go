package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// NotAllowed implements LiveGrants: it judges the live grants of machines in the
// scope by the policies as given, as at the time each was decided.
func (d *Desk) NotAllowed(ctx context.Context, scope access.ResourceID, policies []policy.AccessPolicy) ([]NotAllowedGrant, error) {
	live, err := d.liveLegs(ctx, func(l access.Leg) bool { return slices.Contains(l.VM.Scopes(), scope) })
	if err != nil {
		return nil, err
	}
	var ids []access.RequestID
	grants := map[access.RequestID]map[int]bool{}
	for _, l := range live {
		if grants[l.Request] == nil {
			grants[l.Request] = map[int]bool{}
			ids = append(ids, l.Request)
		}
		grants[l.Request][l.Grant] = true
	}
	files, err := d.Viewer.read(ctx, ids)
	if err != nil {
		return nil, err
	}
	type asked struct {
		question
		grant access.Grant
		who   access.Requestor
	}
	byID := map[access.RequestID][]asked{}
	var tickets []access.TicketID
	var machines []access.ResourceID
	for _, id := range ids {
		f := files[id]
		for i := range grants[id] {
			g, ok := f.Grant(i)
			if !ok || f.Over(i) {
				continue // no record tells of it, so Reconcile does not open it; or it is ending
			}
			q, ok := questionOf(f, i)
			if !ok {
				continue
			}
			byID[id] = append(byID[id], asked{q, g, f.Record.Request.Requestor})
			tickets = append(tickets, q.tickets(policies)...)
			machines = append(machines, q.machines(policies)...)
		}
	}
	s := d.Submitter
	now := s.Clock().UTC()
	k := readFacts(ctx, s.Tickets, tickets, s.Machines, machines, now.Add(-s.settings.SnapshotAge))
	var out []NotAllowedGrant
	for _, id := range ids {
		for _, a := range byID[id] {
			v, err := a.answer(ctx, policies, k, now)
			if access.CodeOf(err) == access.NotFound {
				v, err = []access.Violation{{Reason: "vm_not_found", Message: "the virtual machine " + a.grant.VM.Name() + " does not exist"}}, nil
			}
			if err != nil {
				return nil, err
			}
			if len(v) > 0 {
				out = append(out, NotAllowedGrant{Request: id, Grant: a.grant, Requestor: a.who, Violations: v})
			}
		}
	}
	slices.SortFunc(out, func(a, b NotAllowedGrant) int {
		return cmp.Or(strings.Compare(string(a.Request), string(b.Request)), cmp.Compare(a.Grant.Index, b.Grant.Index))
	})
	return out, nil
}

// liveLegs gives the live legs of every NSG that match.
func (d *Desk) liveLegs(ctx context.Context, match func(access.Leg) bool) ([]access.Leg, error) {
	heads, err := d.Heads.All(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]access.Leg, len(heads))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, h := range heads {
		g.Go(func() error {
			legs, err := d.Submitter.Ledger.Legs(gctx, h.NSG)
			found[i] = slices.DeleteFunc(legs, func(l access.Leg) bool { return !l.Live() || !match(l) })
			return err
		})
	}
	err = g.Wait()
	return slices.Concat(found...), err
}

// End implements LiveGrants.
func (d *Desk) End(ctx context.Context, grants []NotAllowedGrant, reason access.StatusReason) error {
	var ids []access.RequestID
	of, why := map[access.RequestID][]int{}, map[access.RequestID]map[string]string{}
	for _, g := range grants {
		if of[g.Request] == nil {
			ids, why[g.Request] = append(ids, g.Request), map[string]string{}
		}
		of[g.Request] = append(of[g.Request], g.Grant.Index)
		if len(g.Violations) > 0 {
			why[g.Request][fmt.Sprintf("grant.%d", g.Grant.Index)] = g.Violations[0].Message
		}
	}
	files, err := d.Viewer.read(ctx, ids)
	if err != nil {
		return err
	}
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for i, id := range ids {
		f, ok := files[id]
		if !ok {
			continue
		}
		g.Go(func() error {
			errs[i] = d.end(ctx, f, of[id], ending{reason: reason, by: "portcullis", key: "portcullis", detail: why[id]})
			return nil
		})
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}
