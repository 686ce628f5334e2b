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

// neighbourly takes the customers' own deny rules away and gives the platform's
// defaults, so that neighbours pass.
func (w *world) neighbourly() {
	any := []string{"*"}
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		w.azure.Edit(id, func(g *nsg.Group) {
			g.Rules = g.Rules[:1]
			g.Defaults = []nsg.Rule{
				{Name: "AllowVnetInBound", Priority: 65000, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "*", Sources: []string{"VirtualNetwork"}, SourcePorts: any, Destinations: []string{"VirtualNetwork"}, DestinationPorts: any},
				{Name: "AllowAzureLoadBalancerInBound", Priority: 65001, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "*", Sources: []string{"AzureLoadBalancer"}, SourcePorts: any, Destinations: any, DestinationPorts: any},
				{Name: "DenyAllInBound", Priority: 65500, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: any, SourcePorts: any, Destinations: any, DestinationPorts: any},
			}
		})
		w.customers[id] = w.azure.Look(id).Rules
	}
}

// shutting is the world's policy, as it would be to keep its machines shut.
func (w *world) shutting(scope access.ResourceID) policy.AccessPolicy {
	yes := true
	p := w.store.Policies[0]
	p.Scope, p.Baseline = scope, &yes
	return p
}

func (w *world) plan(p policy.AccessPolicy, remove bool) []broker.MachinePlan {
	w.t.Helper()
	writes := w.azure.Writes
	before := fmt.Sprint(w.store.Policies)
	out, err := w.enabler.Plan(context.Background(), p, remove)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.azure.Writes != writes || fmt.Sprint(w.store.Policies) != before || len(w.bus.Take(w.now.AddDate(1, 0, 0))) != 0 {
		w.t.Error("planning has written something")
	}
	return out
}

// told gives a plan's rules by NSG, without repeating those that machines share.
func told(plan []broker.MachinePlan) map[access.ResourceID][]string {
	out := map[access.ResourceID][]string{}
	for _, m := range plan {
		for _, g := range m.Groups {
			var list []string
			for _, r := range g.Put {
				list = append(list, fmt.Sprint("+", r))
			}
			for _, name := range g.Remove {
				list = append(list, "-"+name)
			}
			slices.Sort(list)
			out[g.NSG] = list
		}
	}
	return out
}

// written compares the rules of the groups with what they were.
func (w *world) written(before map[access.ResourceID][]nsg.Rule) map[access.ResourceID][]string {
	out := map[access.ResourceID][]string{}
	for id, was := range before {
		var list []string
		now := w.azure.Look(id).Rules
		for _, r := range now {
			if !slices.ContainsFunc(was, func(o nsg.Rule) bool { return fmt.Sprint(o) == fmt.Sprint(r) }) {
				list = append(list, fmt.Sprint("+", r))
			}
		}
		for _, r := range was {
			if !slices.ContainsFunc(now, func(n nsg.Rule) bool { return n.Name == r.Name }) {
				list = append(list, "-"+r.Name)
			}
		}
		slices.Sort(list)
		out[id] = list
	}
	return out
}

func (w *world) rules() map[access.ResourceID][]nsg.Rule {
	return map[access.ResourceID][]nsg.Rule{onWeb: w.azure.Look(onWeb).Rules, onNIC: w.azure.Look(onNIC).Rules}
}

// What a plan says is what is then written, to the letter: on enabling, on a
// change, and on removal.
func TestAPlanIsWhatIsWritten(t *testing.T) {
	for _, scope := range []access.ResourceID{vm, group, access.ResourceID("/subscriptions/" + vm.Subscription())} {
		w := newWorld(t)
		w.store.Policies[0].Scope = scope
		w.add("db", "Linux", "10.0.1.6", onWeb, "")
		step := func(what string, p policy.AccessPolicy, remove bool) {
			t.Helper()
			plan, before := w.plan(p, remove), w.rules()
			want := told(plan)
			p.Disabled = remove
			w.store.Policies[0] = p
			w.ensure()
			got := w.written(before)
			for id := range got {
				if !slices.Equal(got[id], want[id]) {
					t.Errorf("%s at %s, on %s:\n planned %q\n written %q", what, scope, id.Name(), want[id], got[id])
				}
			}
			if len(want[onWeb]) == 0 {
				t.Errorf("%s at %s: the plan is empty", what, scope)
			}
			if again := told(w.plan(p, remove)); !remove && len(again[onWeb])+len(again[onNIC]) != 0 {
				t.Errorf("%s at %s: planned again: %v", what, scope, again)
			}
		}
		p := w.shutting(scope)
		step("enabling", p, false)
		p.Ports = append(slices.Clone(p.Ports), policy.Port{Number: 3389, Protocol: access.TCP, Sources: p.Ports[0].Sources, MaxDuration: time.Hour})
		step("another port", p, false)
		p.Standing = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/26")}
		step("a standing source", p, false)
		step("disabling", p, true)
		w.expectShut()
	}
}

