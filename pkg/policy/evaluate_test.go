package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	inSubscription = access.ResourceID("/subscriptions/00000000-0000-0000-0000-000000000001")
	inGroup        = inSubscription + "/resourcegroups/prod"
	webOne         = inGroup + "/providers/microsoft.compute/virtualmachines/web-1"
	webTwo         = inGroup + "/providers/microsoft.compute/virtualmachines/web-2"
	aliceID        = "aaaaaaaa-2222-3333-4444-bbbbbbbbbbbb"
)

var nine = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func prefixesOf(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// office lets Alice, asserted by the queue, ask for 22/TCP of anything in the
// resource group for three hours.
func office() AccessPolicy {
	return AccessPolicy{
		Scope: inGroup, Version: "7", Requestors: []string{"alice@contoso.com"},
		AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports:                  []Port{{Number: 22, Protocol: access.TCP, Sources: prefixesOf("203.0.113.0/24", "2001:db8::/32"), MaxDuration: 3 * time.Hour}},
	}
}

func askFor(vm access.ResourceID, port uint16, path string) access.PortRequest {
	return access.PortRequest{VM: vm, Port: port, Source: netip.MustParsePrefix("203.0.113.7/32"), Duration: time.Hour, Path: path}
}

func fromAlice(ports ...access.PortRequest) access.Request {
	return access.Request{
		Requestor: access.Requestor{Name: "alice@contoso.com", Asserted: true}, RequestedBy: access.Sender{Channel: access.ChannelQueue},
		Ports: ports,
	}
}

// reasons gives a decision's violations in short, and checks what holds of
// every decision.
func reasons(t *testing.T, req access.Request, d Decision) (out []string) {
	t.Helper()
	for _, v := range d.Violations {
		out = append(out, strings.TrimSpace(v.Path+" "+v.Reason))
		if v.Message == "" {
			t.Errorf("%s is said without a word of explanation", v.Reason)
		}
	}
	switch err := d.Error(); {
	case d.Allowed() != (len(out) == 0) || d.Allowed() != (err == nil):
		t.Errorf("allowed is %t, the violations %v, the error %v", d.Allowed(), out, err)
	case d.Allowed() && len(d.Granted) != len(req.Ports):
		t.Errorf("%d of %d ports are granted", len(d.Granted), len(req.Ports))
	case !d.Allowed() && len(d.Granted) != 0:
		t.Errorf("refused, and yet grants %+v", d.Granted)
	case !d.Allowed() && err.Code != access.PermissionDenied:
		t.Errorf("refused with the code %s", err.Code)
	}
	return out
}

func TestWholeRequest(t *testing.T) {
	many := func(n int) (out []access.PortRequest) {
		for i := range n {
			out = append(out, askFor(inGroup+access.ResourceID("/providers/microsoft.compute/virtualmachines/vm-"+string(rune('a'+i/26))+string(rune('a'+i%26))), 22, ""))
		}
		return out
	}
	tests := []struct {
		name   string
		change func(r *access.Request, p *AccessPolicy)
		want   string // the one reason; "" is granted
	}{
		{"as it should be", func(r *access.Request, p *AccessPolicy) {}, ""},
		{"no ports", func(r *access.Request, p *AccessPolicy) { r.Ports = nil }, "ports_missing"},
		{"as many ports as there may be", func(r *access.Request, p *AccessPolicy) { r.Ports = many(access.MaxPorts) }, ""},
		{"one port too many", func(r *access.Request, p *AccessPolicy) { r.Ports = many(access.MaxPorts + 1) }, "too_many_ports"},
		{"500 ports are one violation", func(r *access.Request, p *AccessPolicy) { r.Ports = many(500) }, "too_many_ports"},
		{"a port that the policy lacks", func(r *access.Request, p *AccessPolicy) { r.Ports[0].Port = 3389 }, "port_not_in_policy"},

		{"justification", func(r *access.Request, p *AccessPolicy) { p.RequireJustification, r.Justification = true, "disk full" }, ""},
		{"no justification", func(r *access.Request, p *AccessPolicy) { p.RequireJustification = true }, "justification_required"},
		{"blank justification", func(r *access.Request, p *AccessPolicy) {
			p.RequireJustification, r.Justification = true, " \t\r\n\u00a0"
		}, "justification_required"},
		{"a ticket is no justification", func(r *access.Request, p *AccessPolicy) { p.RequireJustification, r.Ticket = true, "INC1" }, "justification_required"},
		{"ticket", func(r *access.Request, p *AccessPolicy) { p.RequireTicket, r.Ticket = true, "INC1" }, ""},
		{"no ticket", func(r *access.Request, p *AccessPolicy) { p.RequireTicket = true }, "ticket_required"},
		{"blank ticket", func(r *access.Request, p *AccessPolicy) { p.RequireTicket, r.Ticket = true, "  " }, "ticket_required"},
		{"a justification is no ticket", func(r *access.Request, p *AccessPolicy) { p.RequireTicket, r.Justification = true, "disk full" }, "ticket_required"},

		{"asserted, and no channel is believed", func(r *access.Request, p *AccessPolicy) { p.AssertedRequestorsFrom = nil }, "asserted_requestor_refused"},
		{"asserted by another channel", func(r *access.Request, p *AccessPolicy) { r.RequestedBy.Channel = access.ChannelHTTP }, "asserted_requestor_refused"},
		{"asserted by no channel", func(r *access.Request, p *AccessPolicy) { r.RequestedBy.Channel = "" }, "asserted_requestor_refused"},
		{"with a token, no channel need be believed", func(r *access.Request, p *AccessPolicy) { r.Requestor.Asserted, p.AssertedRequestorsFrom = false, nil }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, p := fromAlice(askFor(webOne, 22, "")), office()
			tt.change(&r, &p)
			d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)
			_ = reasons(t, r, d)
			if tt.want == "" {
				if !d.Allowed() {
					t.Errorf("refused: %+v", d.Violations)
				}
				return
			}
			if len(d.Violations) != 1 || d.Violations[0].Reason != tt.want || d.Error().Reason != tt.want {
				t.Errorf("got %+v, want %s", d.Violations, tt.want)
			}
		})
	}
}

