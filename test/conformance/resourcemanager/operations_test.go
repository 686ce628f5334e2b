package resourcemanager

import (
	"strings"
	"testing"
	"time"
)

const operations = subscription + "/providers/Microsoft.Network/locations/westeurope/operations/"

// The shapes of the writes of a rule and of a group, and of their operations.
func TestOperations(t *testing.T) {
	check(t, []row{
		{"PUT of a new rule: 201, Updating, Azure-AsyncOperation, no Location", recording, func(a *azure) {
			put := a.want(201, "", "PUT", rule, body(""))
			a.same("provisioningState", put.at("properties", "provisioningState"), "Updating")
			a.same("id", put.at("id"), rule)
			a.same("type", put.at("type"), "Microsoft.Network/networkSecurityGroups/securityRules")
			a.same("Location", put.header.Get("Location"), "")
			if !strings.HasPrefix(put.header.Get("Azure-AsyncOperation"), a.web.URL+operations) {
				a.Errorf("Azure-AsyncOperation is %q", put.header.Get("Azure-AsyncOperation"))
			}
		}},
		{"PUT of a rule that is there: 200, Azure-AsyncOperation, no Location", recording, func(a *azure) {
			put := a.want(200, "", "PUT", oldRule, body(""))
			a.same("Location", put.header.Get("Location"), "")
			if put.header.Get("Azure-AsyncOperation") == "" {
				a.Error("no Azure-AsyncOperation")
			}
		}},
		{"a rule keeps the case of the name that it was created with", inferred("ids have no case (Azure/azure-sdk-for-python#574), and some spelling has to be shown"), func(a *azure) {
			a.want(200, "", "PUT", strings.ToUpper(oldRule), body(""))
			a.same("name", a.want(200, "", "GET", oldRule, "").at("name"), "AllowHttpsInBound")
		}},
		{"DELETE of a rule: 202 without a body, Azure-AsyncOperation and Location", recording + "; " + deleteSpec, func(a *azure) {
			gone := a.want(202, "", "DELETE", oldRule, "")
			a.same("body", gone.raw, "")
			watch := gone.header.Get("Azure-AsyncOperation")
			a.same("Location", gone.header.Get("Location"), strings.Replace(watch, "/operations/", "/operationResults/", 1))
			if !strings.HasPrefix(watch, a.web.URL+operations) {
				a.Errorf("Azure-AsyncOperation is %q", watch)
			}
		}},
		{"DELETE of no rule: 204, and no operation", deleteSpec, func(a *azure) {
			a.same("Azure-AsyncOperation", a.want(204, "", "DELETE", rule, "").header.Get("Azure-AsyncOperation"), "")
		}},
		{"PUT of a new group: 201, Updating with its default rules, Azure-AsyncOperation", recording, func(a *azure) {
			put := a.want(201, "", "PUT", groups+"/fresh", whole())
			a.same("provisioningState", put.at("properties", "provisioningState"), "Updating")
			a.same("a default rule", put.at("properties", "defaultSecurityRules", "0", "properties", "provisioningState"), "Updating")
			a.same("its ETag", put.at("properties", "defaultSecurityRules", "0", "etag"), put.at("etag"))
			if put.header.Get("Azure-AsyncOperation") == "" || put.header.Get("ETag") != "" {
				a.Errorf("headers: %v", put.header)
			}
		}},
		{"PUT of a group that is there: 200", groupSpec + "; armnetwork v9.0.0, securitygroups_client.go takes 200 and 201", func(a *azure) {
			a.want(200, "", "PUT", group, whole())
		}},
		{"the default rules, by name, priority and prefixes", groupSpec, func(a *azure) {
			got := a.want(200, "", "GET", group, "")
			for i, want := range []string{
				"AllowVnetInBound 65000 VirtualNetwork VirtualNetwork", "AllowAzureLoadBalancerInBound 65001 AzureLoadBalancer *",
				"DenyAllInBound 65500 * *", "AllowVnetOutBound 65000 VirtualNetwork VirtualNetwork",
				"AllowInternetOutBound 65001 * Internet", "DenyAllOutBound 65500 * *",
			} {
				at := func(p ...string) string {
					return got.at(append([]string{"properties", "defaultSecurityRules", string(rune('0' + i))}, p...)...)
				}
				a.same("default rule", at("name")+" "+at("properties", "priority")+" "+at("properties", "sourceAddressPrefix")+" "+
					at("properties", "destinationAddressPrefix"), want)
			}
		}},
		{"the plural fields are there even when empty", recording, func(a *azure) {
			a.says(a.want(200, "", "GET", oldRule, ""), `"sourceAddressPrefixes":[]`, `"destinationPortRanges":[]`)
		}},
		{"an operation: InProgress with Retry-After, then Succeeded and nothing else", recording + "; " + asyncDoc, func(a *azure) {
			put := a.want(201, "", "PUT", rule, body(""))
			watch := put.header.Get("Azure-AsyncOperation")
			running := a.want(200, "", "GET", watch, "")
			a.same("body", running.raw, `{"status":"InProgress"}`)
			a.same("Retry-After of the PUT", put.header.Get("Retry-After"), "10")
			a.same("Retry-After of the poll", running.header.Get("Retry-After"), "10")
			a.advance(latency)
			a.same("body", a.want(200, "", "GET", watch, "").raw, `{"status":"Succeeded"}`)
			a.same("the rule", a.want(200, "", "GET", rule, "").at("properties", "provisioningState"), "Succeeded")
		}},
		{"Location: 202 while it runs, then 204", asyncDoc, func(a *azure) {
			location := a.want(202, "", "DELETE", oldRule, "").header.Get("Location")
			running := a.want(202, "", "GET", location, "")
			a.same("Location", running.header.Get("Location"), location)
			a.same("Retry-After", running.header.Get("Retry-After"), "10")
			a.advance(latency)
			a.want(204, "", "GET", location, "")
		}},
		{"a rule that is being removed is Deleting, and gone at the end", inferred("the provisioning states of armnetwork v9.0.0, constants.go"), func(a *azure) {
			a.want(202, "", "DELETE", oldRule, "")
			a.same("the rule", a.want(200, "", "GET", oldRule, "").at("properties", "provisioningState"), "Deleting")
			a.advance(latency)
			a.want(404, "NotFound", "GET", oldRule, "")
		}},
		{"the write of one rule leaves the others Succeeded and its group Updating", "hashicorp/terraform#7986 (the group is Updating by PutSecurityRuleOperation); the other rules inferred", func(a *azure) {
			a.want(201, "", "PUT", rule, body(""))
			a.same("the group", a.want(200, "", "GET", group, "").at("properties", "provisioningState"), "Updating")
			a.same("another rule", a.want(200, "", "GET", oldRule, "").at("properties", "provisioningState"), "Succeeded")
		}},
		{"an operation that nobody began: 404", inferred("as any child that is not there"), func(a *azure) {
			a.want(404, "NotFound", "GET", operations+"00000000-0000-0000-0000-000000000000", "")
		}},
	})
}

