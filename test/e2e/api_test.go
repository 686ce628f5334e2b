package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

const (
	subscriptionPath = "/api/policies/subscriptions/00000000-0000-0000-0000-000000000001"
	bare             = subscriptionPath + "/resourceGroups/prod/virtualMachines/bare-1"
	barePolicy       = `{"scope":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/bare-1","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT1H"}],"requestors":["*"],"baseline":false}`
	noneSource       = `{"name":"none","kind":"standard","secrets":["PORTCULLIS_SECRET_NONE"],"mapping":{"ticket":"payload.id"},"sample":{"id":"CHG1"}}`
	nobodysRequest   = "/api/access-requests/ar-aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// api calls the API and holds every answer against the API's own document.
type api struct {
	t        *testing.T
	document map[string]map[string]struct{ OperationID string }
	check    validator.Validator
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{t: t}
	res, err := http.Get(os.Getenv("FUNCTIONS_ENDPOINT") + "/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &parsed); err != nil {
		t.Fatal(err)
	}
	a.document = map[string]map[string]struct{ OperationID string }{}
	for path, item := range parsed.Paths {
		a.document[path] = map[string]struct{ OperationID string }{}
		for method, raw := range item {
			var op struct{ OperationID string }
			if method != "parameters" && json.Unmarshal(raw, &op) == nil {
				a.document[path][method] = op
			}
		}
	}
	doc, err := libopenapi.NewDocument(data)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	if a.check, errs = validator.NewValidator(doc); len(errs) > 0 {
		t.Fatal(errs)
	}
	return a
}

// answer is what a call gave: the status, the reason of a problem and the body.
type answer struct {
	status       int
	reason, etag string
	body         []byte
}

func (a *api) call(token, method, path, body string, headers ...string) answer {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, os.Getenv("FUNCTIONS_ENDPOINT")+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	res.Body = io.NopCloser(bytes.NewReader(data))
	// While the handler's process is being started again, the host answers for it.
	if res.StatusCode == http.StatusBadGateway {
		return answer{status: res.StatusCode}
	}
	if ok, faults := a.check.ValidateHttpResponse(r, res); !ok {
		for _, f := range faults {
			a.t.Errorf("%s %s answers %d, which its document does not allow: %s: %s\n%s", method, path, res.StatusCode, f.Message, f.Reason, data)
		}
	}
	var p struct{ Reason string }
	_ = json.Unmarshal(data, &p) // a body without one has none
	return answer{res.StatusCode, p.Reason, res.Header.Get("ETag"), data}
}

var everyRole = []string{"", "Access.Request", "Access.RequestForOthers", "Access.ReadAll", "Portcullis.Administer"}

// TestEveryRouteByEveryRole holds each operation of the document against who may
// use it. What somebody without the role is told is nothing but that.
func TestEveryRouteByEveryRole(t *testing.T) {
	a := newAPI(t)
	anybody, asking := everyRole, everyRole[1:]
	readers, rulers := everyRole[3:], everyRole[4:]
	outside := strings.Replace(strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1), "203.0.113.7", "198.51.100.9", 1)
	cases := map[string]struct {
		allowed            []string
		method, path, body string
		headers            []string
	}{
		"me":                  {anybody, "GET", "/api/me", "", nil},
		"listRequests":        {asking, "GET", "/api/access-requests", "", nil},
		"requestAccess":       {everyRole[1:2], "POST", "/api/access-requests", outside, nil},
		"getRequest":          {asking, "GET", nobodysRequest, "", nil},
		"requestEvents":       {asking, "GET", nobodysRequest + "/events", "", nil},
		"extendRequest":       {asking, "POST", nobodysRequest + "/extend", `{"duration":"PT1H"}`, nil},
		"revokeRequest":       {asking, "POST", nobodysRequest + "/revoke", `{}`, nil},
		"listMachines":        {asking, "GET", "/api/machines", "", nil},
		"getMachine":          {asking, "GET", "/api/machines/00000000-0000-0000-0000-000000000001/prod/web-1", "", nil},
		"listPolicies":        {readers, "GET", "/api/policies", "", nil},
		"auditEvents":         {readers, "GET", "/api/audit/events?from=2026-01-01T00:00:00Z&pageSize=5", "", nil},
		"auditChain":          {readers, "GET", "/api/audit/chains?subject=lockdown", "", nil},
		"getLockdown":         {asking, "GET", "/api/lockdown", "", nil},
		"lockDown":            {rulers, "PUT", "/api/lockdown", `{"reason":"for all but those who may"}`, nil},
		"liftLockdown":        {rulers, "DELETE", "/api/lockdown", "", nil},
		"openapi":             {anybody, "GET", "/api/openapi.json", "", nil},
		"accessRequestSchema": {anybody, "GET", "/api/schemas/access-request", "", nil},
		"listSources":         {readers, "GET", "/api/sources", "", nil},
		"getSource":           {readers, "GET", "/api/sources/none", "", nil},
		"putSource":           {rulers, "PUT", "/api/sources/none", noneSource, []string{"If-Match", `"another"`}},
		"deleteSource":        {rulers, "DELETE", "/api/sources/none", "", []string{"If-Match", `"another"`}},
		"ticketSourceSchema":  {anybody, "GET", "/api/schemas/ticket-source", "", nil},
		"accessPolicySchema":  {anybody, "GET", "/api/schemas/access-policy", "", nil},
	}
	const prod = "/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/bare-1"
	for of, at := range map[string][2]string{"OfSubscription": {subscriptionPath, ""}, "OfResourceGroup": {subscriptionPath + "/resourceGroups/none", "/resourceGroups/none"}, "OfMachine": {bare, prod}} {
		path, body := at[0], strings.Replace(barePolicy, prod, at[1], 1)
		cases["getPolicy"+of] = cases["listPolicies"]
		c := cases["getPolicy"+of]
		c.path = path
		cases["getPolicy"+of] = c
		c.allowed, c.method, c.path, c.body, c.headers = rulers, "PUT", path+"?plan=true", body, []string{"If-None-Match", "*"}
		cases["putPolicy"+of] = c
		c.method, c.body, c.headers = "DELETE", "", []string{"If-Match", `"another"`}
		cases["deletePolicy"+of] = c
	}
	for path, item := range a.document {
		for method, op := range item {
			if _, ok := cases[op.OperationID]; !ok {
				t.Errorf("%s %s (%s) is not held against the roles", method, path, op.OperationID)
			}
		}
	}
	for _, role := range everyRole {
		flags := []string{"--role", role}
		if role == "" {
			flags = nil
		}
		token, err := w.token(t.Context(), "rolf@contoso.com", flags...)
		if err != nil {
			t.Fatal(err)
		}
		for op, c := range cases {
			body := c.body
			if op == "lockDown" && role == rulers[0] {
				body = `{"reason":""}` // the stack is shared
			}
			got := a.call(token, c.method, c.path, body, c.headers...)
			if may := slices.Contains(c.allowed, role); may == (got.reason == "role_required") || !may && got.status != http.StatusForbidden {
				t.Errorf("%s as %q: %d %s", op, role, got.status, got.body)
			}
			if open := op == "openapi" || strings.HasSuffix(op, "Schema"); !open && role == "" {
				if got := a.call("", c.method, c.path, body, c.headers...); got.status != http.StatusUnauthorized {
					t.Errorf("%s without a token: %d", op, got.status)
				}
			}
		}
	}
}

