package network

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"golang.org/x/sync/errgroup"
)

// listAtOnce bounds the machines of one listing that are read side by side.
const listAtOnce = 16

// List implements broker.MachineLister.
func (n *Network) List(ctx context.Context, subscription string) ([]broker.Machine, error) {
	c, err := n.of(subscription)
	if err != nil {
		return nil, err
	}
	start := n.snap.clock()
	var found []*armcompute.VirtualMachine
	for pager := c.vms.NewListAllPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, failure(err, "listing the virtual machines")
		}
		found = append(found, page.Value...)
	}
	out := make([]broker.Machine, len(found))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listAtOnce)
	for i, v := range found {
		id, err := access.ParseResourceID(value(v.ID))
		if err != nil {
			return nil, unreadable(access.ResourceID("virtualmachines"))
		}
		g.Go(func() error {
			m, err := n.Machine(gctx, id, start)
			if err != nil {
				if gctx.Err() != nil {
					return err
				}
				m = broker.Machine{ID: id, Name: id.Name(), Unreadable: access.AsError(err).Message}
			}
			if p := v.Properties; p != nil && p.StorageProfile != nil && p.StorageProfile.OSDisk != nil && p.StorageProfile.OSDisk.OSType != nil {
				m.OS = string(*p.StorageProfile.OSDisk.OSType)
			}
			out[i] = m
			return nil
		})
	}
	return out, g.Wait()
}
