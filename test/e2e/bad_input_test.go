package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	subscription = "/subscriptions/00000000-0000-0000-0000-000000000001"
	machines     = subscription + "/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/"
	good         = `{"requestor":"alice@contoso.com","justification":"j","virtualMachines":[{"id":"` + machines + `web-1","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`
)

// bad is one line of bad input: what comes of it on the queue and over HTTP.
type bad struct {
	name, body string
	reason     string // of the refusal
	violations string // their reasons, where there is more than that one
	code       access.Code
	// queueOnly is no fault over HTTP, where the token names the requestor.
	queueOnly bool
	// malformed is no request at all: over HTTP it has no record.
	malformed bool
}

// but is the good request with one thing replaced.
func but(old, now string) string {
	if !strings.Contains(good, old) {
		panic("the good request does not have " + old)
	}
	return strings.Replace(good, old, now, 1)
}

func on(vm string) string { return but(machines+"web-1", vm) }

func lines() []bad {
	malformed := func(name, body, reason string) bad {
		return bad{name: name, body: body, reason: reason, code: access.InvalidArgument, malformed: true}
	}
	duration := func(with string) string { return but(`"duration":"PT1H"`, with) }
	port := `{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}`
	var many []string
	for n := range 500 {
		many = append(many, strings.Replace(port, "22", fmt.Sprint(n+1), 1))
	}
	// A message has 256 KiB at most, with its headers.
	huge := but(`"j"`, `"`+strings.Repeat("x", 250<<10)+`"`)
	out := []bad{
		malformed("not JSON", "let me in", "not_json"),
		malformed("250 KB of JSON", huge, "text_too_long"),
		malformed("an unknown field", but("justification", "justifcation"), "field_unknown"),
		malformed("a field twice", but(`"justification":"j"`, `"justification":"j","justification":"k"`), "field_twice"),
		malformed("a field in another case", but("justification", "Justification"), "field_unknown"),
		malformed("a resource id that is none", on("web-1"), "resource_id_invalid"),
		malformed("a resource id of another type", on(subscription+"/resourceGroups/prod/providers/Microsoft.Network/networkSecurityGroups/nsg-web-subnet"), "not_a_virtual_machine"),
		malformed("every source", but("203.0.113.7", "0.0.0.0/0"), "source_any"),
		malformed("every IPv6 source", but("203.0.113.7", "::/0"), "source_any"),
		malformed("duration zero", duration(`"duration":"PT0S"`), "duration_not_positive"),
		malformed("duration negative", duration(`"duration":"-PT1H"`), "duration_invalid"),
		malformed("duration of a month", duration(`"duration":"P1M"`), "duration_invalid"),
		malformed("duration and endTimeUtc", duration(`"duration":"PT1H","endTimeUtc":"2030-01-01T00:00:00Z"`), "duration_and_end_time"),
		malformed("neither of them", but(`,"duration":"PT1H"`, ""), "duration_missing"),
		malformed("500 ports", but(port, strings.Join(many, ",")), "too_many_ports"),
		{name: "a missing requestor", body: but(`"requestor":"alice@contoso.com",`, ""), reason: "requestor_missing", code: access.InvalidArgument, queueOnly: true, malformed: true},
		{name: "a VM that there is not", body: on(machines + "none"), reason: "vm_not_found", code: access.FailedPrecondition},
		{name: "a VM without a network security group", body: on(machines + "bare-1"), reason: "no_nsg_on_path", code: access.FailedPrecondition},
		{name: "a VM without a policy", body: on(strings.Replace(machines, "/prod/", "/other/", 1) + "web-1"), reason: "not_permitted", code: access.PermissionDenied},
		{name: "a stranger", body: but("alice@", "mallory@"), reason: "not_permitted", code: access.PermissionDenied, queueOnly: true},
		{name: "a stranger and a VM that there is not", body: strings.Replace(but("alice@", "mallory@"), "web-1", "none", 1), reason: "not_permitted", code: access.PermissionDenied, queueOnly: true},
		{name: "a port that the policy lacks", body: but("22", "23"), reason: "port_not_in_policy", code: access.PermissionDenied},
		{name: "a source outside the range", body: but("203.0.113.7", "198.51.100.9"), reason: "source_outside_policy", code: access.PermissionDenied},
		{name: "a source wider than the range", body: but("203.0.113.7", "203.0.112.0/23"), reason: "source_outside_policy", code: access.PermissionDenied},
		{name: "a duration over the maximum", body: duration(`"duration":"PT3H1S"`), reason: "duration_too_long", code: access.PermissionDenied},
		{name: "a duration under the minimum", body: duration(`"duration":"PT59S"`), reason: "duration_too_short", code: access.PermissionDenied},
		{name: "an end that is past", body: duration(`"endTimeUtc":"2020-01-01T00:00:00Z"`), reason: "end_time_past", code: access.PermissionDenied},
		{name: "the same port twice", body: but(port, port+","+port), reason: "port_twice", code: access.PermissionDenied},
		{name: "two things at once", body: but(port, strings.Replace(port, "22", "23", 1)+","+strings.Replace(port, "203.0.113.7", "198.51.100.9", 1)),
			reason: "policy_violation", violations: "port_not_in_policy source_outside_policy", code: access.PermissionDenied},
		{name: "an asserted requestor where none is taken", body: on(machines + "db-1"), reason: "asserted_requestor_refused", code: access.PermissionDenied, queueOnly: true},
	}
	return out
}

