package accessjson_test

import (
	"bytes"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const good = `{"id":"a-1","requestor":"alice@contoso.com","justification":"j","ticket":"T-1","virtualMachines":[{"id":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`

func swap(from, to string) string { return strings.Replace(good, from, to, 1) }

// inSchema says whether the schema can express the fault too.
var bad = []struct {
	reason, path, doc string
	inSchema          bool
}{
	{"not_json", "", "{", false},
	{"not_json", "", good + "{}", false},
	{"not_an_object", "", "[]", true},
	{"field_unknown", "virtualMachines[0].ports[0].portt", swap(`"number":22`, `"number":22,"portt":1`), true},
	{"field_unknown", "Ticket", swap(`"ticket"`, `"Ticket"`), true},
	{"field_twice", "id", swap(`"id":"a-1"`, `"id":"a-1","id":"a-2"`), false},
	{"null", "ticket", swap(`"T-1"`, `null`), true},
	{"type_invalid", "ticket", swap(`"T-1"`, `1`), true},
	{"id_invalid", "id", swap("a-1", "a 1"), true},
	{"id_invalid", "id", swap("a-1", ""), true},
	{"id_invalid", "id", swap("a-1", "ä"), true},
	{"text_too_long", "justification", swap(`"j"`, `"`+strings.Repeat("j", 1025)+`"`), true},
	{"virtual_machines_missing", "virtualMachines", `{"requestor":"a"}`, true},
	{"not_a_virtual_machine", "virtualMachines[0].id", swap("virtualMachines/web-1", "disks/web-1"), true},
	{"port_invalid", "virtualMachines[0].ports[0].number", swap(`"number":22`, `"number":0`), true},
	{"port_invalid", "virtualMachines[0].ports[0].number", swap(`"number":22`, `"number":65536`), true},
	{"protocol_invalid", "virtualMachines[0].ports[0].protocol", swap(`"TCP"`, `"ICMP"`), true},
	{"source_any", "virtualMachines[0].ports[0].allowedSourceAddressPrefix", swap("203.0.113.7", "0.0.0.0/0"), true},
	{"source_host_bits", "virtualMachines[0].ports[0].allowedSourceAddressPrefix", swap("203.0.113.7", "203.0.113.7/24"), false},
	{"source_invalid", "virtualMachines[0].ports[0].allowedSourceAddressPrefix", swap("203.0.113.7", "Internet"), true},
	{"duration_invalid", "virtualMachines[0].ports[0].duration", swap("PT1H", "P1M"), true},
	{"duration_not_positive", "virtualMachines[0].ports[0].duration", swap("PT1H", "PT0S"), false},
	{"duration_and_end_time", "virtualMachines[0].ports[0]", swap(`"duration":"PT1H"`, `"duration":"PT1H","endTimeUtc":"2026-11-24T10:00:00Z"`), true},
	{"duration_missing", "virtualMachines[0].ports[0]", swap(`,"duration":"PT1H"`, ``), true},
	{"end_time_invalid", "virtualMachines[0].ports[0].endTimeUtc", swap(`"duration":"PT1H"`, `"endTimeUtc":"tomorrow"`), true},
	{"start_time_invalid", "startTimeUtc", swap(`"id":"a-1"`, `"id":"a-1","startTimeUtc":"tomorrow"`), true},
	{"source_missing", "virtualMachines[0].ports[0].allowedSourceAddressPrefix", swap(`"allowedSourceAddressPrefix":"203.0.113.7",`, ``), false},
	{"too_many_ports", "virtualMachines", swap(`{"number":22`, strings.Repeat(`{"number":1,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"},`, 500)+`{"number":22`), true},
}

func schema(t testing.TB, data []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("s.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("s.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func valid(t testing.TB, s *jsonschema.Schema, doc string) bool {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	return err == nil && s.Validate(v) == nil
}

func TestAGoodRequestPassesDecoderAndSchema(t *testing.T) {
	s := schema(t, accessjson.RequestSchema())
	for _, doc := range []string{good, swap(`"duration":"PT1H"`, `"endTimeUtc":"2026-11-24T10:00:00+01:00"`), swap(`"protocol":"TCP",`, ""), swap("203.0.113.7", "2001:db8::/64"), swap(`"id":"a-1"`, `"id":"a-1","startTimeUtc":"2026-11-24T10:00:00Z"`)} {
		m, err := accessjson.DecodeRequest([]byte(doc))
		if err != nil || len(m.Ports) != 1 || m.Ports[0].Port != 22 {
			t.Errorf("%s: %+v, %v", doc, m, err)
		}
		if !valid(t, s, doc) {
			t.Errorf("the schema refuses %s", doc)
		}
	}
}

func TestBadRequestsAreRefusedByNameAndPlace(t *testing.T) {
	s := schema(t, accessjson.RequestSchema())
	for _, c := range bad {
		_, err := accessjson.DecodeRequest([]byte(c.doc))
		e := access.AsError(err)
		if err == nil || e.Code != access.InvalidArgument || e.Reason != c.reason {
			t.Errorf("want %s: %v", c.reason, err)
			continue
		}
		if len(e.Violations) != 1 || e.Violations[0].Path != c.path {
			t.Errorf("%s: %+v, want it at %q", c.reason, e.Violations, c.path)
		}
		if c.inSchema && valid(t, s, c.doc) {
			t.Errorf("%s: the schema lets it pass", c.reason)
		}
	}
	if _, err := accessjson.DecodeRequest(bytes.Repeat([]byte(" "), accessjson.MaxBody+1)); access.ReasonOf(err) != "body_too_large" {
		t.Errorf("too large: %v", err)
	}
}

func TestACallerMayLeaveTheSourceToTheirAddress(t *testing.T) {
	doc := swap(`"allowedSourceAddressPrefix":"203.0.113.7",`, ``)
	if !valid(t, schema(t, accessjson.RequestSchema()), doc) {
		t.Error("the schema refuses it")
	}
	for address, want := range map[string]string{"203.0.113.9": "203.0.113.9/32", "::ffff:203.0.113.9": "203.0.113.9/32", "2001:db8::9": "2001:db8::9/128"} {
		m, err := accessjson.DecodeCallersRequest([]byte(doc))
		if err != nil || len(m.Sourceless) != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
		if err := m.FillSources(netip.MustParseAddr(address)); err != nil || m.Ports[0].Source.String() != want {
			t.Errorf("%s: %s, %v", address, m.Ports[0].Source, err)
		}
	}
	m, err := accessjson.DecodeCallersRequest([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.FillSources(netip.Addr{}); access.ReasonOf(err) != "source_missing" {
		t.Errorf("no address: %v", err)
	}
	// What is named stays, and an empty source is not one left out.
	if m, err := accessjson.DecodeCallersRequest([]byte(good)); err != nil || m.FillSources(netip.Addr{}) != nil || m.Ports[0].Source.String() != "203.0.113.7/32" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := accessjson.DecodeCallersRequest([]byte(swap("203.0.113.7", ""))); access.ReasonOf(err) != "source_missing" {
		t.Errorf("an empty source: %v", err)
	}
}

func TestTheHashIsOfTheValue(t *testing.T) {
	a, b, c := accessjson.Hash([]byte(`{"a":1,"b":2}`)), accessjson.Hash([]byte("{ \"b\":2,\n\"a\":1 }")), accessjson.Hash([]byte(`{"a":1,"b":3}`))
	if a != b || a == c || accessjson.Hash([]byte("x")) == accessjson.Hash([]byte("y")) {
		t.Error(a, b, c)
	}
}

const goodPolicy = `{"scope":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"*","maxRequestAccessDuration":"PT3H"}],"requestors":["alice@contoso.com"],"assertedRequestorsFrom":["queue"]}`

func TestAPolicyComesBackTheSame(t *testing.T) {
	p, err := accessjson.DecodePolicy([]byte(goodPolicy))
	if err != nil {
		t.Fatal(err)
	}
	data, err := accessjson.EncodePolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := accessjson.DecodePolicy(data)
	if err != nil || !reflect.DeepEqual(p, again) {
		t.Errorf("%+v\n%+v\n%v", p, again, err)
	}
	s := schema(t, accessjson.PolicySchema())
	if !valid(t, s, goodPolicy) || !valid(t, s, string(data)) {
		t.Error("the schema refuses a good policy")
	}
	for _, c := range [][2]string{{`"TCP"`, `"GRE"`}, {"PT3H", "P2D"}, {"PT3H", "PT1M"}, {`"*"`, `"10.0.0.1/8"`}, {`"queue"`, `"http"`}, {`"number":22`, `"number":0`}, {"/resourceGroups/prod", "/x"}} {
		if _, err := accessjson.DecodePolicy([]byte(strings.Replace(goodPolicy, c[0], c[1], 1))); access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%s: %v", c[1], err)
		}
	}
}

// TestTheDocumentsPolicyIsGood reads the policy of docs/policies.md.
func TestTheDocumentsPolicyIsGood(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "```json\n")
	text, _, _ = strings.Cut(text, "```")
	p, err := accessjson.DecodePolicy([]byte(text))
	if err != nil || p.Ticket == nil || !p.Ticket.NotByRequestor {
		t.Errorf("%+v, %v", p.Ticket, err)
	}
	if !valid(t, schema(t, accessjson.PolicySchema()), text) {
		t.Error("the schema refuses it")
	}
}

const demand = `"ticket":{"sources":["itsm","jira"],"states":["Approved"],"assignedToRequestor":true,"insideWindow":true,"maxEventAge":"PT1H","setBy":["boss@contoso.com"]},` +
	`"condition":"machine.tags.env == \"dev\"","conditionMessage":"Only for development.","assertedRequestorsFrom":["queue","ticket:itsm"]`

func TestADemandAndAConditionComeBackTheSame(t *testing.T) {
	s := schema(t, accessjson.PolicySchema())
	strict := strings.Replace(goodPolicy, `"assertedRequestorsFrom":["queue"]`, demand, 1)
	for doc, notByRequestor := range map[string]bool{
		strict: true,
		strings.Replace(strict, `"maxEventAge"`, `"notByRequestor":true,"maxEventAge"`, 1):  true,
		strings.Replace(strict, `"maxEventAge"`, `"notByRequestor":false,"maxEventAge"`, 1): false,
		strings.Replace(strict, `"setBy":["boss@contoso.com"]`, `"setBy":[]`, 1):            true,
		strings.Replace(strict, `"assignedToRequestor":true,"insideWindow":true,`, ``, 1):   true,
	} {
		p, err := accessjson.DecodePolicy([]byte(doc))
		if err != nil || p.Ticket == nil || p.Ticket.NotByRequestor != notByRequestor || p.Ticket.MaxEventAge != time.Hour {
			t.Errorf("%s: %+v, %v", doc, p.Ticket, err)
			continue
		}
		data, err := accessjson.EncodePolicy(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := accessjson.DecodePolicy(data)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%+v\n%+v\n%v", p, again, err)
		}
		if !valid(t, s, doc) || !valid(t, s, string(data)) {
			t.Errorf("the schema refuses %s", data)
		}
	}
	for _, c := range []struct {
		from, to, path string
		inSchema       bool
	}{
		{`["itsm","jira"]`, `[]`, "ticket.sources", true},
		{`["itsm","jira"]`, `["ITSM"]`, "ticket.sources[0]", true},
		{`["Approved"]`, `[]`, "ticket.states", true},
		{`"states":["Approved"],`, ``, "ticket.states", true},
		{`"maxEventAge":"PT1H"`, `"maxEventAge":"P91D"`, "ticket.maxEventAge", false},
		{`"maxEventAge":"PT1H",`, ``, "ticket.maxEventAge", true},
		{`"maxEventAge"`, `"state":"x","maxEventAge"`, "ticket.state", true},
		{`"ticket:itsm"`, `"ticket:"`, "assertedRequestorsFrom[1]", true},
		{`"ticket:itsm"`, `"ticket"`, "assertedRequestorsFrom[1]", true},
		{`machine.tags.env`, `machine.tag.env`, "condition", false},
		{`"condition":"machine.tags.env == \"dev\"",`, ``, "conditionMessage", true},
		{`Only for development.`, strings.Repeat("x", 301), "conditionMessage", true},
	} {
		doc := strings.Replace(strict, c.from, c.to, 1)
		_, err := accessjson.DecodePolicy([]byte(doc))
		if e := access.AsError(err); e == nil || e.Code != access.InvalidArgument || len(e.Violations) == 0 || e.Violations[0].Path != c.path {
			t.Errorf("%s: %v, want it at %s", c.to, err, c.path)
		}
		if c.inSchema && valid(t, s, doc) {
			t.Errorf("the schema takes %s at %s", c.to, c.path)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(good))
	for _, c := range bad {
		if len(c.doc) < 4096 {
			f.Add([]byte(c.doc))
		}
	}
	s := schema(f, accessjson.RequestSchema())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := accessjson.DecodeRequest(data)
		if err != nil {
			if access.CodeOf(err) != access.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if len(m.Ports) == 0 || len(m.Ports) > access.MaxPorts {
			t.Errorf("%d ports", len(m.Ports))
		}
		if !valid(t, s, string(data)) {
			t.Errorf("the schema refuses what the decoder takes: %s", data)
		}
	})
}
