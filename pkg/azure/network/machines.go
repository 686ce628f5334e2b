package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// vm is what is read of a virtual machine itself.
type vm struct {
	name, unique, os, location string
	tags                       map[string]string
	nics                       []access.ResourceID
}

// subnet is what is read of a subnet.
type subnet struct {
	group    access.ResourceID
	prefixes []netip.Prefix
}

// reader reads the parts of a machine's ways in, one by one or out of a list.
// The errors of its functions are those of broker.Machines.
type reader struct {
	nic    func(access.ResourceID) (broker.NIC, error)
	subnet func(access.ResourceID) (subnet, error)
	group  func(access.ResourceID) (nsg.Group, error)
}

// Machine implements broker.Machines.
func (n *Network) Machine(ctx context.Context, id access.ResourceID, notBefore time.Time) (broker.Machine, error) {
	c, err := n.of(id.Subscription())
	if err != nil {
		return broker.Machine{}, err
	}
	n.join(ctx, id, notBefore)
	v, err := read(ctx, n.snap, id, notBefore, func(ctx context.Context) (vm, error) {
		res, err := c.vms.Get(ctx, id.ResourceGroup(), id.Name(), nil)
		if err != nil {
			return vm{}, failure(err, "reading "+id.Name())
		}
		return vmOf(id, &res.VirtualMachine)
	})
	if err != nil {
		return broker.Machine{}, err
	}
	return n.oneByOne(ctx, notBefore).machine(id, v)
}

// oneByOne reads what the snapshot does not have as new as asked for.
func (n *Network) oneByOne(ctx context.Context, notBefore time.Time) reader {
	return reader{
		nic: func(id access.ResourceID) (broker.NIC, error) {
			return get(ctx, n, id, notBefore, func(ctx context.Context, c *clients) (broker.NIC, error) {
				res, err := c.nics.Get(ctx, id.ResourceGroup(), id.Name(), nil)
				if err != nil {
					return broker.NIC{}, failure(err, "reading "+id.Name())
				}
				return nicOf(id, &res.Interface)
			})
		},
		subnet: func(id access.ResourceID) (subnet, error) {
			return get(ctx, n, id, notBefore, func(ctx context.Context, c *clients) (subnet, error) {
				res, err := c.subnets.Get(ctx, id.ResourceGroup(), id.Parent().Name(), id.Name(), nil)
				if err != nil {
					return subnet{}, failure(err, "reading "+id.Name())
				}
				return subnetOf(id, &res.Subnet)
			})
		},
		group: func(id access.ResourceID) (nsg.Group, error) {
			return read(ctx, n.snap, id, notBefore, func(ctx context.Context) (nsg.Group, error) { return n.Group(ctx, id) })
		},
	}
}

// get is read with the clients of the resource's subscription.
func get[T any](ctx context.Context, n *Network, id access.ResourceID, notBefore time.Time, load func(context.Context, *clients) (T, error)) (T, error) {
	c, err := n.of(id.Subscription())
	if err != nil {
		var zero T
		return zero, err
	}
	return read(ctx, n.snap, id, notBefore, func(ctx context.Context) (T, error) { return load(ctx, c) })
}

// machine resolves a machine to its ways in. What it gives is the caller's own.
func (r reader) machine(id access.ResourceID, v vm) (broker.Machine, error) {
	m := broker.Machine{ID: id, Name: v.name, UniqueID: v.unique, OS: v.os, Location: v.location, Tags: maps.Clone(v.tags)}
	for _, id := range v.nics {
		nic, err := r.nic(id)
		if err != nil {
			return broker.Machine{}, err
		}
		nic.Addresses = slices.Clone(nic.Addresses)
		for i := range nic.Addresses {
			a := &nic.Addresses[i]
			s, err := r.subnet(a.Subnet)
			if err != nil {
				return broker.Machine{}, err
			}
			a.SubnetNSG = s.group
			if a.AmbiguousOn, err = r.ambiguity(nic.NSG, *a); err != nil {
				return broker.Machine{}, err
			}
		}
		m.NICs = append(m.NICs, nic)
	}
	return m, nil
}

// ambiguity looks whether a group on the address's way in is attached to a
// network other than the VM's that holds the same address: a rule for it would
// open that one too. Subnets of one network never overlap, so only others are read.
func (r reader) ambiguity(onNIC access.ResourceID, a broker.Address) (access.ResourceID, error) {
	for _, id := range []access.ResourceID{a.SubnetNSG, onNIC} {
		if id == "" {
			continue
		}
		subnets, err := r.attached(id)
		if err != nil {
			return "", err
		}
		for _, s := range subnets {
			if s.Parent() == a.Subnet.Parent() {
				continue
			}
			other, err := r.subnet(s)
			if access.CodeOf(err) == access.NotFound {
				continue
			}
			if err != nil {
				return "", err
			}
			if slices.ContainsFunc(other.prefixes, func(p netip.Prefix) bool { return p.Contains(a.IP) }) {
				return id, nil
			}
		}
	}
	return "", nil
}