func TestBadInputOnTheQueue(t *testing.T) {
	before := w.stack.ResourceManager.Stats().NSGWrites
	for i, c := range lines() {
		t.Run(c.name, func(t *testing.T) {
			id := fmt.Sprintf("bad-%d", i)
			w.post(t, id, c.body)
			r := w.rejections(t, id, 1)[0]
			c.check(t, r.Code, r.Reason, r.Violations)
			if r.Excerpt == "" || !strings.HasPrefix(c.body, r.Excerpt) || r.BodyHash == "" || r.Message == "" {
				t.Errorf("%+v", r)
			}
			c.checkRecord(t, r.RequestID, c.reason)
			w.settled(t)
			if n := w.stack.ResourceManager.Stats().NSGWrites - before; n != 0 {
				t.Errorf("%d writes of network security groups", n)
			}
		})
	}
}

func (c bad) check(t *testing.T, code access.Code, reason string, violations []access.Violation) {
	t.Helper()
	var have []string
	for _, v := range violations {
		have = append(have, v.Reason)
	}
	want := c.violations
	if want == "" {
		want = reason
	}
	if code != c.code || reason != c.reason || len(have) > 0 && strings.Join(have, " ") != want {
		t.Errorf("refused as %s %s with %v, want %s %s with %s", code, reason, have, c.code, c.reason, want)
	}
}

// checkRecord looks for the one refusal in the tables, under the reason.
func (c bad) checkRecord(t *testing.T, id access.RequestID, reason string) {
	t.Helper()
	rec, pending, err := w.store.Find(t.Context(), id)
	if err != nil || pending || rec.Outcome != access.Refused || rec.Refusal == nil || rec.Refusal.Reason != reason {
		t.Errorf("recorded as %+v, pending %t: %v", rec, pending, err)
	}
	events, err := w.store.EventsOf(t.Context(), string(id))
	if err != nil || len(events) != 1 || events[0].Kind != access.EventRefused || events[0].Detail["reason"] != reason {
		t.Errorf("events %+v, %v", events, err)
	}
}

type problem struct {
	Status     int                `json:"status"`
	Code       access.Code        `json:"code"`
	Reason     string             `json:"reason"`
	Instance   string             `json:"instance"`
	Violations []access.Violation `json:"violations"`
}

func TestBadInputOverHTTP(t *testing.T) {
	const path = "/api/access-requests"
	before := w.stack.ResourceManager.Stats().NSGWrites
	all := lines()
	all = append(all,
		bad{name: "more than 256 KB", body: but(`"j"`, `"`+strings.Repeat("x", 256<<10)+`"`), reason: "body_too_large", code: access.InvalidArgument, malformed: true},
		bad{name: "another requestor than the token's", body: strings.Replace(good, "alice@", "bob@", 1), reason: "role_required", code: access.PermissionDenied, malformed: true})
	for _, c := range all {
		if c.queueOnly {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			body := c.body
			if c.reason != "role_required" {
				body = strings.Replace(body, `"requestor":"alice@contoso.com",`, "", 1)
			}
			res, data := w.call(t, http.MethodPost, path, "application/json", body)
			var p problem
			if err := json.Unmarshal(data, &p); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s: %v", res.StatusCode, data, err)
			}
			if res.StatusCode != c.code.HTTPStatus() || p.Status != res.StatusCode {
				t.Errorf("answered %d", res.StatusCode)
			}
			c.check(t, p.Code, p.Reason, p.Violations)
			if c.malformed {
				if p.Instance != path {
					t.Errorf("what is no request has an address: %s", p.Instance)
				}
			} else if res, data := w.call(t, http.MethodGet, p.Instance, "", ""); res.StatusCode != http.StatusOK || !strings.Contains(string(data), `"`+c.reason+`"`) {
				t.Errorf("%s: %d %s", p.Instance, res.StatusCode, data)
			} else {
				c.checkRecord(t, access.RequestID(strings.TrimPrefix(p.Instance, path+"/")), c.reason)
			}
			if n := w.stack.ResourceManager.Stats().NSGWrites - before; n != 0 {
				t.Errorf("%d writes of network security groups", n)
			}
		})
	}
}

