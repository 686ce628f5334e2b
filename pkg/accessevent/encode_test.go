package accessevent_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
)

const (
	vm  = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.compute/virtualmachines/web-1"
	nsg = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.network/networksecuritygroups/nsg-web-subnet"
	ar  = "ar-ifx5gtlgkm3dgk2txi2ojgx2lu"
)

var at = time.Date(2026, 11, 26, 9, 0, 0, 123456789, time.FixedZone("", 3600))

var opened = access.Event{
	Subject: ar, Kind: access.EventOpened, At: at, Actor: "portcullis", Key: ar + "-00-nsg-web-subnet",
	Detail: map[string]string{"vm": vm, "nsg": nsg, "port": "22/TCP", "source": "203.0.113.7", "endTimeUtc": "2026-11-26T10:00:00Z"},
}

// encode makes the CloudEvent and holds it against the specification, by the SDK,
// and against the schema of its data.
func encode(t *testing.T, ev access.Event, seq int) (accessevent.Message, event.Event, map[string]any) {
	t.Helper()
	m, err := accessevent.NewEncoder("prod").Encode(ev, seq)
	if err != nil {
		t.Fatal(err)
	}
	ce, data := read(t, m)
	return m, ce, data
}

func read(t *testing.T, m accessevent.Message) (event.Event, map[string]any) {
	t.Helper()
	var ce event.Event
	if err := json.Unmarshal(m.Body, &ce); err != nil {
		t.Fatal(err)
	}
	if err := ce.Validate(); err != nil || ce.ID() != m.ID || len(m.Body) > accessevent.MaxBody || len([]rune(m.ID)) > 128 {
		t.Fatalf("%d bytes, id %q: %v", len(m.Body), ce.ID(), err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(accessevent.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("access-event", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("access-event")
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	if err := json.Unmarshal(ce.Data(), &data); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(data); err != nil {
		t.Fatalf("%v\n%s", err, m.Body)
	}
	return ce, data
}

func TestAnEventGoesOutWithItsFacts(t *testing.T) {
	m, ce, data := encode(t, opened, 2)
	if m.ID != ar+"/2" || m.Kind != "opened" || ce.Type() != "io.portcullis.access.opened.v1" || ce.Source() != "/portcullis/prod" || ce.Subject() != ar ||
		!ce.Time().Equal(at) || ce.Extensions()["sequence"] != "00000002" || ce.DataContentType() != "application/json" {
		t.Errorf("%s", m.Body)
	}
	want := map[string]any{
		"kind": "Opened", "actor": "portcullis", "requestId": ar, "virtualMachine": vm, "networkSecurityGroup": nsg, "number": 22.0, "protocol": "TCP",
		"allowedSourceAddressPrefix": "203.0.113.7", "endTimeUtc": "2026-11-26T10:00:00Z",
		"detail": map[string]any{"vm": vm, "nsg": nsg, "port": "22/TCP", "source": "203.0.113.7", "endTimeUtc": "2026-11-26T10:00:00Z"},
	}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Error(diff)
	}
	again, _, _ := encode(t, opened, 2)
	if diff := cmp.Diff(m, again); diff != "" {
		t.Errorf("the same event again: %s", diff)
	}
}

func TestARequestTellsItsGrants(t *testing.T) {
	grant := vm + " 22/TCP from 203.0.113.7 until 2026-11-26T10:00:00Z by policy /subscriptions/1 v1"
	_, _, data := encode(t, access.Event{Subject: ar, Kind: access.EventRequested, At: at, Detail: map[string]string{
		"requestor": "alice", "ticket": "jira/OPS-1", "grant.0": grant, "grant.1": "of another form", "grant.2": strings.Replace(grant, "22/TCP", "0/TCP", 1),
	}}, 1)
	want := []any{map[string]any{
		"index": 0.0, "virtualMachine": vm, "number": 22.0, "protocol": "TCP", "allowedSourceAddressPrefix": "203.0.113.7",
		"endTimeUtc": "2026-11-26T10:00:00Z", "policyScope": "/subscriptions/1", "policyVersion": "v1",
	}}
	if diff := cmp.Diff(want, data["grants"]); diff != "" || data["requestor"] != "alice" || data["ticket"] != "jira/OPS-1" {
		t.Errorf("%s %v", diff, data)
	}
}

func TestWhatIsTooLargeIsCutAndTold(t *testing.T) {
	large := access.Event{Subject: nsg, Kind: access.EventPolicyChanged, At: at, Detail: map[string]string{
		"small": "s", "before": strings.Repeat("ä", 100<<10), "after": strings.Repeat("\x01", 100<<10),
	}}
	_, ce, data := encode(t, large, 1)
	detail := data["detail"].(map[string]any)
	if detail["small"] != "s" || !strings.HasSuffix(detail["before"].(string), "ä…[cut]") || cmp.Diff([]any{"after", "before"}, data["cut"]) != "" || ce.Subject() != nsg {
		t.Errorf("cut: %v", data["cut"])
	}
	many := access.Event{Subject: ar, Kind: access.EventRequested, At: at, Detail: map[string]string{}}
	for i := range 3000 {
		many.Detail[strings.Repeat("x", i)] = strings.Repeat("y", 300)
	}
	_, _, data = encode(t, many, 1)
	if data["detail"] != nil || data["omitted"] == nil || data["requestId"] != ar {
		t.Errorf("%v", data)
	}
	bare, err := accessevent.NewEncoder("prod").Bare(opened, 7)
	if err != nil {
		t.Fatal(err)
	}
	if ce, data := read(t, bare); bare.ID != ar+"/7" || data["detail"] != nil || data["omitted"] == nil || ce.Type() != "io.portcullis.access.opened.v1" {
		t.Errorf("%s", bare.Body)
	}
}

func TestALongSubjectHasAShortSession(t *testing.T) {
	long := "/" + strings.Repeat("x", 300)
	if s := accessevent.Session(long); len(s) != 64 || s == accessevent.Session(long+"x") {
		t.Error(s)
	}
	if accessevent.Session(ar) != ar {
		t.Error("a request's session is its id")
	}
	m, ce, _ := encode(t, access.Event{Subject: long, Kind: access.EventDrift, At: at}, 99_999_999)
	if !strings.HasPrefix(m.ID, accessevent.Session(long)+"/") || ce.Subject() != long {
		t.Errorf("%s", m.Body)
	}
}

// TestTheExampleIsWhatIsSent holds docs/events.md against the code.
func TestTheExampleIsWhatIsSent(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```json\n")
	example, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		t.Fatal("docs/events.md has no example")
	}
	m, _, _ := encode(t, opened, 2)
	var want, got any
	if err := json.Unmarshal([]byte(example), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Body, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzEncode proves that no event keeps back those after it.
func FuzzEncode(f *testing.F) {
	f.Add(ar, "Opened", "alice", "port", "22/TCP", int64(1), 1)
	f.Add("/x", "\xff", "\x00", "grant.0", "a 1/* from b until c by policy d", int64(1<<62), -1)
	f.Fuzz(func(t *testing.T, subject, kind, actor, name, value string, nanos int64, times int) {
		if kind == "" || strings.TrimSpace(subject) == "" {
			t.Skip("an event has both")
		}
		value = strings.Repeat(value, min(max(times, 1), 5000))
		ev := access.Event{Subject: subject, Kind: access.EventKind(kind), Actor: actor, At: time.Unix(0, nanos), Detail: map[string]string{name: value, "port": value}}
		m, err := accessevent.NewEncoder("prod").Encode(ev, 1)
		if err != nil {
			t.Fatal(err)
		}
		read(t, m)
	})
}