// attached gives the subnets that a group filters traffic to: its own and those
// of its interfaces.
func (r reader) attached(id access.ResourceID) ([]access.ResourceID, error) {
	g, err := r.group(id)
	if err != nil {
		return nil, err
	}
	subnets := slices.Clone(g.Subnets)
	for _, other := range g.NICs {
		nic, err := r.nic(other)
		if access.CodeOf(err) == access.NotFound {
			continue // removed since the group was read
		}
		if err != nil {
			return nil, err
		}
		for _, a := range nic.Addresses {
			if !slices.Contains(subnets, a.Subnet) {
				subnets = append(subnets, a.Subnet)
			}
		}
	}
	return subnets, nil
}

func unreadable(id access.ResourceID) error {
	return access.Errorf(access.Unavailable, "azure_unreadable", "Azure's answer about %s cannot be read", id.Name())
}

func vmOf(id access.ResourceID, v *armcompute.VirtualMachine) (vm, error) {
	// The id is in lower case; people know the machine as Azure spells it.
	out := vm{name: value(v.Name), location: value(v.Location), tags: map[string]string{}}
	for name, text := range v.Tags {
		out.tags[name] = value(text)
	}
	if out.name == "" {
		out.name = id.Name()
	}
	p := v.Properties
	if p == nil {
		return out, nil
	}
	out.unique = value(p.VMID)
	if p.StorageProfile != nil && p.StorageProfile.OSDisk != nil {
		out.os = string(value(p.StorageProfile.OSDisk.OSType))
	}
	if p.NetworkProfile != nil {
		for _, ref := range present(p.NetworkProfile.NetworkInterfaces) {
			nic, err := access.ParseResourceID(value(ref.ID))
			if err != nil {
				return out, unreadable(id)
			}
			out.nics = append(out.nics, nic)
		}
	}
	return out, nil
}

func nicOf(id access.ResourceID, v *armnetwork.Interface) (broker.NIC, error) {
	nic := broker.NIC{ID: id}
	if v.Properties == nil {
		return nic, unreadable(id)
	}
	var err error
	if g := v.Properties.NetworkSecurityGroup; g != nil {
		if nic.NSG, err = access.ParseResourceID(value(g.ID)); err != nil {
			return nic, unreadable(id)
		}
	}
	for _, config := range present(v.Properties.IPConfigurations) {
		p := config.Properties
		if p == nil || value(p.PrivateIPAddress) == "" || p.Subnet == nil {
			continue
		}
		ip, err := netip.ParseAddr(*p.PrivateIPAddress)
		if err != nil {
			return nic, unreadable(id)
		}
		subnet, err := access.ParseResourceID(value(p.Subnet.ID))
		if err != nil {
			return nic, unreadable(id)
		}
		nic.Addresses = append(nic.Addresses, broker.Address{IP: ip, Subnet: subnet, Balanced: balanced(p)})
	}
	return nic, nil
}

// balanced gives the backend pools and inbound NAT rules of load balancers that
// the address is in. One that cannot be read is left out: no access hangs on it.
func balanced(p *armnetwork.InterfaceIPConfigurationPropertiesFormat) (out []access.ResourceID) {
	for _, pool := range present(p.LoadBalancerBackendAddressPools) {
		if id, err := access.ParseResourceID(value(pool.ID)); err == nil {
			out = append(out, id)
		}
	}
	for _, rule := range present(p.LoadBalancerInboundNatRules) {
		if id, err := access.ParseResourceID(value(rule.ID)); err == nil {
			out = append(out, id)
		}
	}
	return out
}

func subnetOf(id access.ResourceID, v *armnetwork.Subnet) (subnet, error) {
	var s subnet
	if v.Properties == nil {
		return s, unreadable(id)
	}
	if g := v.Properties.NetworkSecurityGroup; g != nil {
		var err error
		if s.group, err = access.ParseResourceID(value(g.ID)); err != nil {
			return s, unreadable(id)
		}
	}
	for _, text := range list(v.Properties.AddressPrefix, v.Properties.AddressPrefixes) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return s, unreadable(id)
		}
		s.prefixes = append(s.prefixes, p)
	}
	return s, nil
}
