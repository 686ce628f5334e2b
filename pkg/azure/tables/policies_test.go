package tables_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

const subscription = "00000000-0000-0000-0000-000000000001"

func policyAt(scope access.ResourceID, ports, sources int) policy.AccessPolicy {
	p := policy.AccessPolicy{Scope: scope, Requestors: []string{"*"}}
	for i := range ports {
		port := policy.Port{Number: uint16(i + 1), Protocol: access.TCP, MaxDuration: time.Hour}
		for j := range sources {
			port.Sources = append(port.Sources, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x:%x::/64", i+1, j+1)))
		}
		p.Ports = append(p.Ports, port)
	}
	return p
}

func TestTheNearestPolicyOfTheMachine(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	scopes := vm.Scopes()
	for _, scope := range append(scopes, vm+"0", access.ResourceID(group+"-2"), "/subscriptions/00000000-0000-0000-0000-000000000002") {
		_, err := w.PutPolicy(ctx, policyAt(scope, 1, 1))
		check(t, err)
	}
	for _, scope := range scopes { // the nearest first
		found, err := w.PoliciesFor(ctx, vm)
		check(t, err)
		if got, ok := policy.Nearest(vm, found); !ok || got.Scope != scope {
			t.Errorf("%s decides, not %s", got.Scope, scope)
		}
		for raw := range heldAt(t, w, scope) {
			_, err := w.service.NewClient("policies").DeleteEntity(ctx, subscription, raw, nil)
			check(t, err)
		}
	}
	if found, err := w.PoliciesFor(ctx, vm); err != nil || len(found) != 0 {
		t.Errorf("of another scope: %+v, %v", found, err)
	}
	if all, err := w.ListPolicies(ctx, ""); err != nil || len(all) != 3 || all[0].Scope > all[1].Scope {
		t.Errorf("%d, %v", len(all), err)
	}
}

// A policy that cannot be read decides nothing and lets no wider one decide.
func TestAPolicyThatCannotBeReadIsNeverLeftOut(t *testing.T) {
	for name, spoil := range map[string]func(row map[string]any){
		"no JSON": func(row map[string]any) { row["Policy"] = "{" },
		"empty":   func(row map[string]any) { delete(row, "Policy") },
		"of another scope": func(row map[string]any) {
			row["Policy"] = strings.Replace(row["Policy"].(string), "web-1", "web-2", 1)
		},
		"an unknown member": func(row map[string]any) { row["Policy"] = `{"hours":"9-5",` + row["Policy"].(string)[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			w, ctx := newWorld(t, 1000), t.Context()
			_, err := w.PutPolicy(ctx, policyAt("/subscriptions/"+subscription, 1, 1))
			check(t, err)
			_, err = w.PutPolicy(ctx, policyAt(vm, 1, 1))
			check(t, err)
			c := w.service.NewClient("policies")
			filter := "Scope eq '" + string(vm) + "'"
			rows := c.NewListEntitiesPager(listOptions(filter))
			page, err := rows.NextPage(ctx)
			check(t, err)
			var row map[string]any
			check(t, json.Unmarshal(page.Entities[0], &row))
			spoil(row)
			for _, k := range []string{"odata.etag", "odata.metadata", "Timestamp", "Timestamp@odata.type"} {
				delete(row, k)
			}
			data, err := json.Marshal(row)
			check(t, err)
			_, err = c.UpsertEntity(ctx, data, replace())
			check(t, err)
			_, err = w.PoliciesFor(ctx, vm)
			wantCode(t, err, access.Internal, "policy_unreadable")
			_, err = w.ListPolicies(ctx, "")
			wantCode(t, err, access.Internal, "policy_unreadable")
		})
	}
}

// A row that was copied to another key must not decide there.
func TestAPolicyDecidesOnlyWhereItStands(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	_, err := w.PutPolicy(ctx, policyAt(vm, 1, 1))
	check(t, err)
	_, err = w.PutPolicy(ctx, policyAt(access.ResourceID(group), 1, 1))
	check(t, err)
	c := w.service.NewClient("policies")
	read := func(scope string) map[string]any {
		page, err := c.NewListEntitiesPager(listOptions("Scope eq '" + scope + "'")).NextPage(ctx)
		check(t, err)
		var row map[string]any
		check(t, json.Unmarshal(page.Entities[0], &row))
		return row
	}
	from, to := read(group), read(string(vm))
	data, err := json.Marshal(map[string]any{"PartitionKey": to["PartitionKey"], "RowKey": to["RowKey"], "Scope": to["Scope"], "Policy": from["Policy"]})
	check(t, err)
	_, err = c.UpsertEntity(ctx, data, replace())
	check(t, err)
	_, err = w.PoliciesFor(ctx, vm)
	wantCode(t, err, access.Internal, "policy_unreadable")
}

// heldAt gives the row keys of the policies at the scope.
func heldAt(t *testing.T, w *world, scope access.ResourceID) map[string]bool {
	t.Helper()
	page, err := w.service.NewClient("policies").NewListEntitiesPager(listOptions("Scope eq '" + string(scope) + "'")).NextPage(t.Context())
	check(t, err)
	out := map[string]bool{}
	for _, data := range page.Entities {
		var row struct{ RowKey string }
		check(t, json.Unmarshal(data, &row))
		out[row.RowKey] = true
	}
	return out
}
