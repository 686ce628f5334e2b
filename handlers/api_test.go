package handlers_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
)

var (
	nobody = strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1)
	bob    = access.Caller{Name: "bob@contoso.com", ObjectID: "o", TenantID: "t"}
)

// keyed posts a request with the Idempotency-Keys.
func keyed(t *testing.T, f *fake, body string, keys ...string) *httptest.ResponseRecorder {
	t.Helper()
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: f, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/api/access-requests", strings.NewReader(body))
	r.Header["Content-Type"], r.Header["Idempotency-Key"] = []string{"application/json; charset=utf-8"}, keys
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) (p struct{ Reason, Instance string }) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return p
}

func TestAPathThatIsNotPlainIsNoAddress(t *testing.T) {
	for _, path := range []string{
		"/api//access-requests", "//api/access-requests", "/api/./access-requests", "/api/x/../access-requests", "/api/access-requests/",
		"/api/../RequestAccess", "/api/access-requests/ar-1/../ar-2", "/api/access-requests/ar-1/", "/api/access-requests/ar-1/x", "/API/access-requests", "/api",
	} {
		f := &fake{caller: bob}
		for _, method := range []string{"GET", "POST"} {
			w := call(t, f, method, path, nobody)
			if w.Code != http.StatusNotFound || problemOf(t, w).Reason != "route_unknown" || w.Header().Get("Location") != "" {
				t.Errorf("%s %s: %d to %q", method, path, w.Code, w.Header().Get("Location"))
			}
		}
		if len(f.asks) != 0 {
			t.Errorf("%s submitted", path)
		}
	}
}

func TestMethodsThatAnAddressHas(t *testing.T) {
	for _, c := range []struct{ method, path, allow string }{
		{"DELETE", "/api/access-requests", "POST, GET, HEAD"}, {"PUT", "/api/access-requests/ar-1", "GET, HEAD"}, {"POST", "/api/schemas/access-request", "GET, HEAD"},
	} {
		if w := call(t, &fake{caller: bob}, c.method, c.path, ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allows %q", c.method, c.path, w.Code, w.Header().Get("Allow"))
		}
	}
	if w := call(t, &fake{}, "HEAD", "/api/schemas/access-request", ""); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestAnIdempotencyKeyNamesTheRequestUnlessItsBodyDoes(t *testing.T) {
	withID := strings.Replace(nobody, `{`, `{"id":"of-the-body",`, 1)
	for _, c := range []struct {
		name, body string
		keys       []string
		want       string // the client's id; "" for a refusal
	}{
		{"a key", nobody, []string{"k-1"}, "k-1"},
		{"an id and a key", withID, []string{"k-1"}, "of-the-body"},
		{"the longest key", nobody, []string{strings.Repeat("k", 128)}, strings.Repeat("k", 128)},
		{"a longer one", nobody, []string{strings.Repeat("k", 129)}, ""},
		{"an empty one", nobody, []string{""}, ""},
		{"two", nobody, []string{"k-1", "k-1"}, ""},
		{"a space", nobody, []string{"k 1"}, ""},
		{"not ASCII", nobody, []string{"schlüssel"}, ""},
	} {
		f := &fake{caller: bob}
		w := keyed(t, f, c.body, c.keys...)
		switch {
		case c.want == "" && (w.Code != http.StatusBadRequest || problemOf(t, w).Reason != "id_invalid" || len(f.asks) != 0):
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		case c.want != "" && (w.Code != http.StatusAccepted || f.asks[0].ClientID != c.want):
			t.Errorf("%s: %d, %+v", c.name, w.Code, f.asks)
		}
	}
	f := &fake{caller: bob}
	keyed(t, f, nobody)
	keyed(t, f, nobody)
	if len(f.asks) != 2 || f.asks[0].ClientID == f.asks[1].ClientID || len(f.asks[0].ClientID) < 16 {
		t.Errorf("without a name, two calls are two requests: %+v", f.asks)
	}
}

func TestARefusalNamesItsOwnAddress(t *testing.T) {
	f := &fake{caller: bob, err: access.Errorf(access.PermissionDenied, "not_permitted", "no")}
	id := access.NewRequestID(access.Sender{Channel: access.ChannelHTTP, Principal: bob.Principal()}, "k")
	if p := problemOf(t, keyed(t, f, nobody, "k")); p.Instance != "/api/access-requests/"+string(id) || p.Reason != "not_permitted" {
		t.Errorf("%+v", p)
	}
	if p := problemOf(t, keyed(t, f, "{", "k")); p.Instance != "/api/access-requests" {
		t.Errorf("of one that is no request: %+v", p)
	}
}

func TestTheChallengeSaysWhetherATokenCame(t *testing.T) {
	for reason, want := range map[string]string{
		"token_missing": "Bearer", "token_invalid": `Bearer error="invalid_token"`, "token_expired": `Bearer error="invalid_token"`,
	} {
		f := &fake{verifyErr: access.Errorf(access.Unauthenticated, reason, "no")}
		if w := keyed(t, f, nobody); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d %q", reason, w.Code, w.Header().Get("WWW-Authenticate"))
		}
	}
}

func TestBodiesThatAreNotTaken(t *testing.T) {
	for reason, body := range map[string]string{
		"not_json": "hello", "body_too_large": `{"justification":"` + strings.Repeat("x", 256<<10) + `"}`,
	} {
		if w := keyed(t, &fake{caller: bob}, body); w.Code != http.StatusBadRequest || problemOf(t, w).Reason != reason {
			t.Errorf("%s: %d %s", reason, w.Code, w.Body)
		}
	}
}

func TestOnlyWhoMayReadEverythingLearnsTheCauseOfARefusal(t *testing.T) {
	id := access.NewRequestID(bob.Sender(), "1")
	rec := access.Record{ID: id, Outcome: access.Refused, Refusal: &access.Refusal{Reason: "not_permitted"}, Cause: "no policy stands there"}
	for _, c := range []struct {
		role  access.Role
		shown bool
	}{{access.RoleRequest, false}, {access.RoleRequestForOthers, false}, {access.RoleReadAll, true}, {access.RoleAdminister, true}} {
		by := bob
		by.Roles = []access.Role{c.role}
		w := call(t, &fake{caller: by, rec: rec}, "GET", "/api/access-requests/"+string(id), "")
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), rec.Cause) != c.shown {
			t.Errorf("%s: %d %s", c.role, w.Code, w.Body)
		}
	}
}
