package network

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// snapshot shares reads among callers: a burst of requests for one machine, or
// for machines of one subnet, reads each resource once.
type snapshot struct {
	clock broker.Clock
	mu    sync.Mutex
	items map[access.ResourceID]*item
}

type item struct {
	startedAt time.Time
	done      chan struct{}
	value     any
	err       error
}

const (
	keepFor  = time.Minute
	maxItems = 20_000
)

func newSnapshot(clock broker.Clock) *snapshot {
	return &snapshot{clock: clock, items: map[access.ResourceID]*item{}}
}

// read gives the resource as read not before the time, joining a read under way.
func read[T any](ctx context.Context, s *snapshot, id access.ResourceID, notBefore time.Time, load func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	it, ok := s.items[id]
	if !ok || it.startedAt.Before(notBefore) {
		it = &item{startedAt: s.clock(), done: make(chan struct{})}
		s.drop()
		s.items[id] = it
		s.mu.Unlock()
		// A read that its first caller gives up must not fail for the others.
		v, err := load(context.WithoutCancel(ctx))
		it.value, it.err = v, err
		if err != nil {
			s.mu.Lock()
			if s.items[id] == it {
				delete(s.items, id)
			}
			s.mu.Unlock()
		}
		close(it.done)
	} else {
		s.mu.Unlock()
	}
	var zero T
	select {
	case <-it.done:
	case <-ctx.Done():
		return zero, access.Wrap(ctx.Err(), access.Unavailable, "azure_unreachable", "reading "+id.Name()+" took too long")
	}
	if it.err != nil {
		return zero, it.err
	}
	return it.value.(T), nil
}

// drop forgets what is old, and everything when there is too much; under mu.
func (s *snapshot) drop() {
	if len(s.items) > maxItems {
		clear(s.items)
	}
	if len(s.items)%64 != 0 {
		return
	}
	old := s.clock().Add(-keepFor)
	for id, it := range s.items {
		if it.startedAt.Before(old) {
			delete(s.items, id)
		}
	}
}

// Machine implements broker.Machines.
func (n *Network) Machine(ctx context.Context, vm access.ResourceID, notBefore time.Time) (broker.Machine, error) {
	c, err := n.of(vm.Subscription())
	if err != nil {
		return broker.Machine{}, err
	}
	type found struct {
		unique string
		nics   []access.ResourceID
	}
	f, err := read(ctx, n.snap, vm, notBefore, func(ctx context.Context) (found, error) {
		res, err := c.vms.Get(ctx, vm.ResourceGroup(), vm.Name(), nil)
		if err != nil {
			return found{}, failure(err, "reading "+vm.Name())
		}
		var f found
		if p := res.Properties; p != nil {
			f.unique = value(p.VMID)
			if p.NetworkProfile != nil {
				for _, ref := range p.NetworkProfile.NetworkInterfaces {
					id, err := access.ParseResourceID(value(ref.ID))
					if err != nil {
						return found{}, unreadable(vm)
					}
					f.nics = append(f.nics, id)
				}
			}
		}
		return f, nil
	})
	if err != nil {
		return broker.Machine{}, err
	}
	m := broker.Machine{ID: vm, Name: vm.Name(), UniqueID: f.unique}
	for _, id := range f.nics {
		nic, err := n.nic(ctx, id, notBefore)
		if err != nil {
			return broker.Machine{}, err
		}
		for i := range nic.Addresses {
			if err := n.ambiguity(ctx, &nic, &nic.Addresses[i], notBefore); err != nil {
				return broker.Machine{}, err
			}
		}
		m.NICs = append(m.NICs, nic)
	}
	return m, nil
}

func unreadable(id access.ResourceID) error {
	return access.Errorf(access.Unavailable, "azure_unreadable", "Azure's answer about %s cannot be read", id.Name())
}

// nic reads an interface with its subnets' groups. What it gives is the
// caller's own.
func (n *Network) nic(ctx context.Context, id access.ResourceID, notBefore time.Time) (broker.NIC, error) {
	c, err := n.of(id.Subscription())
	if err != nil {
		return broker.NIC{}, err
	}
	nic, err := read(ctx, n.snap, id, notBefore, func(ctx context.Context) (broker.NIC, error) {
		res, err := c.nics.Get(ctx, id.ResourceGroup(), id.Name(), nil)
		if err != nil {
			return broker.NIC{}, failure(err, "reading "+id.Name())
		}
		return nicOf(id, &res.Interface)
	})
	if err != nil {
		return broker.NIC{}, err
	}
	nic.Addresses = slices.Clone(nic.Addresses)
	for i := range nic.Addresses {
		s, err := n.subnet(ctx, nic.Addresses[i].Subnet, notBefore)
		if err != nil {
			return broker.NIC{}, err
		}
		nic.Addresses[i].SubnetNSG = s.group
	}
	return nic, nil
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
	for _, config := range v.Properties.IPConfigurations {
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
		nic.Addresses = append(nic.Addresses, broker.Address{IP: ip, Subnet: subnet})
	}
	return nic, nil
}

type subnet struct {
	group    access.ResourceID
	prefixes []netip.Prefix
}

func (n *Network) subnet(ctx context.Context, id access.ResourceID, notBefore time.Time) (subnet, error) {
	c, err := n.of(id.Subscription())
	if err != nil {
		return subnet{}, err
	}
	return read(ctx, n.snap, id, notBefore, func(ctx context.Context) (subnet, error) {
		res, err := c.subnets.Get(ctx, id.ResourceGroup(), id.Parent().Name(), id.Name(), nil)
		if err != nil {
			return subnet{}, failure(err, "reading "+id.Name())
		}
		var s subnet
		if res.Properties == nil {
			return s, unreadable(id)
		}
		if g := res.Properties.NetworkSecurityGroup; g != nil {
			if s.group, err = access.ParseResourceID(value(g.ID)); err != nil {
				return s, unreadable(id)
			}
		}
		for _, text := range list(res.Properties.AddressPrefix, res.Properties.AddressPrefixes) {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return s, unreadable(id)
			}
			s.prefixes = append(s.prefixes, p)
		}
		return s, nil
	})
}

// ambiguity looks whether a group on the address's way in is attached to a
// network other than the VM's that holds the same address: a rule for it would
// open that one too. Subnets of one network never overlap, so only others are read.
func (n *Network) ambiguity(ctx context.Context, nic *broker.NIC, a *broker.Address, notBefore time.Time) error {
	for _, id := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
		if id == "" {
			continue
		}
		g, err := read(ctx, n.snap, id, notBefore, func(ctx context.Context) (nsg.Group, error) { return n.Group(ctx, id) })
		if err != nil {
			return err
		}
		subnets := slices.Clone(g.Subnets)
		for _, other := range g.NICs {
			if other == nic.ID {
				continue
			}
			o, err := n.nic(ctx, other, notBefore)
			if access.CodeOf(err) == access.NotFound {
				continue // removed since the group was read
			}
			if err != nil {
				return err
			}
			for _, oa := range o.Addresses {
				subnets = append(subnets, oa.Subnet)
			}
		}
		for _, s := range subnets {
			if s.Parent() == a.Subnet.Parent() {
				continue
			}
			other, err := n.subnet(ctx, s, notBefore)
			if access.CodeOf(err) == access.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(other.prefixes, func(p netip.Prefix) bool { return p.Contains(a.IP) }) {
				a.AmbiguousOn = id
				return nil
			}
		}
	}
	return nil
}
