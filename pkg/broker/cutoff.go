package broker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// cutter finds what passes NSGs as they are and would not as they are planned.
type cutter struct {
	states        map[access.ResourceID]groupState
	before, after map[string]nsg.Layer // by place and NSG, as many machines share them
}

func newCutter(states map[access.ResourceID]groupState) *cutter {
	return &cutter{states: states, before: map[string]nsg.Layer{}, after: map[string]nsg.Layer{}}
}

// cutPlace is where traffic comes from, under a name of its own.
type cutPlace struct {
	name string
	from nsg.Vantage
}

// onPremises is where machines behind a gateway are thought to be: all private
// addresses but those of networks that are known.
func onPremises(around Surroundings) cutPlace {
	var known []netip.Prefix
	for _, n := range around.Neighbours {
		known = append(known, n.Prefixes...)
	}
	private := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7"),
	}
	rest := nsg.Without(private, known)
	return cutPlace{fmt.Sprint("gateway ", rest), nsg.FromNetwork(rest)}
}

// cuts gives what a policy's baseline on the NSG would cut the machine off from.
func (c *cutter) cuts(m Machine, on access.ResourceID, p policy.AccessPolicy, around Surroundings) (out []Cut) {
	for _, n := range around.Neighbours {
		where := cutPlace{fmt.Sprint(n.Prefixes), nsg.FromNetwork(n.Prefixes)}
		if n.Kind == Gateway {
			where = onPremises(around)
		}
		if ports := c.lost(m, on, p.PortNumbers(), where, netip.Addr{}); len(ports) > 0 {
			out = append(out, neighbourCut(n, ports))
		}
	}
	for _, b := range around.Balanced {
		ports := slices.DeleteFunc(p.PortNumbers(), func(n access.PortNumber) bool {
			return n.Number != b.Port || n.Protocol != b.Protocol && n.Protocol != access.AnyProtocol && b.Protocol != access.AnyProtocol
		})
		if b.Probe && len(c.lost(m, on, ports, cutPlace{"probe", nsg.FromLoadBalancer()}, b.Address)) > 0 {
			out = append(out, Cut{fmt.Sprintf("the health probe %s of load balancer %s to port %d: the machine would count as down", b.Name, b.Balancer.Name(), b.Port),
				"add 168.63.129.16 to standingSources, or probe another port"})
		}
		if !b.Probe && len(slices.Concat(c.lost(m, on, ports, cutPlace{"internet", nsg.FromInternet()}, b.Address), c.lost(m, on, ports, onPremises(around), b.Address))) > 0 {
			out = append(out, Cut{fmt.Sprintf("what load balancer %s sends to port %d by its rule %s", b.Balancer.Name(), b.Port, b.Name),
				"leave the port out of the policy, or add those who come by it to standingSources"})
		}
	}
	return out
}

func neighbourCut(n Neighbour, ports []string) Cut {
	list := strings.Join(ports, ", ")
	var ranges []string
	for _, p := range n.Prefixes {
		ranges = append(ranges, access.FormatPrefix(p))
	}
	in := strings.Join(ranges, ", ")
	some := "add the sources in it that need them to standingSources"
	switch n.Kind {
	case Bastion:
		return Cut{fmt.Sprintf("the Azure Bastion of virtual network %s (%s), to ports %s", n.ID.Parent().Name(), in, list), "add " + in + " to standingSources"}
	case Gateway:
		return Cut{"networks behind the gateway of virtual network " + n.ID.Name() + ", to ports " + list, "add the sources behind it that need them to standingSources"}
	case PeerNetwork:
		return Cut{fmt.Sprintf("the peered virtual network %s (%s), to ports %s", n.ID.Name(), in, list), some}
	}
	return Cut{fmt.Sprintf("other machines of virtual network %s (%s), to ports %s", n.ID.Name(), in, list), some}
}

// lost gives those of the ports, such as "22/TCP", that something from the place
// may reach now and could not once the NSG is as planned. With an address it
// looks at that one alone.
func (c *cutter) lost(m Machine, on access.ResourceID, ports []access.PortNumber, from cutPlace, only netip.Addr) []string {
	lost := map[access.PortNumber]bool{}
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			if a.SubnetNSG != on && nic.NSG != on || only.IsValid() && a.IP != only {
				continue
			}
			before, ok := c.path(nic, a, from)
			if !ok {
				continue
			}
			after := []nsg.Layer{c.planned(on, from)}
			for _, p := range ports {
				passes := nsg.MayPass(before, a.IP, p.Number, p.Protocol)
				if len(passes) > 0 && len(nsg.Without(passes, nsg.MayPass(after, a.IP, p.Number, p.Protocol))) > 0 {
					lost[p] = true
				}
			}
		}
	}
	var out []string
	for _, p := range ports {
		if lost[p] {
			out = append(out, p.String())
		}
	}
	return out
}

// path gives what stands before an address now; false where not all of it could
// be read.
func (c *cutter) path(nic NIC, a Address, from cutPlace) ([]nsg.Layer, bool) {
	known := map[access.ResourceID]nsg.Layer{}
	for _, id := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
		s, ok := c.states[id]
		if !ok || s.unread != "" {
			continue
		}
		key := from.name + " " + string(id)
		if _, ok := c.before[key]; !ok {
			c.before[key] = from.from.Layer(s.group)
		}
		known[id] = c.before[key]
	}
	layers, unread := layersOf(nic, a, known)
	return layers, unread == ""
}

func (c *cutter) planned(id access.ResourceID, from cutPlace) nsg.Layer {
	key := from.name + " " + string(id)
	l, ok := c.after[key]
	if !ok {
		l = from.from.Layer(c.states[id].plan.Apply(c.states[id].group))
		c.after[key] = l
	}
	return l
}
