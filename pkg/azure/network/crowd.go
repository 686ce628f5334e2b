package network

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// crowd decides when the lists of a subscription cost less than reads of single
// machines, and shares one listing among all who need it. Resource Manager
// allows a principal 250 reads at once and 25 a second after that, and a machine
// takes two: without this a burst over 200 machines waits for its reads alone.
type crowd struct {
	mu sync.Mutex
	// cost is how many pages the last listing had.
	cost int
	// singles are the times of the single reads of machines that were made lately.
	singles []time.Time
	// under is the listing under way; next is the one that begins after it, for
	// all to whom it comes too early.
	under, next *listing
	// notUntil keeps a listing that failed from being tried at once again: the
	// single reads say what is wrong.
	notUntil time.Time
}

type listing struct {
	startedAt time.Time
	done      chan struct{}
}

const (
	// assumedCost is what a listing is taken to cost before there was one.
	assumedCost = 10
	// readsOfOne is what a machine costs by itself: the machine and its interface.
	readsOfOne = 2
	// lately is how long single reads count: about as long as what was read for
	// one request is good for another.
	lately = 10 * time.Second
	// listAgain is how soon a listing that failed is tried again.
	listAgain = time.Minute
)

func (n *Network) crowdOf(subscription string) *crowd {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.crowds[subscription]
	if !ok {
		c = &crowd{cost: assumedCost}
		n.crowds[subscription] = c
	}
	return c
}

// Prepare implements broker.MachinePreparer: where so many of the machines are
// not known as new as asked for that lists cost less, it lists.
func (n *Network) Prepare(ctx context.Context, machines []access.ResourceID, notBefore time.Time) {
	missing := map[string]int{}
	for _, id := range machines {
		if !n.snap.has(id, notBefore) {
			missing[id.Subscription()]++
		}
	}
	for subscription, count := range missing {
		c := n.crowdOf(subscription)
		c.decide(n, subscription, notBefore, func() bool { return count*readsOfOne > c.cost }).wait(ctx)
	}
}

// join is asked before the single read of a machine. It waits for a listing that
// will answer it, if one is under way or as much has been spent on single reads
// lately as one costs.
func (n *Network) join(ctx context.Context, id access.ResourceID, notBefore time.Time) {
	if n.snap.has(id, notBefore) {
		return
	}
	c := n.crowdOf(id.Subscription())
	c.decide(n, id.Subscription(), notBefore, func() bool {
		if len(c.singles)*readsOfOne >= c.cost {
			return true
		}
		c.singles = append(c.singles, n.clock())
		return false
	}).wait(ctx)
}

// decide gives the listing to wait for; nil for none. A new one begins only
// where that is worth it.
func (c *crowd) decide(n *Network, subscription string, notBefore time.Time, worth func() bool) *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := n.clock()
	c.singles = slices.DeleteFunc(c.singles, func(at time.Time) bool { return now.Sub(at) >= lately })
	if c.under != nil && !c.under.startedAt.Before(notBefore) {
		return c.under
	}
	if c.next != nil {
		return c.next
	}
	if now.Before(c.notUntil) || !worth() {
		return nil
	}
	c.singles = nil
	l := &listing{done: make(chan struct{})}
	if c.under != nil {
		c.next = l
		return l
	}
	c.begin(n, subscription, l)
	return l
}

// begin starts a listing; under mu.
func (c *crowd) begin(n *Network, subscription string, l *listing) {
	l.startedAt, c.under, c.next = n.clock(), l, nil
	go n.list(subscription, c, l)
}

func (l *listing) wait(ctx context.Context) {
	if l == nil {
		return
	}
	select {
	case <-l.done:
	case <-ctx.Done(): // the read that follows says so
	}
}

// list fills the snapshot for whoever waits. That it failed is told by the
// single reads, which everybody makes who finds the snapshot too old.
func (n *Network) list(subscription string, c *crowd, l *listing) {
	ctx, cancel := context.WithTimeout(context.Background(), listAgain)
	defer cancel()
	cost, err := n.refresh(ctx, subscription)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cost = max(1, cost); err != nil {
		c.cost, c.notUntil = assumedCost, n.clock().Add(listAgain)
	}
	c.under = nil
	if c.next != nil {
		c.begin(n, subscription, c.next)
	}
	close(l.done)
}

// refresh lists the subscription into the snapshot, and counts the pages.
func (n *Network) refresh(ctx context.Context, subscription string) (pages int, err error) {
	c, err := n.of(subscription)
	if err != nil {
		return 0, err
	}
	var count atomic.Int64
	ctx = context.WithValue(ctx, pagesKey{}, &count)
	if _, err := n.machinesOf(ctx, c); err != nil {
		return 0, err
	}
	_, err = n.inventory(ctx, c, n.snap.clock(), subscription)
	return int(count.Load()), err
}

// pagesKey is under which a context carries the count of the pages read.
type pagesKey struct{}

// machinesOf lists the machines, into the snapshot too.
func (n *Network) machinesOf(ctx context.Context, c *clients) ([]*armcompute.VirtualMachine, error) {
	start := n.snap.clock()
	found, err := all(ctx, c.vms.NewListAllPager(nil), "listing the virtual machines",
		func(p armcompute.VirtualMachinesClientListAllResponse) []*armcompute.VirtualMachine { return p.Value })
	for _, v := range found {
		id, e := access.ParseResourceID(value(v.ID))
		if e != nil {
			continue
		}
		if machine, e := vmOf(id, v); e == nil {
			n.snap.keep(id, start, machine)
		}
	}
	return found, err
}
