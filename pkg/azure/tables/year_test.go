package tables_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	accesspolicy "github.com/portcullis-access/portcullis/pkg/policy"
)

// cost is what something cost the store.
type cost struct{ Calls, Rows int64 }

// byKeys matches a filter that is one range of keys within one partition: the
// service reads no row for it that it does not give.
var byKeys = regexp.MustCompile(`^PartitionKey eq '[^']*'( and RowKey (eq|ge|gt|lt|le) '[^']*')*$`)

// few are the filters of the table of what is pending, whose partitions hold only
// what is not done yet.
var few = regexp.MustCompile(`^PartitionKey eq '(pending|tickets)' and (DecidedAt|ReceivedAt) l[te] datetime'[^']*'$`)

// frugal sees to it that the service reads no row that it does not give, however
// many there are of what is past.
func frugal(t *testing.T, through transport) transport {
	return func(r *http.Request) (*http.Response, error) {
		if f := r.URL.Query().Get("$filter"); f != "" && !byKeys.MatchString(f) && !few.MatchString(f) {
			t.Errorf("it reads more than it gets: %s", f)
		}
		return through(r)
	}
}

// TestARequestCostsTheSameAfterTenThousand submits, opens and sweeps for somebody
// with one request before, and with ten thousand that ended within days.
func TestARequestCostsTheSameAfterTenThousand(t *testing.T) {
	want := map[string]cost{}
	for _, earlier := range []int{1, 10_000} {
		h, now := standIn(t), time.Now().UTC()
		s := direct(t, h)
		var entries []broker.IndexEntry
		for i := range earlier {
			e := entry(i, "anna@contoso.com", 0)
			e.DecidedAt, e.VMs = now.Add(-3*time.Hour-time.Duration(i)*time.Minute), nil
			e.Ends = []time.Time{e.DecidedAt.Add(time.Hour)}
			entries = append(entries, e)
		}
		check(t, tables.EnterMany(t.Context(), s, "anna@contoso.com", entries))
		costs := requestCosts(t, h, now)
		if len(want) == 0 {
			want = costs
		}
		if diff := cmp.Diff(want, costs); diff != "" {
			t.Errorf("%d requests before: %s", earlier, diff)
		}
		t.Logf("%d requests before: %+v", earlier, costs)
	}
}

// requestCosts has anna's request decided, opened, swept, and closed.
func requestCosts(t *testing.T, h http.Handler, now time.Time) map[string]cost {
	t.Helper()
	out := map[string]cost{}
	c := &counted{}
	s := storeOver(t, frugal(t, func(r *http.Request) (*http.Response, error) { return c.over(h)(r) }))
	u := casesOver(t, s, &now)
	// The group is one that was used before: the first time the requests are searched.
	_, err := s.SaveHead(t.Context(), broker.Head{NSG: on, Whole: true})
	check(t, err)
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"submit", u.submit},
		{"open", u.reconcile},
		{"sweep", u.sweep},
		{"close", func(ctx context.Context) error { now = now.Add(2 * time.Hour); return u.reconcile(ctx) }},
	} {
		c = &counted{}
		check(t, step.do(t.Context()))
		out[step.name] = cost{c.calls.Load(), c.rows.Load()}
	}
	return out
}

// cases are use cases over the store and an Azure in memory.
type cases struct{ submit, reconcile, sweep func(context.Context) error }

func casesOver(t *testing.T, s *tables.Store, now *time.Time) cases {
	t.Helper()
	f := &brokertest.Faults{}
	azure, bus := brokertest.NewAzure(f), &brokertest.Bus{Faults: f}
	behind(azure, vm, on, "10.0.1.4")
	submitter, reconciler := useCases(t, s, azure, bus, now)
	return cases{
		submit:    func(ctx context.Context) error { return submitFor(ctx, submitter, vm) },
		reconcile: func(ctx context.Context) error { return reconciler.Reconcile(ctx, on, time.Time{}) },
		sweep:     func(ctx context.Context) error { return sweeperOver(t, s, &prompted{}, *now).Sweep(ctx) },
	}
}

// behind puts a machine behind a group.
func behind(azure *brokertest.Azure, vm, id access.ResourceID, address string) {
	azure.Edit(id, func(*nsg.Group) {})
	azure.Machines[vm] = broker.Machine{ID: vm, Name: vm.Name(), UniqueID: "u", NICs: []broker.NIC{{
		ID: group + "/providers/microsoft.network/networkinterfaces/" + access.ResourceID(vm.Name()) + "-nic", NSG: id,
		Addresses: []broker.Address{{IP: netip.MustParseAddr(address), Subnet: group + "/providers/microsoft.network/virtualnetworks/v/subnets/web"}},
	}}}
}

// submitFor asks for a port of the machine in anna's name.
func submitFor(ctx context.Context, s *broker.Submitter, vm access.ResourceID) error {
	_, err := s.Submit(ctx, access.Request{
		ClientID: "now-" + vm.Name(), Requestor: access.Requestor{Name: "anna@contoso.com", Asserted: true}, BodyHash: "h",
		RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"},
		Ports:       []access.PortRequest{{VM: vm, Port: 22, Source: netip.MustParsePrefix("203.0.113.7/32"), Duration: time.Hour}},
	})
	return err
}

var rulesOf = nsg.Settings{Installation: "test", Band: nsg.Band{Low: 100, High: 999}, Baseline: nsg.Band{Low: 1001, High: 1499}, MaxGrant: 24 * time.Hour}

// counter makes tokens.
func counter() func() string {
	n := 0
	return func() string { n++; return fmt.Sprint(n) }
}

// useCases make a submitter and a reconciler, under a policy that lets anybody in.
func useCases(t *testing.T, s *tables.Store, azure *brokertest.Azure, bus *brokertest.Bus, now *time.Time) (*broker.Submitter, *broker.Reconciler) {
	t.Helper()
	_, err := s.SavePolicy(t.Context(), accesspolicy.AccessPolicy{
		Scope: group, Requestors: []string{"*"}, AssertedRequestorsFrom: []access.Channel{access.ChannelQueue},
		Ports: []accesspolicy.Port{{Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: 3 * time.Hour}},
	}, "")
	check(t, err)
	token := counter()
	clock := func() time.Time { return *now }
	submitter, err := broker.NewSubmitter(broker.SubmitPorts{
		Policies: s, Requests: s, Files: s, Marks: s, Index: s, Starts: s, Events: s, Lockdowns: s, Tickets: s, Ledger: s,
		Machines: azure, Prompts: bus, StartPrompts: bus, Clock: clock, Token: token, Meter: &brokertest.Meter{},
	}, broker.SubmitSettings{MaxLiveGrants: 1000, MaxRequestsPerHour: 1000, ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute})
	check(t, err)
	reconciler, err := broker.NewReconciler(broker.ReconcilePorts{
		Ledger: s, Legs: s, Baselines: s, Files: s, Index: s, Policies: s, Lockdowns: s, Tickets: s, Events: s, History: s,
		Machines: azure, Groups: azure, Prompts: bus, Clock: clock, Token: token, Meter: &brokertest.Meter{}, Log: slog.New(slog.DiscardHandler),
	}, rulesOf)
	check(t, err)
	return submitter, reconciler
}
