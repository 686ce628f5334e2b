package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// only gives the one call that begins so.
func (f *fake) only(t *testing.T, prefix string) string {
	t.Helper()
	all := f.sent(prefix)
	if len(all) != 1 {
		t.Fatalf("%d calls of %s, want one: %q", len(all), prefix, f.sent(""))
	}
	return strings.TrimSpace(strings.TrimPrefix(all[0], prefix))
}

func TestWhatIsAskedFor(t *testing.T) {
	file := write(t, `{"justification":"x","virtualMachines":[{"id":"/v","ports":[{"number":22,"duration":"PT1H"}]}]}`)
	for name, c := range map[string]struct{ args, want string }{
		"the least": {"--vm web-1 --port 22 --for 1h", `{"virtualMachines":[{"id":"W","ports":[{"number":22,"duration":"PT1H"}]}]}`},
		"all of it": {"--vm WEB-1,prod/db-1 --port 22,53/udp --for pt90m --from 203.0.113.0/28 --start +2h --reason r --ticket INC-1 --requestor bob@contoso.com",
			`{"requestor":"bob@contoso.com","justification":"r","ticket":"INC-1","startTimeUtc":"2026-11-24T14:00:00Z","virtualMachines":[` +
				`{"id":"W","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.0/28","duration":"PT90M"},{"number":53,"protocol":"UDP","allowedSourceAddressPrefix":"203.0.113.0/28","duration":"PT90M"}]},` +
				`{"id":"D","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.0/28","duration":"PT90M"},{"number":53,"protocol":"UDP","allowedSourceAddressPrefix":"203.0.113.0/28","duration":"PT90M"}]}]}`},
		"until":       {"--vm web-1 --port 22 --until 11:30", `{"virtualMachines":[{"id":"W","ports":[{"number":22,"endTimeUtc":"2026-11-25T11:30:00Z"}]}]}`},
		"by id alone": {"--vm " + strings.ToUpper(db1[:1]) + db1[1:] + " --port 3389 --for 24h", `{"virtualMachines":[{"id":"D","ports":[{"number":3389,"duration":"P1D"}]}]}`},
		"a file":      {"-f " + file, `{"justification":"x","virtualMachines":[{"id":"/v","ports":[{"number":22,"duration":"PT1H"}]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := full(t)
			d := f.desk(nil)
			if code := d.run(t, append([]string{"request"}, strings.Fields(c.args)...)...); code != 0 {
				t.Fatalf("exit %d: %s", code, d.errs.String())
			}
			got := f.only(t, "POST /api/access-requests")
			got = strings.ReplaceAll(strings.ReplaceAll(got, web1, "W"), db1, "D")
			if got != c.want {
				t.Errorf("sent %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatIsNotUnderstoodIsNotSent(t *testing.T) {
	for args, want := range map[string]string{
		"frob":                                                `unknown command "frob"`,
		"policy frob":                                         `unknown command "frob"`,
		"vms --frob":                                          "unknown flag: --frob",
		"vms -o xml":                                          "--output is table or json",
		"vms --url http://p.example.com":                      "https://",
		"request":                                             "--vm",
		"request --vm web-1":                                  "--port 22",
		"request --vm web-1 --port 22":                        "--for 1h",
		"request --vm web-1 --port ssh --for 1h":              "1 to 65535",
		"request --vm web-1 --port 0 --for 1h":                "1 to 65535",
		"request --vm web-1 --port 22/icmp --for 1h":          "TCP, UDP or *",
		"request --vm web-1 --port 22/ --for 1h":              "TCP, UDP or *",
		"request --vm web-1 --port 22 --for soon":             "1h30m",
		"request --vm web-1 --port 22 --for 0s":               "more than none",
		"request --vm web-1 --port 22 --for 1.5s":             "whole seconds",
		"request --vm web-1 --port 22 --for P1M":              "ISO 8601",
		"request --vm web-1 --port 22 --until tomorrow":       "--until takes a time",
		"request --vm web-1 --port 22 --for 1h --start never": "--start takes a time",
		"request --vm web-1 --port 22 --for 1h --until 11:00": "[for until]",
		"request --vm web-1 -f x":                             "[file vm]",
		"request -f /nowhere/at/all":                          "/nowhere/at/all",
		"request --vm /subscriptions/x --port 22 --for 1h":    "GUID",
		"status a b":                                          "accepts at most 1 arg",
		"status --wait":                                       "one request",
		"status --since whenever":                             "--since takes a time",
		"extend " + id1:                                       "--for 1h",
		"extend":                                              "accepts 1 arg",
		"revoke":                                              "requires at least 1 arg",
		"revoke a b --grant 0":                                "one request",
		"enable":                                              "name a virtual machine",
		"enable web-1 --port 443 --source tag":                "--source",
		"lockdown --lift --reason x":                          "[lift reason]",
		"policy apply":                                        `"file" not set`,
		"policy delete --tables x":                            "over the API alone",
		"policy get --tables":                                 "resource id",
		"policy list --tables":                                "setting Tables__endpoint",
		"policy apply --tables --plan -f ../../docs/examples/policy.json": "over the API alone",
		"sweep": "AZURE_SUBSCRIPTION_IDS",
	} {
		t.Run(args, func(t *testing.T) {
			f := full(t)
			d := f.desk(nil)
			if code := d.run(t, strings.Fields(args)...); code != exitUsage || d.out.Len() != 0 || !strings.Contains(d.errs.String(), want) {
				t.Errorf("exit %d, said %q and %q, want %q", code, d.out.String(), d.errs.String(), want)
			}
			for _, method := range []string{"POST", "PUT", "DELETE"} {
				if sent := f.sent(method); len(sent) > 0 {
					t.Errorf("sent %q", sent)
				}
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		answer answer
		want   int
	}{
		{problem(400, "invalid_argument", "source_host_bits", "x"), exitUsage},
		{problem(401, "unauthenticated", "token_missing", "x"), exitNotSignedIn},
		{problem(403, "permission_denied", "role_required", "x"), exitNotSignedIn},
		{problem(403, "permission_denied", "not_permitted", "x"), exitRefused},
		{problem(404, "not_found", "request_unknown", "x"), exitNotFound},
		{problem(409, "failed_precondition", "locked_down", "x"), exitRefused},
		{problem(412, "condition_failed", "policy_changed", "x"), exitChanged},
		{problem(409, "aborted", "conflict", "x"), exitLater},
		{problem(429, "resource_exhausted", "too_many_requests", "x"), exitLater},
		{problem(500, "internal", "internal", "x"), exitLater},
		{problem(503, "unavailable", "azure_unreachable", "x"), exitLater},
		{problem(501, "unimplemented", "x", "x"), exitFailed},
		{answer{status: 200, body: "no JSON"}, exitFailed},
	} {
		f := full(t).on("GET /api/lockdown", c.answer)
		d := f.desk(nil)
		if code := d.run(t, "lockdown"); code != c.want || d.errs.Len() == 0 {
			t.Errorf("%d %s: exit %d, want %d: %s", c.answer.status, c.answer.body, code, c.want, d.errs.String())
		}
	}
}

func TestWhoCalls(t *testing.T) {
	good := write(t, token+"\n")
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		code int
		say  string
	}{
		"a file":               {map[string]string{"PORTCULLIS_TOKEN": "wrong"}, []string{"--token-file", good}, exitDone, ""},
		"a variable":           {nil, nil, exitDone, ""},
		"no file":              {nil, []string{"--token-file", good + "x"}, exitNotSignedIn, "no such file"},
		"an empty file":        {nil, []string{"--token-file", write(t, " \n")}, exitNotSignedIn, "does not hold one token"},
		"two tokens in a file": {nil, []string{"--token-file", write(t, token+"\n"+token)}, exitNotSignedIn, "does not hold one token"},
		"nothing":              {map[string]string{"PORTCULLIS_TOKEN": ""}, nil, exitNotSignedIn, "az login"},
		"nobody signed in":     {map[string]string{"PORTCULLIS_TOKEN": "", "PORTCULLIS_AUDIENCE": "api://p"}, nil, exitNotSignedIn, "no credential for api://p"},
		"no address":           {map[string]string{"PORTCULLIS_URL": ""}, nil, exitUsage, "PORTCULLIS_URL"},
		"a stranger's token":   {map[string]string{"PORTCULLIS_TOKEN": "strange"}, nil, exitNotSignedIn, "the token is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			d := full(t).desk(c.env)
			if code := d.run(t, append([]string{"vms"}, c.args...)...); code != c.code || !strings.Contains(d.errs.String(), c.say) {
				t.Errorf("exit %d: %s", code, d.errs.String())
			}
		})
	}
}

// A policy is changed under the version that was shown, and a new one only where
// there is none.
func TestAChangeIsOfWhatWasShown(t *testing.T) {
	f := full(t)
	if code := f.desk(nil).run(t, "enable", "-g", "prod", "--yes"); code != 0 {
		t.Fatal(code)
	}
	calls := f.sent("PUT " + policyAt(""))
	if len(calls) != 2 || !strings.HasPrefix(calls[0], "PUT "+policyAt("")+`?plan=true If-Match: "7" {`) || !strings.HasPrefix(calls[1], "PUT "+policyAt("")+` If-Match: "7" {`) {
		t.Fatalf("%q", calls)
	}
	var sent struct {
		Baseline                            bool
		RequireTicket, RequireJustification bool
		Requestors                          []string
	}
	if err := json.Unmarshal([]byte(calls[1][strings.Index(calls[1], "{"):]), &sent); err != nil {
		t.Fatal(err)
	}
	if !sent.Baseline || !sent.RequireTicket || !sent.RequireJustification || len(sent.Requestors) != 1 || sent.Requestors[0] != "alice@contoso.com" {
		t.Errorf("what no flag names stays: %+v", sent)
	}
	f = full(t)
	if code := f.desk(nil).run(t, "enable", "db-1", "--plan"); code != 0 {
		t.Fatal(code)
	}
	if got := f.only(t, "PUT "+policyAt("/virtualMachines/db-1")); !strings.HasPrefix(got, "?plan=true If-None-Match: *") {
		t.Errorf("a plan is all that is sent: %s", got)
	}
	f = full(t)
	if code := f.desk(nil).run(t, "policy", "delete", "-g", "prod", "--yes", "--close-grants"); code != 0 {
		t.Fatal(code)
	}
	if got := f.sent("DELETE"); len(got) != 2 || got[1] != "DELETE "+policyAt("")+`?closeGrants=true If-Match: "7"` {
		t.Errorf("%q", got)
	}
	// Where no address of the administrator's is known, none is made up.
	f = full(t).on("GET /api/machines/"+sub+"/prod/db-1", ok(strings.ReplaceAll(db1JSON, `["203.0.113.7"]`, "[]")))
	d := f.desk(nil)
	if code := d.run(t, "enable", "db-1", "--plan"); code != exitUsage || !strings.Contains(d.errs.String(), "--source") || len(f.sent("PUT")) != 0 {
		t.Errorf("exit %d: %s", code, d.errs.String())
	}
}

func TestWaitingEnds(t *testing.T) {
	f := full(t).on("GET /api/access-requests/"+id1, ok(request(id1, `"status":"Initiating"`)))
	d := f.desk(nil)
	if code := d.run(t, "request", "--vm", web1, "--port", "22", "--for", "1h", "--wait", "--timeout", "2m"); code != exitTimedOut || d.clock.Sub(noon) != 2*time.Minute || !strings.Contains(d.errs.String(), "portcullis status "+id1) {
		t.Errorf("exit %d after %s: %s", code, d.clock.Sub(noon), d.errs.String())
	}
	// What fails for a while is waited through.
	f = full(t).on("GET /api/access-requests/"+id1, problem(404, "not_found", "request_unknown", "x"))
	if code := f.desk(nil).run(t, "status", id1, "--wait"); code != exitNotFound {
		t.Errorf("exit %d", code)
	}
	busy := problem(503, "unavailable", "x", "x")
	f = full(t).on("GET /api/access-requests/"+id1, busy, busy, busy, busy, busy, busy, ok(request(id1, `"status":"Initiated"`)))
	if code := f.desk(nil).run(t, "request", "--vm", web1, "--port", "22", "--for", "1h", "--wait"); code != exitDone {
		t.Errorf("exit %d", code)
	}
	// One that begins later is waited for from then on.
	later := strings.Replace(request(id1, `"status":"Scheduled"`), "2026-11-24T12:00:00Z", "2026-11-24T14:00:00Z", 1)
	f = full(t).on("POST /api/access-requests", answer{status: 202, body: later}).on("GET /api/access-requests/"+id1, ok(later))
	d = f.desk(nil)
	if code := d.run(t, "request", "--vm", web1, "--port", "22", "--for", "1h", "--start", "14:00", "--wait", "--timeout", "1m"); code != exitTimedOut || d.clock.Sub(noon) != 2*time.Hour+time.Minute {
		t.Errorf("exit %d after %s", code, d.clock.Sub(noon))
	}
	// What was given back is waited for until it is closed.
	f = full(t).on("GET /api/access-requests/"+id1, ok(request(id1, `"status":"Initiated"`)), ok(request(id1, `"status":"Revoked"`)))
	if code := f.desk(nil).run(t, "revoke", id1, "--wait", "--reason", "done"); code != exitDone || f.only(t, "POST") != "/api/access-requests/"+id1+`/revoke {"reason":"done"}` {
		t.Errorf("exit %d: %q", code, f.sent(""))
	}
}

func TestAnInterruptSaysThatTheRequestStands(t *testing.T) {
	f := full(t).on("GET /api/access-requests/"+id1, ok(request(id1, `"status":"Initiating"`)))
	d := f.desk(nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	code := run(ctx, d.shell, []string{"request", "--vm", web1, "--port", "22", "--for", "1h", "--wait"})
	if code != exitInterrupted || !strings.Contains(d.errs.String(), "portcullis: interrupted\nThe request stands") {
		t.Errorf("exit %d: %s", code, d.errs.String())
	}
}

func TestWhoseRequestsAreListed(t *testing.T) {
	all := ok(`{"name":"root@contoso.com","roles":["Portcullis.Administer"]}`)
	for _, c := range []struct {
		me   answer
		args string
		want string
	}{
		{ok(`{"name":"alice@contoso.com","roles":["Access.Request"]}`), "", "?pageSize=50"},
		{all, "", "?pageSize=50&requestor=root%40contoso.com"},
		{all, "--everybody --limit 300", "?pageSize=200"},
		{all, "--requestor bob@contoso.com --status Initiated --vm web-1 --since 13:00 --before 2026-11-24", "?from=2026-11-23T13%3A00%3A00Z&pageSize=50&requestor=bob%40contoso.com&status=Initiated&to=2026-11-24T00%3A00%3A00Z&virtualMachine=" + strings.ReplaceAll(web1, "/", "%2F")},
	} {
		f := full(t).on("GET /api/me", c.me)
		if code := f.desk(nil).run(t, append([]string{"status"}, strings.Fields(c.args)...)...); code != 0 || f.only(t, "GET /api/access-requests") != c.want {
			t.Errorf("%s: exit %d, %q", c.args, code, f.sent(""))
		}
	}
}

func TestARequestIsTriedAgainstThePolicies(t *testing.T) {
	message := `{"requestor":"alice@contoso.com","justification":"x","virtualMachines":[{"id":"` + web1 + `","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`
	f := full(t)
	d := f.desk(nil)
	if code := d.run(t, "policy", "test", "-f", write(t, message), "--oid", "22222222-2222-2222-2222-222222222222"); code != exitRefused || !strings.Contains(d.out.String(), "ticket_required") {
		t.Errorf("exit %d: %s%s", code, d.out.String(), d.errs.String())
	}
	d = f.desk(nil)
	if code := d.run(t, "policy", "test", "-f", write(t, strings.Replace(message, `"justification"`, `"ticket":"INC-1","justification"`, 1)), "--oid", "22222222-2222-2222-2222-222222222222"); code != exitDone ||
		!strings.Contains(d.out.String(), "pass    web-1 port 22/TCP from 203.0.113.7 until 2026-11-24T13:00:00Z") {
		t.Errorf("exit %d: %s%s", code, d.out.String(), d.errs.String())
	}
}

func TestCompletion(t *testing.T) {
	f := full(t)
	for args, want := range map[string]string{
		"request --vm w":       "web-1\tprod, Configured\n:4",
		"request --vm db":      ":4", // not to be asked for
		"request --vm db-1,we": "db-1,web-1\tprod, Configured\n:4",
		"enable d":             "db-1\tprod, Not configured\n:4",
		"revoke ar":            id1 + "\tweb-1 22/TCP, Initiated\n:4",
		"vms --status U":       "Configured\nNotConfigured\nUnsupported\n:4",
		"--output j":           "table\njson\n:4",
	} {
		d := f.desk(nil)
		if code := d.run(t, append([]string{"__complete"}, strings.Fields(args)...)...); code != 0 || strings.TrimSpace(d.out.String()) != want {
			t.Errorf("%s: exit %d, %q, want %q", args, code, d.out.String(), want)
		}
	}
	d := f.desk(map[string]string{"PORTCULLIS_TOKEN": ""})
	if code := d.run(t, "__complete", "request", "--vm", ""); code != 0 || strings.TrimSpace(d.out.String()) != ":4" {
		t.Errorf("who is not signed in gets nothing: %d %q", code, d.out.String())
	}
}

// On a terminal, and only there, something turns and there are colours.
func TestATerminalIsATerminal(t *testing.T) {
	f := full(t)
	d := f.desk(nil)
	d.spins, d.colorErr, d.colorOut = true, true, true
	if code := d.run(t, "request", "--vm", "web-1", "--port", "22", "--for", "1h", "--wait"); code != 0 || !strings.Contains(d.errs.String(), "\r\x1b[K") || strings.ContainsRune(d.out.String(), '\x1b') {
		t.Errorf("exit %d: %q", code, d.errs.String())
	}
	d = f.desk(nil)
	d.colorErr = true
	if d.run(t, "frob"); !strings.HasPrefix(d.errs.String(), "\x1b[31mportcullis:\x1b[0m ") {
		t.Errorf("%q", d.errs.String())
	}
	d = f.desk(nil)
	d.colorOut = true
	if d.run(t, "enable", "-g", "prod", "--max", "1h", "--plan"); !strings.Contains(d.out.String(), "\x1b[31m-       \"maxRequestAccessDuration\": \"PT3H\"\x1b[0m\n\x1b[32m+       \"maxRequestAccessDuration\": \"PT1H\"\x1b[0m\n") {
		t.Errorf("%q", d.out.String())
	}
}

func TestTheDifferenceOfTexts(t *testing.T) {
	for _, c := range [][3]string{
		{"", "", ""}, {"a\n", "a\n", ""}, {"", "a\nb", "+ a|+ b"}, {"a\nb\nc", "a\nx\nc", "  a|- b|+ x|  c"}, {"a\nb", "b\na", "- a|  b|+ a"},
	} {
		if got := strings.Join(diff(c[0], c[1]), "|"); got != c[2] {
			t.Errorf("%q and %q: %q", c[0], c[1], got)
		}
	}
	if huge := strings.Repeat("x\n", 3000); len(diff(huge, huge+"y\n")) != 6001 {
		t.Error("what is too large to compare is shown whole")
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", -time.Hour: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m30s", time.Hour: "1h", 25 * time.Hour: "1d1h", 90 * time.Minute: "1h30m"} {
		if got := span(d); got != want {
			t.Errorf("%s: %s", fmt.Sprint(d), got)
		}
	}
}
