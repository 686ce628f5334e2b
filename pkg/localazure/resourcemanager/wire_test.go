package resourcemanager

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const ssh = `{"properties":{"access":"Allow","direction":"Inbound","protocol":"Tcp","priority":200,
 "sourceAddressPrefix":"203.0.113.7","sourcePortRange":"*","destinationAddressPrefix":"10.0.1.4","destinationPortRange":"22"}}`

func sshAt(priority int) string { return strings.Replace(ssh, "200", strconv.Itoa(priority), 1) }

func whole(rules ...string) string {
	return `{"location":"westeurope","tags":{"owner":"net"},"properties":{"flushConnection":true,"securityRules":[` + strings.Join(rules, ",") + `]}}`
}

func named(name string, priority int) string {
	return `{"name":"` + name + `",` + sshAt(priority)[1:]
}

func TestAuthentication(t *testing.T) {
	f := start(t, nil)
	for header, code := range map[string]string{
		"":           "AuthenticationFailed",
		"Basic good": "AuthenticationFailed",
		"Bearer ":    "AuthenticationFailed",
		"Bearer bad": "InvalidAuthenticationToken",
	} {
		a := f.want(401, code, "GET", web, "", "Authorization", header)
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%q: no WWW-Authenticate", header)
		}
	}
	closed := start(t, func(c *Config) { c.Verify = nil })
	closed.want(401, "InvalidAuthenticationToken", "GET", web, "")
}

func TestEdges(t *testing.T) {
	f := start(t, nil)
	f.want(400, "MissingApiVersionParameter", "GET", web+"?x=y", "")
	f.want(400, "InvalidApiVersionParameter", "GET", web+"?api-version=latest", "")
	f.want(404, "InvalidResourceId", "GET", "/elsewhere", "")
	f.want(404, "InvalidResourceId", "GET", web+"%2F..", "")
	f.want(400, "InvalidSubscriptionId", "GET", "/subscriptions/mine", "")
	f.want(404, "SubscriptionNotFound", "GET", "/subscriptions/00000000-0000-0000-0000-000000000002", "")
	f.want(404, "ResourceGroupNotFound", "GET", strings.Replace(web, "/prod/", "/dev/", 1), "")
	f.want(404, "ResourceGroupNotFound", "PUT", strings.Replace(web, "/prod/", "/dev/", 1), whole())
	f.want(404, "ResourceNotFound", "GET", nsgs+"/none", "")
	f.want(404, "ResourceNotFound", "GET", nsgs+"/none/securityRules/x", "")
	f.want(404, "NotFound", "GET", web+"/securityRules/x", "")
	f.want(404, "ResourceNotFound", "GET", rg+"/providers/Microsoft.Compute/virtualMachines/none", "")
	f.want(404, "ResourceNotFound", "GET", rg+"/providers/Microsoft.Network/virtualNetworks/none/subnets/web", "")
	f.want(404, "ResourceNotFound", "GET", rg+"/providers/Microsoft.Network/virtualNetworks/none/subnets", "")
	f.want(404, "NotFound", "GET", rg+"/providers/Microsoft.Network/virtualNetworks/vnet-prod/subnets/none", "")
	f.want(404, "InvalidResourceType", "GET", rg+"/providers/Microsoft.Network/loadBalancers/x", "")
	f.want(404, "ParentResourceNotFound", "PUT", nsgs+"/none/securityRules/x", ssh)
	f.want(405, "MethodNotAllowed", "POST", web, "")
	f.want(405, "MethodNotAllowed", "DELETE", rg+"/providers/Microsoft.Compute/virtualMachines/web-1", "")
	f.want(405, "MethodNotAllowed", "PUT", web+"/defaultSecurityRules/DenyAllInBound", ssh)
	f.want(400, "InvalidRequestContent", "PUT", web, "{")
	f.want(400, "InvalidRequestContent", "PUT", web, "[]")
	f.want(400, "InvalidRequestContent", "PUT", web, whole()+whole())
	f.want(413, "RequestContentTooLarge", "PUT", web, strings.Repeat(" ", maxBody+1))
	f.want(400, "InvalidSkipToken", "GET", nsgs+"?api-version=2025-05-01&$skipToken=x!", "")
	if got := f.Writes(); got != 0 {
		t.Errorf("refused writes were counted: %d", got)
	}

	f.want(200, "", "GET", "/subscriptions", "")
	f.want(200, "", "GET", "/subscriptions/"+sub, "")
	f.want(200, "", "GET", "/subscriptions/"+sub+"/resourcegroups", "")
	f.want(200, "", "GET", rg, "")
	f.want(200, "", "GET", web+"/defaultSecurityRules/denyallinbound", "")
	lower := f.want(200, "", "GET", strings.ToUpper(web[:14])+strings.ToLower(web[14:]), "")
	if lower.at("id") != web || lower.header.Get("Etag") != lower.at("etag") {
		t.Errorf("id = %v, ETag = %q, etag = %v", lower.at("id"), lower.header.Get("Etag"), lower.at("etag"))
	}
}