func TestAPlanIsAboutTheMachinesThatThePolicyDecidesAbout(t *testing.T) {
	w := newWorld(t)
	w.add("bare", "Linux", "10.0.1.5", "", "")
	w.add("db", "Linux", "10.0.1.6", onWeb, "")
	nearer := w.store.Policies[0]
	nearer.Scope = vmID("db")
	w.store.Policies = append(w.store.Policies, nearer)
	var got []string
	for _, m := range w.plan(w.shutting(group), false) {
		got = append(got, fmt.Sprintf("%s %d %t", m.VM.Name(), len(m.Groups), m.Unsupported != ""))
	}
	if want := []string{"bare 0 true", "web-1 2 false"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	plan := w.plan(w.shutting(vmID("none")), false)
	if len(plan) != 1 || plan[0].Unsupported == "" || len(plan[0].Groups) != 0 {
		t.Errorf("a machine that does not exist: %+v", plan)
	}
	// Where a wider policy takes over, the baseline stays.
	w = newWorld(t)
	w.shut(true)
	w.ensure()
	own := w.store.Policies[0]
	own.Scope = vm
	w.store.Policies = append(w.store.Policies, own)
	w.ensure()
	if got := told(w.plan(own, true)); len(got[onWeb])+len(got[onNIC]) != 0 {
		t.Errorf("removed under a wider one: %v", got)
	}
}

func TestAPlanNamesWhatLetsPastAndWhatBlocks(t *testing.T) {
	w := newWorld(t)
	any := []string{"*"}
	w.azure.Edit(onWeb, func(g *nsg.Group) {
		g.Rules = append(g.Rules,
			nsg.Rule{Name: "past", Priority: 500, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"198.51.100.0/24"}, SourcePorts: any, Destinations: any, DestinationPorts: any},
			nsg.Rule{Name: "block", Priority: 100, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "Tcp", Sources: []string{"203.0.113.0/28"}, SourcePorts: any, Destinations: any, DestinationPorts: []string{"22"}},
			nsg.Rule{Name: "other", Priority: 101, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "Tcp", Sources: []string{"192.0.2.0/24"}, SourcePorts: any, Destinations: any, DestinationPorts: any})
	})
	plan := w.plan(w.shutting(vm), false)
	at := func(id access.ResourceID) broker.GroupPlan {
		return plan[0].Groups[slices.IndexFunc(plan[0].Groups, func(g broker.GroupPlan) bool { return g.NSG == id })]
	}
	web := at(onWeb)
	if len(web.Past) != 1 || web.Past[0].Rule.Name != "past" || web.Past[0].Advice == "" || len(web.Blocking) != 1 || web.Blocking[0].Rule.Name != "block" || !strings.Contains(web.Blocking[0].Advice, "port 22") {
		t.Errorf("past %+v, blocking %+v", web.Past, web.Blocking)
	}
	if nic := at(onNIC); len(nic.Past)+len(nic.Blocking) != 0 || nic.BlockedBy != "" {
		t.Errorf("%+v", nic)
	}
	fill := func(band nsg.Band) {
		w.azure.Edit(onNIC, func(g *nsg.Group) {
			g.Rules = nil
			for n := band.Low; n <= band.High; n++ {
				g.Rules = append(g.Rules, nsg.Rule{Name: fmt.Sprint("r", n), Priority: n, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: any, SourcePorts: any, Destinations: any, DestinationPorts: []string{"443"}})
			}
		})
		plan = w.plan(w.shutting(vm), false)
	}
	fill(rules.Baseline)
	if nic := at(onNIC); !strings.Contains(nic.BlockedBy, "no priority is free between 1001 and 1499") || len(nic.Put) != 0 {
		t.Errorf("no room for the baseline: %+v", nic)
	}
	fill(rules.Band)
	if nic := at(onNIC); !strings.Contains(nic.BlockedBy, "no priority is free between 100 and 999") || len(nic.Put) != 1 {
		t.Errorf("no room for grants: %+v", nic)
	}
}

