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

// groups reads layers such as "Allow 300 …; Deny 400 …", the outermost first, and
// gives every group the platform's default rules.
func groups(t testing.TB, layers ...string) (out []Group) {
	t.Helper()
	for i, l := range layers {
		g := Group{ID: access.ResourceID("/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/nsg-" + string(rune('a'+i))), Defaults: defaults(t)}
		for j, line := range strings.Split(l, ";") {
			if strings.TrimSpace(line) != "" {
				g.Rules = append(g.Rules, rule(t, string(rune('A'+j)), strings.TrimSpace(line)))
			}
		}
		out = append(out, g)
	}
	return out
}

func internet(s Settings, list []Group) (out []Layer) {
	for _, g := range list {
		out = append(out, s.InternetLayer(g, now))
	}
	return out
}

func TestExposure(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers []string
		want   string // status, rule@group
	}{
		{"no group at all", nil, "Unsupported @"},
		{"the defaults alone", []string{""}, "Shut @"},
		{"open to all", []string{"Allow 300 * * → * 22"}, "Exposed A@nsg-a"},
		{"by the tag", []string{"Allow 300 Tcp internet → * 22"}, "Exposed A@nsg-a"},
		{"to one address", []string{"Allow 300 Tcp 203.0.113.7 → 10.0.1.4 22"}, "Exposed A@nsg-a"},
		{"to private addresses", []string{"Allow 300 Tcp 10.0.0.0/8,100.64.0.0/10,192.168.0.0/16,fd00::/8 → * 22"}, "Shut @"},
		{"to all of IPv6 alone", []string{"Allow 300 Tcp ::/0 → * 22"}, "Shut @"},
		{"to the network and its load balancer", []string{"Allow 300 Tcp VirtualNetwork,AzureLoadBalancer → * 22"}, "Shut @"},
		{"from the network to the network", []string{"Allow 300 Tcp VirtualNetwork → VirtualNetwork 22"}, "Shut @"},
		{"to the network as destination", []string{"Allow 300 Tcp * → VirtualNetwork 22"}, "Exposed A@nsg-a"},
		{"to the internet as destination", []string{"Allow 300 Tcp * → Internet 22"}, "Shut @"},
		{"another port", []string{"Allow 300 Tcp * → * 443"}, "Shut @"},
		{"another protocol", []string{"Allow 300 Udp * → * 22"}, "Shut @"},
		{"denied before", []string{"Deny 200 * Internet → * 22; Allow 300 * * → * 22"}, "Shut @"},
		{"private addresses denied before", []string{"Deny 200 * VirtualNetwork,10.0.0.0/8 → * 22; Allow 300 * * → * 22"}, "Exposed B@nsg-a"},
		{"half of it denied before", []string{"Deny 200 * 0.0.0.0/1 → * 22; Allow 300 * * → * 22"}, "Exposed B@nsg-a"},
		{"both halves", []string{"Deny 200 * 0.0.0.0/1 → * 22; Deny 201 * 128.0.0.0/1 → * 22; Allow 300 * * → * 22"}, "Shut @"},

		{"another tag", []string{"Allow 300 Tcp AzureCloud → * 22"}, "Unknown A@nsg-a"},
		{"another tag, and all after it", []string{"Allow 300 Tcp AzureCloud → * 22; Allow 400 * * → * 22"}, "Exposed B@nsg-a"},
		{"another tag, decided before", []string{"Deny 200 * * → * 22; Allow 300 Tcp AzureCloud → * 22"}, "Shut @"},
		{"another tag denied", []string{"Deny 200 * AzureCloud → * 22; Allow 300 * * → * 22"}, "Unknown A@nsg-a"},
		{"a destination tag", []string{"Allow 300 Tcp * → Sql 22"}, "Unknown A@nsg-a"},

		{"both let it in", []string{"Allow 300 * * → * *", "Allow 300 Tcp Internet → * 22"}, "Exposed A@nsg-b"},
		{"the inner one does not", []string{"Allow 300 * * → * *", ""}, "Shut @"},
		{"the outer one does not", []string{"", "Allow 300 * * → * *"}, "Shut @"},
		{"they let in others", []string{"Allow 300 * 203.0.113.0/25 → * 22", "Allow 300 * 203.0.113.128/25 → * 22"}, "Shut @"},
		{"they share some", []string{"Allow 300 * 203.0.113.0/24 → * 22", "Allow 300 * 203.0.113.128/25 → * 22"}, "Exposed A@nsg-b"},
		{"the outer one may", []string{"Allow 300 * Storage → * 22", "Allow 300 * * → * 22"}, "Unknown A@nsg-a"},
		{"the inner one may, the outer not", []string{"", "Allow 300 * Storage → * 22"}, "Shut @"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := prod.Exposure(internet(prod, groups(t, tt.layers...)), netip.MustParseAddr("10.0.1.4"), 22, access.TCP)
			name := ""
			if got.Rule != nil {
				name = got.Rule.Name
			}
			if s := string(got.Status) + " " + name + "@" + got.NSG.Name(); s != tt.want || (got.Status == ExposureShut) != (got.Why == "") {
				t.Errorf("got %q (%s), want %q", s, got.Why, tt.want)
			}
		})
	}
}

