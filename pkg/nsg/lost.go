package nsg

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Lost is a rule of ours with doors that no leg accounts for.
type Lost struct {
	Rule Rule
	// Doors counts them: each source to each port of each destination is one. What
	// cannot be counted counts as one.
	Doors int
}

// Lost gives those rules of ours that let through something for which none of the
// legs accounts, in whatever state, though by their own description their time is
// not over: what a lost part of the record leaves behind, or a forger makes.
func (s Settings) Lost(g Group, legs []access.Leg, now time.Time) (out []Lost) {
	known := gather(legs)
	for i := range g.Rules {
		r := &g.Rules[i]
		if !s.grants(*r) || r.denies() || s.RuleExpired(*r, now) {
			continue
		}
		if m := newMatcher(r); !known.hold(&m) {
			out = append(out, Lost{*r, max(1, known.without(&m))})
		}
	}
	return out
}

// without counts the doors of a rule of single ports and addresses that the legs
// do not cover.
func (t traffic) without(m *matcher) (n int) {
	proto := access.AnyProtocol
	switch {
	case m.other == yes:
	case m.tcp == yes:
		proto = access.TCP
	case m.udp == yes:
		proto = access.UDP
	}
	for _, d := range m.dests.prefixes {
		for _, r := range m.ports.ranges {
			for _, source := range m.sources.prefixes {
				if len(subtract([]netip.Prefix{source}, t[target{d.Addr(), r.low, proto}])) > 0 {
					n++
				}
			}
		}
	}
	return n
}

// Keepable says whether a rule is in every way one that this installation may have
// written for legs: by its name and its place, from ranges that are not everybody,
// to single ports of single addresses.
func (s Settings) Keepable(r Rule) bool {
	m := newMatcher(&r)
	return s.grants(r) && r.allows() && accessRuleName.MatchString(r.Name) && r.Priority >= s.Band.Low && r.Priority <= s.Band.High &&
		m.everySourcePort && m.sources.exact && m.dests.exact && m.ports.exact &&
		!slices.ContainsFunc(m.sources.prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 }) &&
		!slices.ContainsFunc(m.dests.prefixes, func(p netip.Prefix) bool { return !p.IsSingleIP() }) &&
		!slices.ContainsFunc(m.ports.ranges, func(p portRange) bool { return p.low != p.high })
}

// Keeping gives settings by which the named rules of ours stay as they are: no
// plan removes or changes one or counts on it to open anything, and it is no residue.
// What is open by one does not end for want of another. Their priorities stay taken.
func (s Settings) Keeping(rules []Rule) Settings {
	s.kept = map[string]bool{}
	for _, r := range rules {
		s.kept[strings.ToLower(r.Name)] = true
	}
	return s
}

func (s Settings) keeps(r Rule) bool { return s.kept[strings.ToLower(r.Name)] }

// CoveredWhole gives those of the legs of which rules of ours in the group let all
// of the traffic through, taken by themselves.
func (s Settings) CoveredWhole(g Group, legs []access.Leg) (out []access.Leg) {
	p := &planner{Settings: s, group: g}
	p.readRules()
	for _, l := range legs {
		if defect(l) == "" && p.covered(l) {
			out = append(out, l)
		}
	}
	return out
}
