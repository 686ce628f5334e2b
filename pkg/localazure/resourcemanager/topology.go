package resourcemanager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/google/uuid"
)

// Topology is the machines and networks there are at the start, all of them in
// one resource group. Names refer within the document.
type Topology struct {
	// Subscription is a GUID.
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resourceGroup"`
	// Location is an Azure region, such as westeurope.
	Location              string         `json:"location"`
	NetworkSecurityGroups []Group        `json:"networkSecurityGroups"`
	VirtualNetworks       []VNet         `json:"virtualNetworks"`
	LoadBalancers         []LoadBalancer `json:"loadBalancers,omitempty"`
	VirtualMachines       []VM           `json:"virtualMachines"`
}

// Group is a network security group with its customer's rules.
type Group struct {
	Name  string            `json:"name"`
	Tags  map[string]string `json:"tags,omitempty"`
	Rules []Rule            `json:"rules"`
}

// Rule is a security rule: its name and the "properties" of the REST API.
type Rule struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties"`
}

// VNet is a virtual network with its subnets.
type VNet struct {
	Name            string    `json:"name"`
	AddressPrefixes []string  `json:"addressPrefixes"`
	Subnets         []Subnet  `json:"subnets"`
	Peerings        []Peering `json:"peerings,omitempty"`
}

// Subnet is a subnet; NetworkSecurityGroup names its group, "" for none.
type Subnet struct {
	Name                 string   `json:"name"`
	AddressPrefixes      []string `json:"addressPrefixes"`
	NetworkSecurityGroup string   `json:"networkSecurityGroup,omitempty"`
}

// VM is a virtual machine with its network interfaces, the first of them primary.
type VM struct {
	Name   string            `json:"name"`
	OSType string            `json:"osType"` // Linux or Windows
	Tags   map[string]string `json:"tags,omitempty"`
	NICs   []NIC             `json:"networkInterfaces"`
}

// NIC is a network interface; its addresses, the first of them primary, lie in
// one subnet, "vnet/subnet". NetworkSecurityGroup names its group, "" for none. The
// primary address is in the backend pools and has the inbound NAT rules, each
// "loadBalancer/name".
type NIC struct {
	Name                 string   `json:"name"`
	Subnet               string   `json:"subnet"`
	Addresses            []string `json:"addresses"`
	NetworkSecurityGroup string   `json:"networkSecurityGroup,omitempty"`
	BackendPools         []string `json:"backendPools,omitempty"`
	NATRules             []string `json:"inboundNatRules,omitempty"`
}

// ParseTopology reads a topology from JSON. Members that are unknown, names that
// refer to nothing or stand twice, rules that Azure would refuse, and addresses
// outside their subnet or used twice are errors.
func ParseTopology(data []byte) (Topology, error) {
	var t Topology
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		return Topology{}, fmt.Errorf("topology: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Topology{}, errors.New("topology: something follows the document")
	}
	if err := (&Server{resources: map[string]object{}, groups: map[string]*group{}}).load(t); err != nil {
		return Topology{}, fmt.Errorf("topology: %w", err)
	}
	return t, nil
}

func (t Topology) groupScope() string {
	return "/subscriptions/" + t.Subscription + "/resourceGroups/" + t.ResourceGroup
}

func (t Topology) id(provider string, names ...string) string {
	return t.groupScope() + "/providers/" + provider + "/" + strings.Join(names, "/")
}

func (t Topology) groupID(name string) string { return t.id(groupType, name) }

