package nsg

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func TestBlocking(t *testing.T) {
	office := []netip.Prefix{prefix("203.0.113.0/24")}
	row := baseline("web-1", "10.0.1.4", "22/TCP,3389/TCP")
	for _, tt := range []struct {
		name, rules string
		sources     []netip.Prefix
		want        string
	}{
		{"nothing", "", office, "[]"},
		{"a deny before the band", "Deny 150 * * → * *", office, "[A]"},
		{"for one of the ports, some of the sources, the address", "Deny 150 Tcp 203.0.113.9 → 10.0.1.4 3389", office, "[A]"},
		{"in their order", "Deny 160 * * → * *; Deny 150 * * → * 22", office, "[B A]"},
		{"an allow", "Allow 150 * * → * *", office, "[]"},
		{"behind the first free priority", "Deny 201 * * → * *", office, "[]"},
		{"inside the band, before the first free priority", "Deny 200 * 10.0.0.0/8 → * *; Deny 201 * * → * *", office, "[B]"},
		{"other ports", "Deny 150 * * → * 443", office, "[]"},
		{"other addresses", "Deny 150 * * → 10.0.1.5 *", office, "[]"},
		{"other sources", "Deny 150 * 198.51.100.0/24 → * *", office, "[]"},
		{"another protocol", "Deny 150 Udp * → * *", office, "[]"},
		{"a tag that may hold the sources", "Deny 150 * Internet → * *", office, "[A]"},
		{"another family", "Deny 150 * * → * *", []netip.Prefix{prefix("2001:db8::/32")}, "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var names []string
			for _, r := range shutting().Blocking(groups(t, tt.rules)[0], row, tt.sources) {
				names = append(names, r.Name)
			}
			if got := fmt.Sprint(names); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// What Blocking names is what keeps a grant from opening, and nothing else does.
func TestBlockingIsWhatPlanMeets(t *testing.T) {
	for _, rules := range []string{"Deny 150 * * → * 22", "Deny 250 * * → * 22", "Deny 200 * * → * 443", "Deny 100 * Internet → * *"} {
		g := groups(t, rules)[0]
		l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
		named := prod.Blocking(g, baseline("web-1", "10.0.1.4", "22/TCP"), []netip.Prefix{l.Source})
		plan := prod.Plan(g, []access.Leg{l}, now)
		if (len(named) > 0) != (len(plan.Blocked) > 0) {
			t.Errorf("%s: named %v, planned %s", rules, named, told(plan))
		}
	}
}

func TestFreeInBand(t *testing.T) {
	s := prod
	s.Band = Band{200, 203}
	g := groups(t, "Deny 200 * * → * *; Allow 202 * * → * *; Deny 300 * * → * *")[0]
	if n := s.FreeInBand(g); n != 2 {
		t.Errorf("%d", n)
	}
}
