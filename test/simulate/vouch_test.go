package simulate

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// past is what stood on record and in the world beside the NSGs, from one change
// to the next: who reads for a while may have read any of it.
type past struct {
	policies [][]policy.AccessPolicy
	machines []map[access.ResourceID]broker.Machine
	tickets  []map[access.TicketID]access.Ticket
	// endings are those events of a ticket that have ended it on record.
	endings map[access.TicketID][]ending
	// entered is when a request was first to be found by its ticket.
	entered map[access.RequestID]time.Time
	// saved is when what is known of a ticket was last written.
	saved map[access.TicketID]moment
	// told are the events of tickets that were noted; true for those that are kept.
	told map[string]bool
}

// ending is when an event that ended a ticket happened, and when that was written.
type ending struct{ at, saved time.Time }

// moment is where the past had got to.
type moment struct{ policies, machines, tickets int }

func (p *past) now() moment {
	return moment{len(p.policies) - 1, len(p.machines) - 1, len(p.tickets) - 1}
}

// turn notes how policies and machines stand.
func (p *past) turn(policies []policy.AccessPolicy, machines map[access.ResourceID]broker.Machine) {
	p.policies, p.machines = append(p.policies, slices.Clone(policies)), append(p.machines, maps.Clone(machines))
	if len(p.tickets) == 0 {
		p.tickets = append(p.tickets, map[access.TicketID]access.Ticket{})
	}
}

// ticket notes what is known of a ticket from now on.
func (p *past) ticket(t access.Ticket) {
	next := maps.Clone(p.tickets[len(p.tickets)-1])
	next[t.ID] = t
	p.tickets = append(p.tickets, next)
	p.saved[t.ID] = p.now()
	if t.Ended {
		p.endings[t.ID] = append(p.endings[t.ID], ending{t.EventAt, time.Now()})
	}
}

// failedOver notes what of it is left.
func (p *past) failedOver(s *brokertest.Store) {
	ctx, before := context.Background(), p.tickets[len(p.tickets)-1]
	left := map[access.TicketID]access.Ticket{}
	for id := range before {
		t, err := s.Ticket(ctx, id)
		if err == nil {
			left[id] = t
		}
		if t.Event != before[id].Event {
			delete(p.saved, id)
			delete(p.endings, id)
			if t.Ended {
				p.endings[id] = []ending{{t.EventAt, time.Now()}}
			}
		}
	}
	p.tickets = append(p.tickets, left)
	for id := range p.told {
		_, unnoted := s.TicketWork(ctx, id)
		if _, err := s.TicketEvent(ctx, id); err != nil && unnoted != nil {
			delete(p.told, id) // what is kept of it from here on is half of it
		}
	}
	p.policies = append(p.policies, slices.Clone(s.Policies))
}

// mayNot says why the leg's door may not open by all that stood since the moment;
// "" where it may by some of it.
func (j *judge) mayNot(l access.Leg, d door, since moment) string {
	p := &j.past
	if !p.wasBehind(l, d.dest, since) {
		return "the address is not the machine's"
	}
	f, _ := j.w.store.File(context.Background(), l.Request)
	if f.Record.ID == "" && j.lost[l.Request] {
		return "" // what vouched for it is forgotten, and was not when it was read
	}
	for _, policies := range p.policies[since.policies:] {
		for _, machines := range p.machines[since.machines:] {
			for _, tickets := range p.tickets[since.tickets:] {
				if allowed(f, l, policies, machines, tickets) {
					return ""
				}
			}
		}
	}
	return "no policy allows it, by its ticket and the machine as they are"
}

// wasBehind says whether the leg's machine has had the address since the moment.
func (p *past) wasBehind(l access.Leg, ip netip.Addr, since moment) bool {
	return slices.ContainsFunc(p.machines[since.machines:], func(m map[access.ResourceID]broker.Machine) bool { return behind(l, ip, m) })
}

// doorOpen is the condition that some policies have; meets is what it means.
const doorOpen = `machine.tags.?door.orValue("") == "open"`

