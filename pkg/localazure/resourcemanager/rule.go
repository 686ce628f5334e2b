package resourcemanager

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Limits of network security groups ("Azure subscription and service limits",
// networking; the model documentation of SecurityRulePropertiesFormat).
const (
	minPriority          = 100
	maxPriority          = 4096
	maxDescription       = 140
	maxRulesPerGroup     = 1000
	maxPrefixesPerSide   = 4000
	maxResourceNameBytes = 80
)

// resourceName: "up to 80 characters long. It must begin with a word character,
// and it must end with a word character or with '_'. The name may contain word
// characters or '.', '-', '_'."
var resourceName = regexp.MustCompile(`^\w(?:[\w.-]*\w)?$`)

func checkName(name string) *armError {
	if len(name) > maxResourceNameBytes || !resourceName.MatchString(name) {
		return badRequest("InvalidResourceName",
			"Resource name %s is invalid. The name can be up to 80 characters long. It must begin with a word character, and it must end with a word character or with '_'. The name may contain word characters or '.', '-', '_'.", name)
	}
	return nil
}

// ruleFacts is what the checks across the rules of a group need of one rule.
type ruleFacts struct {
	priority     int
	inbound      bool
	sources      int // IP addresses and ranges named
	destinations int
}

// checkRule makes the checks that the network resource provider makes on one
// rule's properties and answers with its codes.
//
// A prefix with host bits set (10.0.0.1/24) is refused, and so are prefixes in
// one list that overlap: Azure refuses both (kubernetes-sigs/cloud-provider-azure
// issues 5599 and 6775). Service tags and "*" are taken in the singular fields
// alone. Where Azure's own code is not to be found in public, the code is
// InvalidSecurityRule and the message says what is wrong.
func checkRule(id string, props map[string]any) (ruleFacts, *armError) {
	var facts ruleFacts
	access, err := enum(props, "access", "Allow", "Deny")
	if err != nil {
		return facts, err
	}
	direction, err := enum(props, "direction", "Inbound", "Outbound")
	if err != nil {
		return facts, err
	}
	protocol, err := enum(props, "protocol", "Tcp", "Udp", "Icmp", "Esp", "Ah", "*")
	if err != nil {
		return facts, err
	}
	for field, value := range map[string]string{"Access": access, "Direction": direction, "Protocol": protocol} {
		if value == "" {
			return facts, badRequest("SecurityRuleParameterMissing",
				"Required security rule parameter %s is missing for security rule with Id: %s.", field, id)
		}
	}
	facts.inbound = direction == "Inbound"
	if facts.priority, err = checkPriority(props); err != nil {
		return facts, err
	}
	if err := checkDescription(id, props); err != nil {
		return facts, err
	}
	for _, side := range []string{"source", "destination"} {
		if err := checkPorts(id, props, side); err != nil {
			return facts, err
		}
	}
	source, err := checkAddresses(id, props, "source")
	if err != nil {
		return facts, err
	}
	destination, err := checkAddresses(id, props, "destination")
	if err != nil {
		return facts, err
	}
	facts.sources, facts.destinations = len(source), len(destination)
	if mixed(append(slices.Clone(source), destination...)) {
		return facts, badRequest("ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies",
			"Resource %s contains IP addresses or prefixes that belong to different address families. All IP addresses or prefixes in the resource should belong to the same address family.", id)
	}
	return facts, nil
}

func checkPriority(props map[string]any) (int, *armError) {
	number, ok := props["priority"].(json.Number)
	if !ok && props["priority"] != nil {
		return 0, unparsable("Error converting the value of 'priority' to an integer.")
	}
	if number == "" {
		number = "0"
	}
	priority, err := strconv.Atoi(number.String())
	if err != nil {
		return 0, unparsable("Error converting the value %s of 'priority' to an integer.", number)
	}
	if priority < minPriority || priority > maxPriority {
		return 0, badRequest("SecurityRuleInvalidPriority",
			"Security rule has invalid Priority. Value provided: %d Allowed range %d-%d.", priority, minPriority, maxPriority)
	}
	return priority, nil
}

func checkDescription(id string, props map[string]any) *armError {
	description, err := text(props, "description")
	if err != nil {
		return err
	}
	// The provider counts as .NET does, in UTF-16 units.
	if n := len(utf16.Encode([]rune(description))); n > maxDescription {
		return badRequest("InvalidSecurityRule",
			"Security rule %s has a description of %d characters. The maximum is %d.", id, n, maxDescription)
	}
	return nil
}

// checkPorts checks {side}PortRange and {side}PortRanges.
func checkPorts(id string, props map[string]any, side string) *armError {
	field := side + "PortRange"
	single, err := text(props, field)
	if err != nil {
		return err
	}
	many, err := texts(props, field+"s")
	if err != nil {
		return err
	}
	title := strings.ToUpper(side[:1]) + side[1:] + "PortRange"
	switch {
	case single != "" && len(many) > 0:
		return bothGiven(id, title)
	case single == "" && len(many) == 0:
		return badRequest("SecurityRuleParametersMissing",
			"Required security rule parameters are missing for security rule with Id: %s. Security rule must specify %ss or %s.", id, title, title)
	case single != "" && single != "*" && !validPortRange(single):
		return invalidPortRange(single)
	}
	for _, ports := range many {
		if ports == "*" {
			return badRequest("SecurityRuleParameterContainsInvalidPortRanges",
				"Security rule parameter %ss for rule with Id %s contains invalid port ranges: '*' must be given alone, in %s.", title, id, title)
		}
		if !validPortRange(ports) {
			return invalidPortRange(ports)
		}
	}
	return nil
}

func invalidPortRange(value string) *armError {
	return badRequest("SecurityRuleInvalidPortRange",
		"Security rule has invalid Port range. Value provided: %s. Value should be an integer OR integer range with '-' delimiter. Valid range 0-65535.", value)
}

func validPortRange(value string) bool {
	first, last, isRange := strings.Cut(value, "-")
	low, ok := port(first)
	if !ok || !isRange {
		return ok
	}
	high, ok := port(last)
	return ok && low <= high
}

func port(s string) (int, bool) {
	if s == "" || len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= 65535
}

// checkAddresses checks one side's address fields and returns the IP prefixes
// among them.
func checkAddresses(id string, props map[string]any, side string) ([]netip.Prefix, *armError) {
	field := side + "AddressPrefix"
	single, err := text(props, field)
	if err != nil {
		return nil, err
	}
	many, err := texts(props, field+"es")
	if err != nil {
		return nil, err
	}
	groups, err := references(props, side+"ApplicationSecurityGroups")
	if err != nil {
		return nil, err
	}
	title := strings.ToUpper(side[:1]) + side[1:]
	given := 0
	for _, has := range []bool{single != "", len(many) > 0, groups > 0} {
		if has {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, bothGiven(id, title+"AddressPrefix")
	case given == 0:
		return nil, badRequest("SecurityRuleParametersMissing",
			"Required security rule parameters are missing for security rule with Id: %s. Security rule must specify %[2]sAddressPrefixes, %[2]sAddressPrefix, or %[2]sApplicationSecurityGroups.", id, title)
	case single != "":
		if single == "*" || isServiceTag(single) {
			return nil, nil
		}
		many = []string{single}
	}
	prefixes := make([]netip.Prefix, 0, len(many))
	for _, value := range many {
		if value == "*" || isServiceTag(value) {
			return nil, badRequest("SecurityRuleParameterContainsUnsupportedValue",
				"Security rule parameter %sAddressPrefix for rule with Id %s cannot specify existing VIRTUALNETWORK, INTERNET, AZURELOADBALANCER, '*' or system tags. Unsupported value used: %s.", title, id, value)
		}
		prefix, ok := parsePrefix(value)
		if !ok {
			return nil, badRequest("SecurityRuleInvalidAddressPrefix",
				"Security rule %s has invalid Address prefix. Value provided: %s", id, value)
		}
		prefixes = append(prefixes, prefix)
	}
	if a, b, found := overlapping(prefixes); found {
		return nil, badRequest("OverlappingSubnetsNotPermittedInSecurityRule",
			"Security rule parameter %sAddressPrefix for rule with Id %s contains overlapping subnets [%s, %s], which is not permitted.", title, id, a, b)
	}
	return prefixes, nil
}

func bothGiven(id, title string) *armError {
	return badRequest("InvalidSecurityRule",
		"Security rule %s specifies %s in more than one way. Only one of the singular, the plural and the application security group form can be given.", id, title)
}

// parsePrefix reads an address or a CIDR range without host bits. An IPv4-mapped
// IPv6 address is refused: a rule means one family.
func parsePrefix(value string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(value); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), addr.Zone() == "" && !addr.Is4In6()
	}
	prefix, err := netip.ParsePrefix(value)
	return prefix, err == nil && prefix == prefix.Masked() && !prefix.Addr().Is4In6()
}

