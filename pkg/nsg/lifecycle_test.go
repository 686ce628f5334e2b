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

// dual is a packet of either family to port 22 of web-1.
type dual struct{ src, dst netip.Addr }

func everyDual() (out []dual) {
	for src := range byte(4) {
		for dst := range byte(2) {
			out = append(out,
				dual{netip.AddrFrom4([4]byte{10, 0, 0, src}), netip.AddrFrom4([4]byte{10, 0, 1, dst})},
				dual{netip.AddrFrom16([16]byte{0x20, 1, 15: src}), netip.AddrFrom16([16]byte{0x20, 2, 15: dst})})
		}
	}
	return out
}

// randomAsk is a leg of either family that asks to be opened.
func randomAsk(r *rand.Rand, n int, now time.Time) access.Leg {
	d := pick(r, everyDual()...)
	src, err := d.src.Prefix(d.src.BitLen() - r.IntN(3))
	if err != nil {
		panic(err)
	}
	return access.Leg{
		Request: access.RequestID(fmt.Sprintf("leg%03d", n)), VM: vms + "web-1", Source: src, Destinations: []netip.Addr{d.dst}, Port: 22, Protocol: access.TCP,
		EndTime: now.Add(time.Duration(1+r.IntN(30)) * time.Minute), OpenBy: now.Add(5 * time.Minute), State: access.LegOpening,
	}
}

// Over the life of many legs, what our rules let through is at every step what
// people have been granted at that time, whatever was there or done to the
// rules before, and in the end there is nothing left of them.
func TestLifeOfAGroup(t *testing.T) {
	grants := func(legs []access.Leg, d dual) bool {
		return slices.ContainsFunc(legs, func(l access.Leg) bool {
			return l.Live() && l.Source.Contains(d.src) && slices.Contains(l.Destinations, d.dst)
		})
	}
	lets22 := func(g Group, d dual) bool {
		return slices.ContainsFunc(g.Rules, func(x Rule) bool { return prod.Owns(x) && lets(x, packet{d.src, d.dst, 22, access.TCP}) })
	}
	opened, ended := 0, map[access.StatusReason]int{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		at := now
		customers := []Rule{rule(t, "Web", "Allow 210 Tcp * → 10.0.1.9 443"), rule(t, "DenyManagement", "Deny 4000 * * → * 22,3389")}
		g := Group{Rules: slices.Clone(customers), Defaults: defaults(t)}
		var legs []access.Leg
		for step := range 30 {
			if r.IntN(2) == 0 && step < 20 {
				legs = append(legs, randomAsk(r, step, at))
			}
			if n := len(legs); n > 0 && r.IntN(6) == 0 { // revoked
				if l := &legs[r.IntN(n)]; l.Live() {
					l.State, l.Reason, l.ClosingAt = access.LegClosing, access.Expired, at
				}
			}
			g.Rules = slices.Clone(g.Rules)
			for i := range g.Rules {
				if x := &g.Rules[i]; prod.Owns(*x) && r.IntN(8) == 0 {
					switch r.IntN(4) {
					case 0:
						x.Sources = []string{"*"}
					case 1:
						x.Description = "mine"
					case 2:
						x.Name += "-copy"
					case 3:
						x.Sources = []string{"192.0.2.1"}
					}
				}
			}
			p := prod.Plan(g, legs, at)
			g = p.Apply(g)
			for _, c := range p.Closing {
				ended[c.Reason]++
			}
			for i, l := range legs {
				same := func(o access.Leg) bool { return o.Key() == l.Key() }
				if c := slices.IndexFunc(p.Closing, same); c >= 0 {
					legs[i] = p.Closing[c]
				}
				if slices.ContainsFunc(p.Opening, same) {
					legs[i].State, legs[i].OpenedAt = access.LegOpen, at
					opened++
				}
			}
			if len(p.Blocked) > 0 {
				t.Fatalf("seed %d, step %d: blocked by %s", seed, step, p.Blocked[0].BlockedBy)
			}
			for _, d := range everyDual() {
				if got, want := lets22(g, d), grants(legs, d); got != want {
					t.Fatalf("seed %d, step %d: %v is let through: %t; is granted: %t\nplan %s\nlegs %+v", seed, step, d, got, want, told(p), legs)
				}
			}
			if residue := prod.Residue(g, legs, at); len(residue) != 0 {
				t.Fatalf("seed %d, step %d: residue %v", seed, step, residue)
			}
			if expired := prod.Expired(g, at); len(expired) != 0 {
				t.Fatalf("seed %d, step %d: what was just planned has expired: %v", seed, step, expired)
			}
			at = at.Add(time.Duration(1+r.IntN(3)) * time.Minute)
		}
		p := prod.Plan(g, legs, at.Add(time.Hour))
		if diff := cmp.Diff(customers, p.Apply(g).Rules, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: in the end there is more or less than the customer's rules: %s", seed, diff)
		}
	}
	if opened < 100 || ended[access.Expired] < 50 || ended[access.RemovedExternally] < 20 {
		t.Errorf("%d opened, and ended %v: the test is weaker than it looks", opened, ended)
	}
}

// Close-only mode knows nothing but the rules: what it leaves is within what
// was granted, and it touches nobody else's.
func TestExpiredNeedsNoRecord(t *testing.T) {
	short, long := until(leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), now.Add(10*time.Minute)), leg("b", "web-2", "203.0.113.7", "10.0.1.5", 22)
	theirs := rule(t, "Portcullis-test-web-1-22-tcp-abcdefghijklmnop", "Allow 250 Tcp * → * 22")
	theirs.Description = "Portcullis test: just-in-time access to web-1 22/TCP until 2020-01-01T00:00:00Z"
	g, _ := opened(t, Group{Rules: []Rule{theirs, rule(t, "Office", "Allow 251 Tcp * → * 22")}}, short, long)
	for _, tt := range []struct {
		at   time.Time
		want int
	}{{now, 0}, {short.EndTime.Add(-time.Second), 0}, {short.EndTime, 1}, {long.EndTime.Add(-time.Second), 1}, {long.EndTime, 2}} {
		got := prod.Expired(g, tt.at)
		if len(got) != tt.want || slices.ContainsFunc(got, func(r Rule) bool { return !prod.Owns(r) }) {
			t.Errorf("at %s: %+v", tt.at, got)
		}
	}
}
