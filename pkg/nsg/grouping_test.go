package nsg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// town is a small world of grants that come and go one at a time, in a band with
// little room.
type town struct {
	Settings
	r     *rand.Rand
	group Group
	// machines and sources are how many there are: the fewer, the more is alike.
	machines, sources int
	legs              []access.Leg
	next              int
}

// vmAddresses are the fixed addresses of the nth machine: some have two.
func vmAddresses(n int) []netip.Addr {
	first := netip.AddrFrom4([4]byte{10, 0, 1, byte(2 * n)})
	if n%3 == 0 {
		return []netip.Addr{first, first.Next()}
	}
	return []netip.Addr{first}
}

func (w *town) ask() access.Leg {
	vm := w.r.IntN(w.machines)
	src, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(w.r.IntN(w.sources))}).Prefix(pick(w.r, 32, 32, 32, 32, 32, 30))
	w.next++
	return access.Leg{
		Request: access.RequestID(fmt.Sprintf("leg%04d", w.next)), VM: vms + access.ResourceID(fmt.Sprintf("web-%d", vm)), Source: src, Destinations: vmAddresses(vm),
		Port: pick(w.r, uint16(22), 22, 80, 443), Protocol: pick(w.r, access.TCP, access.TCP, access.TCP, access.TCP, access.AnyProtocol),
		EndTime: now.Add(time.Duration(10+w.r.IntN(600)) * time.Second), OpenBy: now.Add(5 * time.Minute), State: access.LegOpening,
	}
}

// step adds a grant or ends one, and carries the plan out. Now and then it ends
// one in three at once.
func (w *town) step(shrinks bool) (_ *planner, _ Group, one bool) {
	before := w.group
	one = w.r.IntN(12) > 0
	end := func(l *access.Leg) { l.State, l.Reason, l.ClosingAt = access.LegClosing, access.UserRequested, now }
	if n := len(w.legs); !one {
		for i := range w.legs {
			if w.r.IntN(3) == 0 {
				end(&w.legs[i])
			}
		}
	} else if n > 0 && (w.r.IntN(100) < 15 || shrinks && w.r.IntN(100) < 70) {
		end(&w.legs[w.r.IntN(n)])
	} else {
		w.legs = append(w.legs, w.ask())
	}
	p := w.planned(w.group, w.legs, now, nil)
	w.group = p.out.Apply(w.group)
	keys := func(list []access.Leg) map[string]bool {
		out := map[string]bool{}
		for _, l := range list {
			out[l.Key()] = true
		}
		return out
	}
	opening, gone := keys(p.out.Opening), keys(slices.Concat(p.out.Closing, p.out.Blocked))
	var left []access.Leg
	for _, l := range w.legs {
		if opening[l.Key()] {
			l.State = access.LegOpen
		}
		if l.State == access.LegOpen && !gone[l.Key()] {
			left = append(left, l)
		}
	}
	w.legs = left
	return p, before, one
}

// everyCell is all that anybody can ask for in the town.
func everyCell() (out []packet) {
	for src := range byte(8) {
		for dst := range byte(12) {
			for _, port := range []uint16{22, 80, 443} {
				for _, proto := range []access.Protocol{access.TCP, access.UDP} {
					out = append(out, packet{netip.AddrFrom4([4]byte{10, 0, 0, src}), netip.AddrFrom4([4]byte{10, 0, 1, dst}), port, proto})
				}
			}
		}
	}
	return out
}

