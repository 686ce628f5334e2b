package nsg

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// site is a door's place in the group.
type site struct {
	door     door
	name     string
	have     *Rule        // ours that is there by the name, or nil
	legs     []access.Leg // what the planned rule stands for
	sources  int          // how many prefixes that takes
	priority int          // of the planned rule; 0 while it has none
	reserved int          // kept for it while it has none, as its rule stands there
	astray   bool         // priority is outside the band, and was before
}

func (p *planner) site(l access.Leg) *site {
	d := doorOf(l)
	s, ok := p.doors[d]
	if !ok {
		s = &site{door: d, name: strings.ToLower(p.ruleName(d))}
		s.have = p.ours[s.name]
		p.doors[d] = s
	}
	return s
}

func (p *planner) sites() []*site {
	return slices.SortedFunc(maps.Values(p.doors), func(a, b *site) int { return cmp.Compare(a.name, b.name) })
}

// place gives every door of an open leg its rule, and then admits those that
// ask, one by one. What is open has precedence over what is there, and that
// over what is new, so that planning again changes nothing.
func (p *planner) place() {
	p.doors = map[door]*site{}
	for _, l := range p.open {
		s := p.site(l)
		p.add(s, l)
	}
	for _, l := range p.asking {
		p.site(l)
	}
	for _, s := range p.sites() {
		if s.have != nil && p.inBand(s.have.Priority) && !p.used[s.have.Priority] {
			p.used[s.have.Priority] = true
			s.reserved = s.have.Priority
		}
	}
	p.admit()
	p.settle()
}

// admit repeats over those that ask until nothing more can be had: what one
// gives up another may take.
func (p *planner) admit() {
	there := func(l access.Leg) int {
		if s := p.site(l); s.have != nil {
			if m := p.matchers[s.name]; m.coversLeg(l) {
				return 0
			}
		}
		return 1
	}
	slices.SortStableFunc(p.asking, func(a, b access.Leg) int { return cmp.Compare(there(a), there(b)) })
	pending, why := p.asking, map[string]string{}
	for changed := true; changed; {
		p.placeOpen()
		changed = false
		pending = slices.DeleteFunc(slices.Clone(pending), func(l access.Leg) bool {
			obstacle := p.try(l, there(l) == 0)
			why[l.Key()] = obstacle
			changed = changed || obstacle == ""
			return obstacle == ""
		})
		for _, s := range p.doors {
			if s.priority == 0 && s.reserved != 0 {
				delete(p.used, s.reserved)
				s.reserved, changed = 0, true
			}
		}
	}
	for _, l := range pending {
		p.block(l, why[l.Key()])
	}
}

// placeOpen gives the doors of open legs their priorities. One that somebody
// moved out of the band goes back; while the band is full it stays.
func (p *planner) placeOpen() {
	for _, s := range p.sites() {
		if len(s.legs) == 0 || s.priority != 0 && !s.astray {
			continue
		}
		if s.reserved != 0 {
			s.priority, s.reserved = s.reserved, 0
			continue
		}
		free, ok := p.lowestFree()
		if !ok && s.priority == 0 && s.have != nil && s.have.Priority >= MinPriority && s.have.Priority <= MaxPriority && !p.used[s.have.Priority] {
			free, ok = s.have.Priority, true
		}
		if ok {
			delete(p.used, s.priority)
			s.priority, s.astray = free, !p.inBand(free)
			p.used[free] = true
		}
	}
}

// settle tells the legs that the planned rules stand for. An open leg whose
// door has found no place has lost its rule.
func (p *planner) settle() {
	for _, s := range p.sites() {
		if s.priority == 0 {
			for _, l := range s.legs {
				p.end(l, access.RemovedExternally)
			}
			s.legs = nil
			continue
		}
		for _, l := range s.legs {
			p.live = append(p.live, l)
			if l.State == access.LegOpening {
				l.BlockedBy = ""
				p.out.Opening = append(p.out.Opening, l)
			}
		}
	}
}

