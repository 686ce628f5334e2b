package nsg

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Covered says whether any rule of ours in the group may still let some of the
// leg's traffic through. That may be rightly so, for another live leg: whether
// a leg's end has been carried out is told by [Settings.Residue].
func (s Settings) Covered(g Group, leg access.Leg) bool {
	return slices.ContainsFunc(g.Rules, func(r Rule) bool {
		m := newMatcher(&r)
		return s.Owns(r) && m.touches(leg.Source, leg.Destinations, leg.Port, leg.Protocol)
	})
}

// Residue gives our rules in the group that let through something that no leg
// covers which the plan for these legs keeps or opens. What ended is gone from
// the group exactly when there is none.
func (s Settings) Residue(g Group, legs []access.Leg, now time.Time) []Rule {
	want := gather(s.planned(g, legs, now, nil).live)
	var out []Rule
	for i := range g.Rules {
		if r := &g.Rules[i]; s.Owns(*r) && !r.denies() && !s.keeps(*r) {
			if m := newMatcher(r); !want.hold(&m) {
				out = append(out, *r)
			}
		}
	}
	return out
}

// traffic is what legs cover: the sources for each target.
type traffic map[target][]netip.Prefix

// target is one port of one address. Protocols other than TCP and UDP, which a
// rule for "*" lets through as well, stand under "*".
type target struct {
	dest  netip.Addr
	port  uint16
	proto access.Protocol
}

func gather(legs []access.Leg) traffic {
	t := traffic{}
	for _, l := range legs {
		protos := []access.Protocol{l.Protocol}
		if l.Protocol == access.AnyProtocol {
			protos = append(protos, access.TCP, access.UDP)
		}
		for _, d := range l.Destinations {
			for _, proto := range protos {
				k := target{d, l.Port, proto}
				t[k] = append(t[k], l.Source)
			}
		}
	}
	return t
}

// tooWide is how many ports or addresses a range may hold to be looked at one
// by one. Rules of ours hold single ones; a wider range is taken to let through
// more than the legs cover.
const tooWide = 256

// hold says whether the legs cover all that the rule can let through.
func (t traffic) hold(m *matcher) bool {
	if !m.sources.exact || !m.dests.exact || !m.ports.exact {
		return false
	}
	var protos []access.Protocol
	for proto, matched := range map[access.Protocol]truth{access.TCP: m.tcp, access.UDP: m.udp, access.AnyProtocol: m.other} {
		if matched != no {
			protos = append(protos, proto)
		}
	}
	ports := map[uint16]bool{}
	for _, r := range m.ports.ranges {
		if r.high-r.low >= tooWide {
			return false
		}
		for n := int(r.low); n <= int(r.high); n++ {
			ports[uint16(n)] = true
		}
	}
	for _, d := range m.dests.prefixes {
		if d.Addr().BitLen()-d.Bits() > 8 {
			return false
		}
		for a := d.Addr(); d.Contains(a); a = a.Next() {
			if !t.holdAt(a, ports, protos, m.sources.prefixes) {
				return false
			}
		}
	}
	return true
}

func (t traffic) holdAt(dest netip.Addr, ports map[uint16]bool, protos []access.Protocol, sources []netip.Prefix) bool {
	sources = slices.DeleteFunc(slices.Clone(sources), func(p netip.Prefix) bool { return p.Addr().BitLen() != dest.BitLen() })
	for port := range maps.Keys(ports) {
		for _, proto := range protos {
			if len(subtract(sources, t[target{dest, port, proto}])) > 0 {
				return false
			}
		}
	}
	return true
}

// narrowOnly plans where the whole group must not be written: rules of ours can
// only go. What goes takes with it the legs that shared it, and they may have
// been what another rule stood for: so it is repeated until nothing more goes.
func (p *planner) narrowOnly() {
	stay := maps.Clone(p.ours)
	maps.DeleteFunc(stay, func(_ string, r *Rule) bool { return r.denies() })
	candidates := slices.Concat(p.open, p.asking)
	for {
		var live []access.Leg
		group := slices.Clone(p.fixed)
		for name, r := range p.ours {
			if stay[name] != nil || r.denies() {
				group = append(group, p.matchers[name])
			}
		}
		slices.SortStableFunc(group, byPriority)
		for _, l := range candidates {
			if p.coveredBy(stay, l) && (l.State == access.LegOpen || l.Restored || group.leg(l).Outcome == OutcomeAllowed) {
				live = append(live, l)
			}
		}
		want, before := gather(live), len(stay)
		maps.DeleteFunc(stay, func(name string, _ *Rule) bool { m := p.matchers[name]; return !want.hold(&m) })
		p.live = live
		if len(stay) == before {
			break
		}
	}
	p.out.narrows = true
	for name, r := range p.ours {
		if stay[name] == nil && !r.denies() {
			p.remove(r)
		}
	}
	for _, l := range candidates {
		there := slices.ContainsFunc(p.live, func(k access.Leg) bool { return k.Key() == l.Key() })
		switch {
		case there && l.State == access.LegOpening:
			l.BlockedBy = ""
			p.out.Opening = append(p.out.Opening, l)
		case !there && l.State == access.LegOpening && !l.Restored:
			p.block(l, "writing this network security group as a whole would lose "+p.group.Loss+
				", which this version does not know: nothing is opened here until Portcullis is updated or that is gone")
		case !there:
			p.end(l, access.RemovedExternally)
		}
	}
}

func (p *planner) coveredBy(rules map[string]*Rule, l access.Leg) bool {
	return !slices.ContainsFunc(destinationsOf(l), func(d netip.Addr) bool {
		return !slices.ContainsFunc(p.near(d, l.Port), func(m *matcher) bool {
			return rules[strings.ToLower(m.rule.Name)] != nil && m.covers(l.Source, []netip.Addr{d}, l.Port, l.Protocol)
		})
	})
}
