package resourcemanager

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Who may ask, and how.
func TestAccess(t *testing.T) {
	machine := resources + "/providers/Microsoft.Compute/virtualMachines/"
	check(t, []row{
		{"no token: 401 AuthenticationFailed, with a challenge", "Azure/azure-sdk-for-net#4103; MicrosoftDocs/azure-docs#35849; the challenge inferred", func(a *azure) {
			for _, header := range []string{"", "Basic good", "Bearer "} {
				got := a.want(401, "AuthenticationFailed", "GET", group, "", "Authorization", header)
				if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), `Bearer authorization_uri="https://login.windows.net/`) {
					a.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
				}
			}
		}},
		{"a token that is not good: 401 InvalidAuthenticationToken, error=invalid_token", "Azure/azure-powershell#27882; the challenge by RFC 6750, section 3", func(a *azure) {
			got := a.want(401, "InvalidAuthenticationToken", "GET", group, "", "Authorization", "Bearer bad")
			if !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				a.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
		}},
		{"a role without the action: 403 AuthorizationFailed, naming action and scope", "learn.microsoft.com, Troubleshoot Azure RBAC", func(a *azure) {
			a.Deny("Microsoft.Network/networkSecurityGroups/write")
			got := a.want(403, "AuthorizationFailed", "PUT", group, whole())
			a.says(got, "The client", "does not have authorization to perform action 'Microsoft.Network/networkSecurityGroups/write' over scope '"+group+"'")
		}},
		{"the action on a rule is another than that on its group", "MicrosoftDocs/azure-docs#55167: securityRules/read, write and delete", func(a *azure) {
			a.Deny("Microsoft.Network/networkSecurityGroups/write")
			a.want(201, "", "PUT", rule, body(""))
			a.AllowAll()
			a.Deny("Microsoft.Network/networkSecurityGroups/securityRules/delete")
			a.want(403, "AuthorizationFailed", "DELETE", oldRule, "")
		}},
		{"403 comes before 404: a stranger learns not even what there is", inferred("authorization is checked before the provider is asked"), func(a *azure) {
			a.Deny("Microsoft.Compute")
			a.same("what there is, and what is not", strings.ReplaceAll(a.want(403, "AuthorizationFailed", "GET", machine+"none", "").raw, "none", "web-1"),
				a.want(403, "AuthorizationFailed", "GET", machine+"web-1", "").raw)
		}},
		{"no api-version: MissingApiVersionParameter", "MicrosoftDocs/feedback#2279; Azure/azure-sdk-for-go#22571", func(a *azure) {
			a.says(a.want(400, "MissingApiVersionParameter", "GET", group+"?x=y", ""), "The api-version query parameter (?api-version=) is required for all requests.")
		}},
		{"an api-version that is none: InvalidApiVersionParameter", "Azure/apiops#303", func(a *azure) {
			a.says(a.want(400, "InvalidApiVersionParameter", "GET", group+"?api-version=latest", ""), "The api-version 'latest' is invalid.")
		}},
	})
}

// What there is not.
func TestNotFound(t *testing.T) {
	network := resources + "/providers/Microsoft.Network/"
	check(t, []row{
		{"no such group: ResourceNotFound, naming it", "learn.microsoft.com, Resolve errors for resource not found", func(a *azure) {
			got := a.want(404, "ResourceNotFound", "GET", groups+"/none", "")
			a.says(got, "The Resource 'Microsoft.Network/networkSecurityGroups/none' under resource group 'prod' was not found.")
		}},
		{"no such rule: NotFound", inferred("the provider's own words for a child"), func(a *azure) {
			a.says(a.want(404, "NotFound", "GET", rule, ""), "Resource "+rule+" not found.")
		}},
		{"a rule of no such group: ResourceNotFound of the group", inferred("as Resource Manager looks for the top resource first"), func(a *azure) {
			a.says(a.want(404, "ResourceNotFound", "GET", groups+"/none/securityRules/x", ""), "networkSecurityGroups/none'")
		}},
		{"PUT of a rule into no such group: ParentResourceNotFound", "learn.microsoft.com, Resolve errors for parent resources; the words are the newer of two on public record", func(a *azure) {
			got := a.want(404, "ParentResourceNotFound", "PUT", groups+"/none/securityRules/x", body(""))
			a.says(got, "Failed to perform 'write' on resource(s) of type 'networkSecurityGroups/securityRules', because the parent resource '"+groups+"/none' could not be found.")
		}},
		{"no such machine, network or subnet", "learn.microsoft.com, Resolve errors for resource not found; the subnet inferred", func(a *azure) {
			a.want(404, "ResourceNotFound", "GET", resources+"/providers/Microsoft.Compute/virtualMachines/none", "")
			a.want(404, "ResourceNotFound", "GET", network+"virtualNetworks/none/subnets", "")
			a.want(404, "NotFound", "GET", network+"virtualNetworks/vnet-prod/subnets/none", "")
		}},
		{"no such resource group: ResourceGroupNotFound", errorsDoc, func(a *azure) {
			path := strings.Replace(group, "/prod/", "/dev/", 1)
			a.says(a.want(404, "ResourceGroupNotFound", "GET", path, ""), "Resource group 'dev' could not be found.")
			a.want(404, "ResourceGroupNotFound", "PUT", path, whole())
		}},
		{"no such subscription: SubscriptionNotFound; no GUID: InvalidSubscriptionId", errorsDoc + "; Azure/Azure-Landing-Zones#2869", func(a *azure) {
			a.want(404, "SubscriptionNotFound", "GET", "/subscriptions/00000000-0000-0000-0000-000000000002", "")
			a.want(400, "InvalidSubscriptionId", "GET", "/subscriptions/mine", "")
		}},
		{"no such type: InvalidResourceType", errorsDoc, func(a *azure) {
			a.want(404, "InvalidResourceType", "GET", network+"nothings/x", "")
		}},
		{"ids have no case, and an answer spells them as they were created", "Azure/azure-sdk-for-python#574 (ids have no case); the spelling inferred", func(a *azure) {
			a.same("id", a.want(200, "", "GET", "/SUBSCRIPTIONS/"+strings.ToLower(strings.TrimPrefix(group, "/subscriptions/")), "").at("id"), group)
		}},
	})
}

