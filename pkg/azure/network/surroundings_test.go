package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
)

var _ broker.Neighbourhood = (*network.Network)(nil)

// spoke is the example with a hub that holds a bastion, a network elsewhere, and
// a load balancer before web-1.
func spoke(t *testing.T) resourcemanager.Topology {
	top := example(t)
	top.VirtualNetworks[0].Peerings = []resourcemanager.Peering{
		{Name: "to-hub", Remote: "vnet-hub", UseRemoteGateways: true},
		{Name: "to-far", Remote: "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/far/providers/Microsoft.Network/virtualNetworks/far", RemotePrefixes: []string{"10.8.0.0/16"}},
	}
	top.VirtualNetworks = append(top.VirtualNetworks, resourcemanager.VNet{
		Name: "vnet-hub", AddressPrefixes: []string{"10.9.0.0/16"},
		Subnets: []resourcemanager.Subnet{{Name: "AzureBastionSubnet", AddressPrefixes: []string{"10.9.0.0/26"}}, {Name: "GatewaySubnet", AddressPrefixes: []string{"10.9.1.0/27"}}},
	})
	top.LoadBalancers = []resourcemanager.LoadBalancer{{
		Name: "lb", BackendPools: []string{"web", "other"}, Probes: []resourcemanager.Probe{{Name: "health", Protocol: "Http", Port: 22}, {Name: "unused", Protocol: "Tcp", Port: 3389}},
		Rules: []resourcemanager.BalancingRule{
			{Name: "ssh", Protocol: "Tcp", FrontendPort: 2222, BackendPort: 22, Pool: "web", Probe: "health"},
			{Name: "others", Protocol: "Tcp", FrontendPort: 80, BackendPort: 80, Pool: "other", Probe: "unused"},
		},
		NATRules: []resourcemanager.BalancingRule{{Name: "rdp", Protocol: "All", FrontendPort: 4000, BackendPort: 3389}},
	}}
	top.VirtualMachines[0].NICs[0].BackendPools = []string{"lb/web"}
	top.VirtualMachines[0].NICs[0].NATRules = []string{"lb/rdp"}
	return top
}

func TestSurroundings(t *testing.T) {
	s, n := azureOf(t, spoke(t), nil)
	since := time.Now()
	m, err := n.Machine(t.Context(), access.ResourceID(machines+"web-1"), since)
	if err != nil {
		t.Fatal(err)
	}
	around, err := n.Surroundings(t.Context(), m, since)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range around.Neighbours {
		got = append(got, fmt.Sprint(x.Kind, " ", x.ID.Name(), " ", x.Prefixes))
	}
	want := []string{
		"network vnet-prod [10.0.0.0/16 2001:db8:100::/48]", "gateway vnet-prod []", "peer vnet-hub [10.9.0.0/16]",
		"bastion azurebastionsubnet [10.9.0.0/26]", "peer far [10.8.0.0/16]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("neighbours\n got %q\nwant %q", got, want)
	}
	got = nil
	for _, x := range around.Balanced {
		got = append(got, fmt.Sprint(x.Address, " ", x.Balancer.Name(), "/", x.Name, " ", x.Probe, " ", x.Port, "/", x.Protocol))
	}
	if want := []string{"10.0.1.4 lb/ssh false 22/TCP", "10.0.1.4 lb/health true 22/TCP", "10.0.1.4 lb/rdp false 3389/*"}; !slices.Equal(got, want) {
		t.Errorf("balanced\n got %q\nwant %q", got, want)
	}
	// The network elsewhere is in no subscription of the stand-in.
	if len(around.Unread) != 1 || !strings.Contains(around.Unread[0], "the peered virtual network far") {
		t.Errorf("unread: %q", around.Unread)
	}
	before := reads(s)
	if _, err := n.Surroundings(t.Context(), m, since); err != nil || reads(s) != before {
		t.Errorf("%d more calls for what was read, %v", reads(s)-before, err)
	}
}

func TestSurroundingsThatMayNotBeReadAreTold(t *testing.T) {
	s, n := azureOf(t, spoke(t), nil)
	m, err := n.Machine(t.Context(), access.ResourceID(machines+"web-1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Deny("Microsoft.Network/virtualNetworks/read")
	s.Deny("Microsoft.Network/loadBalancers")
	around, err := n.Surroundings(t.Context(), m, time.Now())
	if err != nil || len(around.Neighbours)+len(around.Balanced) != 0 || len(around.Unread) != 2 {
		t.Errorf("%+v, %v", around, err)
	}
}
