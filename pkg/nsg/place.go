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

// holding is a just-in-time rule of ours that is there, and what the legs that
// keep it ask of it.
type holding struct {
	rule   *Rule
	shares []share
}

// board is where the planned tiles stand: a planning may be tried on one, and
// be given up for another.
type board struct {
	tiles []*tile
	at    map[spot][]*tile
	used  map[int]bool    // inbound priorities
	names map[string]bool // lower case
	total size
}

// size counts what a group's limits are about.
type size struct{ rules, sources, dests int }

func (a size) plus(b size) size {
	return size{a.rules + b.rules, a.sources + b.sources, a.dests + b.dests}
}
func (a size) minus(b size) size {
	return size{a.rules - b.rules, a.sources - b.sources, a.dests - b.dests}
}

func (a size) within(b size) bool {
	return a.rules <= b.rules && a.sources <= b.sources && a.dests <= b.dests
}

func sizeOf(rules []Rule) (n size) {
	for _, r := range rules {
		n = n.plus(size{1, len(r.Sources) + len(r.SourceASGs), len(r.Destinations) + len(r.DestinationASGs)})
	}
	return n
}

func (t *tile) size() size { return size{1, len(t.sources), len(t.dests)} }

func (p *planner) newBoard() *board {
	return &board{at: map[spot][]*tile{}, used: maps.Clone(p.used), names: maps.Clone(p.names), total: sizeOf(p.others)}
}

func (b *board) put(t *tile) {
	b.tiles = append(b.tiles, t)
	for _, s := range t.spots() {
		b.at[s] = append(b.at[s], t)
	}
	b.total = b.total.plus(t.size())
	if t.priority != 0 {
		b.used[t.priority] = true
	}
	if t.name != "" {
		b.names[strings.ToLower(t.name)] = true
	}
}

func (b *board) take(t *tile) {
	b.tiles = slices.DeleteFunc(b.tiles, func(o *tile) bool { return o == t })
	for _, s := range t.spots() {
		b.at[s] = slices.DeleteFunc(b.at[s], func(o *tile) bool { return o == t })
	}
	b.total = b.total.minus(t.size())
	delete(b.used, t.priority)
	delete(b.names, strings.ToLower(t.name))
}

// holder gives the tile that holds the source at the spot; where ranges are
// within each other the narrowest counts.
func (b *board) holder(s share) *tile {
	var best *tile
	bits := -1
	for _, t := range b.at[s.spot()] {
		if i, ok := holder(t.sources, s.leg.Source); ok && t.sources[i].Bits() > bits {
			best, bits = t, t.sources[i].Bits()
		}
	}
	return best
}

// place gives what is open its rules, and then admits those that ask, one by
// one. What is open has precedence over what is there, and that over what is
// new, so that planning again changes nothing.
func (p *planner) place() {
	// What a customer has filled beyond the limits stands; it only grows no more.
	p.limit = size{max(MaxRules, len(p.group.Rules)), MaxPrefixesPerSide, MaxPrefixesPerSide}
	if have := sizeOf(p.group.Rules); !have.within(p.limit) {
		p.limit = size{p.limit.rules, max(p.limit.sources, have.sources), max(p.limit.dests, have.dests)}
	}
	slices.SortFunc(p.open, func(a, b access.Leg) int { return cmp.Compare(a.Key(), b.Key()) })
	for {
		if !p.lay(p.asking) && !p.lay(nil) {
			p.layAnew()
		}
		gone := p.shutOut()
		if len(gone) == 0 {
			break
		}
		p.open = slices.DeleteFunc(p.open, func(l access.Leg) bool {
			v, ok := gone[keyOf(l)]
			if ok {
				p.endFor(l, access.NoRoom, p.obstacle(l, v))
			}
			return ok
		})
	}
	p.admit()
	p.settle()
}

