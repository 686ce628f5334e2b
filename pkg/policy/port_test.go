package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestProtocols(t *testing.T) {
	const lacks, which = "port_not_in_policy", "protocol_required"
	tests := []struct {
		policy []access.Protocol
		// what is granted, or why not, for a request of none, TCP, UDP and *
		none, tcp, udp, all string
	}{
		{nil, lacks, lacks, lacks, lacks},
		{[]access.Protocol{access.TCP}, "TCP", "TCP", lacks, lacks},
		{[]access.Protocol{access.UDP}, "UDP", lacks, "UDP", lacks},
		{[]access.Protocol{access.AnyProtocol}, "*", "TCP", "UDP", "*"},
		{[]access.Protocol{access.TCP, access.UDP}, which, "TCP", "UDP", lacks},
		{[]access.Protocol{access.UDP, access.TCP}, which, "TCP", "UDP", lacks},
	}
	for _, tt := range tests {
		p := office()
		p.Ports[0].Number = 23 // another port that is in the policy
		for _, proto := range tt.policy {
			port := p.Ports[0]
			port.Number, port.Protocol = 22, proto
			p.Ports = append(p.Ports, port)
		}
		for asked, want := range map[access.Protocol]string{"": tt.none, access.TCP: tt.tcp, access.UDP: tt.udp, access.AnyProtocol: tt.all} {
			a := askFor(webOne, 22, "")
			a.Protocol = asked
			r := fromAlice(a)
			d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)
			got := strings.Join(reasons(t, r, d), " ")
			if d.Allowed() {
				got = string(d.Granted[0].Protocol)
			}
			if got != want {
				t.Errorf("policy %q, asked %q: got %s, want %s", tt.policy, asked, got, want)
			}
		}
	}
}

func TestEachProtocolHasItsOwnSourcesAndMaximum(t *testing.T) {
	p := office()
	udp := p.Ports[0]
	udp.Protocol, udp.Sources, udp.MaxDuration = access.UDP, prefixesOf("198.51.100.0/24"), 30*time.Minute
	p.Ports = append(p.Ports, udp)
	for proto, want := range map[access.Protocol]string{access.TCP: "", access.UDP: "source_outside_policy"} {
		a := askFor(webOne, 22, "")
		a.Protocol, a.Duration = proto, 30*time.Minute
		r := fromAlice(a)
		if got := strings.Join(reasons(t, r, Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)), " "); got != want {
			t.Errorf("%s: got %q, want %q", proto, got, want)
		}
		a.Source, a.Duration = udp.Sources[0], time.Hour
		a.Protocol = access.UDP
		r = fromAlice(a)
		if got := reasons(t, r, Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)); !slices.Equal(got, []string{"duration_too_long"}) {
			t.Errorf("UDP for longer than UDP's maximum: %v", got)
		}
	}
}

