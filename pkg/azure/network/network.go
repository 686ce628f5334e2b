// Package network reads machines and reads and writes network security groups,
// over armnetwork and armcompute.
package network

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// pollEvery is how often a long-running operation is asked for, unless the
// service names a time; the SDK's own default is 30 s.
const pollEvery = time.Second

// Network implements the broker's Groups, GroupLister, Machines, MachinePreparer,
// MachineLister and Neighbourhood.
type Network struct {
	cred  azcore.TokenCredential
	opts  *arm.ClientOptions
	clock broker.Clock
	snap  *snapshot

	mu      sync.Mutex
	clients map[string]*clients
	crowds  map[string]*crowd
}

// clients are the SDK's clients of one subscription.
type clients struct {
	groups    *armnetwork.SecurityGroupsClient
	rules     *armnetwork.SecurityRulesClient
	nics      *armnetwork.InterfacesClient
	networks  *armnetwork.VirtualNetworksClient
	subnets   *armnetwork.SubnetsClient
	balancers *armnetwork.LoadBalancersClient
	vms       *armcompute.VirtualMachinesClient
}

// New makes a Network for the credential and the cloud of the options.
func New(cred azcore.TokenCredential, opts *arm.ClientOptions, clock broker.Clock) (*Network, error) {
	if cred == nil || clock == nil {
		return nil, errors.New("network: a credential and a clock are required")
	}
	o := arm.ClientOptions{}
	if opts != nil {
		o = *opts
	}
	// Registering resource providers is not ours to do, and needs more rights.
	o.DisableRPRegistration = true
	// Longer waits than this are the caller's to plan.
	o.Retry.MaxRetries = 2
	return &Network{cred: cred, opts: &o, clock: clock, snap: newSnapshot(clock), clients: map[string]*clients{}, crowds: map[string]*crowd{}}, nil
}

func (n *Network) of(subscription string) (*clients, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := n.clients[subscription]; ok {
		return c, nil
	}
	var c clients
	var errs [7]error
	c.groups, errs[0] = armnetwork.NewSecurityGroupsClient(subscription, n.cred, n.opts)
	c.rules, errs[1] = armnetwork.NewSecurityRulesClient(subscription, n.cred, n.opts)
	c.nics, errs[2] = armnetwork.NewInterfacesClient(subscription, n.cred, n.opts)
	c.subnets, errs[3] = armnetwork.NewSubnetsClient(subscription, n.cred, n.opts)
	c.vms, errs[4] = armcompute.NewVirtualMachinesClient(subscription, n.cred, n.opts)
	c.networks, errs[5] = armnetwork.NewVirtualNetworksClient(subscription, n.cred, n.opts)
	c.balancers, errs[6] = armnetwork.NewLoadBalancersClient(subscription, n.cred, n.opts)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	n.clients[subscription] = &c
	return &c, nil
}

// Group implements broker.Groups.
func (n *Network) Group(ctx context.Context, id access.ResourceID) (nsg.Group, error) {
	c, err := n.of(id.Subscription())
	if err != nil {
		return nsg.Group{}, err
	}
	var raw *http.Response
	res, err := c.groups.Get(policy.WithCaptureResponse(ctx, &raw), id.ResourceGroup(), id.Name(), nil)
	if err != nil {
		return nsg.Group{}, failure(err, "reading "+id.Name())
	}
	body, err := runtime.Payload(raw)
	if err != nil {
		return nsg.Group{}, failure(err, "reading "+id.Name())
	}
	g, err := groupOf(&res.SecurityGroup)
	if err != nil {
		return nsg.Group{}, err
	}
	g.Loss, err = lossOf(body, &res.SecurityGroup)
	return g, err
}

// Groups implements broker.GroupLister.
func (n *Network) Groups(ctx context.Context, subscription string) ([]nsg.Group, error) {
	c, err := n.of(subscription)
	if err != nil {
		return nil, err
	}
	found, err := all(ctx, c.groups.NewListAllPager(nil), "listing network security groups",
		func(p armnetwork.SecurityGroupsClientListAllResponse) []*armnetwork.SecurityGroup { return p.Value })
	if err != nil {
		return nil, err
	}
	var out []nsg.Group
	for _, v := range found {
		g, err := groupOf(v)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// Apply implements broker.Groups.
func (n *Network) Apply(ctx context.Context, g nsg.Group, plan nsg.Plan) error {
	have, ok := g.Body.(*armnetwork.SecurityGroup)
	switch {
	case !ok || g.ETag == "":
		return access.Errorf(access.Internal, "group_not_read", "the group was not read by this adapter")
	case g.Loss != "":
		return access.Errorf(access.FailedPrecondition, "group_not_lossless", "writing the group as a whole would lose %s", g.Loss)
	}
	c, err := n.of(g.ID.Subscription())
	if err != nil {
		return err
	}
	next := *have
	props := *have.Properties
	next.Properties = &props
	props.SecurityRules = nil
	for _, r := range have.Properties.SecurityRules {
		if !replaced(plan, *r.Name) {
			props.SecurityRules = append(props.SecurityRules, r)
		}
	}
	for _, r := range plan.Put {
		props.SecurityRules = append(props.SecurityRules, ruleTo(r))
	}
	// The fence: whoever wrote since this group was read makes the write fail.
	ctx = policy.WithHTTPHeader(ctx, http.Header{"If-Match": {g.ETag}})
	poller, err := c.groups.BeginCreateOrUpdate(ctx, g.ID.ResourceGroup(), g.ID.Name(), next, nil)
	if err == nil {
		_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	return failure(err, "writing "+g.ID.Name())
}

func replaced(plan nsg.Plan, name string) bool {
	for _, r := range plan.Remove {
		if strings.EqualFold(r, name) {
			return true
		}
	}
	for _, r := range plan.Put {
		if strings.EqualFold(r.Name, name) {
			return true
		}
	}
	return false
}

// DeleteRule implements broker.Groups.
func (n *Network) DeleteRule(ctx context.Context, id access.ResourceID, name string) error {
	c, err := n.of(id.Subscription())
	if err != nil {
		return err
	}
	poller, err := c.rules.BeginDelete(ctx, id.ResourceGroup(), id.Name(), name, nil)
	if err == nil {
		_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	if e := failure(err, "removing a rule of "+id.Name()); access.CodeOf(e) != access.NotFound {
		return e
	}
	return nil
}

// DenyRule implements broker.Groups. It never widens: what it writes denies.
func (n *Network) DenyRule(ctx context.Context, id access.ResourceID, r nsg.Rule) error {
	c, err := n.of(id.Subscription())
	if err != nil {
		return err
	}
	r.Access = nsg.Deny
	rule := ruleTo(r)
	rule.Name = to.Ptr(r.Name)
	poller, err := c.rules.BeginCreateOrUpdate(ctx, id.ResourceGroup(), id.Name(), r.Name, *rule, nil)
	if err == nil {
		_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	}
	return failure(err, "denying a rule of "+id.Name())
}
