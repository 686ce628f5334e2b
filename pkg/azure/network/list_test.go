package network_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
)

var _ broker.MachineLister = (*network.Network)(nil)

const subscription = "00000000-0000-0000-0000-000000000001"

// fleet is a network of so many machines, in subnets of 200, every tenth with a
// group on its interface.
func fleet(n int) resourcemanager.Topology {
	t := resourcemanager.Topology{Subscription: subscription, ResourceGroup: "prod", Location: "westeurope"}
	v := resourcemanager.VNet{Name: "vnet-prod", AddressPrefixes: []string{"10.0.0.0/16"}}
	for i := range n {
		subnet := fmt.Sprint("subnet-", i/200)
		if i%200 == 0 {
			t.NetworkSecurityGroups = append(t.NetworkSecurityGroups, resourcemanager.Group{Name: "nsg-" + subnet})
			v.Subnets = append(v.Subnets, resourcemanager.Subnet{Name: subnet, AddressPrefixes: []string{fmt.Sprintf("10.0.%d.0/24", i/200)}, NetworkSecurityGroup: "nsg-" + subnet})
		}
		nic := resourcemanager.NIC{Name: fmt.Sprintf("vm-%d-nic", i), Subnet: "vnet-prod/" + subnet, Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/200, 4+i%200)}}
		if i%10 == 0 {
			nic.NetworkSecurityGroup = fmt.Sprintf("nsg-%d", i)
			t.NetworkSecurityGroups = append(t.NetworkSecurityGroups, resourcemanager.Group{Name: nic.NetworkSecurityGroup})
		}
		t.VirtualMachines = append(t.VirtualMachines, resourcemanager.VM{Name: fmt.Sprint("VM-", i), OSType: []string{"Linux", "Windows"}[i%2], NICs: []resourcemanager.NIC{nic}})
	}
	t.VirtualNetworks = []resourcemanager.VNet{v}
	return t
}

func reads(s *resourcemanager.Server) int {
	n := 0
	for _, r := range s.Stats().Reads {
		n += r
	}
	return n
}

func TestAListTakesAHandfulOfCalls(t *testing.T) {
	s, n := azureOf(t, fleet(500), nil)
	list, err := n.List(t.Context(), subscription)
	if err != nil || len(list) != 500 {
		t.Fatalf("%d machines, %v", len(list), err)
	}
	calls := reads(s)
	t.Logf("%d calls: %v", calls, s.Stats().Reads)
	if calls > 20 {
		t.Errorf("%d calls for 500 machines", calls)
	}
	byName := map[string]broker.Machine{}
	for _, m := range list {
		byName[m.ID.Name()] = m
	}
	for name, want := range map[string]string{
		"vm-0": "VM-0 Linux 10.0.0.4 nsg-subnet-0 nsg-0", "vm-499": "VM-499 Windows 10.0.2.103 nsg-subnet-2 ",
	} {
		m := byName[name]
		if m.Unreadable != "" || len(m.NICs) != 1 || len(m.NICs[0].Addresses) != 1 {
			t.Fatalf("%s: %+v", name, m)
		}
		a := m.NICs[0].Addresses[0]
		if got := fmt.Sprint(m.Name, " ", m.OS, " ", a.IP, " ", a.SubnetNSG.Name(), " ", m.NICs[0].NSG.Name()); got != want || m.UniqueID == "" || a.AmbiguousOn != "" {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// What was listed is what is read one by one, and needs no call again.
func TestWhatWasListedIsKnown(t *testing.T) {
	s, n := azure(t, nil)
	since := time.Now()
	list, err := n.List(t.Context(), subscription)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d machines, %v", len(list), err)
	}
	before := reads(s)
	for _, m := range list {
		again, err := n.Machine(t.Context(), m.ID, since)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Errorf("listed as %+v, resolved as %+v, %v", m, again, err)
		}
	}
	if calls := reads(s) - before; calls != 0 {
		t.Errorf("%d calls for what was listed", calls)
	}
	for _, m := range list {
		if afresh, err := n.Machine(t.Context(), m.ID, time.Now()); err != nil || fmt.Sprint(afresh) != fmt.Sprint(m) {
			t.Errorf("listed as %+v, read as %+v, %v", m, afresh, err)
		}
	}
}

func TestAMachineWithoutItsInterfaceOrSubnetIsListedAsUnreadable(t *testing.T) {
	for what, id := range map[string]string{
		"interface": prod + "microsoft.network/networkinterfaces/web-1-nic",
		"subnet":    prod + "microsoft.network/virtualnetworks/vnet-prod/subnets/web",
	} {
		s, n := azure(t, nil)
		s.RemoveResource(id)
		list, err := n.List(t.Context(), subscription)
		if err != nil {
			t.Fatal(err)
		}
		why := map[string]string{}
		for _, m := range list {
			why[m.ID.Name()] = m.Unreadable
		}
		if len(why) != 5 || why["web-1"] == "" || why["db-1"] != "" {
			t.Errorf("without its %s: %v", what, slices.Sorted(maps.Keys(why)))
			t.Error(why)
		}
	}
}

func TestAListThatMayNotBeReadIsAnError(t *testing.T) {
	s, n := azure(t, nil)
	s.Deny("Microsoft.Network/virtualNetworks")
	if _, err := n.List(t.Context(), subscription); access.ReasonOf(err) != "azure_permission" {
		t.Errorf("%v", err)
	}
}

// A condition may ask for what a machine says of itself, listed or read alone.
func TestAMachineHasItsTagsAndItsPlace(t *testing.T) {
	topology := fleet(2)
	topology.VirtualMachines[0].Tags = map[string]string{"Env": "prod", "empty": ""}
	_, n := azureOf(t, topology, nil)
	one, err := n.Machine(t.Context(), access.ResourceID(machines+"vm-0"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := n.List(t.Context(), subscription)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d machines, %v", len(list), err)
	}
	for _, m := range append(list, one) {
		want := map[string]string{}
		if m.ID.Name() == "vm-0" {
			want = topology.VirtualMachines[0].Tags
		}
		if !maps.Equal(m.Tags, want) || m.Location != "westeurope" {
			t.Errorf("%s: %v in %q", m.ID.Name(), m.Tags, m.Location)
		}
	}
	one.Tags["Env"] = "dev" // it is the caller's own
	if again, err := n.Machine(t.Context(), one.ID, time.Time{}); err != nil || again.Tags["Env"] != "prod" {
		t.Errorf("%v, %v", again.Tags, err)
	}
}
