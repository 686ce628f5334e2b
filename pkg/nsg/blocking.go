package nsg

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Blocking gives the customer's rules that would stand in the way of a grant of
// ours: deny rules before the first free priority of the band, for some of the
// row's ports and addresses from some of the sources, and rules of which it is
// not known whether they are that. Where no priority is free, those before the
// band's end. In the order in which they are met.
func (s Settings) Blocking(g Group, row access.Baseline, sources []netip.Prefix) []Rule {
	at := s.firstFree(g)
	var out []Rule
	for _, r := range g.Rules {
		if s.Owns(r) || !r.inbound() || r.allows() || r.Priority > at {
			continue
		}
		if m := newMatcher(&r); m.meets(row, sources) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// FreeInBand counts the priorities of the band that no rule of the customer's
// has taken.
func (s Settings) FreeInBand(g Group) int {
	g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), s.Owns)
	used := inboundPriorities(g)
	n := 0
	for p := s.Band.Low; p <= s.Band.High; p++ {
		if !used[p] {
			n++
		}
	}
	return n
}

func (s Settings) firstFree(g Group) int {
	used := inboundPriorities(g)
	for p := s.Band.Low; p <= s.Band.High; p++ {
		if !used[p] {
			return p
		}
	}
	return s.Band.High
}

func inboundPriorities(g Group) map[int]bool {
	used := map[int]bool{}
	for _, r := range g.Rules {
		if r.inbound() {
			used[r.Priority] = true
		}
	}
	return used
}

// meets says whether the rule may match some traffic from the sources to the
// ports and addresses of the row.
func (m *matcher) meets(row access.Baseline, sources []netip.Prefix) bool {
	for _, port := range row.Ports {
		for _, proto := range transports(port.Protocol) {
			for _, d := range row.Destinations {
				for _, src := range sources {
					if src.Addr().BitLen() != d.BitLen() {
						continue
					}
					if _, perhaps := m.match(packets{src, d, port.Number, proto}); len(perhaps) > 0 {
						return true
					}
				}
			}
		}
	}
	return false
}
