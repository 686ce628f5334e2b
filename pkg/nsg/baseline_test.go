package nsg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/portcullis-access/portcullis/pkg/access"
)

func shutting() Settings {
	s := prod
	s.Baseline = Band{300, 309}
	return s
}

// baseline shuts ports such as "22/TCP" of a VM.
func baseline(vm, dests, ports string) access.Baseline {
	b := access.Baseline{VM: vms + access.ResourceID(vm), State: access.BaselineShutting}
	for d := range strings.SplitSeq(dests, ",") {
		b.Destinations = append(b.Destinations, netip.MustParseAddr(d))
	}
	for p := range strings.SplitSeq(ports, ",") {
		var n uint16
		var proto string
		if _, err := fmt.Sscanf(p, "%d/%s", &n, &proto); err != nil {
			panic(err)
		}
		b.Ports = append(b.Ports, access.PortNumber{Number: n, Protocol: access.Protocol(proto)})
	}
	return b
}

// denies are the baseline rules of a group in short.
func denies(s Settings, g Group) string {
	var out []string
	for _, r := range g.Rules {
		if s.Shuts(r) {
			out = append(out, fmt.Sprintf("%d %s %s→%s:%s", r.Priority, r.Protocol, strings.Join(r.Sources, ","), strings.Join(r.Destinations, ","), strings.Join(r.DestinationPorts, ",")))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestBaselines(t *testing.T) {
	s := shutting()
	one, two := baseline("web-1", "10.0.1.4", "22/TCP,3389/TCP"), baseline("web-2", "10.0.1.5", "3389/TCP,22/TCP")
	six := baseline("web-3", "10.0.1.6,2001:db8::6", "22/TCP,53/UDP,7/*")
	apart := baseline("web-4", "10.0.1.7", "22/TCP")
	apart.Standing = []netip.Prefix{prefix("128.0.0.0/1"), prefix("64.0.0.0/2"), prefix("2001:db8::/32")}
	for _, tt := range []struct {
		name string
		rows []access.Baseline
		want string
	}{
		{"none", nil, ""},
		{"two machines that ask for the same share a rule", []access.Baseline{one, two}, "300 Tcp *→10.0.1.4,10.0.1.5:22,3389"},
		{"families and protocols apart", []access.Baseline{six},
			"300 * *→10.0.1.6:7; 301 * *→2001:db8::6:7; 302 Tcp *→10.0.1.6:22; 303 Tcp *→2001:db8::6:22; 304 Udp *→10.0.1.6:53; 305 Udp *→2001:db8::6:53"},
		{"standing sources are left out", []access.Baseline{apart}, "300 Tcp 0.0.0.0/2→10.0.1.7:22"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := s.Plan(Group{}, nil, now, tt.rows...)
			g := p.Apply(Group{})
			if got := denies(s, g); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			if p.Widens() {
				t.Error("a new deny widens nothing")
			}
			for _, row := range tt.rows {
				if !s.Shut(g, row) {
					t.Errorf("%s is not shut", row.VM.Name())
				}
			}
			for _, r := range g.Rules {
				if !ruleNamePattern.MatchString(r.Name) || len(r.Name) > MaxRuleName || len(r.Description) > MaxDescription {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

func TestADenyGoesOnlyByARecord(t *testing.T) {
	s := shutting()
	one, two := baseline("web-1", "10.0.1.4", "22/TCP"), baseline("web-2", "10.0.1.5", "22/TCP")
	g := s.Plan(Group{}, nil, now, one, two).Apply(Group{})

	if p := s.Plan(g, nil, now); !p.Empty() {
		t.Errorf("without any record: %s", told(p))
	}
	if p := s.Plan(g, nil, now, one); !p.Empty() {
		t.Errorf("without one of the records: %s", told(p))
	}
	lifting := one
	lifting.State = access.BaselineLifting
	p := s.Plan(g, nil, now, lifting)
	if after := p.Apply(g); denies(s, after) != "300 Tcp *→10.0.1.5:22" || !p.Widens() || !s.Lifted(after, lifting, nil) || s.Lifted(g, lifting, nil) {
		t.Errorf("one lifted, the other lost: %s; %s", denies(s, after), told(p))
	}
	also := two
	also.State = access.BaselineLifting
	if p := s.Plan(g, nil, now, lifting, also); len(p.Remove) != 1 || !p.Widens() {
		t.Errorf("both lifted: %s", told(p))
	}
	// The address went to another machine, which keeps it shut.
	heir := baseline("web-9", "10.0.1.4", "22/TCP")
	if p := s.Plan(g, nil, now, lifting, heir, two); !p.Empty() {
		t.Errorf("an address that passed on: %s", told(p))
	}
	if !s.Lifted(g, lifting, []access.Baseline{lifting, heir, two}) {
		t.Error("an address that passed on is not let go")
	}
	moved := one
	moved.Destinations, moved.Release = []netip.Addr{netip.MustParseAddr("10.0.1.8")}, one.Destinations
	if after := s.Plan(g, nil, now, moved, two).Apply(g); denies(s, after) != "300 Tcp *→10.0.1.5,10.0.1.8:22" {
		t.Errorf("a machine that moved: %s", denies(s, after))
	}
	more := one
	more.Ports = append(slices.Clone(one.Ports), access.PortNumber{Number: 3389, Protocol: access.TCP})
	if after := s.Plan(g, nil, now, more, two).Apply(g); denies(s, after) != "300 Tcp *→10.0.1.5:22; 301 Tcp *→10.0.1.4:22,3389" {
		t.Errorf("another port: %s", denies(s, after))
	}
}

func TestATamperedDenyIsPutRight(t *testing.T) {
	s := shutting()
	row := baseline("web-1", "10.0.1.4", "22/TCP")
	whole := s.Plan(Group{}, nil, now, row).Apply(Group{})
	for name, change := range map[string]func(r *Rule){
		"allowed": func(r *Rule) { r.Access = Allow }, "narrowed": func(r *Rule) { r.Sources = []string{"203.0.113.7"} },
		"another port": func(r *Rule) { r.DestinationPorts = []string{"23"} }, "moved": func(r *Rule) { r.Priority = 4000 },
		"UDP": func(r *Rule) { r.Protocol = "Udp" }, "outbound": nil, "an ASG": func(r *Rule) { r.DestinationASGs = []string{"/x/y"} },
	} {
		g := Group{Rules: slices.Clone(whole.Rules)}
		if change == nil {
			g.Rules[0].Direction = Outbound
			if p := s.Plan(g, nil, now, row); len(p.Unshut) != 1 || !strings.Contains(p.Unshut[0].BlockedBy, "name") || !p.Empty() {
				t.Errorf("%s: %s %+v", name, told(p), p.Unshut)
			}
			continue
		}
		change(&g.Rules[0])
		if s.Shut(g, row) && name != "moved" {
			t.Errorf("%s counts as shut", name)
		}
		if after := s.Plan(g, nil, now, row).Apply(g); denies(s, after) != denies(s, whole) {
			t.Errorf("%s: %s", name, denies(s, after))
		}
	}
}

func TestABaselineThatCannotStandSaysWhy(t *testing.T) {
	s := shutting()
	s.Baseline.High = 300
	one, two := baseline("web-1", "10.0.1.4", "22/TCP"), baseline("web-2", "10.0.1.5", "23/TCP")
	p := s.Plan(Group{}, nil, now, one, two)
	if len(p.Unshut) != 1 || !strings.Contains(p.Unshut[0].BlockedBy, "no priority is free between 300 and 300") || len(p.Put) != 1 {
		t.Errorf("%s %+v", told(p), p.Unshut)
	}
	g := Group{Loss: "properties.rules[0].new"}
	if p := s.Plan(g, nil, now, one); len(p.Unshut) != 1 || !p.Empty() || !strings.Contains(p.Unshut[0].BlockedBy, g.Loss) {
		t.Errorf("%s %+v", told(p), p.Unshut)
	}
	full := Group{}
	for n := range MaxRules {
		r := rule(t, fmt.Sprintf("Theirs-%d", n), "Allow 500 Udp * → 10.9.9.9 9")
		r.Priority, r.Direction = 500+n, Outbound
		full.Rules = append(full.Rules, r)
	}
	if p := s.Plan(full, nil, now, one); len(p.Unshut) != 1 || !strings.Contains(p.Unshut[0].BlockedBy, "full") {
		t.Errorf("%s %+v", told(p), p.Unshut)
	}
}

func TestARedeployPutsLiveGrantsBack(t *testing.T) {
	s := shutting()
	a, other := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), leg("b", "web-2", "203.0.113.7", "10.0.1.5", 22)
	rows := []access.Baseline{baseline("web-1", "10.0.1.4", "22/TCP"), baseline("web-2", "10.0.1.5", "22/TCP")}
	p := s.Plan(Group{}, []access.Leg{a, other}, now, rows...)
	g := p.Apply(Group{})
	a, other = in(access.LegOpen, a), in(access.LegOpen, other)
	for i := range rows {
		rows[i].State = access.BaselineShut
	}
	if p := s.Plan(Group{}, []access.Leg{a, other}, now, rows...); len(p.Closing) != 0 || len(p.Put) != 3 || !p.Widens() {
		t.Errorf("all rules gone: %s", told(p))
	}
	// A rule alone that somebody removed is not put back.
	g.Rules = slices.DeleteFunc(g.Rules, func(r Rule) bool { return r.Access == Allow && slices.Contains(r.Destinations, "10.0.1.4") })
	expect(t, s.Plan(g, []access.Leg{a, other}, now, rows...), "close a RemovedExternally")
	// Nor is one of a baseline that was never seen to be there.
	rows[0].State = access.BaselineShutting
	if p := s.Plan(Group{}, []access.Leg{a}, now, rows[0]); len(p.Closing) != 1 {
		t.Errorf("never shut: %s", told(p))
	}
}

func TestPastABaseline(t *testing.T) {
	s := shutting()
	row := baseline("web-1", "10.0.1.4", "22/TCP")
	row.Standing = []netip.Prefix{prefix("10.9.0.0/16")}
	g := Group{Rules: []Rule{
		rule(t, "Ssh", "Allow 150 Tcp 198.51.100.0/24 → 10.0.1.0/24 22"), rule(t, "Tag", "Allow 160 * VirtualNetwork → * *"),
		rule(t, "Elsewhere", "Allow 170 Tcp * → 10.0.2.0/24 22"), rule(t, "Web", "Allow 180 Tcp * → * 443"), rule(t, "Udp", "Allow 181 Udp * → * 22"),
		rule(t, "Bastion", "Allow 190 Tcp 10.9.1.0/24 → * 22"), rule(t, "Behind", "Allow 4000 Tcp * → * 22"), rule(t, "Deny", "Deny 155 Tcp * → * 22"),
	}}
	for _, when := range []string{"before", "after"} {
		var names []string
		for _, r := range s.Past(g, row) {
			names = append(names, r.Name)
		}
		if diff := cmp.Diff([]string{"Ssh", "Tag"}, names); diff != "" {
			t.Error(when, diff)
		}
		g = s.Plan(g, nil, now, row).Apply(g)
	}
}

func randomBaseline(r *rand.Rand, n int) access.Baseline {
	b := baseline(fmt.Sprintf("web-%d", n), "10.0.1."+pick(r, "0", "1", "2", "3"), pick(r, "22/TCP", "80/TCP", "22/TCP,80/TCP", "22/*", "22/UDP,80/TCP"))
	b.State = pick(r, access.BaselineShutting, access.BaselineShut, access.BaselineShut, access.BaselineLifting)
	if r.IntN(3) == 0 {
		b.Destinations = append(b.Destinations, netip.AddrFrom4([4]byte{10, 0, 1, byte(r.IntN(4))}))
	}
	if r.IntN(4) == 0 {
		b.Release = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(r.IntN(4))})}
	}
	if r.IntN(3) == 0 {
		b.Standing = []netip.Prefix{prefix(pick(r, "10.0.0.4/30", "10.0.0.1/32", "10.0.0.0/29"))}
	}
	return b
}

// hit says whether a deny of ours catches the packet, by itself.
func (s Settings) hit(g Group, p packet) bool {
	return slices.ContainsFunc(g.Rules, func(x Rule) bool {
		x.Access = Allow
		return lets(x, p) && strings.Contains(x.Name, "-deny-") && s.Owns(x)
	})
}

func TestBaselineProperties(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, g, legs := randomCase(r)
		s.Baseline = Band{210, 210 + r.IntN(6)}
		g.Rules = slices.DeleteFunc(g.Rules, func(x Rule) bool { return x.Priority >= 210 && x.Priority < 300 && s.Owns(x) })
		var before, rows []access.Baseline
		for n := range r.IntN(4) {
			b := randomBaseline(r, n)
			b.State, b.Release = access.BaselineShutting, nil
			before = append(before, b)
		}
		g = s.Plan(g, nil, now, before...).Apply(g)
		for n := range 4 {
			switch {
			case r.IntN(3) == 0: // lost, or never there
			case r.IntN(2) == 0 && n < len(before):
				b := before[n]
				b.State = randomBaseline(r, n).State
				rows = append(rows, b)
			default:
				rows = append(rows, randomBaseline(r, n))
			}
		}
		p := s.Plan(g, legs, now, rows...)
		after := p.Apply(g)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\n%s\n→ %s\nrows %+v", seed, fmt.Sprintf(format, args...), denies(s, g), denies(s, after), rows)
		}
		done, _ := carriedOut(p, legs)
		if again := s.Plan(after, done, now, rows...); !again.Empty() {
			fail("a second plan changes something: %s", told(again))
		}
		theirs := func(g Group) []Rule {
			return slices.DeleteFunc(slices.Clone(g.Rules), func(x Rule) bool { return s.Owns(x) })
		}
		if diff := cmp.Diff(theirs(g), theirs(after), cmpopts.EquateEmpty()); diff != "" {
			fail("the customer's rules: %s", diff)
		}
		numbers := map[int]bool{}
		for _, x := range after.Rules {
			if x.Direction == Inbound && numbers[x.Priority] {
				fail("two rules at %d", x.Priority)
			}
			numbers[x.Priority] = numbers[x.Priority] || x.Direction == Inbound
		}
		for _, row := range rows {
			blocked := slices.ContainsFunc(p.Unshut, func(u access.Baseline) bool { return u.VM == row.VM })
			if row.State != access.BaselineLifting && s.Shut(after, row) == blocked {
				fail("%s is shut: %t; is told to be blocked: %t", row.VM.Name(), s.Shut(after, row), blocked)
			}
			if !s.Lifted(after, row, rows) {
				fail("%s is not let go", row.VM.Name())
			}
			seen[string(row.State)]++
		}
		widened := false
		for _, pk := range everyPacket {
			had, has := s.hit(g, pk), s.hit(after, pk)
			claimed, asked, partly, standing := false, false, false, false
			for _, row := range rows {
				claimed = claimed || slices.Contains(row.Destinations, pk.dst) || slices.Contains(row.Release, pk.dst)
				if row.State == access.BaselineLifting || !slices.Contains(row.Destinations, pk.dst) {
					continue
				}
				unshut := slices.ContainsFunc(p.Unshut, func(u access.Baseline) bool { return u.VM == row.VM })
				for _, port := range row.Ports {
					if port.Number == pk.port && (port.Protocol == pk.proto || port.Protocol == access.AnyProtocol) {
						spared := slices.ContainsFunc(row.Standing, func(x netip.Prefix) bool { return x.Contains(pk.src) })
						standing, partly, asked = standing || spared, partly || !spared, asked || !spared && !unshut
					}
				}
			}
			switch {
			case had && !has && !claimed:
				fail("%v was denied, and no record lets it go", pk)
			case asked && !has:
				fail("%v is to be denied and is not", pk)
			case !had && has && !partly:
				fail("%v is denied, and nobody asked for it", pk)
			}
			widened = widened || had && !has
			if standing {
				seen["standing"]++
			}
		}
		if widened && !p.Widens() {
			fail("the plan lets more through and does not say so: %s", told(p))
		}
		seen["unshut"] += len(p.Unshut)
		if widened {
			seen["widened"]++
		}
	}
	for _, what := range []string{"Shutting", "Shut", "Lifting", "standing", "unshut", "widened"} {
		if seen[what] < 20 {
			t.Errorf("%s was seen %d times: the test is weaker than it looks", what, seen[what])
		}
	}
}
