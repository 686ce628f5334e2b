package main

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// largestBatch is how many rules of one grant each a network security group holds
// beside the one that is there: 1,000 in all ("Azure subscription limits").
const largestBatch = 999

// batch is the best that a write can do without packing: one rule per grant, all
// of them in one write of the group, and gone in another. It knows beforehand
// what is to be opened, reads no policy and keeps no record.
type batch struct {
	groups *armnetwork.SecurityGroupsClient
}

func newBatch(s *local) (*batch, error) {
	groups, err := armnetwork.NewSecurityGroupsClient(subscription, minted{s.Stack}, s.armOptions(nil))
	return &batch{groups}, err
}

func (b *batch) work(ctx context.Context, machines int) (r naiveResult, err error) {
	have, err := b.groups.Get(ctx, resourceGroup, naiveGroup, nil)
	if err != nil {
		return r, err
	}
	before := have.Properties.SecurityRules
	began := time.Now()
	have.Properties.SecurityRules = append(before[:len(before):len(before)], b.rules(machines)...)
	if err := b.put(ctx, have.SecurityGroup); err != nil {
		return r, err
	}
	opened := time.Now()
	have.Properties.SecurityRules = before
	if err := b.put(ctx, have.SecurityGroup); err != nil {
		return r, err
	}
	return naiveResult{openWrites: 1, closeWrites: 1, open: opened.Sub(began).Seconds(), closed: time.Since(opened).Seconds()}, nil
}

func (b *batch) rules(machines int) (out []*armnetwork.SecurityRule) {
	for i := range largestBatch {
		out = append(out, &armnetwork.SecurityRule{Name: to.Ptr(fmt.Sprintf("grant-%03d", i)), Properties: grantRule(i, machines)})
	}
	return out
}

func (b *batch) put(ctx context.Context, g armnetwork.SecurityGroup) error {
	p, err := b.groups.BeginCreateOrUpdate(ctx, resourceGroup, naiveGroup, g, nil)
	if err == nil {
		_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	return err
}
