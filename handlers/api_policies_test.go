package handlers_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// What tests of other parts need not answer.
type (
	nopolicies  struct{ handlers.Policies }
	machines    = handlers.Machines
	nomachines  struct{ machines }
	nolockdowns struct{ handlers.Lockdowns }
	noaudits    struct{ handlers.Audits }
	nosources   struct{ handlers.SourceDesk }
)

const (
	scope      = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod"
	policyPath = "/api/policies/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod"
	policyBody = `{"scope":"` + scope + `","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT1H"}],"requestors":["*"],"baseline":true}`
)

// desk remembers what it was asked.
type desk struct {
	put     *policy.AccessPolicy
	deleted access.ResourceID
	options broker.ChangeOptions
	err     error
}

func (d *desk) stored() policy.AccessPolicy {
	p, err := accessjson.DecodePolicy([]byte(policyBody))
	if err != nil {
		panic(err)
	}
	p.Version = "v1"
	return p
}

func (d *desk) List(context.Context, access.Caller) ([]policy.AccessPolicy, error) {
	return []policy.AccessPolicy{d.stored()}, d.err
}

func (d *desk) Get(_ context.Context, _ access.Caller, at access.ResourceID) (policy.AccessPolicy, error) {
	if at != scope {
		return policy.AccessPolicy{}, access.Errorf(access.NotFound, "policy_unknown", "none stands at %s", at)
	}
	return d.stored(), d.err
}

func (d *desk) Put(_ context.Context, _ access.Caller, p policy.AccessPolicy, o broker.ChangeOptions) (broker.PolicyChange, error) {
	d.put, d.options = &p, o
	p.Version = "v2"
	return broker.PolicyChange{Policy: p, Machines: []broker.MachinePlan{{VM: scope + "/x", Groups: []broker.GroupPlan{{NSG: scope + "/y"}}}}}, d.err
}

func (d *desk) Delete(_ context.Context, _ access.Caller, at access.ResourceID, o broker.ChangeOptions) (broker.PolicyChange, error) {
	d.deleted, d.options = at, o
	return broker.PolicyChange{}, d.err
}

func (d *desk) call(t *testing.T, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t", Name: "admin@contoso.com", Roles: []access.Role{access.RoleAdminister, "Other.App.Role"}}}
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: d, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: f, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
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

func TestPoliciesAreReadWithTheirVersion(t *testing.T) {
	d := &desk{}
	w := d.call(t, "GET", policyPath, "")
	if w.Code != 200 || w.Header().Get("ETag") != `"v1"` || !strings.Contains(w.Body.String(), `"maxRequestAccessDuration": "PT1H"`) {
		t.Error(w.Code, w.Header(), w.Body)
	}
	if w := d.call(t, "GET", "/api/policies", ""); w.Code != 200 || !strings.Contains(w.Body.String(), scope) {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "GET", policyPath+"/virtualMachines/web-1", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "policy_unknown") {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "GET", "/api/policies/subscriptions/none", ""); w.Code != 400 {
		t.Error(w.Code, w.Body)
	}
}

func TestAPolicyIsChangedByItsVersionAlone(t *testing.T) {
	for _, c := range []struct {
		headers []string
		status  int
		version string
	}{
		{nil, 428, ""},
		{[]string{"If-Match", "*"}, 400, ""},
		{[]string{"If-Match", "v1"}, 400, ""},
		{[]string{"If-Match", `v1"`}, 400, ""},
		{[]string{"If-Match", `W/"v1"`}, 400, ""},
		{[]string{"If-Match", `"v1", "v2"`}, 400, ""},
		{[]string{"If-Match", `"v1"`, "If-Match", `"v2"`}, 428, ""},
		{[]string{"If-Match", `"v1"`, "If-None-Match", "*"}, 428, ""},
		{[]string{"If-None-Match", `"v1"`}, 428, ""},
		{[]string{"If-Match", `"v1"`}, 200, "v1"},
		{[]string{"If-None-Match", "*"}, 200, ""},
	} {
		d := &desk{}
		w := d.call(t, "PUT", policyPath, policyBody, c.headers...)
		if w.Code != c.status || (d.put != nil) != (c.status == 200) || d.options.Version != c.version {
			t.Errorf("%v: %d %+v %s", c.headers, w.Code, d.options, w.Body)
		}
	}
	d := &desk{err: access.Errorf(access.ConditionFailed, "policy_changed", "somebody else has changed the policy")}
	if w := d.call(t, "PUT", policyPath, policyBody, "If-Match", `"v0"`); w.Code != 412 || !strings.Contains(w.Body.String(), "somebody else") {
		t.Error(w.Code, w.Body)
	}
	d = &desk{}
	if w := d.call(t, "DELETE", policyPath, "", "If-None-Match", "*"); w.Code != 428 || d.deleted != "" {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "DELETE", policyPath+"?plan=true&closeGrants=true", "", "If-Match", `"v1"`); w.Code != 200 || d.deleted != scope || !d.options.Plan || !d.options.CloseGrants {
		t.Error(w.Code, w.Body)
	}
	if w := d.call(t, "DELETE", policyPath+"?plan=yes", "", "If-Match", `"v1"`); w.Code != 400 {
		t.Error(w.Code, w.Body)
	}
}

func TestAPolicyGoesToItsOwnAddress(t *testing.T) {
	d := &desk{}
	if w := d.call(t, "PUT", policyPath+"/virtualMachines/web-1", policyBody, "If-None-Match", "*"); w.Code != 400 || !strings.Contains(w.Body.String(), "scope_mismatch") || d.put != nil {
		t.Error(w.Code, w.Body)
	}
	w := d.call(t, "PUT", policyPath, policyBody, "If-None-Match", "*")
	if w.Header().Get("ETag") != `"v2"` || !strings.Contains(w.Body.String(), `"networkSecurityGroups"`) || !strings.Contains(w.Body.String(), `"notAllowedGrants": []`) {
		t.Error(w.Header(), w.Body)
	}
}

func TestMeShowsTheAddressThatThePlatformVouchesFor(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{nil, ""},
		{[]string{"X-Forwarded-For", "203.0.113.7:50412"}, "203.0.113.7"},
		{[]string{"X-Forwarded-For", "10.0.0.1, 203.0.113.7"}, "203.0.113.7"},
		{[]string{"X-Forwarded-For", "10.0.0.1", "X-Forwarded-For", "203.0.113.7:1"}, "203.0.113.7"},
		{[]string{"X-Forwarded-For", "[2001:db8::7]:50412"}, "2001:db8::7"},
		{[]string{"X-Forwarded-For", "2001:db8::7"}, "2001:db8::7"},
		{[]string{"X-Forwarded-For", "[::ffff:203.0.113.7]:80"}, "203.0.113.7"},
		{[]string{"X-Forwarded-For", "203.0.113.7, unknown"}, ""},
		{[]string{"X-Forwarded-For", "203.0.113.7,"}, ""},
		{[]string{"X-Forwarded-For", "fe80::1%eth0"}, ""},
		{[]string{"X-Forwarded-For", "0.0.0.0"}, ""},
	} {
		w := (&desk{}).call(t, "GET", "/api/me", "", c.headers...)
		has := strings.Contains(w.Body.String(), `"address"`)
		if w.Code != http.StatusOK || has != (c.want != "") || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "Other.App") {
			t.Errorf("%v: %d %s", c.headers, w.Code, w.Body)
		}
	}
}
