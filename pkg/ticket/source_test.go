package ticket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const good = `{"name":"change-desk","kind":"github","secrets":["PORTCULLIS_SECRET_DESK"],"users":{"al":"alice@contoso.com"},"maxAge":"PT1H","mapping":{"ticket":"payload.key","at":"payload.at","state":"payload.?state"},"sample":{"key":"T-1","at":"2020-01-01T00:00:00Z","list":[null,1.50]}}`

func swap(from, to string) string {
	out := strings.Replace(good, from, to, 1)
	if out == good {
		panic(from + " is not in the document")
	}
	return out
}

func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ticket.SourceSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("s.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("s.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fits(t testing.TB, s *jsonschema.Schema, doc []byte) bool {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	return err == nil && s.Validate(v) == nil
}

func TestASourceIsReadAndWritten(t *testing.T) {
	sch := schema(t)
	docs := [][]byte{
		[]byte(good), []byte(swap(`"maxAge":"PT1H",`, "")), []byte(swap(`"users":{"al":"alice@contoso.com"},`, "")), []byte(swap(`"users":{"al":"alice@contoso.com"}`, `"users":{}`)),
		[]byte(swap(`"github"`, `"standard"`)), []byte(swap(`"PORTCULLIS_SECRET_DESK"`, `"PORTCULLIS_SECRET_DESK","PORTCULLIS_SECRET_DESK_2"`)), []byte(swap(`"payload.?state"`, `""`)),
	}
	for _, name := range []string{"github", "jira", "jsm", "pagerduty", "servicenow", "standard"} {
		docs = append(docs, read(t, name+".json"))
	}
	for _, doc := range docs {
		s, err := ticket.DecodeSource(doc)
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		if !fits(t, sch, doc) {
			t.Errorf("the schema refuses %s", doc)
		}
		text, err := ticket.EncodeSource(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ticket.DecodeSource(text)
		if len(s.Users) == 0 {
			s.Users = nil
		}
		if err != nil || cmp.Diff(s, again) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(s, again))
		}
	}
}

func TestTheDefaultAgeIsAsLongAsTheSenderTriesAgain(t *testing.T) {
	for kind, want := range map[string]string{"github": "PT1H", "jira": "PT2H", "jsm": "PT1H", "pagerduty": "P2DT1H", "standard": "P7D", "servicenow": "P7D"} {
		doc := strings.Replace(swap(`"maxAge":"PT1H",`, ""), `"github"`, `"`+kind+`"`, 1)
		s, err := ticket.DecodeSource([]byte(doc))
		if err != nil || access.FormatDuration(s.MaxAge) != want {
			t.Errorf("%s: %s, %v", kind, access.FormatDuration(s.MaxAge), err)
		}
	}
}

