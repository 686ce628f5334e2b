package nsg

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// rule reads "Allow 300 Tcp 10.0.0.0/8,Internet → 10.0.1.4 22,80": access,
// priority, protocol, sources, destinations, ports.
func rule(t testing.TB, name, line string) Rule {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 7 {
		t.Fatalf("rule %q has %d fields", line, len(f))
	}
	priority := 0
	for _, c := range f[1] {
		priority = priority*10 + int(c-'0')
	}
	return Rule{
		Name: name, Access: Access(f[0]), Priority: priority, Direction: Inbound, Protocol: f[2],
		Sources: strings.Split(f[3], ","), SourcePorts: []string{"*"},
		Destinations: strings.Split(f[5], ","), DestinationPorts: strings.Split(f[6], ","),
	}
}

// defaults are the platform's inbound default rules, as Resource Manager gives them.
func defaults(t testing.TB) []Rule {
	return []Rule{
		rule(t, "AllowVnetInBound", "Allow 65000 * VirtualNetwork → VirtualNetwork *"),
		rule(t, "AllowAzureLoadBalancerInBound", "Allow 65001 * AzureLoadBalancer → * *"),
		rule(t, "DenyAllInBound", "Deny 65500 * * → * *"),
	}
}

func flow(source, dest string, port uint16, proto access.Protocol) Flow {
	return Flow{Source: prefix(source), Destination: netip.MustParseAddr(dest), Port: port, Protocol: proto}
}

func prefix(s string) netip.Prefix {
	p, ok := readPrefix(s)
	if !ok {
		panic(s)
	}
	return p
}