func TestContainment(t *testing.T) {
	tests := []struct {
		name    string
		allowed []netip.Prefix
		source  string
		ok      bool
	}{
		{"an address in the range", prefixesOf("203.0.113.0/24"), "203.0.113.255/32", true},
		{"the address before it", prefixesOf("203.0.113.0/24"), "203.0.112.255/32", false},
		{"the address after it", prefixesOf("203.0.113.0/24"), "203.0.114.0/32", false},
		{"the range itself", prefixesOf("203.0.113.0/24"), "203.0.113.0/24", true},
		{"a range within it", prefixesOf("203.0.113.0/24"), "203.0.113.128/25", true},
		{"one bit wider, from the same address", prefixesOf("203.0.112.0/24"), "203.0.112.0/23", false},
		{"the allowed address alone", prefixesOf("203.0.113.7/32"), "203.0.113.7/32", true},
		{"a range around the allowed address", prefixesOf("203.0.113.7/32"), "203.0.113.6/31", false},
		{"in the second range", prefixesOf("198.51.100.0/24", "203.0.113.0/24"), "203.0.113.7/32", true},
		{"half in one and half in another", prefixesOf("203.0.113.0/25", "203.0.113.128/25"), "203.0.113.0/24", false},
		{"any IPv4", prefixesOf("0.0.0.0/0"), "203.0.113.7/32", true},
		{"any IPv4 is no IPv6", prefixesOf("0.0.0.0/0"), "2001:db8::7/128", false},
		{"any IPv6 is no IPv4", prefixesOf("::/0"), "203.0.113.7/32", false},
		{"IPv6 that embeds IPv4 is no IPv4", prefixesOf("::ffff:0:0/96"), "203.0.113.7/32", false},
		{"IPv4 is not IPv6 that embeds it", prefixesOf("203.0.113.0/24"), "::ffff:203.0.113.7/128", false},
		{"an IPv6 address in the range", prefixesOf("2001:db8::/32"), "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128", true},
		{"the IPv6 address after it", prefixesOf("2001:db8::/32"), "2001:db9::/128", false},
		{"an IPv6 range, a bit wider", prefixesOf("2001:db8::/32"), "2001:db8::/31", false},
		{"an IPv6 range past 64 bits", prefixesOf("2001:db8::1:0/112"), "2001:db8::1:8000/113", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, a := office(), askFor(webOne, 22, "here")
			p.Ports[0].Sources, a.Source = tt.allowed, netip.MustParsePrefix(tt.source)
			r := fromAlice(a)
			d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)
			got := reasons(t, r, d)
			if tt.ok != d.Allowed() || !tt.ok && !slices.Equal(got, []string{"here source_outside_policy"}) {
				t.Fatalf("got %v", got)
			}
			if !tt.ok && !strings.Contains(d.Violations[0].Message, access.FormatPrefix(tt.allowed[0])) {
				t.Errorf("the allowed range is not named: %s", d.Violations[0].Message)
			}
		})
	}
}

func TestContainmentAgainstEveryAddress(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	random := func() netip.Prefix {
		p, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}).Prefix(28 + r.IntN(5))
		return p
	}
	granted := 0
	for range 2000 {
		p, a := office(), askFor(webOne, 22, "")
		p.Ports[0].Sources, a.Source = []netip.Prefix{random(), random()}, random()
		inOne := slices.ContainsFunc(p.Ports[0].Sources, func(allowed netip.Prefix) bool {
			for n := range byte(16) {
				if x := netip.AddrFrom4([4]byte{10, 0, 0, n}); a.Source.Contains(x) && !allowed.Contains(x) {
					return false
				}
			}
			return true
		})
		got := Evaluate(t.Context(), fromAlice(a), []AccessPolicy{p}, Facts{}, Limits{}, nine).Allowed()
		if got != inOne {
			t.Fatalf("%v in one of %v: allowed %t", a.Source, p.Ports[0].Sources, got)
		}
		if got {
			granted++
		}
	}
	if granted < 200 || granted > 1800 {
		t.Errorf("%d of 2000 are granted: the test is weaker than it looks", granted)
	}
}

func TestManyRangesAreNotAllNamed(t *testing.T) {
	p, a := office(), askFor(webOne, 22, "")
	p.Ports[0].Sources = nil
	for n := range byte(MaxSources) {
		p.Ports[0].Sources = append(p.Ports[0].Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, n, 0}), 24))
	}
	d := Evaluate(t.Context(), fromAlice(a), []AccessPolicy{p}, Facts{}, Limits{}, nine)
	if d.Allowed() || len(d.Violations[0].Message) > 400 || !strings.Contains(d.Violations[0].Message, "10.0.0.0/24") {
		t.Errorf("got %+v", d.Violations)
	}
}

