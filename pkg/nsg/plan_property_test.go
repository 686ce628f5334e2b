package nsg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// packet is one kind of packet of the small world. Protocol "*" is one that is
// neither TCP nor UDP.
type packet struct {
	src, dst netip.Addr
	port     uint16
	proto    access.Protocol
}

var everyPacket = func() (out []packet) {
	for src := range byte(8) {
		for dst := range byte(4) {
			for _, port := range []uint16{22, 80, 443} {
				for _, proto := range []access.Protocol{access.TCP, access.UDP, access.AnyProtocol} {
					out = append(out, packet{netip.AddrFrom4([4]byte{10, 0, 0, src}), netip.AddrFrom4([4]byte{10, 0, 1, dst}), port, proto})
				}
			}
		}
	}
	return out
}()

func randomLeg(r *rand.Rand, n int) access.Leg {
	src, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))}).Prefix(29 + r.IntN(4))
	l := access.Leg{
		Request: access.RequestID(fmt.Sprintf("leg%02d", n)), VM: vms + access.ResourceID(pick(r, "web-1", "web-2")), Source: src,
		Port: pick(r, uint16(22), 80), Protocol: pick(r, access.TCP, access.TCP, access.UDP, access.AnyProtocol),
		EndTime: now.Add(time.Duration(r.IntN(20)-1) * time.Minute), OpenBy: now.Add(time.Duration(r.IntN(8)) * time.Minute),
		State: pick(r, access.LegOpening, access.LegOpening, access.LegOpen, access.LegOpen, access.LegClosing, access.LegEnded),
	}
	for range 1 + r.IntN(2) {
		l.Destinations = append(l.Destinations, netip.AddrFrom4([4]byte{10, 0, 1, byte(r.IntN(4))}))
	}
	return l
}

// randomCase is a group on which something was opened before, and edited since.
func randomCase(r *rand.Rand) (Settings, Group, []access.Leg) {
	s := prod
	s.Band = Band{200, 200 + r.IntN(8)}
	var legs []access.Leg
	for n := range r.IntN(8) {
		legs = append(legs, randomLeg(r, n))
	}
	var g Group
	taken := map[int]bool{}
	for n := range r.IntN(4) {
		theirs := Rule{
			Name: fmt.Sprintf("Theirs%d", n), Priority: pick(r, 190, 198, 199, 201, 203, 205, 300), Direction: pick(r, Inbound, Inbound, Inbound, Outbound),
			Access: pick(r, Deny, Deny, Allow), Protocol: pick(r, "*", "Tcp"), Sources: some(r, 2, "*", "10.0.0.0/30", "10.0.0.5", "Internet"),
			SourcePorts: []string{"*"}, Destinations: some(r, 1, "*", "10.0.1.0/31", "10.0.1.2"), DestinationPorts: some(r, 1, "22", "80", "*"),
		}
		if !taken[theirs.Priority] {
			g.Rules = append(g.Rules, theirs)
		}
		taken[theirs.Priority] = true
	}
	// What is open was opening once.
	before := slices.Clone(legs)
	for i := range before {
		before[i].EndTime, before[i].OpenBy = now.Add(20*time.Minute), now.Add(20*time.Minute)
		if before[i].State != access.LegOpening || r.IntN(3) == 0 {
			before[i].State = access.LegOpening
		} else {
			before[i].State = access.LegEnded
		}
	}
	customers := slices.Clone(g.Rules)
	g.Rules = slices.DeleteFunc(g.Rules, func(x Rule) bool { return x.Access == Deny && r.IntN(2) == 0 })
	g = s.Plan(g, before, now).Apply(g)
	for _, c := range customers { // denies that came since, where they still fit
		if !slices.ContainsFunc(g.Rules, func(x Rule) bool { return x.Name == c.Name || x.Priority == c.Priority }) {
			g.Rules = append(g.Rules, c)
		}
	}
	for i := range g.Rules {
		if s.Owns(g.Rules[i]) && r.IntN(3) == 0 {
			edit(r, &g.Rules[i], g.Rules)
		}
	}
	g.Rules = slices.DeleteFunc(g.Rules, func(x Rule) bool { return s.Owns(x) && r.IntN(8) == 0 })
	return s, g, legs
}