func TestBadPoliciesOverHTTP(t *testing.T) {
	a := newAPI(t)
	admin, err := w.token(t.Context(), "admin@contoso.com", "--role", "Portcullis.Administer")
	if err != nil {
		t.Fatal(err)
	}
	swap := func(from, to string) string { return strings.Replace(barePolicy, from, to, 1) }
	port := `{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT1H"}`
	for reason, body := range map[string]string{
		"port_twice":           swap(port, port+","+strings.Replace(port, "PT1H", "PT2H", 1)),
		"max_duration_invalid": swap("PT1H", "PT25H"),
		"source_host_bits":     swap("203.0.113.0/24", "203.0.113.7/24"),
		"field_unknown":        swap(`"baseline"`, `"basline"`),
		"scope_mismatch":       swap("bare-1", "web-1"),
	} {
		got := a.call(admin, "PUT", bare, body, "If-None-Match", "*")
		if got.status != http.StatusBadRequest || !strings.Contains(string(got.body), reason) {
			t.Errorf("%s: %d %s", reason, got.status, got.body)
		}
	}
	overlapping := a.call(admin, "PUT", bare, swap(port, port+","+strings.Replace(port, `"TCP"`, `"*"`, 1)), "If-None-Match", "*")
	if overlapping.status != http.StatusBadRequest || !strings.Contains(string(overlapping.body), "port_twice") {
		t.Errorf("overlapping protocols: %d %s", overlapping.status, overlapping.body)
	}
}