// load checks the topology and puts it into the server.
func (s *Server) load(t Topology) error {
	switch {
	case uuid.Validate(t.Subscription) != nil:
		return fmt.Errorf("subscription %q is no GUID", t.Subscription)
	case checkName(t.ResourceGroup) != nil:
		return fmt.Errorf("resourceGroup %q is no name", t.ResourceGroup)
	case checkName(t.Location) != nil || strings.ToLower(t.Location) != t.Location:
		return fmt.Errorf("location %q is no region's name", t.Location)
	}
	for _, g := range t.NetworkSecurityGroups {
		if err := s.loadGroup(t, g); err != nil {
			return fmt.Errorf("network security group %s: %w", g.Name, err)
		}
	}
	for _, v := range t.VirtualNetworks {
		if err := s.loadNetwork(t, v); err != nil {
			return fmt.Errorf("virtual network %s: %w", v.Name, err)
		}
	}
	for _, v := range t.VirtualNetworks {
		if err := s.loadPeerings(t, v); err != nil {
			return fmt.Errorf("virtual network %s: %w", v.Name, err)
		}
	}
	for _, b := range t.LoadBalancers {
		if err := s.loadBalancer(t, b); err != nil {
			return fmt.Errorf("load balancer %s: %w", b.Name, err)
		}
	}
	used := map[string]bool{} // addresses, by network
	for _, vm := range t.VirtualMachines {
		if err := s.loadVM(t, vm, used); err != nil {
			return fmt.Errorf("virtual machine %s: %w", vm.Name, err)
		}
	}
	return nil
}

func (s *Server) loadGroup(t Topology, g Group) error {
	id := t.groupID(g.Name)
	if err := checkName(g.Name); err != nil {
		return err
	}
	if s.groups[key(id)] != nil {
		return errors.New("it stands twice")
	}
	list := []any{}
	for _, r := range g.Rules {
		copied, ok := deepCopy(r.Properties)
		if !ok {
			return fmt.Errorf("rule %s has no properties", r.Name)
		}
		list = append(list, object{"name": r.Name, "properties": copied})
	}
	rules, err := readRules(id, list)
	if err == nil {
		err = checkRules(id, rules)
	}
	if err != nil {
		return err
	}
	n := &group{id: id, name: g.Name, location: t.Location, guid: stableID(id), etag: newETag(), extra: object{}, properties: object{}, rules: rules}
	if len(g.Tags) > 0 {
		n.extra["tags"] = tags(g.Tags)
	}
	s.groups[key(id)] = n
	return nil
}

func (s *Server) loadNetwork(t Topology, v VNet) error {
	id := t.id(network+"/virtualNetworks", v.Name)
	space, err := prefixesOf(v.AddressPrefixes)
	if err != nil {
		return err
	}
	if err := s.insert(id, t.Location, object{
		"addressSpace": object{"addressPrefixes": toAny(v.AddressPrefixes)}, "resourceGuid": stableID(id),
	}); err != nil {
		return err
	}
	var taken []netip.Prefix
	for _, sub := range v.Subnets {
		prefixes, err := prefixesOf(sub.AddressPrefixes)
		if err != nil {
			return fmt.Errorf("subnet %s: %w", sub.Name, err)
		}
		for _, p := range prefixes {
			if !within(p, space) {
				return fmt.Errorf("subnet %s: %s is outside the network", sub.Name, p)
			}
		}
		taken = append(taken, prefixes...)
		if a, b, found := overlapping(taken); found {
			return fmt.Errorf("subnet %s: %s and %s overlap", sub.Name, a, b)
		}
		properties := object{"addressPrefixes": toAny(sub.AddressPrefixes)}
		if len(sub.AddressPrefixes) == 1 {
			properties = object{"addressPrefix": sub.AddressPrefixes[0]}
		}
		if err := s.attach(t, properties, sub.NetworkSecurityGroup); err != nil {
			return fmt.Errorf("subnet %s: %w", sub.Name, err)
		}
		if err := s.insert(id+"/subnets/"+sub.Name, "", properties); err != nil {
			return fmt.Errorf("subnet %s: %w", sub.Name, err)
		}
	}
	return nil
}

func (s *Server) loadVM(t Topology, vm VM, used map[string]bool) error {
	if vm.OSType != "Linux" && vm.OSType != "Windows" {
		return fmt.Errorf("osType %q is neither Linux nor Windows", vm.OSType)
	}
	if len(vm.NICs) == 0 {
		return errors.New("it has no network interface")
	}
	id := t.id(compute+"/virtualMachines", vm.Name)
	refs := []any{}
	for i, nic := range vm.NICs {
		nicID, err := s.loadNIC(t, nic, id, i == 0, used)
		if err != nil {
			return fmt.Errorf("network interface %s: %w", nic.Name, err)
		}
		refs = append(refs, object{"id": nicID, "properties": object{"primary": i == 0}})
	}
	if err := s.insert(id, t.Location, object{
		"vmId":            stableID(id),
		"hardwareProfile": object{"vmSize": "Standard_D2s_v5"},
		"networkProfile":  object{"networkInterfaces": refs},
		"osProfile":       object{"computerName": vm.Name, "adminUsername": "azureuser"},
		"storageProfile": object{"osDisk": object{
			"name": vm.Name + "-os", "osType": vm.OSType, "createOption": "FromImage", "caching": "ReadWrite"}},
	}); err != nil {
		return err
	}
	if len(vm.Tags) > 0 {
		s.resources[key(id)]["tags"] = tags(vm.Tags)
	}
	return nil
}