// What our rules let through is at every step what the grants give, however the
// rules are shared; one grant changes three rules at most; a rule states a
// deadline by which everything in it is still granted; nothing is refused that a
// full repacking could have held, and in the end nothing is left.
func TestGroupingOverTime(t *testing.T) {
	cells := everyCell()
	seen := map[string]int{}
	for seed := range uint64(80) {
		w := &town{Settings: prod, r: rand.New(rand.NewPCG(seed, 7)), machines: 2 + int(seed)%5, sources: 2 + int(seed)%7}
		w.Band = Band{200, 200 + int(seed)%13}
		for step := range 60 {
			p, before, one := w.step(step%40 > 25)
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("seed %d, step %d: %s\nplan: %s\nrules before: %+v\nlegs: %+v", seed, step, fmt.Sprintf(format, args...), told(p.out), before.Rules, w.legs)
			}
			if n := len(p.out.Put) + len(p.out.Remove); n > 3 && one && !p.repacked {
				fail("one grant changes %d rules", n)
			}
			if p.repacked {
				seen["repacked"]++
			}
			for _, c := range cells {
				if got, want := w.oursLet(w.group, c), legsCover(w.legs, c); got != want {
					fail("%v is let through: %t; is granted: %t", c, got, want)
				}
			}
			for _, r := range w.group.Rules {
				at, ok := w.Deadline(r)
				if !ok {
					fail("%q cannot be read", r.Description)
				}
				if len(r.Destinations)*len(r.Sources)*len(r.DestinationPorts) > 1 {
					seen["shared"]++
				}
				lasting := slices.DeleteFunc(slices.Clone(w.legs), func(l access.Leg) bool { return l.EndTime.Before(at) })
				for _, c := range cells {
					if lets(r, c) && !legsCover(lasting, c) {
						fail("%s lets %v through until %s, and no grant lasts until then", r.Name, c, at)
					}
				}
			}
			for _, l := range p.out.Blocked {
				seen["blocked"]++
				if !strings.Contains(l.BlockedBy, "no two of its grants can share a rule") {
					fail("blocked by %q", l.BlockedBy)
				}
				for _, order := range packings {
					if n := len(pack(allShares(append(slices.Clone(w.legs), l)), order)); n <= w.Band.High-w.Band.Low+1 {
						fail("refused, and %d rules would have done", n)
					}
				}
			}
			for _, l := range p.out.Closing {
				seen[string(l.Reason)]++
				if l.Reason != access.NoRoom || l.BlockedBy == "" {
					fail("%s ends: %s %s", l.Request, l.Reason, l.BlockedBy)
				}
			}
			if again := w.Plan(w.group, w.legs, now); !again.Empty() || len(again.Closing) > 0 {
				fail("planning again gives %s", told(again))
			}
		}
		for len(w.legs) > 0 {
			w.legs[0].State = access.LegClosing
			p := w.Plan(w.group, w.legs, now)
			w.group, w.legs = p.Apply(w.group), slices.DeleteFunc(w.legs[1:], func(l access.Leg) bool {
				return slices.ContainsFunc(p.Closing, func(c access.Leg) bool { return c.Key() == l.Key() })
			})
		}
		if p := w.Plan(w.group, nil, now); len(w.group.Rules) != len(p.Remove) || len(w.group.Rules) > 0 {
			t.Fatalf("seed %d: in the end there is %+v", seed, w.group.Rules)
		}
	}
	for what, least := range map[string]int{"shared": 1000, "repacked": 10, "blocked": 100, string(access.NoRoom): 2} {
		if seen[what] < least {
			t.Errorf("only %d times %s: the test is weaker than it looks", seen[what], what)
		}
	}
}

func allShares(legs []access.Leg) (out []share) {
	for _, l := range legs {
		out = append(out, sharesOf(l)...)
	}
	return out
}

// many are grants of every source for every machine.
func many(sources, machines int) (out []access.Leg) {
	for s := range sources {
		for m := range machines {
			l := leg(fmt.Sprintf("g-%04d-%04d", s, m), fmt.Sprintf("vm-%04d", m), "203.0.113.1", "10.0.0.1", 22)
			l.Source = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(s >> 8), byte(s)}), 32)
			l.Destinations = []netip.Addr{netip.AddrFrom4([4]byte{10, 8, byte(m >> 8), byte(m)})}
			out = append(out, l)
		}
	}
	return out
}

