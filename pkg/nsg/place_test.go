package nsg

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestPlanPriorities(t *testing.T) {
	narrow := prod
	narrow.Band = Band{200, 202}
	customer := func(priority int, direction Direction) Rule {
		r := rule(t, fmt.Sprintf("Theirs-%d-%s", priority, direction), "Allow 100 Udp * → 10.9.9.9 9")
		r.Priority, r.Direction = priority, direction
		return r
	}
	// They differ in two dimensions, so that no two of them can share a rule.
	first, second, third := leg("b", "vm-1", "203.0.113.7", "10.0.1.1", 22), leg("c", "vm-2", "203.0.113.8", "10.0.1.2", 22), leg("a", "vm-3", "203.0.113.9", "10.0.1.3", 22)
	third.OpenBy = now.Add(16 * time.Minute) // it came last
	first.OpenBy = now.Add(14 * time.Minute) // it came first

	t.Run("around the customer's", func(t *testing.T) {
		g := Group{Rules: []Rule{customer(200, Inbound), customer(201, Outbound)}}
		expect(t, narrow.Plan(g, []access.Leg{first}, now), "put 201 Tcp 203.0.113.7→10.0.1.1:22", "open b", "widens")
	})
	t.Run("the band is full for the last that came", func(t *testing.T) {
		g := Group{Rules: []Rule{customer(201, Inbound)}}
		p := narrow.Plan(g, []access.Leg{third, second, first}, now)
		if len(p.Opening) != 2 || len(p.Blocked) != 1 || p.Blocked[0].Request != "a" || p.Blocked[0].State != access.LegOpening {
			t.Fatal(told(p))
		}
		if !strings.Contains(p.Blocked[0].BlockedBy, "no priority is free between 200 and 202") {
			t.Error(p.Blocked[0].BlockedBy)
		}
		// A leg of a door that has its rule needs no priority of its own.
		again := leg("d", "vm-1", "198.51.100.1", "10.0.1.1", 22)
		if p = narrow.Plan(p.Apply(g), []access.Leg{third, second, first, again}, now); len(p.Opening) != 3 {
			t.Error(told(p))
		}
	})
	t.Run("what closes makes room", func(t *testing.T) {
		g := Group{Rules: []Rule{customer(201, Inbound), customer(202, Inbound)}}
		g = narrow.Plan(g, []access.Leg{first}, now).Apply(g)
		p := narrow.Plan(g, []access.Leg{in(access.LegClosing, first), second}, now)
		expect(t, p, "put 200 Tcp 203.0.113.8→10.0.1.2:22", "remove vm-1", "open c", "widens")
	})
	t.Run("an open leg's rule astray stays where the band is full", func(t *testing.T) {
		g, legs := opened(t, Group{}, first)
		g.Rules[0].Priority = 500
		g.Rules = append(g.Rules, customer(200, Inbound), customer(201, Inbound), customer(202, Inbound))
		expect(t, narrow.Plan(g, legs, now))
		g.Rules = slices.Delete(g.Rules, 2, 3)
		expect(t, narrow.Plan(g, append(legs, second), now), "put 201 Tcp 203.0.113.7→10.0.1.1:22", "block c", "widens")
	})
	t.Run("what one has to give up another has", func(t *testing.T) {
		g := Group{Rules: []Rule{customer(201, Inbound), customer(202, Inbound)}}
		g = narrow.Plan(g, []access.Leg{first}, now).Apply(g)
		g.Rules = append(g.Rules, rule(t, "New", "Deny 150 * * → 10.0.1.1 *"))
		expect(t, narrow.Plan(g, []access.Leg{first, second}, now), "put 200 Tcp 203.0.113.8→10.0.1.2:22", "remove vm-1", "open c", "block b", "widens")
	})
	t.Run("a better priority than the one it has", func(t *testing.T) {
		g := Group{Rules: []Rule{customer(200, Inbound), customer(201, Inbound)}}
		g = narrow.Plan(g, []access.Leg{first}, now).Apply(g)
		g.Rules = append(g.Rules[2:], rule(t, "New", "Deny 201 * * → 10.0.1.1 *"))
		expect(t, narrow.Plan(g, []access.Leg{first}, now), "put 200 Tcp 203.0.113.7→10.0.1.1:22", "open b", "widens")
	})
	t.Run("somebody else has its priority", func(t *testing.T) {
		g, legs := opened(t, Group{}, first)
		g.Rules = append(g.Rules, customer(200, Inbound))
		expect(t, narrow.Plan(g, legs, now), "put 201 Tcp 203.0.113.7→10.0.1.1:22")
	})
}

