package nsg

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// baselineRuleName is how the names of our baseline rules end.
var baselineRuleName = regexp.MustCompile(`(?i)-deny-(?:tcp|udp|any)-v[46]-[a-z2-7]{16}$`)

// shutter is what one baseline rule denies, but for the destinations: some
// ports by one protocol, in one family, from everywhere but some sources. All
// VMs of a group that ask for the same share one rule.
type shutter struct {
	protocol access.Protocol
	v6       bool
	ports    string // sorted, comma-separated: comparable
	standing string // the same
}

// shutters gives what a baseline asks to deny, with the addresses it is asked for.
func shutters(b access.Baseline) map[shutter][]netip.Addr {
	out := map[shutter][]netip.Addr{}
	for _, proto := range []access.Protocol{access.TCP, access.UDP, access.AnyProtocol} {
		var ports []int
		for _, p := range b.Ports {
			if p.Protocol == proto {
				ports = append(ports, int(p.Number))
			}
		}
		slices.Sort(ports)
		for _, d := range b.Destinations {
			if len(ports) == 0 {
				break
			}
			k := shutter{protocol: proto, v6: d.Is6(), ports: join(slices.Compact(ports)), standing: standing(b, d.Is6())}
			out[k] = append(out[k], d)
		}
	}
	return out
}

func join(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ",")
}

