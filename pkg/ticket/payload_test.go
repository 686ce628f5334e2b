package ticket_test

import (
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestPayloadsThatAreNotRead(t *testing.T) {
	nest := func(n int, open, shut string) string {
		return `{"key":"1","x":` + strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) + `}`
	}
	for _, c := range []struct{ what, body, reason string }{
		{"10,000 lists", nest(10_000, "[", "]"), "payload_too_deep"},
		{"10,000 objects", nest(10_000, `{"a":`, "}"), "payload_too_deep"},
		{"100,000 lists, never closed", strings.Repeat("[", 100_000), "payload_too_deep"},
		{"64 lists in an object", nest(64, "[", "]"), "payload_too_deep"},
		{"nothing", "", "payload_invalid"},
		{"truncated", `{"key":"1"`, "payload_invalid"},
		{"more after it", `{"key":"1"} {}`, "payload_invalid"},
		{"a name twice", `{"key":"1","key":"2"}`, "payload_invalid"},
		{"a name twice, escaped", `{"key":"1","\u006bey":"2"}`, "payload_invalid"},
		{"a name twice, deep", `{"key":"1","x":[{"a":1,"a":2}]}`, "payload_invalid"},
		{"invalid UTF-8", "{\"key\":\"\xff\"}", "payload_invalid"},
		{"half a surrogate", `{"key":"\ud800"}`, "payload_invalid"},
		{"a huge number", `{"key":1e999}`, "payload_invalid"},
		{"NaN", `{"key":NaN}`, "payload_invalid"},
		{"a comment", `{"key":"1"/**/}`, "payload_invalid"},
		{"a form", "payload=%7B%22key%22%3A%221%22%7D", "payload_invalid"},
	} {
		_, _, err := mapBody(mapped(), c.body)
		if access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v, want %s", c.what, err, c.reason)
		}
		if c.what == "a form" && !strings.Contains(err.Error(), "application/json") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, ours, err := mapBody(mapped(), nest(63, "[", "]")); err != nil || !ours {
		t.Errorf("63 lists in an object: %v", err)
	}
}

func TestNumbersKeepTheirValue(t *testing.T) {
	s := mapped()
	s.Mapping.Ticket = "string(payload.n)"
	for n, want := range map[string]string{"9223372036854775807": "9223372036854775807", "-9223372036854775808": "-9223372036854775808", "9007199254740993": "9007199254740993", "1.5": "1.5"} {
		e, _, err := mapBody(s, `{"n":`+n+`}`)
		if err != nil || e.Ticket.Key != want {
			t.Errorf("%s: %s, %v", n, e.Ticket.Key, err)
		}
	}
}

func TestAnExpressionThatNeverEnds(t *testing.T) {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	endless := list + ".all(a, " + list + ".all(b, " + list + ".all(c, " + list + ".all(d, a + b + c + d > 0))))"
	s := mapped()
	s.Mapping.When = endless
	if _, _, err := mapBody(s, `{"key":"1"}`); access.ReasonOf(err) != "mapping_failed" {
		t.Errorf("over its own lists: %v", err)
	}
	if err := s.Validate(); access.ReasonOf(err) != "source_invalid" {
		t.Errorf("saved: %v", err)
	}
	// Fast over the sample, endless over what a stranger sends.
	s.Mapping.When = "payload.l.all(a, payload.l.all(b, payload.l.all(c, a + b + c > 0)))"
	if _, _, err := mapBody(s, `{"key":"1","l":`+list+`}`); access.ReasonOf(err) != "mapping_failed" {
		t.Errorf("over the payload: %v", err)
	}
}
