package resourcemanager

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// neighbours is a topology of two peered networks and a load balancer.
const neighbours = `{
  "subscription": "00000000-0000-0000-0000-000000000001", "resourceGroup": "prod", "location": "westeurope",
  "networkSecurityGroups": [],
  "virtualNetworks": [
    {"name": "spoke", "addressPrefixes": ["10.0.0.0/16"], "subnets": [{"name": "web", "addressPrefixes": ["10.0.1.0/24"]}],
     "peerings": [
       {"name": "to-hub", "remoteVirtualNetwork": "hub", "useRemoteGateways": true},
       {"name": "to-far", "remoteVirtualNetwork": "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/far/providers/Microsoft.Network/virtualNetworks/far", "remoteAddressPrefixes": ["10.8.0.0/16"]}]},
    {"name": "hub", "addressPrefixes": ["10.9.0.0/16"], "subnets": [{"name": "AzureBastionSubnet", "addressPrefixes": ["10.9.0.0/26"]}]}
  ],
  "loadBalancers": [{"name": "lb", "backendPools": ["web"], "probes": [{"name": "health", "protocol": "Tcp", "port": 22}],
    "rules": [{"name": "ssh", "protocol": "Tcp", "frontendPort": 2222, "backendPort": 22, "backendPool": "web", "probe": "health"}],
    "inboundNatRules": [{"name": "rdp", "protocol": "Tcp", "frontendPort": 4000, "backendPort": 3389}]}],
  "virtualMachines": [{"name": "web-1", "osType": "Linux", "networkInterfaces": [
    {"name": "web-1-nic", "subnet": "spoke/web", "addresses": ["10.0.1.4"], "backendPools": ["lb/web"], "inboundNatRules": ["lb/rdp"]}]}]
}`

func TestPeeringsAndLoadBalancersAreServed(t *testing.T) {
	topology, err := ParseTopology([]byte(neighbours))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *Config) { c.Topology = topology })
	networks := must[*armnetwork.VirtualNetworksClient](t)(armnetwork.NewVirtualNetworksClient(sub, credential{}, f.options()))
	spoke := must[armnetwork.VirtualNetworksClientGetResponse](t)(networks.Get(t.Context(), "prod", "spoke", nil))
	if p := spoke.Properties.VirtualNetworkPeerings; len(p) != 2 || *p[0].Properties.RemoteVirtualNetwork.ID != rg+"/providers/Microsoft.Network/virtualNetworks/hub" ||
		*p[0].Properties.RemoteAddressSpace.AddressPrefixes[0] != "10.9.0.0/16" || !*p[0].Properties.UseRemoteGateways || *p[1].Properties.RemoteAddressSpace.AddressPrefixes[0] != "10.8.0.0/16" {
		t.Errorf("peerings: %+v", p)
	}
	balancers := must[*armnetwork.LoadBalancersClient](t)(armnetwork.NewLoadBalancersClient(sub, credential{}, f.options()))
	lb := must[armnetwork.LoadBalancersClientGetResponse](t)(balancers.Get(t.Context(), "prod", "lb", nil))
	rule := lb.Properties.LoadBalancingRules[0].Properties
	if *rule.BackendPort != 22 || *rule.Probe.ID != *lb.Properties.Probes[0].ID || *lb.Properties.Probes[0].Properties.Port != 22 || *lb.Properties.InboundNatRules[0].Properties.BackendPort != 3389 {
		t.Errorf("load balancer: %+v", lb.Properties)
	}
	nics := must[*armnetwork.InterfacesClient](t)(armnetwork.NewInterfacesClient(sub, credential{}, f.options()))
	nic := must[armnetwork.InterfacesClientGetResponse](t)(nics.Get(t.Context(), "prod", "web-1-nic", nil))
	config := nic.Properties.IPConfigurations[0].Properties
	if len(config.LoadBalancerBackendAddressPools) != 1 || *config.LoadBalancerBackendAddressPools[0].ID != *lb.Properties.BackendAddressPools[0].ID ||
		*rule.BackendAddressPool.ID != *lb.Properties.BackendAddressPools[0].ID || len(config.LoadBalancerInboundNatRules) != 1 {
		t.Errorf("interface: %+v", config)
	}
}

func TestPeeringsAndLoadBalancersAreChecked(t *testing.T) {
	for name, change := range map[string][2]string{
		"unknown remote":        {`"remoteVirtualNetwork": "hub"`, `"remoteVirtualNetwork": "none"`},
		"far without a space":   {`, "remoteAddressPrefixes": ["10.8.0.0/16"]`, ``},
		"bad peering name":      {`"to-hub"`, `"to/hub"`},
		"unknown pool of rule":  {`"backendPool": "web"`, `"backendPool": "none"`},
		"unknown probe of rule": {`"probe": "health"`, `"probe": "none"`},
		"pool twice":            {`"backendPools": ["web"]`, `"backendPools": ["web", "WEB"]`},
		"bad probe port":        {`"port": 22}`, `"port": 0}`},
		"bad backend port":      {`"backendPort": 3389`, `"backendPort": 70000`},
		"bad probe protocol":    {`"name": "health", "protocol": "Tcp"`, `"name": "health", "protocol": "Icmp"`},
		"unknown pool of nic":   {`"lb/web"`, `"lb/none"`},
		"unknown nat rule":      {`"lb/rdp"`, `"none/rdp"`},
	} {
		doc := strings.Replace(neighbours, change[0], change[1], 1)
		if doc == neighbours || !json.Valid([]byte(doc)) {
			t.Errorf("%s: %q is not in the document", name, change[0])
		}
		if _, err := ParseTopology([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
