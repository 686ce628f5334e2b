package nsg

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// ExposureStatus says whether a port can be reached from the internet.
type ExposureStatus string

// The answers. Exposed and ExposureShut are certain, whatever the service tags
// and application security groups in the rules stand for.
const (
	Exposed             ExposureStatus = "Exposed"     // some public address passes every layer
	ExposureShut        ExposureStatus = "Shut"        // none does
	ExposureUnknown     ExposureStatus = "Unknown"     // a rule whose meaning is not known here decides
	ExposureUnsupported ExposureStatus = "Unsupported" // no group stands before the address
)

// Exposure is the answer for one port of one address. NSG and Rule name what
// lets it in, or what leaves it open whether anything does.
type Exposure struct {
	Status ExposureStatus
	NSG    access.ResourceID
	Rule   *Rule
	// Why says it for a person; "" where it is shut.
	Why string
}

// Exposure says whether anybody on the internet is let in to a port of the
// address by all the layers that stand before it: the group of its subnet and
// that of its interface, each made by [Settings.InternetLayer]. Where no group
// stands there is no layer. Whether anything routes from the internet to the
// address is not looked at.
//
// The layers must let the same packet in. VirtualNetwork is not the internet,
// although Azure counts to it the prefixes of user-defined routes as well
// ("Virtual network service tags", Azure docs).
func (s Settings) Exposure(layers []Layer, dest netip.Addr, port uint16, proto access.Protocol) Exposure {
	if len(layers) == 0 {
		return Exposure{Status: ExposureUnsupported, Why: "no network security group stands before " + dest.String()}
	}
	out := Exposure{Status: ExposureShut}
	for _, w := range ways(layers, packets{dest: dest, port: port}, proto) {
		if w.doubt == nil {
			last := len(w.rules) - 1 // the nearest to the machine
			return Exposure{Status: Exposed, NSG: layers[last].id, Rule: w.rules[last], Why: letsIn(layers, w.rules, port, proto)}
		}
		if out.Status == ExposureShut {
			at := layers[w.doubtAt]
			out = Exposure{Status: ExposureUnknown, NSG: at.id, Rule: w.doubt, Why: fmt.Sprintf(
				"it depends on rule %s (%s) of %s, whose meaning is not known here", w.doubt.Name, at.from.cause(w.doubt), at.id.Name())}
		}
	}
	return out
}

// cause says what in a rule is not known from the vantage.
func (v Vantage) cause(r *Rule) string {
	known := func(s string) bool { return strings.EqualFold(s, "Internet") || strings.EqualFold(s, "VirtualNetwork") }
	rest := *r
	rest.Sources, rest.Destinations = slices.DeleteFunc(slices.Clone(r.Sources), known), slices.DeleteFunc(slices.Clone(r.Destinations), known)
	if !v.network {
		rest.SourceASGs = nil
	}
	return rest.cause()
}

func letsIn(layers []Layer, rules []*Rule, port uint16, proto access.Protocol) string {
	var parts []string
	for i, r := range rules {
		parts = append(parts, fmt.Sprintf("rule %s (priority %d) of %s lets %s in", r.Name, r.Priority, layers[i].id.Name(),
			strings.Join(append(slices.Clone(r.Sources), r.SourceASGs...), ", ")))
	}
	slices.Reverse(parts) // the nearest first
	return fmt.Sprintf("%s to port %d/%s", strings.Join(parts, ", and "), port, proto)
}

// Vantage is a place that traffic comes from, with what the service tags mean
// there.
type Vantage struct {
	sources           []netip.Prefix
	internet, network bool // whether those tags stand for all of the sources
}

// FromInternet is every public address. What no router on the internet carries
// is left out, after the IANA special-purpose address registries; ranges for
// documentation and tests are kept, as leaving them out would hide a mistake.
func FromInternet() Vantage {
	var not []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3",
	} {
		not = append(not, netip.MustParsePrefix(s))
	}
	public := subtract([]netip.Prefix{everyIPv4}, append(not, azureLoadBalancer))
	return Vantage{sources: append(public, netip.MustParsePrefix("2000::/3")), internet: true}
}

