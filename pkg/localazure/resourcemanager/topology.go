package resourcemanager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Topology is the machines and networks there are at the start, all of them in
// one resource group.
type Topology struct {
	Subscription          string  `json:"subscription"`
	ResourceGroup         string  `json:"resourceGroup"`
	Location              string  `json:"location"`
	NetworkSecurityGroups []Group `json:"networkSecurityGroups"`
	VirtualNetworks       []VNet  `json:"virtualNetworks"`
	VirtualMachines       []VM    `json:"virtualMachines"`
}

// Group is a network security group with its customer's rules, each as the
// "properties" of Resource Manager's security rule with its name.
type Group struct {
	Name  string `json:"name"`
	Rules []struct {
		Name       string         `json:"name"`
		Properties map[string]any `json:"properties"`
	} `json:"rules"`
}

// VNet is a virtual network with its subnets.
type VNet struct {
	Name            string   `json:"name"`
	AddressPrefixes []string `json:"addressPrefixes"`
	Subnets         []Subnet `json:"subnets"`
}

// Subnet is a subnet; NetworkSecurityGroup names its group, "" for none.
type Subnet struct {
	Name                 string   `json:"name"`
	AddressPrefixes      []string `json:"addressPrefixes"`
	NetworkSecurityGroup string   `json:"networkSecurityGroup,omitempty"`
}

// VM is a virtual machine with its network interfaces.
type VM struct {
	Name   string            `json:"name"`
	OSType string            `json:"osType"`
	Tags   map[string]string `json:"tags,omitempty"`
	NICs   []NIC             `json:"networkInterfaces"`
}

// NIC is a network interface; its addresses lie in one subnet, "vnet/subnet".
type NIC struct {
	Name                 string   `json:"name"`
	Subnet               string   `json:"subnet"`
	Addresses            []string `json:"addresses"`
	NetworkSecurityGroup string   `json:"networkSecurityGroup,omitempty"`
}

// ParseTopology reads a topology; unknown fields are refused.
func ParseTopology(data []byte) (Topology, error) {
	var t Topology
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return Topology{}, err
	}
	if _, err := uuid.Parse(t.Subscription); err != nil || t.ResourceGroup == "" || t.Location == "" {
		return Topology{}, errors.New("a topology names its subscription (a GUID), resource group and location")
	}
	return t, nil
}

func (t Topology) id(provider string, names ...string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s", t.Subscription, t.ResourceGroup, provider, strings.Join(names, "/"))
}

func (t Topology) groupID(name string) string {
	return t.id("Microsoft.Network/networkSecurityGroups", name)
}

// load puts the topology into the server.
func (s *Server) load(t Topology) error {
	for _, g := range t.NetworkSecurityGroups {
		id := t.groupID(g.Name)
		n := &group{id: id, name: g.Name, location: t.Location, guid: stable(id), etag: newETag(), properties: object{}}
		for _, r := range g.Rules {
			rule := rule{name: r.Name, properties: r.Properties}
			if e := checkRule(rule); e != nil {
				return fmt.Errorf("%s of %s: %s", r.Name, g.Name, e.message)
			}
			n.rules = append(n.rules, rule)
		}
		if e := checkRules(n.rules); e != nil {
			return fmt.Errorf("%s: %s", g.Name, e.message)
		}
		s.groups[strings.ToLower(id)] = n
	}
	for _, v := range t.VirtualNetworks {
		id := t.id("Microsoft.Network/virtualNetworks", v.Name)
		var subnets []any
		for _, sub := range v.Subnets {
			p := object{"addressPrefixes": toAny(sub.AddressPrefixes), "provisioningState": "Succeeded"}
			if len(sub.AddressPrefixes) == 1 {
				p = object{"addressPrefix": sub.AddressPrefixes[0], "provisioningState": "Succeeded"}
			}
			if sub.NetworkSecurityGroup != "" {
				if s.groups[strings.ToLower(t.groupID(sub.NetworkSecurityGroup))] == nil {
					return fmt.Errorf("subnet %s: no group %s", sub.Name, sub.NetworkSecurityGroup)
				}
				p["networkSecurityGroup"] = object{"id": t.groupID(sub.NetworkSecurityGroup)}
			}
			subnet := object{"id": id + "/subnets/" + sub.Name, "name": sub.Name, "type": "Microsoft.Network/virtualNetworks/subnets", "properties": p}
			subnets = append(subnets, subnet)
			s.put(subnet)
		}
		s.put(object{"id": id, "name": v.Name, "type": "Microsoft.Network/virtualNetworks", "location": t.Location,
			"properties": object{"addressSpace": object{"addressPrefixes": toAny(v.AddressPrefixes)}, "subnets": subnets, "provisioningState": "Succeeded"}})
	}
	for _, vm := range t.VirtualMachines {
		if err := s.loadVM(t, vm); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) loadVM(t Topology, vm VM) error {
	id := t.id("Microsoft.Compute/virtualMachines", vm.Name)
	var refs []any
	for i, nic := range vm.NICs {
		nicID := t.id("Microsoft.Network/networkInterfaces", nic.Name)
		vnet, subnet, _ := strings.Cut(nic.Subnet, "/")
		subnetID := t.id("Microsoft.Network/virtualNetworks", vnet, "subnets", subnet)
		if s.resources[strings.ToLower(subnetID)] == nil {
			return fmt.Errorf("network interface %s: no subnet %s", nic.Name, nic.Subnet)
		}
		var configs []any
		for j, a := range nic.Addresses {
			version := "IPv4"
			if strings.Contains(a, ":") {
				version = "IPv6"
			}
			name := fmt.Sprintf("ipconfig%d", j+1)
			configs = append(configs, object{"name": name, "id": nicID + "/ipConfigurations/" + name, "properties": object{
				"primary": j == 0, "privateIPAddress": a, "privateIPAddressVersion": version, "privateIPAllocationMethod": "Dynamic",
				"provisioningState": "Succeeded", "subnet": object{"id": subnetID},
			}})
		}
		p := object{"ipConfigurations": configs, "primary": i == 0, "provisioningState": "Succeeded", "virtualMachine": object{"id": id}}
		if nic.NetworkSecurityGroup != "" {
			if s.groups[strings.ToLower(t.groupID(nic.NetworkSecurityGroup))] == nil {
				return fmt.Errorf("network interface %s: no group %s", nic.Name, nic.NetworkSecurityGroup)
			}
			p["networkSecurityGroup"] = object{"id": t.groupID(nic.NetworkSecurityGroup)}
		}
		s.put(object{"id": nicID, "name": nic.Name, "type": "Microsoft.Network/networkInterfaces", "location": t.Location, "properties": p})
		refs = append(refs, object{"id": nicID, "properties": object{"primary": i == 0}})
	}
	tags := object{}
	for k, v := range vm.Tags {
		tags[k] = v
	}
	s.put(object{"id": id, "name": vm.Name, "type": "Microsoft.Compute/virtualMachines", "location": t.Location, "tags": tags,
		"properties": object{
			"vmId": stable(id), "provisioningState": "Succeeded", "networkProfile": object{"networkInterfaces": refs},
			"storageProfile": object{"osDisk": object{"osType": vm.OSType, "createOption": "FromImage"}},
		}})
	return nil
}

// stable gives a GUID that stays the same from one start to the next.
func stable(id string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.ToLower(id))).String()
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
