// Package nsg knows network security groups: what their rules let through, what
// a rule of ours looks like, and which rules a group ought to hold. It is pure:
// no I/O, no clock; groups and times come in as values.
package nsg

import (
	"net/netip"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Access is what a rule does with the traffic it matches.
type Access string

// The two accesses.
const (
	Allow Access = "Allow"
	Deny  Access = "Deny"
)

// Direction is the direction of the traffic a rule is about.
type Direction string

// The directions. Portcullis writes and evaluates inbound rules only.
const (
	Inbound  Direction = "Inbound"
	Outbound Direction = "Outbound"
)

// Rule is a security rule. Sources and Destinations hold what the rule holds:
// addresses, CIDR prefixes, "*" or service tags; ports hold numbers, ranges
// ("1000-2000") or "*". The singular and plural fields of Resource Manager are
// one list here.
type Rule struct {
	Name             string
	Description      string
	Priority         int // 100–4096; the defaults are 65000 and up
	Direction        Direction
	Access           Access
	Protocol         string // Tcp, Udp, Icmp, Esp, Ah or *
	Sources          []string
	SourcePorts      []string
	Destinations     []string
	DestinationPorts []string
	// SourceASGs and DestinationASGs are ids of application security groups;
	// who is in them is not known here.
	SourceASGs      []string
	DestinationASGs []string
}

// Group is a network security group as it was read.
type Group struct {
	ID access.ResourceID
	// ETag is the version that was read; a whole write goes under it.
	ETag string
	// Updating says that another operation is under way: nothing may be written.
	Updating bool
	// Loss names what re-encoding the group would lose ("" for nothing). A group
	// with a Loss must not be written as a whole.
	Loss string
	// Rules are the group's own rules, ours among them, in both directions.
	Rules []Rule
	// Defaults are the platform's default rules.
	Defaults []Rule
	// Subnets and NICs are what the group is attached to.
	Subnets []access.ResourceID
	NICs    []access.ResourceID
	// Body is the adapter's own captured form of what was read.
	Body any
}

// Flow is traffic from any address of Source to one address and port.
// Protocol "*" means both TCP and UDP.
type Flow struct {
	Source      netip.Prefix
	Destination netip.Addr
	Port        uint16
	Protocol    access.Protocol
}

// Outcome is what a group does with a flow.
type Outcome string

// The outcomes of an evaluation.
const (
	OutcomeAllowed Outcome = "Allowed" // every packet of the flow passes
	OutcomeDenied  Outcome = "Denied"  // at least some packets of the flow are dropped
	OutcomeUnknown Outcome = "Unknown" // a rule whose meaning is not known here decides
)

// Verdict is an outcome and the rule that decides it. Rule is nil only where
// no rule at all matched.
type Verdict struct {
	Outcome Outcome
	Rule    *Rule
}