func (s *Server) loadNIC(t Topology, nic NIC, vmID string, primary bool, used map[string]bool) (string, error) {
	id := t.id(network+"/networkInterfaces", nic.Name)
	vnet, subnet, _ := strings.Cut(nic.Subnet, "/")
	subnetID := t.id(network+"/virtualNetworks", vnet, "subnets", subnet)
	prefixes, err := t.subnet(vnet, subnet)
	if err != nil {
		return "", err
	}
	if len(nic.Addresses) == 0 {
		return "", errors.New("it has no address")
	}
	configurations := []any{}
	for i, a := range nic.Addresses {
		addr, err := netip.ParseAddr(a)
		if err != nil || addr.Zone() != "" || !within(netip.PrefixFrom(addr, addr.BitLen()), prefixes) {
			return "", fmt.Errorf("address %q is not in subnet %s", a, nic.Subnet)
		}
		at := key(vnet) + " " + addr.String()
		if used[at] {
			return "", fmt.Errorf("address %s is used twice", a)
		}
		used[at] = true
		version := "IPv4"
		if addr.Is6() {
			version = "IPv6"
		}
		name := fmt.Sprintf("ipconfig%d", i+1)
		properties := object{
			"privateIPAddress": a, "privateIPAddressVersion": version, "privateIPAllocationMethod": "Dynamic",
			"primary": i == 0, "provisioningState": "Succeeded", "subnet": object{"id": subnetID},
		}
		if i == 0 {
			if err := t.balance(nic, properties); err != nil {
				return "", err
			}
		}
		configurations = append(configurations, object{
			"name": name, "id": id + "/ipConfigurations/" + name, "type": network + "/networkInterfaces/ipConfigurations",
			"etag": stableETag(id), "properties": properties,
		})
	}
	properties := object{
		"ipConfigurations": configurations, "primary": primary, "virtualMachine": object{"id": vmID},
		"enableIPForwarding": false, "nicType": "Standard", "resourceGuid": stableID(id),
	}
	if err := s.attach(t, properties, nic.NetworkSecurityGroup); err != nil {
		return "", err
	}
	return id, s.insert(id, t.Location, properties)
}

// subnet gives the prefixes of a subnet of the document.
func (t Topology) subnet(vnet, subnet string) ([]netip.Prefix, error) {
	for _, v := range t.VirtualNetworks {
		for _, sub := range v.Subnets {
			if strings.EqualFold(v.Name, vnet) && strings.EqualFold(sub.Name, subnet) {
				return prefixesOf(sub.AddressPrefixes)
			}
		}
	}
	return nil, fmt.Errorf("there is no subnet %s/%s", vnet, subnet)
}

func (s *Server) attach(t Topology, properties object, name string) error {
	if name == "" {
		return nil
	}
	g := s.groups[key(t.groupID(name))]
	if g == nil {
		return fmt.Errorf("there is no network security group %s", name)
	}
	properties["networkSecurityGroup"] = object{"id": g.id}
	return nil
}

// insert stores a resource of the document, once.
func (s *Server) insert(id, location string, properties object) error {
	if err := checkName(id[strings.LastIndexByte(id, '/')+1:]); err != nil {
		return err
	}
	if s.resources[key(id)] != nil {
		return fmt.Errorf("%s stands twice", id)
	}
	properties["provisioningState"] = "Succeeded"
	o := object{"properties": properties, "etag": stableETag(id)}
	if location != "" {
		o["location"] = location
	}
	return s.put(id, o)
}
