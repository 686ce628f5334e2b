package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// facts are what was read beyond requests and policies: tickets and machines,
// each once, with the error of each that could not be read.
type facts struct {
	tickets    map[access.TicketID]*access.Ticket // nil for one that no event told of
	ticketErrs map[access.TicketID]error
	machines   map[access.ResourceID]policy.Machine
	// machineErrs has not_found for one that does not exist.
	machineErrs map[access.ResourceID]error
}

// readFacts reads tickets and machines, several at a time; those twice in a list
// once.
func readFacts(ctx context.Context, tickets Tickets, ids []access.TicketID, machines Machines, vms []access.ResourceID, notBefore time.Time) facts {
	var g errgroup.Group
	g.SetLimit(confirmAtOnce)
	k := facts{
		tickets: map[access.TicketID]*access.Ticket{}, ticketErrs: map[access.TicketID]error{},
		machines: map[access.ResourceID]policy.Machine{}, machineErrs: map[access.ResourceID]error{},
	}
	ids, vms = distinct(ids), distinct(vms)
	known, knownErrs := make([]*access.Ticket, len(ids)), make([]error, len(ids))
	read, readErrs := make([]Machine, len(vms)), make([]error, len(vms))
	for i, id := range ids {
		g.Go(func() error {
			t, err := tickets.Ticket(ctx, id)
			if access.CodeOf(err) == access.NotFound {
				return nil
			}
			known[i], knownErrs[i] = &t, err
			return nil
		})
	}
	for i, vm := range vms {
		g.Go(func() error {
			read[i], readErrs[i] = machines.Machine(ctx, vm, notBefore)
			return nil
		})
	}
	_ = g.Wait() // each keeps its error by itself
	for i, id := range ids {
		k.tickets[id], k.ticketErrs[id] = known[i], knownErrs[i]
	}
	for i, vm := range vms {
		if k.machineErrs[vm] = readErrs[i]; readErrs[i] == nil {
			k.machines[vm] = conditionMachine(read[i])
		}
	}
	return k
}

func distinct[T comparable](list []T) (out []T) {
	seen := map[T]bool{}
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// conditionMachine is what a condition may know of the machine.
func conditionMachine(m Machine) policy.Machine {
	return policy.Machine{OS: m.OS, Location: m.Location, Tags: m.Tags}
}

// known gives those of the tickets that an event told of, and the first error of
// one that could not be read.
func (k facts) known(ids []access.TicketID) (out []access.Ticket, err error) {
	for _, id := range ids {
		if err := k.ticketErrs[id]; err != nil {
			return nil, err
		}
		if t := k.tickets[id]; t != nil {
			out = append(out, *t)
		}
	}
	return out, nil
}

// question is one grant of a record that is judged again, as at the time at which
// it was let in: durations and the ages of events are judged as they were then.
type question struct {
	req       access.Request
	decidedAt time.Time
	found     []access.TicketID
	asOf      time.Time
}

// questionOf asks about one grant of a file; there is none that the record lacks.
func questionOf(f access.File, grant int) (question, bool) {
	q := question{req: f.Record.Request, decidedAt: f.Record.DecidedAt, asOf: f.Record.DecidedAt}
	if grant < 0 || grant >= len(q.req.Ports) {
		return q, false
	}
	q.req.Ports = q.req.Ports[grant : grant+1] // grants stand in the order in which they were asked for
	q.found = foundTickets(f.Grants(), grant, grant+1)
	if f.Start != nil {
		q.asOf = f.Start.At
	}
	return q, true
}

// foundTickets names the tickets that vouched for some of the grants.
func foundTickets(grants []access.Grant, from, to int) []access.TicketID {
	out := make([]access.TicketID, to-from)
	for _, g := range grants {
		if g.Ticket != nil && g.Index >= from && g.Index < to {
			out[g.Index-from] = g.Ticket.Ticket
		}
	}
	return out
}

// tickets names those that decide under the policies.
func (q question) tickets(policies []policy.AccessPolicy) []access.TicketID {
	return policy.TicketsOf(q.req, policies, q.found)
}

// machines names the machine if a condition is about it.
func (q question) machines(policies []policy.AccessPolicy) []access.ResourceID {
	vm := q.req.Ports[0].VM
	if p, ok := policy.Nearest(vm, policies); ok && p.Condition != "" {
		return []access.ResourceID{vm}
	}
	return nil
}

// answer judges the grant by the policies and the facts. Errors: a ticket or a
// machine could not be read; not_found for a machine that does not exist.
func (q question) answer(ctx context.Context, policies []policy.AccessPolicy, k facts, now time.Time) ([]access.Violation, error) {
	tickets, err := k.known(q.tickets(policies))
	if err != nil {
		return nil, err
	}
	for _, vm := range q.machines(policies) {
		if err := k.machineErrs[vm]; err != nil {
			return nil, err
		}
	}
	return policy.Evaluate(ctx, q.req, policies, policy.Facts{
		Tickets: policy.Tickets{Known: tickets, Found: q.found, AsOf: q.asOf, Now: now}, Machines: k.machines,
	}, policy.Limits{}, q.decidedAt).Violations, nil
}

// lostReason says why what was allowed once is not any more: by a ticket that
// ceased to vouch, or by a change of the policies.
func lostReason(vouched bool, violations []access.Violation) access.StatusReason {
	if !vouched || len(violations) == 0 {
		return access.PolicyChanged
	}
	for _, v := range violations {
		if !policy.NoLongerVouches(v.Reason) {
			return access.PolicyChanged
		}
	}
	return access.TicketEnded
}
