package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func machines(tags map[string]string) map[access.ResourceID]Machine {
	return map[access.ResourceID]Machine{webOne: {OS: "Linux", Location: "WestEurope", Tags: tags}}
}

func TestAConditionSeesTheRequestAsItWouldBeGranted(t *testing.T) {
	r := fromAlice(askFor(webOne, 22, "here"))
	r.Requestor.Name, r.Requestor.ObjectID = "Alice@contoso.com", strings.ToUpper(aliceID)
	r.Justification, r.Ticket = "disk", "CHG1"
	r.Ports[0].Duration = time.Hour + time.Second
	for condition, want := range map[string]bool{
		`request.port == 22 && request.protocol == "TCP"`:                                  true,
		`request.source == "203.0.113.7/32"`:                                               true,
		`cidr("203.0.113.0/24").containsCIDR(request.source)`:                              true,
		`cidr("203.0.112.0/24").containsCIDR(request.source)`:                              false,
		`cidr("2001:db8::/32").containsCIDR(request.source)`:                               false,
		`request.durationMinutes == 61`:                                                    true, // rounded up
		`request.end - request.start == duration("3601s")`:                                 true,
		`now == request.start && now == timestamp("2026-11-24T09:00:00Z")`:                 true,
		`request.justification == "disk" && request.ticket.startsWith("CHG")`:              true,
		`request.channel == "queue"`:                                                       true,
		`requestor.name == "alice@contoso.com" && requestor.objectId == "` + aliceID + `"`: true,
		`requestor.asserted`:                                                               true,
		`machine.name == "web-1" && machine.resourceGroup == "prod" && machine.subscription == "00000000-0000-0000-0000-000000000001"`: true,
		`machine.id == "` + string(webOne) + `"`:                                     true,
		`machine.os == "Linux" && machine.location == "westeurope"`:                  true,
		`machine.tags.env == "prod" && machine.tags["ENV"] == "prod"`:                true,
		`machine.tags.?owner.orValue("") == ""`:                                      true,
		`now.getDayOfWeek() == 2 && now.getHours() == 9`:                             true,
		`now.getHours("Europe/Berlin") == 10`:                                        true,
		`now.getHours("Asia/Kolkata") == 14 && now.getMinutes("Asia/Kolkata") == 30`: true,
		`true`: true,
	} {
		p := office()
		p.Condition = condition
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %+v", condition, access.AsError(err).Violations)
			continue
		}
		d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{Machines: machines(map[string]string{"Env": "prod"})}, Limits{}, nine)
		if d.Allowed() != want {
			t.Errorf("%s: %+v", condition, d)
		}
		if !want && (d.Error().Reason != "condition_not_met" || d.Violations[0].Path != "here") {
			t.Errorf("%s: %+v", condition, d.Error())
		}
	}
}

func TestAConditionIsOfWhenTheGrantBegins(t *testing.T) {
	p := office()
	p.Condition, p.ConditionMessage = `now.getDayOfWeek() in [1, 2, 3, 4, 5]`, "Ask for a weekday."
	r := fromAlice(askFor(webOne, 22, ""))
	facts := Facts{Machines: machines(nil)}
	if d := Evaluate(t.Context(), r, []AccessPolicy{p}, facts, Limits{}, nine); !d.Allowed() {
		t.Errorf("on a Tuesday: %+v", d)
	}
	r.StartTime = nine.AddDate(0, 0, 4)
	if d := Evaluate(t.Context(), r, []AccessPolicy{p}, facts, Limits{}, nine); d.Allowed() || d.Violations[0].Message != "Ask for a weekday." {
		t.Errorf("from a Saturday: %+v", d)
	}
}

