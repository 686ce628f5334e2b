package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
)

const secret = "header.payload.signature"

// step is one answer of the API.
type step struct {
	status int
	header map[string]string
	body   string
	drop   bool // break the connection instead
}

// api answers the steps in turn, the last one for ever, and keeps what came.
type api struct {
	*httptest.Server
	steps []step

	mu     sync.Mutex
	calls  []*http.Request
	bodies []string
}

func (a *api) got() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

func (a *api) sent() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.bodies)
}

func serve(t *testing.T, steps ...step) *api {
	t.Helper()
	a := &api{steps: steps}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body) // what was cut off shows in the test
		a.mu.Lock()
		a.calls, a.bodies = append(a.calls, r), append(a.bodies, string(data))
		s := a.steps[min(len(a.calls), len(a.steps))-1]
		a.mu.Unlock()
		if s.drop {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		if s.status >= 400 {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		for k, v := range s.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.body)
	}))
	t.Cleanup(a.Close)
	return a
}

// dial gives a client that notes its waits instead of waiting.
func (a *api) dial(t *testing.T, waits *[]time.Duration) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{
		URL: a.URL + "/", UserAgent: "test/1",
		Token: client.TokenFunc(func(context.Context) (string, error) { return secret, nil }),
		Sleep: func(_ context.Context, d time.Duration) error { *waits = append(*waits, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problemOf(t *testing.T, err error) *client.Error {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%v is not an answer's error", err)
	}
	if strings.Contains(e.Error(), secret) {
		t.Errorf("%v holds the token", e)
	}
	return e
}

const busy = `{"code":"unavailable","reason":"azure_unreachable","detail":"try again"}`

func TestATokenGoesOnlyWhereNobodyReadsIt(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://p.example.com": true, "https://p.example.com/base/": true, "http://127.0.0.1:7071": true, "http://localhost:7071": true, "http://[::1]:7071": true,
		"": false, "p.example.com": false, "http://p.example.com": false, "http://localhost.example.com": false, "ftp://p.example.com": false,
		"https://me:pw@p.example.com": false, "https://p.example.com?x=1": false, "https://p.example.com#x": false, "https://": false,
	} {
		_, err := client.New(client.Options{URL: url, Token: client.TokenFunc(nil)})
		if (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%v holds a password", err)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var waits []time.Duration
	elsewhere := serve(t, step{status: 200, body: `{}`})
	a := serve(t, step{status: 307, header: map[string]string{"Location": elsewhere.URL, "Content-Type": "text/html"}})
	_, err := a.dial(t, &waits).Me(t.Context())
	if e := problemOf(t, err); e.Status != 307 || len(elsewhere.got()) != 0 {
		t.Errorf("%+v, %d calls elsewhere", e, len(elsewhere.got()))
	}
}

func TestACallSaysWhoAndWhat(t *testing.T) {
	var waits []time.Duration
	a := serve(t, step{status: 202, body: `{"id":"ar-1","outcome":"Accepted","virtualMachines":[{"id":"/v","ports":[{"number":22,"status":"Initiating"}]}],"new":1}`})
	out, err := a.dial(t, &waits).Submit(t.Context(), client.NewRequest{VirtualMachines: []client.NewTarget{{ID: "/v", Ports: []client.NewPort{{Number: 22, Duration: "PT1H"}}}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if out.Value.VirtualMachines[0].Ports[0].Status != "Initiating" || !strings.Contains(string(out.Raw), `"new":1`) {
		t.Errorf("%+v, raw %s", out.Value, out.Raw)
	}
	r := a.got()[0]
	if r.Method != "POST" || r.URL.Path != "/api/access-requests" || r.Header.Get("Authorization") != "Bearer "+secret ||
		r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") != "test/1" || len(r.Header.Get("Idempotency-Key")) < 20 {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	if want := `{"virtualMachines":[{"id":"/v","ports":[{"number":22,"duration":"PT1H"}]}]}`; a.sent()[0] != want {
		t.Errorf("sent %s, want %s", a.sent()[0], want)
	}
}

func TestARetryIsTheSameRequestAndWaitsAsAsked(t *testing.T) {
	var waits []time.Duration
	a := serve(t, step{drop: true}, step{status: 503, body: busy, header: map[string]string{"Retry-After": "7"}}, step{status: 429, body: `{}`, header: map[string]string{"Retry-After": "2"}},
		step{status: 409, body: `{"code":"aborted","reason":"x"}`}, step{status: 202, body: `{"id":"ar-1"}`})
	if _, err := a.dial(t, &waits).Submit(t.Context(), client.NewRequest{}, ""); err != nil {
		t.Fatal(err)
	}
	if len(a.got()) != 5 || len(waits) != 4 || waits[1] != 7*time.Second || waits[2] != 2*time.Second || waits[0] <= 0 || waits[3] <= 0 {
		t.Fatalf("%d calls, waits %v", len(a.got()), waits)
	}
	for i, r := range a.got() {
		if r.Header.Get("Idempotency-Key") != a.got()[0].Header.Get("Idempotency-Key") || a.sent()[i] != a.sent()[0] {
			t.Errorf("attempt %d is another request", i)
		}
	}
}

func TestAtMostSoLongAndSoOften(t *testing.T) {
	var waits []time.Duration
	long := serve(t, step{status: 429, body: `{"code":"resource_exhausted","reason":"too_many_requests","detail":"no more this hour"}`, header: map[string]string{"Retry-After": "1800"}})
	_, err := long.dial(t, &waits).Me(t.Context())
	if e := problemOf(t, err); e.RetryAfter != 30*time.Minute || e.Reason != "too_many_requests" || len(long.got()) != 1 || len(waits) != 0 {
		t.Errorf("%+v after %d calls, waits %v", e, len(long.got()), waits)
	}
	never := serve(t, step{status: 503, body: busy})
	_, err = never.dial(t, &waits).Me(t.Context())
	if e := problemOf(t, err); !e.Repeated || len(never.got()) != 5 {
		t.Errorf("%+v after %d calls", e, len(never.got()))
	}
	final := serve(t, step{status: 403, body: `{"code":"permission_denied","reason":"not_permitted","detail":"no","violations":[{"path":"a","reason":"b","message":"c"}]}`})
	_, err = final.dial(t, &waits).Me(t.Context())
	if e := problemOf(t, err); len(final.got()) != 1 || e.Violations[0] != (client.Violation{Path: "a", Reason: "b", Message: "c"}) || len(e.Raw) == 0 {
		t.Errorf("%+v after %d calls", e, len(final.got()))
	}
}

// After a lost answer nobody knows whether a change under an ETag was made, and
// its repeat would be refused for what it did itself.
func TestAConditionalChangeIsRepeatedOnlyIfItWasNotMade(t *testing.T) {
	const scope = "/subscriptions/s/resourceGroups/g x"
	var waits []time.Duration
	lost := serve(t, step{drop: true}, step{status: 200, body: `{}`})
	if _, err := lost.dial(t, &waits).PutPolicy(t.Context(), scope, []byte(`{}`), client.ChangeOptions{ETag: `"1"`}); err == nil || len(lost.got()) != 1 {
		t.Errorf("%v after %d calls", err, len(lost.got()))
	}
	told := serve(t, step{status: 503, body: busy}, step{status: 200, body: `{"machines":[{"id":"/v"}]}`, header: map[string]string{"ETag": `"2"`}})
	out, err := told.dial(t, &waits).PutPolicy(t.Context(), scope, []byte(`{"a":1}`), client.ChangeOptions{ETag: `"1"`, CloseGrants: true})
	if err != nil || len(told.got()) != 2 || out.ETag != `"2"` || out.Value.Machines[0].ID != "/v" {
		t.Errorf("%+v, %v after %d calls", out, err, len(told.got()))
	}
	if r := told.got()[0]; r.URL.EscapedPath() != "/api/policies/subscriptions/s/resourceGroups/g%20x" || r.URL.RawQuery != "closeGrants=true" || r.Header.Get("If-Match") != `"1"` || told.sent()[0] != `{"a":1}` {
		t.Errorf("%s %v %s", r.URL, r.Header, told.sent()[0])
	}
	plan := serve(t, step{drop: true}, step{status: 200, body: `{}`})
	if _, err := plan.dial(t, &waits).PutPolicy(t.Context(), scope, []byte(`{}`), client.ChangeOptions{Plan: true}); err != nil || len(plan.got()) != 2 || plan.got()[1].Header.Get("If-None-Match") != "*" || plan.got()[1].URL.RawQuery != "plan=true" {
		t.Errorf("a plan: %v after %d calls", err, len(plan.got()))
	}
}

func TestAListIsReadToItsEndAndNowhereElse(t *testing.T) {
	var waits []time.Duration
	elsewhere := serve(t, step{status: 200, body: `{"items":[]}`})
	a := serve(t, step{status: 200, body: `{"items":[{"name":"a"},{"name":"b"}],"nextLink":"` + elsewhere.URL + `/api/machines?continuationToken=x%2Fy"}`}, step{status: 200, body: `{"items":[{"name":"c"}]}`})
	all, err := a.dial(t, &waits).Machines(t.Context(), client.MachineFilter{ResourceGroup: "prod"})
	if err != nil || len(all.Items) != 3 || all.Items[2].Name != "c" || string(all.Raw[0]) != `{"name":"a"}` {
		t.Fatalf("%+v, %v", all, err)
	}
	if a.got()[0].URL.RawQuery != "pageSize=200&resourceGroup=prod" || a.got()[1].URL.Query().Get("continuationToken") != "x/y" || len(elsewhere.got()) != 0 {
		t.Errorf("%s, %s, %d calls elsewhere", a.got()[0].URL, a.got()[1].URL, len(elsewhere.got()))
	}
	b := serve(t, step{status: 200, body: `{"items":[{"id":"1"},{"id":"2"},{"id":"3"}],"nextLink":"/x?continuationToken=y"}`})
	some, err := b.dial(t, &waits).Requests(t.Context(), client.RequestFilter{From: time.Unix(0, 0)}, 2)
	if err != nil || len(some.Items) != 2 || !some.More || len(b.got()) != 1 || b.got()[0].URL.RawQuery != "from=1970-01-01T00%3A00%3A00Z&pageSize=2" {
		t.Errorf("%+v, %v, %s", some, err, b.got()[0].URL)
	}
}

func TestWhatIsNotTheAPIIsNotTakenForIt(t *testing.T) {
	var waits []time.Duration
	for name, c := range map[string]struct {
		step
		code, reason string
	}{
		"a page":             {step{status: 200, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}, "internal", "answer_unreadable"},
		"a sign-in":          {step{status: 401, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}, "unauthenticated", "http_401"},
		"no JSON":            {step{status: 200, body: "{"}, "internal", "answer_unreadable"},
		"a flood":            {step{status: 200, body: strings.Repeat(" ", 17<<20)}, "internal", "answer_too_large"},
		"a stopped app":      {step{status: 403, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}, "permission_denied", "http_403"},
		"a problem in pages": {step{status: 502, body: "<html>" + secret, header: map[string]string{"Content-Type": "text/html"}}, "unavailable", "http_502"},
	} {
		_, err := serve(t, c.step).dial(t, &waits).Me(t.Context())
		if e := problemOf(t, err); e.Code != c.code || e.Reason != c.reason {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	a := serve(t, step{status: 200, body: `{}`})
	gone := errors.New("no such file")
	c, err := client.New(client.Options{URL: a.URL, Token: client.TokenFunc(func(context.Context) (string, error) { return "", gone })})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Me(t.Context())
	if e := problemOf(t, err); e.Code != client.Unauthenticated || !errors.Is(e, gone) || len(a.got()) != 0 {
		t.Errorf("%v after %d calls", e, len(a.got()))
	}
}

func TestNobodyThere(t *testing.T) {
	var waits []time.Duration
	a := serve(t, step{status: 200, body: `{}`})
	a.Close()
	c := a.dial(t, &waits)
	_, err := c.DeletePolicy(t.Context(), "/subscriptions/s", client.ChangeOptions{ETag: `"1"`})
	if e := problemOf(t, err); e.Reason != "unreachable" || !e.Retryable() || len(waits) != 4 {
		t.Errorf("%v, waits %v", e, waits)
	}
	for _, scope := range []string{"", "web-1", "/subscriptions", "/subscriptions/s/x/g", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n", "/subscriptions//resourceGroups/g"} {
		if _, err := c.Policy(t.Context(), scope); err == nil || errors.As(err, new(*client.Error)) {
			t.Errorf("%q is no scope: %v", scope, err)
		}
	}
}
