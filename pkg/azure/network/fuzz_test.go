package network_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// answering is a Resource Manager that answers whatever it is told to.
type answering func(*http.Request) *http.Response

func (a answering) Do(r *http.Request) (*http.Response, error) { return a(r), nil }

func answered(r *http.Request, status int, body string, header http.Header) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r, ProtoMajor: 1, ProtoMinor: 1}
}

func over(t *testing.T, a answering) *network.Network {
	t.Helper()
	n, err := network.New(token{}, &arm.ClientOptions{ClientOptions: policy.ClientOptions{Transport: a, Retry: policy.RetryOptions{MaxRetries: -1}}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// FuzzGroup reads whatever Resource Manager may answer and puts a rule of ours into
// it: what was there goes back as it came, or nothing is written.
func FuzzGroup(f *testing.F) {
	rule := `{"name":"a","properties":{"priority":100,"direction":"Inbound","access":"Allow","protocol":"Tcp","sourceAddressPrefix":"*","destinationAddressPrefixes":["10.0.0.4","10.0.0.5"],"sourcePortRange":"*","destinationPortRange":"22"}}`
	group := func(rules, more string) string {
		return fmt.Sprintf(`{"id":%q,"etag":"W/\"1\"","location":"westeurope","properties":{"provisioningState":"Succeeded","securityRules":[%s]%s}}`, webNSG, rules, more)
	}
	for _, s := range []string{
		group(rule, ""), group(rule, `,"unknown":1`), group("null", ""), group(`{"properties":null}`, ""), group(`{"name":"b","properties":{"x":{"y":[1e400]}}}`, ""),
		group(rule+","+rule, `,"subnets":[{"id":"/x"},null],"defaultSecurityRules":[null]`), `{}`, `[]`, `null`, `{"id":"/","properties":{}}`, group(strings.Replace(rule, "100", "1e2", 1), ""),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var sent []byte
		n := over(t, func(r *http.Request) *http.Response {
			if r.Method == http.MethodPut {
				sent, _ = io.ReadAll(r.Body)
				return answered(r, http.StatusOK, `{"properties":{"provisioningState":"Succeeded"}}`, http.Header{})
			}
			return answered(r, http.StatusOK, body, http.Header{"Content-Type": {"application/json"}})
		})
		g, err := n.Group(t.Context(), webNSG)
		if err != nil {
			if access.CodeOf(err) == access.NotFound {
				t.Errorf("%q is taken for none: %v", body, err)
			}
			return
		}
		_ = g.Evaluate(nsg.Flow{})
		ours := open()
		if err := n.Apply(t.Context(), g, nsg.Plan{Put: []nsg.Rule{ours}}); err != nil {
			if sent != nil {
				t.Errorf("%q: written all the same: %v", body, err)
			}
			return
		}
		var before, after map[string]any
		if err := json.Unmarshal([]byte(body), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(sent, &after); err != nil {
			t.Fatal(err)
		}
		rules := func(doc map[string]any) (out []any) {
			properties, _ := doc["properties"].(map[string]any)
			out, _ = properties["securityRules"].([]any)
			delete(properties, "securityRules")
			return out
		}
		theirs := slices.DeleteFunc(rules(before), func(r any) bool {
			m, _ := r.(map[string]any)
			name, _ := m["name"].(string)
			return strings.EqualFold(name, ours.Name)
		})
		have := rules(after)
		if len(have) != len(theirs)+1 || !holds(have[:len(theirs)], theirs) || !holds(after, before) {
			t.Errorf("%s became %s", body, sent)
		}
	})
}

// holds says whether what was there is there yet; what is empty may be left out.
func holds(after, before any) bool {
	switch b := before.(type) {
	case map[string]any:
		a, _ := after.(map[string]any)
		return !slices.ContainsFunc(slices.Collect(maps.Keys(b)), func(k string) bool { return !holds(a[k], b[k]) })
	case []any:
		a, _ := after.([]any)
		for i := range b {
			if len(a) != len(b) || !holds(a[i], b[i]) {
				return false
			}
		}
		return true
	case nil:
		return true
	}
	return after == before
}

// FuzzMachine reads a machine and what stands around it, alone and out of lists,
// whatever Resource Manager may answer: no machine is left out of a list, and an
// address that is given has a subnet.
func FuzzMachine(f *testing.F) {
	const (
		nic = prod + "microsoft.network/networkinterfaces/n"
		net = prod + "microsoft.network/virtualnetworks/v"
		lb  = prod + "microsoft.network/loadbalancers/l"
		web = access.ResourceID(machines + "web-1")
	)
	subnet := fmt.Sprintf(`{"id":%q,"name":"s","properties":{"addressPrefix":"10.0.1.0/24","networkSecurityGroup":{"id":%q}}}`, net+"/subnets/s", webNSG)
	good := [6]string{
		fmt.Sprintf(`{"id":%q,"name":"web-1","tags":{"a":null},"properties":{"vmId":"u","networkProfile":{"networkInterfaces":[{"id":%q}]}}}`, web, nic),
		fmt.Sprintf(`{"id":%q,"properties":{"ipConfigurations":[{"properties":{"privateIPAddress":"10.0.1.4","subnet":{"id":%q},"loadBalancerInboundNatRules":[{"id":%q}]}}]}}`, nic, net+"/subnets/s", lb+"/inboundNatRules/r"),
		subnet,
		fmt.Sprintf(`{"id":%q,"properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[%s],"virtualNetworkPeerings":[{"properties":{"peeringState":"Connected","allowVirtualNetworkAccess":true}}]}}`, net, subnet),
		fmt.Sprintf(`{"id":%q,"properties":{"securityRules":[],"subnets":[{"id":%q}],"networkInterfaces":[{"id":%q}]}}`, webNSG, net+"/subnets/s", nic),
		fmt.Sprintf(`{"id":%q,"properties":{"loadBalancingRules":[null,{"properties":{"backendPort":22}}],"probes":[null],"inboundNatRules":[null,{"properties":{"backendPort":22}}]}}`, lb),
	}
	f.Add(good[0], good[1], good[2], good[3], good[4], good[5])
	for i := range good {
		for _, s := range []string{`{}`, `null`, `[null]`, strings.ReplaceAll(good[i], "[{", "[null,{"), strings.ReplaceAll(good[i], "10.0", "x")} {
			bad := good
			bad[i] = s
			f.Add(bad[0], bad[1], bad[2], bad[3], bad[4], bad[5])
		}
	}
	f.Fuzz(func(t *testing.T, vm, nic, subnet, network, group, balancer string) {
		n := over(t, func(r *http.Request) *http.Response {
			parts := strings.Split(strings.Trim(strings.ToLower(r.URL.Path), "/"), "/")
			body := map[string]string{"virtualmachines": vm, "networkinterfaces": nic, "subnets": subnet, "virtualnetworks": network, "networksecuritygroups": group, "loadbalancers": balancer}
			kind, last := parts[len(parts)-2], parts[len(parts)-1]
			answer, one := body[kind]
			if !one {
				answer = `{"value":[` + body[last] + `]}`
			}
			return answered(r, http.StatusOK, answer, http.Header{"Content-Type": {"application/json"}})
		})
		m, err := n.Machine(t.Context(), web, time.Now())
		if err == nil {
			_, _ = n.Surroundings(t.Context(), m, time.Now())
		}
		list, err := n.List(t.Context(), web.Subscription())
		if err == nil && (len(list) != 1 && vm != "" && strings.TrimSpace(vm) != "null" && json.Valid([]byte(vm)) || len(list) == 1 && list[0].ID == "") {
			t.Errorf("%q is listed as %+v", vm, list)
		}
		for _, m := range append(list, m) {
			for _, nic := range m.NICs {
				for _, a := range nic.Addresses {
					if nic.ID == "" || a.Subnet == "" || !a.IP.IsValid() {
						t.Errorf("%+v", m)
					}
				}
			}
		}
	})
}

// FuzzRetryAfter lets Azure ask for any pause: the one that is kept is one that a
// close can wait for.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "5", "0", "-1", "9223372036854775807", "9223372037", "60000", "Wed, 21 Oct 2026 07:28:00 GMT", " 7", "1e3"} {
		f.Add(s, "")
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, seconds, milliseconds string) {
		n := over(t, func(r *http.Request) *http.Response {
			h := http.Header{}
			h.Set("Retry-After", seconds)
			h.Set("Retry-After-Ms", milliseconds)
			h.Set("x-ms-ratelimit-remaining-resource", seconds+";"+milliseconds)
			return answered(r, http.StatusConflict, `{"error":{"code":"x"}}`, h)
		})
		_, err := n.Group(t.Context(), webNSG)
		if wait := access.AsError(err).RetryAfter; err == nil || wait < 0 || wait > time.Hour {
			t.Errorf("%q, %q: to wait %v: %v", seconds, milliseconds, wait, err)
		}
	})
}
