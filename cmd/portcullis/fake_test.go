package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	token = "eyJhbGciOi.secret-payload.signature"
	sub   = "00000000-0000-0000-0000-000000000001"
	other = "00000000-0000-0000-0000-000000000002"
	prod  = "/subscriptions/" + sub + "/resourcegroups/prod"
	web1  = prod + "/providers/microsoft.compute/virtualmachines/web-1"
	db1   = prod + "/providers/microsoft.compute/virtualmachines/db-1"
	id1   = "ar-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	id2   = "ar-bbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// noon is when the tests take place.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// answer is what the API gives to a call.
type answer struct {
	status int
	body   string
	etag   string
}

// fake is the API: answers by "METHOD /path", in turn, the last one for ever.
type fake struct {
	*httptest.Server
	mu    sync.Mutex
	has   map[string][]answer
	calls []string // "METHOD /path?query [If-Match] body"
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{has: map[string][]answer{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) on(call string, answers ...answer) *fake {
	f.has[call] = answers
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	line := r.Method + " " + r.URL.EscapedPath()
	at := line
	if r.URL.RawQuery != "" {
		line += "?" + r.URL.RawQuery
	}
	for _, h := range []string{"If-Match", "If-None-Match"} {
		if v := r.Header.Get(h); v != "" {
			line += " " + h + ": " + v
		}
	}
	f.calls = append(f.calls, strings.TrimSpace(line+" "+string(bytes.TrimSpace(body))))
	if exact := at + "?" + r.URL.RawQuery; f.has[exact] != nil {
		at = exact
	}
	list := f.has[at]
	a := problem(404, "not_found", "route_unknown", "there is nothing at this address")
	if len(list) > 0 {
		a = list[0]
	}
	if len(list) > 1 {
		f.has[at] = list[1:]
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		a = problem(401, "unauthenticated", "token_invalid", "the token is not valid")
	}
	w.Header().Set("Content-Type", "application/json")
	if a.status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	if a.etag != "" {
		w.Header().Set("ETag", a.etag)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // a caller that is gone shows in the test
}

func ok(body string) answer { return answer{status: 200, body: body} }

func problem(status int, code, reason, detail string, violations ...string) answer {
	return answer{status: status, body: fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"detail":%q,"code":%q,"reason":%q,"violations":[%s]}`,
		http.StatusText(status), status, detail, code, reason, strings.Join(violations, ","))}
}

func violation(path, reason, message string) string {
	return fmt.Sprintf(`{"path":%q,"reason":%q,"message":%q}`, path, reason, message)
}

// desk is where somebody sits: a shell with its outputs and a clock that moves
// when somebody waits.
type desk struct {
	*shell
	out, errs bytes.Buffer
	clock     time.Time
	waits     []time.Duration
}

func (f *fake) desk(env map[string]string) *desk {
	d := &desk{clock: noon}
	vars := map[string]string{"PORTCULLIS_URL": f.URL, "PORTCULLIS_TOKEN": token}
	for k, v := range env {
		vars[k] = v
	}
	d.shell = &shell{
		in: strings.NewReader(""), out: &d.out, errs: &d.errs,
		lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok },
		now:    func() time.Time { return d.clock },
		sleep: func(ctx context.Context, by time.Duration) error {
			d.clock = d.clock.Add(by)
			d.waits = append(d.waits, by)
			return ctx.Err()
		},
		credential: func(audience string) func(context.Context) (string, error) {
			return func(context.Context) (string, error) { return "", fmt.Errorf("no credential for %s", audience) }
		},
	}
	return d
}

func (d *desk) run(t *testing.T, args ...string) int {
	t.Helper()
	code := run(t.Context(), d.shell, args)
	for _, said := range []string{d.out.String(), d.errs.String()} {
		if strings.Contains(said, "secret-payload") {
			t.Errorf("the token is shown: %s", said)
		}
	}
	return code
}

// sent gives the calls that begin so.
func (f *fake) sent(prefix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c string) bool { return !strings.HasPrefix(c, prefix) })
}

const webPorts = `[{"number":22,"protocol":"TCP","allowedSourceAddressPrefixes":["203.0.113.0/24"],"maxRequestAccessDuration":"PT3H"},{"number":3389,"protocol":"TCP","allowedSourceAddressPrefixes":["198.51.100.0/24","2001:db8::/48"],"maxRequestAccessDuration":"PT1H30M"}]`

const suggestedPorts = `[{"number":22,"protocol":"TCP","allowedSourceAddressPrefixes":["203.0.113.7"],"maxRequestAccessDuration":"PT3H"}]`

func machine(id, name, group, subscription, more string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"resourceGroup":%q,"subscriptionId":%q,"asOf":"2026-11-24T11:59:58Z",%s}`, id, name, group, subscription, more)
}

var (
	web1JSON = machine(web1, "web-1", "prod", sub, `"osType":"Linux","status":"Configured","policyScope":"`+prod+`","ports":`+webPorts+`,"suggestedPorts":`+suggestedPorts+
		`,"mayRequest":true,"exposure":{"status":"Shut"},"baseline":{"status":"Shut"},"approvedRequests7d":3,"lastAccess":"2026-11-24T09:30:00Z","lastUser":"bob@contoso.com"`)
	db1JSON = machine(db1, "db-1", "prod", sub, `"osType":"Windows","status":"NotConfigured","ports":[],"suggestedPorts":[{"number":3389,"protocol":"TCP","allowedSourceAddressPrefixes":["203.0.113.7"],"maxRequestAccessDuration":"PT3H"}]`+
		`,"mayRequest":false,"exposure":{"status":"Exposed","port":3389,"rule":"AllowRDP","nsg":"nsg-db","why":"AllowRDP of nsg-db lets everybody to 3389/TCP"},"baseline":{"status":"None"},"approvedRequests7d":0`)
	oddJSON = machine(prod+"/providers/microsoft.compute/virtualmachines/odd", "odd", "prod", sub, `"status":"Unsupported","reason":"no network security group is on its path","ports":[],"suggestedPorts":[]`+
		`,"mayRequest":false,"exposure":{"status":"Unknown","rule":"AllowTag"},"baseline":{"status":"None"},"approvedRequests7d":0`)
	machinesJSON = ok(`{"items":[` + web1JSON + `,` + db1JSON + `,` + oddJSON + `]}`)
)

// request is an access request with one port of web-1 in a status.
func request(id, more string) string {
	return fmt.Sprintf(`{"id":%q,"outcome":"Accepted","requestor":"alice@contoso.com","requestedBy":"alice@contoso.com","channel":"http","justification":"look at the logs","startTimeUtc":"2026-11-24T12:00:00Z",`+
		`"virtualMachines":[{"id":%q,"ports":[{"index":0,"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.7","endTimeUtc":"2026-11-24T13:00:00Z",%s}]}]}`, id, web1, more)
}

const refused = `{"id":"` + id2 + `","outcome":"Refused","requestor":"alice@contoso.com","channel":"http","startTimeUtc":"2026-11-24T11:00:00Z","virtualMachines":[{"id":"` + web1 +
	`","ports":[{"number":22,"allowedSourceAddressPrefix":"198.51.100.7"}]}],"refusal":{"code":"permission_denied","reason":"source_outside_policy","message":"no","violations":[` +
	`{"path":"virtualMachines[0].ports[0]","reason":"source_outside_policy","message":"198.51.100.7 does not lie inside a range allowed for port 22: 203.0.113.0/24"}]}}`

const policyJSON = `{"scope":"` + prod + `","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefixes":["203.0.113.0/24"],"maxRequestAccessDuration":"PT3H"}],"requireJustification":true,"requireTicket":true,"requestors":["alice@contoso.com"]}`

const changeJSON = `{"notAllowedGrants":[{"requestId":"` + id1 + `","index":0,"virtualMachine":"` + web1 + `","port":22,"requestor":"bob@contoso.com","endTimeUtc":"2026-11-24T13:00:00Z","why":["not_permitted: no policy lets you ask for this"]}],
"machines":[{"id":"` + web1 + `","networkSecurityGroups":[{"id":"` + prod + `/providers/microsoft.network/networksecuritygroups/nsg-web","put":[{"name":"Portcullis-default-deny-tcp-v4-aaaaaaaaaaaaaaaa","priority":1000,"access":"Deny","protocol":"Tcp","sources":["*"],"destinations":["10.0.0.4"],"ports":["22"]}],
"remove":[],"past":[{"rule":"AllowVPN","priority":200,"advice":"it lets 10.9.0.0/16 to port 22: remove it, or narrow it"}],"blocking":[{"rule":"DenyAll","priority":90,"advice":"it stands before what a grant writes"}],"cutOff":[{"what":"AzureBastionSubnet 10.0.250.0/26","advice":"name it as a standing source"}]}]},
{"id":"` + db1 + `","networkSecurityGroups":[],"unsupported":"no network security group is on its path"}]}`

const nothingJSON = `{"notAllowedGrants":[],"machines":[]}`

func policyAt(tail string) string {
	return "/api/policies/subscriptions/" + sub + "/resourceGroups/prod" + tail
}

// deskJSON is a source whose sample is a day old at noon.
const deskJSON = `{"name":"desk","kind":"github","secrets":["PORTCULLIS_SECRET_DESK","PORTCULLIS_SECRET_OLD"],"users":{"alice":"alice@contoso.com"},"maxAge":"PT1H",
"mapping":{"when":"payload.ours","ticket":"payload.n","at":"payload.at","state":"payload.state","assignee":"users[?payload.?who.orValue('')]","actor":"payload.?by","ends":"payload.state == 'closed'",
"request":"{'requestor': users[payload.who], 'justification': payload.why, 'virtualMachines': [{'id': '` + web1 + `', 'ports': [{'number': 22, 'allowedSourceAddressPrefix': '203.0.113.7', 'duration': 'PT1H'}]}]}"},
"sample":{"ours":true,"n":7,"at":"2026-11-23T12:00:00Z","state":"approved","who":"alice","by":"bob","why":"rotate the certificate"}}`

const standingDesk = `{"source":` + deskJSON + `,"webhook":"/webhooks/desk","secrets":[{"name":"PORTCULLIS_SECRET_DESK","state":"missing"},{"name":"PORTCULLIS_SECRET_OLD","state":"unresolved"}]}`

// full answers every call of the walk through the tool.
func full(t *testing.T) *fake {
	return recorded(newFake(t)).
		on("GET /api/me", ok(`{"name":"alice@contoso.com","objectId":"o","roles":["Access.Request"],"address":"203.0.113.7"}`)).
		on("GET /api/machines", machinesJSON).
		on("GET /api/machines/"+sub+"/prod/db-1", ok(db1JSON)).
		on("GET /api/machines/"+sub+"/prod/web-1", ok(web1JSON)).
		on("POST /api/access-requests", answer{status: 202, body: request(id1, `"status":"Initiating"`)}).
		on("GET /api/access-requests", ok(`{"items":[`+request(id1, `"status":"Initiated","openedAtUtc":"2026-11-24T12:00:05Z"`)+`,`+refused+`]}`)).
		on("GET /api/access-requests/"+id1, ok(request(id1, `"status":"Initiating"`)), ok(request(id1, `"status":"Initiating","blockedBy":"Azure is slow"`)),
			ok(request(id1, `"status":"Initiated","openedAtUtc":"2026-11-24T12:00:05Z"`))).
		on("GET /api/access-requests/"+id1+"/events", ok(`{"items":[{"kind":"Requested","at":"2026-11-24T12:00:00Z","actor":"alice@contoso.com","detail":{"reason":"look\u001b[2J"}},`+
			`{"kind":"Opened","at":"2026-11-24T12:00:05Z","actor":"portcullis","detail":{"vm":"`+web1+`","port":"22"}}]}`)).
		on("GET /api/access-requests/"+id2, ok(refused)).
		on("GET /api/access-requests/"+id2+"/events", ok(`{"items":[]}`)).
		on("POST /api/access-requests/"+id1+"/extend", answer{status: 202, body: request(id2, `"status":"Initiating"`)}).
		on("POST /api/access-requests/"+id1+"/revoke", answer{status: 202, body: request(id1, `"status":"Initiated","statusReason":"UserRequested"`)}).
		on("GET "+policyAt(""), answer{status: 200, body: policyJSON, etag: `"7"`}).
		on("PUT "+policyAt(""), ok(changeJSON)).
		on("DELETE "+policyAt(""), ok(nothingJSON)).
		on("GET "+policyAt("/virtualMachines/db-1"), problem(404, "not_found", "policy_unknown", "no policy stands there")).
		on("GET "+policyAt("/virtualMachines/web-1"), problem(404, "not_found", "policy_unknown", "no policy stands there")).
		on("GET /api/policies/subscriptions/"+sub, problem(404, "not_found", "policy_unknown", "no policy stands there")).
		on("PUT "+policyAt("/virtualMachines/db-1"), ok(changeJSON)).
		on("GET /api/policies", ok(`{"items":[`+policyJSON+`]}`)).
		on("GET /api/sources", ok(`{"items":[`+standingDesk+`]}`)).
		on("GET /api/sources/desk", answer{status: 200, body: deskJSON, etag: `"3"`}).
		on("GET /api/sources/new", problem(404, "not_found", "source_unknown", "there is no source \"new\"")).
		on("GET /api/sources/none", problem(404, "not_found", "source_unknown", "there is no source \"none\"")).
		on("PUT /api/sources/desk", ok(standingDesk)).
		on("PUT /api/sources/new", ok(strings.ReplaceAll(standingDesk, "desk", "new"))).
		on("DELETE /api/sources/desk", ok(`{}`)).
		on("GET /api/lockdown", ok(`{"active":false}`)).
		on("PUT /api/lockdown", ok(`{"active":true,"reason":"stolen laptop","by":"root@contoso.com","at":"2026-11-24T12:00:00Z"}`)).
		on("DELETE /api/lockdown", ok(`{"active":false}`))
}