// What a whole group's PUT keeps and loses.
func TestWholeGroup(t *testing.T) {
	check(t, []row{
		{"a PUT replaces: what it leaves out is gone", "MSOpenTech/azure-xplat-cli#434 (updates have to happen by a PUT of the whole)", func(a *azure) {
			a.want(200, "", "PUT", group, whole(named("only", "")))
			got := a.want(200, "", "GET", group, "")
			a.same("rules", got.at("properties", "securityRules", "0", "name")+got.at("properties", "securityRules", "1", "name"), "only")
		}},
		{"what the server sets is not the client's to set", inferred("readOnly in NetworkSecurityGroupPropertiesFormat"), func(a *azure) {
			before := a.want(200, "", "GET", group, "")
			a.want(200, "", "PUT", group, `{"location":"westeurope","id":"mine","etag":"mine","properties":{
			 "provisioningState":"mine","resourceGuid":"mine","defaultSecurityRules":[{"name":"mine"}]}}`)
			after := a.want(200, "", "GET", group, "")
			a.same("resourceGuid", after.at("properties", "resourceGuid"), before.at("properties", "resourceGuid"))
			if strings.Contains(after.raw, "mine") {
				a.Errorf("the client set what it cannot: %s", after.raw)
			}
		}},
		{"a property of a later version is kept as it was sent", inferred("the resource outlives the api-version of one client"), func(a *azure) {
			a.want(201, "", "PUT", groups+"/fresh", `{"location":"westeurope","properties":{"future":{"kept":[1.50,true]}}}`)
			a.says(a.want(200, "", "GET", groups+"/fresh", ""), `"future":{"kept":[1.50,true]}`)
		}},
		{"a location is a region's name, however it is written", "learn.microsoft.com, Azure regions list: name and display name", func(a *azure) {
			a.same("location", a.want(200, "", "PUT", group, `{"location":"West Europe"}`).at("location"), "westeurope")
		}},
		{"no location: LocationRequired", errorsDoc, func(a *azure) {
			a.want(400, "LocationRequired", "PUT", group, `{"properties":{}}`)
		}},
		{"another location: 409 InvalidResourceLocation", errorsDoc, func(a *azure) {
			a.want(409, "InvalidResourceLocation", "PUT", group, `{"location":"eastus"}`)
		}},
		{"what is no JSON object: InvalidRequestContent", errorsDoc, func(a *azure) {
			for _, bad := range []string{"{", "[]", "{}{}"} {
				a.want(400, "InvalidRequestContent", "PUT", group, bad)
			}
		}},
		{"what is no group: InvalidRequestFormat, with the reason beneath", "hashicorp/terraform-provider-azurerm#32505", func(a *azure) {
			for _, bad := range []string{`[]`, `{"securityRules":{}}`, `{"securityRules":[1]}`, `{"securityRules":[{"name":"x"}]}`} {
				got := a.want(400, "InvalidRequestFormat", "PUT", group, `{"location":"westeurope","properties":`+bad+`}`)
				a.same("message", got.at("error", "message"), "Cannot parse the request.")
				a.same("details", got.at("error", "details", "0", "code"), "InvalidJson")
			}
		}},
		{"two children of one name: InvalidRequestFormat, DuplicateResourceName beneath", "Azure/migAz#218 and #181 (load balancers)", func(a *azure) {
			got := a.want(400, "InvalidRequestFormat", "PUT", group, whole(named("x", ""), named("X", `"priority":201`)))
			a.same("details", got.at("error", "details", "0", "code"), "DuplicateResourceName")
			a.says(got, "has two child resources with the same name (")
		}},
	})
}

