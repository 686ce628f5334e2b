package network_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

var (
	_ broker.Groups      = (*network.Network)(nil)
	_ broker.GroupLister = (*network.Network)(nil)
	_ broker.Machines    = (*network.Network)(nil)
)

const (
	prod     = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/"
	webNSG   = access.ResourceID(prod + "microsoft.network/networksecuritygroups/nsg-web-subnet")
	machines = prod + "microsoft.compute/virtualmachines/"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// azure starts a Resource Manager over the example topology; spoil may change
// what it answers.
func azure(t *testing.T, spoil func(path string, body map[string]any)) (*resourcemanager.Server, *network.Network) {
	t.Helper()
	return azureOf(t, example(t), spoil)
}

func example(t *testing.T) resourcemanager.Topology {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/examples/topology.json")
	if err != nil {
		t.Fatal(err)
	}
	topology, err := resourcemanager.ParseTopology(doc)
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// azureOf is azure over another topology.
func azureOf(t *testing.T, topology resourcemanager.Topology, spoil func(path string, body map[string]any)) (*resourcemanager.Server, *network.Network) {
	t.Helper()
	var s *resourcemanager.Server
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil == nil || r.Method != http.MethodGet {
			s.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		var body map[string]any
		if json.Unmarshal(rec.Body.Bytes(), &body) == nil {
			spoil(strings.ToLower(r.URL.Path), body)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(rec.Code)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(web.Close)
	var err error
	s, err = resourcemanager.New(resourcemanager.Config{
		Topology: topology, BaseURL: web.URL, Logger: slog.New(slog.DiscardHandler),
		Verify: func(context.Context, string, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := network.New(token{}, &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: web.Client(), Retry: policy.RetryOptions{RetryDelay: time.Millisecond},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: web.URL, Audience: "https://management.azure.com"}}},
	}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s, n
}

func TestMachinesAreResolvedToTheirWholePath(t *testing.T) {
	_, n := azure(t, nil)
	for name, want := range map[string][3]string{
		"web-1": {"10.0.1.4", "nsg-web-subnet", "nsg-web-1-nic"}, "web-2": {"10.0.1.5", "nsg-web-subnet", ""},
		"db-1": {"10.0.2.4", "", "nsg-db-1-nic"}, "bare-1": {"10.0.2.5", "", ""},
	} {
		m, err := n.Machine(t.Context(), access.ResourceID(machines+name), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		a := m.NICs[0].Addresses[0]
		if a.IP.String() != want[0] || a.SubnetNSG.Name() != want[1] || m.NICs[0].NSG.Name() != want[2] || m.UniqueID == "" || a.AmbiguousOn != "" {
			t.Errorf("%s: %+v", name, m)
		}
	}
	m, err := n.Machine(t.Context(), access.ResourceID(machines+"dual-1"), time.Now())
	if err != nil || len(m.NICs[0].Addresses) != 2 || !m.NICs[0].Addresses[1].IP.Is6() {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := n.Machine(t.Context(), access.ResourceID(machines+"none"), time.Now()); access.CodeOf(err) != access.NotFound {
		t.Errorf("unknown: %v", err)
	}
}

func TestABurstReadsAMachineOnce(t *testing.T) {
	reads := 0
	_, n := azure(t, func(path string, _ map[string]any) {
		if strings.HasSuffix(path, "/web-1") {
			reads++
		}
	})
	since := time.Now()
	for range 20 {
		if _, err := n.Machine(t.Context(), access.ResourceID(machines+"web-1"), since); err != nil {
			t.Fatal(err)
		}
	}
	if reads != 1 {
		t.Errorf("%d reads, want 1", reads)
	}
	if _, err := n.Machine(t.Context(), access.ResourceID(machines+"web-1"), time.Now()); err != nil || reads != 2 {
		t.Errorf("asked for afresh: %d reads, %v", reads, err)
	}
}

func TestAWholeWriteChangesOursAloneAndGoesUnderItsETag(t *testing.T) {
	s, n := azure(t, nil)
	before, err := n.Group(t.Context(), webNSG)
	if err != nil || before.Loss != "" || before.Updating {
		t.Fatalf("%+v, %v", before, err)
	}
	rule := nsg.Rule{
		Name: "Portcullis-x-1", Description: "d", Priority: 100, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp",
		Sources: []string{"203.0.113.7", "203.0.113.9"}, SourcePorts: []string{"*"}, Destinations: []string{"10.0.1.4"}, DestinationPorts: []string{"22"},
	}
	if err := n.Apply(t.Context(), before, nsg.Plan{Put: []nsg.Rule{rule}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(t.Context(), before, nsg.Plan{Put: []nsg.Rule{rule}}); access.ReasonOf(err) != "precondition_failed" {
		t.Errorf("under a stale ETag: %v", err)
	}
	after, err := n.Group(t.Context(), webNSG)
	if err != nil || len(after.Rules) != len(before.Rules)+1 || len(after.Rules[len(after.Rules)-1].Sources) != 2 {
		t.Fatalf("%+v, %v", after.Rules, err)
	}
	s.SetLock(string(webNSG), resourcemanager.CanNotDelete)
	if err := n.DeleteRule(t.Context(), webNSG, rule.Name); access.ReasonOf(err) != "scope_locked" {
		t.Errorf("under a lock: %v", err)
	}
	if err := n.DenyRule(t.Context(), webNSG, rule); err != nil {
		t.Error(err)
	}
	s.SetLock(string(webNSG), "")
	for range 2 {
		if err := n.DeleteRule(t.Context(), webNSG, rule.Name); err != nil {
			t.Error(err)
		}
	}
	s.Deny("Microsoft.Network/networkSecurityGroups/write")
	again, err := n.Group(t.Context(), webNSG)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(t.Context(), again, nsg.Plan{Put: []nsg.Rule{rule}}); access.ReasonOf(err) != "azure_permission" || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("without permission: %v", err)
	}
	if all, err := n.Groups(t.Context(), "00000000-0000-0000-0000-000000000001"); err != nil || len(all) != 4 {
		t.Errorf("%d groups, %v", len(all), err)
	}
}

func TestAPropertyThatTheSDKWouldDropIsNamedAndStopsAWholeWrite(t *testing.T) {
	_, n := azure(t, func(path string, body map[string]any) {
		if p, ok := body["properties"].(map[string]any); ok && path == string(webNSG) {
			p["fromTheFuture"] = true
		}
	})
	g, err := n.Group(t.Context(), webNSG)
	if err != nil || g.Loss != "properties.fromTheFuture" {
		t.Fatalf("loss %q, %v", g.Loss, err)
	}
	if err := n.Apply(t.Context(), g, nsg.Plan{Remove: []string{"x"}}); access.ReasonOf(err) != "group_not_lossless" {
		t.Errorf("%v", err)
	}
}