func TestGrantTellsWhatWasGrantedAndByWhat(t *testing.T) {
	r := fromAlice(askFor(webTwo, 22, "b"), askFor(webOne, 22, "a"))
	d := Evaluate(t.Context(), r, []AccessPolicy{office()}, Facts{}, Limits{}, nine)
	want := []Granted{
		{Request: r.Ports[0], Protocol: access.TCP, EndTime: nine.Add(time.Hour), Scope: inGroup, Version: "7"},
		{Request: r.Ports[1], Protocol: access.TCP, EndTime: nine.Add(time.Hour), Scope: inGroup, Version: "7"},
	}
	if !d.Allowed() || d.Internal != nil || !reflect.DeepEqual(d.Granted, want) {
		t.Errorf("got %+v", d)
	}
}

func TestRequestors(t *testing.T) {
	named := func(name string) access.Requestor { return access.Requestor{Name: name} }
	asserted := func(name string) access.Requestor { return access.Requestor{Name: name, Asserted: true} }
	tests := []struct {
		name    string
		entries []string
		who     access.Requestor
		ok      bool
	}{
		{"by name", []string{"bob@contoso.com", "alice@contoso.com"}, named("alice@contoso.com"), true},
		{"by name in another case", []string{"Alice@Contoso.com"}, named("ALICE@contoso.COM"), true},
		{"by name, asserted", []string{"alice@contoso.com"}, asserted("alice@contoso.com"), true},
		{"somebody else", []string{"alice@contoso.com"}, named("mallory@contoso.com"), false},
		{"a longer name", []string{"alice@contoso.com"}, named("alice@contoso.com.evil.example"), false},
		{"a shorter name", []string{"alice@contoso.com"}, named("alice"), false},
		{"a name with space around it", []string{"alice@contoso.com"}, named(" alice@contoso.com"), false},
		{"a letter that only folds to the same", []string{"kate@contoso.com"}, named("\u212aate@contoso.com"), false},
		{"nobody may", nil, named("alice@contoso.com"), false},
		{"anybody", []string{"*"}, named("mallory@contoso.com"), true},
		{"anybody, asserted", []string{"*"}, asserted("mallory@contoso.com"), true},
		{"no name", []string{"alice@contoso.com"}, named(""), false},
		{"an empty entry is not no name", []string{""}, named(""), false},
		{"a star in the name is not anybody", []string{"alice@contoso.com"}, asserted("*"), false},
		{"a pattern is no pattern", []string{"*@contoso.com"}, named("alice@contoso.com"), false},
		{"by id", []string{"oid:" + aliceID}, access.Requestor{Name: "renamed@contoso.com", ObjectID: aliceID}, true},
		{"by id in another case", []string{"oid:" + strings.ToUpper(aliceID)}, access.Requestor{ObjectID: aliceID}, true},
		{"another's id", []string{"oid:" + aliceID}, access.Requestor{Name: "alice@contoso.com", ObjectID: "bbbbbbbb-2222-3333-4444-bbbbbbbbbbbb"}, false},
		{"no id", []string{"oid:" + aliceID}, named("alice@contoso.com"), false},
		{"an id without a value is not no id", []string{"oid:"}, named("alice@contoso.com"), false},
		{"an id asserted as a name", []string{"oid:" + aliceID}, asserted("oid:" + aliceID), false},
		{"an id asserted as an id", []string{"oid:" + aliceID}, access.Requestor{Name: "x", ObjectID: aliceID, Asserted: true}, false},
		{"an id vouched for as a name", []string{"oid:" + aliceID}, named(aliceID), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, p := fromAlice(askFor(webOne, 22, "")), office()
			r.Requestor, p.Requestors = tt.who, tt.entries
			got := reasons(t, r, Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine))
			if tt.ok && got != nil || !tt.ok && !slices.Equal(got, []string{"not_permitted"}) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestAStrangerLearnsNothing(t *testing.T) {
	// Everything else about the request is wrong as well, and must not show.
	bad := askFor(webOne, 3389, "virtualMachines[0].ports[0]")
	bad.Source, bad.Duration = netip.MustParsePrefix("198.51.100.0/24"), 90*24*time.Hour
	p := office()
	p.RequireJustification, p.RequireTicket, p.AssertedRequestorsFrom = true, true, nil
	r := fromAlice(bad)
	r.Requestor.Name = "mallory@contoso.com"
	elsewhere := p
	elsewhere.Scope = inSubscription + "/resourcegroups/other"

	seen := map[string]bool{}
	var first []access.Violation
	for name, policies := range map[string][]AccessPolicy{"no policy": nil, "left out": {p}, "a policy elsewhere": {elsewhere}} {
		d := Evaluate(t.Context(), r, policies, Facts{}, Limits{ShortestDuration: time.Minute}, nine)
		if got := reasons(t, r, d); !slices.Equal(got, []string{"virtualMachines[0].ports[0] not_permitted"}) {
			t.Errorf("%s: %v", name, got)
		}
		if first == nil {
			first = d.Violations
		}
		if !reflect.DeepEqual(d.Violations, first) || d.Error().Error() != (Decision{Violations: first}).Error().Error() {
			t.Errorf("%s can be told from the others: %+v and %+v", name, d.Violations, first)
		}
		if len(d.Internal) != 1 {
			t.Errorf("%s: the audit is told %q", name, d.Internal)
			continue
		}
		seen[d.Internal[0]] = true
	}
	if len(seen) != 2 {
		t.Errorf("the audit cannot tell a missing policy from one that leaves the requestor out: %v", seen)
	}
}

func TestAllOrNothing(t *testing.T) {
	stranger := office()
	stranger.Scope, stranger.Requestors = webTwo, []string{"bob@contoso.com"}
	long := askFor(webOne, 22, "long")
	long.Duration = 4 * time.Hour
	far := askFor(webOne, 22, "far")
	far.Source = netip.MustParsePrefix("198.51.100.7/32")
	good, lacking, foreign := askFor(webOne, 22, "good"), askFor(webOne, 80, "lacking"), askFor(webTwo, 22, "foreign")
	tests := []struct {
		name  string
		ports []access.PortRequest
		want  []string
	}{
		{"one good", []access.PortRequest{good}, nil},
		{"a bad one after", []access.PortRequest{good, lacking}, []string{"lacking port_not_in_policy"}},
		{"a bad one before", []access.PortRequest{lacking, good}, []string{"lacking port_not_in_policy"}},
		{"too long", []access.PortRequest{long}, []string{"long duration_too_long"}},
		{"each is named", []access.PortRequest{far, lacking, foreign}, []string{"far source_outside_policy", "lacking port_not_in_policy", "foreign not_permitted"}},
		{"one machine's secret is not the other's", []access.PortRequest{foreign, long}, []string{"foreign not_permitted", "long duration_too_long"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fromAlice(tt.ports...)
			d := Evaluate(t.Context(), r, []AccessPolicy{stranger, office()}, Facts{}, Limits{}, nine)
			if got := reasons(t, r, d); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if len(tt.want) > 1 && (d.Error().Reason != "policy_violation" || !reflect.DeepEqual(d.Error().Violations, d.Violations)) {
				t.Errorf("the error is %+v", d.Error())
			}
		})
	}
}

func TestWhatConcernsTheWholeRequestIsSaidOnce(t *testing.T) {
	p := office()
	p.RequireJustification, p.RequireTicket = true, true
	r := fromAlice(askFor(webOne, 22, "a"), askFor(webTwo, 22, "b"))
	for want, believed := range map[string][]access.Channel{
		"justification_required ticket_required": p.AssertedRequestorsFrom,
		"asserted_requestor_refused":             nil,
	} {
		p.AssertedRequestorsFrom = believed
		var got []string
		for _, v := range Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine).Violations {
			got = append(got, v.Reason)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

func TestPortTwice(t *testing.T) {
	p := office()
	p.Ports[0].Protocol = access.AnyProtocol
	with := func(path string, proto access.Protocol, change ...func(*access.PortRequest)) access.PortRequest {
		a := askFor(webOne, 22, path)
		a.Protocol = proto
		for _, c := range change {
			c(&a)
		}
		return a
	}
	elsewhere := func(a *access.PortRequest) { a.Source = netip.MustParsePrefix("203.0.113.8/32") }
	other := func(a *access.PortRequest) { a.VM = webTwo }
	tests := []struct {
		name  string
		ports []access.PortRequest
		want  []string
	}{
		{"the same", []access.PortRequest{with("a", access.TCP), with("b", access.TCP)}, []string{"b port_twice"}},
		{"three times", []access.PortRequest{with("a", access.TCP), with("b", access.TCP), with("c", access.TCP)}, []string{"b port_twice", "c port_twice"}},
		{"unset and TCP", []access.PortRequest{with("a", ""), with("b", access.TCP)}, []string{"b port_twice"}},
		{"UDP and unset", []access.PortRequest{with("a", access.UDP), with("b", "")}, []string{"b port_twice"}},
		{"every protocol and UDP", []access.PortRequest{with("a", access.AnyProtocol), with("b", access.UDP)}, []string{"b port_twice"}},
		{"TCP and every protocol", []access.PortRequest{with("a", access.TCP), with("b", access.AnyProtocol)}, []string{"b port_twice"}},
		{"from another source all the same", []access.PortRequest{with("a", access.TCP), with("b", access.TCP, elsewhere)}, []string{"b port_twice"}},
		{"TCP and UDP are two", []access.PortRequest{with("a", access.TCP), with("b", access.UDP)}, nil},
		{"of another machine", []access.PortRequest{with("a", access.TCP), with("b", access.TCP, other)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fromAlice(tt.ports...)
			if got := reasons(t, r, Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{}, Limits{}, nine)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
