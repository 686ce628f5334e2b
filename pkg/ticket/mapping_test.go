package ticket_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// mapped is a source whose mapping reads each field from the payload's own.
func mapped() ticket.Source {
	s := source(ticket.GitHub, 1)
	s.MaxAge = time.Hour
	s.Users = map[string]string{"al": "alice@contoso.com"}
	s.Mapping = ticket.Mapping{Ticket: "payload.key", At: `payload.?at.orValue("2026-11-24T09:59:00Z")`}
	s.Sample = json.RawMessage(`{"key":"T-1"}`)
	return s
}

func mapBody(s ticket.Source, body string) (access.TicketEvent, bool, error) {
	return s.Map(context.Background(), ticket.Verified{ID: "te-1", Body: []byte(body)}, received)
}

const askText = `{"requestor":"alice@contoso.com","virtualMachines":[{"id":"` + vms + `web-1","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`

func TestEveryFieldIsRead(t *testing.T) {
	for _, c := range []struct {
		name, text, payload string
		get                 func(access.TicketEvent) any
		want                any
	}{
		{"ticket", "payload.key", `{"key":" T-7 "}`, func(e access.TicketEvent) any { return e.Ticket.Key }, "T-7"},
		{"ticket", "payload.key", `{"key":42}`, func(e access.TicketEvent) any { return e.Ticket.Key }, "42"},
		{"ticket", "source.name + '-' + payload.key", `{"key":"1"}`, func(e access.TicketEvent) any { return e.Ticket.Key }, "desk-1"},
		{"at", "payload.t", `{"key":"1","t":1795514292431}`, func(e access.TicketEvent) any { return e.At.Format(time.RFC3339Nano) }, "2026-11-24T09:58:12.431Z"},
		{"at", "payload.t", `{"key":"1","t":"2026-11-24T10:58:12.431+0100"}`, func(e access.TicketEvent) any { return e.At.Format(time.RFC3339Nano) }, "2026-11-24T09:58:12.431Z"},
		{"at", "timestamp(payload.t)", `{"key":"1","t":"2026-11-24T09:58:12Z"}`, func(e access.TicketEvent) any { return e.At.Format(time.RFC3339) }, "2026-11-24T09:58:12Z"},
		{"at", "received - duration('90s')", `{"key":"1"}`, func(e access.TicketEvent) any { return e.At.Format(time.RFC3339) }, "2026-11-24T09:58:30Z"},
		{"state", "payload.?s", `{"key":"1"}`, func(e access.TicketEvent) any { return e.State }, ""},
		{"state", "payload.s", `{"key":"1","s":null}`, func(e access.TicketEvent) any { return e.State }, ""},
		{"assignee", "users[payload.a]", `{"key":"1","a":"al"}`, func(e access.TicketEvent) any { return e.Assignee }, "alice@contoso.com"},
		{"assignee", `users[?payload.?a.?x.orValue("")]`, `{"key":"1","a":null}`, func(e access.TicketEvent) any { return e.Assignee }, ""},
		{"actor", `users[?payload.a].orValue(payload.a)`, `{"key":"1","a":"eve"}`, func(e access.TicketEvent) any { return e.Actor }, "eve"},
		{"windowStart", "payload.w", `{"key":"1","w":"2026-11-24T20:00:00Z"}`, func(e access.TicketEvent) any { return e.WindowStart.Format(time.RFC3339) }, "2026-11-24T20:00:00Z"},
		{"windowEnd", "payload.w", `{"key":"1","w":null}`, func(e access.TicketEvent) any { return e.WindowEnd.IsZero() }, true},
		{"ends", "payload.e == 1", `{"key":"1","e":1.0}`, func(e access.TicketEvent) any { return e.Ends }, true},
		{"request", "payload.?r", `{"key":"1"}`, func(e access.TicketEvent) any { return e.Ask == nil }, true},
		{"request", "payload.r", `{"key":"1","r":` + askText + `}`, func(e access.TicketEvent) any { return e.Ask.Ports[0].Duration }, time.Hour},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "22,", "22.0,", 1) + `}`, func(e access.TicketEvent) any { return e.Ask.Ports[0].Port }, uint16(22)},
	} {
		s := mapped()
		set(&s.Mapping, c.name, c.text)
		e, ours, err := mapBody(s, c.payload)
		if err != nil || !ours {
			t.Errorf("%s of %s: %v, %v", c.text, c.payload, ours, err)
			continue
		}
		if diff := cmp.Diff(c.want, c.get(e)); diff != "" {
			t.Errorf("%s of %s: %s", c.text, c.payload, diff)
		}
	}
}

