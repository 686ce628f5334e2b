package nsg

import (
	"cmp"
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
	// ours to remove. Both take effect in one write of the whole group: a priority
	// may pass from a removed rule to an added one.
	Put    []Rule
	Remove []string
	// Opening are the Opening legs that the planned rules let through.
	Opening []access.Leg
	// PutBack are the Open legs whose rules the plan puts back, as those of the group
	// were replaced as a whole: an opening, before which the target is to be confirmed.
	PutBack []access.Leg
	// Blocked are the Opening legs that cannot open now, with BlockedBy set.
	Blocked []access.Leg
	// Orphans are those of our rules to be removed that no leg accounts for.
	Orphans []Rule
	// Unshut are the baselines whose deny cannot stand, with BlockedBy set.
	Unshut []access.Baseline

	// narrows is set by planning where nothing in the plan can widen; a plan put
	// together elsewhere is taken to widen.
	narrows bool
}

// Empty says whether there is nothing to write to the group.
func (p Plan) Empty() bool { return len(p.Put) == 0 && len(p.Remove) == 0 }

// Widens says whether some write of the plan can let more through than the
// group does now. It may say so where only the customer's rules prevent it.
func (p Plan) Widens() bool { return !p.Empty() && !p.narrows }

// Apply gives the group as it would be after the plan; g stays as it is. A
// changed rule keeps its place in the list, added ones follow at the end, and
// every other rule is as it was.
func (p Plan) Apply(g Group) Group {
	put := slices.Clone(p.Put)
	var out []Rule
	for _, r := range g.Rules {
		if i := slices.IndexFunc(put, func(n Rule) bool { return strings.EqualFold(n.Name, r.Name) }); i >= 0 {
			out, put = append(out, put[i]), slices.Delete(put, i, i+1)
			continue
		}
		if !slices.ContainsFunc(p.Remove, func(name string) bool { return strings.EqualFold(name, r.Name) }) {
			out = append(out, r)
		}
	}
	g.Rules = append(out, put...)
	return g
}

// Plan says what is to be done on the group for its legs at the time. It is a
// function of its arguments: planning again after the plan was applied gives
// an empty plan, and the order of legs and rules does not matter.
//
// Only a leg in state Opening may add to what a group lets through. An Open leg
// keeps what is there; where no rule of ours covers it any more it ends,
// RemovedExternally. Where a description or a priority was edited, or the rule
// lets through more, the rule is put right. A leg that was Restored is treated
// likewise while it is Opening: it keeps what is there and adds nothing.
//
// Where writing the whole group would lose something of the customer's (g.Loss)
// nothing is put: what is not open yet is blocked, and a rule that lets through
// too much goes as a whole. The legs that shared it end, RemovedExternally,
// rather than that the excess stays. A description is not put right there.
//
// The baselines' deny rules are put and put right. They go only where a row
// says so: one that is on no record stays. Where nothing is left of a baseline
// that was shut, somebody has replaced the group's rules as a whole, and the
// VM's open legs get their rules back instead of ending.
func (s Settings) Plan(g Group, legs []access.Leg, now time.Time, baselines ...access.Baseline) Plan {
	return s.planned(g, legs, now, baselines).out
}

