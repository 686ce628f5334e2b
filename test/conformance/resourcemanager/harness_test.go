// Package resourcemanager holds the stand-in for Azure Resource Manager against
// what is on public record of the real one. Each row states one thing that Azure
// does and where that is written; what is inferred says so. With -v the run
// prints the table.
package resourcemanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
)

// The sources that many rows share. A recording is what Azure answered to a
// vendor's own tests.
const (
	recording   = "Azure/azure-cli@08acbdc2, command_modules/network/tests/latest/recordings/test_network_nsg.yaml"
	ruleSpec    = "Azure/azure-rest-api-specs, Microsoft.Network 2025-05-01, NetworkSecurityGroupRuleCreate.json"
	deleteSpec  = "Azure/azure-rest-api-specs, Microsoft.Network 2025-05-01, NetworkSecurityGroupRuleDelete.json"
	groupSpec   = "Azure/azure-rest-api-specs, Microsoft.Network 2025-05-01, NetworkSecurityGroupCreateWithRule.json"
	model       = "Azure/azure-rest-api-specs, Microsoft.Network 2025-05-01, SecurityRulePropertiesFormat"
	asyncDoc    = "learn.microsoft.com, Track asynchronous Azure operations"
	throttleDoc = "learn.microsoft.com, Understand how Azure Resource Manager throttles requests"
	limitsDoc   = "learn.microsoft.com, Azure subscription and service limits, networking"
	overviewDoc = "learn.microsoft.com, Network security groups overview, security rules"
	errorsDoc   = "learn.microsoft.com, Troubleshoot common Azure deployment errors"
	locksDoc    = "learn.microsoft.com, Lock your resources to protect your infrastructure"
)

func inferred(why string) string { return "inferred: " + why }

// row is one thing that Azure does.
type row struct {
	what   string
	source string
	try    func(a *azure)
}

// check tries each row against a server of its own and prints the table.
func check(t *testing.T, rows []row) {
	t.Helper()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		result := "FAIL"
		if t.Run(r.what, func(t *testing.T) { r.try(start(t)) }) {
			result = "ok"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", result, r.what, r.source)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("what Azure does, and where it is written:\n%s", &table)
}

// What the sample topology holds.
const (
	subscription = "/subscriptions/00000000-0000-0000-0000-000000000001"
	resources    = subscription + "/resourceGroups/prod"
	groups       = resources + "/providers/Microsoft.Network/networkSecurityGroups"
	group        = groups + "/nsg-web-subnet"
	oldRule      = group + "/securityRules/AllowHttpsInBound"
	rule         = group + "/securityRules/ssh"
	version      = "?api-version=2025-05-01"

	latency = 10 * time.Second
)

// azure is a server behind TLS, whose clock stands until a row moves it.
type azure struct {
	*testing.T
	*resourcemanager.Server
	web *httptest.Server

	mu  sync.Mutex
	now time.Time
}

func start(t *testing.T) *azure {
	t.Helper()
	a := &azure{T: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	a.web = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.ServeHTTP(w, r) }))
	t.Cleanup(a.web.Close)
	data, err := os.ReadFile("../../../docs/examples/topology.json")
	if err != nil {
		t.Fatal(err)
	}
	topology, err := resourcemanager.ParseTopology(data)
	if err != nil {
		t.Fatal(err)
	}
	a.Server, err = resourcemanager.New(resourcemanager.Config{
		Topology: topology, BaseURL: a.web.URL, OperationLatency: latency, PageSize: 2,
		Now: func() time.Time {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.now
		},
		Verify: func(_ context.Context, token, audience string) error {
			if token != "good" || audience != "https://management.azure.com" {
				return errors.New("refused")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *azure) advance(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// at walks into the body: at("properties", "provisioningState"). A number in the
// path is an index.
func (r answer) at(path ...string) string {
	var v any = r.body
	for _, p := range path {
		switch node := v.(type) {
		case map[string]any:
			v = node[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(node) {
				return ""
			}
			v = node[i]
		default:
			return ""
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// call makes a request: a path gets the api-version if it has no query, and a
// full URL is left as it is. headers are name, value, …
func (a *azure) call(method, path, body string, headers ...string) answer {
	a.Helper()
	if strings.HasPrefix(path, "/") {
		if !strings.Contains(path, "?") {
			path += version
		}
		path = a.web.URL + path
	}
	req, err := http.NewRequestWithContext(a.Context(), method, path, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := a.web.Client().Do(req)
	if err != nil {
		a.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		a.Fatal(err)
	}
	out := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if len(raw) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		if err := decoder.Decode(&out.body); err != nil {
			a.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return out
}

// want makes a request and checks the status and the error's code, "" for none.
func (a *azure) want(status int, code, method, path, body string, headers ...string) answer {
	a.Helper()
	out := a.call(method, path, body, headers...)
	if out.status != status || out.at("error", "code") != code {
		a.Fatalf("%s %s = %d %q, want %d %q: %s", method, path, out.status, out.at("error", "code"), status, code, out.raw)
	}
	return out
}

// same checks a value that a row is about.
func (a *azure) same(what, got, want string) {
	a.Helper()
	if got != want {
		a.Errorf("%s is %q, want %q", what, got, want)
	}
}

// says checks that an answer holds the words.
func (a *azure) says(r answer, words ...string) {
	a.Helper()
	for _, w := range words {
		if !strings.Contains(r.raw, w) {
			a.Errorf("%q is missing in %s", w, r.raw)
		}
	}
}

// body is a rule that Azure accepts, with some of its properties changed; null
// takes one away.
func body(change string) string {
	properties := map[string]any{
		"access": "Allow", "direction": "Inbound", "protocol": "Tcp", "priority": 200,
		"sourceAddressPrefix": "203.0.113.7", "sourcePortRange": "*",
		"destinationAddressPrefix": "10.0.1.4", "destinationPortRange": "22",
	}
	if err := json.Unmarshal([]byte("{"+change+"}"), &properties); err != nil {
		panic(err) // the row is written wrongly
	}
	for k, v := range properties {
		if v == nil {
			delete(properties, k)
		}
	}
	data, err := json.Marshal(map[string]any{"properties": properties})
	if err != nil {
		panic(err)
	}
	return string(data)
}

func named(name, change string) string { return `{"name":"` + name + `",` + body(change)[1:] }

// whole is a group of rules.
func whole(rules ...string) string {
	return `{"location":"westeurope","properties":{"securityRules":[` + strings.Join(rules, ",") + `]}}`
}
