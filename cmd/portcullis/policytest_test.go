package main

import (
	"strings"
	"testing"
)

const (
	trialRequest = `{"requestor":"alice@contoso.com","justification":"x","ticket":"CHG1","virtualMachines":[{"id":"` + web1 + `","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`
	trialTicket  = `"ticket":{"sources":["itsm","jira"],"states":["Approved"],"insideWindow":true,"maxEventAge":"PT1H"},`
	trialPolicy  = `{"scope":"` + prod + `","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefixes":["203.0.113.0/24"],"maxRequestAccessDuration":"PT3H"}],` +
		`"requireJustification":true,"requireTicket":false,"requestors":["alice@contoso.com"],"assertedRequestorsFrom":["queue","ticket:itsm"],`
	onWeekdays = `"condition":"now.getDayOfWeek() in [1, 2, 3, 4, 5]","conditionMessage":"Ask for a weekday."}`
	onDev      = `"condition":"machine.tags.env == \"dev\" && machine.os == \"Linux\""}`
	given      = "source=itsm,state=Approved,setBy=boss@contoso.com,windowStart=2026-11-24T00:00:00Z,windowEnd=2026-11-25T00:00:00Z"
)

func TestATrialSaysWhatItLookedAt(t *testing.T) {
	for _, c := range []struct {
		name, policy, request string
		args                  []string
		exit                  int
		says                  string
	}{
		{"a condition on a Tuesday", onWeekdays, trialRequest, nil, exitDone, "the condition holds"},
		{"on a Saturday", onWeekdays, trialRequest, []string{"--at", "2026-11-28T09:00:00Z"}, exitRefused, "Ask for a weekday. (condition_not_met)"},
		{"to begin on a Saturday", onWeekdays, strings.Replace(trialRequest, `"ticket"`, `"startTimeUtc":"2026-11-28T09:00:00Z","ticket"`, 1), nil, exitRefused, "condition_not_met"},
		{"tags that nobody gave", onDev, trialRequest, nil, exitFailed, "the condition was not evaluated: give --os and --tag"},
		{"half of what it asks", onDev, trialRequest, []string{"--os", "Linux"}, exitFailed, "the condition was not evaluated: give --tag"},
		{"the right tags", onDev, trialRequest, []string{"--os", "Linux", "--tag", "Env=dev", "--tag", "a=b=c"}, exitDone, "the condition holds"},
		{"the wrong ones", onDev, trialRequest, []string{"--os", "Linux", "--tag", "env=prod"}, exitRefused, "condition_not_met"},
		{"none", onDev, trialRequest, []string{"--os", "Linux", "--tag", ""}, exitRefused, "no such key: env"},
		{"a refusal in any case", onDev, strings.Replace(trialRequest, "203.0.113.7", "198.51.100.7", 1), nil, exitRefused, "source_outside_policy"},
		{"a ticket that nobody gave", trialTicket + onWeekdays, trialRequest, nil, exitFailed, "the ticket was not looked at: give --ticket"},
		{"no ticket at all", trialTicket + onWeekdays, strings.Replace(trialRequest, "CHG1", "", 1), nil, exitRefused, "ticket_required"},
		{"of another source", trialTicket + onWeekdays, strings.Replace(trialRequest, "CHG1", "pager:1", 1), nil, exitRefused, "ticket_source_not_accepted"},
		{"the right ticket", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given}, exitDone, "the ticket itsm:CHG1 vouches for it"},
		{"in another state", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given, "--ticket", "state=New"}, exitRefused, "ticket_state"},
		{"ended", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given + ",ended=true"}, exitRefused, "ticket_ended"},
		{"set by herself", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given + ",setBy=alice@contoso.com"}, exitRefused, "ticket_not_authorised"},
		{"of long ago", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given + ",eventAt=2026-11-24T10:00:00Z"}, exitRefused, "ticket_stale"},
		{"of no source", trialTicket + onWeekdays, trialRequest, []string{"--ticket", "state=Approved"}, exitUsage, ""},
		{"with what no ticket has", trialTicket + onWeekdays, trialRequest, []string{"--ticket", given + ",colour=red"}, exitUsage, ""},
		{"at no time", onWeekdays, trialRequest, []string{"--at", "tomorrow"}, exitUsage, ""},
		{"asked for by a ticket", onWeekdays, trialRequest, []string{"--from-source", "itsm", "--ticket", "state=x"}, exitDone, "the ticket itsm:CHG1 vouches for it"},
		{"by one that nobody gave", onWeekdays, trialRequest, []string{"--from-source", "itsm"}, exitFailed, "the ticket was not looked at"},
		{"by one of a source that is not believed", onWeekdays, trialRequest, []string{"--from-source", "jira"}, exitRefused, "asserted_requestor_refused"},
		{"by none", onWeekdays, strings.Replace(trialRequest, "CHG1", "", 1), []string{"--from-source", "itsm"}, exitUsage, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := full(t).on("GET "+policyAt(""), answer{status: 200, body: trialPolicy + c.policy, etag: `"7"`})
			d := f.desk(nil)
			code := d.run(t, append([]string{"policy", "test", "-f", write(t, c.request)}, c.args...)...)
			out := d.out.String()
			if code != c.exit || !strings.Contains(out, c.says) {
				t.Errorf("exit %d, want %d and %q: %s%s", code, c.exit, c.says, out, d.errs.String())
			}
			if strings.Contains(out, "pass  ") != (c.exit == exitDone) {
				t.Errorf("it claims a pass: %s", out)
			}
		})
	}
}
