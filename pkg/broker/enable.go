package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// EnablePorts are what Enable needs.
type EnablePorts struct {
	Policies  PolicyStore
	Lister    MachineLister
	Machines  Machines
	Groups    Groups
	Heads     Heads
	Baselines Baselines
	Prompts   Prompts
	Clock     Clock
	Token     func() string
	Log       *slog.Logger
	// Neighbourhood is for Plan alone.
	Neighbourhood Neighbourhood
}

// Enabler keeps the baselines on record in step with the policies: which ports
// of which machines are to be shut on which NSGs.
type Enabler struct {
	EnablePorts
	rules nsg.Settings
}

// NewEnabler makes an Enabler; every port is required.
func NewEnabler(p EnablePorts, rules nsg.Settings) (*Enabler, error) {
	if p.Policies == nil || p.Lister == nil || p.Machines == nil || p.Groups == nil || p.Heads == nil || p.Baselines == nil ||
		p.Prompts == nil || p.Clock == nil || p.Token == nil || p.Log == nil || p.Neighbourhood == nil {
		return nil, errors.New("broker: a port of the enabler is missing")
	}
	return &Enabler{EnablePorts: p, rules: rules}, rules.Validate()
}

// Ensure brings the baselines of a subscription's machines to what the policies
// say, and asks for the reconcile of every NSG on which that changes something.
// A machine that came since gets its baseline; of one that is gone, or behind
// another NSG now, nothing stays. A baseline is lifted only by what is on
// record: its policy is disabled, or says that there is to be none. That no
// policy is found lifts nothing.
//
// It is idempotent, goes on past what fails, and joins the errors. A policy that
// is disabled is removed once nothing of it stands.
func (e *Enabler) Ensure(ctx context.Context, subscription string) error {
	// Listing takes long, and what it tells of is old news in any case; the
	// policies are read after it.
	machines, err := e.Lister.List(ctx, subscription)
	if err != nil {
		return err
	}
	policies, err := e.Policies.ListPolicies(ctx, subscription)
	if err != nil {
		return err
	}
	for range maxRounds {
		lifted, err := e.ensure(ctx, subscription, machines, policies)
		if !lifted {
			return err
		}
		// Whoever stored a policy meanwhile may have seen the baseline stand before
		// it was put down for lifting, and so have had nothing to do.
		before := policies
		var unread error
		if policies, unread = e.Policies.ListPolicies(ctx, subscription); unread != nil {
			return errors.Join(err, unread)
		}
		if slices.EqualFunc(before, policies, func(a, b policy.AccessPolicy) bool {
			return a.Scope == b.Scope && a.Version == b.Version && a.Disabled == b.Disabled
		}) {
			return err
		}
	}
	return access.Errorf(access.Aborted, "policies_changing", "the policies of subscription %s kept changing", subscription)
}

// ensure is Ensure by the policies as they were read; lifted says whether it put
// down any baseline for lifting.
func (e *Enabler) ensure(ctx context.Context, subscription string, machines []Machine, policies []policy.AccessPolicy) (lifted bool, err error) {
	desired := e.desired(machines, policies)
	groups, err := e.affected(ctx, subscription, desired)
	if err != nil {
		return false, err
	}
	left := map[access.ResourceID]bool{}
	for _, id := range groups {
		lifts, e := e.group(ctx, id, desired[id], machines, policies, left)
		lifted = lifted || lifts
		if e != nil {
			err = errors.Join(err, fmt.Errorf("baselines of %s: %w", id, e))
		}
	}
	if err != nil {
		return lifted, err
	}
	for _, p := range policies {
		if p.Disabled && !left[p.Scope] {
			err = errors.Join(err, e.Policies.DeletePolicy(ctx, p.Scope, p.Version))
		}
	}
	return lifted, err
}

// affected gives the NSGs of the subscription that have a partition or are to
// have one, in their order.
func (e *Enabler) affected(ctx context.Context, subscription string, desired map[access.ResourceID][]access.Baseline) ([]access.ResourceID, error) {
	heads, err := e.Heads.All(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[access.ResourceID]bool{}
	for _, h := range heads {
		if h.NSG.Subscription() == subscription {
			ids[h.NSG] = true
		}
	}
	for id := range desired {
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids)), nil
}

// desired gives the baselines that the policies ask for, by NSG. A machine
// whose ways in are not known keeps what it has.
func (e *Enabler) desired(machines []Machine, policies []policy.AccessPolicy) map[access.ResourceID][]access.Baseline {
	out := map[access.ResourceID][]access.Baseline{}
	for _, m := range machines {
		p, ok := policy.Nearest(m.ID, policies)
		if !ok || !p.Shuts() || m.Unreadable != "" {
			continue
		}
		for _, b := range baselinesOf(m, p) {
			out[b.NSG] = append(out[b.NSG], b)
		}
	}
	return out
}

// baselinesOf gives one baseline for each NSG on the machine's ways in. Both
// NSGs of a way shut it, so that neither's loss alone opens it.
func baselinesOf(m Machine, p policy.AccessPolicy) []access.Baseline {
	addresses := map[access.ResourceID][]netip.Addr{}
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			for _, id := range []access.ResourceID{nic.NSG, a.SubnetNSG} {
				if id != "" && !slices.Contains(addresses[id], a.IP) {
					addresses[id] = append(addresses[id], a.IP)
				}
			}
		}
	}
	var out []access.Baseline
	for _, id := range slices.Sorted(maps.Keys(addresses)) {
		slices.SortFunc(addresses[id], netip.Addr.Compare)
		out = append(out, access.Baseline{
			NSG: id, VM: m.ID, UniqueID: m.UniqueID, Destinations: addresses[id], Ports: p.PortNumbers(), Standing: p.Standing,
			Scope: p.Scope, State: access.BaselineShutting,
		})
	}
	return out
}