func standing(b access.Baseline, v6 bool) string {
	var list []netip.Prefix
	for _, p := range b.Standing {
		if p.Addr().Is6() == v6 {
			list = append(list, p.Masked())
		}
	}
	var out []string
	for _, p := range union(list) {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

// baselineRule makes the rule of a shutter, but for its priority.
func (s Settings) baselineRule(k shutter, dests []netip.Addr) Rule {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%t\n%s\n%s", k.protocol, k.v6, k.ports, k.standing))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	proto, family, protocol := "any", 4, "*"
	if k.protocol != access.AnyProtocol {
		proto = strings.ToLower(string(k.protocol))
		protocol = proto[:1]
		protocol = strings.ToUpper(protocol) + proto[1:]
	}
	if k.v6 {
		family = 6
	}
	r := Rule{
		Name:        fmt.Sprintf("%sdeny-%s-v%d-%s", s.prefix(), proto, family, hash),
		Description: shorten(fmt.Sprintf("Portcullis %s: shut %s/%s unless access is granted", s.Installation, k.ports, k.protocol)),
		Direction:   Inbound, Access: Deny, Protocol: protocol, Sources: k.sources(), SourcePorts: []string{"*"},
		DestinationPorts: strings.Split(k.ports, ","),
	}
	slices.SortFunc(dests, netip.Addr.Compare)
	for _, d := range slices.Compact(dests) {
		r.Destinations = append(r.Destinations, d.String())
	}
	return r
}

func shorten(s string) string {
	if len(s) <= MaxDescription {
		return s
	}
	return s[:MaxDescription-3] + "..."
}

// sources is everywhere but the standing sources. An allow rule for those would
// be simpler and would let in what the customer's own rules do not; leaving them
// out of the deny lets nothing in.
func (k shutter) sources() []string {
	if k.standing == "" {
		return []string{"*"}
	}
	every := everyIPv4
	if k.v6 {
		every = everyIPv6
	}
	var holes []netip.Prefix
	for s := range strings.SplitSeq(k.standing, ",") {
		if p, err := netip.ParsePrefix(s); err == nil {
			holes = append(holes, p)
		}
	}
	var out []string
	for _, p := range subtract([]netip.Prefix{every}, holes) {
		out = append(out, access.FormatPrefix(p))
	}
	return out
}

// Shuts says whether a rule is one of our baseline rules.
func (s Settings) Shuts(r Rule) bool { return s.named(r) && r.denies() }

// named says whether a rule has the name of a baseline rule, whatever somebody
// made of it.
func (s Settings) named(r Rule) bool { return s.Owns(r) && baselineRuleName.MatchString(r.Name) }

// baselinePlan is the part of a plan that is about baselines.
type baselinePlan struct {
	Settings
	group   Group
	wanted  map[string]Rule     // by lower-case name, with the destinations on record
	claimed map[netip.Addr]bool // addresses about which the record decides
	used    map[int]bool
	revised []revised
	changes Plan
	widens  bool
	blocked map[string]string // by lower-case name: why the rule cannot stand
}

// revised is a baseline rule that is there, as it is and as it is to be.
type revised struct{ have, want Rule }

// baselines plans the baseline rules of the group. A destination of such a rule
// that is on no record stays in it: absence never opens.
func (s Settings) baselines(g Group, list []access.Baseline) *baselinePlan {
	b := &baselinePlan{Settings: s, group: g, wanted: map[string]Rule{}, claimed: map[netip.Addr]bool{}, used: map[int]bool{}, blocked: map[string]string{}}
	b.read(list)
	if g.Loss != "" {
		for name := range b.wanted {
			b.blocked[name] = "writing this network security group as a whole would lose " + g.Loss + ", which this version does not know"
		}
		return b
	}
	for _, r := range g.Rules {
		if r.inbound() {
			b.used[r.Priority] = true
		}
	}
	for _, r := range g.Rules {
		b.revise(r)
	}
	b.moveBack()
	for _, name := range slices.Sorted(maps.Keys(b.wanted)) {
		b.add(name)
	}
	return b
}

func (b *baselinePlan) read(list []access.Baseline) {
	dests := map[shutter][]netip.Addr{}
	for _, row := range list {
		for _, d := range slices.Concat(row.Destinations, row.Release) {
			b.claimed[d] = true
		}
		if row.State == access.BaselineLifting {
			continue
		}
		for k, addrs := range shutters(row) {
			dests[k] = append(dests[k], addrs...)
		}
	}
	for k, addrs := range dests {
		r := b.baselineRule(k, addrs)
		b.wanted[strings.ToLower(r.Name)] = r
	}
}

// revise says what becomes of a baseline rule that is there.
func (b *baselinePlan) revise(have Rule) {
	name := strings.ToLower(have.Name)
	want, wanted := b.wanted[name]
	if !b.named(have) {
		if wanted && !have.inbound() {
			b.blocked[name] = "a rule of the name " + have.Name + " stands in this network security group and is not one that may be replaced: have it renamed"
		}
		return
	}
	var kept, dropped []string
	for _, d := range have.Destinations {
		if a, err := netip.ParseAddr(d); err == nil && !b.claimed[a] {
			kept = append(kept, d)
		} else if err == nil && !slices.Contains(want.Destinations, d) {
			dropped = append(dropped, d)
		}
	}
	switch {
	case wanted:
		want.Name, want.Priority = have.Name, have.Priority
		want.Destinations = slices.Concat(want.Destinations, kept)
		slices.Sort(want.Destinations)
		want.Destinations = slices.Compact(want.Destinations)
	case len(dropped) == 0:
		return
	case len(kept) == 0 && len(dropped) == len(have.Destinations):
		b.changes.Remove, b.widens = append(b.changes.Remove, have.Name), true
		delete(b.used, have.Priority)
		return
	default:
		want = have
		want.Destinations = slices.DeleteFunc(slices.Clone(have.Destinations), func(d string) bool { return slices.Contains(dropped, d) })
	}
	delete(b.wanted, name)
	b.revised = append(b.revised, revised{have, want})
}

// moveBack writes the rules that are to be changed, those that somebody moved
// out of the band back in it; while the band is full they stay where they are.
func (b *baselinePlan) moveBack() {
	for _, r := range b.revised {
		if !b.inBaselineBand(r.have.Priority) {
			if free, ok := b.free(); ok {
				delete(b.used, r.have.Priority)
				r.want.Priority, b.used[free] = free, true
			}
		}
		if sameDeny(r.have, r.want) {
			continue
		}
		b.changes.Put = append(b.changes.Put, r.want)
		b.widens = b.widens || r.have.denies() && !atLeast(r.want, r.have)
	}
}

// add places a baseline rule that is not there yet.
func (b *baselinePlan) add(name string) {
	if b.blocked[name] != "" {
		return
	}
	r := b.wanted[name]
	free, ok := b.free()
	if !ok {
		b.blocked[name] = fmt.Sprintf("no priority is free between %d and %d in this network security group: have one of its rules moved, or the band of the baselines widened",
			b.Baseline.Low, b.Baseline.High)
		return
	}
	r.Priority = free
	if !b.fits(r) {
		b.blocked[name] = fmt.Sprintf("the network security group is full: it can hold %d rules and %d addresses or ranges a side", MaxRules, MaxPrefixesPerSide)
		return
	}
	b.used[free] = true
	b.changes.Put = append(b.changes.Put, r)
}

func (b *baselinePlan) fits(r Rule) bool {
	rules := append(b.changes.Apply(b.group).Rules, r)
	sources, dests := 0, 0
	for _, x := range rules {
		sources += len(x.Sources) + len(x.SourceASGs)
		dests += len(x.Destinations) + len(x.DestinationASGs)
	}
	return len(rules) <= MaxRules && sources <= MaxPrefixesPerSide && dests <= MaxPrefixesPerSide
}

func (b *baselinePlan) inBaselineBand(n int) bool { return b.Baseline.Low <= n && n <= b.Baseline.High }

func (b *baselinePlan) free() (int, bool) {
	for n := b.Baseline.Low; n <= b.Baseline.High && n > 0; n++ {
		if !b.used[n] {
			return n, true
		}
	}
	return 0, false
}

// sameDeny says whether a baseline rule that is there means and states what is
// wanted.
func sameDeny(have, want Rule) bool {
	want.Access = Allow // same compares all but the access, which is Deny in both
	was := have.Access
	have.Access = Allow
	return strings.EqualFold(string(was), string(Deny)) && same(have, want)
}

// atLeast says whether a rule surely denies all that another does, no later.
func atLeast(now, before Rule) bool {
	if now.Priority > before.Priority || len(before.SourceASGs)+len(before.DestinationASGs) > 0 {
		return false
	}
	holds := func(wide, narrow []string) bool {
		for _, s := range narrow {
			if !slices.Contains(wide, s) && !slices.Contains(wide, "*") {
				return false
			}
		}
		return true
	}
	return (strings.EqualFold(now.Protocol, before.Protocol) || now.Protocol == "*") && holds(now.Sources, before.Sources) &&
		holds(now.Destinations, before.Destinations) && holds(now.DestinationPorts, before.DestinationPorts) && holds(now.SourcePorts, before.SourcePorts)
}

// Shut says whether the group holds all the deny rules that the baseline asks
// for. Traffic may pass them all the same: see [Settings.Past].
func (s Settings) Shut(g Group, row access.Baseline) bool {
	for k, addrs := range shutters(row) {
		want := s.baselineRule(k, addrs)
		i := slices.IndexFunc(g.Rules, func(r Rule) bool { return s.Shuts(r) && strings.EqualFold(r.Name, want.Name) })
		if i < 0 {
			return false
		}
		have := g.Rules[i]
		for _, d := range want.Destinations {
			if !slices.Contains(have.Destinations, d) {
				return false
			}
		}
		want.Priority, want.Destinations = have.Priority, have.Destinations
		if !sameDeny(have, want) {
			return false
		}
	}
	return len(row.Destinations) > 0
}

// Lifted says whether no baseline rule of the group denies anything to an
// address that the row asks to let go: all of a Lifting one, and what it
// releases. An address that another of the rows asks to shut is not counted.
func (s Settings) Lifted(g Group, row access.Baseline, all []access.Baseline) bool {
	gone := slices.Clone(row.Release)
	if row.State == access.BaselineLifting {
		gone = append(gone, row.Destinations...)
	}
	for _, o := range all {
		if o.State != access.BaselineLifting {
			gone = slices.DeleteFunc(gone, func(a netip.Addr) bool { return slices.Contains(o.Destinations, a) })
		}
	}
	return !s.deniesAny(g, gone)
}

func (s Settings) deniesAny(g Group, addrs []netip.Addr) bool {
	return slices.ContainsFunc(g.Rules, func(r Rule) bool {
		return s.Shuts(r) && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(r.Destinations, a.String()) })
	})
}

// vanished tells the VMs whose baselines were shut and of which the group holds
// nothing at all any more: its rules were replaced as a whole, as a redeploy of
// infrastructure does. Their live grants are put back with the baseline.
func (s Settings) vanished(g Group, rows []access.Baseline) map[access.ResourceID]bool {
	out := map[access.ResourceID]bool{}
	for _, row := range rows {
		if row.State == access.BaselineShut && len(row.Destinations) > 0 && !s.deniesAny(g, row.Destinations) {
			out[row.VM] = true
		}
	}
	return out
}
