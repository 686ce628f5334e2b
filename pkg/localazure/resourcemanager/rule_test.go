package resourcemanager

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// properties is a rule that Azure accepts, with some members changed; a null
// member is left out.
func properties(t testing.TB, change string) object {
	t.Helper()
	props, ok := decodeObject([]byte(`{"access":"Allow","direction":"Inbound","protocol":"Tcp","priority":200,
	 "sourceAddressPrefix":"203.0.113.7","sourcePortRange":"*","destinationAddressPrefix":"*","destinationPortRange":"22"}`))
	if !ok {
		t.Fatal("the sample is no object")
	}
	changes, ok := decodeObject([]byte("{" + change + "}"))
	if !ok {
		t.Fatalf("%s is no change", change)
	}
	for k, v := range changes {
		props[k] = v
	}
	return without(props, nil)
}

func TestCheckRule(t *testing.T) {
	long := strings.Repeat("x", maxDescription)
	for _, tc := range []struct{ change, code string }{
		{``, ""},
		{`"protocol":"tcp","access":"deny","direction":"OUTBOUND"`, ""},
		{`"protocol":"*"`, ""},
		{`"protocol":"ICMPv6"`, "InvalidRequestFormat"},
		{`"protocol":null`, "SecurityRuleParameterMissing"},
		{`"access":"Maybe"`, "InvalidRequestFormat"},
		{`"access":1`, "InvalidRequestFormat"},
		{`"direction":null`, "SecurityRuleParameterMissing"},

		{`"priority":100`, ""},
		{`"priority":4096`, ""},
		{`"priority":99`, "SecurityRuleInvalidPriority"},
		{`"priority":4097`, "SecurityRuleInvalidPriority"},
		{`"priority":null`, "SecurityRuleInvalidPriority"},
		{`"priority":200.5`, "InvalidRequestFormat"},
		{`"priority":1e99`, "InvalidRequestFormat"},
		{`"priority":"200"`, "InvalidRequestFormat"},

		{`"description":"` + long + `"`, ""},
		{`"description":"` + long + `x"`, "InvalidSecurityRule"},
		{`"description":"` + long[:maxDescription-2] + `😀"`, ""},
		{`"description":"` + long[:maxDescription-1] + `😀"`, "InvalidSecurityRule"},

		{`"destinationPortRange":"0-65535"`, ""},
		{`"destinationPortRange":"22-21"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"65536"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"-1"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"+22"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"22,80"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"22-"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":"ssh"`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":22`, "InvalidRequestFormat"},
		{`"destinationPortRange":null`, "SecurityRuleParametersMissing"},
		{`"sourcePortRange":null`, "SecurityRuleParametersMissing"},
		{`"destinationPortRange":null,"destinationPortRanges":["22","80-90"]`, ""},
		{`"destinationPortRange":null,"destinationPortRanges":["*"]`, "SecurityRuleParameterContainsInvalidPortRanges"},
		{`"destinationPortRange":null,"destinationPortRanges":["22","x"]`, "SecurityRuleInvalidPortRange"},
		{`"destinationPortRange":null,"destinationPortRanges":"22"`, "InvalidRequestFormat"},
		{`"destinationPortRange":null,"destinationPortRanges":[22]`, "InvalidRequestFormat"},
		{`"destinationPortRanges":[]`, ""}, // as a GET answers it
		{`"destinationPortRanges":["23"]`, "InvalidSecurityRule"},

		{`"sourceAddressPrefix":"10.0.0.0/24"`, ""},
		{`"sourceAddressPrefix":"0.0.0.0/0"`, ""},
		{`"sourceAddressPrefix":"10.0.0.1/24"`, "SecurityRuleInvalidAddressPrefix"}, // host bits
		{`"sourceAddressPrefix":"10.0.0.0/33"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"10.0.0"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"010.0.0.1"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"10.0.0.1-10.0.0.9"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"10.0.0.1,10.0.0.9"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"::ffff:10.0.0.1"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"::ffff:10.0.0.0/104"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"fe80::1%eth0"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"2001:db8::/32"`, ""},
		{`"sourceAddressPrefix":"Internet"`, ""},
		{`"sourceAddressPrefix":"virtualnetwork"`, ""},
		{`"sourceAddressPrefix":"Storage.WestEurope"`, ""},
		{`"sourceAddressPrefix":"Internet.WestEurope"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"Storage."`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"AzureFrontDoor.Backend"`, ""},
		{`"sourceAddressPrefix":"any"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":"AzureBastionSubnet"`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":null`, "SecurityRuleParametersMissing"},
		{`"destinationAddressPrefix":null`, "SecurityRuleParametersMissing"},
		{`"sourceAddressPrefixes":[]`, ""},
		{`"sourceAddressPrefixes":["10.0.0.1"]`, "InvalidSecurityRule"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.1","10.0.0.2/32"]`, ""},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["Internet"]`, "SecurityRuleParameterContainsUnsupportedValue"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.1","*"]`, "SecurityRuleParameterContainsUnsupportedValue"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.1","x"]`, "SecurityRuleInvalidAddressPrefix"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.0/8","11.0.0.0/8","10.9.0.0/16"]`, "OverlappingSubnetsNotPermittedInSecurityRule"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.1","10.0.0.1/32"]`, "OverlappingSubnetsNotPermittedInSecurityRule"},
		{`"sourceAddressPrefix":null,"sourceAddressPrefixes":["10.0.0.1","2001:db8::1"]`, "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies"},
		{`"sourceAddressPrefix":"2001:db8::1","destinationAddressPrefix":"10.0.0.1"`, "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies"},
		{`"sourceAddressPrefix":"10.0.0.0/8","destinationAddressPrefix":"10.1.0.0/16"`, ""}, // two lists may overlap

		{`"sourceAddressPrefix":null,"sourceApplicationSecurityGroups":[{"id":"/x"}]`, ""},
		{`"sourceApplicationSecurityGroups":[{"id":"/x"}]`, "InvalidSecurityRule"},
		{`"sourceAddressPrefix":null,"sourceApplicationSecurityGroups":[{}]`, "InvalidRequestFormat"},
		{`"sourceAddressPrefix":null,"sourceApplicationSecurityGroups":{}`, "InvalidRequestFormat"},
	} {
		_, err := checkRule("/id", properties(t, tc.change))
		code := ""
		if err != nil {
			code = err.code
		}
		if code != tc.code {
			t.Errorf("{%s}: %q, want %q (%v)", tc.change, code, tc.code, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "_": true, "Allow-Ssh.1_": true, strings.Repeat("a", 80): true,
		"": false, "-a": false, ".a": false, "a-": false, "a.": false, "a b": false, "a/b": false, "a\n": false, strings.Repeat("a", 81): false,
	} {
		if got := checkName(name) == nil; got != ok {
			t.Errorf("checkName(%q) = %t, want %t", name, got, ok)
		}
	}
}

// Whatever the bytes, the checks do not panic; and what they let pass holds to
// the rules that the evaluation of packets relies on.
func FuzzCheckRule(f *testing.F) {
	for _, change := range []string{
		``, `"priority":1e9`, `"sourceAddressPrefixes":["10.0.0.0/8"]`, `"sourceAddressPrefix":null,"sourceAddressPrefixes":["::/0","10.0.0.1"]`,
		`"destinationPortRange":"1-2-3"`, `"sourceApplicationSecurityGroups":[{"id":"x"}]`, `"description":"\ud800"`,
	} {
		data, err := json.Marshal(properties(f, change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`null`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		props, ok := decodeObject(data)
		if !ok {
			return
		}
		facts, err := checkRule("/id", props)
		if err != nil {
			if err.status != 400 || err.code == "" {
				t.Fatalf("refused with %d %q", err.status, err.code)
			}
			return
		}
		if facts.priority < minPriority || facts.priority > maxPriority {
			t.Fatalf("priority %d accepted", facts.priority)
		}
		for _, side := range []string{"source", "destination"} {
			many, _ := texts(props, side+"AddressPrefixes")
			single, _ := text(props, side+"AddressPrefix")
			if single != "" && len(many) > 0 {
				t.Fatalf("%s given twice: %s", side, data)
			}
			seen := []netip.Prefix{}
			for _, value := range many {
				p, ok := parsePrefix(value)
				if !ok || slices.ContainsFunc(seen, p.Overlaps) {
					t.Fatalf("%s accepted in %s", value, data)
				}
				seen = append(seen, p)
			}
		}
	})
}
