package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

func (w *world) auditDesk() *broker.AuditDesk {
	w.t.Helper()
	d, err := broker.NewAuditDesk(w.store, w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// listed gives the rows of all pages, each as "kind".
func (w *world) listed(f broker.AuditFilter) (rows []broker.AuditRow, kinds string) {
	w.t.Helper()
	d := w.auditDesk()
	for pages := 0; ; pages++ {
		p, err := d.Events(context.Background(), audit, f)
		if err != nil {
			w.t.Fatal(err)
		}
		rows = append(rows, p.Rows...)
		if f.Token = p.Next; f.Token == "" {
			break
		}
		if pages > 100 {
			w.t.Fatal("it never ends")
		}
	}
	var out []string
	for _, r := range rows {
		out = append(out, string(r.Kind))
	}
	return rows, strings.Join(out, " ")
}

func (w *world) publishAll() {
	w.t.Helper()
	for _, s := range w.store.Subjects() {
		w.publish(s)
	}
}

// story is a day: a policy is changed, alice is let in and the port closes again,
// ben is refused, and there is a lockdown.
func story(t *testing.T) *world {
	w := newWorld(t)
	p := w.store.Policies[0]
	p.RequireJustification = true
	w.put(w.policyDesk(), p, broker.ChangeOptions{Version: p.Version})
	w.publishAll()
	ask := wants("1", alice, time.Hour)
	ask.Ticket = "CHG1"
	if _, err := w.desk.Request(context.Background(), anna, ask); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.publishAll()
	if _, err := w.desk.Request(context.Background(), ben, wants("2", "198.51.100.1", time.Hour)); err == nil {
		t.Fatal("it was to be refused")
	}
	w.now = w.now.Add(2 * time.Hour)
	w.deliver()
	w.publishAll()
	if _, err := w.lockdown.On(context.Background(), admin, "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	w.publishAll()
	return w
}

func TestAnAuditTellsWhoCouldReachAMachineWhenAndWhy(t *testing.T) {
	w := story(t)
	rows, kinds := w.listed(broker.AuditFilter{VM: vm})
	if want := "PolicyChanged Requested Opened Opened Closing Closed Closing Closed Refused LockedDown"; sorted(kinds) != sorted(want) {
		t.Errorf("%s\nwant %s", kinds, want)
	}
	version := w.store.Policies[0].Version
	for _, r := range rows {
		if r.Event == nil || r.Event.ID() != r.Seal.Event {
			t.Fatalf("%+v", r)
		}
		switch r.Kind {
		case access.EventOpened, access.EventClosed, access.EventRequested:
			want := broker.AuditRequest{Requestor: anna.Name, RequestedBy: anna.Name, Channel: "http", Justification: "work", Ticket: "CHG1", Policy: group + " " + version}
			if *r.Request != want {
				t.Errorf("%s: %+v\nwant %+v", r.Kind, *r.Request, want)
			}
			if d := r.Event.Detail; r.Kind == access.EventOpened && (d["port"] != "22/TCP" || d["source"] != alice || d["vm"] != string(vm)) {
				t.Errorf("%v", d)
			}
		case access.EventRefused:
			if want := string(vm) + " 22 from 198.51.100.1"; r.Event.Detail["asked.0"] != want {
				t.Errorf("%v", r.Event.Detail)
			}
		}
	}
	for name, c := range map[string]struct {
		f    broker.AuditFilter
		want string
	}{
		"a requestor":          {broker.AuditFilter{Requestor: "BEN@contoso.com"}, "Refused"},
		"a requestor, a kind":  {broker.AuditFilter{Requestor: anna.Name, Kind: access.EventOpened}, "Opened Opened"},
		"an actor":             {broker.AuditFilter{Actor: "Admin@contoso.com"}, "PolicyChanged LockedDown"},
		"a subject":            {broker.AuditFilter{Subject: broker.SubjectLockdown}, "LockedDown"},
		"a subject, a kind":    {broker.AuditFilter{Subject: group, Kind: access.EventOpened}, ""},
		"another machine":      {broker.AuditFilter{VM: vm + "0"}, "PolicyChanged LockedDown"},
		"before it all":        {broker.AuditFilter{To: hour(8, 0)}, ""},
		"an hour":              {broker.AuditFilter{From: hour(10, 0), To: hour(12, 0), Kind: access.EventLockedDown}, "LockedDown"},
		"a subject in time":    {broker.AuditFilter{Subject: broker.SubjectLockdown, To: hour(10, 0)}, ""},
		"nobody":               {broker.AuditFilter{Requestor: "x"}, ""},
		"a subject that isn't": {broker.AuditFilter{Subject: "x"}, ""},
	} {
		for _, size := range []int{0, 1, 2, 3} {
			c.f.PageSize = size
			if _, kinds := w.listed(c.f); sorted(kinds) != sorted(c.want) {
				t.Errorf("%s, pages of %d: %s, want %s", name, size, kinds, c.want)
			}
		}
	}
}

func sorted(s string) string {
	f := strings.Fields(s)
	for i := range f {
		for j := i; j > 0 && f[j] < f[j-1]; j-- {
			f[j], f[j-1] = f[j-1], f[j]
		}
	}
	return strings.Join(f, " ")
}

func TestAnAuditIsForThoseWhoReadAll(t *testing.T) {
	d := newWorld(t).auditDesk()
	for _, by := range []access.Caller{none, anna, help} {
		_, events := d.Events(context.Background(), by, broker.AuditFilter{})
		_, chain := d.Chain(context.Background(), by, "lockdown", "")
		for _, err := range []error{events, chain} {
			if access.ReasonOf(err) != "role_required" {
				t.Errorf("%s: %v", by.Name, err)
			}
		}
	}
}

func TestAFilterThatIsNoneIsRefused(t *testing.T) {
	d := newWorld(t).auditDesk()
	for reason, f := range map[string]broker.AuditFilter{
		"time_range_invalid":         {From: hour(10, 0), To: hour(10, 0)},
		"page_size_invalid":          {PageSize: 201},
		"subject_invalid":            {Subject: "a\nb"},
		"continuation_token_invalid": {Token: "bm9uZSBvZiBvdXJz"},
	} {
		if _, err := d.Events(context.Background(), audit, f); access.ReasonOf(err) != reason || access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%s: %v", reason, err)
		}
	}
	for _, token := range []string{"x", "-1", "99999999999999999999"} {
		if _, err := d.Chain(context.Background(), audit, "a", token); access.ReasonOf(err) != "continuation_token_invalid" {
			t.Errorf("%s: %v", token, err)
		}
	}
	if _, err := d.Chain(context.Background(), audit, "nobody", ""); access.ReasonOf(err) != "subject_unknown" {
		t.Error(err)
	}
}

// Whoever takes an event out of the table takes nobody's name out of the audit.
func TestAnEventThatIsGoneIsListedForEverybody(t *testing.T) {
	w := story(t)
	id := string(access.NewRequestID(anna.Sender(), "1"))
	w.store.Tamper(id, func(e *access.Event) bool { return e.Kind != access.EventOpened })
	rows, kinds := w.listed(broker.AuditFilter{Requestor: ben.Name})
	if kinds != "Opened Opened Refused" || rows[0].Event != nil || rows[0].Request != nil {
		t.Errorf("%s, %+v", kinds, rows)
	}
}

func TestAChainIsGivenInPages(t *testing.T) {
	w := newWorld(t)
	for i := range broker.MaxChainPage + 2 {
		w.event("s", fmt.Sprint(i), w.now)
	}
	w.publish("s")
	w.event("s", "later", w.now)
	d := w.auditDesk()
	first, err := d.Chain(context.Background(), audit, "s", "")
	if err != nil || len(first.Seals) != broker.MaxChainPage || len(first.Events) != broker.MaxChainPage || len(first.Unsealed) != 0 || first.Next == "" {
		t.Fatalf("%d, %d, %d, %q, %v", len(first.Seals), len(first.Events), len(first.Unsealed), first.Next, err)
	}
	last, err := d.Chain(context.Background(), audit, "s", first.Next)
	if err != nil || len(last.Seals) != 2 || last.Seals[0].Seq != broker.MaxChainPage+1 || len(last.Unsealed) != 1 || last.Next != "" {
		t.Errorf("%d, %d, %q, %v", len(last.Seals), len(last.Unsealed), last.Next, err)
	}
}

func TestAChangeOfAPolicyTellsItWholeBeforeAndAfter(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	p := w.store.Policies[0]
	p.RequireTicket = true
	c := w.put(d, p, broker.ChangeOptions{Version: p.Version})
	if _, err := d.Delete(context.Background(), admin, p.Scope, broker.ChangeOptions{Version: c.Policy.Version}); err != nil {
		t.Fatal(err)
	}
	events, err := w.store.EventsOf(context.Background(), string(p.Scope))
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	requires := func(doc string) string {
		if doc == "" {
			return ""
		}
		var v struct {
			Scope         string
			RequireTicket bool
			Ports         []any
		}
		if err := json.Unmarshal([]byte(doc), &v); err != nil || v.Scope != group || len(v.Ports) != 1 || strings.Contains(doc, "\n") {
			t.Errorf("%s: %v", doc, err)
		}
		return fmt.Sprint(v.RequireTicket)
	}
	changes := map[access.EventKind]string{}
	for _, e := range events {
		changes[e.Kind] = requires(e.Detail["before"]) + ">" + requires(e.Detail["after"])
	}
	if changes[access.EventPolicyChanged] != "false>true" || changes[access.EventPolicyRemoved] != "true>" {
		t.Errorf("%v", changes)
	}
}

func TestAPolicyThatNoEventCanTellIsNotStored(t *testing.T) {
	w := newWorld(t)
	d := w.policyDesk()
	d.Document = func(policy.AccessPolicy) ([]byte, error) { return []byte(`"` + strings.Repeat("x", 64<<10) + `"`), nil }
	p := w.store.Policies[0]
	p.RequireTicket = true
	if _, err := d.Put(context.Background(), admin, p, broker.ChangeOptions{Version: p.Version}); access.ReasonOf(err) != "policy_too_large" || w.store.Policies[0].RequireTicket {
		t.Error(err)
	}
}

func TestALockdownTellsHowItStood(t *testing.T) {
	w := newWorld(t)
	for _, reason := range []string{"one", "two"} {
		if _, err := w.lockdown.On(context.Background(), admin, reason); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.lockdown.Off(context.Background(), admin); err != nil {
		t.Fatal(err)
	}
	events, err := w.store.EventsOf(context.Background(), broker.SubjectLockdown)
	if err != nil {
		t.Fatal(err)
	}
	const on = "on since 2026-11-24T09:00:00Z by admin@contoso.com: "
	got := map[string]bool{}
	for _, e := range events {
		got[e.Detail["before"]+" > "+e.Detail["after"]] = true
	}
	for _, want := range []string{"off > " + on + "one", on + "one > " + on + "two", on + "two > off"} {
		if !got[want] {
			t.Errorf("%q is not in %v", want, got)
		}
	}
}

func TestARequestTellsByWhichTicketItWasAllowed(t *testing.T) {
	w := newWorld(t)
	by := access.Vouched{Ticket: access.TicketID{Source: "jira", Key: "OPS-1"}, Event: "ev-7"}
	rec := access.Record{
		ID: access.NewRequestID(anna.Sender(), "x"), Outcome: access.Accepted, DecidedAt: w.now,
		Request: access.Request{Requestor: anna.Requestor(), RequestedBy: anna.Sender(), Event: &by},
		Grants: []access.Grant{{
			VM: vm, Port: 22, Protocol: access.TCP, Source: netip.MustParsePrefix(alice + "/32"), EndTime: w.now.Add(time.Hour),
			PolicyScope: group, PolicyVersion: "v1", Ticket: &by,
		}},
	}
	if err := w.submitter.Resume(context.Background(), rec); err != nil {
		t.Fatal(err)
	}
	w.publish(string(rec.ID))
	rows, _ := w.listed(broker.AuditFilter{Subject: string(rec.ID), Kind: access.EventRequested})
	if len(rows) != 1 || rows[0].Event.Detail["ticketEvent"] != "jira:OPS-1 event ev-7" || rows[0].Request.Vouched != "jira:OPS-1 event ev-7" || rows[0].Request.Policy != group+" v1" {
		t.Errorf("%+v", rows)
	}
}