// Pages of lists. The servers here answer two items at once.
func TestPaging(t *testing.T) {
	check(t, []row{
		{"a list comes in pages: nextLink leads on, the last page has none", "Azure/azure-rest-api-specs: x-ms-pageable, nextLinkName nextLink", func(a *azure) {
			var names []string
			pages := 0
			for next := a.web.URL + groups + version; next != ""; pages++ {
				got := a.want(200, "", "GET", next, "")
				for i := range 2 {
					names = append(names, got.at("value", fmt.Sprint(i), "name"))
				}
				if next = got.at("nextLink"); next != "" {
					u, err := url.Parse(next)
					if err != nil || u.Query().Get("api-version") == "" || u.Query().Get("$skipToken") == "" {
						a.Errorf("nextLink is %q: %v", next, err)
					}
				}
			}
			a.same("the names", strings.Join(names, " "), "nsg-db-1-nic nsg-dual-subnet nsg-web-1-nic nsg-web-subnet")
			a.same("the pages", fmt.Sprint(pages), "2")
		}},
		{"a list of nothing: an empty value and no nextLink", recording, func(a *azure) {
			a.want(201, "", "PUT", groups+"/empty", whole())
			a.same("body", a.want(200, "", "GET", groups+"/empty/securityRules", "").raw, `{"value":[]}`)
		}},
		{"the subscription's list of machines spells the resource group in capitals", "Azure/azure-sdk-for-python#574; Azure/azure-powershell#9891", func(a *azure) {
			got := a.want(200, "", "GET", subscription+"/providers/Microsoft.Compute/virtualMachines", "")
			a.says(got, "/resourceGroups/PROD/")
		}},
	})
}

// Resource Manager's buckets and the network provider's quota.
func TestThrottling(t *testing.T) {
	const remaining = "x-ms-ratelimit-remaining-subscription-"
	none := groups + "/none/securityRules/x"
	check(t, []row{
		{"the answer says how many are left, by reads, writes and deletes", throttleDoc + "; " + recording, func(a *azure) {
			a.same("reads", a.want(200, "", "GET", group, "").header.Get(remaining+"reads"), "249")
			a.same("writes", a.want(200, "", "PUT", group, whole()).header.Get(remaining+"writes"), "199")
			a.same("deletes", a.want(204, "", "DELETE", rule, "").header.Get(remaining+"deletes"), "199")
		}},
		{"a bucket of 200 deletes: the next is 429 SubscriptionRequestsThrottled with Retry-After", throttleDoc + "; MicrosoftDocs/azure-docs#105248", func(a *azure) {
			for range 200 {
				a.want(204, "", "DELETE", rule, "")
			}
			got := a.want(429, "SubscriptionRequestsThrottled", "DELETE", rule, "")
			a.same("Retry-After", got.header.Get("Retry-After"), "1")
			a.same("left", got.header.Get(remaining+"deletes"), "0")
			a.want(200, "", "GET", group, "") // another bucket
		}},
		{"it refills: 10 deletes a second", throttleDoc, func(a *azure) {
			for range 200 {
				a.want(204, "", "DELETE", rule, "")
			}
			a.advance(100 * time.Millisecond)
			a.want(204, "", "DELETE", rule, "")
			a.want(429, "SubscriptionRequestsThrottled", "DELETE", rule, "")
		}},
		{"a bucket of 250 reads, refilled by 25 a second", throttleDoc, func(a *azure) {
			for range 250 {
				a.want(200, "", "GET", subscription, "")
			}
			a.want(429, "SubscriptionRequestsThrottled", "GET", subscription, "")
			a.advance(40 * time.Millisecond)
			a.want(200, "", "GET", subscription, "")
		}},
		{"Microsoft.Network: 1,000 writes and deletes in 5 minutes, then 429 until the window ends", throttleDoc + ", network throttling; the code inferred from Azure/azqr#34", func(a *azure) {
			for i := range 1000 {
				a.advance(100 * time.Millisecond) // as fast as the buckets refill
				if i%2 == 0 {
					a.want(404, "ParentResourceNotFound", "PUT", none, body(""))
				} else {
					a.want(204, "", "DELETE", rule, "")
				}
			}
			got := a.want(429, "ResourceRequestsThrottled", "DELETE", rule, "")
			a.same("Retry-After", got.header.Get("Retry-After"), "201") // of 300, 99.9 have passed since the first
			a.want(429, "ResourceRequestsThrottled", "PUT", none, body(""))
			a.want(200, "", "GET", group, "")
			a.advance(201 * time.Second)
			a.want(204, "", "DELETE", rule, "")
		}},
	})
}