// overlapping finds two prefixes of which one holds the other. Sorted by address
// and then from the widest, a prefix lies inside its predecessor or inside none.
func overlapping(prefixes []netip.Prefix) (a, b netip.Prefix, found bool) {
	sorted := slices.SortedFunc(slices.Values(prefixes), func(x, y netip.Prefix) int {
		if c := x.Addr().Compare(y.Addr()); c != 0 {
			return c
		}
		return x.Bits() - y.Bits()
	})
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Overlaps(sorted[i]) {
			return sorted[i-1], sorted[i], true
		}
	}
	return a, b, false
}

func mixed(prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() != prefixes[0].Addr().Is4() })
}

// enum reads a field that takes one of the given words, in any case, and returns
// that word, or "" when the field is absent.
func enum(props map[string]any, field string, words ...string) (string, *armError) {
	value, err := text(props, field)
	if err != nil || value == "" {
		return "", err
	}
	for _, w := range words {
		if strings.EqualFold(w, value) {
			return w, nil
		}
	}
	return "", unparsable("Error converting value %q of '%s': it is none of %s.", value, field, strings.Join(words, ", "))
}

func text(props map[string]any, field string) (string, *armError) {
	switch v := props[field].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", unparsable("Error converting the value of '%s' to a string.", field)
}

func texts(props map[string]any, field string) ([]string, *armError) {
	list, ok := props[field].([]any)
	if !ok && props[field] != nil {
		return nil, unparsable("Error converting the value of '%s' to a list.", field)
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, unparsable("Error converting an element of '%s' to a string.", field)
		}
		out = append(out, s)
	}
	return out, nil
}

// references counts the elements of a list of {"id": …}.
func references(props map[string]any, field string) (int, *armError) {
	list, ok := props[field].([]any)
	if !ok && props[field] != nil {
		return 0, unparsable("Error converting the value of '%s' to a list.", field)
	}
	for _, v := range list {
		ref, _ := v.(map[string]any)
		if id, _ := ref["id"].(string); id == "" {
			return 0, unparsable("An element of '%s' has no id.", field)
		}
	}
	return len(list), nil
}

// decodeObject decodes one JSON object, keeping numbers as written.
func decodeObject(data []byte) (map[string]any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil || object == nil || decoder.More() {
		return nil, false
	}
	return object, true
}