// shutOut gives the open legs that pass where their rules stand, and would not
// where the board has them: a piece of a rule has a place of its own, and a rule
// of the customer's may stand before that. They cannot be told to be open.
func (p *planner) shutOut() map[legKey]Verdict {
	gone := map[legKey]Verdict{}
	if !slices.ContainsFunc(p.fixed, func(m matcher) bool { return m.deny && m.rule.Priority <= p.Band.High }) {
		return gone
	}
	homes := map[string]*holding{}
	for _, t := range p.board.tiles {
		for _, s := range t.shares {
			h := p.home(s, homes)
			if s.leg.State != access.LegOpen || h == nil || t.priority <= h.rule.Priority {
				continue
			}
			at := func(priority int) Verdict { return p.verdict(s.leg, []netip.Addr{s.dest}, priority) }
			if v := at(t.priority); v.Outcome != OutcomeAllowed && at(h.rule.Priority).Outcome == OutcomeAllowed {
				gone[keyOf(s.leg)] = v
			}
		}
	}
	return gone
}

// lay puts on a new board what is there and is kept: for legs that are open, and
// for those of the others that have their rules already and pass by them. It is
// false where that has no room any more as it stands.
func (p *planner) lay(there []access.Leg) bool {
	p.board, p.pending = p.newBoard(), nil
	homes := map[string]*holding{}
	var astray []share
	for _, l := range p.open {
		for _, s := range sharesOf(l) {
			if h := p.home(s, homes); h != nil {
				h.shares = append(h.shares, s)
			} else {
				astray = append(astray, s)
			}
		}
	}
	for _, l := range p.asking {
		shares := sharesOf(l)
		passes := len(there) > 0 && !slices.ContainsFunc(shares, func(s share) bool {
			h := p.home(s, homes)
			return h == nil || !p.inBand(h.rule.Priority) || p.used[h.rule.Priority] || p.verdict(s.leg, []netip.Addr{s.dest}, h.rule.Priority).Outcome != OutcomeAllowed
		})
		if !passes {
			p.pending = append(p.pending, l)
			continue
		}
		for _, s := range shares {
			h := p.home(s, homes)
			h.shares = append(h.shares, s)
		}
	}
	return p.cut(homes) && p.house(astray) && p.board.total.within(p.limit)
}

// cut puts each rule that is there on the board as far as legs fill it. One that
// they fill no more falls into pieces, of which one keeps its priority, and its
// name where that is the name of a door in it.
func (p *planner) cut(homes map[string]*holding) bool {
	var moved, fresh []*tile
	for _, h := range slices.SortedFunc(maps.Values(homes), func(a, b *holding) int { return cmp.Compare(a.rule.Name, b.rule.Name) }) {
		pieces := pack(h.shares, packings[0])
		if len(pieces) == 0 {
			continue
		}
		slices.SortStableFunc(pieces, func(a, b *tile) int { return cmp.Compare(len(b.dests)*len(b.ports), len(a.dests)*len(a.ports)) })
		keeper := pieces[0]
		for _, t := range pieces {
			if _, ok := p.namesake(h.rule.Name, t.legs()); ok {
				keeper, t.have, t.name = t, h.rule, h.rule.Name
				break
			}
		}
		if n := h.rule.Priority; p.inBand(n) && !p.board.used[n] {
			keeper.priority = n
			p.board.put(keeper)
		} else {
			keeper.priority = n
			moved = append(moved, keeper)
		}
		fresh = append(fresh, slices.DeleteFunc(pieces, func(t *tile) bool { return t == keeper })...)
	}
	return p.goBack(moved) && p.enter(fresh)
}

// goBack moves tiles whose rules somebody moved out of the band back in it; while
// the band is full they stay where they are.
func (p *planner) goBack(moved []*tile) bool {
	for _, t := range moved {
		was := t.priority
		if free, ok := p.lowestFree(); ok {
			t.priority = free
		} else if was < MinPriority || was > MaxPriority || p.board.used[was] {
			return false
		}
		t.astray = !p.inBand(t.priority)
		p.board.put(t)
	}
	return true
}

// enter gives tiles that have no place the best one that is free.
func (p *planner) enter(fresh []*tile) bool {
	for _, t := range fresh {
		free, ok := p.lowestFree()
		if !ok {
			return false
		}
		t.priority = free
		p.board.put(t)
	}
	return true
}

