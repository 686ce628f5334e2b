package network_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/uuid"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	rules "github.com/portcullis-access/portcullis/pkg/policy"
)

const (
	// writeLatency is what a write of a group takes, callLatency any other call of
	// Resource Manager, rowLatency a call of the store.
	writeLatency = 10 * time.Second
	callLatency  = 50 * time.Millisecond
	rowLatency   = 10 * time.Millisecond
	// atOnce is how many messages of a queue, and how many sessions, the Functions
	// host works on side by side (host.json).
	atOnce = 32
	// mostWrites is how often a group may be written to open a burst, and to close
	// it.
	mostWrites = 4
)

// inside is Resource Manager without a socket between: with its token buckets,
// its quotas and its slow writes, in the time of a synctest bubble.
type inside struct{ server *resourcemanager.Server }

func (i inside) Do(r *http.Request) (*http.Response, error) {
	time.Sleep(callLatency)
	rec := httptest.NewRecorder()
	i.server.ServeHTTP(rec, r)
	res := rec.Result()
	res.Request = r
	return res, nil
}

// burst is a broker over the real adapter, with everything else in memory.
type burst struct {
	t          *testing.T
	server     *resourcemanager.Server
	store      *brokertest.Store
	bus        *brokertest.Bus
	submitter  *broker.Submitter
	reconciler *broker.Reconciler
	groups     []access.ResourceID
	ctx        context.Context
	sessions   sync.Map // of *session, by group
	slots      chan struct{}
	working    sync.WaitGroup
}

// session is a group's queue, of which one message is worked on at a time.
type session struct {
	waiting []time.Time
	running bool
	mu      sync.Mutex
}

func newBurst(t *testing.T, groups, machines int) *burst {
	t.Helper()
	top := resourcemanager.Topology{Subscription: subscription, ResourceGroup: "prod", Location: "westeurope"}
	v := resourcemanager.VNet{Name: "vnet-prod", AddressPrefixes: []string{"10.0.0.0/8"}}
	b := &burst{t: t, slots: make(chan struct{}, atOnce)}
	for g := range groups {
		name := fmt.Sprint("nsg-", g)
		top.NetworkSecurityGroups = append(top.NetworkSecurityGroups, resourcemanager.Group{Name: name})
		v.Subnets = append(v.Subnets, resourcemanager.Subnet{Name: name, AddressPrefixes: []string{fmt.Sprintf("10.%d.0.0/16", g)}, NetworkSecurityGroup: name})
		b.groups = append(b.groups, access.ResourceID(prod+"microsoft.network/networksecuritygroups/"+name))
		for m := range machines {
			vm := fmt.Sprintf("vm-%d-%d", g, m)
			top.VirtualMachines = append(top.VirtualMachines, resourcemanager.VM{Name: vm, OSType: "Linux", NICs: []resourcemanager.NIC{
				{Name: vm + "-nic", Subnet: "vnet-prod/" + name, Addresses: []string{fmt.Sprintf("10.%d.%d.%d", g, m/200, 4+m%200)}}}})
		}
	}
	top.VirtualNetworks = []resourcemanager.VNet{v}
	const base = "https://management.azure.com"
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.server, err = resourcemanager.New(resourcemanager.Config{
		Topology: top, BaseURL: base, OperationLatency: writeLatency, Verify: func(context.Context, string, string) error { return nil },
	})
	must()
	azure, err := network.New(token{}, &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: inside{b.server},
		Cloud:     cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: base, Audience: base}}},
	}}, time.Now)
	must()
	slow := &brokertest.Faults{Before: func(int) { time.Sleep(rowLatency) }}
	b.store, b.bus = brokertest.NewStore(slow), &brokertest.Bus{Faults: slow}
	b.store.Policies = []rules.AccessPolicy{{
		Scope: access.ResourceID("/subscriptions/" + subscription), Version: "v1", Requestors: []string{"*"}, AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports: []rules.Port{{Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, MaxDuration: 3 * time.Hour}},
	}}
	b.submitter, err = broker.NewSubmitter(broker.SubmitPorts{
		Policies: b.store, Requests: b.store, Files: b.store, Marks: b.store, Index: b.store, Starts: b.store, Events: b.store, Lockdowns: b.store, Tickets: b.store, Ledger: b.store,
		Machines: azure, Prompts: b.bus, StartPrompts: b.bus, Clock: time.Now, Token: uuid.NewString, Meter: &brokertest.Meter{},
	}, broker.SubmitSettings{ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: 10 * time.Second})
	must()
	b.reconciler, err = broker.NewReconciler(broker.ReconcilePorts{
		Ledger: b.store, Legs: b.store, Baselines: b.store, Files: b.store, Index: b.store, Policies: b.store, Lockdowns: b.store, Tickets: b.store, Events: b.store, History: b.store, Machines: azure, Groups: azure,
		Prompts: b.bus, Clock: time.Now, Token: uuid.NewString, Log: slog.New(slog.DiscardHandler), Meter: &brokertest.Meter{},
	}, nsg.Settings{Installation: "x", Band: nsg.Band{Low: 100, High: 999}, MaxGrant: 24 * time.Hour})
	must()
	return b
}

