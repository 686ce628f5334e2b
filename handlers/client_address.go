package handlers

import (
	"net/http"
	"net/netip"
	"strings"
)

// forwardedFor is the header to which the front end of App Service appends the
// address of the connection it took, with its port ("Configure a custom
// container", Azure App Service docs; the Functions front end is the same).
const forwardedFor = "X-Forwarded-For"

// clientAddress gives the address that the platform vouches for: the last
// element, which the front end appended. What stands before it came with the
// request, so anybody can have made it up. False where there is none that is an
// address: then it has to be given.
func clientAddress(r *http.Request) (netip.Addr, bool) {
	all := r.Header.Values(forwardedFor)
	if len(all) == 0 {
		return netip.Addr{}, false
	}
	list := all[len(all)-1]
	last := strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
	addr, err := netip.ParseAddr(strings.Trim(last, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(last)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	// A socket of both families shows IPv4 as IPv6; a network security group
	// does not.
	addr = addr.Unmap()
	if addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}, false
	}
	return addr, true
}
