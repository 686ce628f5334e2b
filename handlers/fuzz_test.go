package handlers_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// served is what the API answers to a request as it is.
func served(t *testing.T, f *fake, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: f, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

// A prompt makes the broker look at the one group that its text names, by the
// broker's time alone, or is none.
func FuzzPrompt(f *testing.F) {
	const nsg = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/p/providers/Microsoft.Network/networkSecurityGroups/n"
	for _, s := range []string{
		`{"nsg":"` + nsg + `"}`, `{"NSG":"` + nsg + `"}`, `{"nsg":"` + nsg + `","nsg":"x"}`, `{"nsg":"` + nsg + `","at":"2030-01-01T00:00:00Z"}`, `{"nsg":"` + nsg + `/securityRules/r"}`,
		`{"nsg":"/subscriptions/../x"}`, `[]`, ``, `{"nsg":"` + nsg + `"}{}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got []access.ResourceID
		err := handlers.ReconcileNsg(func(_ context.Context, id access.ResourceID, at time.Time) error {
			got = append(got, id)
			if !at.IsZero() {
				t.Errorf("%q sets the clock to %v", body, at)
			}
			return nil
		})(t.Context(), message(t, body, "m", ""))
		if err != nil {
			if len(got) != 0 || access.CodeOf(err) != access.InvalidArgument {
				t.Errorf("%q: %v, %v", body, got, err)
			}
			return
		}
		var doc map[string]string
		if e := json.Unmarshal([]byte(body), &doc); e != nil || len(doc) != 1 || len(got) != 1 {
			t.Fatalf("%q was taken: %v, %v", body, got, e)
		}
		if id, err := access.ParseResourceID(doc["nsg"]); err != nil || id != got[0] || id.Type() != access.TypeNSG {
			t.Errorf("%q is of %s: %v", body, got[0], err)
		}
	})
}

// The address of who calls is the last one of the header, which the platform
// wrote; whatever stands before it changes nothing.
func FuzzClientAddress(f *testing.F) {
	for _, s := range []string{"203.0.113.7", "203.0.113.7:1234", "[2001:db8::1]:443", "1.2.3.4, 5.6.7.8:9", "::ffff:1.2.3.4", "fe80::1%eth0", "", ",", "unknown", "[::1", "0.0.0.0"} {
		f.Add(s, "198.51.100.1, ")
	}
	f.Fuzz(func(t *testing.T, vouched, made string) {
		ask := func(header string) string {
			r := httptest.NewRequest("GET", "/api/me", nil)
			r.Header["X-Forwarded-For"] = []string{header}
			w := served(t, &fake{caller: bob}, r)
			var me struct{ Address string }
			if err := json.Unmarshal(w.Body.Bytes(), &me); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			return me.Address
		}
		if strings.Contains(vouched, ",") {
			return // the platform writes one address
		}
		alone := ask(vouched)
		if beside := ask(made + "," + vouched); beside != alone {
			t.Errorf("%q is %s, behind %q %s", vouched, alone, made, beside)
		}
		if alone == "" {
			return
		}
		a, err := netip.ParseAddr(alone)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
			t.Errorf("%q is taken for %s: %v", vouched, alone, err)
		}
		if _, err := access.ParseSource(alone); err != nil {
			t.Errorf("%q is taken for %s, which cannot be a source: %v", vouched, alone, err)
		}
	})
}

// Whatever is in the query of a list, it asks for what the text says or is
// refused, and where a list goes on is an address of this app.
func FuzzListQuery(f *testing.F) {
	for _, s := range []string{"pageSize=10", "pageSize=0", "pageSize=1e3", "status=Initiated&continuationToken=x", "virtualMachine=/x", "from=2026-01-01T00:00:00Z&to=x", "a=%zz&pageSize=5", "continuationToken=//evil.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/api/access-requests", nil)
		r.URL.RawQuery = query
		fk := &fake{caller: bob}
		w := served(t, fk, r)
		if w.Code == http.StatusBadRequest {
			if fk.by.ObjectID != "" {
				t.Errorf("%q is refused, and asked for", query)
			}
			return
		}
		var doc struct{ NextLink string }
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK || fk.by.ObjectID == "" {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
		if size := fk.filter.PageSize; size < 0 || size > broker.MaxPageSize {
			t.Errorf("%q: a page of %d", query, size)
		}
		if !strings.HasPrefix(doc.NextLink, "/api/access-requests?") || !strings.Contains(doc.NextLink, "continuationToken=more") {
			t.Errorf("%q goes on at %q", query, doc.NextLink)
		}
	})
}
