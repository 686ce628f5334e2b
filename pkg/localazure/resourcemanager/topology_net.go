package resourcemanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Peering joins a network to another: Remote is the name of one in the document,
// or the id of one elsewhere, whose address space is then RemotePrefixes.
type Peering struct {
	Name              string   `json:"name"`
	Remote            string   `json:"remoteVirtualNetwork"`
	RemotePrefixes    []string `json:"remoteAddressPrefixes,omitempty"`
	UseRemoteGateways bool     `json:"useRemoteGateways,omitempty"`
}

// LoadBalancer is a load balancer with one frontend. Its pools do not tell who is
// in them, as Azure's do; a network interface tells in which it is.
type LoadBalancer struct {
	Name         string          `json:"name"`
	BackendPools []string        `json:"backendPools"`
	Probes       []Probe         `json:"probes,omitempty"`
	Rules        []BalancingRule `json:"rules,omitempty"`
	NATRules     []BalancingRule `json:"inboundNatRules,omitempty"`
}

// Probe asks the machines of the rules that name it whether they are well.
type Probe struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // Tcp, Http or Https
	Port     int    `json:"port"`
}

// BalancingRule sends what comes in on one port to another of a pool's machines
// or, as an inbound NAT rule, of one machine. Pool and Probe are names; an
// inbound NAT rule has neither.
type BalancingRule struct {
	Name         string `json:"name"`
	Protocol     string `json:"protocol"` // Tcp, Udp or All
	FrontendPort int    `json:"frontendPort"`
	BackendPort  int    `json:"backendPort"`
	Pool         string `json:"backendPool,omitempty"`
	Probe        string `json:"probe,omitempty"`
}

func (s *Server) loadPeerings(t Topology, v VNet) error {
	list := []any{}
	id := t.id(network+"/virtualNetworks", v.Name)
	for _, p := range v.Peerings {
		remote, prefixes := p.Remote, p.RemotePrefixes
		if i := slices.IndexFunc(t.VirtualNetworks, func(o VNet) bool { return strings.EqualFold(o.Name, p.Remote) }); i >= 0 {
			remote, prefixes = t.id(network+"/virtualNetworks", t.VirtualNetworks[i].Name), t.VirtualNetworks[i].AddressPrefixes
		}
		if parsed, ok := parsePath(remote); !ok || !parsed.is(network, "virtualNetworks") || !parsed.isItem() {
			return fmt.Errorf("peering %s: %q is no virtual network", p.Name, p.Remote)
		}
		if _, err := prefixesOf(prefixes); err != nil {
			return fmt.Errorf("peering %s: %w", p.Name, err)
		}
		if err := checkName(p.Name); err != nil {
			return fmt.Errorf("peering %q: %w", p.Name, err)
		}
		space := object{"addressPrefixes": toAny(prefixes)}
		list = append(list, s.part(id, "virtualNetworkPeerings", p.Name, object{
			"remoteVirtualNetwork": object{"id": remote}, "remoteAddressSpace": space, "remoteVirtualNetworkAddressSpace": space,
			"peeringState": "Connected", "peeringSyncLevel": "FullyInSync", "allowVirtualNetworkAccess": true,
			"allowForwardedTraffic": false, "allowGatewayTransit": false, "useRemoteGateways": p.UseRemoteGateways,
		}))
	}
	properties, _ := s.resources[key(id)]["properties"].(object)
	properties["virtualNetworkPeerings"] = list
	return nil
}

// part is a part of a resource that Azure shows inside it.
func (s *Server) part(of, kind, name string, properties object) object {
	properties["provisioningState"] = "Succeeded"
	p, _ := parsePath(of)
	return object{
		"name": name, "id": of + "/" + kind + "/" + name, "etag": stableETag(of), "type": p.resourceType() + "/" + kind, "properties": properties,
	}
}

// balancer is a load balancer at its loading.
type balancer struct {
	*Server
	id    string
	names map[string]bool // of its parts, with their kind
	parts map[string][]any
}