func TestStatsNeedNoToken(t *testing.T) {
	f := start(t, nil)
	f.call("GET", web, "")
	f.call("PUT", web+"/securityRules/ssh", ssh)
	a := f.want(200, "", "GET", "/_local/stats", "", "Authorization", "")
	if fmt.Sprint(a.body) != "map[nsgWrites:1 reads:1]" {
		t.Errorf("stats = %s", a.raw)
	}
}

// The shape of a rule's life on the wire, with the states and ETags between.
func TestRuleOperations(t *testing.T) {
	f := start(t, func(c *Config) { c.OperationLatency = 10 * time.Second })
	rule := web + "/securityRules/ssh"
	etags := map[any]bool{f.call("GET", web, "").at("etag"): true}

	put := f.want(201, "", "PUT", rule, ssh)
	operation := put.header.Get("Azure-AsyncOperation")
	if !strings.HasPrefix(operation, f.web.URL+"/subscriptions/"+sub+"/providers/Microsoft.Network/locations/westeurope/operations/") ||
		put.header.Get("Location") != "" || put.header.Get("Retry-After") != "10" {
		t.Errorf("headers of PUT: %v", put.header)
	}
	running := f.call("GET", web, "")
	if put.at("properties", "provisioningState") != "Updating" || running.at("properties", "provisioningState") != "Updating" {
		t.Errorf("states while running: %v, %v", put.at("properties", "provisioningState"), running.at("properties", "provisioningState"))
	}
	if put.at("etag") != running.at("etag") || etags[running.at("etag")] {
		t.Error("the ETag did not change at the start, or the rule's is not its group's")
	}
	etags[running.at("etag")] = true
	if got := f.call("GET", operation, "").at("status"); got != "InProgress" {
		t.Errorf("status = %v", got)
	}
	if got := f.call("GET", https, "").at("properties", "provisioningState"); got != "Succeeded" {
		t.Errorf("another rule is %v", got)
	}
	f.clock.advance(10 * time.Second)
	if got := f.call("GET", operation, ""); got.at("status") != "Succeeded" || got.header.Get("Retry-After") != "" {
		t.Errorf("status = %s, %v", got.raw, got.header)
	}
	settled := f.call("GET", rule, "")
	if settled.at("properties", "provisioningState") != "Succeeded" || etags[settled.at("etag")] {
		t.Errorf("after the end: %s", settled.raw)
	}

	f.want(200, "", "PUT", web+"/securityRules/SSH", sshAt(201))
	f.clock.advance(time.Minute)
	if got := f.call("GET", rule, ""); got.at("name") != "ssh" || fmt.Sprint(got.at("properties", "priority")) != "201" {
		t.Errorf("replaced: %s", got.raw)
	}

	remove := f.want(202, "", "DELETE", rule, "")
	location := remove.header.Get("Location")
	if location == "" || remove.header.Get("Azure-AsyncOperation") == "" || len(remove.raw) != 0 {
		t.Errorf("DELETE: %v %s", remove.header, remove.raw)
	}
	if got := f.want(200, "", "GET", rule, ""); got.at("properties", "provisioningState") != "Deleting" {
		t.Errorf("while deleting: %s", got.raw)
	}
	if got := f.want(202, "", "GET", location, ""); got.header.Get("Location") != location {
		t.Errorf("operationResults: %v", got.header)
	}
	f.clock.advance(time.Minute)
	f.want(204, "", "GET", location, "")
	f.want(404, "NotFound", "GET", rule, "")
	f.want(204, "", "DELETE", rule, "")
	f.want(404, "NotFound", "GET", strings.Replace(operation, "/operations/", "/operations/x", 1), "")
	if f.Writes() != 3 {
		t.Errorf("writes = %d, want 3: a DELETE of nothing is none", f.Writes())
	}
}