func edit(r *rand.Rand, x *Rule, all []Rule) {
	switch r.IntN(9) {
	case 0:
		x.Description = "edited"
	case 1:
		p := pick(r, 150, 201, 202, 204, 400)
		if !slices.ContainsFunc(all, func(o Rule) bool { return o.Priority == p }) {
			x.Priority = p
		}
	case 2:
		x.Sources = some(r, 3, "10.0.0.0/29", "10.0.0.1", "10.0.0.4/30", "*")
	case 3:
		x.Destinations = some(r, 2, "10.0.1.0/30", "10.0.1.1", "10.0.1.2")
	case 4:
		x.DestinationPorts = some(r, 2, "22", "80", "20-90")
	case 5:
		x.Protocol = pick(r, "*", "Tcp", "Udp")
	case 6:
		x.Access = Deny
	case 7:
		x.Name += "-copy"
	case 8:
		x.Sources = append(x.Sources, "Internet")
	}
}

// lets says whether a rule of ours lets the packet through, by itself.
func lets(x Rule, p packet) bool {
	in := func(list []string, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(s string) bool { return s == "*" || s != "Internet" && prefix(s).Contains(a) })
	}
	port := slices.ContainsFunc(x.DestinationPorts, func(s string) bool {
		return s == fmt.Sprint(p.port) || s == "20-90" && p.port < 100
	})
	proto := x.Protocol == "*" || x.Protocol == "Tcp" && p.proto == access.TCP || x.Protocol == "Udp" && p.proto == access.UDP
	return x.Access == Allow && proto && port && in(x.Sources, p.src) && in(x.Destinations, p.dst)
}

func (s Settings) oursLet(g Group, p packet) bool {
	return slices.ContainsFunc(g.Rules, func(x Rule) bool { return s.Owns(x) && lets(x, p) })
}

func legsCover(legs []access.Leg, p packet) bool {
	return slices.ContainsFunc(legs, func(l access.Leg) bool {
		return (l.Protocol == access.AnyProtocol || l.Protocol == p.proto) && l.Port == p.port && l.Source.Contains(p.src) && slices.Contains(l.Destinations, p.dst)
	})
}

// carriedOut gives the legs after the plan's closings were recorded, and those
// of them that the group is to let through.
func carriedOut(p Plan, legs []access.Leg) (after, live []access.Leg) {
	named := func(list []access.Leg, l access.Leg) int {
		return slices.IndexFunc(list, func(c access.Leg) bool { return c.Key() == l.Key() })
	}
	for _, l := range legs {
		if i := named(p.Closing, l); i >= 0 {
			l = p.Closing[i]
		}
		after = append(after, l)
		if l.State == access.LegOpen || named(p.Opening, l) >= 0 {
			live = append(live, l)
		}
	}
	return after, live
}