// ask submits a request for every machine by so many people each, all at once
// and all until the same time, as the Functions host does.
func (b *burst) ask(machines, people int, end time.Time) {
	queue := make(chan access.Request)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for req := range queue {
				if _, err := b.submitter.Submit(b.ctx, req); err != nil {
					b.t.Errorf("%s: %v", req.ClientID, err)
				}
			}
		})
	}
	n := 0
	for p := range people {
		for m := range machines {
			for g := range b.groups {
				id := fmt.Sprintf("%d-%d-%d", g, m, p)
				queue <- access.Request{
					ClientID: id, BodyHash: id, Requestor: access.Requestor{Name: fmt.Sprintf("p%s@contoso.com", id), Asserted: true},
					RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"},
					Ports: []access.PortRequest{{
						VM:   access.ResourceID(fmt.Sprintf("%svm-%d-%d", "/subscriptions/"+subscription+"/resourcegroups/prod/providers/microsoft.compute/virtualmachines/", g, m)),
						Port: 22, Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 32), EndTime: end,
					}},
				}
				n++
			}
		}
	}
	close(queue)
	wg.Wait()
}

// deliver hands out what is due, a message of a session at a time.
func (b *burst) deliver() {
	for b.ctx.Err() == nil {
		for _, p := range b.bus.Take(time.Now()) {
			v, _ := b.sessions.LoadOrStore(p.NSG, &session{})
			s := v.(*session)
			s.mu.Lock()
			s.waiting = append(s.waiting, time.Now())
			if !s.running {
				s.running = true
				b.working.Go(func() { b.work(p.NSG, s) })
			}
			s.mu.Unlock()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (b *burst) work(id access.ResourceID, s *session) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 || b.ctx.Err() != nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		enqueued := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
		if err := b.reconciler.Reconcile(b.ctx, id, enqueued); err != nil && b.ctx.Err() == nil {
			b.t.Errorf("reconcile: %v", err)
		}
	}
}

// until waits until every group has so many legs of the state and no others, and
// says how long that took.
func (b *burst) until(state access.LegState, want int) time.Duration {
	began := time.Now()
	for ; time.Since(began) < 10*time.Minute; time.Sleep(time.Second) {
		done := true
		for _, id := range b.groups {
			legs, err := b.store.Legs(b.ctx, id)
			n := 0
			for _, l := range legs {
				if l.State == state {
					n++
				}
			}
			if err != nil || n != want || len(legs) != want {
				done = false
				break
			}
		}
		if done {
			return time.Since(began)
		}
	}
	for _, id := range b.groups {
		legs, _ := b.store.Legs(b.ctx, id)
		head, _ := b.store.Head(b.ctx, id)
		if len(legs) > 0 {
			b.t.Errorf("%s: %d legs, the first %+v; %+v", id.Name(), len(legs), legs[0], head)
		}
	}
	b.t.Fatalf("in vain: %d legs %s on each of %d groups", want, state, len(b.groups))
	return 0
}

// A burst costs writes by the groups it is for, and not by its requests.
func TestABurstCostsAHandfulOfWrites(t *testing.T) {
	for _, c := range []struct {
		name                     string
		groups, machines, people int
		// within is when the last must be open; 0 where it is not asked: taking in
		// 10,000 requests takes longer than that.
		within time.Duration
	}{
		{"1,000 requests on one group", 1, 200, 5, 3 * writeLatency},
		{"10,000 requests on 50 groups", 50, 10, 20, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBurst(t, c.groups, c.machines)
				ctx, cancel := context.WithCancel(t.Context())
				b.ctx = ctx
				var delivering sync.WaitGroup
				delivering.Go(b.deliver)
				defer b.working.Wait()
				defer delivering.Wait()
				defer cancel()

				end := time.Now().Add(3 * time.Minute)
				var submitted atomic.Int64
				began := time.Now()
				delivering.Go(func() { b.ask(c.machines, c.people, end); submitted.Store(int64(time.Since(began))) })
				opened := b.until(access.LegOpen, c.machines*c.people)
				open := b.server.Stats()
				t.Logf("open after %s (submitted after %s): %d writes, reads %v", opened, time.Duration(submitted.Load()), open.NSGWrites, open.Reads)
				if open.NSGWrites > mostWrites*c.groups {
					t.Errorf("%d writes to open", open.NSGWrites)
				}
				if c.within > 0 && opened > c.within { // in the bubble's time
					t.Errorf("the last opened after %s", opened)
				}
				time.Sleep(time.Until(end))
				closed := b.until(access.LegOpen, 0)
				shut := b.server.Stats()
				t.Logf("closed after %s: %d writes", closed, shut.NSGWrites-open.NSGWrites)
				if shut.NSGWrites-open.NSGWrites > mostWrites*c.groups {
					t.Errorf("%d writes to close", shut.NSGWrites-open.NSGWrites)
				}
			})
		})
	}
}
