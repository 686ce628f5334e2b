package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/expression"
)

// Limits are what an installation demands of every request.
type Limits struct {
	// ShortestDuration is the shortest grant that may be asked for.
	ShortestDuration time.Duration
	// LongestAhead is how far ahead a start may lie; zero for no bound.
	LongestAhead time.Duration
}

// Granted is one port that was asked for, as the policy grants it.
type Granted struct {
	Request  access.PortRequest
	Protocol access.Protocol
	EndTime  time.Time // whole seconds, UTC
	// Scope and Version name the policy that decided.
	Scope   access.ResourceID
	Version string
	// Ticket is the ticket that vouched, with its last event; nil where none needed
	// to.
	Ticket *access.Vouched
}

// Decision is the answer to a whole request: every port is granted, in the
// order asked, or none is and Violations says why.
type Decision struct {
	Granted    []Granted
	Violations []access.Violation
	// Internal says for the audit what a stranger must not learn: whether a
	// machine has no policy, or has one that leaves the requestor out.
	Internal []string
}

// Allowed says whether the request is granted.
func (d Decision) Allowed() bool { return len(d.Violations) == 0 }

// Error gives a refusal as a permission_denied error that names every
// violation; nil when the request is granted. Its reason is that of the
// violation when there is one, else policy_violation.
func (d Decision) Error() *access.Error {
	switch len(d.Violations) {
	case 0:
		return nil
	case 1:
		return &access.Error{Code: access.PermissionDenied, Reason: d.Violations[0].Reason, Message: d.Violations[0].Message, Violations: d.Violations}
	}
	return &access.Error{Code: access.PermissionDenied, Reason: "policy_violation",
		Message: fmt.Sprintf("the request is refused for %d reasons", len(d.Violations)), Violations: d.Violations}
}

// Facts are what is known beyond the request and the policies. What is missing
// grants nothing.
type Facts struct {
	Tickets Tickets
	// Machines are those that a condition is about.
	Machines map[access.ResourceID]Machine
}

// Evaluate is Judge and Decide in one, for whoever has read the machines before.
func Evaluate(ctx context.Context, req access.Request, policies []AccessPolicy, facts Facts, limits Limits, now time.Time) Decision {
	v := Judge(req, policies, facts.Tickets, limits, now)
	return v.Decide(ctx, facts.Machines)
}

// Verdict is what a request comes to before the conditions of its policies are
// looked at. Nothing is granted by it yet.
type Verdict struct {
	refused Decision
	granted []Granted
	under   []AccessPolicy // of each
	req     access.Request
	begin   time.Time
}

// Refused gives the decision where the request is refused already; where it is
// not, Decide has to decide.
func (v Verdict) Refused() (Decision, bool) { return v.refused, !v.refused.Allowed() }

// Decide looks at the conditions, one after the other, and decides. A machine that
// is missing is no reason for a refusal unless a condition is about it.
func (v Verdict) Decide(ctx context.Context, machines map[access.ResourceID]Machine) Decision {
	d := v.refused
	if !d.Allowed() {
		return d
	}
	c := conditions{req: v.req, begin: v.begin, compiled: map[string]*expression.Program{}}
	for i, g := range v.granted {
		violation, cause := c.met(ctx, v.under[i], g, machines)
		if violation != nil {
			d.Violations = append(d.Violations, *violation)
		}
		if cause != "" {
			d.Internal = append(d.Internal, cause)
		}
	}
	if d.Allowed() {
		d.Granted = v.granted
	}
	return d
}

