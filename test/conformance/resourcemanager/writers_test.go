package resourcemanager

import (
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
)

// Two writers of one group.
func TestWriters(t *testing.T) {
	check(t, []row{
		{"a group's PUT while another operation runs: 409 AnotherOperationInProgress, naming it", "hashicorp/terraform-provider-azurerm#4285; Azure/bicep#5132; Retry-After inferred", func(a *azure) {
			first := a.want(200, "", "PUT", group, whole())
			got := a.want(409, "AnotherOperationInProgress", "PUT", group, whole(named("a", "")))
			a.says(got, "Another operation on this or dependent resource is in progress.", first.header.Get("Azure-AsyncOperation"))
			a.same("Retry-After", got.header.Get("Retry-After"), "10")
		}},
		{"a rule's PUT or DELETE while another operation runs: 429 RetryableError, the reason beneath", "Azure/azure-sdk-for-python#556; pulumi/pulumi-azure-native#3720", func(a *azure) {
			a.want(201, "", "PUT", rule, body(""))
			for _, got := range []answer{
				a.want(429, "RetryableError", "PUT", group+"/securityRules/b", body(`"priority":201`)),
				a.want(429, "RetryableError", "DELETE", oldRule, ""),
			} {
				a.same("details", got.at("error", "details", "0", "code"), "RetryableErrorDueToAnotherOperation")
				a.says(got, "Operation PutSecurityRuleOperation (", ") is updating resource "+group+". The call can be retried in 10 seconds.")
				a.same("Retry-After", got.header.Get("Retry-After"), "10")
			}
		}},
		{"the group is free again when the operation has ended, and another group all the time", inferred("the lock is the resource's"), func(a *azure) {
			a.want(201, "", "PUT", rule, body(""))
			a.want(201, "", "PUT", groups+"/nsg-db-1-nic/securityRules/b", body(""))
			a.advance(latency)
			a.want(202, "", "DELETE", rule, "")
		}},
		{"a superseding writer: the first operation ends as Canceled, with the reason beneath", "Azure/azure-cli#21156; microsoft/AzureTRE#3177; iterative/terraform-provider-iterative#341", func(a *azure) {
			a.Supersede(true)
			first := a.want(201, "", "PUT", rule, body(""))
			second := a.want(201, "", "PUT", group+"/securityRules/two", body(`"priority":201`))
			a.advance(latency)
			got := a.want(200, "Canceled", "GET", first.header.Get("Azure-AsyncOperation"), "")
			a.same("status", got.at("status"), "Canceled")
			a.same("message", got.at("error", "message"), "Operation was canceled.")
			a.same("details", got.at("error", "details", "0", "code"), "CanceledAndSupersededDueToAnotherOperation")
			id := second.header.Get("Azure-AsyncOperation")
			id = id[strings.LastIndex(id, "/")+1 : strings.Index(id, "?")]
			a.says(got, "was canceled and superseded by operation PutSecurityRuleOperation ("+id+").")
			a.same("the second", a.want(200, "", "GET", second.header.Get("Azure-AsyncOperation"), "").at("status"), "Succeeded")
		}},
		{"a superseded DELETE: Location says 409, and the rule is still in force", inferred("nothing says which of the writes has landed"), func(a *azure) {
			a.Supersede(true)
			first := a.want(202, "", "DELETE", oldRule, "")
			a.want(201, "", "PUT", rule, body(""))
			a.advance(latency)
			a.want(409, "Canceled", "GET", first.header.Get("Location"), "")
			a.same("the rule", a.want(200, "", "GET", oldRule, "").at("properties", "provisioningState"), "Succeeded")
		}},
	})
}

// Management locks.
func TestLocks(t *testing.T) {
	check(t, []row{
		{"CanNotDelete on the resource group: DELETE of a rule is 409 ScopeLocked", "Azure/azure-cli#16958; 409 from Azure/azure-sdk-for-java#2560", func(a *azure) {
			a.SetLock(resources, resourcemanager.CanNotDelete)
			got := a.want(409, "ScopeLocked", "DELETE", oldRule, "")
			a.says(got, "The scope '"+oldRule+"' cannot perform delete operation because following scope(s) are locked: '", "Please remove the lock and try again.")
		}},
		{"CanNotDelete: a PUT of the whole group without the rule removes it", "Azure/azure-powershell#8365; Azure/azure-cli#16958", func(a *azure) {
			a.SetLock(resources, resourcemanager.CanNotDelete)
			a.want(200, "", "PUT", group, whole())
			a.advance(latency)
			a.want(404, "NotFound", "GET", oldRule, "")
		}},
		{"CanNotDelete: a PUT of a rule goes through", locksDoc, func(a *azure) {
			a.SetLock(resources, resourcemanager.CanNotDelete)
			a.want(201, "", "PUT", rule, body(""))
		}},
		{"ReadOnly: no write goes through, every read does", locksDoc + "; Azure/azure-sdk-for-java#2560", func(a *azure) {
			a.SetLock(subscription, resourcemanager.ReadOnly)
			a.says(a.want(409, "ScopeLocked", "PUT", group, whole()), "cannot perform write operation")
			a.want(409, "ScopeLocked", "PUT", rule, body(""))
			a.want(409, "ScopeLocked", "DELETE", oldRule, "")
			a.want(200, "", "GET", group, "")
		}},
		{"a lock on one group is on its rules and on no other group", locksDoc, func(a *azure) {
			a.SetLock(strings.ToUpper(group)+"/", resourcemanager.ReadOnly)
			a.want(409, "ScopeLocked", "PUT", rule, body(""))
			a.want(201, "", "PUT", group+"-2", whole())
			a.SetLock(group, "")
			a.want(201, "", "PUT", rule, body(""))
		}},
	})
}