func TestDurations(t *testing.T) {
	limits := Limits{ShortestDuration: time.Minute}
	lasting := func(d time.Duration) func(*access.PortRequest) { return func(a *access.PortRequest) { a.Duration = d } }
	until := func(end time.Time) func(*access.PortRequest) {
		return func(a *access.PortRequest) { a.Duration, a.EndTime = 0, end }
	}
	tests := []struct {
		name string
		ask  func(*access.PortRequest)
		want string // the end, or why not
	}{
		{"an hour", lasting(time.Hour), "10:00:00"},
		{"the maximum", lasting(3 * time.Hour), "12:00:00"},
		{"a nanosecond more", lasting(3*time.Hour + 1), "duration_too_long"},
		{"a second more", lasting(3*time.Hour + time.Second), "duration_too_long"},
		{"longer than a time can hold", lasting(1<<63 - 1), "duration_too_long"},
		{"the shortest", lasting(time.Minute), "09:01:00"},
		{"a second less", lasting(59 * time.Second), "duration_too_short"},
		{"a nanosecond less", lasting(time.Minute - 1), "duration_too_short"},
		{"parts of a second are not granted", lasting(time.Hour + 999*time.Millisecond), "10:00:00"},

		{"until then", until(nine.Add(time.Hour)), "10:00:00"},
		{"until then, in another zone", until(time.Date(2026, 11, 24, 11, 0, 0, 0, time.FixedZone("CET", 3600))), "10:00:00"},
		{"until parts of a second after", until(nine.Add(time.Hour + 999*time.Millisecond)), "10:00:00"},
		{"until the maximum", until(nine.Add(3 * time.Hour)), "12:00:00"},
		{"until a second later", until(nine.Add(3*time.Hour + time.Second)), "duration_too_long"},
		{"until the shortest", until(nine.Add(time.Minute)), "09:01:00"},
		{"until a second before it", until(nine.Add(59 * time.Second)), "duration_too_short"},
		{"until now", until(nine), "end_time_past"},
		{"until a second ago", until(nine.Add(-time.Second)), "end_time_past"},
		{"until long ago", until(nine.AddDate(-100, 0, 0)), "end_time_past"},
		{"until long after", until(nine.AddDate(1000, 0, 0)), "duration_too_long"},
		{"neither", until(time.Time{}), "end_time_past"},
		{"less than nothing", lasting(-time.Hour), "end_time_past"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := askFor(webOne, 22, "")
			tt.ask(&a)
			r := fromAlice(a)
			d := Evaluate(t.Context(), r, []AccessPolicy{office()}, Facts{}, limits, nine)
			got := strings.Join(reasons(t, r, d), " ")
			if d.Allowed() {
				got = d.Granted[0].EndTime.Format(time.TimeOnly)
				if d.Granted[0].EndTime.Location() != time.UTC {
					t.Errorf("the end is in %s", d.Granted[0].EndTime.Location())
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Whatever the fractions, nobody gets more than asked for or than the policy
// has, and what is granted is still to come.
func TestNoGrantIsLongerThanItMayBe(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	p := office()
	p.Ports[0].MaxDuration = 5 * time.Minute
	granted := 0
	for range 3000 {
		now := nine.Add(time.Duration(r.Int64N(int64(2 * time.Second))))
		a := askFor(webOne, 22, "")
		asked := time.Duration(r.Int64N(int64(10*time.Minute))) - time.Minute
		if a.Duration = asked; r.IntN(2) == 0 {
			a.Duration, a.EndTime = 0, now.Add(asked)
		}
		d := Evaluate(t.Context(), fromAlice(a), []AccessPolicy{p}, Facts{}, Limits{}, now)
		if !d.Allowed() {
			continue
		}
		granted++
		end := d.Granted[0].EndTime
		if !end.After(now) || end.After(now.Add(asked)) || end.Sub(now) > p.Ports[0].MaxDuration || end.Nanosecond() != 0 {
			t.Fatalf("%s asked for at %s is granted until %s", asked, now, end)
		}
		if now.Add(asked).Sub(end) >= time.Second {
			t.Fatalf("%s asked for at %s is granted only until %s", asked, now, end)
		}
	}
	if granted < 500 {
		t.Errorf("only %d are granted: the test is weaker than it looks", granted)
	}
}

func TestNearestDecidesAlone(t *testing.T) {
	at := func(scope access.ResourceID, requestor string) AccessPolicy {
		p := office()
		p.Scope, p.Version, p.Requestors = scope, string(scope), []string{requestor}
		return p
	}
	const alice, bob = "alice@contoso.com", "bob@contoso.com"
	lacking := at(webOne, alice)
	lacking.Ports[0].Number = 3389
	tests := []struct {
		name     string
		policies []AccessPolicy
		decides  access.ResourceID
		want     string
	}{
		{"none", nil, "", "not_permitted"},
		{"the subscription's", []AccessPolicy{at(inSubscription, alice)}, inSubscription, ""},
		{"the group's before the subscription's", []AccessPolicy{at(inSubscription, bob), at(inGroup, alice)}, inGroup, ""},
		{"the machine's before all", []AccessPolicy{at(inSubscription, bob), at(inGroup, bob), at(webOne, alice)}, webOne, ""},
		{"the nearest leaves the requestor out", []AccessPolicy{at(inSubscription, alice), at(inGroup, alice), at(webOne, bob)}, webOne, "not_permitted"},
		{"the nearest has not the port", []AccessPolicy{at(inSubscription, alice), at(inGroup, alice), lacking}, webOne, "port_not_in_policy"},
		{"the group's leaves the requestor out", []AccessPolicy{at(inSubscription, alice), at(inGroup, bob)}, inGroup, "not_permitted"},
		{"another machine's", []AccessPolicy{at(webTwo, alice)}, "", "not_permitted"},
		{"a machine's whose name goes on", []AccessPolicy{at(webOne+"0", alice)}, "", "not_permitted"},
		{"a group's whose name goes on", []AccessPolicy{at(inGroup+"2", alice)}, "", "not_permitted"},
		{"a group's whose name is shorter", []AccessPolicy{at(inSubscription+"/resourcegroups/pro", alice)}, "", "not_permitted"},
		{"a scope of nothing", []AccessPolicy{at("", alice), at("/", alice)}, "", "not_permitted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				slices.Reverse(tt.policies) // in either order
				p, found := Nearest(webOne, tt.policies)
				if p.Scope != tt.decides || found != (tt.decides != "") {
					t.Errorf("the policy at %q decides, want %q", p.Scope, tt.decides)
				}
				r := fromAlice(askFor(webOne, 22, ""))
				d := Evaluate(t.Context(), r, tt.policies, Facts{}, Limits{}, nine)
				if got := strings.Join(reasons(t, r, d), " "); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if d.Allowed() && (d.Granted[0].Scope != tt.decides || d.Granted[0].Version != string(tt.decides)) {
					t.Errorf("the grant names %+v", d.Granted[0])
				}
			}
		})
	}
	t.Run("each machine has its own", func(t *testing.T) {
		r := fromAlice(askFor(webOne, 22, "a"), askFor(webTwo, 22, "b"))
		d := Evaluate(t.Context(), r, []AccessPolicy{at(inGroup, alice), at(webTwo, alice)}, Facts{}, Limits{}, nine)
		if _ = reasons(t, r, d); !d.Allowed() || d.Granted[0].Scope != inGroup || d.Granted[1].Scope != webTwo {
			t.Errorf("got %+v", d)
		}
	})
}

func TestEvaluateChangesNothingItWasGiven(t *testing.T) {
	r := fromAlice(askFor(webOne, 22, "a"), askFor(webTwo, 80, "b"))
	policies := []AccessPolicy{office()}
	before := fmt.Sprintf("%+v %+v", r, policies)
	one := Evaluate(t.Context(), r, policies, Facts{}, Limits{}, nine)
	two := Evaluate(t.Context(), r, policies, Facts{}, Limits{}, nine)
	if after := fmt.Sprintf("%+v %+v", r, policies); after != before {
		t.Errorf("was %s\nis  %s", before, after)
	}
	if !reflect.DeepEqual(one, two) {
		t.Errorf("decided once as %+v and once as %+v", one, two)
	}
}