func TestZeroLatencyEndsAtTheNextRequest(t *testing.T) {
	f := start(t, nil)
	put := f.want(201, "", "PUT", web+"/securityRules/ssh", ssh)
	if put.at("properties", "provisioningState") != "Updating" || put.header.Get("Retry-After") != "" {
		t.Errorf("PUT: %s %v", put.raw, put.header)
	}
	if got := f.call("GET", put.header.Get("Azure-AsyncOperation"), "").at("status"); got != "Succeeded" {
		t.Errorf("first poll: %v", got)
	}
}

func TestWholeGroup(t *testing.T) {
	f := start(t, nil)
	created := f.want(201, "", "PUT", nsgs+"/fresh", `{"id":"ignored","etag":"ignored","location":"West Europe","zone":"kept","properties":{
	 "provisioningState":"ignored","resourceGuid":"ignored","future":{"kept":[1.50,true]},"gone":null,
	 "defaultSecurityRules":[{"name":"ignored"}],"securityRules":[`+named("a", 200)+`]}}`)
	if created.header.Get("Azure-AsyncOperation") == "" || created.at("id") != nsgs+"/fresh" || created.at("location") != "westeurope" {
		t.Errorf("created: %s", created.raw)
	}
	got := f.call("GET", nsgs+"/fresh", "")
	for _, want := range []string{`"future":{"kept":[1.50,true]}`, `"zone":"kept"`, `"name":"AllowVnetInBound"`, `"sourceAddressPrefixes":[]`} {
		if !strings.Contains(string(got.raw), want) {
			t.Errorf("%s is missing in %s", want, got.raw)
		}
	}
	if strings.Contains(string(got.raw), "ignored") || strings.Contains(string(got.raw), "gone") {
		t.Errorf("the client set what it cannot: %s", got.raw)
	}
	// What the next PUT leaves out is gone; the guid stays.
	f.want(200, "", "PUT", nsgs+"/FRESH", `{"location":"westeurope"}`)
	after := f.call("GET", nsgs+"/fresh", "")
	if strings.Contains(string(after.raw), "kept") || after.at("properties", "resourceGuid") != got.at("properties", "resourceGuid") ||
		len(after.at("properties", "securityRules").([]any)) != 0 {
		t.Errorf("after an empty PUT: %s", after.raw)
	}
	f.want(409, "InvalidResourceLocation", "PUT", web, `{"location":"eastus"}`)
	f.want(400, "LocationRequired", "PUT", web, `{"properties":{}}`)
	f.want(400, "InvalidRequestFormat", "PUT", web, `{"location":"westeurope","properties":[]}`)
	f.want(400, "InvalidRequestFormat", "PUT", web, `{"location":"westeurope","properties":{"securityRules":{}}}`)
	f.want(400, "InvalidRequestFormat", "PUT", web, `{"location":"westeurope","properties":{"securityRules":[1]}}`)
	f.want(400, "InvalidRequestFormat", "PUT", web, `{"location":"westeurope","properties":{"securityRules":[{"name":"x"}]}}`)
	f.want(400, "InvalidResourceName", "PUT", web, whole(named("-x", 200)))
	f.want(400, "InvalidResourceName", "PUT", nsgs+"/-x", whole())
	f.want(400, "DuplicateResourceName", "PUT", web, whole(named("x", 200), named("X", 201)))
	f.want(400, "SecurityRuleConflict", "PUT", web, whole(named("x", 200), named("y", 200)))
	f.want(400, "SecurityRuleConflict", "PUT", web+"/securityRules/x", sshAt(1000))
	f.want(200, "", "PUT", https, sshAt(1000)) // replacing a rule does not conflict with itself
}

func TestWholeGroupLimits(t *testing.T) {
	f := start(t, nil)
	rules := make([]string, 0, maxRulesPerGroup+1)
	for i := range maxRulesPerGroup + 1 {
		rules = append(rules, named(fmt.Sprintf("r%d", i), 100+i))
	}
	f.want(400, "SecurityRuleCountLimitReached", "PUT", nsgs+"/big", whole(rules...))
	f.want(201, "", "PUT", nsgs+"/big", whole(rules[:maxRulesPerGroup]...))
	f.want(400, "SecurityRuleCountLimitReached", "PUT", nsgs+"/big/securityRules/more", sshAt(4000))

	prefixes := make([]string, 0, maxPrefixesPerSide)
	for i := range maxPrefixesPerSide {
		prefixes = append(prefixes, fmt.Sprintf(`"198.%d.%d.1"`, 18+i/256, i%256))
	}
	wide := strings.Replace(named("wide", 300), `"sourceAddressPrefix":"203.0.113.7"`, `"sourceAddressPrefixes":[`+strings.Join(prefixes, ",")+`]`, 1)
	f.want(201, "", "PUT", nsgs+"/wide", whole(wide))
	f.want(400, "InvalidSecurityRule", "PUT", nsgs+"/wide", whole(wide, named("one", 301)))
}

