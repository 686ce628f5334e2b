package access

import (
	"net/netip"
	"strings"
)

// ParseSource reads the source of a request: one address or one CIDR prefix,
// IPv4 or IPv6. It is strict, because every leniency here opens a port wider
// than somebody thought:
//
//   - "*", "Any" and zero-length prefixes are refused: a grant names its source;
//   - service tags and names are refused: what they stand for changes;
//   - host bits set after the prefix length are refused, naming both readings;
//   - IPv4-mapped IPv6 (::ffff:203.0.113.7) is refused: NSGs see IPv4 traffic as
//     IPv4, so the rule would never match, and range checks could be fooled;
//   - zones, unspecified and multicast addresses are refused.
func ParseSource(s string) (netip.Prefix, error) {
	if strings.TrimSpace(s) == "" {
		return netip.Prefix{}, Errorf(InvalidArgument, "source_missing", "allowedSourceAddressPrefix is missing: name the address or range you come from")
	}
	if s == "*" || strings.EqualFold(s, "any") {
		return netip.Prefix{}, Errorf(InvalidArgument, "source_any", "allowedSourceAddressPrefix %s would open the port to everyone: name the address or range you come from", quote(s))
	}
	p, err := parsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, Errorf(InvalidArgument, "source_any", "allowedSourceAddressPrefix %s would open the port to everyone: name the address or range you come from", quote(s))
	}
	if a := p.Addr(); a.IsUnspecified() || a.IsMulticast() {
		return netip.Prefix{}, Errorf(InvalidArgument, "source_invalid", "%s cannot be the source of a connection", quote(s))
	}
	return p, nil
}

// AnySource is how a policy says "any source", of either family. A request
// cannot say it.
const AnySource = "*"

// ParsePolicySource reads a source range of a policy: "*" for any source (both
// families, returned as 0.0.0.0/0 and ::/0), an address, or a CIDR prefix of
// any length, under the same strictness as [ParseSource] otherwise.
func ParsePolicySource(s string) ([]netip.Prefix, error) {
	if s == AnySource {
		return []netip.Prefix{
			netip.PrefixFrom(netip.IPv4Unspecified(), 0),
			netip.PrefixFrom(netip.IPv6Unspecified(), 0),
		}, nil
	}
	p, err := parsePrefix(s)
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{p}, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	bad := func(reason, why string) (netip.Prefix, error) {
		return netip.Prefix{}, Errorf(InvalidArgument, reason, "source %s %s", quote(s), why)
	}
	var p netip.Prefix
	if strings.Contains(s, "/") {
		var err error
		if p, err = netip.ParsePrefix(s); err != nil {
			return bad("source_invalid", "is not an address or a CIDR prefix (service tags and names are not accepted)")
		}
	} else {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return bad("source_invalid", "is not an address or a CIDR prefix (service tags and names are not accepted)")
		}
		if a.Zone() != "" {
			return bad("source_invalid", "has a zone, which means nothing to a network security group")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return bad("source_ipv4_mapped", "is an IPv4-mapped IPv6 address: write "+p.Addr().Unmap().String()+" instead")
	}
	if p != p.Masked() {
		return bad("source_host_bits", "has bits set beyond its prefix length: write "+p.Masked().String()+
			" for the range or "+p.Addr().String()+" for the address")
	}
	return p, nil
}

// PrefixContains says whether every address of inner lies in outer. Prefixes
// of different families contain nothing of each other.
func PrefixContains(outer, inner netip.Prefix) bool {
	return outer.Addr().Is4() == inner.Addr().Is4() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// FormatPrefix renders a prefix as a rule holds it: a single address without
// its length, a range in CIDR notation.
func FormatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
