// Package policy decides whether an access request may be granted. It is pure:
// the request, the policies and the time come in as values, a decision goes out.
package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// The bounds of a policy. The durations are Defender's for
// maxRequestAccessDuration (Microsoft.Security 2020-01-01).
const (
	MinMaxDuration = 5 * time.Minute
	MaxMaxDuration = 24 * time.Hour
	MaxPorts       = 50
	MaxSources     = 200 // per port
	MaxRequestors  = 500
	MaxStanding    = 16 // each takes up to 128 prefixes of a group's 4,000
)

// AccessPolicy says who may ask for which ports of the machines in its scope.
type AccessPolicy struct {
	// Scope is a virtual machine, a resource group or a subscription. The policy
	// at the nearest scope decides alone.
	Scope access.ResourceID
	// Version names the stored version that was read; "" for one not stored.
	Version string
	Ports   []Port
	// RequireJustification and RequireTicket refuse a request without one.
	RequireJustification, RequireTicket bool
	// Requestors may ask: "*" is anybody the channel vouches for, "oid:<guid>"
	// an Entra object id (it never changes; recommended), anything else a user
	// principal name in any case. Empty is nobody.
	Requestors []string
	// Ticket is what a ticket must be to vouch for a request; nil where none need to.
	Ticket *TicketDemand
	// Condition is a CEL expression over request, requestor, machine and time that
	// must hold of every port; "" for none. docs/policies.md lists its variables.
	Condition string
	// ConditionMessage tells a requestor what to change where it does not hold.
	ConditionMessage string
	// AssertedRequestorsFrom are the senders whose word for a requestor is taken, as
	// [access.Sender.Asserter] names them.
	AssertedRequestorsFrom []access.Channel
	// Baseline says whether the machines' ports are kept shut by deny rules of
	// ours; nil in a policy that does not say.
	Baseline *bool
	// Standing are sources that the deny rules leave out: a bastion, a probe. The
	// customer's own rules decide about them.
	Standing []netip.Prefix
	// Disabled marks a policy that is being removed with its baseline: nothing is
	// granted under it, and it goes once its deny rules are lifted.
	Disabled bool
}

// Shuts says whether the policy keeps its machines' ports shut.
func (p AccessPolicy) Shuts() bool { return !p.Disabled && p.Baseline != nil && *p.Baseline }

// NeedsTicket says whether a request must name a ticket.
func (p AccessPolicy) NeedsTicket() bool { return p.RequireTicket || p.Ticket != nil }

// PortNumbers lists the ports of the policy, as its baseline shuts them.
func (p AccessPolicy) PortNumbers() []access.PortNumber {
	var out []access.PortNumber
	for _, port := range p.Ports {
		out = append(out, access.PortNumber{Number: port.Number, Protocol: port.Protocol})
	}
	return out
}

// Port is a port that may be asked for.
type Port struct {
	Number      uint16
	Protocol    access.Protocol
	Sources     []netip.Prefix
	MaxDuration time.Duration
}

// maxRequestor bounds a name in a policy, in characters. It is not in the
// pattern, where it would cost every start of the handler.
const maxRequestor = 256

var requestorPattern = regexp.MustCompile(`^(\*|oid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[^:*\p{C}\p{Z}]+)$`)

