package policy_test

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// example is a request, and whether each condition of the document lets it pass.
type example struct {
	name   string
	change func(*access.Request, *policy.Machine)
	passes string // for each condition in turn: y or n
}

// TestTheConditionsOfTheDocumentDoWhatItSays evaluates every condition of
// docs/policies.md.
func TestTheConditionsOfTheDocumentDoWhatItSays(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```cel\n(.*?)\n```").FindAllStringSubmatch(string(doc), -1)
	if len(found) != 5 {
		t.Fatalf("%d conditions", len(found))
	}
	begin := func(at string) func(*access.Request, *policy.Machine) {
		return func(r *access.Request, _ *policy.Machine) {
			var err error
			if r.StartTime, err = time.Parse(time.RFC3339, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range []example{
		{"Tuesday at ten, development", func(*access.Request, *policy.Machine) {}, "yyyyy"},
		{"Saturday", begin("2026-11-28T10:00:00Z"), "nyyyy"},
		{"at seven in UTC, which is eight", begin("2026-11-25T07:00:00Z"), "yyyyy"},
		{"before eight", begin("2026-11-25T06:59:00Z"), "nyyyy"},
		{"past midnight of Saturday there, and not in UTC", begin("2026-11-27T23:30:00Z"), "nyyyy"},
		{"production", func(_ *access.Request, m *policy.Machine) { m.Tags["env"] = "prod" }, "ynyyy"},
		{"production from the bastion", func(r *access.Request, m *policy.Machine) {
			m.Tags["env"], r.Ports[0].Source = "prod", netip.MustParsePrefix("10.0.250.4/32")
		}, "yyyyy"},
		{"a machine without the tag", func(_ *access.Request, m *policy.Machine) { delete(m.Tags, "env") }, "ynyyy"},
		{"without it, from the bastion", func(r *access.Request, m *policy.Machine) {
			delete(m.Tags, "env")
			r.Ports[0].Source = netip.MustParsePrefix("10.0.250.4/32")
		}, "yyyyy"}, // CEL's "or": one side that holds is enough
		{"two hours for no reason", func(r *access.Request, _ *policy.Machine) { r.Ports[0].Duration = 2 * time.Hour }, "yynyy"},
		{"two hours for one", func(r *access.Request, _ *policy.Machine) {
			r.Ports[0].Duration, r.Justification = 2*time.Hour, "the disk of the database is full"
		}, "yyyyy"},
		{"RDP by the queue", func(r *access.Request, _ *policy.Machine) { r.Ports[0].Port = 3389 }, "yyyny"},
		{"RDP by a token", func(r *access.Request, _ *policy.Machine) {
			r.Ports[0].Port, r.Requestor.Asserted = 3389, false
		}, "yyyyy"},
		{"another team", func(_ *access.Request, m *policy.Machine) { m.Tags["Owners"] = "bob@contoso.com" }, "yyyyn"},
		{"no team", func(_ *access.Request, m *policy.Machine) { delete(m.Tags, "Owners") }, "yyyyn"},
	} {
		r := ask()
		r.Requestor.Name = "Alice@contoso.com"
		m := policy.Machine{OS: "Linux", Tags: map[string]string{"env": "dev", "Owners": "bob@contoso.com Alice@Contoso.com"}}
		e.change(&r, &m)
		got := ""
		for _, c := range found {
			p := base()
			p.Ports = []policy.Port{
				{Number: 22, Protocol: access.TCP, Sources: prefixes("0.0.0.0/0"), MaxDuration: 3 * time.Hour},
				{Number: 3389, Protocol: access.TCP, Sources: prefixes("0.0.0.0/0"), MaxDuration: 3 * time.Hour},
			}
			p.Condition = c[1]
			if err := p.Validate(); err != nil {
				t.Fatalf("%s: %+v", c[1], access.AsError(err).Violations)
			}
			d := policy.Evaluate(t.Context(), r, []policy.AccessPolicy{p}, policy.Facts{Machines: map[access.ResourceID]policy.Machine{vm: m}}, policy.Limits{}, now)
			if d.Allowed() {
				got += "y"
			} else {
				got += "n"
			}
		}
		if got != e.passes {
			t.Errorf("%s: %s, want %s", e.name, got, e.passes)
		}
	}
}

// TestTheDocumentNamesEveryVariableAndReason compares docs/policies.md with the code.
func TestTheDocumentNamesEveryVariableAndReason(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, pattern := range map[string]string{"condition.go": `(?m)(?:Name: |= )"((?:request|requestor|machine)\.\w+|now)"`, "ticket.go": `"(ticket_(?:unknown|ambiguous|ended|state|stale|not_\w+|outside_window|source_not_accepted))"`} {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(pattern).FindAllStringSubmatch(string(code), -1)
		if len(names) < 8 {
			t.Fatalf("%s: %d names", file, len(names))
		}
		for _, name := range names {
			if !strings.Contains(string(doc), "`"+name[1]+"`") {
				t.Errorf("%s is not in the document", name[1])
			}
		}
	}
}
