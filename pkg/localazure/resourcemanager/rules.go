package resourcemanager

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The limits of "Azure subscription and service limits" and of the securityRules
// REST reference.
const (
	maxRules       = 1000
	maxPrefixes    = 4000
	maxDescription = 140
)

var (
	ruleName   = regexp.MustCompile(`^\w([\w.-]{0,78}\w)?$`)
	serviceTag = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]*$`)
)

type rule struct {
	name       string
	properties object
}

func (r rule) text(key string) string {
	s, _ := r.properties[key].(string)
	return s
}

// list gives a dimension's values, out of its singular or plural field; both
// given is a fault.
func (r rule) list(singular, plural string) ([]string, *failure) {
	var out []string
	one, _ := r.properties[singular].(string)
	many, _ := r.properties[plural].([]any)
	if one != "" && len(many) > 0 {
		return nil, badRequest("SecurityRuleParameterContainsBothSingularAndPlural", "Security rule %s must not have both %s and %s.", r.name, singular, plural)
	}
	if one != "" {
		return []string{one}, nil
	}
	for _, m := range many {
		s, ok := m.(string)
		if !ok {
			return nil, badRequest("InvalidRequestFormat", "%s of security rule %s must hold strings.", plural, r.name)
		}
		out = append(out, s)
	}
	return out, nil
}

func (r rule) priority() int {
	f, _ := r.properties["priority"].(float64)
	return int(f)
}

// checkRule makes the checks that Resource Manager makes on one rule.
func checkRule(r rule) *failure {
	if len(r.name) > 80 || !ruleName.MatchString(r.name) {
		return badRequest("InvalidResourceName", "Resource name %q is invalid.", r.name)
	}
	if r.properties == nil {
		return badRequest("InvalidRequestFormat", "Security rule %s has no properties.", r.name)
	}
	if len(r.text("description")) > maxDescription {
		return badRequest("SecurityRuleInvalidDescription", "Security rule %s has a description longer than %d characters.", r.name, maxDescription)
	}
	if p := r.priority(); p < 100 || p > 4096 {
		return badRequest("SecurityRuleInvalidPriority", "Security rule has invalid priority. Value provided: %d Allowed range 100-4096.", p)
	}
	for key, allowed := range map[string]string{"access": "allow deny", "direction": "inbound outbound", "protocol": "tcp udp icmp esp ah *"} {
		if v := strings.ToLower(r.text(key)); v == "" || !strings.Contains(" "+allowed+" ", " "+v+" ") {
			return badRequest("SecurityRuleParameterInvalid", "Security rule %s has an invalid %s: %q.", r.name, key, v)
		}
	}
	for _, side := range []string{"source", "destination"} {
		if e := r.checkSide(side); e != nil {
			return e
		}
	}
	return r.checkFamilies()
}

func (r rule) checkSide(side string) *failure {
	prefixes, e := r.list(side+"AddressPrefix", side+"AddressPrefixes")
	if e != nil {
		return e
	}
	asgs, _ := r.properties[side+"ApplicationSecurityGroups"].([]any)
	if len(prefixes) == 0 && len(asgs) == 0 {
		return badRequest("SecurityRuleParameterRequired", "Required security rule parameters are missing: %sAddressPrefix of %s.", side, r.name)
	}
	var seen []netip.Prefix
	for _, p := range prefixes {
		parsed, kind := readPrefix(p)
		if kind == "" || len(prefixes) > 1 && kind != "prefix" {
			return badRequest("SecurityRuleInvalidAddressPrefix", "Security rule %s has an invalid Address prefix. Value provided: %s", r.name, p)
		}
		if kind == "prefix" {
			for _, s := range seen {
				if s.Overlaps(parsed) {
					return badRequest("SecurityRuleParameterContainsOverlappingPrefixes", "Security rule %s has overlapping prefixes: %s and %s.", r.name, s, parsed)
				}
			}
			seen = append(seen, parsed)
		}
	}
	ports, e := r.list(side+"PortRange", side+"PortRanges")
	if e != nil {
		return e
	}
	if len(ports) == 0 {
		return badRequest("SecurityRuleParameterRequired", "Required security rule parameters are missing: %sPortRange of %s.", side, r.name)
	}
	for _, p := range ports {
		if !validPorts(p) {
			return badRequest("SecurityRuleInvalidPortRange", "Security rule %s has an invalid port range. Value provided: %s", r.name, p)
		}
	}
	return nil
}

// readPrefix tells a prefix from a tag; "" for neither. Host bits beyond the
// length are taken as given, as nothing documented refuses them.
func readPrefix(s string) (netip.Prefix, string) {
	if s == "*" {
		return netip.Prefix{}, "any"
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), "prefix"
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), "prefix"
	}
	if serviceTag.MatchString(s) {
		return netip.Prefix{}, "tag"
	}
	return netip.Prefix{}, ""
}

func validPorts(s string) bool {
	if s == "*" {
		return true
	}
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	l, err1 := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	return err1 == nil && err2 == nil && l <= h
}

// checkFamilies refuses IPv4 and IPv6 in one rule.
func (r rule) checkFamilies() *failure {
	var four, six bool
	for _, side := range []string{"source", "destination"} {
		prefixes, _ := r.list(side+"AddressPrefix", side+"AddressPrefixes")
		for _, p := range prefixes {
			if parsed, kind := readPrefix(p); kind == "prefix" {
				four, six = four || parsed.Addr().Is4(), six || parsed.Addr().Is6()
			}
		}
	}
	if four && six {
		return badRequest("SecurityRuleAddressPrefixesIpVersionMismatch", "Security rule %s mixes IPv4 and IPv6 prefixes.", r.name)
	}
	return nil
}

// checkRules makes the checks on a group's rules together.
func checkRules(rules []rule) *failure {
	if len(rules) > maxRules {
		return badRequest("SecurityRulesLimitReached", "A network security group holds at most %d rules.", maxRules)
	}
	at := map[string]string{}
	names := map[string]bool{}
	counts := map[string]int{}
	for _, r := range rules {
		place := fmt.Sprintf("%s/%d", strings.ToLower(r.text("direction")), r.priority())
		if other, ok := at[place]; ok {
			return badRequest("SecurityRuleConflict", "Security rule %s conflicts with rule %s. Rules cannot have the same Priority and Direction.", r.name, other)
		}
		at[place] = r.name
		if names[strings.ToLower(r.name)] {
			return badRequest("InvalidRequestFormat", "The name %s is used twice.", r.name)
		}
		names[strings.ToLower(r.name)] = true
		for _, side := range []string{"source", "destination"} {
			prefixes, _ := r.list(side+"AddressPrefix", side+"AddressPrefixes")
			if counts[side] += len(prefixes); counts[side] > maxPrefixes {
				return badRequest("SecurityRuleAddressPrefixesLimitReached", "A network security group holds at most %d %s prefixes.", maxPrefixes, side)
			}
		}
	}
	return nil
}
