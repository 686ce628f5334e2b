package handlers_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// sourceDesk remembers what it was asked.
type sourceDesk struct {
	put              *ticket.Source
	deleted, version string
}

func (d *sourceDesk) standing() broker.StandingSource {
	s, err := ticket.DecodeSource([]byte(hookSource))
	if err != nil {
		panic(err)
	}
	s.Version = "v1"
	return broker.StandingSource{Source: s, Secrets: []broker.SecretStanding{{Name: "PORTCULLIS_SECRET_OLD", State: broker.SecretUnresolved}, {Name: "PORTCULLIS_SECRET_DESK", State: broker.SecretSet}}}
}

func (d *sourceDesk) List(context.Context, access.Caller) ([]broker.StandingSource, error) {
	return []broker.StandingSource{d.standing()}, nil
}

func (d *sourceDesk) Get(_ context.Context, _ access.Caller, name string) (broker.StandingSource, error) {
	if name != "desk" {
		return broker.StandingSource{}, access.Errorf(access.NotFound, "source_unknown", "there is none")
	}
	return d.standing(), nil
}

func (d *sourceDesk) Put(_ context.Context, _ access.Caller, s ticket.Source, version string) (broker.StandingSource, error) {
	d.put, d.version = &s, version
	return d.standing(), nil
}

func (d *sourceDesk) Delete(_ context.Context, _ access.Caller, name, version string) error {
	d.deleted, d.version = name, version
	return nil
}

func (d *sourceDesk) call(t *testing.T, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t", Name: "admin@contoso.com"}}
	api, err := handlers.NewAccessAPI(handlers.APIParts{
		Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: nopolicies{}, Sources: d, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: f, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

func TestSourcesAreReadWithTheirVersionAndTheStateOfTheirSecrets(t *testing.T) {
	d := &sourceDesk{}
	if w := d.call(t, "GET", "/api/sources/desk", ""); w.Code != 200 || w.Header().Get("ETag") != `"v1"` || !strings.Contains(w.Body.String(), `"PORTCULLIS_SECRET_DESK"`) {
		t.Error(w.Code, w.Header(), w.Body)
	}
	if w := d.call(t, "GET", "/api/sources", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"unresolved"`) || !strings.Contains(w.Body.String(), `"webhook": "/webhooks/desk"`) {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "GET", "/api/sources/none", ""); w.Code != 404 || problemOf(t, w).Reason != "source_unknown" {
		t.Error(w.Code, w.Body)
	}
}

func TestASourceIsChangedByItsVersionAlone(t *testing.T) {
	for _, c := range []struct {
		path, body, reason string
		headers            []string
		status             int
		version            string
	}{
		{"desk", hookSource, "condition_required", nil, 428, ""},
		{"desk", hookSource, "if_match_invalid", []string{"If-Match", "*"}, 400, ""},
		{"desk", hookSource, "", []string{"If-Match", `"v1"`}, 200, "v1"},
		{"desk", hookSource, "", []string{"If-None-Match", "*"}, 200, ""},
		{"other", hookSource, "name_mismatch", []string{"If-None-Match", "*"}, 400, ""},
		{"desk", "{}", "source_invalid", []string{"If-None-Match", "*"}, 400, ""},
	} {
		d := &sourceDesk{}
		w := d.call(t, "PUT", "/api/sources/"+c.path, c.body, c.headers...)
		if w.Code != c.status || (d.put != nil) != (c.status == 200) || d.version != c.version {
			t.Errorf("%v: %d %s", c.headers, w.Code, w.Body)
		}
		if c.reason != "" && problemOf(t, w).Reason != c.reason {
			t.Errorf("%v: %s", c.headers, w.Body)
		}
	}
	d := &sourceDesk{}
	if w := d.call(t, "DELETE", "/api/sources/desk", "", "If-None-Match", "*"); w.Code != 428 || d.deleted != "" {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "DELETE", "/api/sources/desk", "", "If-Match", `"v1"`); w.Code != 200 || d.deleted != "desk" || d.version != "v1" {
		t.Error(w.Code, w.Body)
	}
}
