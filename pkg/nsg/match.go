package nsg

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// cover says how much of a flow a rule matches.
type cover int

const (
	none    cover = iota
	partial       // some of the flow's packets, and not others
	unknown       // depends on what a service tag or an ASG stands for
	full          // every packet
)

// azureLoadBalancer is what the tag AzureLoadBalancer stands for: the virtual
// IP address of the host ("Virtual network service tags", Azure docs).
var azureLoadBalancer = netip.MustParsePrefix("168.63.129.16/32")

// matcher is a rule, read once for many evaluations.
type matcher struct {
	rule              *Rule
	tcp, udp          bool
	anySourcePort     bool
	ports             []portRange
	sources, dests    []netip.Prefix
	anySource, anyDst bool
	// tagged says that a side also holds something whose meaning is not known here.
	srcTagged, dstTagged bool
}

type portRange struct{ low, high uint16 }

func newMatcher(r *Rule) matcher {
	m := matcher{rule: r}
	switch strings.ToLower(r.Protocol) {
	case "*", "any":
		m.tcp, m.udp = true, true
	case "tcp":
		m.tcp = true
	case "udp":
		m.udp = true
	}
	m.sources, m.anySource, m.srcTagged = readPrefixes(r.Sources, r.SourceASGs)
	m.dests, m.anyDst, m.dstTagged = readPrefixes(r.Destinations, r.DestinationASGs)
	m.ports = readPorts(r.DestinationPorts)
	for _, p := range readPorts(r.SourcePorts) {
		m.anySourcePort = m.anySourcePort || p.low == 0 && p.high == 65535
	}
	return m
}

func readPrefixes(list, asgs []string) (out []netip.Prefix, all, tagged bool) {
	tagged = len(asgs) > 0
	for _, s := range list {
		if s == "*" || strings.EqualFold(s, "any") {
			all = true
		} else if strings.EqualFold(s, "AzureLoadBalancer") {
			out = append(out, azureLoadBalancer)
		} else if p, ok := readPrefix(s); ok {
			out = append(out, p)
		} else {
			tagged = true
		}
	}
	return out, all, tagged
}

// readPrefix is lenient where an NSG is: host bits are masked off.
func readPrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	return netip.Prefix{}, false
}

func readPorts(list []string) (out []portRange) {
	for _, s := range list {
		if s == "*" || strings.EqualFold(s, "any") {
			out = append(out, portRange{0, 65535})
			continue
		}
		low, high, ranged := strings.Cut(s, "-")
		if !ranged {
			high = low
		}
		l, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
		h, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
		if err1 == nil && err2 == nil && l <= h {
			out = append(out, portRange{uint16(l), uint16(h)})
		}
	}
	return out
}

// covers says how much of the flow the rule matches: as much as its least
// matching dimension.
func (m *matcher) covers(f Flow) cover {
	c := full
	for _, d := range []cover{m.protocol(f.Protocol), m.port(f.Port), m.source(f.Source), m.destination(f.Destination)} {
		if d == none {
			return none
		}
		// What is unknown in one dimension stays unknown whatever the others are.
		if d == unknown || c == unknown {
			c = unknown
		} else {
			c = min(c, d)
		}
	}
	if !m.anySourcePort && c == full {
		c = partial
	}
	return c
}

func (m *matcher) protocol(p access.Protocol) cover {
	switch {
	case p == access.TCP && m.tcp, p == access.UDP && m.udp, p == access.AnyProtocol && m.tcp && m.udp:
		return full
	case p == access.AnyProtocol && (m.tcp || m.udp):
		return partial
	}
	return none
}

func (m *matcher) port(p uint16) cover {
	for _, r := range m.ports {
		if r.low <= p && p <= r.high {
			return full
		}
	}
	return none
}

func (m *matcher) source(s netip.Prefix) cover {
	c := none
	if m.anySource {
		return full
	}
	for _, p := range m.sources {
		if access.PrefixContains(p, s) {
			return full
		}
		if access.PrefixContains(s, p) {
			c = partial
		}
	}
	if m.srcTagged {
		return unknown
	}
	return c
}

func (m *matcher) destination(a netip.Addr) cover {
	if m.anyDst {
		return full
	}
	for _, p := range m.dests {
		if p.Contains(a) {
			return full
		}
	}
	if m.dstTagged {
		return unknown
	}
	return none
}
