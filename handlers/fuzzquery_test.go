package handlers_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// FuzzPrecondition changes a policy under whatever the headers say: it is changed in
// place of the one version that is named, or as a new one, or not at all.
func FuzzPrecondition(f *testing.F) {
	for _, s := range []string{`"v1"`, `v1`, `*`, `"*"`, `""`, `W/"v1"`, `"a","b"`, `"a" `, ` "a"`, `"`, "\"é\"", "\"a\x00\""} {
		f.Add(s, "", true)
		f.Add("", s, true)
		f.Add(s, "*", false)
	}
	f.Fuzz(func(t *testing.T, match, none string, put bool) {
		d := &desk{}
		method, body := http.MethodDelete, ""
		if put {
			method, body = http.MethodPut, policyBody
		}
		var headers []string
		if match != "" {
			headers = append(headers, "If-Match", match)
		}
		if none != "" {
			headers = append(headers, "If-None-Match", none)
		}
		w := d.call(t, method, policyPath, body, headers...)
		done := d.put != nil || d.deleted != ""
		switch {
		case w.Code >= 400:
			if done {
				t.Errorf("%q, %q: %d, and done", match, none, w.Code)
			}
		case !done:
			t.Errorf("%q, %q: %d, and nothing done", match, none, w.Code)
		case none != "":
			if match != "" || none != "*" || !put || d.options.Version != "" {
				t.Errorf("%q, %q: taken for a new one", match, none)
			}
		case match != `"`+d.options.Version+`"` || d.options.Version == "" || strings.ContainsAny(d.options.Version, `",*`):
			t.Errorf("%q is taken for the version %q", match, d.options.Version)
		}
	})
}

// FuzzAuditQuery asks for events and for a chain: what is asked for is what the text
// says, or it is refused.
func FuzzAuditQuery(f *testing.F) {
	for _, s := range []string{
		"subject=ar-1&pageSize=5", "from=2026-11-24T09:00:00Z&to=x", "kind=opened", "kind=OPENED&kind=x", "virtualMachine=/x", "pageSize=-1", "continuationToken=%00&actor=%ff",
		"from=2026-11-24T09:00:00%2B01:00&to=9999-12-31T23:59:59Z&requestor=Alice", "a=%zz;b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		// As the server reads it: what is malformed is left out.
		said, _ := url.ParseQuery(query)
		for _, path := range []string{"/api/audit/events", "/api/audit/chains"} {
			a := &audits{}
			w := a.ask(t, path, query)
			if w.Code == http.StatusBadRequest {
				if a.asked {
					t.Errorf("%q is refused, and asked for", query)
				}
				continue
			}
			var doc struct{ NextLink string }
			if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK || !a.asked {
				t.Fatalf("%s %q: %d %s", path, query, w.Code, w.Body)
			}
			subject, token := a.subject, a.token
			if path == "/api/audit/events" {
				subject, token = a.filter.Subject, a.filter.Token
				if size := a.filter.PageSize; size < 0 || size > broker.MaxPageSize || a.filter.Actor != said.Get("actor") || a.filter.Requestor != said.Get("requestor") {
					t.Errorf("%q asks for %+v", query, a.filter)
				}
				if (said.Get("from") == "") != a.filter.From.IsZero() && !strings.HasPrefix(said.Get("from"), "0001-01-01T") || (said.Get("virtualMachine") == "") != (a.filter.VM == "") || (said.Get("kind") == "") != (a.filter.Kind == "") {
					t.Errorf("%q asks for %+v", query, a.filter)
				}
			}
			if subject != said.Get("subject") || token != said.Get("continuationToken") {
				t.Errorf("%q asks for %q from %q", query, subject, token)
			}
			if doc.NextLink != "" && !strings.HasPrefix(doc.NextLink, path+"?") {
				t.Errorf("%q goes on at %q", query, doc.NextLink)
			}
		}
	})
}

func (a *audits) ask(t *testing.T, path, query string) *httptest.ResponseRecorder {
	t.Helper()
	fk := &fake{caller: bob}
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{fk}, Changes: deskFake{fk}, Machines: nomachines{}, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: a, Identities: fk, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.URL.RawQuery = query
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

// FuzzEventPrompt names the one subject whose events are looked at, or none.
func FuzzEventPrompt(f *testing.F) {
	for _, s := range []string{`{"subject":"ar-1"}`, `{"subject":"/subscriptions/x"}`, `{"Subject":"x"}`, `{"subject":"a","subject":"b"}`, `{"subject":null}`, `{"subject":"\ud800"}`, `[]`, ``, `{"subject":"a"}{}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got []string
		publish := handlers.PublishEvents(func(_ context.Context, subject string) error {
			got = append(got, subject)
			return nil
		}, slog.New(slog.DiscardHandler))
		if err := publish(t.Context(), message(t, body, "m", "")); err != nil {
			t.Errorf("%q is not completed: %v", body, err)
		}
		if len(got) == 0 {
			return
		}
		var doc map[string]string
		if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc) != 1 || len(got) != 1 || doc["subject"] != got[0] || got[0] == "" {
			t.Errorf("%q asks for %q: %v", body, got, err)
		}
	})
}

// FuzzMachineQuery asks for machines, and for one by its address.
func FuzzMachineQuery(f *testing.F) {
	for _, s := range []string{"status=Shut&pageSize=3", "status=x", "subscriptionId=%00", "resourceGroup=a/b&continuationToken=//evil.example"} {
		f.Add("web-1", s)
		f.Add("..", s)
		f.Add("a/b", s)
	}
	f.Fuzz(func(t *testing.T, name, query string) {
		m := &machinesAsked{}
		fk := &fake{caller: bob}
		api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{fk}, Changes: deskFake{fk}, Machines: m, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: fk, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/api/machines", "/api/machines/00000000-0000-0000-0000-000000000001/prod/" + name} {
			*m = machinesAsked{}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.URL = &url.URL{Path: path, RawQuery: query}
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			if w.Code == http.StatusOK != m.asked {
				t.Errorf("%q: %d, asked: %v", path, w.Code, m.asked)
			}
			if m.query.Size < 0 || m.query.Size > broker.MaxPageSize {
				t.Errorf("%q: a page of %d", query, m.query.Size)
			}
			if m.id == "" {
				continue
			}
			if id, err := access.ParseVM(string(m.id)); err != nil || id != m.id || !strings.EqualFold(m.id.Name(), name) {
				t.Errorf("%q is taken for %s: %v", path, m.id, err)
			}
		}
	})
}

type machinesAsked struct {
	machines
	asked bool
	id    access.ResourceID
	query broker.MachineQuery
}

func (m *machinesAsked) Machines(_ context.Context, _ access.Caller, q broker.MachineQuery) (broker.MachineList, error) {
	m.asked, m.query = true, q
	return broker.MachineList{Next: "more"}, nil
}

func (m *machinesAsked) Machine(_ context.Context, _ access.Caller, id access.ResourceID, _ netip.Addr) (broker.MachineView, error) {
	m.asked, m.id = true, id
	return broker.MachineView{}, nil
}