func TestPreconditions(t *testing.T) {
	f := start(t, nil)
	etag := f.call("GET", web, "").header.Get("Etag")
	f.want(412, "PreconditionFailed", "PUT", web, whole(), "If-Match", `W/"other"`)
	f.want(412, "PreconditionFailed", "PUT", web, whole(), "If-None-Match", "*")
	f.want(412, "PreconditionFailed", "PUT", nsgs+"/none", whole(), "If-Match", "*")
	f.want(200, "", "PUT", web, whole(), "If-Match", etag)
	f.want(412, "PreconditionFailed", "PUT", web, whole(), "If-Match", etag)
	f.want(200, "", "PUT", web, whole(), "If-Match", "*")
	settled := f.call("GET", web, "").header.Get("Etag")
	f.want(200, "", "PUT", web, whole(), "If-Match", `"x", `+strings.TrimPrefix(settled, "W/"))
	f.want(201, "", "PUT", nsgs+"/none", whole(), "If-None-Match", "*")
}

func TestCompetingWrites(t *testing.T) {
	f := start(t, func(c *Config) { c.OperationLatency = 90 * time.Second })
	f.want(200, "", "PUT", web, whole(named("a", 200)))
	conflict := f.want(409, "AnotherOperationInProgress", "PUT", web, whole())
	one := f.want(429, "RetryableError", "PUT", web+"/securityRules/b", sshAt(201))
	f.want(429, "RetryableError", "DELETE", web+"/securityRules/a", "")
	if !strings.Contains(string(one.raw), `"code":"RetryableErrorDueToAnotherOperation"`) {
		t.Errorf("429: %s", one.raw)
	}
	if conflict.header.Get("Retry-After") != "90" || one.header.Get("Retry-After") != "90" {
		t.Errorf("Retry-After: %q, %q", conflict.header.Get("Retry-After"), one.header.Get("Retry-After"))
	}
	// Another group is another matter, and the first is free again in the end.
	f.want(201, "", "PUT", nsgs+"/nsg-db-1-nic/securityRules/b", sshAt(201))
	f.clock.advance(90 * time.Second)
	f.want(202, "", "DELETE", web+"/securityRules/a", "")

	// With superseding, a delete that is cancelled leaves its rule in force.
	f.Supersede(true)
	last := f.want(201, "", "PUT", web+"/securityRules/b", sshAt(201))
	f.clock.advance(90 * time.Second)
	if got := f.call("GET", web+"/securityRules/a", "").at("properties", "provisioningState"); got != "Succeeded" {
		t.Errorf("the rule whose removal was superseded is %v", got)
	}
	if got := f.call("GET", last.header.Get("Azure-AsyncOperation"), "").at("status"); got != "Succeeded" {
		t.Errorf("the last operation: %v", got)
	}
}

func TestLocks(t *testing.T) {
	f := start(t, nil)
	f.call("PUT", web, whole(named("a", 200)))
	f.SetLock(rg, CanNotDelete)
	a := f.want(409, "ScopeLocked", "DELETE", web+"/securityRules/a", "")
	if !strings.Contains(string(a.raw), "cannot perform delete operation because following scope(s) are locked") {
		t.Errorf("message: %s", a.raw)
	}
	// The way round that Azure leaves open: removing the rule with the whole group.
	f.want(200, "", "PUT", web, whole())
	f.want(404, "NotFound", "GET", web+"/securityRules/a", "")
	f.SetLock(strings.ToUpper(web)+"/", ReadOnly)
	f.want(409, "ScopeLocked", "PUT", web, whole())
	f.want(409, "ScopeLocked", "PUT", web+"/securityRules/a", ssh)
	f.want(200, "", "GET", web, "")
	f.want(200, "", "PUT", nsgs+"/nsg-web-1-nic", whole()) // only a prefix in letters
	f.SetLock(web, "")
	f.SetLock(rg, "")
	f.want(201, "", "PUT", web+"/securityRules/a", ssh)
	f.want(202, "", "DELETE", web+"/securityRules/a", "")
}

