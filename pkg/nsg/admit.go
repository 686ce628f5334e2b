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

// admit repeats over those that ask until nothing more can be had: what opens
// the way for one may open it for another.
func (p *planner) admit() {
	why := map[legKey]string{}
	for changed := true; changed; {
		changed = false
		p.pending = slices.DeleteFunc(p.pending, func(l access.Leg) bool {
			obstacle := p.offer(sharesOf(l), true)
			why[keyOf(l)] = obstacle
			changed = changed || obstacle == ""
			return obstacle == ""
		})
	}
	for _, l := range p.pending {
		p.block(l, why[keyOf(l)])
	}
}

// offer finds a rule for what a leg asks for, or says what is in the way. In
// this order: a rule that lets it through already; the rule of the same door;
// a rule of its own, as long as our rules take no more than half the band; one
// that differs in the destination or the port alone; a place that two rules leave
// by becoming one; and a packing anew of all that stands. All but the last
// change three rules at most.
//
// With judge it is a leg that asks, and must pass what stands before our rules.
func (p *planner) offer(shares []share, judge bool) string {
	l := shares[0].leg
	var open, held []share
	for _, s := range shares {
		t := p.board.holder(s)
		if t == nil {
			open = append(open, s)
			continue
		}
		held = append(held, s)
		if v := p.judged(judge, l, []netip.Addr{s.dest}, t.priority); v.Outcome != OutcomeAllowed {
			return p.obstacle(l, v)
		}
	}
	if len(open) > 0 {
		if why := p.find(open, judge); why != "" {
			return why
		}
	}
	for _, s := range held {
		t := p.board.holder(s)
		t.shares = append(t.shares, s)
	}
	return ""
}

func (p *planner) judged(judge bool, l access.Leg, dests []netip.Addr, at int) Verdict {
	if !judge {
		return Verdict{Outcome: OutcomeAllowed}
	}
	return p.verdict(l, dests, at)
}

// find puts a source on the board for one leg at some of its addresses, where
// no tile holds it yet.
func (p *planner) find(open []share, judge bool) string {
	l := open[0].leg
	want := atoms(open)[0]
	for _, t := range atoms(open)[1:] {
		want.take(t)
	}
	want.seal()
	obstacle := ""
	try := func(d dimension) bool {
		ok, v := p.extend(want, d, judge)
		if v.Outcome == OutcomeDenied || v.Outcome == OutcomeUnknown {
			obstacle = p.obstacle(l, v)
		}
		return ok
	}
	if try(bySource) {
		return ""
	}
	roomy := len(p.board.tiles) < max(1, (p.Band.High-p.Band.Low+1)/2)
	if !roomy && (try(byDest) || try(byPort)) {
		return ""
	}
	free, ok := p.lowestFree()
	if ok {
		if v := p.judged(judge, l, want.dests, free); v.Outcome != OutcomeAllowed {
			return p.obstacle(l, v) // the best place that there is
		}
		if p.board.total.plus(want.size()).within(p.limit) {
			want.priority = free
			p.board.put(want)
			return ""
		}
	}
	if roomy && (try(byDest) || try(byPort)) || p.unite(want, judge) || p.repack(open, judge) {
		return ""
	}
	switch {
	case obstacle != "":
		return obstacle
	case !ok:
		return fmt.Sprintf("no priority is free between %d and %d in this network security group, and no two of its grants can share a rule: wait for a grant to end, or have the band widened",
			p.Band.Low, p.Band.High)
	}
	return fmt.Sprintf("the network security group is full, however its grants share rules: it can hold %d rules and %d addresses or ranges a side", MaxRules, MaxPrefixesPerSide)
}

