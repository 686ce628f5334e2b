package simulate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Packets are sent through the rules one by one, by an evaluation of the
// simulation's own: first match, in the order of priorities. It shares nothing
// with the product's, so that both would have to be wrong in the same way.

var (
	strangers  = netip.MustParseAddr("198.51.100.1")
	strangers6 = netip.MustParseAddr("2001:db8:ffff::1")
	senders    = []netip.Addr{
		netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("203.0.113.9"), strangers,
		netip.MustParseAddr("2001:db8:7::7"), netip.MustParseAddr("2001:db8:7:1::9"), strangers6,
	}
	targets = everyTarget()
)

func everyTarget() (out []target) {
	add := func(ip netip.Addr) {
		for _, p := range ports {
			out = append(out, target{ip, p.Number, false}, target{ip, p.Number, true})
		}
	}
	for _, subnet := range []string{"10.0.1.", "10.0.2."} {
		for n := 4; n <= 6; n++ {
			ip := netip.MustParseAddr(fmt.Sprint(subnet, n))
			add(ip)
			add(sixOf(ip))
		}
	}
	add(netip.MustParseAddr(places[web2].second))
	return out
}

// filter is a rule, read once for many packets.
type filter struct {
	priority              int
	allow, any, udp, ours bool
	sources, dests        []netip.Prefix
	ports                 []string
}

func filters(rules []nsg.Rule) (out []filter) {
	for _, r := range rules {
		if r.Direction != nsg.Inbound {
			continue
		}
		out = append(out, filter{
			r.Priority, r.Access == nsg.Allow, r.Protocol == "*", strings.EqualFold(r.Protocol, "Udp"), settings.Owns(r), ranges(r.Sources), ranges(r.Destinations), r.DestinationPorts,
		})
	}
	slices.SortStableFunc(out, func(a, b filter) int { return cmp.Compare(a.priority, b.priority) })
	return out
}

var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

func ranges(list []string) (out []netip.Prefix) {
	for _, s := range list {
		if s == "*" {
			out = append(out, everything...)
			continue
		}
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else {
			out = append(out, netip.MustParsePrefix(s))
		}
	}
	return out
}

func (f filter) matches(from netip.Addr, t target) bool { return f.reaches(t) && in(f.sources, from) }

// reaches says whether any packet to the target is matched.
func (f filter) reaches(t target) bool {
	return (f.any || f.udp == t.udp) && in(f.dests, t.dest) &&
		slices.ContainsFunc(f.ports, func(s string) bool { return s == "*" || s == strconv.Itoa(int(t.port)) })
}

func in(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// passes says whether the packet is let through, and whether it would be without
// our allow rules.
func passes(list []filter, from netip.Addr, t target) (with, without bool) {
	decided := false
	for _, f := range list {
		if !f.matches(from, t) {
			continue
		}
		if !decided {
			with, decided = f.allow, true
		}
		if f.ours && f.allow {
			continue
		}
		return with, f.allow
	}
	return with, false
}

// openOf gives the doors that stand open by our doing.
func openOf(rules []nsg.Rule) (out []door) {
	if !slices.ContainsFunc(rules, func(r nsg.Rule) bool { return settings.Owns(r) && r.Access == nsg.Allow }) {
		return nil
	}
	list := filters(rules)
	for _, t := range targets {
		if !slices.ContainsFunc(list, func(f filter) bool { return f.ours && f.allow && f.reaches(t) }) {
			continue
		}
		for _, from := range senders {
			if from.Is4() != t.dest.Is4() {
				continue
			}
			if with, without := passes(list, from, t); with && !without {
				out = append(out, door{from, t})
			}
		}
	}
	return out
}

// shutOf gives what our baselines deny.
func shutOf(rules []nsg.Rule) map[target]bool {
	out := map[target]bool{}
	for _, r := range rules {
		if !settings.Shuts(r) {
			continue
		}
		f := filters([]nsg.Rule{r})[0]
		for _, t := range targets {
			if f.reaches(t) && (in(f.sources, strangers) && t.dest.Is4() || in(f.sources, strangers6) && t.dest.Is6()) {
				out[t] = true
			}
		}
	}
	return out
}

// difference says for the story what a write changed.
func difference(before, after []nsg.Rule) string {
	var out []string
	tell := func(sign string, list, other []nsg.Rule) {
		for _, r := range list {
			if !slices.ContainsFunc(other, func(o nsg.Rule) bool { return sameRule(r, o) }) {
				out = append(out, fmt.Sprintf("%s%s %d %s from %s", sign, r.Name, r.Priority, r.Access, strings.Join(r.Sources, ",")))
			}
		}
	}
	tell("-", before, after)
	tell("+", after, before)
	if len(out) == 0 {
		return "no change"
	}
	return strings.Join(out, "; ")
}

func outcome(err error) string {
	if err == nil {
		return ""
	}
	return " → " + access.ReasonOf(err)
}

// short leaves of resource ids their names.
func short(s string) string {
	head, tail, _ := strings.Cut(s, " ")
	return strings.TrimSpace(head[strings.LastIndexByte(head, '/')+1:] + " " + tail)
}