func (s Settings) planned(g Group, legs []access.Leg, now time.Time, rows []access.Baseline) *planner {
	b := s.baselines(g, rows)
	p := &planner{Settings: s, group: b.changes.Apply(g), now: now, legs: legs, vanished: s.vanished(g, rows)}
	defer func() { p.merge(b, rows) }()
	p.readRules()
	p.readLegs()
	if g.Loss != "" {
		p.narrowOnly()
	} else {
		p.place()
		p.write()
	}
	byKey := func(a, b access.Leg) int { return cmp.Compare(a.Key(), b.Key()) }
	slices.SortFunc(p.out.Closing, byKey)
	slices.SortFunc(p.out.Opening, byKey)
	slices.SortFunc(p.out.Blocked, byKey)
	slices.Sort(p.out.Remove)
	slices.SortFunc(p.out.Orphans, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

// planner is one planning at work.
type planner struct {
	Settings
	group Group
	now   time.Time
	legs  []access.Leg

	ours      map[string]*Rule // rules that legs account for, by lower-case name
	matchers  map[string]matcher
	named     map[*Rule]access.Protocol // of those, by their names
	index     map[spot][]*matcher       // of those, by destination and port
	wide      []*matcher                // of those, what stands for more than single ones
	keptRules []*matcher                // those that are left alone
	others    []Rule                    // all rules but those, in both directions
	fixed     evaluator                 // the inbound ones of them
	names     map[string]bool           // their names, in lower case
	used      map[int]bool              // their inbound priorities

	open    []access.Leg // Open, and rules of ours cover them
	asking  []access.Leg // Opening, and nothing wrong with themselves
	pending []access.Leg // those of them that have no place yet
	board   *board
	limit   size
	// repacked says that not even three changed rules a leg were enough.
	repacked bool
	live     []access.Leg // what the planned rules stand for
	out      Plan
	// vanished VMs get the rules of their open legs back.
	vanished map[access.ResourceID]bool
}

// merge adds to the plan what is to be done about the baselines.
func (p *planner) merge(b *baselinePlan, rows []access.Baseline) {
	p.out.Put = slices.Concat(b.changes.Put, p.out.Put)
	p.out.Remove = slices.Concat(b.changes.Remove, p.out.Remove)
	slices.Sort(p.out.Remove)
	p.out.narrows = p.out.narrows && !b.widens
	for _, row := range rows {
		for k, addrs := range shutters(row) {
			name := strings.ToLower(b.baselineRule(k, addrs).Name)
			if why := b.blocked[name]; why != "" && row.State != access.BaselineLifting && !b.Shut(b.group, row) {
				row.BlockedBy = why
				p.out.Unshut = append(p.out.Unshut, row)
				break
			}
		}
	}
}

func (p *planner) readRules() {
	p.ours, p.matchers, p.names, p.used = map[string]*Rule{}, map[string]matcher{}, map[string]bool{}, map[int]bool{}
	p.named, p.index = map[*Rule]access.Protocol{}, map[spot][]*matcher{}
	for i := range p.group.Rules {
		r := &p.group.Rules[i]
		if p.grants(*r) && !p.keeps(*r) {
			p.ours[strings.ToLower(r.Name)] = r
			m := newMatcher(r)
			p.matchers[strings.ToLower(r.Name)] = m
			p.note(&m)
			continue
		}
		if p.grants(*r) {
			m := newMatcher(r)
			p.keptRules = append(p.keptRules, &m)
		}
		p.others = append(p.others, *r)
		p.names[strings.ToLower(r.Name)] = true
		if r.inbound() {
			p.used[r.Priority] = true
		}
	}
	// One that is kept may end at any time: nothing counts on it.
	p.fixed = inOrder(slices.DeleteFunc(slices.Clone(p.others), p.keeps))
}

// note enters a rule of ours where legs look for it.
func (p *planner) note(m *matcher) {
	if found := accessRuleName.FindStringSubmatch(m.rule.Name); found != nil {
		proto := access.Protocol(strings.ToUpper(found[1]))
		if proto == "ANY" {
			proto = access.AnyProtocol
		}
		p.named[m.rule] = proto
	}
	single := !slices.ContainsFunc(m.dests.prefixes, func(d netip.Prefix) bool { return !d.IsSingleIP() }) &&
		!slices.ContainsFunc(m.ports.ranges, func(r portRange) bool { return r.low != r.high })
	if !single {
		p.wide = append(p.wide, m)
		return
	}
	for _, d := range m.dests.prefixes {
		for _, r := range m.ports.ranges {
			at := spot{dest: d.Addr(), port: r.low}
			p.index[at] = append(p.index[at], m)
		}
	}
}

// near gives the rules of ours that may let something through to the port of the
// address.
func (p *planner) near(d netip.Addr, port uint16) []*matcher {
	return append(slices.Clip(p.index[spot{dest: d, port: port}]), p.wide...)
}

// readLegs tells the legs that may stand for a rule from those that must close.
func (p *planner) readLegs() {
	for _, l := range p.legs {
		switch {
		case !l.Live():
		case !l.EndTime.After(p.now):
			p.end(l, access.Expired)
		case l.State == access.LegOpen && defect(l) == "" && p.covered(l):
			p.open = append(p.open, l)
		case l.State == access.LegOpen && defect(l) == "" && p.vanished[l.VM] && p.group.Loss == "":
			p.open, p.out.PutBack = append(p.open, l), append(p.out.PutBack, l)
		case l.State == access.LegOpen && p.covers(p.keptRules, l):
			// It goes by a rule that is left alone.
		case l.State == access.LegOpen:
			p.end(l, access.RemovedExternally)
		case !l.OpenBy.After(p.now):
			p.end(l, access.NotOpenedInTime)
		case defect(l) != "":
			p.block(l, defect(l))
		case l.EndTime.After(p.now.Add(p.MaxGrant + clockSkew)):
			// Its rule would count as a forgery from the first moment.
			p.block(l, "its end is further ahead than the longest grant allowed")
		case l.Restored && p.covered(l):
			p.open = append(p.open, l)
		case l.Restored && p.covers(p.keptRules, l):
			// Likewise; it is not confirmed before that rule is its own.
		case l.Restored:
			p.end(l, access.RemovedExternally)
		default:
			p.asking = append(p.asking, l)
		}
	}
	// The order in which they ask for what is scarce: first come, first served.
	slices.SortFunc(p.asking, func(a, b access.Leg) int {
		return cmp.Or(a.OpenBy.Compare(b.OpenBy), cmp.Compare(a.Key(), b.Key()))
	})
}

// covers says whether the rules cover the leg: to each of its addresses one.
func (p *planner) covers(rules []*matcher, l access.Leg) bool {
	return defect(l) == "" && !slices.ContainsFunc(destinationsOf(l), func(d netip.Addr) bool {
		return !slices.ContainsFunc(rules, func(m *matcher) bool { return m.covers(l.Source, []netip.Addr{d}, l.Port, l.Protocol) })
	})
}

// covered says whether rules of ours in the group cover the leg: to each of its
// addresses one.
func (p *planner) covered(l access.Leg) bool {
	return !slices.ContainsFunc(destinationsOf(l), func(d netip.Addr) bool {
		return !slices.ContainsFunc(p.near(d, l.Port), func(m *matcher) bool {
			return m.covers(l.Source, []netip.Addr{d}, l.Port, l.Protocol)
		})
	})
}

// defect says what is wrong with a leg whose rule would let through something
// else than anybody decided; "" for nothing. What was recorded is not trusted
// to be what was once checked.
func defect(l access.Leg) string {
	switch src := l.Source; {
	case l.VM == "" || len(l.Destinations) == 0:
		return "the record names no virtual machine or no address of it"
	case !src.IsValid() || src != src.Masked() || src.Bits() == 0 || src.Addr().Is4In6():
		return "the record's source is not an address or a range of them"
	case l.Port == 0 || l.Protocol != access.TCP && l.Protocol != access.UDP && l.Protocol != access.AnyProtocol:
		return "the record names no port or no protocol"
	}
	for _, d := range l.Destinations {
		if d.BitLen() != l.Source.Addr().BitLen() || d.Is4In6() || d.Zone() != "" || d.IsUnspecified() {
			return "the record's source and destinations are not addresses of one family"
		}
	}
	return ""
}

func (p *planner) endFor(l access.Leg, reason access.StatusReason, why string) {
	l.BlockedBy = why
	p.end(l, reason)
}

func (p *planner) end(l access.Leg, reason access.StatusReason) {
	l.State, l.Reason, l.ClosingAt = access.LegClosing, reason, p.now
	p.out.Closing = append(p.out.Closing, l)
}

func (p *planner) block(l access.Leg, why string) {
	l.BlockedBy = why
	p.out.Blocked = append(p.out.Blocked, l)
}

// write compares what is wanted with what is there.
func (p *planner) write() {
	p.out.narrows = true
	wanted := map[string]bool{}
	for _, t := range p.board.tiles {
		want := p.rule(t)
		wanted[strings.ToLower(want.Name)] = true
		if t.have == nil || !same(*t.have, want) {
			p.out.Put = append(p.out.Put, want)
			p.out.narrows = p.out.narrows && p.within(t)
		}
	}
	slices.SortFunc(p.out.Put, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	for name, r := range p.ours {
		if !wanted[name] {
			p.remove(r)
		}
	}
}

// within says whether a tile's rule surely lets through no more than the one
// that it replaces: no other traffic, and at no earlier place.
func (p *planner) within(t *tile) bool {
	if t.have == nil || t.priority < t.have.Priority {
		return false
	}
	have := p.matchers[strings.ToLower(t.have.Name)]
	return !slices.ContainsFunc(t.shares, func(s share) bool {
		return !have.covers(s.leg.Source, []netip.Addr{s.dest}, s.leg.Port, s.leg.Protocol)
	})
}

func (p *planner) remove(r *Rule) {
	p.out.Remove = append(p.out.Remove, r.Name)
	p.out.narrows = p.out.narrows && !r.denies()
	if _, ok := p.namesake(r.Name, p.legs); !ok {
		p.out.Orphans = append(p.out.Orphans, *r)
	}
}

// same says whether a rule that is there means and states what is wanted.
func same(have, want Rule) bool {
	return have.allows() && strings.EqualFold(have.Protocol, want.Protocol) &&
		have.Priority == want.Priority && have.Description == want.Description &&
		len(have.SourceASGs) == 0 && len(have.DestinationASGs) == 0 &&
		samePrefixes(have.Sources, want.Sources) && samePrefixes(have.Destinations, want.Destinations) &&
		slices.Equal(have.SourcePorts, want.SourcePorts) && slices.Equal(have.DestinationPorts, want.DestinationPorts)
}

// samePrefixes compares what the lists mean: Resource Manager may give a prefix
// back in another form or order.
func samePrefixes(have, want []string) bool {
	read := func(list []string) ([]netip.Prefix, bool) {
		a := readAddresses(list, nil)
		return sortedPrefixes(a.prefixes), a.exact
	}
	h, exact := read(have)
	w, _ := read(want)
	return exact && slices.Equal(h, w)
}
