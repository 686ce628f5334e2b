package ticket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

const examples = "../../docs/examples/sources"

func example(t testing.TB, name string) ticket.Source {
	t.Helper()
	s, err := ticket.DecodeSource(read(t, name+".json"))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const vms = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.compute/virtualmachines/"

func ask(reason, vm string, port uint16, source string) *access.TicketAsk {
	return &access.TicketAsk{Requestor: "alice@contoso.com", Justification: reason, Ports: []access.PortRequest{{
		VM: access.ResourceID(vms + vm), Port: port, Source: netip.MustParsePrefix(source), Path: "virtualMachines[0].ports[0]"}}}
}

// exampleEvents are the events that the examples' payloads make.
func exampleEvents(t testing.TB) map[string]access.TicketEvent {
	start, end := at(t, "2026-11-24T20:00:00Z"), at(t, "2026-11-24T23:00:00Z")
	event := func(source, key, when string, f access.TicketFacts, actor string, a *access.TicketAsk, d time.Duration) access.TicketEvent {
		if a != nil {
			a.Ports[0].Duration = d
		}
		return access.TicketEvent{Ticket: access.TicketID{Source: source, Key: key}, At: at(t, when), TicketFacts: f, Actor: actor, Ask: a}
	}
	ends := func(e access.TicketEvent) access.TicketEvent { e.Ends = true; return e }
	facts := func(state, assignee string) access.TicketFacts {
		return access.TicketFacts{State: state, Assignee: assignee}
	}
	window := func(state, assignee string) access.TicketFacts {
		return access.TicketFacts{State: state, Assignee: assignee, WindowStart: start, WindowEnd: end}
	}
	later := func(a *access.TicketAsk) *access.TicketAsk { a.StartTime = start; return a }
	const alice, bob = "alice@contoso.com", "bob@contoso.com"
	snow := event("servicenow", "CHG0030192", "2026-11-24T09:58:12Z", window("implement", alice), bob, later(ask("Patch the web servers’ kernel", "web-1", 22, "203.0.113.7/32")), 0)
	snow.Ask.Ports[0].EndTime = end
	return map[string]access.TicketEvent{
		"github-approved":        event("github", "42", "2026-11-24T09:58:12Z", facts("approved", alice), bob, ask("SSH to web-1 to rotate the TLS certificate", "web-1", 22, "203.0.113.7/32"), time.Hour),
		"github-closed":          ends(event("github", "42", "2026-11-24T10:21:40Z", facts("closed", alice), alice, nil, 0)),
		"jira-approved":          event("jira", "OPS-412", "2026-11-24T09:58:12.431Z", window("Approved", alice), bob, later(ask("Patch the web servers' kernel", "web-1", 22, "203.0.113.7/32")), 2*time.Hour),
		"jira-closed":            ends(event("jira", "OPS-412", "2026-11-24T21:10:05.207Z", window("Done", ""), alice, nil, 0)),
		"jsm-approved":           event("jsm", "ITSM-77", "2026-11-24T09:58:12.431Z", facts("Implementing", alice), bob, ask("RDP to app-2", "app-2", 3389, "203.0.113.7/32"), time.Hour),
		"jsm-cancelled":          ends(event("jsm", "ITSM-77", "2026-11-24T10:40:00.118Z", facts("Canceled", ""), bob, nil, 0)),
		"pagerduty-acknowledged": event("pagerduty", "2117", "2026-11-24T02:14:38.91Z", facts("acknowledged", alice), alice, ask("web-1 does not answer", "web-1", 22, "203.0.113.0/24"), time.Hour),
		"pagerduty-resolved":     ends(event("pagerduty", "2117", "2026-11-24T03:02:51.004Z", facts("resolved", ""), alice, nil, 0)),
		"servicenow-implement":   snow,
		"servicenow-cancelled":   ends(event("servicenow", "CHG0030192", "2026-11-24T21:10:05Z", window("cancelled", ""), bob, nil, 0)),
		"standard-approved":      event("standard", "CHG-1042", "2026-11-24T09:58:12.431Z", window("approved", alice), bob, later(ask("Patch the kernel", "web-1", 22, "203.0.113.7/32")), 2*time.Hour),
		"standard-cancelled":     ends(event("standard", "CHG-1042", "2026-11-24T21:10:05.207Z", window("cancelled", ""), bob, nil, 0)),
	}
}

func TestTheExamplesMakeTheirEvents(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "payloads", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	events := exampleEvents(t)
	if len(files) != len(events) {
		t.Errorf("there are %d payloads and %d events", len(files), len(events))
	}
	for name, want := range events {
		t.Run(name, func(t *testing.T) {
			s := example(t, want.Ticket.Source)
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			body := read(t, "payloads/"+name+".json")
			received := want.At.Add(3 * time.Second)
			v, err := s.Verify(ticket.Delivery{Header: signed(t, s.Kind, secretOf(s.Kind), body, "d-1", received), Body: body, ReceivedAt: received}, []string{secretOf(s.Kind)})
			if err != nil {
				t.Fatal(err)
			}
			got, ours, err := s.Map(context.Background(), v, received)
			if err != nil || !ours {
				t.Fatalf("%v, %v", ours, err)
			}
			want.ID, want.BodyHash, want.ReceivedAt = v.ID, v.BodyHash, received
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnExampleHoldsOneOfItsPayloadsAsItsSample(t *testing.T) {
	for source, payload := range map[string]string{
		"github": "github-approved", "jira": "jira-approved", "jsm": "jsm-approved", "pagerduty": "pagerduty-acknowledged",
		"servicenow": "servicenow-implement", "standard": "standard-approved",
	} {
		var want bytes.Buffer
		if err := json.Compact(&want, read(t, "payloads/"+payload+".json")); err != nil {
			t.Fatal(err)
		}
		var got, expected any
		if err := json.Unmarshal(example(t, source).Sample, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(want.Bytes(), &expected); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
}