func TestExposureSaysWhy(t *testing.T) {
	ask := func(layers ...string) string {
		return prod.Exposure(internet(prod, groups(t, layers...)), netip.MustParseAddr("10.0.1.4"), 22, access.TCP).Why
	}
	if got, want := ask("Allow 300 * * → * *", "Allow 310 Tcp Internet → * 22"),
		"rule A (priority 310) of nsg-b lets Internet in, and rule A (priority 300) of nsg-a lets * in to port 22/TCP"; got != want {
		t.Error(got)
	}
	if got, want := ask("Allow 300 Tcp VirtualNetwork,AzureCloud → * 22"),
		"it depends on rule A (source AzureCloud) of nsg-a, whose meaning is not known here"; got != want {
		t.Error(got)
	}
}

func TestARuleForSomeSourcePortsExposesAndDoesNotShut(t *testing.T) {
	g := groups(t, "Allow 300 Tcp * → * 22", "Allow 300 Tcp * → * 22")
	ask := func() ExposureStatus {
		return prod.Exposure(internet(prod, g), netip.MustParseAddr("10.0.1.4"), 22, access.TCP).Status
	}
	g[0].Rules[0].SourcePorts = []string{"1024-2000"}
	if got := ask(); got != Exposed {
		t.Errorf("an allow for some source ports: %s", got)
	}
	g[1].Rules[0].SourcePorts = []string{"3000-4000"}
	if got := ask(); got != ExposureShut {
		t.Errorf("no source port passes both: %s", got)
	}
	g[1].Rules[0].SourcePorts = []string{"ssh"}
	if got := ask(); got != ExposureUnknown {
		t.Errorf("a source port that cannot be read: %s", got)
	}
	deny := rule(t, "Deny", "Deny 200 * * → * 22")
	deny.SourcePorts = []string{"0-1023"}
	g[0].Rules, g[1].Rules[0].SourcePorts = append(g[0].Rules, deny), []string{"*"}
	if got := ask(); got != Exposed {
		t.Errorf("a deny for some source ports: %s", got)
	}
	for n := range maxSourcePorts {
		deny.SourcePorts = append(deny.SourcePorts, fmt.Sprintf("%d-%d", 2000+n*100, 2050+n*100))
	}
	g[0].Rules[len(g[0].Rules)-1] = deny
	if got := ask(); got != ExposureUnknown {
		t.Errorf("more kinds of source port than are told apart: %s", got)
	}
}

func TestAnApplicationSecurityGroupIsNoSourceOnTheInternet(t *testing.T) {
	g := groups(t, "Allow 300 Tcp * → * 22")
	g[0].Rules[0].Sources, g[0].Rules[0].SourceASGs = nil, []string{"/x/applicationSecurityGroups/ops"}
	if got := prod.Exposure(internet(prod, g), netip.MustParseAddr("10.0.1.4"), 22, access.TCP); got.Status != ExposureShut {
		t.Errorf("as a source: %+v", got)
	}
	g = groups(t, "Allow 300 Tcp * → * 22")
	g[0].Rules[0].Destinations, g[0].Rules[0].DestinationASGs = nil, []string{"/x/applicationSecurityGroups/ops"}
	if got := prod.Exposure(internet(prod, g), netip.MustParseAddr("10.0.1.4"), 22, access.TCP); got.Status != ExposureUnknown || !strings.Contains(got.Why, "destination application security group ops") {
		t.Errorf("as a destination: %+v", got)
	}
}

