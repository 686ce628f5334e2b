package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/config"
)

// record is what the fake has on record: a policy, a request that was let in and
// closed, one that was refused.
func record() map[string][]access.Event {
	leg := func(kind access.EventKind, minute int, more ...string) access.Event {
		e := access.Event{Subject: id1, Kind: kind, At: noon.Add(time.Duration(minute) * time.Minute), Actor: "portcullis", Key: "0", Detail: map[string]string{
			"vm": web1, "nsg": prod + "/providers/microsoft.network/networksecuritygroups/nsg-web", "port": "22/TCP", "source": "203.0.113.7", "grant": "0", "endTimeUtc": "2026-11-24T13:00:00Z",
		}}
		for i := 0; i < len(more); i += 2 {
			e.Detail[more[i]] = more[i+1]
		}
		return e
	}
	return map[string][]access.Event{
		prod: {{Subject: prod, Kind: access.EventPolicyChanged, At: noon.Add(-2 * time.Hour), Actor: "root@contoso.com", Key: "p", Detail: map[string]string{"scope": prod, "after": policyJSON}}},
		id1: {
			{Subject: id1, Kind: access.EventRequested, At: noon, Actor: "alice@contoso.com", Detail: map[string]string{
				"channel": "http", "requestor": "alice@contoso.com", "justification": "=look(\"at\")", "ticket": "OPS-1",
				"grant.0": web1 + " 22/TCP from 203.0.113.7 until 2026-11-24T13:00:00Z by policy " + prod + " v7 by ticket jira:OPS-1 event ev-7",
			}},
			leg(access.EventOpened, 1), leg(access.EventClosed, 60, "statusReason", "Expired"),
		},
		id2: {{Subject: id2, Kind: access.EventRefused, At: noon.Add(time.Minute), Actor: "bob@contoso.com", Detail: map[string]string{
			"channel": "http", "requestor": "bob@contoso.com", "violations": "source_outside_policy", "asked.0": web1 + " 22/TCP from 198.51.100.7",
		}}},
	}
}

// sealed seals the record.
func sealed() (entries []broker.JournalEntry, seals map[string][]audit.Seal) {
	seals = map[string][]audit.Seal{}
	for subject, events := range record() {
		var last audit.Seal
		for _, e := range events {
			var err error
			if last, err = audit.Next(last, e, e.At.Add(3*time.Second)); err != nil {
				panic(err)
			}
			seals[subject] = append(seals[subject], last)
			entries = append(entries, broker.JournalEntry{Seal: last, Kind: e.Kind, At: e.At, Actor: e.Actor})
		}
	}
	slices.SortFunc(entries, func(a, b broker.JournalEntry) int {
		return cmp.Or(a.Seal.At.Compare(b.Seal.At), cmp.Compare(a.Seal.Subject, b.Seal.Subject))
	})
	return entries, seals
}

// recorded lets the fake answer for the record, in pages of three.
func recorded(f *fake) *fake {
	entries, seals := sealed()
	doc := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	var items []string
	for _, e := range entries {
		of := record()[e.Seal.Subject][e.Seal.Seq-1]
		request := ""
		switch of.Subject {
		case id1:
			request = `"request":{"requestor":"alice@contoso.com","requestedBy":"alice@contoso.com","channel":"http","justification":"=look(\"at\")","ticket":"OPS-1","policy":"` + prod + ` v7","vouched":"jira:OPS-1 event ev-7"},`
		case id2:
			request = `"request":{"requestor":"bob@contoso.com","requestedBy":"bob@contoso.com","channel":"http"},`
		}
		items = append(items, fmt.Sprintf(`{"subject":%q,"kind":%q,"at":%s,"actor":%q,"key":%q,"detail":%s,%s"seal":%s}`,
			of.Subject, of.Kind, doc(of.At), of.Actor, of.Key, doc(of.Detail), request, doc(e.Seal)))
	}
	f.on("GET /api/audit/events",
		ok(`{"items":[`+strings.Join(items[:3], ",")+`],"nextLink":"/api/audit/events?continuationToken=t1"}`),
		ok(`{"items":[],"nextLink":"/api/audit/events?continuationToken=t2"}`),
		ok(`{"items":[`+strings.Join(items[3:], ",")+`]}`))
	for subject, chain := range seals {
		var links []string
		for i, s := range chain {
			links = append(links, `{"seal":`+doc(s)+`,"event":`+doc(record()[subject][i])+`}`)
		}
		f.on("GET /api/audit/chains?subject="+url.QueryEscape(subject), ok(`{"items":[`+strings.Join(links, ",")+`]}`))
	}
	f.on("GET /api/audit/chains", problem(404, "not_found", "subject_unknown", "nothing is kept of such a subject"))
	return f
}