func TestTwoAdministratorsWriteOnePolicyAtOnce(t *testing.T) {
	a := newAPI(t)
	admin, err := w.token(t.Context(), "admin@contoso.com", "--role", "Portcullis.Administer")
	if err != nil {
		t.Fatal(err)
	}
	first := a.call(admin, "PUT", bare, barePolicy, "If-None-Match", "*")
	if first.status != http.StatusOK || first.etag == "" {
		t.Fatalf("%d %s", first.status, first.body)
	}
	if again := a.call(admin, "PUT", bare, barePolicy, "If-None-Match", "*"); again.status != http.StatusPreconditionFailed || again.reason != "policy_changed" {
		t.Errorf("created twice: %d %s", again.status, again.body)
	}
	if blind := a.call(admin, "PUT", bare, barePolicy); blind.status != http.StatusPreconditionRequired {
		t.Errorf("without a condition: %d %s", blind.status, blind.body)
	}
	tighter := strings.Replace(barePolicy, "PT1H", "PT30M", 1)
	second := a.call(admin, "PUT", bare, tighter, "If-Match", first.etag)
	if second.status != http.StatusOK || second.etag == first.etag {
		t.Errorf("%d %s", second.status, second.body)
	}
	if late := a.call(admin, "PUT", bare, barePolicy, "If-Match", first.etag); late.status != http.StatusPreconditionFailed {
		t.Errorf("over what the other wrote: %d %s", late.status, late.body)
	}
	if got := a.call(admin, "GET", bare, ""); got.etag != second.etag || !strings.Contains(string(got.body), "PT30M") {
		t.Errorf("%s %s", got.etag, got.body)
	}
	if gone := a.call(admin, "DELETE", bare, "", "If-Match", second.etag); gone.status != http.StatusOK {
		t.Errorf("%d %s", gone.status, gone.body)
	}
}

func TestAnothersGrantIsNobodysToGiveBackOrExtend(t *testing.T) {
	a := newAPI(t)
	bob, err := w.token(t.Context(), "bob@contoso.com", "--role", "Access.Request")
	if err != nil {
		t.Fatal(err)
	}
	made := a.call(w.alice, "POST", "/api/access-requests", strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1))
	var request struct{ ID string }
	if err := json.Unmarshal(made.body, &request); err != nil || made.status != http.StatusAccepted {
		t.Fatalf("%d %s", made.status, made.body)
	}
	at := "/api/access-requests/" + request.ID
	for path, body := range map[string]string{"/revoke": "{}", "/extend": `{"duration":"PT1H"}`} {
		theirs, nobodys := a.call(bob, "POST", at+path, body), a.call(bob, "POST", nobodysRequest+path, body)
		if theirs.status != http.StatusNotFound || theirs.reason != "request_unknown" || nobodys.reason != theirs.reason {
			t.Errorf("%s: %d %s; of none: %s", path, theirs.status, theirs.body, nobodys.body)
		}
	}
	if back := a.call(w.alice, "POST", at+"/revoke", `{"reason":"done"}`); back.status != http.StatusAccepted {
		t.Errorf("%d %s", back.status, back.body)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := a.call(w.alice, "GET", at, "")
		if strings.Contains(string(got.body), `"UserRequested"`) && strings.Contains(string(got.body), `"endedAtUtc"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it never ended: %s", got.body)
		}
	}
	if late := a.call(w.alice, "POST", at+"/extend", `{"duration":"PT1H"}`); late.status != http.StatusConflict || late.reason != "grant_not_live" {
		t.Errorf("extending what has ended: %d %s", late.status, late.body)
	}
}