// FromNetwork is the prefixes, all of which lie in what VirtualNetwork stands
// for: in the network itself, a peered one, or behind its gateway.
func FromNetwork(prefixes []netip.Prefix) Vantage {
	return Vantage{sources: prefixes, network: true}
}

// FromLoadBalancer is the address that load balancers probe from, which
// VirtualNetwork holds too ("Virtual network service tags", Azure docs).
func FromLoadBalancer() Vantage {
	return Vantage{sources: []netip.Prefix{azureLoadBalancer}, network: true}
}

// Layer is a group as traffic from somewhere meets it, read once for many
// questions.
type Layer struct {
	id    access.ResourceID
	from  Vantage
	rules []metRule
}

// metRule is a rule with its sources as they are seen from a vantage.
type metRule struct {
	matcher
	sourcePortSet portSet
}

// Layer makes a layer of the group.
func (v Vantage) Layer(g Group) Layer {
	l := Layer{id: g.ID, from: v}
	for _, m := range newEvaluator(g) {
		m.sources, m.dests = v.readSources(m.rule), v.readDestinations(m.rule)
		l.rules = append(l.rules, metRule{m, readPorts(m.rule.SourcePorts)})
	}
	return l
}

// InternetLayer makes a layer of the group for [Settings.Exposure]. The allow
// rules of our own grants are left out until they expire: what somebody was let
// in to for a time is no exposure.
func (s Settings) InternetLayer(g Group, now time.Time) Layer {
	g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), func(r Rule) bool { return s.grants(r) && !s.RuleExpired(r, now) })
	return FromInternet().Layer(g)
}

func (v Vantage) readSources(r *Rule) addresses {
	// Application security groups hold interfaces of the network.
	out := addresses{exact: len(r.Sources)+len(r.SourceASGs) > 0 && !(v.network && len(r.SourceASGs) > 0)}
	for _, s := range r.Sources {
		switch {
		case strings.EqualFold(s, "Internet"):
			if v.internet {
				out.prefixes = append(out.prefixes, v.sources...)
			}
		case strings.EqualFold(s, "VirtualNetwork"):
			if v.network {
				out.prefixes = append(out.prefixes, v.sources...)
			}
		default:
			one := readAddresses([]string{s}, nil)
			out.prefixes = append(out.prefixes, intersect(one.prefixes, v.sources)...)
			out.exact = out.exact && one.exact
		}
	}
	return out
}

// readDestinations reads the other side: the address is that of a machine, so
// it lies in its virtual network and not on the internet.
func (v Vantage) readDestinations(r *Rule) addresses {
	var rest []string
	var out addresses
	for _, s := range r.Destinations {
		switch {
		case strings.EqualFold(s, "VirtualNetwork"):
			out.prefixes = append(out.prefixes, everyIPv4, everyIPv6)
		case !strings.EqualFold(s, "Internet"):
			rest = append(rest, s)
		}
	}
	one := readAddresses(rest, r.DestinationASGs)
	out.prefixes = append(out.prefixes, one.prefixes...)
	out.exact = one.exact || len(rest) == 0 && len(r.Destinations) > 0 && len(r.DestinationASGs) == 0
	return out
}

// MayPass gives the sources of the vantage, which is that of every layer, from
// which some packet may pass all of them. Some may be given twice.
func MayPass(layers []Layer, dest netip.Addr, port uint16, proto access.Protocol) []netip.Prefix {
	var out []netip.Prefix
	for _, w := range ways(layers, packets{dest: dest, port: port}, proto) {
		out = append(out, w.sources...)
	}
	return union(out)
}

// Without gives what is in a and in nothing of b.
func Without(a, b []netip.Prefix) []netip.Prefix { return subtract(a, b) }

// way is how packets from some sources may pass layers: by a rule in each. A
// doubt is the rule that makes it uncertain that they do, and its layer.
type way struct {
	sources []netip.Prefix
	rules   []*Rule
	doubt   *Rule
	doubtAt int
}

