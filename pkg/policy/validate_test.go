package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestValidate(t *testing.T) {
	sources := func(n int) (out []netip.Prefix) {
		for i := range n {
			out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		}
		return out
	}
	ports := func(p *AccessPolicy, n int) {
		for i := 1; i < n; i++ {
			p.Ports = append(p.Ports, p.Ports[0])
			p.Ports[i].Number = uint16(1000 + i)
		}
	}
	and := func(p *AccessPolicy, number uint16, proto access.Protocol) {
		p.Ports = append(p.Ports, Port{Number: number, Protocol: proto, Sources: sources(1), MaxDuration: time.Hour})
	}
	tests := []struct {
		name   string
		change func(p *AccessPolicy)
		want   string // path and reason of each fault
	}{
		{"as it should be", func(p *AccessPolicy) {}, ""},
		{"at a subscription", func(p *AccessPolicy) { p.Scope = inSubscription }, ""},
		{"at a machine", func(p *AccessPolicy) { p.Scope = webOne }, ""},
		{"at nothing", func(p *AccessPolicy) { p.Scope = "" }, "scope resource_id_missing"},
		{"at no id", func(p *AccessPolicy) { p.Scope = "prod" }, "scope resource_id_invalid"},
		{"at an NSG", func(p *AccessPolicy) {
			p.Scope = inGroup + "/providers/microsoft.network/networksecuritygroups/web"
		}, "scope scope_invalid"},

		{"no ports", func(p *AccessPolicy) { p.Ports = nil }, "ports ports_count"},
		{"the most ports", func(p *AccessPolicy) { ports(p, MaxPorts) }, ""},
		{"a port more", func(p *AccessPolicy) { ports(p, MaxPorts+1) }, "ports ports_count"},
		{"port 0", func(p *AccessPolicy) { p.Ports[0].Number = 0 }, "ports[0].number port_invalid"},
		{"port 1", func(p *AccessPolicy) { p.Ports[0].Number = 1 }, ""},
		{"port 65535", func(p *AccessPolicy) { p.Ports[0].Number = 65535 }, ""},
		{"UDP", func(p *AccessPolicy) { p.Ports[0].Protocol = access.UDP }, ""},
		{"every protocol", func(p *AccessPolicy) { p.Ports[0].Protocol = access.AnyProtocol }, ""},
		{"no protocol", func(p *AccessPolicy) { p.Ports[0].Protocol = "" }, "ports[0].protocol protocol_invalid"},
		{"ICMP", func(p *AccessPolicy) { p.Ports[0].Protocol = "ICMP" }, "ports[0].protocol protocol_invalid"},
		{"a protocol in lower case", func(p *AccessPolicy) { p.Ports[0].Protocol = "tcp" }, "ports[0].protocol protocol_invalid"},

		{"a port twice", func(p *AccessPolicy) { and(p, 22, access.TCP) }, "ports[1] port_twice"},
		{"a port and every protocol of it", func(p *AccessPolicy) { and(p, 22, access.AnyProtocol) }, "ports[1] port_twice"},
		{"every protocol of a port and one", func(p *AccessPolicy) {
			p.Ports[0].Protocol = access.AnyProtocol
			and(p, 22, access.UDP)
		}, "ports[1] port_twice"},
		{"a port by two protocols", func(p *AccessPolicy) { and(p, 22, access.UDP) }, ""},

		{"no source", func(p *AccessPolicy) { p.Ports[0].Sources = nil }, "ports[0] sources_count"},
		{"the most sources", func(p *AccessPolicy) { p.Ports[0].Sources = sources(MaxSources) }, ""},
		{"a source more", func(p *AccessPolicy) { p.Ports[0].Sources = sources(MaxSources + 1) }, "ports[0] sources_count"},
		{"any source", func(p *AccessPolicy) { p.Ports[0].Sources = prefixesOf("0.0.0.0/0", "::/0") }, ""},

		{"the least maximum", func(p *AccessPolicy) { p.Ports[0].MaxDuration = 5 * time.Minute }, ""},
		{"a second less", func(p *AccessPolicy) { p.Ports[0].MaxDuration = 5*time.Minute - time.Second }, "ports[0].maxRequestAccessDuration max_duration_invalid"},
		{"the most", func(p *AccessPolicy) { p.Ports[0].MaxDuration = 24 * time.Hour }, ""},
		{"a second more", func(p *AccessPolicy) { p.Ports[0].MaxDuration = 24*time.Hour + time.Second }, "ports[0].maxRequestAccessDuration max_duration_invalid"},
		{"no maximum", func(p *AccessPolicy) { p.Ports[0].MaxDuration = 0 }, "ports[0].maxRequestAccessDuration max_duration_invalid"},

		{"nobody", func(p *AccessPolicy) { p.Requestors = nil }, ""},
		{"anybody, and an id", func(p *AccessPolicy) {
			p.Requestors = []string{"*", "oid:" + aliceID, "oid:" + strings.ToUpper(aliceID)}
		}, ""},
		{"too many requestors", func(p *AccessPolicy) { p.Requestors = slices.Repeat([]string{"*"}, MaxRequestors+1) }, "requestors requestors_count"},
		{"no channel", func(p *AccessPolicy) { p.AssertedRequestorsFrom = nil }, ""},
		{"HTTP asserts nobody", func(p *AccessPolicy) { p.AssertedRequestorsFrom = []access.Channel{access.ChannelHTTP} }, "assertedRequestorsFrom[0] channel_invalid"},
		{"a channel misspelt", func(p *AccessPolicy) {
			p.AssertedRequestorsFrom = []access.Channel{access.ChannelQueue, "Queue"}
		}, "assertedRequestorsFrom[1] channel_invalid"},

		{"every fault is named", func(p *AccessPolicy) {
			p.Scope, p.Ports[0].Number, p.Ports[0].Sources, p.Requestors = "", 0, nil, []string{"*", ""}
		}, "scope resource_id_missing; ports[0].number port_invalid; ports[0] sources_count; requestors[1] requestor_invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := office()
			tt.change(&p)
			err := p.Validate()
			var got []string
			if err != nil {
				e := access.AsError(err)
				if e.Code != access.InvalidArgument || e.Reason != "policy_invalid" || len(e.Violations) == 0 {
					t.Errorf("the error is %+v", e)
				}
				for _, v := range e.Violations {
					got = append(got, v.Path+" "+v.Reason)
				}
			}
			if strings.Join(got, "; ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestValidateRequestors(t *testing.T) {
	for entry, ok := range map[string]bool{
		"alice@contoso.com": true,
		"Alice_contoso.com#EXT#@fabrikam.onmicrosoft.com": true,
		"mañana@contoso.com":                              true,
		"*":                                               true,
		"oid:" + aliceID:                                  true,
		"":                                                false,
		" ":                                               false,
		"alice @contoso.com":                              false,
		" alice@contoso.com":                              false,
		"alice@contoso.com\n":                             false,
		"alice\x00@contoso.com":                           false,
		"alice\u200b@contoso.com":                         false, // not to be seen
		"*@contoso.com":                                   false,
		"**":                                              false,
		"oid:":                                            false,
		"oid:*":                                           false,
		"oid:" + aliceID + "0":                            false,
		"oid:" + aliceID[1:]:                              false,
		"oid: " + aliceID:                                 false,
		"OID:" + aliceID:                                  false, // would match nobody
		"group:admins":                                    false,
		"a" + strings.Repeat("b", 255):                    true,
		"a" + strings.Repeat("b", 256):                    false,
		"oid:" + strings.ReplaceAll(aliceID, "-", ""):          false,
		"oid:" + strings.ReplaceAll(aliceID, "a", "g"):         false,
		"oid:" + aliceID + "\noid:" + aliceID:                  false,
		"alice@contoso.com" + "\u2028" + "mallory@contoso.com": false,
	} {
		p := office()
		p.Requestors = []string{entry}
		err := p.Validate()
		if ok != (err == nil) {
			t.Errorf("%q: %v", entry, err)
		}
		if err != nil && access.AsError(err).Violations[0].Reason != "requestor_invalid" {
			t.Errorf("%q: %+v", entry, access.AsError(err).Violations)
		}
	}
}
