package resourcemanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

const (
	sub   = "00000000-0000-0000-0000-000000000001"
	rg    = "/subscriptions/" + sub + "/resourceGroups/prod"
	nsgs  = rg + "/providers/Microsoft.Network/networkSecurityGroups"
	web   = nsgs + "/nsg-web-subnet"
	https = web + "/securityRules/AllowHttpsInBound"
)

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func sampleTopology(t testing.TB) Topology {
	t.Helper()
	data, err := os.ReadFile("../../../docs/examples/topology.json")
	if err != nil {
		t.Fatal(err)
	}
	topology, err := ParseTopology(data)
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// fixture is a server behind TLS with a clock of its own.
type fixture struct {
	*Server
	t     *testing.T
	web   *httptest.Server
	clock *clock
}

func start(t *testing.T, configure func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	f.web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.ServeHTTP(w, r) }))
	f.web.StartTLS()
	t.Cleanup(f.web.Close)
	cfg := Config{
		Verify: func(_ context.Context, token, audience string) error {
			if token != "good" || audience != "https://management.azure.com" {
				return errors.New("refused")
			}
			return nil
		},
		Topology: sampleTopology(t),
		BaseURL:  f.web.URL,
		Now:      f.clock.now,
	}
	if configure != nil {
		configure(&cfg)
	}
	var err error
	if f.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

// answer is what a raw request gets.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (a answer) code() string {
	e, _ := a.body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

// at walks into the body: at("properties", "provisioningState").
func (a answer) at(path ...string) any {
	var v any = a.body
	for _, p := range path {
		o, _ := v.(map[string]any)
		v = o[p]
	}
	return v
}

// call makes a raw request. headers are name, value, …
func (f *fixture) call(method, path, body string, headers ...string) answer {
	f.t.Helper()
	if !strings.HasPrefix(path, "https://") {
		if !strings.Contains(path, "?") {
			path += "?api-version=2025-05-01"
		}
		path = f.web.URL + path
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.web.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		f.t.Fatal(err)
	}
	if len(a.raw) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(a.raw))
		decoder.UseNumber()
		if err := decoder.Decode(&a.body); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, a.raw)
		}
	}
	return a
}

// want makes a raw request and checks its status and error code.
func (f *fixture) want(status int, code, method, path, body string, headers ...string) answer {
	f.t.Helper()
	a := f.call(method, path, body, headers...)
	if a.status != status || a.code() != code {
		f.t.Errorf("%s %s = %d %q, want %d %q: %s", method, path, a.status, a.code(), status, code, a.raw)
	}
	return a
}

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "good", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// options point an SDK client at the server. Retries are off: tests look at the
// first answer.
func (f *fixture) options() *arm.ClientOptions {
	return &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Audience: "https://management.azure.com", Endpoint: f.web.URL},
			}},
			Transport: f.web.Client(),
			Retry:     policy.RetryOptions{MaxRetries: -1},
		},
		DisableRPRegistration: true,
	}
}

func (f *fixture) groupsClient() *armnetwork.SecurityGroupsClient {
	f.t.Helper()
	return must[*armnetwork.SecurityGroupsClient](f.t)(armnetwork.NewSecurityGroupsClient(sub, credential{}, f.options()))
}

func (f *fixture) rulesClient() *armnetwork.SecurityRulesClient {
	f.t.Helper()
	return must[*armnetwork.SecurityRulesClient](f.t)(armnetwork.NewSecurityRulesClient(sub, credential{}, f.options()))
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// drain reads all pages of a list.
func drain[T any](t *testing.T, pager *runtime.Pager[T]) []T {
	t.Helper()
	var pages []T
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	return pages
}

func errorCode(err error) (int, string) {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode, e.ErrorCode
	}
	return 0, ""
}
