package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// known is what a round has read about the legs that are to open, beyond their
// NSG: each request's file, each machine's policies and whether it is still
// behind the address, the lockdown, and what the policies ask of tickets and
// machines. What several legs need is read once.
type known struct {
	now         time.Time
	lockdown    access.Lockdown
	lockdownErr error
	files       map[access.RequestID]access.File
	fileErrs    map[access.RequestID]error
	policies    map[access.ResourceID][]policy.AccessPolicy
	policyErrs  map[access.ResourceID]error
	there       []bool
	targetErrs  []error
	facts       facts
}

// learn reads what confirm needs, several reads at a time. What cannot be read
// leaves those legs unconfirmed that depend on it, and holds up nothing else.
func (w *round) learn(ctx context.Context, legs []access.Leg, now time.Time) *known {
	k := &known{
		now:   now,
		files: map[access.RequestID]access.File{}, fileErrs: map[access.RequestID]error{}, policies: map[access.ResourceID][]policy.AccessPolicy{}, policyErrs: map[access.ResourceID]error{},
		there: make([]bool, len(legs)), targetErrs: make([]error, len(legs)),
	}
	var g errgroup.Group
	g.SetLimit(confirmAtOnce)
	var requests []access.RequestID
	var machines []access.ResourceID
	live := false
	for i, l := range legs {
		live = live || l.Live()
		if l.State != access.LegOpening {
			continue
		}
		if _, ok := k.files[l.Request]; !ok {
			k.files[l.Request] = access.File{}
			requests = append(requests, l.Request)
		}
		if _, ok := k.policies[l.VM]; !ok {
			k.policies[l.VM] = nil
			machines = append(machines, l.VM)
		}
		g.Go(func() error {
			k.there[i], k.targetErrs[i] = targetOf(ctx, w.Machines, l, now)
			return nil
		})
	}
	files, fileErrs := make([]access.File, len(requests)), make([]error, len(requests))
	policies, policyErrs := make([][]policy.AccessPolicy, len(machines)), make([]error, len(machines))
	for i, id := range requests {
		g.Go(func() error {
			f, err := w.Files.File(ctx, id)
			if access.CodeOf(err) != access.NotFound { // a leg that no record tells of opens nothing
				files[i], fileErrs[i] = f, err
			}
			return nil
		})
	}
	for i, vm := range machines {
		g.Go(func() error {
			policies[i], policyErrs[i] = w.Policies.PoliciesFor(ctx, vm)
			return nil
		})
	}
	if live {
		g.Go(func() error {
			k.lockdown, k.lockdownErr = w.Lockdowns.Lockdown(ctx)
			return nil
		})
	}
	_ = g.Wait() // each keeps its error by itself
	for i, id := range requests {
		k.files[id], k.fileErrs[id] = files[i], fileErrs[i]
	}
	for i, vm := range machines {
		k.policies[vm], k.policyErrs[vm] = policies[i], policyErrs[i]
	}
	k.facts = w.facts(ctx, legs, k)
	return k
}

// facts reads what the policies ask of tickets and machines. It comes after the
// legs were read: whoever ends a ticket writes that first and then looks for its
// requests, so either they find the legs or this finds the end.
func (w *round) facts(ctx context.Context, legs []access.Leg, k *known) facts {
	var ids []access.TicketID
	var vms []access.ResourceID
	for _, l := range legs {
		if l.State != access.LegOpening {
			continue
		}
		if q, ok := questionOf(k.files[l.Request], l.Grant); ok {
			ids = append(ids, q.tickets(k.policies[l.VM])...)
			vms = append(vms, q.machines(k.policies[l.VM])...)
		}
	}
	return readFacts(ctx, w.Tickets, ids, w.Machines, vms, k.now)
}

// judge says what is to become of a leg that never opened: to be closed with the
// reason, not to open in this round because of the error, or neither.
func (k *known) judge(ctx context.Context, i int, l access.Leg) (access.StatusReason, string, error) {
	if err := k.fileErrs[l.Request]; err != nil {
		return "", "the record of the request cannot be read now", err
	}
	f := k.files[l.Request]
	if reason := endingElsewhere(l, f.Ended); reason != "" {
		return reason, "", nil
	}
	if r, ok := f.Revocation(l.Grant); ok {
		return r.Reason, "", nil
	}
	switch {
	case k.lockdownErr != nil:
		return "", "whether there is a lockdown cannot be read now", k.lockdownErr
	case f.Record.ID == "":
		return "", "no record tells of it", access.Errorf(access.NotFound, "record_missing", "no record tells of the request")
	case k.policyErrs[l.VM] != nil:
		return "", "the policies cannot be read now", k.policyErrs[l.VM]
	}
	q, ok := questionOf(f, l.Grant)
	if !ok {
		return access.PolicyChanged, "the record has no such grant", nil
	}
	violations, err := q.answer(ctx, k.policies[l.VM], k.facts, k.now)
	switch {
	case access.CodeOf(err) == access.NotFound:
		return access.TargetChanged, "", nil
	case err != nil:
		return "", "a ticket or the virtual machine cannot be read now", err
	case len(violations) > 0:
		g, _ := f.Grant(l.Grant)
		return lostReason(g.Ticket != nil, violations), violations[0].Message, nil
	case k.targetErrs[i] != nil:
		return "", "the virtual machine cannot be read now", k.targetErrs[i]
	case !k.there[i]:
		return access.TargetChanged, "", nil
	}
	return "", "", nil
}