// ways gives every way through all the layers, by either transport and from any
// source port.
func ways(layers []Layer, p packets, proto access.Protocol) []way {
	var out []way
	p.dest = p.dest.Unmap().WithZone("")
	classes, exact := sourcePorts(layers)
	for _, p.proto = range transports(proto) {
		for _, from := range classes {
			through := []way{{}}
			for i, l := range layers {
				through = join2(through, l.ways(p, from, exact), i)
			}
			out = append(out, through...)
		}
	}
	return out
}

// join2 leads each way on through one more layer; of the first layer there is
// nothing to meet with.
func join2(have, more []way, layer int) []way {
	var out []way
	for _, h := range have {
		for _, m := range more {
			w := way{sources: m.sources, rules: append(slices.Clip(h.rules), m.rules...), doubt: h.doubt, doubtAt: h.doubtAt}
			if layer > 0 {
				w.sources = intersect(h.sources, m.sources)
			}
			if w.doubt == nil && m.doubt != nil {
				w.doubt, w.doubtAt = m.doubt, layer
			}
			if len(w.sources) > 0 {
				out = append(out, w)
			}
		}
	}
	return out
}

// maxSourcePorts bounds how many kinds of source port are told apart.
const maxSourcePorts = 64

// sourcePorts gives one source port of each kind that the rules tell apart. Not
// exact means that there are too many: a rule for some of them is then one of
// which it is not known whether it matches.
func sourcePorts(layers []Layer) (classes []uint16, exact bool) {
	classes = []uint16{1}
	for _, l := range layers {
		for _, r := range l.rules {
			for _, x := range r.sourcePortSet.ranges {
				for _, n := range []int{int(x.low), int(x.high) + 1} {
					if n > 0 && n <= 65535 && !slices.Contains(classes, uint16(n)) {
						classes = append(classes, uint16(n))
					}
				}
				if len(classes) > maxSourcePorts {
					return []uint16{1}, false
				}
			}
		}
	}
	return classes, true
}

// ways follows the packets from one source port through one layer.
func (l Layer) ways(p packets, from uint16, exact bool) []way {
	var out, doubts []way
	add := func(sources []netip.Prefix, rule, doubt *Rule) {
		if len(sources) > 0 {
			out = append(out, way{sources: sources, rules: []*Rule{rule}, doubt: doubt})
		}
	}
	var left, sure []netip.Prefix // what no rule has surely decided, and what none has even perhaps dropped
	for _, s := range l.from.sources {
		if s.Addr().BitLen() == p.dest.BitLen() {
			left = append(left, s)
		}
	}
	sure = left
	for i := 0; i < len(l.rules) && len(left) > 0; i++ {
		m := &l.rules[i]
		surely, perhaps := m.met(p, from, exact, left)
		if m.allow && m.deny {
			surely = nil
		}
		if m.allow {
			certain := intersect(surely, sure)
			add(certain, m.rule, nil)
			for _, d := range doubts {
				add(intersect(subtract(surely, certain), d.sources), m.rule, d.doubt)
			}
			add(subtract(perhaps, surely), m.rule, m.rule)
		}
		if m.deny && len(perhaps) > 0 {
			doubts = append(doubts, way{sources: subtract(perhaps, surely), doubt: m.rule})
			// What is cut into too many pieces is not followed up: nothing is sure then.
			if sure = subtract(sure, perhaps); len(sure) > maxPieces {
				doubts, sure = append(doubts, way{sources: sure, doubt: m.rule}), nil
			}
		}
		if rest := subtract(left, surely); len(rest) <= maxPieces {
			left = rest
		} else if m.deny {
			doubts = append(doubts, way{sources: surely, doubt: m.rule})
		}
	}
	return out
}

// met is match for many sources and one source port.
func (m *metRule) met(p packets, from uint16, exact bool, left []netip.Prefix) (surely, perhaps []netip.Prefix) {
	t := min(m.protocol(p.proto), m.ports.has(p.port), m.dests.has(p.dest))
	switch {
	case m.everySourcePort:
	case exact:
		t = min(t, m.sourcePortSet.has(from))
	default:
		t = min(t, maybe)
	}
	if t == no {
		return nil, nil
	}
	surely = intersect(m.sources.prefixes, left)
	perhaps = surely
	if !m.sources.exact {
		perhaps = left
	}
	if t == maybe {
		surely = nil
	}
	return surely, perhaps
}
