package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// MachinePlan says what a policy's baseline would change for one machine.
type MachinePlan struct {
	VM     access.ResourceID
	Groups []GroupPlan
	// Unsupported says why access to the machine cannot be opened; "" where it can.
	// A baseline may stand all the same, and Groups tells of it.
	Unsupported string
}

// GroupPlan is a machine's part on one NSG.
type GroupPlan struct {
	NSG access.ResourceID
	// Put and Remove are our deny rules that would be written, all of the NSG's.
	Put    []nsg.Rule
	Remove []string
	// Past are the customer's rules that let traffic past the baseline, Blocking
	// those that would stand before a grant.
	Past, Blocking []Advice
	// CutOff is what passes now and would not any more.
	CutOff []Cut
	// BlockedBy says why the baseline or a grant cannot stand, or what of the NSG
	// could not be read; "" where nothing is in the way.
	BlockedBy string
}

// Cut is something that a baseline would cut off, with what to do.
type Cut struct{ What, Advice string }

// groupState is an NSG with what is and would be wanted of it.
type groupState struct {
	group  nsg.Group
	rows   []access.Baseline // as they would be
	plan   nsg.Plan
	unread string
}

// Plan says what would be written if the policy were stored, or with remove if
// it were deleted: for each machine that it decides about, on each NSG of its
// path, by the same planning that Reconcile does. Machines under a policy at a
// nearer scope are left out. It writes nothing. What of Azure our identity may
// not read is told in the plan. Errors: those of the ports.
func (e *Enabler) Plan(ctx context.Context, p policy.AccessPolicy, remove bool) ([]MachinePlan, error) {
	start := e.Clock()
	all, err := e.Policies.ListPolicies(ctx, p.Scope.Subscription())
	if err != nil {
		return nil, err
	}
	p.Disabled = false
	machines, err := e.decidedBy(ctx, p, with(all, p), start)
	if err != nil {
		return nil, err
	}
	p.Disabled = remove
	states, err := e.states(ctx, machines, with(all, p))
	if err != nil {
		return nil, err
	}
	around := make([]Surroundings, len(machines))
	if p.Shuts() {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(discoverAtOnce)
		for i, m := range machines {
			g.Go(func() (err error) {
				around[i], err = e.Neighbourhood.Surroundings(gctx, m, start)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	cutter := newCutter(states)
	out := make([]MachinePlan, 0, len(machines))
	for i, m := range machines {
		out = append(out, e.machinePlan(m, p, states, around[i], cutter))
	}
	return out, nil
}

// decidedBy gives the machines about which the policy decides, once it stands
// among the others.
func (e *Enabler) decidedBy(ctx context.Context, p policy.AccessPolicy, all []policy.AccessPolicy, start time.Time) ([]Machine, error) {
	if _, err := access.ParseVM(string(p.Scope)); err == nil {
		m, err := e.Machines.Machine(ctx, p.Scope, start)
		switch {
		case access.CodeOf(err) == access.NotFound, access.ReasonOf(err) == "azure_permission", access.ReasonOf(err) == "azure_unreadable":
			return []Machine{{ID: p.Scope, Name: p.Scope.Name(), Unreadable: access.AsError(err).Message}}, nil
		case err != nil:
			return nil, err
		}
		return []Machine{m}, nil
	}
	machines, err := e.Lister.List(ctx, p.Scope.Subscription())
	if err != nil {
		return nil, err
	}
	machines = slices.DeleteFunc(slices.Clone(machines), func(m Machine) bool {
		near, ok := policy.Nearest(m.ID, all)
		return !ok || near.Scope != p.Scope
	})
	slices.SortFunc(machines, func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	return machines, nil
}

// states reads the NSGs of the machines' paths, and plans them as the policies
// would have them.
func (e *Enabler) states(ctx context.Context, machines []Machine, policies []policy.AccessPolicy) (map[access.ResourceID]groupState, error) {
	desired := e.desired(machines, policies)
	covered := map[access.ResourceID]bool{}
	var ids []access.ResourceID
	for _, m := range machines {
		covered[m.ID] = true
		for _, id := range pathOf(m) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	out := map[access.ResourceID]groupState{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(discoverAtOnce)
	for _, id := range ids {
		g.Go(func() error {
			s, err := e.state(ctx, id, desired[id], machines, policies, covered)
			mu.Lock()
			defer mu.Unlock()
			out[id] = s
			return err
		})
	}
	return out, g.Wait()
}

func (e *Enabler) state(ctx context.Context, id access.ResourceID, desired []access.Baseline, machines []Machine, policies []policy.AccessPolicy, covered map[access.ResourceID]bool) (groupState, error) {
	var s groupState
	legs, rows, err := e.Baselines.Partition(ctx, id)
	if err != nil {
		return s, err
	}
	about := slices.DeleteFunc(slices.Clone(rows), func(r access.Baseline) bool { return !covered[r.VM] })
	changed, err := e.changes(ctx, about, desired, machines, policies)
	if err != nil {
		return s, err
	}
	s.rows = slices.DeleteFunc(rows, func(r access.Baseline) bool {
		return slices.ContainsFunc(changed, func(c access.Baseline) bool { return c.VM == r.VM })
	})
	s.rows = append(s.rows, changed...)
	s.group, err = e.Groups.Group(ctx, id)
	if access.CodeOf(err) == access.NotFound || access.ReasonOf(err) == "azure_permission" {
		s.unread = "the network security group could not be read: " + access.AsError(err).Message
		return s, nil
	}
	if err == nil {
		s.plan = e.rules.Plan(s.group, legs, e.Clock(), s.rows...)
	}
	return s, err
}

func (e *Enabler) machinePlan(m Machine, p policy.AccessPolicy, states map[access.ResourceID]groupState, around Surroundings, cutter *cutter) MachinePlan {
	out := MachinePlan{VM: m.ID, Unsupported: unsupported(m)}
	for i, id := range pathOf(m) {
		s := states[id]
		g := GroupPlan{NSG: id, BlockedBy: s.unread}
		if s.unread != "" {
			out.Groups = append(out.Groups, g)
			continue
		}
		g.Put, g.Remove = e.denies(s)
		for _, row := range baselinesOf(m, p) {
			if row.NSG == id && !p.Disabled {
				g.Blocking = e.blocking(s.group, row, p)
				g.BlockedBy = e.inTheWay(s, m.ID)
				if p.Shuts() {
					g.Past = e.past(s.group, row)
					g.CutOff = cutter.cuts(m, id, p, around)
				}
			}
		}
		if i == 0 {
			for _, remark := range around.Unread {
				g.CutOff = append(g.CutOff, Cut{remark, "look there before you enable this, or have our identity read it"})
			}
		}
		out.Groups = append(out.Groups, g)
	}
	return out
}

// denies are the baseline rules that the plan writes.
func (e *Enabler) denies(s groupState) (put []nsg.Rule, remove []string) {
	for _, r := range s.plan.Put {
		if e.rules.Shuts(r) {
			put = append(put, r)
		}
	}
	for _, name := range s.plan.Remove {
		if slices.ContainsFunc(s.group.Rules, func(r nsg.Rule) bool { return r.Name == name && e.rules.Shuts(r) }) {
			remove = append(remove, name)
		}
	}
	return put, remove
}

// blocking tells the customer's rules that would stand before a grant, port by
// port from the sources that the policy allows.
func (e *Enabler) blocking(g nsg.Group, row access.Baseline, p policy.AccessPolicy) (out []Advice) {
	for _, port := range p.Ports {
		row.Ports = []access.PortNumber{{Number: port.Number, Protocol: port.Protocol}}
		for _, r := range e.rules.Blocking(g, row, port.Sources) {
			if !slices.ContainsFunc(out, func(a Advice) bool { return a.Rule.Name == r.Name }) {
				out = append(out, Advice{r, fmt.Sprintf("it stands before our rules and keeps access to port %d from opening for some sources: have it moved to a priority above %d, or narrowed",
					port.Number, e.rules.Band.High)})
			}
		}
	}
	return out
}

// inTheWay says why the machine's baseline, or any grant, cannot stand.
func (e *Enabler) inTheWay(s groupState, vm access.ResourceID) string {
	for _, row := range s.plan.Unshut {
		if row.VM == vm {
			return row.BlockedBy
		}
	}
	if e.rules.FreeInBand(s.group) == 0 {
		return fmt.Sprintf("no priority is free between %d and %d in this network security group, so that no access could be opened: have one of its rules moved, or the band widened",
			e.rules.Band.Low, e.rules.Band.High)
	}
	return ""
}
