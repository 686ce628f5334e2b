package resourcemanager

import (
	"fmt"
	"strings"
	"testing"
)

// refuses tries the change of a rule alone and in a whole group: both are refused
// by the code, with the words.
func refuses(code, change string, words ...string) func(*azure) {
	return func(a *azure) {
		a.Helper()
		a.says(a.want(400, code, "PUT", rule, body(change)), words...)
		a.says(a.want(400, code, "PUT", group, whole(named("ssh", change))), words...)
		a.want(404, "NotFound", "GET", rule, "")
	}
}

func takes(changes ...string) func(*azure) {
	return func(a *azure) {
		a.Helper()
		for i, change := range changes {
			a.want(201, "", "PUT", fmt.Sprintf("%s/a%d/securityRules/ssh", groups, fresh(a, i)), body(change))
		}
	}
}

// fresh makes the group aI.
func fresh(a *azure, i int) int {
	a.Helper()
	a.want(201, "", "PUT", fmt.Sprintf("%s/a%d", groups, i), whole())
	a.advance(latency)
	return i
}

const plural = `"sourceAddressPrefix":null,"sourceAddressPrefixes":`

func TestRules(t *testing.T) {
	long := strings.Repeat("x", 140)
	check(t, []row{
		{"one priority twice in one direction: SecurityRuleConflict, both named", "hashicorp/terraform-provider-azurerm#11137; Azure/aks-engine#2106", func(a *azure) {
			got := a.want(400, "SecurityRuleConflict", "PUT", rule, body(`"priority":1000`))
			a.says(got, "Security rule AllowHttpsInBound conflicts with rule ssh. Rules cannot have the same Priority and Direction.")
			a.want(400, "SecurityRuleConflict", "PUT", group, whole(named("x", ""), named("y", "")))
		}},
		{"one priority in both directions: taken", "hashicorp/terraform-provider-azurerm#27046", func(a *azure) {
			a.want(201, "", "PUT", rule, body(`"priority":1000,"direction":"Outbound"`))
		}},
		{"a rule replaced at its own priority: taken", ruleSpec, func(a *azure) {
			a.want(200, "", "PUT", oldRule, body(`"priority":1000`))
		}},
		{"priority 100 and 4096: taken", model, takes(`"priority":100`, `"priority":4096`)},
		{"priority 99 or 4097: SecurityRuleInvalidPriority", model + "; the code and words inferred from clients that know them", func(a *azure) {
			refuses("SecurityRuleInvalidPriority", `"priority":99`, "Value provided: 99 Allowed range 100-4096.")(a)
			refuses("SecurityRuleInvalidPriority", `"priority":4097`)(a)
		}},
		{"a description of 140: taken; of 141: refused", model + " (\"Restricted to 140 chars\"); MicrosoftDocs/azure-docs#112218; the code inferred", func(a *azure) {
			takes(`"description":"` + long + `"`)(a)
			refuses("InvalidSecurityRule", `"description":"`+long+`x"`)(a)
		}},
		{"a name of 80: taken; of 81, or of other characters: InvalidResourceName", "learn.microsoft.com, Resource name rules; kubernetes-sigs/cloud-provider-azure#3289", func(a *azure) {
			a.want(201, "", "PUT", groups+"/nsg-db-1-nic/securityRules/"+strings.Repeat("a", 80), body(""))
			for _, bad := range []string{strings.Repeat("a", 81), "-a", "a-", ".a", "a:b", "a b"} {
				got := a.want(400, "InvalidResourceName", "PUT", group+"/securityRules/"+strings.ReplaceAll(bad, " ", "%20"), body(""))
				a.says(got, "It must begin with a word character, and it must end with a word character or with '_'.")
				a.want(400, "InvalidResourceName", "PUT", group, whole(named(bad, "")))
			}
			a.want(400, "InvalidResourceName", "PUT", groups+"/-a", whole())
		}},
		{"no access, direction or protocol: SecurityRuleParameterMissing", "clong/DetectionLab#479 (another field)", func(a *azure) {
			for _, field := range []string{"access", "direction", "protocol"} {
				refuses("SecurityRuleParameterMissing", `"`+field+`":null`)(a)
			}
		}},
		{"Tcp, Udp, Icmp, Esp, Ah and *: taken; ICMPv6: refused", overviewDoc + "; SecurityRuleProtocol in the specification", func(a *azure) {
			takes(`"protocol":"Tcp"`, `"protocol":"Udp"`, `"protocol":"Icmp"`, `"protocol":"Esp"`, `"protocol":"Ah"`, `"protocol":"*"`)(a)
			refuses("InvalidRequestFormat", `"protocol":"ICMPv6"`)(a)
		}},
		{"ports: one, a range, *, a list of these: taken", model, takes(`"destinationPortRange":"0-65535"`, `"destinationPortRange":"*"`,
			`"destinationPortRange":null,"destinationPortRanges":["22","80-90"]`)},
		{"ports that are none: SecurityRuleInvalidPortRange", "Azure/azure-cli#23499; ernestio/ernest#475; hashicorp/terraform-provider-azurerm#1530", func(a *azure) {
			for _, bad := range []string{"65536", "22-21", "-1", "22,80", "ssh"} {
				refuses("SecurityRuleInvalidPortRange", `"destinationPortRange":"`+bad+`"`, "Value provided: "+bad)(a)
			}
		}},
	})
}