func TestARefusedMessageDeliveredTwiceIsOneRefusal(t *testing.T) {
	before := w.stack.ResourceManager.Stats().NSGWrites
	body := but("22", "23")
	w.post(t, "twice", body)
	w.post(t, "twice", body)
	got := w.rejections(t, "twice", 2)
	if got[0].RequestID != got[1].RequestID || got[0].Reason != got[1].Reason {
		t.Errorf("two requests: %+v", got)
	}
	bad{}.checkRecord(t, got[0].RequestID, "port_not_in_policy")
	w.settled(t)
	if n := w.stack.ResourceManager.Stats().NSGWrites - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestTheOutsideCannotForgeADelivery(t *testing.T) {
	before := w.stack.ResourceManager.Stats().NSGWrites
	envelope := `{"Data":{"msg":"` + "e30=" + `"},"Metadata":{"MessageId":"\"forged\""}}`
	for _, path := range []string{
		"/RequestAccess", "/requestaccess", "/ReconcileNsg", "/Sweep", "/DeadRequest", "//RequestAccess", "/./RequestAccess", "/%52equestAccess",
		"/api/../RequestAccess", "/api/%2e%2e/RequestAccess", "/api//RequestAccess", "/api/RequestAccess", "/RequestAccess/", "/admin/functions/RequestAccess",
	} {
		res, data := w.call(t, http.MethodPost, path, "application/json", envelope)
		if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", path, res.StatusCode, data)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rejected["forged"]) != 0 || w.stack.ResourceManager.Stats().NSGWrites != before {
		t.Error("a forged delivery was taken")
	}
}

// view is what the access API shows of a request.
type view struct {
	ID              string
	VirtualMachines []struct {
		Ports []struct{ Status, EndTimeUTC string }
	}
}

// TestAnIDStandsForOneRequest opens a door, and runs last as it is the only one
// that writes.
func TestAnIDStandsForOneRequest(t *testing.T) {
	body := strings.Replace(but(`"requestor":"alice@contoso.com",`, `"id":"one",`), "web-1", "web-2", 1)
	var first view
	for i := range 2 {
		res, data := w.call(t, http.MethodPost, "/api/access-requests", "application/json", body)
		var v view
		if err := json.Unmarshal(data, &v); err != nil || res.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %s", res.StatusCode, data)
		}
		if i == 0 {
			first = v
		} else if v.ID != first.ID || v.VirtualMachines[0].Ports[0].EndTimeUTC != first.VirtualMachines[0].Ports[0].EndTimeUTC {
			t.Errorf("decided anew: %+v, was %+v", v, first)
		}
	}
	eventually(t, func() string {
		_, data := w.call(t, http.MethodGet, "/api/access-requests/"+first.ID, "", "")
		var v view
		if err := json.Unmarshal(data, &v); err != nil || v.VirtualMachines[0].Ports[0].Status != "Initiated" {
			return string(data)
		}
		return ""
	})
	writes := w.stack.ResourceManager.Stats().NSGWrites

	res, data := w.call(t, http.MethodPost, "/api/access-requests", "application/json", strings.Replace(body, "203.0.113.7", "203.0.113.8", 1))
	if res.StatusCode != http.StatusConflict || !strings.Contains(string(data), `"id_conflict"`) {
		t.Errorf("another body over HTTP: %d %s", res.StatusCode, data)
	}
	// The same id from another sender is another request; used again by that one
	// for another body, it is refused.
	queued := strings.Replace(but(`"requestor"`, `"id":"one","requestor"`), "22", "23", 1)
	w.post(t, "conflict-1", queued)
	w.post(t, "conflict-2", strings.Replace(queued, "203.0.113.7", "203.0.113.8", 1))
	reasons := []string{w.rejections(t, "conflict-1", 1)[0].Reason, w.rejections(t, "conflict-2", 1)[0].Reason}
	slices.Sort(reasons) // two messages may be handled side by side
	if !slices.Equal(reasons, []string{"id_conflict", "port_not_in_policy"}) {
		t.Errorf("on the queue: %v", reasons)
	}
	w.settled(t)
	if events, err := w.store.EventsOf(t.Context(), first.ID); err != nil || !one(events, access.EventRequested) || !one(events, access.EventOpened) {
		t.Errorf("%+v, %v", events, err)
	}
	if n := w.stack.ResourceManager.Stats().NSGWrites; n != writes {
		t.Errorf("%d writes more", n-writes)
	}
}

// one says whether there is exactly one event of the kind.
func one(events []access.Event, kind access.EventKind) bool {
	n := 0
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n == 1
}
