package nsg

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Plan is what is to be recorded and written so that a group holds exactly
// what its live legs ask for.
type Plan struct {
	// Closing are legs whose end must be recorded before anything is written,
	// with State, Reason and ClosingAt set.
	Closing []access.Leg
	// Put are rules of ours to add or to change, complete; Remove names rules of
	// ours to remove.
	Put    []Rule
	Remove []string
	// Opening are the Opening legs that the planned rules let through.
	Opening []access.Leg
	// Blocked are the Opening legs that cannot open now, with BlockedBy set.
	Blocked []access.Leg
	// Orphans are those of our rules to be removed that no leg accounts for.
	Orphans []Rule
}

// Empty says whether there is nothing to write to the group.
func (p Plan) Empty() bool { return len(p.Put) == 0 && len(p.Remove) == 0 }

// Apply gives the group as it would be after the plan; g stays as it is.
func (p Plan) Apply(g Group) Group {
	out := slices.DeleteFunc(slices.Clone(g.Rules), func(r Rule) bool {
		named := func(name string) bool { return strings.EqualFold(name, r.Name) }
		return slices.ContainsFunc(p.Remove, named) || slices.ContainsFunc(p.Put, func(n Rule) bool { return named(n.Name) })
	})
	g.Rules = append(out, p.Put...)
	return g
}

// Plan says what is to be done on the group for the legs at the time. It is a
// function of its arguments: planning again after the plan was applied gives
// an empty plan.
//
// Only a leg in state Opening may add to what a group lets through. An Open leg
// keeps what is there; where its rule is gone it ends, RemovedExternally. Where
// writing the whole group would lose something of the customer's (g.Loss),
// nothing opens, and a rule that lets through too much goes as a whole: the
// legs that shared it end, RemovedExternally, rather than that it stays.
func (s Settings) Plan(g Group, legs []access.Leg, now time.Time) Plan {
	pl := planner{Settings: s, group: g, now: now, legs: sorted(legs)}
	pl.split()
	if g.Loss != "" {
		return pl.withoutWholeWrite()
	}
	return pl.plan()
}

func sorted(legs []access.Leg) []access.Leg {
	legs = slices.Clone(legs)
	slices.SortFunc(legs, func(a, b access.Leg) int { return cmp.Compare(a.Key(), b.Key()) })
	return legs
}

type planner struct {
	Settings
	group  Group
	now    time.Time
	legs   []access.Leg
	ours   []Rule
	kept   []access.Leg // Open, and their rule is there
	asking []access.Leg // Opening, not yet found blocked
	out    Plan
}

func (p *planner) split() {
	for _, r := range p.group.Rules {
		if p.Owns(r) {
			p.ours = append(p.ours, r)
		}
	}
	present := newEvaluator(Group{Rules: p.ours})
	for _, l := range p.legs {
		switch {
		case !l.Live():
		case !l.EndTime.After(p.now):
			p.end(l, access.Expired)
		case l.State == access.LegOpening && !l.OpenBy.After(p.now):
			p.end(l, access.NotOpenedInTime)
		case l.State == access.LegOpening:
			p.asking = append(p.asking, l)
		case present.leg(l).Outcome != OutcomeAllowed:
			p.end(l, access.RemovedExternally)
		default:
			p.kept = append(p.kept, l)
		}
	}
}

func (p *planner) end(l access.Leg, reason access.StatusReason) {
	l.State, l.Reason, l.ClosingAt = access.LegClosing, reason, p.now
	p.out.Closing = append(p.out.Closing, l)
}

func (p *planner) block(l access.Leg, format string, args ...any) {
	l.BlockedBy = fmt.Sprintf(format, args...)
	p.out.Blocked = append(p.out.Blocked, l)
}

func (p *planner) withoutWholeWrite() Plan {
	for _, l := range p.asking {
		p.block(l, "writing this network security group as a whole would lose %s, which this version does not know: nothing is opened here until it is updated", p.group.Loss)
	}
	var stay []Rule
	for _, r := range p.ours {
		if len(p.Residue(Group{Rules: []Rule{r}}, p.kept, p.now)) == 0 && strings.EqualFold(string(r.Access), string(Allow)) {
			stay = append(stay, r)
		} else {
			p.remove(r)
		}
	}
	left := newEvaluator(Group{Rules: stay})
	for _, l := range p.kept {
		if left.leg(l).Outcome != OutcomeAllowed {
			p.end(l, access.RemovedExternally)
		}
	}
	return p.out
}