func TestPlanLimits(t *testing.T) {
	var g Group
	for n := range MaxRules - 1 {
		r := rule(t, fmt.Sprintf("Theirs-%d", n), "Allow 100 Udp * → 10.9.9.9 9")
		r.Priority, r.Direction = 300+n, Outbound
		g.Rules = append(g.Rules, r)
	}
	a, b := leg("a", "vm-1", "203.0.113.7", "10.0.1.1", 22), leg("b", "vm-2", "203.0.113.8", "10.0.1.2", 22)
	p := prod.Plan(g, []access.Leg{a, b}, now)
	if len(p.Opening) != 1 || len(p.Blocked) != 1 || !strings.Contains(p.Blocked[0].BlockedBy, "1000 rules") {
		t.Errorf("%d rules: %s", MaxRules, told(p))
	}

	g.Rules = []Rule{rule(t, "Theirs", "Allow 100 Udp * → 10.9.9.9 9")}
	g.Rules[0].Sources = make([]string, MaxPrefixesPerSide-1)
	for n := range g.Rules[0].Sources {
		g.Rules[0].Sources[n] = netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}).String()
	}
	within := leg("c", "vm-1", "203.0.113.7", "10.0.1.1", 22)
	p = prod.Plan(g, []access.Leg{a, b, within}, now)
	if len(p.Opening) != 2 || len(p.Blocked) != 1 || p.Blocked[0].Request != "b" || !strings.Contains(p.Blocked[0].BlockedBy, "4000 addresses") {
		t.Errorf("%d prefixes: %s", MaxPrefixesPerSide, told(p))
	}
	// What came earlier does not push out what is there.
	early := leg("d", "vm-3", "203.0.113.9", "10.0.1.3", 22)
	early.OpenBy = now.Add(time.Minute)
	if p := prod.Plan(p.Apply(g), []access.Leg{a, early}, now); len(p.Opening) != 1 || p.Opening[0].Request != "a" {
		t.Errorf("a leg that came earlier and finds no room: %s", told(p))
	}
	// Closing needs no room.
	g = p.Apply(g)
	g.Rules[0].Sources = append(g.Rules[0].Sources, "10.2.0.1", "10.2.0.2")
	expect(t, prod.Plan(g, []access.Leg{a, within}, now), "open a", "open c")
	expect(t, prod.Plan(g, []access.Leg{until(a, now), until(within, now)}, now), "close a Expired", "close c Expired", "remove vm-1")
}