func set(m *ticket.Mapping, name, text string) {
	fields := map[string]*string{"when": &m.When, "ticket": &m.Ticket, "at": &m.At, "state": &m.State, "assignee": &m.Assignee, "actor": &m.Actor,
		"windowStart": &m.WindowStart, "windowEnd": &m.WindowEnd, "ends": &m.Ends, "request": &m.Request}
	*fields[name] = text
}

func TestAFaultNamesItsFieldLineAndColumn(t *testing.T) {
	for _, c := range []struct{ name, text, payload, path, reason, message string }{
		{"when", "payload.gone", `{"key":"1"}`, "mapping.when", "expression_failed", "line 1, column 8: no such key: gone"},
		{"when", "payload.key", `{"key":"1"}`, "mapping.when", "result_invalid", "true or false"},
		{"ticket", "payload.\n  gone", `{"key":"1"}`, "mapping.ticket", "expression_failed", "no such key: gone"},
		{"ticket", "payload.key", `{"key":null}`, "mapping.ticket", "result_invalid", "gives null"},
		{"ticket", "payload.key", `{"key":1.5}`, "mapping.ticket", "result_invalid", "gives a double"},
		{"ticket", "payload.key", `{"key":["a"]}`, "mapping.ticket", "result_invalid", "gives a list"},
		{"ticket", "payload.key", `{"key":" "}`, "mapping.ticket", "result_invalid", "1 to 128"},
		{"ticket", "payload.key", `{"key":"` + strings.Repeat("x", 129) + `"}`, "mapping.ticket", "result_invalid", "1 to 128"},
		{"ticket", "payload.key", `{"key":"a\nb"}`, "mapping.ticket", "result_invalid", "printable"},
		{"ticket", "payload.key", `{"key":"a` + "\u202e" + `b"}`, "mapping.ticket", "result_invalid", "printable"},
		{"at", "payload.?t", `{"key":"1"}`, "mapping.at", "result_invalid", "no time"},
		{"at", "payload.t", `{"key":"1","t":1795514292}`, "mapping.at", "result_invalid", "milliseconds"},
		{"at", "payload.t", `{"key":"1","t":"24.11.2026"}`, "mapping.at", "result_invalid", "RFC 3339"},
		{"at", "payload.t", `{"key":"1","t":9223372036854775807}`, "mapping.at", "result_invalid", "9999"},
		{"at", "payload.t", `{"key":"1","t":true}`, "mapping.at", "result_invalid", "gives a bool"},
		{"state", "true &&\n payload.state", `{"key":"1"}`, "mapping.state", "expression_failed", "line 2, column 9"},
		{"state", "payload.s", `{"key":"1","s":{"name":"x"}}`, "mapping.state", "result_invalid", "gives a map"},
		{"state", "payload.s", `{"key":"1","s":"` + strings.Repeat("x", 257) + `"}`, "mapping.state", "result_invalid", "256"},
		{"assignee", "users[payload.a]", `{"key":"1","a":"bob"}`, "mapping.assignee", "expression_failed", "no such key: bob"},
		{"windowEnd", "payload.w", `{"key":"1","w":"soon"}`, "mapping.windowEnd", "result_invalid", "RFC 3339"},
		{"ends", "payload.e", `{"key":"1","e":"yes"}`, "mapping.ends", "result_invalid", "true or false"},
		{"request", "payload.key", `{"key":"1"}`, "mapping.request", "result_invalid", "a map or null"},
		{"request", "payload.r", `{"key":"1","r":{}}`, "mapping.request.requestor", "requestor_missing", "requestor"},
		{"request", "payload.r", `{"key":"1","r":{"requestor":"a"}}`, "mapping.request.virtualMachines", "virtual_machines_missing", "virtual machine"},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "{", `{"id":"x",`, 1) + `}`, "mapping.request.id", "field_of_event", "leave id out"},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "{", `{"ticket":"x",`, 1) + `}`, "mapping.request.ticket", "field_of_event", "leave ticket out"},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "PT1H", "1h", 1) + `}`, "mapping.request.virtualMachines[0].ports[0].duration", "duration_invalid", "ISO 8601"},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "203.0.113.7", "0.0.0.0/0", 1) + `}`, "mapping.request.virtualMachines[0].ports[0].allowedSourceAddressPrefix", "source_any", ""},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, "{", `{"admin":true,`, 1) + `}`, "mapping.request.admin", "field_unknown", ""},
		{"request", "payload.r", `{"key":"1","r":` + strings.Replace(askText, `"alice@contoso.com"`, "null", 1) + `}`, "mapping.request.requestor", "null", ""},
	} {
		s := mapped()
		set(&s.Mapping, c.name, c.text)
		_, _, err := mapBody(s, c.payload)
		e := access.AsError(err)
		if err == nil || e.Code != access.InvalidArgument || e.Reason != "mapping_failed" || len(e.Violations) == 0 {
			t.Errorf("%s of %s: %v", c.text, c.payload, err)
			continue
		}
		i := slices.IndexFunc(e.Violations, func(v access.Violation) bool { return v.Path == c.path && v.Reason == c.reason })
		if i < 0 || !strings.Contains(e.Violations[i].Message, c.message) {
			t.Errorf("%s of %.80s: %+v, want %s at %s, and %q in it", c.text, c.payload, e.Violations, c.reason, c.path, c.message)
		}
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	s := mapped()
	s.Mapping.State, s.Mapping.Assignee, s.Mapping.Request = "payload.s", "payload.a", "payload.r"
	_, _, err := mapBody(s, `{"key":"1"}`)
	if e := access.AsError(err); len(e.Violations) != 3 || !strings.HasPrefix(e.Message, "mapping.") {
		t.Errorf("%v: %+v", err, e.Violations)
	}
}