func TestAPlanTellsWhatItCutsOff(t *testing.T) {
	w := newWorld(t)
	w.neighbourly()
	bastion := access.ResourceID(group + "/providers/microsoft.network/virtualnetworks/hub/subnets/azurebastionsubnet")
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	lb := access.ResourceID(group + "/providers/microsoft.network/loadbalancers/lb")
	w.azure.Around = broker.Surroundings{
		Neighbours: []broker.Neighbour{
			{Kind: broker.OwnNetwork, ID: subnet.Parent(), Prefixes: prefixes("10.0.0.0/16")},
			{Kind: broker.Gateway, ID: subnet.Parent()},
			{Kind: broker.PeerNetwork, ID: bastion.Parent(), Prefixes: prefixes("10.9.0.0/16")},
			{Kind: broker.Bastion, ID: bastion, Prefixes: prefixes("10.9.0.0/26")},
		},
		Balanced: []broker.Balanced{
			{Address: netip.MustParseAddr(address), Balancer: lb, Name: "health", Probe: true, Port: 22, Protocol: access.TCP},
			{Address: netip.MustParseAddr(address), Balancer: lb, Name: "web", Probe: true, Port: 443, Protocol: access.TCP},
			{Address: netip.MustParseAddr(address), Balancer: lb, Name: "ssh", Port: 22, Protocol: access.TCP},
		},
		Unread: []string{"the peered network far could not be read"},
	}
	cuts := func(p policy.AccessPolicy) string {
		t.Helper()
		var out []string
		for _, c := range w.plan(p, false)[0].Groups[0].CutOff {
			if c.Advice == "" {
				t.Errorf("no advice for %s", c.What)
			}
			out = append(out, c.What)
		}
		return strings.Join(out, "\n")
	}
	p := w.shutting(vm)
	if got, want := cuts(p), strings.Join([]string{
		"other machines of virtual network v (10.0.0.0/16), to ports 22/TCP",
		"networks behind the gateway of virtual network v, to ports 22/TCP",
		"the peered virtual network hub (10.9.0.0/16), to ports 22/TCP",
		"the Azure Bastion of virtual network hub (10.9.0.0/26), to ports 22/TCP",
		"the health probe health of load balancer lb to port 22: the machine would count as down",
		"what load balancer lb sends to port 22 by its rule ssh",
		"the peered network far could not be read",
	}, "\n"); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	w.azure.Around.Unread = nil
	// Standing sources are not cut off.
	p.Standing = prefixes("10.9.0.0/26", "168.63.129.16/32", "10.0.0.0/16")
	if got := cuts(p); strings.Contains(got, "Bastion") || strings.Contains(got, "probe") || strings.Contains(got, "other machines") || !strings.Contains(got, "peered") || !strings.Contains(got, "gateway") {
		t.Errorf("with standing sources: %s", got)
	}
	// Nor is what does not pass today, on either NSG, or still does.
	p.Standing = nil
	w.azure.Edit(onWeb, func(g *nsg.Group) {
		g.Rules = append(g.Rules, nsg.Rule{Name: "shut", Priority: 4000, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{"*"}, SourcePorts: []string{"*"}, Destinations: []string{"*"}, DestinationPorts: []string{"22"}})
	})
	if got := cuts(p); got != "" {
		t.Errorf("what is shut today: %s", got)
	}
	// A policy without a baseline cuts nothing off.
	w.restore()
	no := false
	p.Baseline = &no
	if got := cuts(p); got != "" {
		t.Errorf("without a baseline: %s", got)
	}
}

// restore gives the groups the rules that they had at the start.
func (w *world) restore() {
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		w.azure.Edit(id, func(g *nsg.Group) { g.Rules = w.customers[id] })
	}
}
