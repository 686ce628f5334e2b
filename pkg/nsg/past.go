package nsg

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Past gives the customer's rules that let traffic past the baseline: allow
// rules, before its deny, for some of its ports and addresses from some source
// that it denies. In the order in which they are met.
func (s Settings) Past(g Group, row access.Baseline) []Rule {
	found := map[string]Rule{}
	for k, addrs := range shutters(row) {
		deny := s.baselineRule(k, addrs)
		deny.Priority = s.Baseline.High
		for _, r := range g.Rules {
			if s.Shuts(r) && strings.EqualFold(r.Name, deny.Name) {
				deny.Priority = r.Priority
			}
		}
		m := newMatcher(&deny)
		for _, r := range g.Rules {
			if s.Owns(r) || !r.inbound() || r.denies() || r.Priority > deny.Priority {
				continue
			}
			if a := newMatcher(&r); meet(&a, &m, addrs) {
				found[r.Name] = r
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
}

// meet says whether some packet that the deny matches may match the rule too.
func meet(r, deny *matcher, dests []netip.Addr) bool {
	for _, src := range deny.sources.prefixes {
		for _, ports := range deny.ports.ranges {
			for port := int(ports.low); port <= int(ports.high); port++ {
				for _, proto := range transports(protocolOf(deny)) {
					for _, d := range dests {
						if d.BitLen() != src.Addr().BitLen() {
							continue
						}
						if _, perhaps := r.match(packets{src, d, uint16(port), proto}); len(perhaps) > 0 {
							return true
						}
					}
				}
			}
		}
	}
	return false
}

func protocolOf(m *matcher) access.Protocol {
	switch {
	case m.tcp == yes && m.udp == yes:
		return access.AnyProtocol
	case m.udp == yes:
		return access.UDP
	}
	return access.TCP
}