func TestPlanProperties(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 2))
		s, g, legs := randomCase(r)
		if r.IntN(4) == 0 {
			g.Loss = "something"
		}
		p := s.Plan(g, legs, now)
		next := p.Apply(g)
		after, live := carriedOut(p, legs)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\nplan: %s\nrules before: %+v\nlegs: %+v", seed, fmt.Sprintf(format, args...), told(p), g.Rules, legs)
		}

		for _, pk := range everyPacket {
			was, is := s.oursLet(g, pk), s.oursLet(next, pk)
			if is != legsCover(live, pk) {
				fail("%v: our rules let it through: %t; a live leg covers it: %t", pk, is, !is)
			}
			if is && !was && !legsCover(p.Opening, pk) {
				fail("%v is let through now, and for no leg that is opening", pk)
			}
			if pk.proto == access.AnyProtocol || p.Widens() {
				continue
			}
			f := Flow{Source: netip.PrefixFrom(pk.src, 32), Destination: pk.dst, Port: pk.port, Protocol: pk.proto}
			if next.Evaluate(f).Outcome == OutcomeAllowed && g.Evaluate(f).Outcome != OutcomeAllowed {
				fail("%v passes now, and the plan said that it does not widen", pk)
			}
		}
		for _, l := range p.Opening {
			if v := s.Confirm(next, l); v.Outcome != OutcomeAllowed {
				fail("%s is to open, and then is %s", l.Request, v)
			}
		}
		for _, l := range p.Blocked {
			if l.BlockedBy == "" || l.State != access.LegOpening {
				fail("%s is blocked without a word", l.Request)
			}
		}
		theirs := func(g Group) []Rule {
			return slices.DeleteFunc(slices.Clone(g.Rules), s.grants)
		}
		if diff := cmp.Diff(theirs(g), theirs(next), cmpopts.EquateEmpty()); diff != "" {
			fail("a rule that is not ours has changed: %s", diff)
		}
		priorities := map[int]bool{}
		for _, x := range next.Rules {
			if x.Direction == Inbound && priorities[x.Priority] {
				fail("two inbound rules have the priority %d", x.Priority)
			}
			priorities[x.Priority] = priorities[x.Priority] || x.Direction == Inbound
		}
		if g.Loss != "" && (len(p.Put) > 0 || p.Widens()) {
			fail("what must not be written is")
		}
		if residue := s.Residue(next, after, now); len(residue) != 0 {
			fail("residue after the plan: %v", residue)
		}
		before := s.Residue(g, legs, now)
		for _, x := range g.Rules {
			if !s.Owns(x) || x.Access == Deny {
				continue
			}
			over := slices.Contains(x.Sources, "Internet") || slices.ContainsFunc(x.Sources, func(src string) bool { return src == "*" }) ||
				slices.Contains(x.DestinationPorts, "20-90") || slices.ContainsFunc(everyPacket, func(pk packet) bool { return lets(x, pk) && !legsCover(live, pk) })
			found := slices.ContainsFunc(before, func(y Rule) bool { return y.Name == x.Name })
			if over != found {
				fail("%s lets through too much: %t; is a residue: %t", x.Name, over, found)
			}
		}

		again := s.Plan(next, after, now)
		if !again.Empty() || len(again.Closing) != 0 {
			fail("planning again gives %s", told(again))
		}
		key := func(legs []access.Leg) (out []string) {
			for _, l := range legs {
				out = append(out, l.Key())
			}
			return out
		}
		if !slices.Equal(key(again.Opening), key(p.Opening)) || !slices.Equal(key(again.Blocked), key(p.Blocked)) {
			fail("planning again opens %v and blocks %v", key(again.Opening), key(again.Blocked))
		}

		mixed, mixedLegs := g, slices.Clone(legs)
		mixed.Rules = slices.Clone(g.Rules)
		r.Shuffle(len(mixed.Rules), func(i, j int) { mixed.Rules[i], mixed.Rules[j] = mixed.Rules[j], mixed.Rules[i] })
		r.Shuffle(len(mixedLegs), func(i, j int) { mixedLegs[i], mixedLegs[j] = mixedLegs[j], mixedLegs[i] })
		other := s.Plan(mixed, mixedLegs, now)
		if diff := cmp.Diff(p, other, cmpopts.IgnoreUnexported(Plan{}), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" || p.Widens() != other.Widens() {
			fail("in another order: %s", diff)
		}

		for what, n := range map[string]int{"Closing": len(p.Closing), "Put": len(p.Put), "Remove": len(p.Remove), "Opening": len(p.Opening), "Blocked": len(p.Blocked), "Orphans": len(p.Orphans)} {
			if n > 0 {
				seen[what]++
			}
		}
		if !p.Empty() && !p.Widens() {
			seen["narrowing"]++
		}
	}
	for _, what := range []string{"Closing", "Put", "Remove", "Opening", "Blocked", "Orphans", "narrowing"} {
		if seen[what] < 40 {
			t.Errorf("only %d random plans had %s: the test is weaker than it looks", seen[what], what)
		}
	}
}