// Judge judges the request under the policies stored at any scope of its
// machines, by everything but their conditions. A machine without a policy and
// one whose policy leaves the requestor out are refused in the same words, and
// nothing more is said about either, so that a stranger learns nothing.
//
// now is when the request was decided: judging again with the same time asks
// what today's policies say of it.
func Judge(req access.Request, policies []AccessPolicy, tickets Tickets, limits Limits, now time.Time) Verdict {
	var d Decision
	add := func(path, reason, format string, args ...any) {
		d.Violations = append(d.Violations, access.Violation{Path: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case len(req.Ports) == 0:
		add("virtualMachines", "ports_missing", "a request names at least one port of one virtual machine")
	case len(req.Ports) > access.MaxPorts:
		add("virtualMachines", "too_many_ports", "a request names at most %d ports, not %d", access.MaxPorts, len(req.Ports))
	}
	if start := req.StartTime; !start.IsZero() {
		switch {
		case start.Before(now):
			add("startTimeUtc", "start_time_past", "startTimeUtc %s is already past: leave it out to begin at once", start.UTC().Format(time.RFC3339))
		case limits.LongestAhead > 0 && start.Sub(now) > limits.LongestAhead:
			add("startTimeUtc", "start_time_too_far", "startTimeUtc may lie %s ahead at most", access.FormatDuration(limits.LongestAhead))
		}
		now = start // durations count from there
	}
	v := Verdict{req: req, begin: now}
	if len(d.Violations) > 0 {
		v.refused = d
		return v
	}
	shown := map[string]bool{}
	once := func(reason, format string, args ...any) {
		said := reason + fmt.Sprintf(format, args...)
		if !shown[said] {
			shown[said] = true
			add("", reason, format, args...)
		}
	}
	for i, ask := range req.Ports {
		if slices.ContainsFunc(req.Ports[:i], func(b access.PortRequest) bool {
			return b.VM == ask.VM && b.Port == ask.Port && overlap(b.Protocol, ask.Protocol)
		}) {
			add(ask.Path, "port_twice", "port %d of %s is asked for twice", ask.Port, ask.VM.Name())
			continue
		}
		p, ok := Nearest(ask.VM, policies)
		if !ok || !p.admits(req.Requestor) {
			d.Internal = append(d.Internal, internalCause(ask.VM, p, ok))
			add(ask.Path, "not_permitted", "no policy lets you ask for this virtual machine, or it does not exist")
			continue
		}
		if by := req.RequestedBy.Asserter(); req.Requestor.Asserted && !slices.Contains(p.AssertedRequestorsFrom, by) {
			once("asserted_requestor_refused", "the policy takes no requestor on the word of %q: send the request with the requestor's own token, or name that in assertedRequestorsFrom", by)
			continue
		}
		if p.RequireJustification && strings.TrimSpace(req.Justification) == "" {
			once("justification_required", "the policy demands a justification")
		}
		if p.NeedsTicket() && req.Event == nil && strings.TrimSpace(req.Ticket) == "" {
			once("ticket_required", "the policy demands a ticket")
		}
		g, wrong := p.port(ask, limits, now)
		if wrong != nil {
			wrong.Path = ask.Path
			d.Violations = append(d.Violations, *wrong)
			continue
		}
		if g.Ticket, wrong = tickets.vouching(req, p.Ticket, i, now, g.EndTime); wrong != nil {
			once(wrong.Reason, "%s", wrong.Message)
			continue
		}
		v.granted, v.under = append(v.granted, g), append(v.under, p)
	}
	if len(d.Violations) > 0 {
		v.refused, v.granted, v.under = d, nil, nil
	}
	return v
}

func internalCause(vm access.ResourceID, p AccessPolicy, found bool) string {
	if !found {
		return "no policy stands at any scope of " + string(vm)
	}
	return "the policy at " + string(p.Scope) + " does not name the requestor"
}

// port decides one port under the policy.
func (p AccessPolicy) port(ask access.PortRequest, limits Limits, now time.Time) (Granted, *access.Violation) {
	refuse := func(reason, format string, args ...any) (Granted, *access.Violation) {
		return Granted{}, &access.Violation{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	var of []Port
	for _, c := range p.Ports {
		if c.Number == ask.Port {
			of = append(of, c)
		}
	}
	if ask.Protocol == access.ProtocolUnset && len(of) > 1 {
		return refuse("protocol_required", "the policy has port %d for more than one protocol: name one", ask.Port)
	}
	i := slices.IndexFunc(of, func(c Port) bool {
		return ask.Protocol == access.ProtocolUnset || c.Protocol == ask.Protocol || c.Protocol == access.AnyProtocol
	})
	if i < 0 {
		return refuse("port_not_in_policy", "the policy has no port %s", label(ask))
	}
	port, protocol := of[i], ask.Protocol
	if protocol == access.ProtocolUnset {
		protocol = port.Protocol
	}
	if !slices.ContainsFunc(port.Sources, func(s netip.Prefix) bool { return access.PrefixContains(s, ask.Source) }) {
		return refuse("source_outside_policy", "%s does not lie inside a range allowed for port %d: %s", access.FormatPrefix(ask.Source), ask.Port, ranges(port))
	}
	end := ask.EndTime
	if ask.Duration > 0 {
		end = now.Add(ask.Duration)
	}
	// A rule states whole seconds, so the end is rounded towards the earlier.
	end = end.UTC().Truncate(time.Second)
	since := now
	if !ask.Since.IsZero() && ask.Since.Before(now) {
		since = ask.Since
	}
	switch length := end.Sub(now); {
	case ask.Duration <= 0 && !end.After(now):
		return refuse("end_time_past", "endTimeUtc %s is already past, or not after the start", end.Format(time.RFC3339))
	case since.Before(now) && end.Sub(since) > port.MaxDuration:
		return refuse("duration_too_long", "port %d may be open for %s at most, extensions included: since %s, and so until %s", ask.Port,
			access.FormatDuration(port.MaxDuration), since.UTC().Format(time.RFC3339), since.Add(port.MaxDuration).UTC().Format(time.RFC3339))
	case ask.Duration > port.MaxDuration || length > port.MaxDuration:
		return refuse("duration_too_long", "port %d may be open for %s at most", ask.Port, access.FormatDuration(port.MaxDuration))
	case ask.Duration > 0 && ask.Duration < limits.ShortestDuration, ask.Duration <= 0 && length < limits.ShortestDuration, length <= 0:
		return refuse("duration_too_short", "nothing shorter than %s may be asked for", access.FormatDuration(limits.ShortestDuration))
	}
	return Granted{Request: ask, Protocol: protocol, EndTime: end, Scope: p.Scope, Version: p.Version}, nil
}

func label(ask access.PortRequest) string {
	if ask.Protocol == access.ProtocolUnset {
		return fmt.Sprint(ask.Port)
	}
	return fmt.Sprintf("%d/%s", ask.Port, ask.Protocol)
}

// ranges names a port's allowed ranges, shortened when there are many.
func ranges(p Port) string {
	const most = 10
	var out []string
	for i, s := range p.Sources {
		if i == most {
			out = append(out, "…")
			break
		}
		out = append(out, access.FormatPrefix(s))
	}
	return strings.Join(out, ", ")
}
