package nsg

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// truth is the answer to whether a rule matches in one dimension.
type truth int

const (
	no    truth = iota
	maybe       // depends on what a service tag, an ASG or an unreadable value stands for
	yes
)

// azureLoadBalancer is what the tag AzureLoadBalancer stands for: the virtual
// IP address of the host ("Virtual network service tags", Azure docs). It is
// the one tag whose meaning is the same everywhere and always.
var azureLoadBalancer = netip.MustParsePrefix("168.63.129.16/32")

var (
	everyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// matcher is a rule, read once for many evaluations.
type matcher struct {
	rule        *Rule
	allow, deny bool // both where the access is neither Allow nor Deny
	// other stands for all protocols but TCP and UDP.
	tcp, udp, other truth
	sources, dests  addresses
	ports           portSet
	everySourcePort bool
	// sourcePorts is maybe where it cannot be told whether any source port matches.
	sourcePorts truth
}

// addresses is one side of a rule. Not exact means that it also holds what is
// not known here.
type addresses struct {
	prefixes []netip.Prefix
	exact    bool
}

type portRange struct{ low, high uint16 }

var everyPort = portRange{0, 65535}

// portSet is a list of ports. Not exact means that some could not be read.
type portSet struct {
	ranges []portRange
	exact  bool
}

func newMatcher(r *Rule) matcher {
	m := matcher{
		rule: r, allow: !r.denies(), deny: !r.allows(),
		sources: readAddresses(r.Sources, r.SourceASGs), dests: readAddresses(r.Destinations, r.DestinationASGs),
		ports: readPorts(r.DestinationPorts), sourcePorts: maybe,
	}
	from := readPorts(r.SourcePorts)
	m.everySourcePort = slices.Contains(from.ranges, everyPort)
	if m.everySourcePort || from.exact {
		m.sourcePorts = yes
	}
	switch strings.ToLower(r.Protocol) {
	case "*", "any":
		m.tcp, m.udp, m.other = yes, yes, yes
	case "tcp":
		m.tcp = yes
	case "udp":
		m.udp = yes
	case "icmp", "icmpv6", "esp", "ah":
		m.other = yes
	default:
		m.tcp, m.udp, m.other = maybe, maybe, maybe
	}
	return m
}

func (r *Rule) allows() bool  { return strings.EqualFold(string(r.Access), string(Allow)) }
func (r *Rule) denies() bool  { return strings.EqualFold(string(r.Access), string(Deny)) }
func (r *Rule) inbound() bool { return strings.EqualFold(string(r.Direction), string(Inbound)) }

func isAny(s string) bool { return s == "*" || strings.EqualFold(s, "any") }

// readAddresses reads one side of a rule. A side that holds nothing at all is
// not one that Resource Manager gives: what it means is not known either.
func readAddresses(list, asgs []string) addresses {
	out := addresses{exact: len(list) > 0 && len(asgs) == 0}
	for _, s := range list {
		if isAny(s) {
			out.prefixes = append(out.prefixes, everyIPv4, everyIPv6)
		} else if strings.EqualFold(s, "AzureLoadBalancer") {
			out.prefixes = append(out.prefixes, azureLoadBalancer)
		} else if p, ok := readPrefix(s); ok {
			out.prefixes = append(out.prefixes, p)
		} else {
			out.exact = false
		}
	}
	return out
}

// readPrefix is lenient where an NSG is: host bits are masked off. What it
// cannot read may be a service tag. IPv4-mapped IPv6 is left unread, because
// which family such a prefix would match is not documented.
func readPrefix(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p.Masked(), !p.Addr().Is4In6()
}

func readPorts(list []string) portSet {
	out := portSet{exact: len(list) > 0}
	for _, s := range list {
		if isAny(s) {
			out.ranges = append(out.ranges, everyPort)
			continue
		}
		low, high, ranged := strings.Cut(s, "-")
		if !ranged {
			high = low
		}
		l, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
		h, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
		if err1 != nil || err2 != nil || l > h {
			out.exact = false
			continue
		}
		out.ranges = append(out.ranges, portRange{uint16(l), uint16(h)})
	}
	return out
}

func (s portSet) has(port uint16) truth {
	for _, r := range s.ranges {
		if r.low <= port && port <= r.high {
			return yes
		}
	}
	if !s.exact {
		return maybe
	}
	return no
}

func (a addresses) has(addr netip.Addr) truth {
	for _, p := range a.prefixes {
		if p.Contains(addr) {
			return yes
		}
	}
	if !a.exact {
		return maybe
	}
	return no
}

func (m *matcher) protocol(p access.Protocol) truth {
	if p == access.UDP {
		return m.udp
	}
	return m.tcp
}

// packets is traffic from some of the addresses of a source, by TCP or by UDP.
type packets struct {
	source netip.Prefix
	dest   netip.Addr
	port   uint16
	proto  access.Protocol
}

// match gives the addresses of the source from which the rule surely matches
// the packets, whatever the unknown stands for, and those from which it may; the
// latter hold the former. Which source ports it asks for is not part of it: see
// everySourcePort.
func (m *matcher) match(p packets) (surely, perhaps []netip.Prefix) {
	t := min(m.protocol(p.proto), m.ports.has(p.port), m.dests.has(p.dest), m.sourcePorts)
	if t == no {
		return nil, nil
	}
	whole := []netip.Prefix{p.source}
	surely = intersect(m.sources.prefixes, whole)
	perhaps = surely
	if !m.sources.exact {
		perhaps = whole
	}
	if t == maybe {
		surely = nil
	}
	return surely, perhaps
}

// covers says whether the rule surely lets all of the traffic through, taken
// by itself. Traffic to nowhere is not covered.
func (m *matcher) covers(source netip.Prefix, dests []netip.Addr, port uint16, proto access.Protocol) bool {
	if !m.allow || m.deny || !m.everySourcePort || len(dests) == 0 {
		return false
	}
	for _, d := range dests {
		for _, pr := range transports(proto) {
			surely, _ := m.match(packets{source, d, port, pr})
			if len(surely) == 0 || len(subtract([]netip.Prefix{source}, surely)) > 0 {
				return false
			}
		}
	}
	return true
}

// touches says whether the rule may let some of the traffic through, taken by
// itself.
func (m *matcher) touches(source netip.Prefix, dests []netip.Addr, port uint16, proto access.Protocol) bool {
	for _, d := range dests {
		for _, pr := range transports(proto) {
			if _, perhaps := m.match(packets{source, d, port, pr}); m.allow && len(perhaps) > 0 {
				return true
			}
		}
	}
	return false
}

// transports lists what a protocol stands for: anything but TCP and UDP is both.
func transports(p access.Protocol) []access.Protocol {
	switch p {
	case access.TCP, access.UDP:
		return []access.Protocol{p}
	}
	return []access.Protocol{access.TCP, access.UDP}
}
