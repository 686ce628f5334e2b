package network

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"golang.org/x/sync/errgroup"
)

// List implements broker.MachineLister: by the lists of the subscription's
// machines, interfaces, networks and groups, and by no call for a single one.
// What they hold goes into the snapshot too.
func (n *Network) List(ctx context.Context, subscription string) ([]broker.Machine, error) {
	c, err := n.of(subscription)
	if err != nil {
		return nil, err
	}
	start := n.snap.clock()
	// The machines come first: what a machine needs was there before it.
	found, err := n.machinesOf(ctx, c)
	if err != nil {
		return nil, err
	}
	r, err := n.inventory(ctx, c, start, subscription)
	if err != nil {
		return nil, err
	}
	var out []broker.Machine
	for _, v := range found {
		id, err := access.ParseResourceID(value(v.ID))
		if err != nil {
			return nil, unreadable(access.ResourceID("virtualmachines"))
		}
		machine, err := vmOf(id, v)
		m := broker.Machine{}
		if err == nil {
			m, err = r.machine(id, machine)
		}
		if err != nil {
			m = broker.Machine{ID: id, Name: machine.name, OS: machine.os, UniqueID: machine.unique, Location: machine.location, Tags: machine.tags, Unreadable: access.AsError(err).Message}
		}
		out = append(out, m)
	}
	return out, nil
}

// inventory reads the lists of all that machines' ways in are made of.
func (n *Network) inventory(ctx context.Context, c *clients, start time.Time, subscription string) (reader, error) {
	var nics []*armnetwork.Interface
	var networks []*armnetwork.VirtualNetwork
	var groups []nsg.Group
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		nics, err = all(ctx, c.nics.NewListAllPager(nil), "listing the network interfaces",
			func(p armnetwork.InterfacesClientListAllResponse) []*armnetwork.Interface { return p.Value })
		return err
	})
	g.Go(func() (err error) {
		networks, err = all(ctx, c.networks.NewListAllPager(nil), "listing the virtual networks",
			func(p armnetwork.VirtualNetworksClientListAllResponse) []*armnetwork.VirtualNetwork { return p.Value })
		return err
	})
	g.Go(func() (err error) {
		groups, err = n.Groups(ctx, subscription)
		return err
	})
	if err := g.Wait(); err != nil {
		return reader{}, err
	}
	nicsBy, subnetsBy, groupsBy := newShelf[broker.NIC](n, start), newShelf[subnet](n, start), newShelf[nsg.Group](n, start)
	for _, v := range nics {
		put(nicsBy, value(v.ID), v, nicOf)
	}
	for _, v := range networks {
		if v.Properties == nil {
			continue
		}
		for _, s := range present(v.Properties.Subnets) {
			put(subnetsBy, value(s.ID), s, subnetOf)
		}
		if id, err := access.ParseResourceID(value(v.ID)); err == nil {
			if around, err := vnetOf(id, v); err == nil {
				n.snap.keep(id, start, around)
			}
		}
	}
	for _, v := range groups {
		put(groupsBy, string(v.ID), v, func(_ access.ResourceID, v nsg.Group) (nsg.Group, error) { return v, nil })
	}
	return reader{nic: nicsBy.find, subnet: subnetsBy.find, group: groupsBy.find}.remembering(), nil
}

// remembering looks up once for each group what it is attached to.
func (r reader) remembering() reader {
	group := r.group
	known := map[access.ResourceID]nsg.Group{}
	r.group = func(id access.ResourceID) (nsg.Group, error) {
		if g, ok := known[id]; ok {
			return g, nil
		}
		g, err := group(id)
		if err != nil {
			return g, err
		}
		subnets, err := reader{nic: r.nic, subnet: r.subnet, group: group}.attached(id)
		g.Subnets, g.NICs = subnets, nil
		known[id] = g
		return g, err
	}
	return r
}

// shelf holds what a list held of one kind.
type shelf[T any] struct {
	snap  *snapshot
	start time.Time
	items map[access.ResourceID]T
	bad   map[access.ResourceID]error
}

func newShelf[T any](n *Network, start time.Time) *shelf[T] {
	return &shelf[T]{snap: n.snap, start: start, items: map[access.ResourceID]T{}, bad: map[access.ResourceID]error{}}
}

// put reads one item of a list. One that cannot be read is an error to whoever
// needs it.
func put[V, T any](s *shelf[T], text string, v V, read func(access.ResourceID, V) (T, error)) {
	id, err := access.ParseResourceID(text)
	if err != nil {
		return
	}
	item, err := read(id, v)
	if err != nil {
		s.bad[id] = err
		return
	}
	s.items[id] = item
	s.snap.keep(id, s.start, item)
}

func (s *shelf[T]) find(id access.ResourceID) (T, error) {
	item, ok := s.items[id]
	switch {
	case s.bad[id] != nil:
		return item, s.bad[id]
	case !ok:
		return item, access.Errorf(access.NotFound, "not_found", "%s is not in the list that Azure gave: it does not exist, or our identity may not read it", id)
	}
	return item, nil
}

// all reads every page.
func all[P, T any](ctx context.Context, pager *runtime.Pager[P], doing string, values func(P) []*T) ([]*T, error) {
	var out []*T
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, failure(err, doing)
		}
		if count, ok := ctx.Value(pagesKey{}).(*atomic.Int64); ok {
			count.Add(1)
		}
		out = append(out, present(values(page))...)
	}
	return out, nil
}