func meets(m broker.Machine) bool { return m.Tags["door"] == "open" }

// allowed says whether the policies allow the leg: the nearest decides.
func allowed(f access.File, l access.Leg, policies []policy.AccessPolicy, machines map[access.ResourceID]broker.Machine, tickets map[access.TicketID]access.Ticket) bool {
	p, ok := nearest(l.VM, policies)
	return ok && vouches(f, l, p, tickets) && (p.Condition == "" || meets(machines[l.VM])) &&
		slices.ContainsFunc(p.Ports, func(port policy.Port) bool {
			return port.Number == l.Port && (port.Protocol == l.Protocol || port.Protocol == access.AnyProtocol) && slices.ContainsFunc(port.Sources, func(from netip.Prefix) bool { return from.Contains(l.Source.Addr()) && from.Bits() <= l.Source.Bits() })
		})
}

func nearest(vm access.ResourceID, policies []policy.AccessPolicy) (policy.AccessPolicy, bool) {
	for _, at := range []access.ResourceID{vm, scope} {
		if i := slices.IndexFunc(policies, func(p policy.AccessPolicy) bool { return p.Scope == at && !p.Disabled }); i >= 0 {
			return policies[i], true
		}
	}
	return policy.AccessPolicy{}, false
}

// vouches says whether a ticket vouches for the leg, if one must: that which made
// the request, that which vouched before, or the one that the request names.
func vouches(f access.File, l access.Leg, p policy.AccessPolicy, tickets map[access.TicketID]access.Ticket) bool {
	req := f.Record.Request
	if req.Event == nil && p.Ticket == nil {
		return true
	}
	id := access.ParseTicket(req.Ticket)
	if by := vouchedBy(f, l.Grant); by != nil {
		id = by.Ticket
	}
	t, known := tickets[id]
	if !known || t.Ended {
		return false
	}
	d := p.Ticket
	return d == nil || slices.Contains(d.Sources, id.Source) && slices.Contains(d.States, t.State) && t.Assignee == req.Requestor.Name &&
		(!d.InsideWindow || !l.EndTime.After(t.WindowEnd))
}

// vouchedBy is the event of a ticket by which the grant was allowed, if it was by
// one.
func vouchedBy(f access.File, grant int) *access.Vouched {
	for _, grants := range [][]access.Grant{f.Grants(), f.Record.Grants} {
		for _, g := range grants {
			if g.Index == grant && g.Ticket != nil {
				return g.Ticket
			}
		}
	}
	return f.Record.Request.Event
}

// unvouched says whether it is on record that the ticket which vouched for the leg's
// grant does so no more: it was ended since, or was changed to what no policy that
// stood since then accepts.
func (j *judge) unvouched(f access.File, l access.Leg) bool {
	p := &j.past
	by := vouchedBy(f, l.Grant)
	asked := f.Record.Request.Event
	for _, v := range []*access.Vouched{by, asked} {
		if v == nil || len(p.endings[v.Ticket]) == 0 {
			continue
		}
		e, err := j.w.store.TicketEvent(context.Background(), v.Event)
		if err == nil && slices.ContainsFunc(p.endings[v.Ticket], func(end ending) bool {
			// What somebody else asked for and is on record only since then was vouched for
			// by the ticket as it was opened again.
			late := v != asked && p.entered[l.Request].After(end.saved)
			return !end.at.Before(e.At) && !late
		}) {
			return true
		}
	}
	if by == nil {
		return false
	}
	saved, ok := p.saved[by.Ticket]
	if !ok {
		return false
	}
	tickets := p.tickets[len(p.tickets)-1]
	out := !slices.ContainsFunc(p.policies[saved.policies:], func(policies []policy.AccessPolicy) bool {
		near, ok := nearest(l.VM, policies)
		return !ok || vouches(f, l, near, tickets)
	})
	if out {
		j.w.met["legs unvouched by change"]++
	}
	return out
}