// extend adds what is wanted to a tile that differs from it in the dimension
// alone. Where one would do but for what stands before our rules, it gives the
// verdict.
func (p *planner) extend(want *tile, d dimension, judge bool) (done bool, denied Verdict) {
	for _, t := range p.candidates(want, d) {
		if t.without(d) != want.without(d) {
			continue
		}
		if v := p.judged(judge, want.shares[0].leg, want.dests, t.priority); v.Outcome != OutcomeAllowed {
			denied = v
			continue
		}
		if !p.board.total.minus(t.size()).plus(t.sizeWith(want, d)).within(p.limit) {
			continue
		}
		p.board.total = p.board.total.minus(t.size())
		t.widen(want, d)
		p.board.total = p.board.total.plus(t.size())
		if d != bySource {
			for _, s := range want.spots() {
				p.board.at[s] = append(p.board.at[s], t)
			}
		}
		return true, Verdict{}
	}
	return false, denied
}

// sizeWith is the tile's size once it is widened.
func (t *tile) sizeWith(o *tile, d dimension) size {
	n := t.size()
	switch d {
	case bySource:
		n.sources = len(withSource(slices.Clone(t.sources), o.sources[0]))
	case byDest:
		n.dests += len(o.dests)
	}
	return n
}

// candidates gives the tiles that may differ from the wanted one in the
// dimension alone.
func (p *planner) candidates(want *tile, d dimension) []*tile {
	if d == bySource {
		return p.board.at[want.spots()[0]]
	}
	return p.board.tiles
}

// unite makes one tile of two that are equal in two dimensions, which frees a
// place, and puts what is wanted there.
func (p *planner) unite(want *tile, judge bool) bool {
	for _, d := range []dimension{bySource, byDest, byPort} {
		found := map[likeness]*tile{}
		for _, t := range p.board.tiles {
			first, ok := found[t.without(d)]
			if !ok {
				found[t.without(d)] = t
				continue
			}
			if first.astray || t.astray {
				continue
			}
			if p.replace(first, t, want, judge) {
				return true
			}
		}
	}
	return false
}

// replace puts one tile in place of two, at the better priority of both, and what
// is wanted beside it, if that has room and passes.
func (p *planner) replace(a, b, want *tile, judge bool) bool {
	if a.priority > b.priority {
		a, b = b, a
	}
	both := *a
	both.sources, both.dests, both.ports = slices.Concat(a.sources, b.sources), slices.Concat(a.dests, b.dests), slices.Concat(a.ports, b.ports)
	both.shares = slices.Concat(a.shares, b.shares)
	both.seal()
	if !p.board.total.minus(a.size()).minus(b.size()).plus(both.size()).plus(want.size()).within(p.limit) {
		return false
	}
	free, ok := p.lowestFree()
	if !ok || b.priority < free {
		free = b.priority
	}
	if p.judged(judge, want.shares[0].leg, want.dests, free).Outcome != OutcomeAllowed {
		return false
	}
	p.board.take(a)
	p.board.take(b)
	p.board.put(&both)
	want.priority = free
	p.board.put(want)
	return true
}

// repack packs all that stands on the board anew, together with what is wanted,
// and keeps it if it has room and shuts nobody out.
func (p *planner) repack(open []share, judge bool) bool {
	all := slices.Clone(open)
	for _, t := range p.board.tiles {
		all = append(all, t.shares...)
	}
	old := p.board
	for _, tiles := range p.packed(all) {
		if p.board = p.anew(tiles, old); p.board != nil && p.board.total.within(p.limit) && (!judge || p.passes(old)) {
			p.repacked = true
			return true
		}
	}
	p.board = old
	return false
}

// packed gives the shares packed in every way there is, that of the fewest rules
// first.
func (p *planner) packed(shares []share) (out [][]*tile) {
	for _, order := range packings {
		out = append(out, pack(shares, order))
	}
	slices.SortStableFunc(out, func(a, b []*tile) int { return cmp.Compare(len(a), len(b)) })
	return out
}