// More grants than a group can hold rules or prefixes fit, where they are alike.
func TestMoreGrantsThanRules(t *testing.T) {
	wide := prod
	wide.Band = Band{100, 999}
	for _, tt := range []struct {
		name              string
		sources, machines int
	}{{"one person, 2,000 machines", 1, 2000}, {"2,000 people, one machine", 2000, 1}, {"ten people, 1,000 machines", 10, 1000}, {"200 machines, 25 people", 25, 200}} {
		t.Run(tt.name, func(t *testing.T) {
			legs := many(tt.sources, tt.machines)
			g := Group{Defaults: defaults(t)}
			p := wide.Plan(g, legs, now)
			if len(p.Opening) != len(legs) {
				t.Fatalf("%d of %d open: %s", len(p.Opening), len(legs), p.Blocked[0].BlockedBy)
			}
			g = p.Apply(g)
			if n := sizeOf(g.Rules); n.rules > 900 || n.sources > MaxPrefixesPerSide || n.dests > MaxPrefixesPerSide {
				t.Errorf("%+v", n)
			}
			for i := range legs {
				legs[i].State = access.LegOpen
			}
			legs[len(legs)/2].State = access.LegClosing
			if p := wide.Plan(g, legs, now); len(p.Put)+len(p.Remove) > 3 || p.Empty() || len(p.Closing) > 0 {
				t.Errorf("the end of one: %d put, %d removed, %d ended", len(p.Put), len(p.Remove), len(p.Closing))
			}
		})
	}
}

// A reader of a shared rule learns whose it is and for how much it stands.
func TestSharedRuleIsReadable(t *testing.T) {
	narrow := prod
	narrow.Band = Band{200, 200}
	legs := many(1, 3)
	legs[1].EndTime = now.Add(20 * time.Minute)
	g := narrow.Plan(Group{}, legs, now).Apply(Group{})
	if len(g.Rules) != 1 || g.Rules[0].Description != "Portcullis prod: just-in-time access to vm-0000 22/TCP and 2 more until 2026-11-24T09:20:00Z" {
		t.Errorf("%+v", g.Rules)
	}
	// The machine that it is named after leaves: the name goes with it.
	legs[0].State = access.LegClosing
	p := narrow.Plan(g, legs, now)
	if g = p.Apply(g); len(g.Rules) != 1 || !strings.HasPrefix(g.Rules[0].Name, "Portcullis-prod-vm-0001-22-tcp-") || len(p.Orphans) > 0 {
		t.Errorf("%+v, orphans %v", g.Rules, p.Orphans)
	}
}

// A piece of a rule that finds a place behind a deny of the customer's only is
// not told to be open there.
func TestAPieceThatFindsNoPlaceBeforeADenyEnds(t *testing.T) {
	narrow := prod
	narrow.Band = Band{200, 203}
	legs := many(2, 2)
	g := Group{Rules: []Rule{rule(t, "Filler", "Allow 201 Udp * → 10.9.9.9 9")}}
	g = narrow.Plan(g, legs, now).Apply(g)
	for i := range legs {
		legs[i].State = access.LegOpen
	}
	if own := slices.DeleteFunc(slices.Clone(g.Rules), func(r Rule) bool { return !prod.Owns(r) }); len(own) != 2 {
		t.Fatalf("%+v", own)
	}
	// One rule for all four, as after a repack; and a deny right behind it.
	one := pack(allShares(legs), packings[0])[0]
	one.name, one.priority = narrow.ruleName(doorOf(legs[0]), 0), 200
	g.Rules = []Rule{g.Rules[0], narrow.rule(one), rule(t, "Shut", "Deny 202 * * → 10.8.0.0/16 *")}
	legs[3].State = access.LegClosing
	p := narrow.Plan(g, legs, now)
	next := p.Apply(g)
	for _, l := range legs[:3] {
		ended := slices.ContainsFunc(p.Closing, func(c access.Leg) bool {
			return c.Key() == l.Key() && c.Reason == access.NoRoom && strings.Contains(c.BlockedBy, "Shut")
		})
		if v := narrow.Confirm(next, l); (v.Outcome == OutcomeAllowed) == ended {
			t.Errorf("%s: ended %t, and %s", l.Request, ended, v)
		}
	}
	if len(p.Closing) == 0 || len(p.Closing) == 3 {
		t.Errorf("%d of three end", len(p.Closing))
	}
}