func TestAWindowDoesNotEndBeforeItStarts(t *testing.T) {
	s := mapped()
	s.Mapping.WindowStart, s.Mapping.WindowEnd = "payload.a", "payload.b"
	_, _, err := mapBody(s, `{"key":"1","a":"2026-11-24T20:00:00Z","b":"2026-11-24T19:00:00Z"}`)
	if e := access.AsError(err); e.Reason != "mapping_failed" || e.Violations[0].Path != "mapping.windowEnd" {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoneOfOursIsNoEvent(t *testing.T) {
	s := mapped()
	s.Mapping.When, s.Mapping.Ticket = "payload.action == 'ours'", "payload.gone"
	if e, ours, err := mapBody(s, `{"action":"theirs"}`); ours || err != nil || !cmp.Equal(e, access.TicketEvent{}) {
		t.Errorf("%+v, %v, %v", e, ours, err)
	}
}

func TestAnEventIsNeitherOldNorFromTheFuture(t *testing.T) {
	s := mapped()
	s.Mapping.Ends = "payload.ends"
	for _, c := range []struct{ at, ends, code, reason string }{
		{"2026-11-24T10:05:00Z", "false", "", ""},
		{"2026-11-24T10:05:01Z", "false", "invalid_argument", "event_from_future"},
		{"2026-11-24T10:05:01Z", "true", "invalid_argument", "event_from_future"},
		{"2026-11-24T09:00:00Z", "false", "", ""},
		{"2026-11-24T08:59:59Z", "false", "unauthenticated", "delivery_stale"},
		// Whoever has a door closed late has it closed all the same.
		{"2026-11-24T08:59:59Z", "true", "", ""},
	} {
		_, ours, err := mapBody(s, `{"key":"1","at":"`+c.at+`","ends":`+c.ends+`}`)
		if string(access.CodeOf(err)) != c.code || access.ReasonOf(err) != c.reason || ours != (err == nil) {
			t.Errorf("%s, ends %s: %v, %v", c.at, c.ends, ours, err)
		}
	}
}

func TestWithoutATimeOfItsOwnAnEventHasTheSignedOne(t *testing.T) {
	s := mapped()
	s.Kind, s.Mapping.At = ticket.Standard, ""
	e, _, err := s.Map(context.Background(), ticket.Verified{ID: "te-1", At: received.Add(-time.Minute), Body: []byte(`{"key":"1"}`)}, received)
	if err != nil || !e.At.Equal(received.Add(-time.Minute)) || !e.ReceivedAt.Equal(received) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestNothingKeepsAnEventFromEnding(t *testing.T) {
	s := mapped()
	s.Mapping.Ends, s.Mapping.State, s.Mapping.Assignee, s.Mapping.Request = "payload.closed", "payload.state", "users[payload.assignee.login]", "payload.request"
	e, ours, err := mapBody(s, `{"key":"T-1","closed":true,"state":"closed","assignee":null}`)
	if err != nil || !ours || !e.Ends || e.State != "closed" || e.Assignee != "" || e.Ask != nil {
		t.Errorf("%+v, %v, %v", e, ours, err)
	}
	// Of which ticket it is must be known all the same.
	s.Mapping.Ticket = "payload.gone"
	if _, _, err := mapBody(s, `{"key":"T-1","closed":true}`); access.ReasonOf(err) != "mapping_failed" {
		t.Errorf("%v", err)
	}
}

func TestWhoHangsUpIsToSendAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := mapped().Map(ctx, ticket.Verified{ID: "te-1", Body: []byte(`{"key":"1"}`)}, received)
	if access.CodeOf(err) != access.Unavailable {
		t.Errorf("%v", err)
	}
}
