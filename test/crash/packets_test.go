package crash

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// rule is a security rule as Resource Manager tells it. This reading of rules
// is the test's own: it shares nothing with what it judges.
type rule struct {
	Name       string
	Properties struct {
		Description, Access, Direction, Protocol      string
		Priority                                      int
		SourceAddressPrefix, DestinationAddressPrefix string
		SourceAddressPrefixes                         []string
		DestinationAddressPrefixes                    []string
		DestinationPortRange                          string
		DestinationPortRanges                         []string
	}
}

func (r rule) ours() bool { return strings.HasPrefix(r.Name, "Portcullis-") }

// group is a network security group, with its rules by priority.
type group struct {
	ETag       string
	Properties struct {
		ProvisioningState    string
		SecurityRules        []rule
		DefaultSecurityRules []rule
	}
}

func (w *world) group(name string) (g group, err error) {
	data, ok := w.stack.ResourceManager.NSG(string(groupID(name)))
	if !ok {
		return g, fmt.Errorf("group %s is gone", name)
	}
	return g, json.Unmarshal(data, &g)
}

func (w *world) quiet(name string) bool {
	g, err := w.group(name)
	return err == nil && g.Properties.ProvisioningState == "Succeeded"
}

// lets says whether a TCP packet of an Internet address gets through the group.
func (g group) lets(source, dest netip.Addr, port int) bool {
	all := slices.Concat(g.Properties.SecurityRules, g.Properties.DefaultSecurityRules)
	slices.SortStableFunc(all, func(a, b rule) int { return a.Properties.Priority - b.Properties.Priority })
	for _, r := range all {
		p := r.Properties
		if !strings.EqualFold(p.Direction, "Inbound") || p.Protocol != "*" && !strings.EqualFold(p.Protocol, "Tcp") ||
			!holds(append(p.SourceAddressPrefixes, p.SourceAddressPrefix), source) ||
			!holds(append(p.DestinationAddressPrefixes, p.DestinationAddressPrefix), dest) ||
			!spans(append(p.DestinationPortRanges, p.DestinationPortRange), port) {
			continue
		}
		return strings.EqualFold(p.Access, "Allow")
	}
	return false
}

// holds says whether a list of prefixes holds an address. The tag Internet holds
// the addresses of who asks here, VirtualNetwork those of the machines.
func holds(prefixes []string, a netip.Addr) bool {
	private := netip.MustParsePrefix("10.0.0.0/8").Contains(a)
	return slices.ContainsFunc(prefixes, func(text string) bool {
		switch text {
		case "*", "0.0.0.0/0":
			return true
		case "Internet":
			return !private
		case "VirtualNetwork":
			return private
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Contains(a)
		}
		one, err := netip.ParseAddr(text)
		return err == nil && one == a
	})
}

func spans(ranges []string, port int) bool {
	return slices.ContainsFunc(ranges, func(text string) bool {
		low, high, isRange := strings.Cut(text, "-")
		if !isRange {
			high = low
		}
		a, err1 := strconv.Atoi(low)
		b, err2 := strconv.Atoi(high)
		return text == "*" || err1 == nil && err2 == nil && a <= port && port <= b
	})
}
