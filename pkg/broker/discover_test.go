package broker_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// used is what was granted of machines, by VM.
type used map[access.ResourceID]broker.Usage

func (u used) Usages(context.Context, []access.ResourceID) (map[access.ResourceID]broker.Usage, error) {
	return u, nil
}

var (
	asker  = access.Caller{Name: "alice@contoso.com", ObjectID: "00000000-0000-0000-0000-00000000a11c", Roles: []access.Role{access.RoleRequest}}
	reader = access.Caller{Name: "rita@contoso.com", Roles: []access.Role{access.RoleReadAll}}
	adam   = access.Caller{Name: "adam@contoso.com", Roles: []access.Role{access.RoleAdminister}}
)

func vmID(name string) access.ResourceID {
	return access.ResourceID(group + "/providers/microsoft.compute/virtualmachines/" + name)
}

func (w *world) discoverer(u used) *broker.Discoverer {
	w.t.Helper()
	d, err := broker.NewDiscoverer(broker.DiscoverPorts{
		Subscriptions: []string{vm.Subscription()}, Policies: w.store, Lister: w.azure, Machines: w.azure, GroupLister: w.azure, Groups: w.azure,
		Baselines: w.store, Activities: u, Clock: func() time.Time { return w.now },
	}, rules)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// add makes a machine with one address behind the groups, "" for none.
func (w *world) add(name, os, address string, onSubnet, onNIC access.ResourceID) {
	m := machine("unique-" + name)
	m.ID, m.Name, m.OS = vmID(name), name, os
	m.NICs[0].ID, m.NICs[0].NSG = access.ResourceID(group+"/providers/microsoft.network/networkinterfaces/"+name+"-nic"), onNIC
	m.NICs[0].Addresses = []broker.Address{{IP: netip.MustParseAddr(address), Subnet: subnet, SubnetNSG: onSubnet}}
	w.azure.Machines[m.ID] = m
}

func (w *world) see(d *broker.Discoverer, by access.Caller, q broker.MachineQuery) (out []broker.MachineView, next string) {
	w.t.Helper()
	list, err := d.Machines(context.Background(), by, q)
	if err != nil {
		w.t.Fatal(err)
	}
	return list.Items, list.Next
}

func names(list []broker.MachineView) string {
	var out []string
	for _, v := range list {
		out = append(out, v.Name)
	}
	return strings.Join(out, ",")
}

func TestWhatCanBeHadOfEachMachine(t *testing.T) {
	w := newWorld(t)
	w.store.Policies[0].Scope = vm
	w.add("bare", "Linux", "10.0.1.5", "", "")
	w.add("db", "Windows", "10.0.1.6", onWeb, "")
	w.add("twin", "", "10.0.1.7", onWeb, "")
	w.azure.Machines[vmID("twin")].NICs[0].Addresses[0].AmbiguousOn = onWeb
	w.azure.Machines[vmID("lost")] = broker.Machine{ID: vmID("lost"), Name: "lost", Unreadable: "its interface is not there"}
	gone := w.store.Policies[0]
	gone.Scope = vmID("gone")
	w.store.Policies = append(w.store.Policies, gone)
	last := w.now.Add(-time.Hour)
	d := w.discoverer(used{vm: {Approved: 3, LastAccess: last, LastUser: "bob@contoso.com"}})
	list, _ := w.see(d, reader, broker.MachineQuery{})
	var got []string
	for _, v := range list {
		got = append(got, fmt.Sprintf("%s: %s %s", v.Name, v.Status, v.Reason))
	}
	want := []string{
		"bare: Unsupported no network security group stands before bare, so there is no gate to open: attach one to its subnet or network interface",
		"db: NotConfigured ",
		"gone: Unsupported a policy stands for this virtual machine, and it does not exist: remove the policy",
		"lost: Unsupported its interface is not there",
		"twin: Unsupported the network security group on-subnet is also attached to another network that holds 10.0.1.7: a rule for this VM would open that address too; give one of them a group of its own",
		"web-1: Configured ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	web := list[5]
	if web.Approved != 3 || !web.LastAccess.Equal(last) || web.LastUser != "bob@contoso.com" || !web.AsOf.Equal(w.now) || web.Scope != vm || len(web.Ports) != 1 {
		t.Errorf("%+v", web)
	}
	for _, v := range list {
		one, err := d.Machine(context.Background(), reader, v.ID, netip.Addr{})
		if err != nil || fmt.Sprint(one) != fmt.Sprint(v) {
			t.Errorf("listed as\n%+v, shown as\n%+v, %v", v, one, err)
		}
	}
}

func TestWhoSeesWhichMachines(t *testing.T) {
	w := newWorld(t)
	w.add("db", "Linux", "10.0.1.6", onWeb, "")
	w.add("web-9", "Linux", "10.0.1.9", onWeb, "")
	w.store.Policies[0].Requestors = []string{"somebody@contoso.com"}
	mine := w.store.Policies[0]
	mine.Scope, mine.Requestors = vmID("db"), []string{"oid:" + asker.ObjectID}
	off := mine
	off.Scope, off.Disabled = vmID("web-9"), true
	w.store.Policies = append(w.store.Policies, mine, off)
	d := w.discoverer(nil)
	others := access.Caller{Name: asker.Name, ObjectID: asker.ObjectID, Roles: []access.Role{access.RoleRequestForOthers}}
	for _, c := range []struct {
		by      access.Caller
		seen    string
		request bool // may ask for db
	}{{asker, "db", true}, {others, "db", false}, {reader, "db,web-1,web-9", false}, {adam, "db,web-1,web-9", false}} {
		list, _ := w.see(d, c.by, broker.MachineQuery{})
		if names(list) != c.seen || list[0].MayRequest != c.request {
			t.Errorf("%v: sees %s, may request %v", c.by.Roles, names(list), list[0].MayRequest)
		}
		for _, name := range []string{"db", "web-1", "web-9", "none"} {
			_, err := d.Machine(context.Background(), c.by, vmID(name), netip.Addr{})
			if sees := strings.Contains(c.seen, name); (err == nil) != sees || !sees && access.ReasonOf(err) != "vm_unknown" {
				t.Errorf("%v: %s: %v", c.by.Roles, name, err)
			}
		}
	}
	// What is not there and what is not theirs look the same.
	_, a := d.Machine(context.Background(), asker, vmID("web-1"), netip.Addr{})
	_, b := d.Machine(context.Background(), asker, vmID("none"), netip.Addr{})
	_, e := d.Machine(context.Background(), asker, access.ResourceID(strings.Replace(string(vm), "000001", "000009", 1)), netip.Addr{})
	if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a) != fmt.Sprint(e) {
		t.Errorf("%v; %v; %v", a, b, e)
	}
	if _, err := d.Machines(context.Background(), access.Caller{Name: "nobody"}, broker.MachineQuery{}); access.ReasonOf(err) != "role_required" {
		t.Errorf("without a role: %v", err)
	}
	if _, err := d.Machine(context.Background(), access.Caller{Name: "nobody"}, vm, netip.Addr{}); access.ReasonOf(err) != "role_required" {
		t.Errorf("without a role: %v", err)
	}
}

func TestMachinesAreFilteredAndPaged(t *testing.T) {
	w := newWorld(t)
	for n := range 7 {
		w.add(fmt.Sprint("m", n), "Linux", fmt.Sprint("10.0.1.", 20+n), onWeb, "")
	}
	w.add("bare", "Linux", "10.0.1.50", "", "")
	d := w.discoverer(nil)
	var got []string
	q := broker.MachineQuery{Size: 3}
	for {
		list, next := w.see(d, reader, q)
		got = append(got, names(list))
		if next == "" {
			break
		}
		q.After = next
	}
	if strings.Join(got, ";") != "bare,m0,m1;m2,m3,m4;m5,m6,web-1" {
		t.Errorf("pages %v", got)
	}
	for want, q := range map[string]broker.MachineQuery{
		"bare":                            {Status: broker.Unsupported},
		"m0,m1,m2,m3,m4,m5,m6,web-1":      {Status: broker.Configured, ResourceGroup: "PROD"},
		"bare,m0,m1,m2,m3,m4,m5,m6,web-1": {Subscription: vm.Subscription()},
		"":                                {ResourceGroup: "other"},
	} {
		if list, _ := w.see(d, reader, q); names(list) != want {
			t.Errorf("%+v: %s", q, names(list))
		}
	}
	if list, _ := w.see(d, reader, broker.MachineQuery{Subscription: "00000000-0000-0000-0000-000000000009"}); len(list) != 0 {
		t.Errorf("another subscription: %s", names(list))
	}
	for _, bad := range []broker.MachineQuery{{Size: -1}, {Size: broker.MaxMachines + 1}, {After: "%"}} {
		if _, err := d.Machines(context.Background(), reader, bad); access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestAListIsHalfAMinuteOldAtMostAndSaysSo(t *testing.T) {
	w := newWorld(t)
	d := w.discoverer(nil)
	first := w.now
	w.see(d, reader, broker.MachineQuery{})
	w.add("new", "Linux", "10.0.1.6", onWeb, "")
	w.now = first.Add(broker.ListingAge)
	if list, _ := w.see(d, reader, broker.MachineQuery{}); names(list) != "web-1" || !list[0].AsOf.Equal(first) {
		t.Errorf("%s as of %s", names(list), list[0].AsOf)
	}
	// By itself it is read now, and what a policy says is read now.
	w.store.Policies = nil
	if v, err := d.Machine(context.Background(), reader, vmID("new"), netip.Addr{}); err != nil || !v.AsOf.Equal(w.now) || v.Status != broker.NotConfigured {
		t.Errorf("%+v, %v", v, err)
	}
	if list, _ := w.see(d, reader, broker.MachineQuery{}); list[0].Status != broker.NotConfigured {
		t.Errorf("%+v", list[0])
	}
	w.now = w.now.Add(time.Second)
	if list, _ := w.see(d, reader, broker.MachineQuery{}); names(list) != "new,web-1" || !list[0].AsOf.Equal(w.now) {
		t.Errorf("%s as of %s", names(list), list[0].AsOf)
	}
}

func TestAMachineIsExposedByTheRuleThatLetsTheInternetIn(t *testing.T) {
	w := newWorld(t)
	w.azure.Edit(onWeb, func(g *nsg.Group) {
		g.Rules = append(g.Rules, nsg.Rule{Name: "oops", Priority: 900, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"Internet"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"3389", "8022"}})
	})
	w.add("db", "Windows", "10.0.1.6", onWeb, "")
	w.add("bare", "Linux", "10.0.1.5", "", "")
	d := w.discoverer(nil)
	list, _ := w.see(d, reader, broker.MachineQuery{})
	bare, db, web := list[0].Exposure, list[1].Exposure, list[2].Exposure
	if db.Status != nsg.Exposed || db.Port != 3389 || db.Rule != "oops" || db.NSG != onWeb || !strings.Contains(db.Why, "rule oops (priority 900) of on-subnet lets Internet in") {
		t.Errorf("db: %+v", db)
	}
	if web.Status != nsg.ExposureShut || web.Why != "" {
		t.Errorf("web-1, whose interface shuts it: %+v", web)
	}
	if bare.Status != nsg.ExposureUnknown || bare.Port != 0 {
		t.Errorf("bare: %+v", bare)
	}
	// The policy's own ports are looked at too, and a rule of unknown meaning is named.
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules[2].DestinationPorts = []string{"8022"} })
	w.store.Policies[0].Ports = append(w.store.Policies[0].Ports, policy.Port{Number: 8022, Protocol: access.TCP})
	if v, err := d.Machine(context.Background(), reader, vmID("db"), netip.Addr{}); err != nil || v.Exposure.Status != nsg.Exposed || v.Exposure.Port != 8022 {
		t.Errorf("%+v, %v", v.Exposure, err)
	}
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules[2].Sources = []string{"AzureCloud"} })
	if v, err := d.Machine(context.Background(), reader, vmID("db"), netip.Addr{}); err != nil || v.Exposure.Status != nsg.ExposureUnknown || v.Exposure.Rule != "oops" || !strings.Contains(v.Exposure.Why, "source AzureCloud") {
		t.Errorf("%+v, %v", v.Exposure, err)
	}
	// A grant of ours exposes nothing.
	w.submit(ask("a", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	if v, err := d.Machine(context.Background(), reader, vm, netip.Addr{}); err != nil || v.Exposure.Status != nsg.ExposureShut {
		t.Errorf("%+v, %v", v.Exposure, err)
	}
}

func TestABaselineIsShownOnItsWay(t *testing.T) {
	w := newWorld(t)
	d := w.discoverer(nil)
	expect := func(want broker.BaselineStatus, blocked bool) {
		t.Helper()
		v, err := d.Machine(context.Background(), reader, vm, netip.Addr{})
		if err != nil || v.Baseline != want || (v.BlockedBy != "") != blocked {
			t.Errorf("%s %q, want %s; %v", v.Baseline, v.BlockedBy, want, err)
		}
	}
	expect(broker.BaselineNone, false)
	w.shut(true)
	expect(broker.BaselineOnItsWay, false)
	if err := w.enabler.Ensure(context.Background(), vm.Subscription()); err != nil {
		t.Fatal(err)
	}
	expect(broker.BaselineOnItsWay, false)
	w.deliver()
	expect(broker.BaselineIsShut, false)
	w.shut(false)
	if err := w.enabler.Ensure(context.Background(), vm.Subscription()); err != nil {
		t.Fatal(err)
	}
	expect(broker.BaselineIsLifted, false)
	w.deliver()
	expect(broker.BaselineNone, false)
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Loss = "properties.fromTheFuture" })
	w.shut(true)
	w.ensure()
	expect(broker.BaselineBlocked, true)
	// The machine is gone, and with the next scan all that was on record of it.
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Loss = "" })
	delete(w.azure.Machines, vm)
	w.ensure()
	if _, err := d.Machine(context.Background(), reader, vm, netip.Addr{}); access.ReasonOf(err) != "vm_unknown" {
		t.Errorf("a deleted machine: %v", err)
	}
	w.now = w.now.Add(time.Minute)
	if list, _ := w.see(d, reader, broker.MachineQuery{}); len(list) != 0 {
		t.Errorf("a deleted machine is listed: %+v", list)
	}
	w.expectShut()
}

func TestSuggestedPorts(t *testing.T) {
	for os, want := range map[string]string{"Linux": "22", "Windows": "3389,5985,5986", "": "22,3389,5985,5986"} {
		var got []string
		for _, p := range broker.SuggestedPorts(os, netip.MustParseAddr("::ffff:203.0.113.7")) {
			got = append(got, fmt.Sprint(p.Number))
			if p.Protocol != access.TCP || p.MaxDuration != 3*time.Hour || fmt.Sprint(p.Sources) != "[203.0.113.7/32]" {
				t.Errorf("%+v", p)
			}
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s: %v", os, got)
		}
	}
	if p := broker.SuggestedPorts("Linux", netip.Addr{}); len(p[0].Sources) != 0 {
		t.Errorf("without an address: %+v", p)
	}
}