// Validate refuses a policy that is incomplete or says two things at once, as
// an invalid_argument error that names every fault.
func (p AccessPolicy) Validate() error {
	var v []access.Violation
	add := func(path, reason, format string, args ...any) {
		v = append(v, access.Violation{Path: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	if _, err := access.ParseScope(string(p.Scope)); err != nil {
		add("scope", access.ReasonOf(err), "%s", access.AsError(err).Message)
	}
	if n := len(p.Ports); n == 0 || n > MaxPorts {
		add("ports", "ports_count", "a policy has 1 to %d ports, not %d", MaxPorts, n)
	}
	for i, port := range p.Ports {
		path := fmt.Sprintf("ports[%d]", i)
		port.validate(path, add)
		for _, before := range p.Ports[:i] {
			if before.Number == port.Number && overlap(before.Protocol, port.Protocol) {
				add(path, "port_twice", "port %d/%s is already in the policy", port.Number, port.Protocol)
			}
		}
	}
	if len(p.Standing) > MaxStanding {
		add("standingSources", "standing_count", "a policy names at most %d standing sources", MaxStanding)
	}
	for i, s := range p.Standing {
		if !s.IsValid() || s != s.Masked() || s.Bits() == 0 || s.Addr().Is4In6() {
			add(fmt.Sprintf("standingSources[%d]", i), "standing_invalid", "a standing source is an address or a range, and not every address")
		}
	}
	if len(p.Requestors) > MaxRequestors {
		add("requestors", "requestors_count", "a policy names at most %d requestors", MaxRequestors)
	}
	for i, r := range p.Requestors {
		if utf8.RuneCountInString(r) > maxRequestor || !requestorPattern.MatchString(r) {
			add(fmt.Sprintf("requestors[%d]", i), "requestor_invalid", "a requestor is *, a user principal name, or oid: and an object id")
		}
	}
	if len(p.AssertedRequestorsFrom) > MaxTicketSources+1 {
		add("assertedRequestorsFrom", "channels_count", "a policy takes the word of %d senders at most", MaxTicketSources+1)
	}
	for i, c := range p.AssertedRequestorsFrom {
		source, ticket := strings.CutPrefix(string(c), string(access.ChannelTicket)+":")
		if c != access.ChannelQueue && !(ticket && validSource(source)) {
			add(fmt.Sprintf("assertedRequestorsFrom[%d]", i), "channel_invalid", "nothing of this name asserts requestors; there is %q, and %q with the name of a ticketing source", access.ChannelQueue, access.ChannelTicket+":")
		}
	}
	p.Ticket.validate(add)
	p.validateCondition(add)
	if len(v) == 0 {
		return nil
	}
	return &access.Error{Code: access.InvalidArgument, Reason: "policy_invalid", Message: "the policy is not valid", Violations: v}
}

func (p Port) validate(path string, add func(path, reason, format string, args ...any)) {
	if p.Number == 0 {
		add(path+".number", "port_invalid", "a port's number is 1 to 65535")
	}
	if p.Protocol != access.TCP && p.Protocol != access.UDP && p.Protocol != access.AnyProtocol {
		add(path+".protocol", "protocol_invalid", "a port's protocol is TCP, UDP or *")
	}
	if n := len(p.Sources); n == 0 || n > MaxSources {
		add(path, "sources_count", "a port has 1 to %d allowed source prefixes, not %d", MaxSources, n)
	}
	if p.MaxDuration < MinMaxDuration || p.MaxDuration > MaxMaxDuration {
		add(path+".maxRequestAccessDuration", "max_duration_invalid", "maxRequestAccessDuration is %s to %s",
			access.FormatDuration(MinMaxDuration), access.FormatDuration(MaxMaxDuration))
	}
}

func overlap(a, b access.Protocol) bool {
	return a == b || a == access.AnyProtocol || b == access.AnyProtocol || a == access.ProtocolUnset || b == access.ProtocolUnset
}

// Nearest picks out of the policies the one at the nearest scope of the VM. A
// disabled one is none.
func Nearest(vm access.ResourceID, policies []AccessPolicy) (AccessPolicy, bool) {
	for _, scope := range vm.Scopes() {
		if i := slices.IndexFunc(policies, func(p AccessPolicy) bool { return p.Scope == scope && !p.Disabled }); i >= 0 {
			return policies[i], true
		}
	}
	return AccessPolicy{}, false
}

// admits says whether the requestor is among those who may ask. An assertion is
// only ever a name, and so is a requestor whom another caller names: neither
// matches an object id.
func (p AccessPolicy) admits(r access.Requestor) bool {
	return slices.ContainsFunc(p.Requestors, func(entry string) bool {
		if entry == "*" {
			return true
		}
		if id, ok := strings.CutPrefix(entry, "oid:"); ok {
			return !r.Asserted && access.SameName(id, r.ObjectID)
		}
		return access.SameName(entry, r.Name)
	})
}
