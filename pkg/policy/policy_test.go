package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

const (
	sub   = "/subscriptions/00000000-0000-0000-0000-000000000001"
	group = sub + "/resourcegroups/prod"
	vm    = access.ResourceID(group + "/providers/microsoft.compute/virtualmachines/web-1")
)

var now = time.Date(2026, 11, 24, 9, 0, 0, 700_000_000, time.UTC)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func base() policy.AccessPolicy {
	return policy.AccessPolicy{
		Scope: group, Version: "1", Requestors: []string{"Alice@contoso.com", "oid:22222222-2222-2222-2222-222222222222"},
		AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports: []policy.Port{
			{Number: 22, Protocol: access.TCP, Sources: prefixes("203.0.113.0/24", "2001:db8::/32"), MaxDuration: time.Hour},
			{Number: 53, Protocol: access.TCP, Sources: prefixes("203.0.113.0/24"), MaxDuration: time.Hour},
			{Number: 53, Protocol: access.UDP, Sources: prefixes("203.0.113.0/24"), MaxDuration: time.Hour},
		},
	}
}

func ask() access.Request {
	return access.Request{
		Requestor: access.Requestor{Name: "alice@contoso.com", Asserted: true}, RequestedBy: access.Sender{Channel: access.ChannelQueue},
		Ports: []access.PortRequest{{VM: vm, Port: 22, Source: netip.MustParsePrefix("203.0.113.7/32"), Duration: time.Hour}},
	}
}

func TestEachRuleOfAPolicy(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		change       func(*access.Request, *policy.AccessPolicy)
	}{
		{"good", "", func(*access.Request, *policy.AccessPolicy) {}},
		{"IPv6", "", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Ports[0].Source = netip.MustParsePrefix("2001:db8:7::/48")
		}},
		{"verified oid", "", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Requestor = access.Requestor{Name: "x", ObjectID: "22222222-2222-2222-2222-222222222222"}
		}},
		{"oid by assertion", "not_permitted", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Requestor = access.Requestor{Name: "oid:22222222-2222-2222-2222-222222222222", ObjectID: "22222222-2222-2222-2222-222222222222", Asserted: true}
		}},
		{"stranger", "not_permitted", func(r *access.Request, _ *policy.AccessPolicy) { r.Requestor.Name = "mallory@contoso.com" }},
		{"nobody", "not_permitted", func(_ *access.Request, p *policy.AccessPolicy) { p.Requestors = nil }},
		{"another scope", "not_permitted", func(_ *access.Request, p *policy.AccessPolicy) { p.Scope = sub + "/resourcegroups/other" }},
		{"assertion not taken", "asserted_requestor_refused", func(_ *access.Request, p *policy.AccessPolicy) { p.AssertedRequestorsFrom = nil }},
		{"justification", "justification_required", func(r *access.Request, p *policy.AccessPolicy) {
			p.RequireJustification, r.Justification = true, " \t"
		}},
		{"ticket", "ticket_required", func(_ *access.Request, p *policy.AccessPolicy) { p.RequireTicket = true }},
		{"another port", "port_not_in_policy", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Port = 3389 }},
		{"another protocol", "port_not_in_policy", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Protocol = access.UDP }},
		{"every protocol", "port_not_in_policy", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Protocol = access.AnyProtocol }},
		{"two protocols", "protocol_required", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Port = 53 }},
		{"outside", "source_outside_policy", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Ports[0].Source = netip.MustParsePrefix("203.0.112.0/23")
		}},
		{"too long", "duration_too_long", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Duration += time.Second }},
		{"too short", "duration_too_short", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports[0].Duration = 59 * time.Second }},
		{"end too late", "duration_too_long", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Ports[0].Duration, r.Ports[0].EndTime = 0, now.Add(time.Hour+time.Second)
		}},
		{"end past", "end_time_past", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Ports[0].Duration, r.Ports[0].EndTime = 0, now
		}},
		{"twice", "port_twice", func(r *access.Request, _ *policy.AccessPolicy) {
			r.Ports = append(r.Ports, r.Ports[0])
			r.Ports[1].Protocol = access.TCP
		}},
		{"nothing", "ports_missing", func(r *access.Request, _ *policy.AccessPolicy) { r.Ports = nil }},
	} {
		r, p := ask(), base()
		c.change(&r, &p)
		d := policy.Evaluate(t.Context(), r, []policy.AccessPolicy{p}, policy.Facts{}, policy.Limits{ShortestDuration: time.Minute}, now)
		switch {
		case c.reason == "" && (!d.Allowed() || d.Error() != nil || len(d.Granted) != len(r.Ports)):
			t.Errorf("%s: %+v", c.name, d)
		case c.reason != "" && (d.Allowed() || d.Error().Reason != c.reason || len(d.Granted) != 0):
			t.Errorf("%s: %+v, want %s", c.name, d, c.reason)
		}
	}
}

