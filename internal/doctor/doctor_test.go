package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/infra"
	"github.com/portcullis-access/portcullis/internal/doctor"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// said runs a check and gives "level: what" for each finding that is not ok.
func said(t *testing.T, c doctor.Check) (out []string) {
	t.Helper()
	r := doctor.Examine(t.Context(), []doctor.Check{c})
	if len(r.Findings) == 0 {
		t.Error("nothing is said")
	}
	for _, f := range r.Findings {
		if f.Level == doctor.Problem && f.Mend == "" && !strings.Contains(f.What, "GET /") {
			t.Errorf("%q does not say how to mend it", f.What)
		}
		if f.Level != doctor.OK {
			out = append(out, string(f.Level)+": "+f.What)
		}
	}
	return out
}

// expect holds what was said against parts of it, one each.
func expect(t *testing.T, name string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) || !slices.EqualFunc(got, want, strings.Contains) {
		t.Errorf("%s: said %q, want %q", name, got, want)
	}
}

func TestTheAPI(t *testing.T) {
	well := map[string]doctor.Answer{
		"/api/openapi.json": {Status: 200, Date: noon, Body: `{"openapi":"3.1.0"}`}, "/api/me": {Status: 401},
	}
	with := func(path string, a doctor.Answer) map[string]doctor.Answer {
		out := map[string]doctor.Answer{path: a}
		for k, v := range well {
			if k != path {
				out[k] = v
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		url     string
		answers map[string]doctor.Answer
		want    []string
	}{
		"well":           {"https://p", well, nil},
		"http":           {"http://p", well, []string{"warning: the API is called over http"}},
		"no handler":     {"https://p", with("/api/openapi.json", doctor.Answer{Status: 503}), []string{"problem: GET /api/openapi.json is answered 503"}},
		"another page":   {"https://p", with("/api/openapi.json", doctor.Answer{Status: 200, Body: "<html>"}), []string{"problem: GET /api/openapi.json"}},
		"a wrong clock":  {"https://p", with("/api/openapi.json", doctor.Answer{Status: 200, Date: noon.Add(time.Minute), Body: `"openapi"`}), []string{"warning: the app's clock"}},
		"no clock":       {"https://p", with("/api/openapi.json", doctor.Answer{Status: 200, Body: `"openapi"`}), []string{"skipped: the answer bears no Date"}},
		"a login page":   {"https://p", with("/api/me", doctor.Answer{Status: 302}), []string{"problem: without a token GET /api/me is answered 302"}},
		"open to anyone": {"https://p", with("/api/me", doctor.Answer{Status: 200}), []string{"problem: without a token"}},
		"unreachable":    {"https://p", nil, []string{"problem: the API cannot be reached: no such host"}},
	} {
		probe := func(_ context.Context, method, path string) (doctor.Answer, error) {
			a, ok := c.answers[path]
			if !ok || method != http.MethodGet {
				return a, errors.New("no such host")
			}
			return a, nil
		}
		expect(t, name, said(t, doctor.API(c.url, probe, clock)), c.want...)
	}
}

func TestFunctionsThatAreReached(t *testing.T) {
	for status, want := range map[int][]string{404: nil, 401: nil, 200: {"problem: GET /Sweep is answered 200"}, 500: {"problem: GET /Sweep"}} {
		probe := func(context.Context, string, string) (doctor.Answer, error) {
			return doctor.Answer{Status: status}, nil
		}
		expect(t, fmt.Sprint(status), said(t, doctor.Functions([]string{"Sweep"}, probe)), want...)
	}
}

func TestTheToken(t *testing.T) {
	for name, c := range map[string]struct {
		caller doctor.Caller
		err    error
		want   []string
	}{
		"well":        {doctor.Caller{Roles: []string{"Access.ReadAll"}, Machines: 3}, nil, nil},
		"no role":     {doctor.Caller{}, nil, []string{"warning: your roles show you only"}},
		"no machines": {doctor.Caller{Roles: []string{"Portcullis.Administer"}}, nil, []string{"warning: the app sees no virtual machine"}},
		"refused":     {doctor.Caller{}, access.Errorf(access.Unavailable, "audience_wrong", "no"), []string{"problem: the API does not take your token: audience_wrong: no"}},
	} {
		expect(t, name, said(t, doctor.Token(func(context.Context) (doctor.Caller, error) { return c.caller, c.err })), c.want...)
	}
}

type bus map[string]doctor.Entity

func (b bus) Queue(_ context.Context, name string) (doctor.Entity, error) {
	e, ok := b[name]
	if !ok {
		return e, access.Errorf(access.NotFound, "entity_missing", "no")
	}
	if e.Settings == nil {
		return e, access.Errorf(access.Unavailable, "azure_permission", "no")
	}
	return e, nil
}

func (b bus) Subscription(ctx context.Context, topic, name string) (doctor.Entity, error) {
	return b.Queue(ctx, topic+"/"+name)
}

func TestQueues(t *testing.T) {
	const want = `{"queues":[{"name":"q","requiresSession":true,"maxDeliveryCount":10}],"topics":[{"name":"t","subscriptions":[{"name":"all","requiresSession":true}]}]}`
	good := doctor.Entity{Active: true, Settings: map[string]any{"requiresSession": true, "maxDeliveryCount": 10}}
	disabled, plain, dead := good, good, good
	disabled.Active, dead.Dead = false, 2
	plain.Settings = map[string]any{"requiresSession": false, "maxDeliveryCount": 10}
	for name, c := range map[string]struct {
		bus  bus
		want []string
	}{
		"well":          {bus{"q": good, "t/all": good}, nil},
		"missing":       {bus{"q": good}, []string{"problem: the subscription all of the topic t does not exist"}},
		"disabled":      {bus{"q": disabled, "t/all": good}, []string{"problem: the queue q is disabled"}},
		"other setting": {bus{"q": plain, "t/all": good}, []string{"problem: the queue q has requiresSession false, and not true"}},
		"dead letters":  {bus{"q": dead, "t/all": good}, []string{"warning: the queue q holds 2 dead letters"}},
		"no right":      {bus{"q": {}}, []string{"skipped: your identity may not read"}},
	} {
		expect(t, name, said(t, doctor.ServiceBus([]byte(want), c.bus)), c.want...)
	}
}

type record struct {
	tables   []string
	due      []broker.Head
	pending  []access.Record
	lockdown access.Lockdown
	err      error
}

func (r record) Tables(context.Context) ([]string, error) { return r.tables, r.err }
func (r record) Due(_ context.Context, now time.Time) (out []broker.Head, err error) {
	for _, h := range r.due {
		if !h.DueAt.After(now) || h.Trouble != "" {
			out = append(out, h)
		}
	}
	return out, nil
}
func (r record) Pending(context.Context, time.Time) ([]access.Record, error) { return r.pending, nil }
func (r record) Lockdown(context.Context) (access.Lockdown, error)           { return r.lockdown, nil }

func TestTables(t *testing.T) {
	late := broker.Head{NSG: "/subscriptions/x/nsg-web", DueAt: noon.Add(-6 * time.Minute), Trouble: "azure_permission: no"}
	soon := late
	soon.DueAt = noon.Add(-4 * time.Minute)
	for name, c := range map[string]struct {
		record record
		want   []string
	}{
		"well":        {record{tables: []string{"a", "b"}, due: []broker.Head{soon}}, nil},
		"missing":     {record{tables: []string{"a"}}, []string{"problem: the table b is missing"}},
		"overdue":     {record{tables: []string{"a", "b"}, due: []broker.Head{late}}, []string{"problem: nsg-web is due since 2026-11-26T11:54:00Z: azure_permission: no"}},
		"unfinished":  {record{tables: []string{"a", "b"}, pending: make([]access.Record, 2)}, []string{"problem: 2 requests were decided"}},
		"locked down": {record{tables: []string{"a", "b"}, lockdown: access.Lockdown{Active: true, Reason: "laptop"}}, []string{"warning: every door is kept shut"}},
		"no right":    {record{err: access.Errorf(access.Unavailable, "azure_permission", "no")}, []string{"problem: the tables cannot be listed: azure_permission: no"}},
	} {
		expect(t, name, said(t, doctor.Tables([]byte(`["a","b"]`), c.record, clock)), c.want...)
	}
}

type rights struct {
	rights []doctor.Right
	locks  []doctor.Lock
}

func (r rights) Rights(context.Context, string, string) ([]doctor.Right, error) { return r.rights, nil }
func (r rights) RightsWithin(context.Context, string, string) ([]doctor.Right, error) {
	return r.rights, nil
}
func (r rights) Locks(context.Context, string) ([]doctor.Lock, error) { return r.locks, nil }

func TestPermissions(t *testing.T) {
	const role = `{"actions":["Microsoft.Network/networkSecurityGroups/read","Microsoft.Network/networkSecurityGroups/securityRules/delete"]}`
	give := func(actions, not string) []doctor.Right {
		return []doctor.Right{{Actions: strings.Split(actions, " "), NotActions: strings.Fields(not)}}
	}
	for name, c := range map[string]struct {
		rights rights
		want   []string
	}{
		"exactly":           {rights{rights: give("microsoft.network/networksecuritygroups/READ Microsoft.Network/networkSecurityGroups/securityRules/delete", "")}, nil},
		"a wildcard":        {rights{rights: give("Microsoft.Network/*", "")}, nil},
		"everything":        {rights{rights: give("*", "")}, nil},
		"reader":            {rights{rights: give("*/read", "")}, []string{"lacks Microsoft.Network/networkSecurityGroups/securityRules/delete"}},
		"taken away":        {rights{rights: give("*", "Microsoft.Network/*/delete")}, []string{"lacks Microsoft.Network/networkSecurityGroups/securityRules/delete"}},
		"given by another":  {rights{rights: append(give("*", "Microsoft.Network/*/delete"), give("Microsoft.Network/networkSecurityGroups/securityRules/delete", "")...)}, nil},
		"nothing":           {rights{}, []string{"lacks Microsoft.Network/networkSecurityGroups/read, Microsoft"}},
		"not quite":         {rights{rights: give("Microsoft.Network/networkSecurityGroups", "")}, []string{"lacks"}},
		"a lock of deletes": {rights{rights: give("*", ""), locks: []doctor.Lock{{Name: "l", Level: "CanNotDelete", Scope: "/s"}}}, []string{"warning: the lock l (CanNotDelete) stands at /s"}},
		"a lock of writes":  {rights{rights: give("*", ""), locks: []doctor.Lock{{Name: "l", Level: "ReadOnly", Scope: "/s"}}}, []string{"problem: the lock l (ReadOnly)"}},
	} {
		expect(t, name, said(t, doctor.Permissions([]string{"sub"}, "id", []byte(role), c.rights)), c.want...)
	}
	expect(t, "no principal", said(t, doctor.Permissions([]string{"sub"}, "", infra.Role, rights{})), "skipped: the app's rights on sub were not looked at")
}

func TestDataRights(t *testing.T) {
	all := []doctor.Right{
		{DataActions: []string{"Microsoft.ServiceBus/*/send/action"}}, {DataActions: []string{"Microsoft.ServiceBus/*/receive/action"}},
		{DataActions: []string{"Microsoft.Storage/storageAccounts/tableServices/tables/entities/*"}}, {DataActions: []string{"Microsoft.Storage/storageAccounts/blobServices/*"}},
	}
	expect(t, "all", said(t, doctor.DataPermissions("/g", "id", rights{rights: all})))
	expect(t, "no sender", said(t, doctor.DataPermissions("/g", "id", rights{rights: all[1:]})), "has no Microsoft.ServiceBus/namespaces/messages/send/action")
	taken := append([]doctor.Right{}, all...)
	taken[2].NotDataActions = []string{"*/delete"}
	expect(t, "taken away", said(t, doctor.DataPermissions("/g", "id", rights{rights: taken})), "has no Microsoft.Storage/storageAccounts/tableServices/tables/entities/delete")
	// What Resource Manager lets somebody do says nothing of the data.
	expect(t, "an owner", said(t, doctor.DataPermissions("/g", "id", rights{rights: []doctor.Right{{Actions: []string{"*"}}}})),
		"send", "receive", "read", "write", "delete", "read", "write")
}

func TestTheDryRun(t *testing.T) {
	target := doctor.Target{VM: "/subscriptions/x/web-1", Port: 22, Source: "203.0.113.7"}
	for name, c := range map[string]struct {
		preview []broker.Preview
		err     error
		want    []string
	}{
		"opens":   {[]broker.Preview{{NSG: "/x/nsg", Put: []nsg.Rule{{Name: "r", Priority: 100}}}}, nil, nil},
		"blocked": {[]broker.Preview{{NSG: "/x/nsg", BlockedBy: "DenyAll"}}, nil, []string{"problem: on nsg port 22 of web-1 would not open: DenyAll"}},
		"no gate": {nil, access.Errorf(access.FailedPrecondition, "no_nsg_on_path", "no group"), []string{"problem: port 22 of web-1 could not be opened from 203.0.113.7: no_nsg_on_path: no group"}},
	} {
		check := doctor.DryRun(target, func(context.Context, doctor.Target) ([]broker.Preview, error) { return c.preview, c.err })
		expect(t, name, said(t, check), c.want...)
	}
}

func TestTheWorstCounts(t *testing.T) {
	r := doctor.Examine(t.Context(), []doctor.Check{doctor.NotConfigured("a", "b")})
	if r.Worst() != doctor.OK {
		t.Errorf("%v", r.Worst())
	}
	for _, l := range []doctor.Level{doctor.Warning, doctor.Problem, doctor.OK} {
		r.Findings = append(r.Findings, doctor.Finding{Level: l})
	}
	if r.Worst() != doctor.Problem {
		t.Errorf("%v", r.Worst())
	}
}
