package network

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// Names that Azure demands of these subnets ("About Bastion configuration
// settings" and "VPN Gateway configuration settings", Azure docs).
const (
	bastionSubnet = "azurebastionsubnet"
	gatewaySubnet = "gatewaysubnet"
)

// vnet is what is read of a virtual network.
type vnet struct {
	prefixes  []netip.Prefix
	bastions  []broker.Neighbour
	gateway   bool // its own, or that of a network it is peered with
	peers     []broker.Neighbour
	anyOthers bool // peers that are there and cannot be read
	unread    bool // our identity may not read it, or it is gone
}

// balancer is what is read of a load balancer.
type balancer struct {
	uses   []use
	unread bool
}

// Surroundings implements broker.Neighbourhood. It does not see load balancers
// that name their backends by address alone, nor Azure's own peers of a network,
// such as a Virtual WAN hub's other branches.
func (n *Network) Surroundings(ctx context.Context, m broker.Machine, notBefore time.Time) (broker.Surroundings, error) {
	var out findings
	seen := map[access.ResourceID]bool{}
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			if id := a.Subnet.Parent(); !seen[id] {
				seen[id] = true
				if err := n.around(ctx, id, notBefore, &out); err != nil {
					return out.Surroundings, err
				}
			}
			if err := n.balanced(ctx, a, notBefore, &out); err != nil {
				return out.Surroundings, err
			}
		}
	}
	return out.Surroundings, nil
}

// around adds a machine's network, and what is in it and in its peers.
func (n *Network) around(ctx context.Context, id access.ResourceID, notBefore time.Time, out *findings) error {
	own, err := n.vnet(ctx, id, notBefore)
	if err != nil {
		return err
	}
	if own.unread {
		out.remark("the virtual network " + id.Name() + " could not be read: what of it a baseline would cut off is not known")
		return nil
	}
	out.Neighbours = append(out.Neighbours, broker.Neighbour{Kind: broker.OwnNetwork, ID: id, Prefixes: own.prefixes})
	out.Neighbours = append(out.Neighbours, own.bastions...)
	if own.gateway {
		out.Neighbours = append(out.Neighbours, broker.Neighbour{Kind: broker.Gateway, ID: id})
	}
	if own.anyOthers {
		out.remark("a peering of the virtual network " + id.Name() + " could not be read: what of it a baseline would cut off is not known")
	}
	for _, p := range own.peers {
		out.Neighbours = append(out.Neighbours, p)
		peer, err := n.vnet(ctx, p.ID, notBefore)
		if err != nil {
			return err
		}
		if peer.unread {
			out.remark("the peered virtual network " + p.ID.Name() + " could not be read: whether it holds an Azure Bastion is not known")
		}
		out.Neighbours = append(out.Neighbours, peer.bastions...)
	}
	return nil
}

// findings are the surroundings as they are put together.
type findings struct{ broker.Surroundings }

func (f *findings) remark(text string) {
	if !slices.Contains(f.Unread, text) {
		f.Unread = append(f.Unread, text)
	}
}

// aboutOne says whether an error is about this one resource: our identity may
// not read it, it is gone, or its answer makes no sense.
func aboutOne(err error) bool {
	return access.CodeOf(err) == access.NotFound || access.ReasonOf(err) == "azure_permission" || access.ReasonOf(err) == "azure_unreadable"
}

func (n *Network) vnet(ctx context.Context, id access.ResourceID, notBefore time.Time) (vnet, error) {
	return get(ctx, n, id, notBefore, func(ctx context.Context, c *clients) (vnet, error) {
		res, err := c.networks.Get(ctx, id.ResourceGroup(), id.Name(), nil)
		if err = failure(err, "reading "+id.Name()); err == nil {
			var v vnet
			if v, err = vnetOf(id, &res.VirtualNetwork); err == nil {
				return v, nil
			}
		}
		if aboutOne(err) {
			// Kept like an answer: every machine of the network asks for it.
			return vnet{unread: true}, nil
		}
		return vnet{}, err
	})
}

func vnetOf(id access.ResourceID, v *armnetwork.VirtualNetwork) (vnet, error) {
	var out vnet
	p := v.Properties
	if p == nil || p.AddressSpace == nil {
		return out, unreadable(id)
	}
	var err error
	if out.prefixes, err = prefixes(id, p.AddressSpace.AddressPrefixes); err != nil {
		return out, err
	}
	for _, s := range present(p.Subnets) {
		switch strings.ToLower(value(s.Name)) {
		case bastionSubnet:
			sid, err := access.ParseResourceID(value(s.ID))
			if err != nil {
				return out, unreadable(id)
			}
			sub, err := subnetOf(sid, s)
			if err != nil {
				return out, err
			}
			out.bastions = append(out.bastions, broker.Neighbour{Kind: broker.Bastion, ID: sid, Prefixes: sub.prefixes})
		case gatewaySubnet:
			out.gateway = true
		}
	}
	for _, peering := range present(p.VirtualNetworkPeerings) {
		out.peering(peering.Properties)
	}
	return out, nil
}

