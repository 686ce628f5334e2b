package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatPeopleSee holds all that is shown for each call against testdata.
func TestWhatPeopleSee(t *testing.T) {
	policyFile := filepath.Join(t.TempDir(), "policy.yaml")
	yaml := "scope: " + prod + "\nports:\n- {number: 22, protocol: TCP, allowedSourceAddressPrefix: 203.0.113.0/24, maxRequestAccessDuration: PT1H}\nrequestors: [alice@contoso.com]\n"
	if err := os.WriteFile(policyFile, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		at := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	changed := file("source.json", strings.Replace(deskJSON, `"maxAge":"PT1H"`, `"maxAge":"PT2H"`, 1))
	broken := file("broken.yaml", "name: desk\nkind: github\nsecrets: [PORTCULLIS_SECRET_DESK]\nmapping:\n  ticket: payload.n\n  at: payload.at\n  state: |-\n    payload.open ?\n      'open' 'closed'\nsample: {n: 7}\n")
	closed := file("closed.json", `{"ours":true,"n":7,"at":"2026-11-24T11:30:00Z","state":"closed","who":"bob"}`)
	lacking := file("lacking.json", `{"ours":true,"at":"2026-11-24T11:30:00Z","state":"approved"}`)
	notAllowed := problem(403, "permission_denied", "policy_violation", "the request is refused for 2 reasons",
		violation("virtualMachines[0].ports[1]", "source_outside_policy", "203.0.113.7 does not lie inside a range allowed for port 3389: 198.51.100.0/24"), violation("", "ticket_required", "the policy demands a ticket"))
	for name, c := range map[string]struct {
		args  string
		stdin string // somebody sits there
		later bool   // a few hours later, with anchors to be had
		json  bool
		set   func(*fake)
	}{
		"vms":               {args: "vms"},
		"vms-one":           {args: "vms web-1 db-1"},
		"vms-exposed":       {args: "vms --exposed"},
		"vms-none":          {args: "vms", set: func(f *fake) { f.on("GET /api/machines", ok(`{"items":[]}`)) }},
		"request":           {args: "request --vm web-1 --port 22 --for 1h --reason logs"},
		"request-wait":      {args: "request --vm web-1 --port 22 --for 1h --reason logs --wait"},
		"request-wait-json": {args: "request --vm web-1 --port 22 --for 1h --reason logs --wait -o json"},
		"request-refused":   {args: "request --vm web-1 --port 22,3389 --for 1h --reason logs", set: func(f *fake) { f.on("POST /api/access-requests", notAllowed) }},
		"request-failed": {args: "request --vm web-1 --port 22 --for 1h --wait", set: func(f *fake) {
			f.on("GET /api/access-requests/"+id1, ok(request(id1, `"status":"Failed","statusReason":"NotOpenedInTime","blockedBy":"DenyAll of nsg-web at priority 90","endedAtUtc":"2026-11-24T12:15:00Z"`)))
		}},
		"request-unknown-vm": {args: "request --vm web1 --port 22 --for 1h"},
		"request-ambiguous": {args: "request --vm web-1 --port 22 --for 1h", set: func(f *fake) {
			f.on("GET /api/machines", ok(`{"items":[`+web1JSON+`,`+strings.ReplaceAll(strings.ReplaceAll(web1JSON, "prod", "dev"), sub, other)+`]}`))
		}},
		"status":           {args: "status"},
		"status-everybody": {args: "status --everybody"},
		"status-one":       {args: "status " + id1},
		"status-refused":   {args: "status " + id2},
		"extend":           {args: "extend " + id1 + " --for 1h"},
		"revoke":           {args: "revoke " + id1},
		"enable-plan":      {args: "enable db-1 --plan"},
		"enable-yes":       {args: "enable db-1", stdin: "y\n"},
		"enable-no":        {args: "enable db-1", stdin: "\n"},
		"enable-script":    {args: "enable db-1"},
		"enable-group":     {args: "enable -g prod --port 22,443 --max 2h --yes --close-grants"},
		"disable":          {args: "disable -g prod --yes"},
		"disable-covered":  {args: "disable web-1 --yes"},
		"policy-list":      {args: "policy list"},
		"policy-get":       {args: "policy get -g prod"},
		"policy-apply":     {args: "policy apply --yes -f " + policyFile},
		"policy-changed": {args: "policy apply --yes -f " + policyFile, set: func(f *fake) {
			f.on("PUT "+policyAt(""), problem(412, "condition_failed", "policy_changed", "somebody else has changed the policy: read it again, and apply your change to what it is now")).on("PUT "+policyAt("")+"?plan=true", ok(nothingJSON))
		}},
		"audit":       {args: "audit --vm web-1"},
		"audit-limit": {args: "audit --limit 2"},
		"audit-json":  {args: "audit -o json --limit 1"},
		"audit-csv":   {args: "audit --format csv"},
		"audit-none":  {args: "audit", set: func(f *fake) { f.on("GET /api/audit/events", ok(`{"items":[]}`)) }},
		"audit-gone": {args: "audit --kind Opened", set: func(f *fake) {
			f.on("GET /api/audit/events", ok(`{"items":[{"subject":"`+id1+`","kind":"Opened","at":"2026-11-24T12:00:00Z","missing":true,"seal":{}}]}`))
		}},
		"audit-verify":        {args: "audit verify --anchors https://acc.example/anchors", later: true},
		"audit-verify-json":   {args: "audit verify -o json --anchors https://acc.example/anchors", later: true},
		"audit-verify-bare":   {args: "audit verify --from 2026-11-24", later: true},
		"audit-verify-one":    {args: "audit verify --subject " + id1, later: true},
		"audit-verify-behind": {args: "audit verify --anchors https://acc.example/anchors --subject " + id1, later: true, set: func(f *fake) { f.moreOf(id1) }},
		"audit-verify-wrong": {args: "audit verify --anchors https://acc.example/anchors", later: true, set: func(f *fake) {
			f.edit("/api/audit/chains?subject="+id1, "203.0.113.7", "198.51.100.1")
			delete(f.has, "GET /api/audit/chains?subject="+id2)
		}},
		"source-list":          {args: "source list"},
		"source-get":           {args: "source get desk"},
		"source-none":          {args: "source get none"},
		"source-delete":        {args: "source delete desk", stdin: "y\n"},
		"source-apply":         {args: "source apply --yes -f " + changed},
		"source-new":           {args: "source apply -f " + file("new.json", strings.Replace(deskJSON, `"desk"`, `"new"`, 1)), stdin: "y\n"},
		"source-broken":        {args: "source apply --yes -f " + broken},
		"source-test":          {args: "source test desk"},
		"source-ends":          {args: "source test desk -f " + closed},
		"source-ignored":       {args: "source test desk -f " + file("other.json", `{"ours":false}`)},
		"source-fault":         {args: "source test desk -f " + lacking},
		"source-unsaved":       {args: "source test --payload " + closed + " -o json -f " + changed},
		"source-json":          {args: "source test desk -o json"},
		"source-forged":        {args: "source test desk -f " + closed + " --header X-Hub-Signature-256:sha256=00"},
		"import-defender":      {args: "import defender -f ../../pkg/defender/testdata/export.json --requestor alice@contoso.com"},
		"import-defender-json": {args: "import defender -f ../../pkg/defender/testdata/export.json -o json"},
		"import-defender-apply": {args: "import defender -f ../../pkg/defender/testdata/export.json --requestor alice@contoso.com --apply --plan", set: func(f *fake) {
			f.on("PUT "+policyAt("/virtualMachines/web-1"), ok(nothingJSON))
		}},
		"import-defender-none": {args: "import defender"},
		"lockdown":             {args: "lockdown"},
		"lockdown-on":          {args: "lockdown --yes --reason laptop"},
		"lockdown-lift":        {args: "lockdown --lift", stdin: "yes\n"},
		"not-signed-in": {args: "vms", set: func(f *fake) {
			f.on("GET /api/machines", problem(401, "unauthenticated", "token_expired", "the token has expired"))
		}},
		"no-role": {args: "vms", set: func(f *fake) {
			f.on("GET /api/machines", problem(403, "permission_denied", "role_required", "this takes the app role Access.Request: ask an administrator of Portcullis for it"))
		}},
		"later": {args: "vms", set: func(f *fake) {
			f.on("GET /api/machines", problem(503, "unavailable", "azure_unreachable", "the request could not be handled now; try again"))
		}},
		"problem-json": {args: "vms -o json", set: func(f *fake) {
			f.on("GET /api/machines", problem(403, "permission_denied", "role_required", "this takes a role"))
		}},
		"hostile-answer": {args: "vms", set: func(f *fake) {
			f.on("GET /api/machines", answer{status: 400, body: `{"code":"invalid_argument","reason":"x\u001b[31m","detail":"clear\u001b[2J the screen\u202e"}`})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := full(t)
			if c.set != nil {
				c.set(f)
			}
			d := f.desk(nil)
			if c.stdin != "" {
				d.in, d.asks = strings.NewReader(c.stdin), true
			}
			if c.later {
				d.anchored(t)
			}
			code := d.run(t, strings.Fields(c.args)...)
			got := strings.ReplaceAll(fmt.Sprintf("%s--- stderr\n%s--- exit %d\n", d.out.String(), d.errs.String(), code), "\r\n", "\n")
			for _, r := range got {
				if r < ' ' && r != '\n' || r == 0x202e {
					t.Errorf("%q reaches the terminal", r)
				}
			}
			file := filepath.Join("testdata", name+".golden")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant (UPDATE_GOLDEN=1 takes what is got):\n%s", got, want)
			}
		})
	}
}