// A grant of ours is no exposure until it has expired, and a customer's rule of
// the same meaning is.
func TestOurOwnGrantsAreNoExposure(t *testing.T) {
	l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
	g := prod.Plan(Group{}, []access.Leg{l}, now).Apply(Group{})
	if len(g.Rules) != 1 {
		t.Fatal(g.Rules)
	}
	ask := func(at time.Time) ExposureStatus {
		return prod.Exposure([]Layer{prod.InternetLayer(g, at)}, l.Destinations[0], l.Port, l.Protocol).Status
	}
	if got := ask(now); got != ExposureShut {
		t.Errorf("a live grant: %s", got)
	}
	if got := ask(l.EndTime.Add(time.Second)); got != Exposed {
		t.Errorf("a grant that stays past its end: %s", got)
	}
	g.Rules[0].Name = "theirs"
	if got := ask(now); got != Exposed {
		t.Errorf("the customer's: %s", got)
	}
}

// someone is an address of the small world: four of a range and one of the rest.
var someone = []netip.Addr{
	netip.MustParseAddr("203.0.113.0"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.3"), netip.MustParseAddr("8.8.8.8"),
}

// letIn says whether one packet from the internet passes the rules, which are
// in their order, when the tags stand for the meaning.
func letIn(rules []Rule, src, port, sourcePort int, proto string, tags meaning) bool {
	number := func(list []string, n int) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			return s == "*" || s == "22" && n == 22 || s == "80" && n == 80 || s == "1000-2000" && n == 1500 || s == "4000-6000" && n == 5000
		})
	}
	for _, r := range rules {
		source := slices.ContainsFunc(r.Sources, func(s string) bool {
			switch s {
			case "*", "Internet":
				return true
			case "VirtualNetwork", "AzureLoadBalancer":
				return false
			case "Storage":
				return tags.source>>src&1 == 1
			}
			return prefix(s).Contains(someone[src])
		})
		dest := slices.ContainsFunc(r.Destinations, func(s string) bool {
			return s == "*" || s == "VirtualNetwork" || s == "10.0.1.4" || s == "Sql" && tags.dest == 1
		})
		if source && dest && (r.Protocol == "*" || r.Protocol == proto) && number(r.DestinationPorts, port) && number(r.SourcePorts, sourcePort) {
			return r.Access == Allow
		}
	}
	return false
}

func TestExposureAgainstEveryPacket(t *testing.T) {
	seen := map[ExposureStatus]int{}
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 5))
		tags := 0
		var layers []Layer
		var all [][]Rule
		for range 1 + r.IntN(2) {
			var rules []Rule
			for i := range 1 + r.IntN(5) {
				next := Rule{
					Name: string(rune('A' + i)), Priority: 100 + i, Direction: Inbound, Access: pick(r, Allow, Deny),
					Protocol:         pick(r, "*", "Tcp", "Udp", "*", "Tcp"),
					Sources:          some(r, 2, "*", "Internet", "VirtualNetwork", "AzureLoadBalancer", "203.0.113.0/30", "203.0.113.0/31", "203.0.113.2/31", "203.0.113.1", "10.0.0.0/8", "::/0", "Storage"),
					Destinations:     some(r, 1, "*", "*", "10.0.1.4", "10.0.1.5", "VirtualNetwork", "Internet", "Sql"),
					DestinationPorts: some(r, 2, "*", "22", "80"),
					SourcePorts:      some(r, 1, "*", "*", "*", "1000-2000", "4000-6000"),
				}
				if slices.Contains(next.Sources, "Storage") {
					tags++
				}
				if next.Destinations[0] == "Sql" {
					tags++
				}
				rules = append(rules, next)
			}
			all = append(all, rules)
			shuffled := slices.Clone(rules)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			layers = append(layers, prod.InternetLayer(Group{Rules: shuffled}, now))
		}
		port, proto := pick(r, 22, 80), pick(r, access.TCP, access.UDP, access.AnyProtocol)
		always, ever := true, false // that some packet passes
		for n := range 64 {
			any := false
			for src := range someone {
				for _, p := range []string{"Tcp", "Udp"} {
					for _, sourcePort := range []int{1500, 5000, 30000} {
						passes := proto == access.AnyProtocol || strings.EqualFold(string(proto), p)
						for _, rules := range all {
							passes = passes && letIn(rules, src, port, sourcePort, p, meaning{n & 31, n >> 5})
						}
						any = any || passes
					}
				}
			}
			always, ever = always && any, ever || any
		}
		got := prod.Exposure(layers, netip.MustParseAddr("10.0.1.4"), uint16(port), proto)
		seen[got.Status]++
		wrong := ""
		switch {
		case got.Status == Exposed && !always:
			wrong = "it may be that no packet passes"
		case got.Status == ExposureShut && ever:
			wrong = "some packet may pass"
		case tags > 1:
			// A tag met twice means the same both times, which is not followed up.
		case got.Status == ExposureUnknown && always == ever:
			wrong = "it is the same whatever the tags stand for"
		}
		if wrong != "" {
			t.Fatalf("seed %d: %s (%s), but %s\nport %d/%s, rules %+v", seed, got.Status, got.Why, wrong, port, proto, all)
		}
	}
	for _, s := range []ExposureStatus{Exposed, ExposureShut, ExposureUnknown} {
		if seen[s] < 200 {
			t.Errorf("only %d random cases were %s: the test is weaker than it looks", seen[s], s)
		}
	}
}