// peering adds a network that VirtualNetwork stands for too: one that is
// connected and let in.
func (v *vnet) peering(p *armnetwork.VirtualNetworkPeeringPropertiesFormat) {
	if p == nil || value(p.PeeringState) != armnetwork.VirtualNetworkPeeringStateConnected || !value(p.AllowVirtualNetworkAccess) {
		return
	}
	v.gateway = v.gateway || value(p.UseRemoteGateways)
	if p.RemoteVirtualNetwork == nil || p.RemoteAddressSpace == nil {
		v.anyOthers = true
		return
	}
	id, err := access.ParseResourceID(value(p.RemoteVirtualNetwork.ID))
	if err != nil {
		v.anyOthers = true
		return
	}
	space, err := prefixes(id, p.RemoteAddressSpace.AddressPrefixes)
	if err != nil {
		v.anyOthers = true
		return
	}
	v.peers = append(v.peers, broker.Neighbour{Kind: broker.PeerNetwork, ID: id, Prefixes: space})
}

func prefixes(id access.ResourceID, list []*string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(value(text))
		if err != nil {
			return nil, unreadable(id)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// use is what a load balancer sends to those in a pool, or with an inbound NAT rule.
type use struct {
	by   []access.ResourceID // the pools and rules
	sent broker.Balanced
}

// balanced adds what load balancers send to the address.
func (n *Network) balanced(ctx context.Context, a broker.Address, notBefore time.Time, out *findings) error {
	var seen []access.ResourceID
	for _, member := range a.Balanced {
		id := member.Parent()
		if slices.Contains(seen, id) {
			continue
		}
		seen = append(seen, id)
		lb, err := n.balancer(ctx, id, notBefore)
		if err != nil {
			return err
		}
		if lb.unread {
			out.remark("the load balancer " + id.Name() + " could not be read: whether a baseline would shut its probes out is not known")
		}
		for _, u := range lb.uses {
			if slices.ContainsFunc(u.by, func(id access.ResourceID) bool { return slices.Contains(a.Balanced, id) }) {
				sent := u.sent
				sent.Address = a.IP
				out.Balanced = append(out.Balanced, sent)
			}
		}
	}
	return nil
}

func (n *Network) balancer(ctx context.Context, id access.ResourceID, notBefore time.Time) (balancer, error) {
	return get(ctx, n, id, notBefore, func(ctx context.Context, c *clients) (balancer, error) {
		res, err := c.balancers.Get(ctx, id.ResourceGroup(), id.Name(), nil)
		if err = failure(err, "reading "+id.Name()); err == nil {
			var uses []use
			if uses, err = usesOf(id, &res.LoadBalancer); err == nil {
				return balancer{uses: uses}, nil
			}
		}
		if aboutOne(err) {
			return balancer{unread: true}, nil
		}
		return balancer{}, err
	})
}

func usesOf(id access.ResourceID, v *armnetwork.LoadBalancer) ([]use, error) {
	if v.Properties == nil {
		return nil, unreadable(id)
	}
	var out []use
	for _, r := range present(v.Properties.LoadBalancingRules) {
		p := r.Properties
		if p == nil {
			continue
		}
		pools := refs(append(slices.Clone(p.BackendAddressPools), p.BackendAddressPool)...)
		out = append(out, use{pools, broker.Balanced{Balancer: id, Name: value(r.Name), Port: uint16(value(p.BackendPort)), Protocol: protocolOf(p.Protocol)}})
		for _, probe := range present(v.Properties.Probes) {
			if p.Probe != nil && probe.Properties != nil && strings.EqualFold(value(probe.ID), value(p.Probe.ID)) {
				out = append(out, use{pools, broker.Balanced{Balancer: id, Name: value(probe.Name), Probe: true, Port: uint16(value(probe.Properties.Port)), Protocol: access.TCP}})
			}
		}
	}
	for _, r := range present(v.Properties.InboundNatRules) {
		if p := r.Properties; p != nil {
			by := refs(&armnetwork.SubResource{ID: r.ID}, p.BackendAddressPool)
			out = append(out, use{by, broker.Balanced{Balancer: id, Name: value(r.Name), Port: uint16(value(p.BackendPort)), Protocol: protocolOf(p.Protocol)}})
		}
	}
	return out, nil
}

func refs(list ...*armnetwork.SubResource) (out []access.ResourceID) {
	for _, r := range list {
		if r == nil {
			continue
		}
		if id, err := access.ParseResourceID(value(r.ID)); err == nil && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func protocolOf(p *armnetwork.TransportProtocol) access.Protocol {
	switch value(p) {
	case armnetwork.TransportProtocolTCP:
		return access.TCP
	case armnetwork.TransportProtocolUDP:
		return access.UDP
	}
	return access.AnyProtocol
}