// anchored is the desk of somebody who can read anchors of the record, and who
// sits there a few hours later.
func (d *desk) anchored(t *testing.T) *desk {
	d.clock = noon.Add(2*time.Hour + 20*time.Minute)
	store := &brokertest.Anchors{Faults: &brokertest.Faults{}}
	entries, _ := sealed()
	var before []byte
	for hour := noon.Add(-2 * time.Hour); hour.Before(noon.Add(time.Hour)); hour = hour.Add(time.Hour) {
		var seals []audit.Seal
		for _, e := range entries {
			if !e.Seal.At.Before(hour.Add(-time.Hour)) && e.Seal.At.Before(hour.Add(time.Hour)) {
				seals = append(seals, e.Seal)
			}
		}
		data, err := audit.NewAnchor("test", hour, seals, before, hour.Add(80*time.Minute)).Encode()
		if err == nil {
			err = store.AddAnchor(t.Context(), hour, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		before = data
	}
	d.anchors = func(address string, like config.Connection) (broker.AnchorReader, error) {
		if address != "https://acc.example/anchors" || like.ManagedIdentity {
			return nil, errors.New("another container")
		}
		return store, nil
	}
	return d
}

func TestAnExportIsReadToItsEndPageByPage(t *testing.T) {
	f := full(t)
	d := f.desk(nil)
	if code := d.run(t, "audit", "--vm", web1, "--from", "2026-01-01", "--to", "2027-01-01T00:00:00Z", "--kind", "opened", "--actor", "portcullis", "--format", "jsonl"); code != exitDone {
		t.Fatalf("%d %s", code, d.errs.String())
	}
	calls := f.sent("GET /api/audit/events")
	if len(calls) != 3 || !strings.Contains(calls[1], "continuationToken=t1") || !strings.Contains(calls[2], "continuationToken=t2") {
		t.Errorf("%v", calls)
	}
	for _, c := range calls {
		for _, want := range []string{"virtualMachine=" + url.QueryEscape(web1), "from=2026-01-01T00%3A00%3A00Z", "to=2027-01-01T00%3A00%3A00Z", "kind=opened", "actor=portcullis", "pageSize=200"} {
			if !strings.Contains(c, want) {
				t.Errorf("%s lacks %s", c, want)
			}
		}
	}
	lines := strings.Split(strings.TrimSuffix(d.out.String(), "\n"), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		var e struct {
			Kind string
			Seal struct{ Hash string }
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil || e.Kind == "" || len(e.Seal.Hash) != 64 {
			t.Errorf("%s: %v", l, err)
		}
	}
}

func TestWithoutATimeAnAuditLooksBackAWeek(t *testing.T) {
	f := full(t)
	if code := f.desk(nil).run(t, "audit", "--requestor", "alice@contoso.com"); code != exitDone || !strings.Contains(f.sent("GET /api/audit/events")[0], "from=2026-11-17T12%3A00%3A00Z") {
		t.Errorf("%d %v", code, f.sent("GET /api/audit/events"))
	}
	f = full(t)
	if code := f.desk(nil).run(t, "audit", "--subject", id1); code != exitDone || strings.Contains(f.sent("GET /api/audit/events")[0], "from=") {
		t.Errorf("%d %v", code, f.sent("GET /api/audit/events"))
	}
}

func TestAnExportThatIsCutShortSaysSo(t *testing.T) {
	for _, format := range []string{"csv", "jsonl"} {
		d := full(t).desk(nil)
		if code := d.run(t, "audit", "--format", format, "--limit", "2"); code != exitFailed || !strings.Contains(d.errs.String(), "not complete") {
			t.Errorf("%s: %d %s", format, code, d.errs.String())
		}
	}
	f := full(t)
	f.on("GET /api/audit/events", ok(`{"items":[],"nextLink":"/api/audit/events?continuationToken=t"}`))
	d := f.desk(nil)
	if code := d.run(t, "audit", "--format", "csv"); code != exitFailed || len(f.sent("GET /api/audit/events")) != 2 {
		t.Errorf("a list that goes round: %d after %d calls", code, len(f.sent("GET /api/audit/events")))
	}
}

func TestNoCellIsAFormula(t *testing.T) {
	for cell, want := range map[string]string{
		"plain": "plain", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "\t'=1", "\r\n=1": "\r\n'=1", "  =1": "  '=1",
		"＝1": "'＝1", "a=b": "a=b", "x;=1": "x;'=1", "x,\"=1": "x,\"'=1", "x|+1": "x|'+1", `"=1"`: `"'=1"`, "a\nb\n-c": "a\nb\n'-c", "2026-11-24": "2026-11-24",
		`say "no"`: `say "no"`, "nul\x00=": "nul\ufffd=",
	} {
		var b strings.Builder
		o := csvOutput{to: &b, begun: true}
		if err := o.line(cell, "next"); err != nil {
			t.Fatal(err)
		}
		got, err := csv.NewReader(strings.NewReader(b.String())).Read()
		if err != nil || len(got) != 2 || got[0] != strings.ReplaceAll(want, "\r\n", "\n") || got[1] != "next" {
			t.Errorf("%q is read as %q, %v", cell, got, err)
		}
	}
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "=1", "a,\"b\"\r\n=c", ";;=1", "\ufeff=1", "'=1", "\"\"\"=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		o := csvOutput{to: &b, begun: true}
		if err := o.line(s, "next"); err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(strings.NewReader(b.String()))
		got, err := r.Read()
		if err != nil || len(got) != 2 || got[1] != "next" {
			t.Fatalf("%q: %q, %v", s, got, err)
		}
		if _, err := r.Read(); err != io.EOF {
			t.Fatalf("%q makes a row of its own: %v", s, err)
		}
		if c := strings.TrimLeft(got[0], " \t\r\n\"'"); c != "" && strings.ContainsRune("=+-@", rune(c[0])) && !strings.Contains(got[0], "'"+c[:1]) {
			t.Fatalf("%q is a formula", got[0])
		}
	})
}

func TestAVerificationFindsWhatWasChanged(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(f *fake)
		want []string
	}{
		"a word of an event": {func(f *fake) { f.edit("/api/audit/chains?subject="+id1, "203.0.113.7", "198.51.100.1") }, []string{"event_altered"}},
		"a subject is gone":  {func(f *fake) { delete(f.has, "GET /api/audit/chains?subject="+id2) }, []string{"journal_mismatch", "anchor_mismatch"}},
		"a chain is cut": {func(f *fake) {
			_, seals := sealed()
			data, err := json.Marshal(map[string]any{"items": []any{map[string]any{"seal": seals[id1][0], "event": record()[id1][0]}}})
			if err != nil {
				panic(err)
			}
			f.on("GET /api/audit/chains?subject="+id1, ok(string(data)))
		}, []string{"journal_mismatch", "anchor_mismatch"}},
	} {
		f := full(t)
		c.set(f)
		d := f.desk(map[string]string{"PORTCULLIS_ANCHORS_URL": "https://acc.example/anchors"}).anchored(t)
		if code := d.run(t, "audit", "verify"); code != exitFailed || !strings.Contains(d.errs.String(), "not whole") || len(d.waits) != 2 {
			t.Errorf("%s: %d, waits %v, %s%s", name, code, d.waits, d.out.String(), d.errs.String())
		}
		for _, want := range c.want {
			if !strings.Contains(d.out.String(), want) {
				t.Errorf("%s: no %s in %s", name, want, d.out.String())
			}
		}
	}
}

