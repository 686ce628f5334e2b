package resourcemanager

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	p, ok := parsePath("/SUBSCRIPTIONS/s/resourcegroups/My%20Group/Providers/Microsoft.Network/networkSecurityGroups/g/securityRules/r/")
	if !ok || p.Subscription != "s" || p.Group != "My Group" || !p.is("microsoft.network", "NetworkSecurityGroups", "securityrules") ||
		!slices.Equal(p.Names, []string{"g", "r"}) || !p.isItem() || p.isCollection() {
		t.Errorf("%+v, %t", p, ok)
	}
	if got := p.parent().id(); got != "/subscriptions/s/resourceGroups/My Group/providers/Microsoft.Network/networkSecurityGroups/g" {
		t.Errorf("parent = %s", got)
	}
	if c, ok := parsePath("/subscriptions/s/providers/P/t/n/u"); !ok || !c.isCollection() || c.parent().id() != "/subscriptions/s/providers/P/t/n" {
		t.Errorf("%+v, %t", c, ok)
	}
	for _, bad := range []string{
		"", "/", "subscriptions/s", "/x", "/subscriptions//resourceGroups", "/subscriptions/s//", "/subscriptions/s/x",
		"/subscriptions/s/providers", "/subscriptions/s/providers/P", "/subscriptions/a%2Fb", "/subscriptions/a%00b", "/subscriptions/%zz",
		"/subscriptions/%ff", "/subscriptions/s/resourceGroups/g/x", "/subscriptions/" + strings.Repeat("a", maxPathBytes),
		"/subscriptions/s/providers/P" + strings.Repeat("/a", maxSegments),
	} {
		if p, ok := parsePath(bad); ok {
			t.Errorf("parsePath(%.60q) = %+v", bad, p)
		}
	}
}

// What parses is written and parsed again to the same; the key does not depend
// on the spelling of the URL.
func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{
		"/subscriptions", "/subscriptions/s", "/subscriptions/s/resourceGroups", "/subscriptions/s/resourceGroups/g/", https,
		"/subscriptions/s/providers/P/t", "/subscriptions/%2e%2e/providers/P/t/n", "/subscriptions/s/resourceGroups/a%20b", "/subscriptions/é",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, ok := parsePath(raw)
		if !ok {
			return
		}
		again, ok := parsePath(p.escaped())
		if !ok || again.id() != p.id() || again.escaped() != p.escaped() || again.isItem() != p.isItem() || again.isCollection() != p.isCollection() {
			t.Fatalf("%q → %+v → %q → %+v, %t", raw, p, p.escaped(), again, ok)
		}
		if len(p.Types) > 1 && !strings.HasPrefix(p.id(), p.parent().id()+"/") {
			t.Fatalf("%q is not under its parent %q", p.id(), p.parent().id())
		}
	})
}
