package tables_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// landscape is what a scan looks at.
type landscape struct {
	groups  int // that have a head
	grants  int // that are open, each on one of the groups
	drifted int // groups with a rule of ours that nobody accounts for
	past    int // grants that have ended, on the groups in turn
}

// scanCosts gives what a scan costs the store, and how often it calls Resource
// Manager, by the ports: a list is one call, and so is a machine.
func scanCosts(t *testing.T, l landscape) (cost, int64) {
	t.Helper()
	h, now := standIn(t), time.Now().UTC()
	s, ctx := direct(t, h), t.Context()
	calls := &brokertest.Faults{}
	azure, bus := brokertest.NewAzure(calls), &brokertest.Bus{Faults: &brokertest.Faults{}}
	submitter, reconciler := useCases(t, s, azure, bus, &now)
	id := func(i int) access.ResourceID { return on + access.ResourceID(fmt.Sprint(i)) }
	for i := range l.groups {
		machine := vm + access.ResourceID(fmt.Sprint(i))
		behind(azure, machine, id(i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1))
		if i < l.grants {
			check(t, submitFor(ctx, submitter, machine))
			check(t, reconciler.Reconcile(ctx, id(i), time.Time{}))
			continue
		}
		_, err := s.SaveHead(ctx, broker.Head{NSG: id(i), Wanted: "t", Done: "t", AsOf: now})
		check(t, err)
		if i >= l.groups-l.drifted {
			azure.Edit(id(i), func(g *nsg.Group) {
				g.Rules = append(g.Rules, nsg.Rule{Name: "Portcullis-test-left-over", Priority: 100, Direction: nsg.Inbound, Access: nsg.Allow})
			})
		}
	}
	for i := range l.past {
		ended := legOf(request(i), 0)
		ended.NSG, ended.State = id(i%l.groups), access.LegEnded
		check(t, s.EndLegs(ctx, ended.NSG, []access.Leg{ended}))
	}
	var c counted
	over := storeOver(t, c.over(h))
	clock := func() time.Time { return now }
	enabler, err := broker.NewEnabler(broker.EnablePorts{
		Policies: over, Lister: azure, Machines: azure, Groups: azure, Heads: over, Baselines: over, Prompts: bus, Clock: clock, Token: counter(), Log: slog.New(slog.DiscardHandler), Neighbourhood: azure,
	}, rulesOf)
	check(t, err)
	scanner, err := broker.NewScanner(broker.ScanPorts{
		Subscriptions: []string{vm.Subscription()}, Lister: azure, Groups: azure, Heads: over, Ledger: over, Legs: over, Baselines: over, Machines: azure, Prompts: bus, Events: over,
		Clock: clock, Token: counter(), Log: slog.New(slog.DiscardHandler), Meter: &brokertest.Meter{}, Ensure: enabler.Ensure, Forget: over, Retention: broker.DefaultRetention,
	}, rulesOf)
	check(t, err)
	calls.Reset()
	check(t, scanner.Scan(ctx))
	return cost{c.calls.Load(), c.rows.Load()}, int64(calls.Calls())
}

// TestAScanCostsTheGroupsThatAreUsed counts what docs/performance.md states.
func TestAScanCostsTheGroupsThatAreUsed(t *testing.T) {
	for _, l := range []landscape{{groups: 10}, {groups: 200}, {groups: 200, grants: 40}, {groups: 200, drifted: 10}, {groups: 200, grants: 40, drifted: 10, past: 1000}} {
		got, azure := scanCosts(t, l)
		n, m, d := int64(l.groups), int64(l.grants), int64(l.drifted)
		// Once for the scan and once for the baselines, all heads and the index, and
		// the partition of each group; and the policies. For what has drifted: the row
		// of the index and the head to ask for a reconcile, the head as it is then, and
		// a notice with the event.
		calls := 2*(2+n) + 1 + 5*d
		// Each time each head, among all and in its partition, and of a grant its leg and
		// the rows of the two minutes in which its group was to be due.
		rows := 2*(2*n+3*m+1) + 1 + d
		if got.Calls != calls || got.Rows != rows {
			t.Errorf("%+v: %+v of the store, want %d calls and %d rows", l, got, calls, rows)
		}
		// The lists of machines and of groups, and each live grant's machine.
		if azure != 2+m {
			t.Errorf("%+v: %d calls of Resource Manager, want %d", l, azure, 2+m)
		}
		t.Logf("%+v: %+v, %d calls of Resource Manager", l, got, azure)
	}
}