// group writes what has changed in one NSG's partition, and says whether it may
// have put down a baseline for lifting. left is told the scopes of which some
// baseline stays on record.
func (e *Enabler) group(ctx context.Context, id access.ResourceID, desired []access.Baseline, machines []Machine, policies []policy.AccessPolicy, left map[access.ResourceID]bool) (lifts bool, err error) {
	_, rows, err := e.Baselines.Partition(ctx, id)
	if err != nil {
		return false, err
	}
	changed, err := e.changes(ctx, rows, desired, machines, policies)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		left[row.Scope] = true
	}
	lifts = slices.ContainsFunc(changed, func(b access.Baseline) bool { return b.State == access.BaselineLifting })
	for len(changed) > 0 {
		n := min(len(changed), access.MaxPorts)
		if err := e.Baselines.SaveBaselines(ctx, id, changed[:n], e.Token(), e.Clock().UTC()); err != nil {
			return lifts, err
		}
		if changed = changed[n:]; len(changed) == 0 {
			return lifts, e.Prompts.Prompt(ctx, id, time.Time{})
		}
	}
	return lifts, nil
}

// changes compares the baselines on record with those asked for.
func (e *Enabler) changes(ctx context.Context, rows, desired []access.Baseline, machines []Machine, policies []policy.AccessPolicy) ([]access.Baseline, error) {
	var out []access.Baseline
	for _, want := range desired {
		i := slices.IndexFunc(rows, func(r access.Baseline) bool { return r.VM == want.VM })
		if i < 0 {
			out = append(out, want)
		} else if next, ok := revised(rows[i], want); ok {
			out = append(out, next)
		}
	}
	for _, row := range rows {
		if row.State == access.BaselineLifting || slices.ContainsFunc(desired, func(w access.Baseline) bool { return w.VM == row.VM }) {
			continue
		}
		lift, err := e.lifts(ctx, row, machines, policies)
		if err != nil {
			return nil, err
		}
		if lift {
			row.State = access.BaselineLifting
			out = append(out, row)
		}
	}
	return out, nil
}

// revised gives the row as it is to be, and whether that changes anything. What
// it no longer asks for is to be let go.
func revised(row, want access.Baseline) (access.Baseline, bool) {
	same := slices.Equal(row.Destinations, want.Destinations) && slices.Equal(row.Ports, want.Ports) && slices.Equal(row.Standing, want.Standing)
	if same && row.State != access.BaselineLifting {
		if row.Scope == want.Scope && row.UniqueID == want.UniqueID {
			return row, false
		}
		row.Scope, row.UniqueID = want.Scope, want.UniqueID // who asks for it changes nothing on the NSG
		return row, true
	}
	for _, a := range slices.Concat(row.Release, row.Destinations) {
		if !slices.Contains(want.Destinations, a) && !slices.Contains(want.Release, a) {
			want.Release = append(want.Release, a)
		}
	}
	want.ETag, want.ShutAt = row.ETag, row.ShutAt
	return want, true
}

// lifts says whether a baseline that nothing asks for any more is to go.
func (e *Enabler) lifts(ctx context.Context, row access.Baseline, machines []Machine, policies []policy.AccessPolicy) (bool, error) {
	i := slices.IndexFunc(machines, func(m Machine) bool { return m.ID == row.VM })
	if i < 0 {
		// The list may lag; what is read by itself does not.
		_, err := e.Machines.Machine(ctx, row.VM, e.Clock())
		if access.CodeOf(err) == access.NotFound {
			return true, nil
		}
		return false, err
	}
	if machines[i].Unreadable != "" {
		return false, nil
	}
	disabled := slices.ContainsFunc(policies, func(p policy.AccessPolicy) bool { return p.Scope == row.Scope && p.Disabled })
	p, ok := policy.Nearest(row.VM, policies)
	wider := p.Scope != row.Scope && slices.Contains(row.Scope.Scopes(), p.Scope)
	switch {
	case ok && p.Shuts():
		return true, nil // it is behind other NSGs now
	case ok && p.Baseline != nil && !wider:
		return true, nil // there is to be none
	}
	// A wider policy keeps nothing shut that was disabled, unless it says so. Nor
	// does it lift anything by itself: that the policy which asked for it is not
	// found is nobody's decision.
	return disabled, nil
}

// Advice is a rule of the customer's, with what there is to say about it.
type Advice struct {
	Rule   nsg.Rule
	Advice string
}

// past tells the customer's rules that let traffic past the baseline.
func (e *Enabler) past(g nsg.Group, row access.Baseline) (out []Advice) {
	for _, r := range e.rules.Past(g, row) {
		out = append(out, Advice{r, fmt.Sprintf("it lets %s past the baseline: have it removed, narrowed, or moved to a priority above %d",
			strings.Join(append(slices.Clone(r.Sources), r.SourceASGs...), ", "), e.rules.Baseline.High)})
	}
	return out
}