// try admits a leg to its door, or says what is in the way.
func (p *planner) try(l access.Leg, there bool) string {
	s := p.site(l)
	if p.names[s.name] {
		return fmt.Sprintf("a rule of the name %s stands in this network security group and is not one that may be replaced: have it renamed", p.ruleName(s.door))
	}
	obstacle := p.bandFull()
	for _, at := range p.choices(s) {
		v := p.verdict(l, at)
		if v.Outcome != OutcomeAllowed {
			obstacle = p.obstacle(l, v)
			continue
		}
		if !there && !p.fits(s, l) {
			return fmt.Sprintf("the network security group is full: it can hold %d rules and %d addresses or ranges a side", MaxRules, MaxPrefixesPerSide)
		}
		if s.priority == 0 {
			delete(p.used, s.reserved)
			s.priority, s.reserved = at, 0
			p.used[at] = true
		}
		p.add(s, l)
		return ""
	}
	return obstacle
}

// choices are the priorities that a door's rule may have, the preferred first:
// its own and, as long as nothing is open behind it, a better one.
func (p *planner) choices(s *site) (out []int) {
	switch {
	case s.astray:
		return nil // the band is full
	case s.priority != 0:
		return []int{s.priority}
	case s.reserved != 0:
		out = append(out, s.reserved)
	}
	if free, ok := p.lowestFree(); ok && (s.reserved == 0 || free < s.reserved) {
		out = append(out, free)
	}
	return out
}

func (p *planner) bandFull() string {
	return fmt.Sprintf("no priority is free between %d and %d in this network security group: wait for a grant to end, or have the band widened",
		p.Band.Low, p.Band.High)
}

func (p *planner) inBand(n int) bool { return n >= p.Band.Low && n <= p.Band.High }

func (p *planner) lowestFree() (int, bool) {
	for n := p.Band.Low; n <= p.Band.High; n++ {
		if !p.used[n] {
			return n, true
		}
	}
	return 0, false
}

// verdict is what the group would do with the leg's traffic if the leg had a
// rule of its own at the priority. No other rule of ours is counted on: it may
// end at any time.
func (p *planner) verdict(l access.Leg, at int) Verdict {
	n, _ := slices.BinarySearchFunc(p.fixed, at, func(m matcher, at int) int { return cmp.Compare(m.rule.Priority, at) })
	r := p.rule(doorOf(l), []access.Leg{l})
	r.Priority = at
	return append(slices.Clip(p.fixed[:n]), newMatcher(&r)).leg(l)
}

// obstacle says for a person why the verdict is not Allowed, and what helps.
func (p *planner) obstacle(l access.Leg, v Verdict) string {
	if v.Rule == nil {
		return v.String()
	}
	to := netip.AddrPortFrom(l.Destinations[0], l.Port).String()
	if len(l.Destinations) > 1 {
		to += fmt.Sprintf(" (and %d more)", len(l.Destinations)-1)
	}
	does := "denies"
	if v.Outcome == OutcomeUnknown {
		does = fmt.Sprintf("may deny (its %s is not known here)", v.Rule.cause())
	}
	return fmt.Sprintf("rule %s (priority %d) %s %s → %s/%s before our rules: have it moved to a priority above %d, or ask from an address that it lets pass",
		v.Rule.Name, v.Rule.Priority, does, access.FormatPrefix(l.Source), to, l.Protocol, p.Band.High)
}

// fits says whether the group's limits leave room for one more leg.
func (p *planner) fits(s *site, l access.Leg) bool {
	rules, sources, dests := len(p.others), 0, 0
	for _, r := range p.others {
		sources += len(r.Sources) + len(r.SourceASGs)
		dests += len(r.Destinations) + len(r.DestinationASGs)
	}
	for _, o := range p.doors {
		if o != s && (o.priority != 0 || o.reserved != 0) {
			rules, sources, dests = rules+1, sources+o.sources, dests+len(o.door.destinations())
		}
	}
	more := countSources(append(slices.Clip(s.legs), l))
	return rules+1 <= MaxRules && sources+more <= MaxPrefixesPerSide && dests+len(s.door.destinations()) <= MaxPrefixesPerSide
}

func (p *planner) add(s *site, l access.Leg) {
	s.legs = append(s.legs, l)
	s.sources = countSources(s.legs)
}

func countSources(legs []access.Leg) int {
	var list []netip.Prefix
	for _, l := range legs {
		list = append(list, l.Source)
	}
	return len(union(list))
}