func TestAddresses(t *testing.T) {
	check(t, []row{
		{"an address, a range, a tag, a tag of a region, *: taken", model + "; learn.microsoft.com, Virtual network service tags", takes(
			`"sourceAddressPrefix":"10.0.0.0/24"`, `"sourceAddressPrefix":"2001:db8::/32","destinationAddressPrefix":"*"`,
			`"sourceAddressPrefix":"Internet"`, `"sourceAddressPrefix":"Storage.WestEurope"`, `"sourceAddressPrefix":"*"`)},
		{"host bits set: SecurityRuleInvalidAddressPrefix", "Azure/azure-powershell#4557; kubernetes-sigs/cloud-provider-azure#5599", refuses(
			"SecurityRuleInvalidAddressPrefix", `"sourceAddressPrefix":"50.206.209.68/27"`, "has invalid Address prefix. Value provided: 50.206.209.68/27")},
		{"no prefix at all: SecurityRuleInvalidAddressPrefix", "ernestio/ernest#473; Azure/azure-powershell#2814; hashicorp/terraform-provider-azurerm#16761", func(a *azure) {
			for _, bad := range []string{"any", "192.168.0.0/34", "10.0.0/0/16", "Keyvault.region", "10.0.0.1-10.0.0.9"} {
				refuses("SecurityRuleInvalidAddressPrefix", `"sourceAddressPrefix":"`+bad+`"`, "Value provided: "+bad)(a)
				refuses("SecurityRuleInvalidAddressPrefix", plural+`["10.0.0.1","`+bad+`"]`)(a)
			}
		}},
		{"the singular and the plural field both: refused", overviewDoc + "; the code inferred", func(a *azure) {
			refuses("InvalidSecurityRule", `"sourceAddressPrefixes":["10.0.0.1"]`)(a)
			refuses("InvalidSecurityRule", `"destinationPortRanges":["23"]`)(a)
		}},
		{"neither field: SecurityRuleParametersMissing", "Azure/sap-hana#135; the ports inferred", func(a *azure) {
			refuses("SecurityRuleParametersMissing", `"sourceAddressPrefix":null`)(a)
			refuses("SecurityRuleParametersMissing", `"destinationPortRange":null`)(a)
		}},
		{"the singular field and an empty plural, as a GET answers it: taken", recording, takes(`"sourceAddressPrefixes":[],"destinationPortRanges":[]`)},
		{"a tag or * in the plural field: SecurityRuleParameterContainsUnsupportedValue", "hashicorp/terraform-provider-azurerm#5617", func(a *azure) {
			for _, bad := range []string{"VirtualNetwork", "Internet", "*"} {
				refuses("SecurityRuleParameterContainsUnsupportedValue", plural+`["`+bad+`"]`,
					"cannot specify existing VIRTUALNETWORK, INTERNET, AZURELOADBALANCER, '*' or system tags. Unsupported value used: "+bad+".")(a)
			}
		}},
		{"prefixes of one list that overlap: OverlappingSubnetsNotPermittedInSecurityRule", "kubernetes-sigs/cloud-provider-azure#6775; alan-turing-institute/data-safe-haven#2077", refuses(
			"OverlappingSubnetsNotPermittedInSecurityRule", plural+`["10.0.0.0/8","11.0.0.0/8","10.9.0.0/16"]`)},
		{"IPv4 and IPv6 in one list, or on the two sides: ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies", "gardener/gardener-extension-provider-azure#397; MicrosoftDocs/azure-docs#34567", func(a *azure) {
			const code = "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies"
			refuses(code, plural+`["10.0.0.1","2001:db8::1"]`, "All IP addresses or prefixes in the resource should belong to the same address family.")(a)
			refuses(code, `"sourceAddressPrefix":"2001:db8::1"`)(a)
		}},
		{"1,000 rules: taken; 1,001, at once or one by one: SecurityRuleCountLimitReached", "Azure/azure-rest-api-specs#3003; " + limitsDoc, func(a *azure) {
			rules := make([]string, 0, 1001)
			for i := range 1001 {
				rules = append(rules, named(fmt.Sprintf("r%d", i), fmt.Sprintf(`"priority":%d`, 100+i)))
			}
			got := a.want(400, "SecurityRuleCountLimitReached", "PUT", groups+"/big", whole(rules...))
			a.says(got, "A security group cannot have more than 1000 security rules.")
			a.want(201, "", "PUT", groups+"/big", whole(rules[:1000]...))
			a.advance(latency)
			a.want(400, "SecurityRuleCountLimitReached", "PUT", groups+"/big/securityRules/more", body(`"priority":4000`))
		}},
		{"4,000 prefixes on a side: taken; 4,001: SecurityRuleAddressesOrPortsPerSecurityGroupLimitReached", "kubernetes-sigs/cloud-provider-azure#2725; " + limitsDoc, func(a *azure) {
			prefixes := make([]string, 0, 4000)
			for i := range 4000 {
				prefixes = append(prefixes, fmt.Sprintf(`"198.%d.%d.1"`, 18+i/256, i%256))
			}
			list := "[" + strings.Join(prefixes, ",") + "]"
			for _, side := range []string{"source", "destination"} {
				change := fmt.Sprintf(`"priority":300,"%sAddressPrefix":null,"%[1]sAddressPrefixes":%s`, side, list)
				a.want(201, "", "PUT", groups+"/"+side, whole(named("wide", change)))
				a.advance(latency)
				got := a.want(400, "SecurityRuleAddressesOrPortsPerSecurityGroupLimitReached", "PUT", groups+"/"+side, whole(named("wide", change), named("one", "")))
				title := strings.ToUpper(side[:1]) + side[1:]
				a.says(got, "has 4001 "+title+"AddressPrefixes. A security group cannot have more than 4000 "+title+"AddressPrefixes")
			}
		}},
	})
}
