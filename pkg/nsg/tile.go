package nsg

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// tile is what one rule of ours lets through: every one of its sources to every
// one of its destinations at every one of its ports, by one protocol. Legs fill
// it: there is no combination of the three that no live leg has.
//
// Tiles of a plan do not overlap: no source is listed for one port of one
// destination in two of them, though one may list a range that holds a source
// of another. So each leg has its tiles, and no two plans see them differently.
type tile struct {
	protocol access.Protocol
	sources  []netip.Prefix // sorted, none within another
	dests    []netip.Addr   // sorted; of the sources' family
	ports    []uint16       // sorted
	shares   []share        // what it stands for
	keys     [3]string      // see key

	have     *Rule // ours that is there by the name, or nil
	name     string
	priority int  // 0 while it has none
	astray   bool // priority is outside the band, and was before
}

// share is what a leg asks for at one of its destinations.
type share struct {
	leg  access.Leg
	dest netip.Addr
}

// spot is where tiles meet: one port of one address.
type spot struct {
	dest  netip.Addr
	port  uint16
	proto access.Protocol
}

func (s share) spot() spot { return spot{s.dest, s.leg.Port, s.leg.Protocol} }

// legKey names a leg of a group, as its Key does in text.
type legKey struct {
	request access.RequestID
	grant   int
}

func keyOf(l access.Leg) legKey { return legKey{l.Request, l.Grant} }

func sharesOf(l access.Leg) (out []share) {
	for _, d := range destinationsOf(l) {
		out = append(out, share{l, d})
	}
	return out
}

func destinationsOf(l access.Leg) []netip.Addr {
	return slices.Compact(slices.SortedFunc(slices.Values(l.Destinations), netip.Addr.Compare))
}

// dimension is one of the three lists of a rule that make its traffic.
type dimension int

const (
	bySource dimension = iota
	byDest
	byPort
)

// packings are the orders in which equal tiles are put together. The first keeps
// what is asked of one machine together, and is how a tile is cut up: without
// one leg it falls into at most three.
var packings = [][]dimension{
	{bySource, byPort, byDest}, {bySource, byDest, byPort}, {byDest, byPort, bySource},
	{byDest, bySource, byPort}, {byPort, byDest, bySource}, {byPort, bySource, byDest},
}

// pack gives the tiles that stand for exactly the shares: each by itself first,
// then those put together, one dimension after the other, that are equal in the
// other two.
func pack(shares []share, order []dimension) []*tile {
	tiles := atoms(shares)
	for before := -1; before != len(tiles); {
		before = len(tiles)
		for _, d := range order {
			tiles = joined(tiles, d)
		}
	}
	return tiles
}

// atoms gives a tile for each source at each spot. A source within another's is
// part of that one's.
func atoms(shares []share) []*tile {
	at := map[spot][]share{}
	for _, s := range shares {
		at[s.spot()] = append(at[s.spot()], s)
	}
	var out []*tile
	for _, where := range slices.SortedFunc(maps.Keys(at), compareSpots) {
		var sources []netip.Prefix
		for _, s := range at[where] {
			sources = append(sources, s.leg.Source)
		}
		sources = union(sources)
		here := make([]*tile, len(sources))
		for i, src := range sources {
			here[i] = &tile{protocol: where.proto, sources: []netip.Prefix{src}, dests: []netip.Addr{where.dest}, ports: []uint16{where.port}}
		}
		for _, s := range at[where] {
			i, _ := holder(sources, s.leg.Source)
			here[i].shares = append(here[i].shares, s)
		}
		out = append(out, here...)
	}
	return out
}

func compareSpots(a, b spot) int {
	return cmp.Or(cmp.Compare(a.proto, b.proto), a.dest.Compare(b.dest), cmp.Compare(a.port, b.port))
}

// joined puts together the tiles that differ in the dimension alone.
func joined(tiles []*tile, d dimension) []*tile {
	found := map[likeness]*tile{}
	var out []*tile
	for _, t := range tiles {
		k := t.without(d)
		first, ok := found[k]
		if !ok {
			found[k], out = t, append(out, t)
			continue
		}
		first.take(t)
	}
	for _, t := range out {
		t.seal()
	}
	return out
}

// likeness is equal where two tiles differ in one dimension alone. The family
// belongs to it by the addresses.
type likeness struct {
	protocol access.Protocol
	two      [2]string
}

func (t *tile) without(d dimension) likeness {
	switch d {
	case bySource:
		return likeness{t.protocol, [2]string{t.key(byDest), t.key(byPort)}}
	case byDest:
		return likeness{t.protocol, [2]string{t.key(bySource), t.key(byPort)}}
	}
	return likeness{t.protocol, [2]string{t.key(bySource), t.key(byDest)}}
}