// anew puts tiles on a board of their own. Each keeps the name and the priority
// of a rule that is there and named after one of its doors, as long as there are
// such; nil where the band has no room.
func (p *planner) anew(tiles []*tile, old *board) *board {
	b := p.newBoard()
	slices.SortStableFunc(tiles, func(a, b *tile) int { return cmp.Compare(len(b.shares), len(a.shares)) })
	names := map[string][]*tile{} // by their stems
	for _, t := range old.tiles {
		if len(t.name) > hashLength && p.inBand(t.priority) {
			stem := strings.ToLower(t.name[:len(t.name)-hashLength])
			names[stem] = append(names[stem], t)
		}
	}
	var homeless []*tile
	for _, t := range tiles {
		t.have, t.name, t.priority, t.astray = nil, "", 0, false
		if !p.takeOver(t, names) {
			homeless = append(homeless, t)
			continue
		}
		b.put(t)
	}
	for _, t := range homeless {
		free, ok := b.lowestFree(p.Band)
		if !ok {
			return nil
		}
		t.priority = free
		b.put(t)
	}
	return b
}

// takeOver gives a tile one of the names and its priority, if one fits.
func (p *planner) takeOver(t *tile, names map[string][]*tile) bool {
	for _, l := range t.legs() {
		stem := strings.ToLower(p.stem(l.VM, l.Port, l.Protocol))
		for i, was := range names[stem] {
			if _, ok := p.namesake(was.name, []access.Leg{l}); ok {
				t.have, t.name, t.priority = was.have, was.name, was.priority
				names[stem] = slices.Delete(names[stem], i, i+1)
				return true
			}
		}
	}
	return false
}

// passes says whether everything on the board passes what stands before it, but
// for what did not pass before.
func (p *planner) passes(old *board) bool {
	for _, t := range p.board.tiles {
		for _, s := range t.shares {
			if p.verdict(s.leg, []netip.Addr{s.dest}, t.priority).Outcome == OutcomeAllowed {
				continue
			}
			was := old.holder(s)
			if was == nil || p.verdict(s.leg, []netip.Addr{s.dest}, was.priority).Outcome == OutcomeAllowed {
				return false
			}
		}
	}
	return true
}

// layAnew packs what is open anew, because it has no room as it stands: what is
// left of a rule when one of its legs has ended can take more rules than one.
// Where there is no room even so, the fewest end.
func (p *planner) layAnew() {
	p.board, p.pending, p.repacked = p.newBoard(), slices.Clone(p.asking), true
	open := slices.Clone(p.open)
	for {
		var shares []share
		for _, l := range open {
			shares = append(shares, sharesOf(l)...)
		}
		ways := p.packed(shares)
		for _, tiles := range ways {
			if b := p.anew(tiles, p.standing()); b != nil && b.total.within(p.limit) {
				p.board = b
				return
			}
		}
		gone := smallest(ways[0])
		open = slices.DeleteFunc(open, func(l access.Leg) bool {
			if gone[keyOf(l)] {
				p.endFor(l, access.NoRoom, "what was left of the grants on this network security group needed more rules than it can hold")
			}
			return gone[keyOf(l)]
		})
	}
}

// standing are the names and priorities of the rules that are there.
func (p *planner) standing() *board {
	b := &board{}
	for _, name := range slices.Sorted(maps.Keys(p.ours)) {
		if r := p.ours[name]; r.allows() && p.inBand(r.Priority) && !p.used[r.Priority] {
			b.tiles = append(b.tiles, &tile{name: r.Name, have: r, priority: r.Priority})
		}
	}
	return b
}

// smallest gives the legs of the tile that stands for the fewest.
func smallest(tiles []*tile) map[legKey]bool {
	t := slices.MinFunc(tiles, func(a, b *tile) int {
		return cmp.Or(cmp.Compare(len(a.shares), len(b.shares)), cmp.Compare(a.key(byDest), b.key(byDest)), cmp.Compare(a.key(byPort), b.key(byPort)), cmp.Compare(a.key(bySource), b.key(bySource)))
	})
	gone := map[legKey]bool{}
	for _, l := range t.legs() {
		gone[keyOf(l)] = true
	}
	return gone
}