// inSchema says whether the schema can express the fault too.
var bad = []struct {
	reason, path, doc string
	inSchema          bool
}{
	{"payload_invalid", "", "{", false},
	{"payload_invalid", "", good + "{}", false},
	{"payload_invalid", "", strings.Replace(good, `"name"`, `"name":"x","name"`, 1), false},
	{"payload_too_deep", "", strings.Replace(good, "[null", strings.Repeat("[", 100)+strings.Repeat("]", 100)+",[null", 1), false},
	{"not_an_object", "", "[]", true},
	{"field_unknown", "secret", swap(`"name"`, `"secret":"hush","name"`), true},
	{"field_unknown", "Name", swap(`"name"`, `"Name"`), true},
	{"field_unknown", "mapping.port", swap(`"ticket"`, `"port":"1","ticket"`), true},
	{"type_invalid", "mapping.ticket", swap(`"payload.key"`, `1`), true},
	{"type_invalid", "users.al", swap(`"alice@contoso.com"`, `1`), true},
	{"null", "users", swap(`{"al":"alice@contoso.com"}`, `null`), true},
	{"null", "mapping.at", swap(`"payload.at"`, `null`), true},
	{"name_invalid", "name", swap("change-desk", "Desk"), true},
	{"name_invalid", "name", swap("change-desk", "1desk"), true},
	{"name_invalid", "name", swap("change-desk", ""), true},
	{"name_invalid", "name", swap("change-desk", strings.Repeat("a", 41)), true},
	{"name_invalid", "name", swap("change-desk", `a/b`), true},
	{"kind_unknown", "kind", swap(`"github"`, `"gitlab"`), true},
	{"secrets_count", "secrets", swap(`["PORTCULLIS_SECRET_DESK"]`, `[]`), true},
	{"secrets_count", "secrets", swap(`["PORTCULLIS_SECRET_DESK"]`, `["PORTCULLIS_SECRET_A","PORTCULLIS_SECRET_B","PORTCULLIS_SECRET_C","PORTCULLIS_SECRET_D","PORTCULLIS_SECRET_E"]`), true},
	{"secret_name_invalid", "secrets[0]", swap("PORTCULLIS_SECRET_DESK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), true},
	{"secret_name_invalid", "secrets[0]", swap("PORTCULLIS_SECRET_DESK", "ServiceBus"), true},
	{"secret_name_invalid", "secrets[0]", swap("PORTCULLIS_SECRET_DESK", "PORTCULLIS_SECRET_"), true},
	{"secret_name_invalid", "secrets[0]", swap("PORTCULLIS_SECRET_DESK", "PORTCULLIS_SECRET_"+strings.Repeat("A", 65)), true},
	{"secret_twice", "secrets[1]", swap(`"PORTCULLIS_SECRET_DESK"`, `"PORTCULLIS_SECRET_DESK","PORTCULLIS_SECRET_DESK"`), true},
	{"user_invalid", "users.al", swap("alice@contoso.com", "alice smith"), true},
	{"user_invalid", "users.al", swap("alice@contoso.com", "*"), true},
	{"user_invalid", "users.al", swap("alice@contoso.com", "oid:1"), true},
	{"user_invalid", "users.al", swap("alice@contoso.com", ""), true},
	{"user_invalid", "users.", swap(`"al"`, `""`), true},
	{"max_age_invalid", "maxAge", swap("PT1H", "PT59S"), false},
	{"max_age_invalid", "maxAge", swap("PT1H", "P8D"), false},
	{"duration_invalid", "maxAge", swap("PT1H", "1h"), true},
	{"ticket_missing", "mapping.ticket", swap(`"payload.key"`, `""`), true},
	{"ticket_missing", "mapping.ticket", swap(`"payload.key"`, `" "`), false},
	{"at_missing", "mapping.at", swap(`"at":"payload.at",`, ``), false},
	{"sample_size", "sample", good[:strings.Index(good, `,"sample"`)] + "}", true},
	{"sample_size", "sample", swap(`"T-1"`, `"`+strings.Repeat("x", ticket.MaxSample)+`"`), false},
	{"null", "sample", good[:strings.Index(good, `{"key"`)] + "null}", false},
	{"body_too_large", "", swap(`"T-1"`, `"`+strings.Repeat("x", ticket.MaxSource)+`"`), false},
}

func TestABadSourceIsRefusedByNameAndPlace(t *testing.T) {
	sch := schema(t)
	for _, c := range bad {
		_, err := ticket.DecodeSource([]byte(c.doc))
		e := access.AsError(err)
		if err == nil || e.Code != access.InvalidArgument || e.Reason != "source_invalid" || len(e.Violations) != 1 || e.Violations[0].Reason != c.reason || e.Violations[0].Path != c.path {
			t.Errorf("%.120s: %v %+v, want %s at %q", c.doc, err, e, c.reason, c.path)
			continue
		}
		if c.inSchema && fits(t, sch, []byte(c.doc)) {
			t.Errorf("%s: the schema lets %s pass", c.reason, c.doc)
		}
		if strings.Contains(err.Error(), "MfKQ9r8") {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
}

func TestEveryFaultOfASourceIsNamed(t *testing.T) {
	users := make([]string, 200)
	for i := range users {
		users[i] = fmt.Sprintf(`"u%03d":"a b"`, i)
	}
	_, err := ticket.DecodeSource([]byte(strings.Replace(swap("change-desk", "X"), `"al":"alice@contoso.com"`, strings.Join(users, ","), 1)))
	e := access.AsError(err)
	if len(e.Violations) != 101 || e.Violations[0].Path != "name" || e.Violations[1].Path != "users.u000" || e.Violations[100].Reason != "and_more" {
		t.Errorf("%d violations: %+v", len(e.Violations), e.Violations[:2])
	}
	many := make([]string, ticket.MaxUsers+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"u%d":"a"`, i)
	}
	_, err = ticket.DecodeSource([]byte(swap(`"al":"alice@contoso.com"`, strings.Join(many, ","))))
	if e := access.AsError(err); len(e.Violations) != 1 || e.Violations[0].Reason != "too_many_users" {
		t.Errorf("%v", err)
	}
}

func TestAMappingIsCheckedWhenItIsSaved(t *testing.T) {
	for _, c := range []struct {
		set     func(*ticket.Source)
		path    string
		reason  string
		message string
	}{
		{func(s *ticket.Source) { s.Mapping.State = "payload.state ==" }, "mapping.state", "expression_invalid", "line 1, column"},
		{func(s *ticket.Source) { s.Mapping.Actor = "true ?\n  payloud.x : 1" }, "mapping.actor", "expression_invalid", "line 2, column 3"},
		{func(s *ticket.Source) { s.Mapping.Actor = "source.kind" }, "mapping.actor", "expression_invalid", "undeclared"},
		{func(s *ticket.Source) { s.Mapping.When = "'yes'" }, "mapping.when", "expression_invalid", "bool"},
		{func(s *ticket.Source) { s.Mapping.Ends = "1" }, "mapping.ends", "expression_invalid", "bool"},
		{func(s *ticket.Source) { s.Mapping.State = "'" + strings.Repeat("x", 5000) + "'" }, "mapping.state", "expression_invalid", "4096"},
		// What the sample shows.
		{func(s *ticket.Source) { s.Mapping.State = "payload.status" }, "mapping.state", "expression_failed", "line 1, column 8: no such key: status"},
		{func(s *ticket.Source) { s.Mapping.Assignee = "payload.list" }, "mapping.assignee", "result_invalid", "a list"},
		{func(s *ticket.Source) { s.Mapping.When = "false" }, "mapping.when", "sample_not_ours", "sample"},
		{func(s *ticket.Source) { s.Mapping.Request = "{'requestor': 'a'}" }, "mapping.request.virtualMachines", "virtual_machines_missing", ""},
		// A fault that an event which ends would be forgiven.
		{func(s *ticket.Source) { s.Mapping.Ends, s.Mapping.State = "true", "payload.status" }, "mapping.state", "expression_failed", "no such key"},
		{func(s *ticket.Source) { s.Sample = json.RawMessage(`{"key":1,"key":2}`) }, "sample", "payload_invalid", "twice"},
		{func(s *ticket.Source) { s.Kind = "fax" }, "kind", "kind_unknown", ""},
	} {
		s, err := ticket.DecodeSource([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		c.set(&s)
		e := access.AsError(s.Validate())
		if e == nil || e.Code != access.InvalidArgument || e.Reason != "source_invalid" || len(e.Violations) == 0 {
			t.Errorf("%s, %s: %+v", c.path, c.reason, e)
			continue
		}
		if v := e.Violations[0]; v.Path != c.path || v.Reason != c.reason || !strings.Contains(v.Message, c.message) {
			t.Errorf("%+v, want %s at %s with %q", v, c.reason, c.path, c.message)
		}
	}
}
