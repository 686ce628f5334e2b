package nsg

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Lost gives those rules that the plan would remove because none of the legs, in
// whatever state, accounts for them, though by their own description their time is
// not over: what a lost part of the record leaves behind, or a forger makes.
func (s Settings) Lost(plan Plan, legs []access.Leg, now time.Time) (out []Rule) {
	for _, r := range plan.Orphans {
		if _, named := s.namesake(r.Name, legs); !named && !r.denies() && !s.RuleExpired(r, now) {
			out = append(out, r)
		}
	}
	return out
}

// Doors counts what rules let through: each source to each port of each
// destination is one door. What cannot be counted counts as one.
func Doors(rules []Rule) (n int) {
	for _, r := range rules {
		n += max(1, len(r.Sources)) * max(1, len(r.Destinations)) * max(1, len(r.DestinationPorts))
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
// plan removes or changes one or counts on it to let anything through, and it is
// no residue. Their priorities stay taken.
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