func TestAConditionFailsClosed(t *testing.T) {
	dear := `[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, a + b + c + d + e + f >= 0))))))`
	for _, c := range []struct{ name, condition string }{
		{"a tag that is not there", `machine.tags.env != "prod"`},
		{"too much work", dear},
		{"a zone that there is not", `now.getHours("Mars/Olympus") > 1`},
		{"no address", `cidr(request.justification).containsIP("10.0.0.1")`},
		{"stored by another version", `request.colour == "red"`},
	} {
		p := office()
		p.Condition, p.ConditionMessage = c.condition, "never said"
		d := Evaluate(t.Context(), fromAlice(askFor(webOne, 22, "")), []AccessPolicy{p}, Facts{Machines: machines(nil)}, Limits{}, nine)
		if d.Allowed() || d.Error().Reason != "condition_failed_closed" || len(d.Internal) != 1 || strings.Contains(d.Violations[0].Message, "line") {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	p := office()
	p.Condition = "true"
	ask := []AccessPolicy{p}
	for name, known := range map[string]map[access.ResourceID]Machine{
		"no machine": nil, "another machine": {webTwo: {}}, "tags that are one": machines(map[string]string{"env": "a", "Env": "b"}),
	} {
		if d := Evaluate(t.Context(), fromAlice(askFor(webOne, 22, "")), ask, Facts{Machines: known}, Limits{}, nine); d.Allowed() || d.Error().Reason != "condition_failed_closed" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What is refused by anything else says nothing of the condition, and a policy's
// condition counts for its own machines alone.
func TestAConditionComesLast(t *testing.T) {
	p := office()
	p.Condition = "false"
	for name, change := range map[string]func(*access.Request){
		"not_permitted":         func(r *access.Request) { r.Requestor.Name = "mallory@contoso.com" },
		"source_outside_policy": func(r *access.Request) { r.Ports[0].Source = netip.MustParsePrefix("198.51.100.1/32") },
	} {
		r := fromAlice(askFor(webOne, 22, ""))
		change(&r)
		d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{Machines: machines(nil)}, Limits{}, nine)
		if d.Error() == nil || d.Error().Reason != name || len(d.Violations) != 1 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	near := office()
	near.Scope = webTwo
	v := Judge(fromAlice(askFor(webOne, 22, "one"), askFor(webTwo, 22, "two")), []AccessPolicy{p, near}, Tickets{}, Limits{}, nine)
	if _, refused := v.Refused(); refused || len(v.Machines()) != 2 {
		t.Fatalf("%+v", v)
	}
	d := v.Decide(t.Context(), machines(nil))
	if len(d.Violations) != 1 || d.Violations[0].Path != "one" || d.Granted != nil {
		t.Errorf("%+v", d)
	}
}

func TestAConditionIsCheckedWhenItIsSaved(t *testing.T) {
	for condition, want := range map[string]string{
		`request.prot == 22`:               "line 1, column 8",
		"true &&\n  machin.name == \"\"":   "line 2, column ",
		`request.port`:                     "bool is needed",
		`request.port == "22"`:             "line 1, column 14",
		`"`:                                "line 1",
		" ":                                "empty",
		strings.Repeat("!", 4100) + "true": "4096",
	} {
		p := office()
		p.Condition = condition
		err := access.AsError(p.Validate())
		if err == nil || err.Violations[0].Path != "condition" || err.Violations[0].Reason != "condition_invalid" || !strings.Contains(err.Violations[0].Message, want) {
			t.Errorf("%.40q: %+v, want %q", condition, err, want)
		}
	}
	for message, want := range map[string]string{"ask on a weekday": "", strings.Repeat("é", 301): "condition_message_invalid", "a\x00": "condition_message_invalid", " ": "condition_message_invalid"} {
		p := office()
		p.Condition, p.ConditionMessage = "true", message
		if got := access.ReasonOf(p.Validate()); got != map[bool]string{true: "", false: "policy_invalid"}[want == ""] {
			t.Errorf("%.10q: %q", message, got)
		}
	}
	p := office()
	p.ConditionMessage = "x"
	if err := access.AsError(p.Validate()); err == nil || err.Violations[0].Reason != "condition_message_alone" {
		t.Errorf("%+v", err)
	}
}

func TestWhatAConditionAsksOfTheMachine(t *testing.T) {
	for condition, want := range map[string]string{
		"": "", "true": "", `machine.name == "a"`: "", `machine.tags.a == machine.os`: "machine.os machine.tags", `machine.location == ""`: "machine.location",
	} {
		p := office()
		p.Condition = condition
		got, err := p.ConditionUses()
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", condition, got, err)
		}
	}
}
