package broker

import (
	"context"
	"net/netip"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Preview is what a grant would change on one NSG of its path.
type Preview struct {
	NSG access.ResourceID
	Put []nsg.Rule
	// BlockedBy says what would keep it shut; "" where it would open.
	BlockedBy string
}

// Previewer plans a grant that nobody asked for, and writes nothing.
type Previewer struct {
	Machines Machines
	Groups   Groups
	Rules    nsg.Settings
}

// Preview gives what it takes to let the source to the port of the VM for an
// hour, as the NSGs are now. What the record holds of them is not looked at, so
// rules that other grants hold are taken as they stand. Errors: those of Machines
// and Groups, and failed_precondition for a path that can have no door.
func (p Previewer) Preview(ctx context.Context, vm access.ResourceID, port uint16, source netip.Prefix, now time.Time) ([]Preview, error) {
	m, err := p.Machines.Machine(ctx, vm, now)
	if err != nil {
		return nil, err
	}
	grant := access.Grant{VM: vm, UniqueID: m.UniqueID, Port: port, Protocol: access.TCP, Source: source, EndTime: now.Add(time.Hour)}
	legs, v := legsOf("preview", grant, m, now.Add(time.Hour))
	if v != nil {
		return nil, &access.Error{Code: access.FailedPrecondition, Reason: v.Reason, Message: v.Message}
	}
	var out []Preview
	for _, l := range legs {
		g, err := p.Groups.Group(ctx, l.NSG)
		if err != nil {
			return nil, err
		}
		one := Preview{NSG: l.NSG}
		plan := p.Rules.Plan(g, []access.Leg{l}, now)
		if len(plan.Blocked) > 0 {
			one.BlockedBy = plan.Blocked[0].BlockedBy
		} else if v := p.Rules.Confirm(plan.Apply(g), l); v.Outcome != nsg.OutcomeAllowed {
			one.BlockedBy = v.String()
		}
		for _, r := range plan.Put {
			if r.Access == nsg.Allow {
				one.Put = append(one.Put, r)
			}
		}
		out = append(out, one)
	}
	return out, nil
}
