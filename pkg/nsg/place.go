package nsg

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// place makes the rules for the kept legs and for those that ask, each at a
// priority of the band that nobody else uses, and gives the asking legs that
// cannot be let through. It is called again without those until none is left.
func (p *planner) place() (rules []Rule, blocked []access.Leg) {
	doors, order, blocked := p.doors()
	if len(blocked) > 0 {
		return nil, blocked
	}
	free, taken := p.priorities()
	var unplaced []door
	for _, d := range order {
		r := p.rule(d, doors[d])
		i := slices.IndexFunc(p.ours, func(have Rule) bool { return strings.EqualFold(have.Name, r.Name) })
		if i >= 0 && p.inBand(p.ours[i].Priority) && !taken[p.ours[i].Priority] {
			r.Priority = p.ours[i].Priority
			taken[r.Priority] = true
			rules = append(rules, r)
		} else {
			unplaced = append(unplaced, d)
		}
	}
	for _, d := range unplaced {
		for len(free) > 0 && taken[free[0]] {
			free = free[1:]
		}
		if len(free) == 0 {
			return p.full(doors[d])
		}
		r := p.rule(d, doors[d])
		r.Priority = free[0]
		taken[r.Priority] = true
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return rules, p.blockedByOthers(rules)
}

// full blocks the legs that a full band has no room for. A door that only kept
// legs use and that lost its place (somebody else took its priority) ends.
func (p *planner) full(legs []access.Leg) (rules []Rule, blocked []access.Leg) {
	for _, l := range legs {
		if l.State == access.LegOpening {
			l.BlockedBy = fmt.Sprintf("no priority is free between %d and %d in this network security group: wait for a grant to end, or widen the band", p.Band.Low, p.Band.High)
			blocked = append(blocked, l)
		}
	}
	if len(blocked) > 0 {
		return nil, blocked
	}
	// Others that ask give way to what is open already.
	if n := len(p.asking); n > 0 {
		l := p.asking[n-1]
		l.BlockedBy = fmt.Sprintf("no priority is free between %d and %d in this network security group", p.Band.Low, p.Band.High)
		return nil, []access.Leg{l}
	}
	for _, l := range legs {
		p.kept = slices.DeleteFunc(p.kept, func(k access.Leg) bool { return k.Key() == l.Key() })
		p.end(l, access.RemovedExternally)
	}
	return p.place()
}

func (p *planner) inBand(n int) bool { return n >= p.Band.Low && n <= p.Band.High }

// priorities gives the band's priorities in ascending order, and those that
// inbound rules of others use.
func (p *planner) priorities() (free []int, taken map[int]bool) {
	taken = map[int]bool{}
	for _, r := range p.group.Rules {
		if strings.EqualFold(string(r.Direction), string(Inbound)) && !p.Owns(r) {
			taken[r.Priority] = true
		}
	}
	for n := p.Band.Low; n <= p.Band.High; n++ {
		free = append(free, n)
	}
	return free, taken
}

// doors gathers the legs by door, those with a kept leg first, and blocks those
// that ask beyond what a group can hold.
func (p *planner) doors() (doors map[door][]access.Leg, order []door, blocked []access.Leg) {
	rules, sources, dests := 0, 0, 0
	for _, r := range p.group.Rules {
		if !p.Owns(r) {
			rules, sources, dests = rules+1, sources+len(r.Sources), dests+len(r.Destinations)
		}
	}
	doors = map[door][]access.Leg{}
	for _, list := range [][]access.Leg{p.kept, p.asking} {
		for _, l := range list {
			d := doorOf(l)
			moreRules, moreDests := 0, 0
			if _, ok := doors[d]; !ok {
				moreRules, moreDests = 1, len(l.Destinations)
			}
			over := rules+moreRules > MaxRules || sources+1 > MaxPrefixesPerSide || dests+moreDests > MaxPrefixesPerSide
			if over && l.State == access.LegOpening {
				l.BlockedBy = fmt.Sprintf("the network security group is full: it can hold %d rules and %d prefixes a side", MaxRules, MaxPrefixesPerSide)
				blocked = append(blocked, l)
				continue
			}
			if moreRules > 0 {
				order = append(order, d)
			}
			rules, sources, dests = rules+moreRules, sources+1, dests+moreDests
			doors[d] = append(doors[d], l)
		}
	}
	return doors, order, blocked
}

// blockedByOthers evaluates the group with the rules in place and gives the
// asking legs whose traffic a rule of the customer's decides against.
func (p *planner) blockedByOthers(rules []Rule) (blocked []access.Leg) {
	others := slices.DeleteFunc(slices.Clone(p.group.Rules), p.Owns)
	e := newEvaluator(Group{Rules: append(others, rules...), Defaults: p.group.Defaults})
	for _, l := range p.asking {
		v := e.leg(l)
		if v.Outcome == OutcomeAllowed {
			continue
		}
		where := fmt.Sprintf("%s → %s port %d/%s", access.FormatPrefix(l.Source), doorOf(l).dests, l.Port, l.Protocol)
		switch {
		case v.Rule == nil:
			l.BlockedBy = "no rule lets " + where + " through"
		case v.Outcome == OutcomeUnknown:
			l.BlockedBy = fmt.Sprintf("rule %s (priority %d) stands before ours, and whether it denies %s is not known (source %s): move it behind priority %d",
				v.Rule.Name, v.Rule.Priority, where, strings.Join(v.Rule.Sources, ", "), p.Band.High)
		default:
			l.BlockedBy = fmt.Sprintf("rule %s (priority %d) stands before ours and denies %s: move it behind priority %d, or ask from an address that it lets pass",
				v.Rule.Name, v.Rule.Priority, where, p.Band.High)
		}
		blocked = append(blocked, l)
	}
	return blocked
}