func TestDeny(t *testing.T) {
	f := start(t, nil)
	f.Deny("microsoft.network/networkSecurityGroups/write")
	f.want(403, "AuthorizationFailed", "PUT", web, whole())
	f.want(201, "", "PUT", web+"/securityRules/a", ssh)
	f.Deny("Microsoft.Compute")
	f.want(403, "AuthorizationFailed", "GET", rg+"/providers/Microsoft.Compute/virtualMachines/web-1", "")
	f.want(403, "AuthorizationFailed", "GET", rg+"/providers/Microsoft.Compute/virtualMachines/none", "")
	f.AllowAll()
	f.want(200, "", "PUT", web, whole())
}

func TestThrottling(t *testing.T) {
	f := start(t, nil)
	rule := web + "/securityRules/none"
	for i := range 200 {
		if a := f.call("DELETE", rule, ""); a.status != 204 || a.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Deletes") != strconv.Itoa(199-i) {
			t.Fatalf("DELETE %d = %d, remaining %q", i, a.status, a.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Deletes"))
		}
	}
	a := f.want(429, "SubscriptionRequestsThrottled", "DELETE", rule, "")
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q", a.header.Get("Retry-After"))
	}
	if a := f.want(200, "", "GET", web, ""); a.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Reads") != "249" {
		t.Errorf("reads share the bucket: %v", a.header)
	}
	f.clock.advance(100 * time.Millisecond)
	f.want(204, "", "DELETE", rule, "")
	f.want(429, "SubscriptionRequestsThrottled", "DELETE", rule, "")
}

func TestFaults(t *testing.T) {
	var fault *Fault
	f := start(t, func(c *Config) { c.Fault = func(*http.Request) *Fault { return fault } })
	fault = &Fault{Status: 503, Code: "ServiceUnavailable", RetryAfter: "7"}
	if a := f.want(503, "ServiceUnavailable", "PUT", web+"/securityRules/a", ssh); a.header.Get("Retry-After") != "7" {
		t.Errorf("Retry-After = %q", a.header.Get("Retry-After"))
	}
	fault.After = true
	f.want(503, "ServiceUnavailable", "PUT", web+"/securityRules/b", ssh)
	fault = &Fault{}
	req, err := http.NewRequestWithContext(t.Context(), "GET", f.web.URL+web+"?api-version=2025-05-01", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	if resp, err := f.web.Client().Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		t.Error("a lost reply arrived")
	}
	fault = nil
	f.want(404, "NotFound", "GET", web+"/securityRules/a", "")
	f.want(200, "", "GET", web+"/securityRules/b", "")
}

// A test or demo can move an address to another machine, and take one away.
func TestResourcesCanChange(t *testing.T) {
	f := start(t, nil)
	nic := rg + "/providers/Microsoft.Network/networkInterfaces/web-1-nic"
	changed := strings.Replace(string(f.call("GET", nic, "").raw), "10.0.1.4", "10.0.1.9", 1)
	if err := f.SetResource([]byte(changed)); err != nil {
		t.Fatal(err)
	}
	if got := f.call("GET", nic, ""); !strings.Contains(string(got.raw), "10.0.1.9") {
		t.Errorf("unchanged: %s", got.raw)
	}
	f.RemoveResource(strings.ToUpper(nic))
	f.want(404, "ResourceNotFound", "GET", nic, "")
	if got := f.call("GET", nsgs+"/nsg-web-1-nic", ""); got.at("properties", "networkInterfaces") != nil {
		t.Errorf("the group still names the interface: %s", got.raw)
	}
	subnet := rg + "/providers/Microsoft.Network/virtualNetworks/vnet-prod/subnets/new"
	if err := f.SetResource([]byte(`{"id":"` + subnet + `","properties":{"addressPrefix":"10.0.9.0/24"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := f.call("GET", rg+"/providers/Microsoft.Network/virtualNetworks/vnet-prod", ""); !strings.Contains(string(got.raw), "10.0.9.0/24") {
		t.Errorf("the network does not show its new subnet: %s", got.raw)
	}
	for _, bad := range []string{`{`, `{"properties":{}}`, `{"id":"` + subnet + `"}`, `{"id":"/x","properties":{}}`, `{"id":"` + web + `","properties":{}}`} {
		if err := f.SetResource([]byte(bad)); err == nil {
			t.Errorf("SetResource(%s) succeeded", bad)
		}
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	good := func() Config { return Config{Topology: sampleTopology(t), BaseURL: "https://localhost:1"} }
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"plain http":    func(c *Config) { c.BaseURL = "http://localhost:1" },
		"no host":       func(c *Config) { c.BaseURL = "https://" },
		"no topology":   func(c *Config) { c.Topology = Topology{} },
		"negative page": func(c *Config) { c.PageSize = -1 },
		"negative time": func(c *Config) { c.OperationLatency = -1 },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