// house finds room for what is open and has lost the rule that was its own: the
// group lets it through all the same, or its rules were replaced as a whole.
func (p *planner) house(astray []share) bool {
	for len(astray) > 0 {
		n := 1
		for n < len(astray) && keyOf(astray[n].leg) == keyOf(astray[0].leg) {
			n++
		}
		if p.offer(astray[:n], false) != "" {
			return false
		}
		astray = astray[n:]
	}
	return true
}

// home finds the rule that is there and holds the share: of its protocol, by a
// name of ours; where ranges are within each other the narrowest counts.
func (p *planner) home(s share, homes map[string]*holding) *holding {
	var best *Rule
	bits := -1
	for _, m := range p.near(s.dest, s.leg.Port) {
		if p.named[m.rule] != s.leg.Protocol || !m.covers(s.leg.Source, []netip.Addr{s.dest}, s.leg.Port, s.leg.Protocol) {
			continue
		}
		narrowest := 0
		for _, src := range m.sources.prefixes {
			if access.PrefixContains(src, s.leg.Source) {
				narrowest = max(narrowest, src.Bits())
			}
		}
		if narrowest > bits || narrowest == bits && cmp.Or(cmp.Compare(m.rule.Priority, best.Priority), cmp.Compare(m.rule.Name, best.Name)) < 0 {
			best, bits = m.rule, narrowest
		}
	}
	if best == nil {
		return nil
	}
	name := strings.ToLower(best.Name)
	if homes[name] == nil {
		homes[name] = &holding{rule: best}
	}
	return homes[name]
}

// settle names the tiles that are new, and tells the legs that the planned rules
// stand for.
func (p *planner) settle() {
	slices.SortFunc(p.board.tiles, func(a, b *tile) int { return cmp.Compare(a.priority, b.priority) })
	for _, t := range p.board.tiles {
		if t.name == "" {
			p.christen(t)
		}
	}
	seen := map[legKey]bool{}
	for _, t := range p.board.tiles {
		for _, l := range t.legs() {
			if seen[keyOf(l)] {
				continue
			}
			seen[keyOf(l)] = true
			p.live = append(p.live, l)
			if l.State == access.LegOpening {
				l.BlockedBy = ""
				p.out.Opening = append(p.out.Opening, l)
			}
		}
	}
}

// christen names a tile after the first of its doors. The name of a rule that is
// there and has no other use is taken over with the rule.
func (p *planner) christen(t *tile) {
	l := slices.MinFunc(t.legs(), func(a, b access.Leg) int {
		return cmp.Or(cmp.Compare(a.VM, b.VM), cmp.Compare(a.Port, b.Port), cmp.Compare(doorOf(a).dests, doorOf(b).dests))
	})
	for n := 0; ; n++ {
		name := p.ruleName(doorOf(l), n)
		if key := strings.ToLower(name); !p.board.names[key] {
			p.board.names[key] = true
			t.name = name
			if have := p.ours[key]; have != nil {
				t.have, t.name = have, have.Name // as Resource Manager knows it
			}
			return
		}
	}
}

func (p *planner) inBand(n int) bool { return n >= p.Band.Low && n <= p.Band.High }

func (p *planner) lowestFree() (int, bool) { return p.board.lowestFree(p.Band) }

func (b *board) lowestFree(band Band) (int, bool) {
	for n := band.Low; n <= band.High; n++ {
		if !b.used[n] {
			return n, true
		}
	}
	return 0, false
}

// verdict is what the group would do with the leg's traffic to the addresses if
// the leg had a rule of its own at the priority. No other rule of ours is
// counted on: it may end at any time.
func (p *planner) verdict(l access.Leg, dests []netip.Addr, at int) Verdict {
	n, _ := slices.BinarySearchFunc(p.fixed, at, func(m matcher, at int) int { return cmp.Compare(m.rule.Priority, at) })
	before := p.fixed[:n]
	if !slices.ContainsFunc(before, func(m matcher) bool { return m.deny }) {
		return Verdict{Outcome: OutcomeAllowed}
	}
	l.Destinations = dests
	t := atoms(sharesOf(l))
	r := p.rule(&tile{protocol: l.Protocol, sources: []netip.Prefix{l.Source}, dests: dests, ports: []uint16{l.Port}, shares: t[0].shares, priority: at})
	return append(slices.Clip(before), newMatcher(&r)).leg(l)
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
