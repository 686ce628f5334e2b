package broker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// legsOf lays a grant onto the NSGs of the machine's path: one leg per NSG,
// with those of the VM's addresses that lie behind it and have the source's
// family. A NIC that no NSG stands before filters nothing and gets no leg.
func legsOf(id access.RequestID, g access.Grant, m Machine, openBy time.Time) ([]access.Leg, *access.Violation) {
	byNSG := map[access.ResourceID]*access.Leg{}
	var order []access.ResourceID
	sameFamily := false
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			if a.IP.Is4() != g.Source.Addr().Is4() {
				continue
			}
			sameFamily = true
			if a.AmbiguousOn != "" {
				return nil, &access.Violation{Reason: "ambiguous_destination", Message: "the network security group " + a.AmbiguousOn.Name() +
					" is also attached to another network that holds " + a.IP.String() + ": a rule for this VM would open that address too; give one of them a group of its own"}
			}
			for _, on := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
				if on == "" {
					continue
				}
				l, ok := byNSG[on]
				if !ok {
					l = &access.Leg{
						Request: id, Grant: g.Index, NSG: on, VM: g.VM, UniqueID: g.UniqueID, Source: g.Source, Port: g.Port,
						Protocol: g.Protocol, EndTime: g.EndTime, OpenBy: openBy, State: access.LegOpening,
					}
					byNSG[on], order = l, append(order, on)
				}
				if !slices.Contains(l.NICs, nic.ID) {
					l.NICs = append(l.NICs, nic.ID)
				}
				if !slices.Contains(l.Destinations, a.IP) {
					l.Destinations = append(l.Destinations, a.IP)
				}
			}
		}
	}
	switch {
	case !sameFamily:
		return nil, &access.Violation{Reason: "no_address_of_family", Message: m.Name + " has no private address of the source's family: ask with an address of the other"}
	case len(order) == 0:
		return nil, &access.Violation{Reason: "no_nsg_on_path", Message: "no network security group stands before " + m.Name + ", so there is no gate to open: attach one to its subnet or network interface"}
	}
	slices.Sort(order)
	var legs []access.Leg
	for _, on := range order {
		l := byNSG[on]
		slices.SortFunc(l.Destinations, netip.Addr.Compare)
		for _, other := range order {
			if other != on {
				l.Siblings = append(l.Siblings, other)
			}
		}
		legs = append(legs, *l)
	}
	return legs, nil
}

// stillThere says whether the machine is still what the leg was granted for:
// the same VM, every address on one of the same NICs and behind the same NSG,
// none of them ambiguous.
func stillThere(l access.Leg, m Machine) bool {
	if l.UniqueID != m.UniqueID {
		return false
	}
	for _, ip := range l.Destinations {
		found := false
		for _, nic := range m.NICs {
			if !slices.Contains(l.NICs, nic.ID) {
				continue
			}
			for _, a := range nic.Addresses {
				found = found || a.IP == ip && (a.SubnetNSG == l.NSG || nic.NSG == l.NSG) && a.AmbiguousOn == ""
			}
		}
		if !found {
			return false
		}
	}
	return len(l.Destinations) > 0
}

// prepareTargets tells whoever can read machines together that the targets of the
// legs in the state, or of all that are live where it is "", are to be confirmed.
func prepareTargets(ctx context.Context, machines Machines, legs []access.Leg, state access.LegState, notBefore time.Time) {
	p, ok := machines.(MachinePreparer)
	if !ok {
		return
	}
	seen := map[access.ResourceID]bool{}
	var vms []access.ResourceID
	for _, l := range legs {
		if (l.State == state || state == "" && l.Live()) && !seen[l.VM] {
			seen[l.VM] = true
			vms = append(vms, l.VM)
		}
	}
	p.Prepare(ctx, vms, notBefore)
}

// confirmPutBack confirms the targets of the open legs whose rules the plan puts
// back, and says whether to plan again: a leg whose VM is not there any more is
// closing then, and where one cannot be read nothing is put back, so that what was open ends.
func (w *round) confirmPutBack(ctx context.Context, legs []access.Leg, plan nsg.Plan, now time.Time) (again bool) {
	back := byKey(plan.PutBack)
	for i, l := range legs {
		if _, ok := back[l.Key()]; !ok {
			continue
		}
		switch there, err := targetOf(ctx, w.Machines, l, now); {
		case err != nil:
			w.unread, again = err, true
		case !there:
			legs[i], again = closing(l, access.TargetChanged, now), true
		}
	}
	return again
}

// targetOf confirms a leg's target as read not before the time.
func targetOf(ctx context.Context, machines Machines, l access.Leg, notBefore time.Time) (there bool, err error) {
	m, err := machines.Machine(ctx, l.VM, notBefore)
	if access.CodeOf(err) == access.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return stillThere(l, m), nil
}
