package main

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// pollEvery is how often the naive worker looks whether a write is done, where
// Resource Manager does not say when to: as often as the SDK allows.
const pollEvery = time.Second

// naive is what one writes first: one rule per grant, each put and each deleted
// in turn, and waited for. It reads no policy, keeps no record and checks
// nothing.
type naive struct {
	rules *armnetwork.SecurityRulesClient
}

func newNaive(s *local) (*naive, error) {
	rules, err := armnetwork.NewSecurityRulesClient(subscription, minted{s.Stack}, s.armOptions(nil))
	return &naive{rules}, err
}

// naiveResult is told for as many grants as a burst has.
type naiveResult struct {
	openWrites, closeWrites float64
	open, closed            float64 // seconds
}

// work opens and closes so many grants in turn. Each takes as long as the one
// before it, so that the time of a whole burst follows.
func (n *naive) work(ctx context.Context, b burstOptions) (r naiveResult, err error) {
	began := time.Now()
	for i := range b.naive {
		if err := n.open(ctx, b, i); err != nil {
			return r, err
		}
	}
	opened := time.Now()
	for i := range b.naive {
		if err := n.close(ctx, i); err != nil {
			return r, err
		}
	}
	times := float64(b.grants) / float64(b.naive)
	return naiveResult{
		openWrites: float64(b.grants), closeWrites: float64(b.grants),
		open: opened.Sub(began).Seconds() * times, closed: time.Since(opened).Seconds() * times,
	}, nil
}

func ruleName(i int) string { return fmt.Sprintf("grant-%03d", i) }

func (n *naive) open(ctx context.Context, b burstOptions, i int) error {
	p, err := n.rules.BeginCreateOrUpdate(ctx, resourceGroup, naiveGroup, ruleName(i), armnetwork.SecurityRule{Properties: grantRule(i, b.grants)}, nil)
	if err == nil {
		_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	return err
}

// grantRule lets the i-th source to the machine whose turn it is.
func grantRule(i, machines int) *armnetwork.SecurityRulePropertiesFormat {
	return &armnetwork.SecurityRulePropertiesFormat{
		Access: to.Ptr(armnetwork.SecurityRuleAccessAllow), Direction: to.Ptr(armnetwork.SecurityRuleDirectionInbound),
		Protocol: to.Ptr(armnetwork.SecurityRuleProtocolTCP), Priority: to.Ptr(int32(100 + i)),
		SourceAddressPrefix: to.Ptr(source(i)), SourcePortRange: to.Ptr("*"),
		DestinationAddressPrefix: to.Ptr(address(i % machines)), DestinationPortRange: to.Ptr("22"),
	}
}

func (n *naive) close(ctx context.Context, i int) error {
	p, err := n.rules.BeginDelete(ctx, resourceGroup, naiveGroup, ruleName(i), nil)
	if err == nil {
		_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	return err
}