// take adds what another tile has; the caller seals.
func (t *tile) take(o *tile) {
	t.sources, t.dests, t.ports = append(t.sources, o.sources...), append(t.dests, o.dests...), append(t.ports, o.ports...)
	t.shares = append(t.shares, o.shares...)
}

// seal puts the lists in order.
func (t *tile) seal() {
	t.sources = union(t.sources)
	slices.SortFunc(t.dests, netip.Addr.Compare)
	t.dests = slices.Compact(t.dests)
	slices.Sort(t.ports)
	t.ports = slices.Compact(t.ports)
	t.keys = [3]string{}
}

// key is equal where the lists of the dimension are. It is made when it is asked
// for first.
func (t *tile) key(d dimension) string {
	if t.keys[d] != "" {
		return t.keys[d]
	}
	var b []byte
	switch d {
	case bySource:
		for _, p := range t.sources {
			b = append(p.AppendTo(b), ' ')
		}
	case byDest:
		for _, a := range t.dests {
			b = append(a.AppendTo(b), ' ')
		}
	default:
		for _, p := range t.ports {
			b = append(strconv.AppendUint(b, uint64(p), 10), ' ')
		}
	}
	t.keys[d] = string(b)
	return t.keys[d]
}

// widen adds what another tile has, which differs in the dimension alone.
func (t *tile) widen(o *tile, d dimension) {
	t.shares = append(t.shares, o.shares...)
	switch d {
	case bySource:
		t.sources = withSource(t.sources, o.sources[0])
	case byDest:
		for _, a := range o.dests {
			i, _ := slices.BinarySearchFunc(t.dests, a, netip.Addr.Compare)
			t.dests = slices.Insert(t.dests, i, a)
		}
	default:
		i, _ := slices.BinarySearch(t.ports, o.ports[0])
		t.ports = slices.Insert(t.ports, i, o.ports[0])
	}
	t.keys[d] = ""
}

// withSource adds a source that none of the sorted ones holds, and drops those
// that it holds.
func withSource(sources []netip.Prefix, s netip.Prefix) []netip.Prefix {
	i, _ := slices.BinarySearchFunc(sources, s, comparePrefixes)
	n := i
	for n < len(sources) && access.PrefixContains(s, sources[n]) {
		n++
	}
	return slices.Replace(sources, i, n, s)
}

func (t *tile) spots() (out []spot) {
	for _, d := range t.dests {
		for _, p := range t.ports {
			out = append(out, spot{d, p, t.protocol})
		}
	}
	return out
}

// legs are those that the tile stands for, each once.
func (t *tile) legs() (out []access.Leg) {
	seen := make(map[legKey]bool, len(t.shares))
	for _, s := range t.shares {
		if k := keyOf(s.leg); !seen[k] {
			seen[k] = true
			out = append(out, s.leg)
		}
	}
	return out
}

// holder finds the source in a sorted list without overlaps that holds another.
func holder(sources []netip.Prefix, s netip.Prefix) (int, bool) {
	i, found := slices.BinarySearchFunc(sources, s, comparePrefixes)
	if !found {
		i-- // the last that begins before it
	}
	return i, i >= 0 && access.PrefixContains(sources[i], s)
}

// rule makes the tile's rule.
func (s Settings) rule(t *tile) Rule {
	r := Rule{
		Name: t.name, Priority: t.priority, Description: s.description(t), Direction: Inbound, Access: Allow, Protocol: "*", SourcePorts: []string{"*"},
	}
	switch t.protocol {
	case access.TCP:
		r.Protocol = "Tcp"
	case access.UDP:
		r.Protocol = "Udp"
	}
	for _, p := range t.sources {
		r.Sources = append(r.Sources, access.FormatPrefix(p))
	}
	for _, d := range t.dests {
		r.Destinations = append(r.Destinations, d.String())
	}
	for _, p := range t.ports {
		r.DestinationPorts = append(r.DestinationPorts, strconv.Itoa(int(p)))
	}
	return r
}

// namesake gives a leg of the tile whose door the rule is named after; false
// where the name is none that we would have given it.
func (s Settings) namesake(name string, legs []access.Leg) (access.Leg, bool) {
	for _, l := range legs {
		stem := s.stem(l.VM, l.Port, l.Protocol)
		if len(name) < len(stem) || !strings.EqualFold(name[:len(stem)], stem) {
			continue
		}
		d := doorOf(l)
		for n := range maxNames {
			if strings.EqualFold(name, s.ruleName(d, n)) {
				return l, true
			}
		}
	}
	return access.Leg{}, false
}

// maxNames is how many rules may be named after one door at a time, each for
// other sources.
const maxNames = 100
