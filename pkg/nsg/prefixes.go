package nsg

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// maxPieces bounds into how many prefixes a source is cut. A group may hold
// 4,000 prefixes, so that only a very wide source among very many narrow ones
// ever comes near.
const maxPieces = 4096

// intersect gives the addresses that are in both lists. Some may be given twice.
func intersect(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			switch {
			case access.PrefixContains(x, y):
				out = append(out, y)
			case access.PrefixContains(y, x):
				out = append(out, x)
			}
		}
	}
	return out
}

// subtract gives what is in a and in nothing of b.
func subtract(a, b []netip.Prefix) []netip.Prefix {
	if slices.Equal(a, b) {
		return nil // the common case: what a rule may match it surely matches
	}
	var out []netip.Prefix
	for _, p := range a {
		out = carve(out, p, b)
	}
	return out
}

// carve appends to out what is in p and in nothing of holes.
func carve(out []netip.Prefix, p netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	var inside []netip.Prefix
	for _, h := range holes {
		if access.PrefixContains(h, p) {
			return out
		}
		if access.PrefixContains(p, h) {
			inside = append(inside, h)
		}
	}
	if len(inside) == 0 {
		return append(out, p)
	}
	low, high := halves(p)
	return carve(carve(out, low, inside), high, inside)
}

// halves cuts a prefix of more than one address in two.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	b := p.Addr().AsSlice()
	b[(bits-1)/8] |= 0x80 >> ((bits - 1) % 8)
	upper, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(upper, bits)
}

// union sorts prefixes and drops what another contains: Resource Manager
// refuses overlapping prefixes in one rule, and they would say nothing.
func union(list []netip.Prefix) []netip.Prefix {
	var kept []netip.Prefix
	for _, p := range sortedPrefixes(list) {
		// Sorted by address and then by width, a containing prefix is the last kept.
		if len(kept) > 0 && access.PrefixContains(kept[len(kept)-1], p) {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

func sortedPrefixes(list []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(list), comparePrefixes)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
