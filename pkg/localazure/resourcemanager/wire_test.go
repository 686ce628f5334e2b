package resourcemanager

import (
	"strconv"
	"strings"
	"testing"
)

const ssh = `{"properties":{"access":"Allow","direction":"Inbound","protocol":"Tcp","priority":200,
 "sourceAddressPrefix":"203.0.113.7","sourcePortRange":"*","destinationAddressPrefix":"10.0.1.4","destinationPortRange":"22"}}`

func sshAt(priority int) string { return strings.Replace(ssh, "200", strconv.Itoa(priority), 1) }

func whole(rules ...string) string {
	return `{"location":"westeurope","tags":{"owner":"net"},"properties":{"flushConnection":true,"securityRules":[` + strings.Join(rules, ",") + `]}}`
}

// What the stand-in is not, it says; and it bounds what it reads. What Azure does
// is in test/conformance/resourcemanager.
func TestEdges(t *testing.T) {
	f := start(t, nil)
	f.want(404, "InvalidResourceId", "GET", "/elsewhere", "")
	f.want(404, "InvalidResourceId", "GET", web+"%2F..", "")
	f.want(405, "MethodNotAllowed", "POST", web, "")
	f.want(405, "MethodNotAllowed", "DELETE", rg+"/providers/Microsoft.Compute/virtualMachines/web-1", "")
	f.want(405, "MethodNotAllowed", "PUT", web+"/defaultSecurityRules/DenyAllInBound", ssh)
	f.want(413, "RequestContentTooLarge", "PUT", web, strings.Repeat(" ", maxBody+1))
	f.want(400, "InvalidSkipToken", "GET", nsgs+"?api-version=2025-05-01&$skipToken=x!", "")
	if got := f.Stats(); got.NSGWrites+len(got.Writes)+len(got.Deletes) != 0 {
		t.Errorf("refused writes were counted: %+v", got)
	}

	f.want(200, "", "GET", "/subscriptions", "")
	f.want(200, "", "GET", "/subscriptions/"+sub, "")
	f.want(200, "", "GET", "/subscriptions/"+sub+"/resourcegroups", "")
	f.want(200, "", "GET", rg, "")
	f.want(200, "", "GET", web+"/defaultSecurityRules/denyallinbound", "")
	closed := start(t, func(c *Config) { c.Verify = nil })
	closed.want(401, "InvalidAuthenticationToken", "GET", web, "")
}

func TestStatsNeedNoToken(t *testing.T) {
	f := start(t, nil)
	f.want(200, "", "GET", strings.ToUpper(web[:14])+strings.ToLower(web[14:]), "")
	f.want(404, "NotFound", "GET", web+"/securityRules/ssh", "")
	f.want(404, "InvalidResourceType", "GET", rg+"/providers/Some.Thing/else/x", "")
	put := f.want(201, "", "PUT", web+"/securityRules/ssh", ssh)
	f.want(200, "", "GET", put.header.Get("Azure-AsyncOperation"), "")
	f.want(202, "", "DELETE", web+"/securityRules/ssh", "")
	f.want(200, "", "GET", web, "") // ends the operation
	f.want(204, "", "DELETE", web+"/securityRules/ssh", "")
	f.want(200, "", "PUT", web, whole())
	f.want(400, "LocationRequired", "PUT", web, "{}")
	a := f.want(200, "", "GET", "/_local/stats", "", "Authorization", "")
	const want = `{"reads":{"Microsoft.Network/locations/operations":1,"Microsoft.Network/networkSecurityGroups":2,"Microsoft.Network/networkSecurityGroups/securityRules":1},` +
		`"writes":{"Microsoft.Network/networkSecurityGroups":1,"Microsoft.Network/networkSecurityGroups/securityRules":1},` +
		`"deletes":{"Microsoft.Network/networkSecurityGroups/securityRules":1},"nsgWrites":3}`
	if string(a.raw) != want {
		t.Errorf("stats = %s", a.raw)
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