func (p *planner) plan() Plan {
	var rules []Rule
	for {
		var blocked []access.Leg
		rules, blocked = p.place()
		for _, l := range blocked {
			p.asking = slices.DeleteFunc(p.asking, func(a access.Leg) bool { return a.Key() == l.Key() })
			p.out.Blocked = append(p.out.Blocked, l)
		}
		if len(blocked) == 0 {
			break
		}
	}
	p.out.Opening = p.asking
	for _, want := range rules {
		i := slices.IndexFunc(p.ours, func(r Rule) bool { return strings.EqualFold(r.Name, want.Name) })
		if i < 0 || !same(p.ours[i], want) {
			p.out.Put = append(p.out.Put, want)
		}
	}
	for _, r := range p.ours {
		if !slices.ContainsFunc(rules, func(w Rule) bool { return strings.EqualFold(w.Name, r.Name) }) {
			p.remove(r)
		}
	}
	return p.out
}

func (p *planner) remove(r Rule) {
	p.out.Remove = append(p.out.Remove, r.Name)
	if !slices.ContainsFunc(p.legs, func(l access.Leg) bool { return strings.EqualFold(p.ruleName(doorOf(l)), r.Name) }) {
		p.out.Orphans = append(p.out.Orphans, r)
	}
}

// same says whether a rule that is there means and states what is wanted.
func same(have, want Rule) bool {
	return strings.EqualFold(string(have.Access), string(want.Access)) && strings.EqualFold(have.Protocol, want.Protocol) &&
		have.Priority == want.Priority && have.Description == want.Description &&
		len(have.SourceASGs) == 0 && len(have.DestinationASGs) == 0 &&
		samePrefixes(have.Sources, want.Sources) && samePrefixes(have.Destinations, want.Destinations) &&
		slices.Equal(have.SourcePorts, want.SourcePorts) && slices.Equal(have.DestinationPorts, want.DestinationPorts)
}

func samePrefixes(a, b []string) bool {
	read := func(list []string) ([]netip.Prefix, bool) {
		out, all, tagged := readPrefixes(list, nil)
		slices.SortFunc(out, func(x, y netip.Prefix) int {
			return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
		})
		return out, !all && !tagged
	}
	x, okx := read(a)
	y, oky := read(b)
	return okx && oky && slices.Equal(x, y)
}

// Residue gives our rules in the group that let through something that no live
// leg covers at the time. An ended leg is gone only when there is none.
func (s Settings) Residue(g Group, legs []access.Leg, now time.Time) []Rule {
	type place struct {
		dest netip.Addr
		port uint16
	}
	at := map[place][]access.Leg{}
	for _, l := range legs {
		if l.Live() && l.EndTime.After(now) {
			for _, d := range l.Destinations {
				at[place{d, l.Port}] = append(at[place{d, l.Port}], l)
			}
		}
	}
	covered := func(r *Rule) bool {
		m := newMatcher(r)
		if m.anySource || m.srcTagged || m.anyDst || m.dstTagged {
			return false
		}
		for _, ports := range m.ports {
			if ports.low != ports.high {
				return false
			}
			for _, d := range m.dests {
				if !d.IsSingleIP() {
					return false
				}
				for _, src := range m.sources {
					if !slices.ContainsFunc(at[place{d.Addr(), ports.low}], func(l access.Leg) bool {
						return access.PrefixContains(l.Source, src) && (l.Protocol == access.AnyProtocol ||
							l.Protocol == access.TCP && !m.udp || l.Protocol == access.UDP && !m.tcp)
					}) {
						return false
					}
				}
			}
		}
		return true
	}
	var out []Rule
	for i := range g.Rules {
		if r := &g.Rules[i]; s.Owns(*r) && !strings.EqualFold(string(r.Access), string(Deny)) && !covered(r) {
			out = append(out, *r)
		}
	}
	return out
}