// More pieces than are followed up never make anything certain that is not.
func TestVeryManyPrefixesExposeNothingForCertain(t *testing.T) {
	deny := rule(t, "Many", "Deny 100 * * → * 22")
	deny.Sources = nil
	for n := range 2 * maxPieces { // every other address
		deny.Sources = append(deny.Sources, netip.AddrFrom4([4]byte{20, byte(n >> 15), byte(n >> 7), byte(n << 1)}).String())
	}
	g := Group{Rules: []Rule{deny, rule(t, "One", "Allow 200 * 20.0.0.0 → * 22")}}
	if got := prod.Exposure([]Layer{prod.InternetLayer(g, now)}, netip.MustParseAddr("10.0.1.4"), 22, access.TCP); got.Status == Exposed {
		t.Errorf("%+v", got)
	}
	g.Rules[1] = rule(t, "All", "Allow 200 * * → * 22")
	if got := prod.Exposure([]Layer{prod.InternetLayer(g, now)}, netip.MustParseAddr("10.0.1.4"), 22, access.TCP); got.Status == ExposureShut {
		t.Errorf("%+v", got)
	}
}

func TestMayPassFromNeighbours(t *testing.T) {
	peer := FromNetwork([]netip.Prefix{prefix("10.9.0.0/24")})
	ask := func(v Vantage, layers ...string) string {
		var list []Layer
		for _, g := range groups(t, layers...) {
			list = append(list, v.Layer(g))
		}
		var out []string
		for _, p := range MayPass(list, netip.MustParseAddr("10.0.1.4"), 22, access.TCP) {
			out = append(out, p.String())
		}
		return strings.Join(out, ",")
	}
	if got := ask(peer, "", ""); got != "10.9.0.0/24" {
		t.Errorf("by the default rule: %q", got)
	}
	if got := ask(peer, "Deny 200 * 10.9.0.128/25 → * 22", ""); got != "10.9.0.0/25" {
		t.Errorf("denied in part: %q", got)
	}
	if got := ask(peer, "Deny 200 * VirtualNetwork → * 22", ""); got != "" {
		t.Errorf("denied by the tag: %q", got)
	}
	if got := ask(peer, "Deny 200 * Internet → * 22", ""); got != "10.9.0.0/24" {
		t.Errorf("the internet denied: %q", got)
	}
	if got := ask(FromLoadBalancer(), "Deny 200 * VirtualNetwork → * 443", ""); got != "168.63.129.16/32" {
		t.Errorf("the load balancer: %q", got)
	}
	if got := ask(FromLoadBalancer(), "Deny 200 * * → * 22", ""); got != "" {
		t.Errorf("the load balancer denied: %q", got)
	}
}