func TestPlanBlockedByTheCustomer(t *testing.T) {
	a := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
	tests := []struct{ name, rule, want string }{
		{"a deny before the band", "Deny 110 * * → * 22",
			"rule Theirs (priority 110) denies 203.0.113.7 → 10.0.1.4:22/TCP before our rules: have it moved to a priority above 299, or ask from an address that it lets pass"},
		{"a deny of a tag before the band", "Deny 110 * Internet → * 22",
			"rule Theirs (priority 110) may deny (its source Internet is not known here) 203.0.113.7 → 10.0.1.4:22/TCP before our rules: have it moved to a priority above 299, or ask from an address that it lets pass"},
		{"a deny of another source", "Deny 110 * 198.51.100.0/24 → * 22", ""},
		{"a deny behind the band", "Deny 4000 * * → * *", ""},
		{"a deny in the band, behind ours", "Deny 201 * * → * 22", ""},
		{"a deny where our first priority would be", "Deny 200 * * → * *",
			"rule Theirs (priority 200) denies 203.0.113.7 → 10.0.1.4:22/TCP before our rules: have it moved to a priority above 299, or ask from an address that it lets pass"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := Group{Rules: []Rule{rule(t, "Theirs", tt.rule)}, Defaults: defaults(t)}
			other := leg("b", "web-2", "203.0.113.7", "10.0.1.5", 80)
			p := prod.Plan(g, []access.Leg{a, other}, now)
			if tt.want == "" {
				if len(p.Blocked) != 0 {
					t.Errorf("blocked by %s", p.Blocked[0].BlockedBy)
				}
				return
			}
			if len(p.Blocked) == 0 || p.Blocked[0].BlockedBy != tt.want {
				t.Fatalf("got %+v", p.Blocked)
			}
			for _, r := range p.Put {
				if slices.Contains(r.Destinations, "10.0.1.4") {
					t.Error("a blocked leg has a rule")
				}
			}
		})
	}
	t.Run("an open leg stays on record", func(t *testing.T) {
		g, legs := opened(t, Group{}, a)
		g.Rules = append(g.Rules, rule(t, "Theirs", "Deny 110 * * → * 22"))
		expect(t, prod.Plan(g, legs, now))
		if v := prod.Confirm(g, legs[0]); v.String() != "Denied by rule Theirs (priority 110)" {
			t.Error(v)
		}
	})
	t.Run("its rule goes if it was there and not yet confirmed", func(t *testing.T) {
		g, _ := opened(t, Group{}, a)
		g.Rules = append(g.Rules, rule(t, "Theirs", "Deny 110 * * → * 22"))
		expect(t, prod.Plan(g, []access.Leg{a}, now), "remove web-1", "block a")
	})
	t.Run("another rule of ours is not counted on", func(t *testing.T) {
		g := Group{Rules: []Rule{rule(t, "Theirs", "Deny 201 * * → * *")}}
		both := leg("0", "web-1", "203.0.113.0/24", "10.0.1.4", 22)
		both.Protocol, both.OpenBy = access.AnyProtocol, now.Add(time.Minute)
		p := prod.Plan(g, []access.Leg{both, a}, now)
		if len(p.Opening) != 1 || len(p.Blocked) != 1 || p.Blocked[0].Request != "a" {
			t.Error(told(p))
		}
	})
	t.Run("a name that is taken", func(t *testing.T) {
		g, _ := opened(t, Group{}, a)
		g.Rules[0].Direction = Outbound // no rule of ours any more; names are unique across directions
		p := prod.Plan(g, []access.Leg{a}, now)
		expect(t, p, "put 200 Tcp 203.0.113.7→10.0.1.4:22", "open a", "widens")
		if p.Put[0].Name == g.Rules[0].Name {
			t.Error("a rule that is not ours to replace is replaced")
		}
		next := p.Apply(g)
		expect(t, prod.Plan(next, []access.Leg{in(access.LegOpen, a)}, now))
	})
}

func TestPlanRefusesDefectiveLegs(t *testing.T) {
	tests := []struct {
		name string
		edit func(l *access.Leg)
	}{
		{"no destinations", func(l *access.Leg) { l.Destinations = nil }},
		{"no VM", func(l *access.Leg) { l.VM = "" }},
		{"no source", func(l *access.Leg) { l.Source = netip.Prefix{} }},
		{"everybody", func(l *access.Leg) { l.Source = everyIPv4 }},
		{"host bits", func(l *access.Leg) { l.Source = netip.MustParsePrefix("203.0.113.7/24") }},
		{"IPv4-mapped", func(l *access.Leg) { l.Source = netip.MustParsePrefix("::ffff:203.0.113.7/128") }},
		{"families mixed", func(l *access.Leg) { l.Destinations = append(l.Destinations, netip.MustParseAddr("2001:db8::4")) }},
		{"no port", func(l *access.Leg) { l.Port = 0 }},
		{"no protocol", func(l *access.Leg) { l.Protocol = "" }},
		{"longer than any grant", func(l *access.Leg) { l.EndTime = now.Add(25 * time.Hour) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
			tt.edit(&l)
			p := prod.Plan(Group{}, []access.Leg{l}, now)
			expect(t, p, "block a")
			if p.Blocked[0].BlockedBy == "" {
				t.Error("without a word why")
			}
		})
	}
	t.Run("without an end or a time to open by", func(t *testing.T) {
		l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
		l.OpenBy = time.Time{}
		expect(t, prod.Plan(Group{}, []access.Leg{l}, now), "close a NotOpenedInTime")
		l.EndTime = time.Time{}
		expect(t, prod.Plan(Group{}, []access.Leg{l}, now), "close a Expired")
	})
}
