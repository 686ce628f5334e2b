package nsg_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// FuzzEvaluate judges traffic by a rule whose words are anybody's: what it is not
// certain of is not allowed, and what a rule before it surely drops is denied.
func FuzzEvaluate(f *testing.F) {
	for _, s := range [][7]string{
		{"Inbound", "Allow", "Tcp", "203.0.113.0/24", "10.0.0.4", "*", "22"}, {"inbound", "ALLOW", "*", "*", "Any", "0-65535", " 20 - 30"},
		{"Inbound", "Allow", "", "VirtualNetwork", "10.0.0.0/8", "*", "22-"}, {"Outbound", "Allow", "Tcp", "*", "*", "*", "*"}, {"Inbound", "Permit", "Tcp", "*", "*", "*", "*"},
		{"Inbound", "Allow", "Tcp", "::ffff:203.0.113.0/120", "::/0", "*", "65536"}, {"Inbound", "Allow", "Udp", "203.0.113.7/0", "10.0.0.4%eth0", "1-0", "22"}, {"Inbound", "Deny", "Tcp", "*", "*", "*", "*"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4], s[5], s[6], uint16(22))
	}
	everything := nsg.Rule{Name: "shut", Priority: 50, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"*"}}
	f.Fuzz(func(t *testing.T, direction, does, protocol, source, dest, from, to string, port uint16) {
		r := nsg.Rule{
			Name: "r", Priority: 100, Direction: nsg.Direction(direction), Access: nsg.Access(does), Protocol: protocol,
			Sources: []string{source}, SourcePorts: []string{from}, Destinations: []string{dest}, DestinationPorts: []string{to},
		}
		for _, proto := range []access.Protocol{access.TCP, access.UDP, access.AnyProtocol} {
			flow := nsg.Flow{Source: netip.MustParsePrefix("203.0.113.7/32"), Destination: netip.MustParseAddr("10.0.0.4"), Port: port, Protocol: proto}
			alone := nsg.Group{Rules: []nsg.Rule{r}}.Evaluate(flow)
			if behind := (nsg.Group{Rules: []nsg.Rule{r, everything}}).Evaluate(flow); behind.Outcome != nsg.OutcomeDenied {
				t.Errorf("behind a rule that drops everything %+v gives %s", r, behind)
			}
			if alone.Outcome != nsg.OutcomeAllowed {
				continue
			}
			said := func(text string, words ...string) bool {
				for _, w := range words {
					if strings.EqualFold(text, w) {
						return true
					}
				}
				return false
			}
			if !said(direction, "Inbound") || !said(does, "Allow") || !said(protocol, "*", "any", string(proto)) || !said(from, "*", "any") && !strings.Contains(from, "-") {
				t.Errorf("%+v lets %v through", r, flow)
			}
			for text, addr := range map[string]netip.Addr{source: flow.Source.Addr(), dest: flow.Destination} {
				p, err := netip.ParsePrefix(text)
				if err == nil && !p.Contains(addr) {
					t.Errorf("%+v lets %v through", r, flow)
				}
				if a, e := netip.ParseAddr(text); err != nil && (e != nil || a != addr) && !said(text, "*", "any") {
					t.Errorf("%+v lets %v through", r, flow)
				}
			}
		}
	})
}