func (s *Server) loadBalancer(t Topology, lb LoadBalancer) error {
	b := balancer{Server: s, id: t.id(network+"/loadBalancers", lb.Name), names: map[string]bool{}, parts: map[string][]any{}}
	if err := b.add("frontendIPConfigurations", "frontend", object{"privateIPAllocationMethod": "Dynamic"}); err != nil {
		return err
	}
	for _, p := range lb.BackendPools {
		if err := b.add("backendAddressPools", p, object{}); err != nil {
			return err
		}
	}
	for _, p := range lb.Probes {
		err := errors.Join(checkPort(p.Port), oneOf(p.Protocol, "Tcp", "Http", "Https"),
			b.add("probes", p.Name, object{"protocol": p.Protocol, "port": p.Port, "intervalInSeconds": 15, "numberOfProbes": 2}))
		if err != nil {
			return err
		}
	}
	for _, r := range lb.Rules {
		if err := b.addRule("loadBalancingRules", r); err != nil {
			return err
		}
	}
	for _, r := range lb.NATRules {
		if err := b.addRule("inboundNatRules", r); err != nil {
			return err
		}
	}
	properties := object{"resourceGuid": stableID(b.id)}
	for kind, list := range b.parts {
		properties[kind] = list
	}
	return s.insert(b.id, t.Location, properties)
}

func (b balancer) add(kind, name string, properties object) error {
	at := kind + "/" + key(name)
	if b.names[at] {
		return fmt.Errorf("%s %s stands twice", kind, name)
	}
	if err := checkName(name); err != nil {
		return err
	}
	b.names[at] = true
	b.parts[kind] = append(b.parts[kind], b.part(b.id, kind, name, properties))
	return nil
}

func (b balancer) addRule(kind string, r BalancingRule) error {
	properties := object{
		"protocol": r.Protocol, "frontendPort": r.FrontendPort, "backendPort": r.BackendPort,
		"frontendIPConfiguration": object{"id": b.id + "/frontendIPConfigurations/frontend"},
	}
	for _, to := range []struct{ member, kind, name string }{{"backendAddressPool", "backendAddressPools", r.Pool}, {"probe", "probes", r.Probe}} {
		if to.name == "" {
			continue
		}
		if !b.names[to.kind+"/"+key(to.name)] {
			return fmt.Errorf("rule %s: there is no %s %s", r.Name, to.member, to.name)
		}
		properties[to.member] = object{"id": b.id + "/" + to.kind + "/" + to.name}
	}
	return errors.Join(checkPort(r.FrontendPort), checkPort(r.BackendPort), oneOf(r.Protocol, "Tcp", "Udp", "All"), b.add(kind, r.Name, properties))
}

// balance puts an interface's address into the pools and rules of load balancers.
func (t Topology) balance(nic NIC, properties object) error {
	for _, list := range []struct {
		member, kind string
		refs         []string
	}{{"loadBalancerBackendAddressPools", "backendAddressPools", nic.BackendPools}, {"loadBalancerInboundNatRules", "inboundNatRules", nic.NATRules}} {
		out := []any{}
		for _, ref := range list.refs {
			name, part, _ := strings.Cut(ref, "/")
			if !slices.ContainsFunc(t.LoadBalancers, func(b LoadBalancer) bool {
				parts := b.BackendPools
				if list.kind == "inboundNatRules" {
					parts = nil
					for _, r := range b.NATRules {
						parts = append(parts, r.Name)
					}
				}
				return strings.EqualFold(b.Name, name) && slices.Contains(parts, part)
			}) {
				return fmt.Errorf("there is no %s %s", list.kind, ref)
			}
			out = append(out, object{"id": t.id(network+"/loadBalancers", name, list.kind, part)})
		}
		if len(out) > 0 {
			properties[list.member] = out
		}
	}
	return nil
}

func checkPort(n int) error {
	if n < 1 || n > 65535 {
		return fmt.Errorf("port %d is none", n)
	}
	return nil
}

func oneOf(word string, words ...string) error {
	if !slices.Contains(words, word) {
		return fmt.Errorf("%q is none of %s", word, strings.Join(words, ", "))
	}
	return nil
}

func prefixesOf(values []string) ([]netip.Prefix, error) {
	if len(values) == 0 {
		return nil, errors.New("it has no address prefix")
	}
	var out []netip.Prefix
	for _, v := range values {
		p, err := netip.ParsePrefix(v)
		if err != nil || p != p.Masked() {
			return nil, fmt.Errorf("%q is no address prefix", v)
		}
		out = append(out, p)
	}
	return out, nil
}

func within(p netip.Prefix, space []netip.Prefix) bool {
	for _, s := range space {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// stableID gives a GUID that stays the same from one start to the next.
func stableID(id string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(key(id))).String()
}

func stableETag(id string) string { return `W/"` + stableID(id+"#etag") + `"` }

func tags(in map[string]string) object {
	out := object{}
	for k, v := range in {
		out[k] = v
	}
	return out
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// deepCopy copies a JSON object, so that two servers share nothing, with its
// numbers as json.Number.
func deepCopy(o object) (object, bool) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, false
	}
	return decodeObject(data)
}