func TestTheEndIsAWholeSecondAndNeverLater(t *testing.T) {
	d := policy.Evaluate(t.Context(), ask(), []policy.AccessPolicy{base()}, policy.Facts{}, policy.Limits{}, now)
	if want := now.Add(time.Hour).Truncate(time.Second); !d.Granted[0].EndTime.Equal(want) || d.Granted[0].Protocol != access.TCP {
		t.Errorf("%+v", d.Granted[0])
	}
}

func TestTheNearestScopeDecidesAlone(t *testing.T) {
	strict := base()
	strict.Scope, strict.Requestors = vm, []string{"bob@contoso.com"}
	d := policy.Evaluate(t.Context(), ask(), []policy.AccessPolicy{base(), strict}, policy.Facts{}, policy.Limits{}, now)
	if d.Allowed() {
		t.Error("the wider policy let past what the nearer refuses")
	}
}

func TestOnePortRefusedRefusesAllAndNamesEach(t *testing.T) {
	r := ask()
	r.Ports = append(r.Ports,
		access.PortRequest{VM: vm, Port: 3389, Source: r.Ports[0].Source, Duration: time.Hour, Path: "a"},
		access.PortRequest{VM: vm, Port: 53, Protocol: access.UDP, Source: netip.MustParsePrefix("198.51.100.9/32"), Duration: time.Hour, Path: "b"})
	d := policy.Evaluate(t.Context(), r, []policy.AccessPolicy{base()}, policy.Facts{}, policy.Limits{}, now)
	if len(d.Granted) != 0 || len(d.Violations) != 2 || d.Violations[0].Path != "a" || d.Violations[1].Path != "b" || d.Error().Reason != "policy_violation" {
		t.Errorf("%+v", d)
	}
}

func TestAStrangerCannotTellAMissingPolicyFromOneThatLeavesThemOut(t *testing.T) {
	r := ask()
	r.Requestor.Name = "mallory@contoso.com"
	with := policy.Evaluate(t.Context(), r, []policy.AccessPolicy{base()}, policy.Facts{}, policy.Limits{}, now)
	without := policy.Evaluate(t.Context(), r, nil, policy.Facts{}, policy.Limits{}, now)
	if with.Violations[0] != without.Violations[0] {
		t.Errorf("%+v and %+v", with.Violations, without.Violations)
	}
}

func TestPoliciesAreValidated(t *testing.T) {
	if err := base().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*policy.AccessPolicy){
		"scope":      func(p *policy.AccessPolicy) { p.Scope = "x" },
		"no port":    func(p *policy.AccessPolicy) { p.Ports = nil },
		"port 0":     func(p *policy.AccessPolicy) { p.Ports[0].Number = 0 },
		"port twice": func(p *policy.AccessPolicy) { p.Ports[1].Protocol = access.AnyProtocol },
		"no source":  func(p *policy.AccessPolicy) { p.Ports[0].Sources = nil },
		"short":      func(p *policy.AccessPolicy) { p.Ports[0].MaxDuration = 4 * time.Minute },
		"long":       func(p *policy.AccessPolicy) { p.Ports[0].MaxDuration = 25 * time.Hour },
		"requestor":  func(p *policy.AccessPolicy) { p.Requestors = []string{"oid:x"} },
		"channel":    func(p *policy.AccessPolicy) { p.AssertedRequestorsFrom = []access.Channel{"http"} },
	} {
		p := base()
		if change(&p); access.CodeOf(p.Validate()) != access.InvalidArgument {
			t.Errorf("%s: %v", name, p.Validate())
		}
	}
}