func TestEvaluate(t *testing.T) {
	ssh := flow("203.0.113.7", "10.0.1.4", 22, access.TCP)
	office := flow("203.0.113.0/24", "10.0.1.4", 22, access.TCP)
	tests := []struct {
		name  string
		rules []string // named A, B, C…
		flow  Flow
		want  string
	}{
		{"no rule at all", nil, ssh, "Denied, as no rule matches"},
		{"allowed", []string{"Allow 100 Tcp 203.0.113.7 → 10.0.1.4 22"}, ssh, "Allowed by rule A (priority 100)"},
		{"the lower number decides, not the order", []string{"Deny 200 * * → * *", "Allow 100 * * → * *"}, ssh, "Allowed by rule B (priority 100)"},
		{"Any in any case", []string{"Allow 100 any ANY → Any any"}, ssh, "Allowed by rule A (priority 100)"},
		{"another port", []string{"Allow 100 Tcp * → * 80,100-200"}, ssh, "Denied, as no rule matches"},
		{"a range of ports", []string{"Allow 100 Tcp * → * 20-25"}, ssh, "Allowed by rule A (priority 100)"},
		{"another protocol", []string{"Allow 100 Udp * → * *"}, ssh, "Denied, as no rule matches"},
		{"ICMP does not match", []string{"Deny 100 Icmp * → * *", "Allow 200 Tcp * → * *"}, ssh, "Allowed by rule B (priority 200)"},
		{"host bits are masked", []string{"Allow 100 Tcp 203.0.113.99/24 → * 22"}, ssh, "Allowed by rule A (priority 100)"},
		{"an unknown protocol may match", []string{"Deny 100 Sctp * → * *", "Allow 200 Tcp * → * *"}, ssh, "Unknown because of rule A (priority 100)"},
		{"an unreadable port may match", []string{"Deny 100 Tcp * → * ssh", "Allow 200 Tcp * → * *"}, ssh, "Unknown because of rule A (priority 100)"},

		{"allowed in part", []string{"Allow 100 Tcp 203.0.113.0/25 → * 22", "Deny 200 * * → * *"}, office, "Denied by rule B (priority 200)"},
		{"allowed in two halves", []string{"Allow 100 Tcp 203.0.113.0/25 → * 22", "Allow 200 Tcp 203.0.113.128/25 → * 22"}, office, "Allowed by rule B (priority 200)"},
		{"allowed by two halves in one", []string{"Allow 100 Tcp 203.0.113.0/25,203.0.113.128/25 → * 22"}, office, "Allowed by rule A (priority 100)"},
		{"denied in part", []string{"Deny 100 Tcp 203.0.113.9 → * 22", "Allow 200 * * → * *"}, office, "Denied by rule A (priority 100)"},
		{"denied in part, and in the end", []string{"Deny 100 Tcp 203.0.113.9 → * 22", "Deny 200 * * → * *"}, office, "Denied by rule B (priority 200)"},
		{"a denied part that was allowed before", []string{"Allow 100 * 203.0.113.0/28 → * *", "Deny 200 Tcp 203.0.113.9 → * 22", "Allow 300 * * → * *"}, office, "Allowed by rule C (priority 300)"},

		{"tag denies perhaps", []string{"Deny 100 * Internet → * *", "Allow 200 * * → * *"}, ssh, "Unknown because of rule A (source Internet)"},
		{"tag denies perhaps, deny in the end", []string{"Deny 100 * Internet → * *", "Deny 200 * * → * *"}, ssh, "Denied by rule B (priority 200)"},
		{"tag allows perhaps, allow in the end", []string{"Allow 100 * Internet → * *", "Allow 200 * * → * *"}, ssh, "Allowed by rule B (priority 200)"},
		{"tag allows perhaps, deny in the end", []string{"Allow 100 * VirtualNetwork → * *", "Deny 200 * * → * *"}, ssh, "Unknown because of rule A (source VirtualNetwork)"},
		{"tag as destination", []string{"Allow 100 * 203.0.113.7 → Storage.WestEurope *", "Deny 200 * * → * *"}, ssh, "Unknown because of rule A (destination Storage.WestEurope)"},
		{"tag beside the address", []string{"Allow 100 * Internet,203.0.113.7 → * *"}, ssh, "Allowed by rule A (priority 100)"},
		{"tag and no match after it", []string{"Allow 100 * Internet → * *"}, ssh, "Unknown because of rule A (source Internet)"},
		{"part denied after a tag that may allow it", []string{"Allow 100 * Internet → * *", "Deny 200 * 203.0.113.9 → * *", "Allow 300 * * → * *"}, office, "Unknown because of rule A (source Internet)"},
		{"part denied before a tag", []string{"Deny 100 * 203.0.113.9 → * *", "Allow 200 * Internet → * *", "Deny 300 * * → * *"}, office, "Denied by rule A (priority 100)"},
		{"the load balancer's tag is known", []string{"Allow 100 * AzureLoadBalancer → * *"}, flow("168.63.129.16", "10.0.1.4", 22, access.TCP), "Allowed by rule A (priority 100)"},
		{"and is nobody else", []string{"Deny 100 * azureloadbalancer → * *", "Allow 200 * * → * *"}, ssh, "Allowed by rule B (priority 200)"},

		{"both protocols by one rule", []string{"Allow 100 * * → * 22"}, flow("203.0.113.7", "10.0.1.4", 22, access.AnyProtocol), "Allowed by rule A (priority 100)"},
		{"both protocols by two rules", []string{"Allow 100 Tcp * → * 22", "Allow 200 Udp * → * 22", "Deny 300 * * → * *"}, flow("203.0.113.7", "10.0.1.4", 22, access.AnyProtocol), "Allowed by rule A (priority 100)"},
		{"one protocol is not both", []string{"Allow 100 Tcp * → * 22", "Deny 300 * * → * *"}, flow("203.0.113.7", "10.0.1.4", 22, access.AnyProtocol), "Denied by rule B (priority 300)"},

		{"IPv6", []string{"Deny 100 * 0.0.0.0/0 → * *", "Allow 200 * ::/0 → 2001:db8::4 22"}, flow("2001:db8:9::/48", "2001:db8::4", 22, access.TCP), "Allowed by rule B (priority 200)"},
		{"IPv6 is not 0.0.0.0/0", []string{"Allow 100 * 0.0.0.0/0 → * *"}, flow("2001:db8:9::1", "2001:db8::4", 22, access.TCP), "Denied, as no rule matches"},
		{"* is either family", []string{"Allow 100 * * → * *"}, flow("2001:db8:9::1", "2001:db8::4", 22, access.TCP), "Allowed by rule A (priority 100)"},
		{"no traffic between families", []string{"Allow 100 * * → * *"}, flow("203.0.113.7", "2001:db8::4", 22, access.TCP), "Denied, as no rule matches"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var g Group
			for i, line := range tt.rules {
				g.Rules = append(g.Rules, rule(t, string(rune('A'+i)), line))
			}
			if got := g.Evaluate(tt.flow).String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			slices.Reverse(g.Rules)
			if got := g.Evaluate(tt.flow).String(); got != tt.want {
				t.Errorf("with the rules the other way round: got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEvaluateDefaults(t *testing.T) {
	g := Group{Defaults: defaults(t)}
	if got := g.Evaluate(flow("203.0.113.7", "10.0.1.4", 22, access.TCP)).String(); got != "Unknown because of rule AllowVnetInBound (source VirtualNetwork)" {
		t.Errorf("defaults alone: %s", got)
	}
	g.Rules = []Rule{rule(t, "DenyManagementPorts", "Deny 4000 * * → * 22,3389")}
	if got := g.Evaluate(flow("203.0.113.7", "10.0.1.4", 22, access.TCP)).String(); got != "Denied by rule DenyManagementPorts (priority 4000)" {
		t.Errorf("with a deny of the customer's: %s", got)
	}
}

func TestEvaluateRareFields(t *testing.T) {
	allow := rule(t, "Allow", "Allow 200 * * → * *")
	ssh := flow("203.0.113.7", "10.0.1.4", 22, access.TCP)
	deny := func(change func(*Rule)) Rule {
		r := rule(t, "Odd", "Deny 100 * * → * *")
		change(&r)
		return r
	}
	tests := []struct {
		name string
		odd  Rule
		want string
	}{
		{"outbound", deny(func(r *Rule) { r.Direction = Outbound }), "Allowed by rule Allow (priority 200)"},
		{"lower case", deny(func(r *Rule) { r.Direction, r.Access = "inbound", "deny" }), "Denied by rule Odd (priority 100)"},
		{"some source ports", deny(func(r *Rule) { r.SourcePorts = []string{"1000-2000"} }), "Denied by rule Odd (priority 100)"},
		{"all source ports by number", deny(func(r *Rule) { r.SourcePorts = []string{"0-65535"} }), "Denied by rule Odd (priority 100)"},
		{"no source ports", deny(func(r *Rule) { r.SourcePorts = nil }), "Unknown because of rule Odd (priority 100)"},
		{"unknown access", deny(func(r *Rule) { r.Access = "Audit" }), "Unknown because of rule Odd (priority 100)"},
		{"a source group", deny(func(r *Rule) { r.Sources, r.SourceASGs = nil, []string{"/x/applicationSecurityGroups/web"} }), "Unknown because of rule Odd (source application security group web)"},
		{"a destination group", deny(func(r *Rule) { r.Destinations, r.DestinationASGs = nil, []string{"db"} }), "Unknown because of rule Odd (destination application security group db)"},
		{"no sources", deny(func(r *Rule) { r.Sources = nil }), "Unknown because of rule Odd (priority 100)"},
		{"IPv4-mapped", deny(func(r *Rule) { r.Sources = []string{"::ffff:203.0.113.7"} }), "Unknown because of rule Odd (source ::ffff:203.0.113.7)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Group{Rules: []Rule{allow, tt.odd}}).Evaluate(ssh).String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	limited := allow
	limited.SourcePorts = []string{"1024-65535"}
	if got := (Group{Rules: []Rule{limited}}).Evaluate(ssh); got.Outcome != OutcomeDenied {
		t.Errorf("an allow for some source ports lets everything through: %s", got)
	}
}

// meaning is one thing that the tags of the small world may stand for: sources
// and destinations, as bits by their last number.
type meaning struct{ source, dest int }

// The small world: 10.0.0.0–3 ask, 10.0.1.0–1 answer, on ports 22 and 80.
func passes(rules []Rule, src, dst, port, sourcePort int, proto string, tags meaning) bool {
	for _, r := range rules { // sorted by priority
		addr := func(list []string, net, last, tag int) bool {
			return slices.ContainsFunc(list, func(s string) bool {
				switch {
				case s == "*":
					return true
				case s == "Tag":
					return tag>>last&1 == 1
				}
				return prefix(s).Contains(netip.AddrFrom4([4]byte{10, 0, byte(net), byte(last)}))
			})
		}
		number := func(list []string, n int) bool {
			return slices.ContainsFunc(list, func(s string) bool {
				return s == "*" || s == "22" && n == 22 || s == "80" && n == 80 || s == "1000-2000" && n == 1500 || s == "20-90" && n < 100
			})
		}
		if (r.Protocol == "*" || r.Protocol == proto) && addr(r.Sources, 0, src, tags.source) && addr(r.Destinations, 1, dst, tags.dest) &&
			number(r.DestinationPorts, port) && number(r.SourcePorts, sourcePort) {
			return r.Access == Allow
		}
	}
	return false
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func some[T any](r *rand.Rand, most int, from ...T) (out []T) {
	for range 1 + r.IntN(most) {
		out = append(out, pick(r, from...))
	}
	return out
}

func TestEvaluateAgainstEveryPacket(t *testing.T) {
	seen := map[Outcome]int{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		limited, sourceTags, destTags := false, 0, 0
		var rules []Rule
		for i := range 1 + r.IntN(6) {
			next := Rule{
				Name: string(rune('A' + i)), Priority: 100 + i, Direction: Inbound, Access: pick(r, Allow, Deny),
				Protocol: pick(r, "*", "Tcp", "Udp", "Icmp", "*", "Tcp"),
				Sources:  some(r, 2, "*", "10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.1", "10.0.0.3", "Tag", "::/0"),
				// Mostly wide, so that rules meet.
				Destinations:     some(r, 1, "*", "*", "10.0.1.0/31", "10.0.1.0", "10.0.1.1", "Tag"),
				DestinationPorts: some(r, 2, "*", "22", "80", "20-90"),
				SourcePorts:      some(r, 1, "*", "*", "*", "*", "*", "*", "1000-2000"),
			}
			if slices.Contains(next.Sources, "Tag") {
				sourceTags++
			}
			if slices.Contains(next.Destinations, "Tag") {
				destTags++
			}
			limited = limited || next.SourcePorts[0] != "*"
			rules = append(rules, next)
		}
		f := Flow{
			Source: pick(r, prefix("10.0.0.0/30"), prefix("10.0.0.2/31"), prefix("10.0.0.1")), Destination: netip.AddrFrom4([4]byte{10, 0, 1, byte(r.IntN(2))}),
			Port: pick(r, uint16(22), 80), Protocol: pick(r, access.TCP, access.UDP, access.AnyProtocol),
		}
		everyMeaning, someMeaning := true, false // that all packets pass
		for n := range 64 {
			all := true
			for src := range 4 {
				for _, proto := range []string{"Tcp", "Udp"} {
					for _, sourcePort := range []int{1500, 5000} {
						if f.Source.Contains(netip.AddrFrom4([4]byte{10, 0, 0, byte(src)})) && (f.Protocol == access.AnyProtocol || strings.EqualFold(string(f.Protocol), proto)) {
							all = all && passes(rules, src, int(f.Destination.As4()[3]), int(f.Port), sourcePort, proto, meaning{n & 15, n >> 4})
						}
					}
				}
			}
			everyMeaning, someMeaning = everyMeaning && all, someMeaning || all
		}
		shuffled := slices.Clone(rules)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got := Group{Rules: shuffled}.Evaluate(f)
		seen[got.Outcome]++
		wrong := ""
		switch {
		case got.Outcome == OutcomeAllowed && !everyMeaning:
			wrong = "a packet may be dropped"
		case got.Outcome == OutcomeDenied && someMeaning && !limited:
			wrong = "every packet may pass"
		case limited || sourceTags > 1 || destTags > 1 || sourceTags+destTags > 1:
			// A tag met twice means the same both times, which is not followed up.
		case got.Outcome == OutcomeUnknown && everyMeaning == someMeaning:
			wrong = "it is the same whatever the tags stand for"
		}
		if wrong != "" {
			t.Fatalf("seed %d: %s, but %s\nflow %+v\nrules %+v", seed, got, wrong, f, rules)
		}
	}
	for _, o := range []Outcome{OutcomeAllowed, OutcomeDenied, OutcomeUnknown} {
		if seen[o] < 100 {
			t.Errorf("only %d random cases were %s: the test is weaker than it looks", seen[o], o)
		}
	}
}

func TestSubtractIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	random := func() (out []netip.Prefix) {
		for range r.IntN(4) {
			p, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}).Prefix(28 + r.IntN(5))
			out = append(out, p)
		}
		return out
	}
	holds := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for range 2000 {
		a, b := random(), random()
		minus, both, one := subtract(a, b), intersect(a, b), union(a)
		for n := range byte(16) {
			x := netip.AddrFrom4([4]byte{10, 0, 0, n})
			if holds(minus, x) != (holds(a, x) && !holds(b, x)) || holds(both, x) != (holds(a, x) && holds(b, x)) || holds(one, x) != holds(a, x) {
				t.Fatalf("%v and %v: without %v, both %v, union %v: wrong at %v", a, b, minus, both, one, x)
			}
		}
		for i, p := range one {
			if slices.ContainsFunc(one[i+1:], p.Overlaps) {
				t.Fatalf("union of %v overlaps: %v", a, one)
			}
		}
	}
}

// More pieces than are followed up must not make a deny disappear.
func TestVeryManyPrefixesStaySafe(t *testing.T) {
	many := rule(t, "Many", "Allow 100 * * → * *")
	many.Sources = nil
	for n := range 2 * maxPieces { // every other address
		many.Sources = append(many.Sources, netip.AddrFrom4([4]byte{10, byte(n >> 15), byte(n >> 7), byte(n << 1)}).String())
	}
	wide := flow("10.0.0.0/8", "10.0.1.4", 22, access.TCP)
	g := Group{Rules: []Rule{many, rule(t, "One", "Deny 200 * 10.0.0.1 → * *"), rule(t, "Rest", "Allow 300 * * → * *")}}
	if got := g.Evaluate(wide).String(); got != "Denied by rule One (priority 200)" {
		t.Error(got)
	}
	g.Rules[1].Priority = 400
	if got := g.Evaluate(wide).String(); got != "Allowed by rule Rest (priority 300)" {
		t.Error(got)
	}
}