// moreOf seals another event of the subject, behind its last anchor.
func (f *fake) moreOf(subject string) {
	_, seals := sealed()
	last := seals[subject][len(seals[subject])-1]
	e := access.Event{Subject: subject, Kind: access.EventExtended, At: noon.Add(2 * time.Hour), Key: "x"}
	next, err := audit.Next(last, e, e.At)
	if err != nil {
		panic(err)
	}
	data, err := json.Marshal(map[string]any{"seal": next, "event": e})
	if err != nil {
		panic(err)
	}
	f.edit("/api/audit/chains?subject="+subject, "]}", ","+string(data)+"]}")
}

// edit changes a word in what is answered.
func (f *fake) edit(at, from, to string) {
	list := f.has["GET "+at]
	for i := range list {
		list[i].body = strings.ReplaceAll(list[i].body, from, to)
	}
}

func TestAnAuditThatIsNotUnderstood(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"audit --format xml", "table, jsonl or csv"}, {"audit -o json --format csv", "either"}, {"audit --kind Opend", "no kind of event"}, {"audit --from x", "--from"},
		{"audit verify --anchors http://a/b", "PORTCULLIS_ANCHORS_URL"}, {"audit verify --anchors https://a/b?sig=hush", "PORTCULLIS_ANCHORS_URL"}, {"audit verify --from 2027-01-01 --to 2026-01-01", "from is not before to"},
		{"audit verify --tables", "Tables__endpoint"},
	} {
		d := full(t).desk(nil)
		if code := d.run(t, strings.Fields(c.args)...); code != exitUsage || !strings.Contains(d.errs.String(), c.want) || strings.Contains(d.errs.String(), "hush") {
			t.Errorf("%s: %d %s", c.args, code, d.errs.String())
		}
	}
}
