package network_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

type unused struct{}

func (unused) Usages(context.Context, []access.ResourceID) (map[access.ResourceID]broker.Usage, error) {
	return nil, nil
}

var everyone = access.Caller{Name: "rita@contoso.com", Roles: []access.Role{access.RoleAdminister}}

var settings = nsg.Settings{Installation: "x", Band: nsg.Band{Low: 100, High: 999}, Baseline: nsg.Band{Low: 1001, High: 1499}, MaxGrant: 24 * time.Hour}

func discoverer(t *testing.T, n *network.Network, store *brokertest.Store) *broker.Discoverer {
	t.Helper()
	d, err := broker.NewDiscoverer(broker.DiscoverPorts{
		Subscriptions: []string{subscription}, Policies: store, Lister: n, Machines: n, GroupLister: n, Groups: n, Baselines: store, Activities: unused{}, Clock: time.Now,
	}, settings)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestASubscriptionIsDiscoveredByAHandfulOfCalls(t *testing.T) {
	s, n := azureOf(t, fleet(500), nil)
	d := discoverer(t, n, brokertest.NewStore(&brokertest.Faults{}))
	seen := 0
	q := broker.MachineQuery{Size: 200}
	for {
		list, err := d.Machines(t.Context(), everyone, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Items {
			if v.Status != broker.NotConfigured || v.Exposure.Status != nsg.ExposureShut {
				t.Fatalf("%+v", v)
			}
		}
		seen += len(list.Items)
		if q.After = list.Next; q.After == "" {
			break
		}
	}
	if calls := reads(s); seen != 500 || calls > 20 {
		t.Errorf("%d machines by %d calls", seen, calls)
	} else {
		t.Logf("%d machines by %d calls", seen, calls)
	}
}

func TestMachinesAreDiscoveredThroughResourceManager(t *testing.T) {
	top := example(t)
	top.NetworkSecurityGroups[2].Rules = append(top.NetworkSecurityGroups[2].Rules, resourcemanager.Rule{Name: "AllowRdp", Properties: map[string]any{
		"priority": 300, "access": "Allow", "direction": "Inbound", "protocol": "Tcp", "sourceAddressPrefix": "Internet", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "3389",
	}})
	s, n := azureOf(t, top, nil)
	d := discoverer(t, n, brokertest.NewStore(&brokertest.Faults{}))
	s.RemoveResource(prod + "microsoft.network/networkinterfaces/web-2-nic")
	list, err := d.Machines(t.Context(), everyone, broker.MachineQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list.Items {
		got = append(got, fmt.Sprintf("%s %s %s %s %d %s", v.Name, v.OS, v.Status, v.Exposure.Status, v.Exposure.Port, v.Exposure.Rule))
	}
	want := "bare-1 Linux Unsupported Unknown 0 \ndb-1 Windows NotConfigured Exposed 3389 AllowRdp\ndual-1 Linux NotConfigured Shut 0 \nweb-1 Linux NotConfigured Shut 0 \nweb-2 Linux Unsupported Unknown 0 "
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	v, err := d.Machine(t.Context(), everyone, access.ResourceID(machines+"db-1"), netip.MustParseAddr("203.0.113.7"))
	if err != nil || v.Exposure.Rule != "AllowRdp" || v.Exposure.NSG.Name() != "nsg-db-1-nic" || len(v.Suggested) != 3 || v.Suggested[0].Sources[0].String() != "203.0.113.7/32" {
		t.Errorf("%+v, %v", v, err)
	}
	// What our identity may not read is told, and is not taken for shut.
	s.Deny("Microsoft.Network/networkSecurityGroups")
	v, err = d.Machine(t.Context(), everyone, access.ResourceID(machines+"db-1"), netip.Addr{})
	if err != nil || v.Status != broker.Unsupported || v.Exposure.Status != nsg.ExposureUnknown || !strings.Contains(v.Reason, "AuthorizationFailed") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestABaselineIsPlannedThroughResourceManager(t *testing.T) {
	top := spoke(t)
	for i, g := range top.NetworkSecurityGroups {
		top.NetworkSecurityGroups[i].Rules = g.Rules[:1] // nothing shuts the management ports
	}
	s, n := azureOf(t, top, nil)
	store := brokertest.NewStore(&brokertest.Faults{})
	e, err := broker.NewEnabler(broker.EnablePorts{
		Policies: store, Lister: n, Machines: n, Groups: n, Heads: store, Baselines: store, Prompts: &brokertest.Bus{Faults: &brokertest.Faults{}}, Clock: time.Now,
		Token: func() string { return "t" }, Log: slog.New(slog.DiscardHandler), Neighbourhood: n,
	}, settings)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	p := policy.AccessPolicy{Scope: access.ResourceID(machines + "web-1"), Requestors: []string{"*"}, Baseline: &yes, Ports: []policy.Port{{Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: time.Hour}}}
	plan, err := e.Plan(t.Context(), p, false)
	if err != nil || len(plan) != 1 || len(plan[0].Groups) != 2 || plan[0].Unsupported != "" {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, g := range plan[0].Groups {
		if len(g.Put) != 1 || g.Put[0].Priority != 1001 || fmt.Sprint(g.Put[0].Destinations) != "[10.0.1.4]" || len(g.Remove)+len(g.Past)+len(g.Blocking) != 0 || g.BlockedBy != "" {
			t.Errorf("%+v", g)
		}
		var cuts []string
		for _, c := range g.CutOff {
			cuts = append(cuts, c.What)
		}
		all := strings.Join(cuts, "\n")
		for _, want := range []string{"the Azure Bastion of virtual network vnet-hub (10.9.0.0/26), to ports 22/TCP", "the peered virtual network far", "behind the gateway", "other machines of virtual network vnet-prod", "health probe health of load balancer lb", "load balancer lb sends to port 22 by its rule ssh"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: nothing of %q in\n%s", g.NSG.Name(), want, all)
			}
		}
		if strings.Contains(all, "rule rdp") {
			t.Errorf("a port that is not in the policy is cut off: %s", all)
		}
	}
	if w := s.Stats(); len(w.Writes)+len(w.Deletes) != 0 {
		t.Errorf("planning has written: %+v", w)
	}
}