// ETags, and conditions on them.
func TestETags(t *testing.T) {
	check(t, []row{
		{"GET has the ETag in its header and its body; a rule's is its group's", recording, func(a *azure) {
			got, one := a.want(200, "", "GET", group, ""), a.want(200, "", "GET", oldRule, "")
			a.same("the header", got.header.Get("ETag"), got.at("etag"))
			a.same("the rule's", one.at("etag"), got.at("etag"))
			a.same("the rule's header", one.header.Get("ETag"), one.at("etag"))
			if !strings.HasPrefix(got.at("etag"), `W/"`) {
				a.Errorf("the ETag is %s, want a weak one", got.at("etag"))
			}
		}},
		{"an operation changes the ETag twice: when it begins and when it ends", recording, func(a *azure) {
			before := a.want(200, "", "GET", group, "").at("etag")
			put := a.want(201, "", "PUT", rule, body("")).at("etag")
			a.same("the ETag while it runs", a.want(200, "", "GET", group, "").at("etag"), put)
			a.advance(latency)
			after := a.want(200, "", "GET", group, "").at("etag")
			a.same("the ETag an hour later", func() string { a.advance(time.Hour); return a.want(200, "", "GET", group, "").at("etag") }(), after)
			if before == put || put == after || before == after {
				a.Errorf("ETags %s, %s, %s", before, put, after)
			}
		}},
		{"PUT of a group under its ETag: done; under a stale one: 412", "kubernetes-sigs/cloud-provider-azure#9729; kubernetes-sigs/cluster-api-provider-azure#682", func(a *azure) {
			etag := a.want(200, "", "GET", group, "").at("etag")
			a.want(200, "", "PUT", group, whole(named("a", "")), "If-Match", etag)
			a.advance(latency)
			before := a.want(200, "", "GET", group, "")
			got := a.want(412, "PreconditionFailed", "PUT", group, whole(), "If-Match", etag)
			a.same("message", got.at("error", "message"), "Precondition failed.")
			a.same("details", got.at("error", "details", "0", "code"), "PreconditionFailedEtagMismatch")
			a.says(got, "Etag provided in if-match header", "does not match etag", "of resource "+group+" in NRP data store.")
			a.same("the group", a.want(200, "", "GET", group, "").raw, before.raw)
		}},
		{"the ETag in the answer to a PUT is stale once the operation has ended: 412", recording + " (it changes at the end)", func(a *azure) {
			etag := a.want(200, "", "PUT", group, whole()).at("etag")
			a.advance(latency)
			a.want(412, "PreconditionFailed", "PUT", group, whole(), "If-Match", etag)
		}},
		{"a rule's write makes its group's ETag stale: 412", recording + " (one ETag for both)", func(a *azure) {
			etag := a.want(200, "", "GET", group, "").at("etag")
			a.want(201, "", "PUT", rule, body(""))
			a.advance(latency)
			a.want(412, "PreconditionFailed", "PUT", group, whole(), "If-Match", etag)
		}},
		{"If-Match of any: 412 where there is no group; If-None-Match of any: 412 where there is one", inferred("RFC 9110, sections 13.1.1 and 13.1.2"), func(a *azure) {
			a.want(412, "PreconditionFailed", "PUT", groups+"/none", whole(), "If-Match", "*")
			a.want(412, "PreconditionFailed", "PUT", group, whole(), "If-None-Match", "*")
			a.want(201, "", "PUT", groups+"/none", whole(), "If-None-Match", "*")
			a.want(200, "", "PUT", group, whole(), "If-Match", "*")
		}},
		{"a list of tags, and a tag without W/, match", inferred("RFC 9110, section 8.8.3.2"), func(a *azure) {
			etag := a.want(200, "", "GET", group, "").at("etag")
			a.want(200, "", "PUT", group, whole(), "If-Match", `"x", `+strings.TrimPrefix(etag, "W/"))
		}},
		{"a request header named ETag is no condition", "Azure/azure-rest-api-specs#6789", func(a *azure) {
			a.want(200, "", "PUT", group, whole(), "ETag", `W/"stale"`)
		}},
		{"If-Match on one rule is not looked at", inferred("no record that it is; nobody should rely on it"), func(a *azure) {
			a.want(201, "", "PUT", rule, body(""), "If-Match", `W/"stale"`)
		}},
	})
}
