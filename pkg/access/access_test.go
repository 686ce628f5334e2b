package access_test

import (
	"errors"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

const sub = "/subscriptions/00000000-0000-0000-0000-00000000000A"

func TestResourceIDsHaveOneForm(t *testing.T) {
	id, err := access.ParseVM(sub + "/resourceGroups/Prod/providers/Microsoft.Compute/virtualMachines/Web-1")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ToLower(sub) + "/resourcegroups/prod/providers/microsoft.compute/virtualmachines/web-1"; string(id) != want {
		t.Errorf("%s, want %s", id, want)
	}
	if s := id.Scopes(); len(s) != 3 || s[0] != id || s[2] != access.ResourceID(strings.ToLower(sub)) {
		t.Errorf("scopes %v", s)
	}
	vm := "/resourceGroups/p/providers/Microsoft.Compute/virtualMachines/"
	for _, bad := range []string{
		"", "/", "web-1", sub, sub + vm, sub + vm + "a/", sub + vm + "..", sub + vm + "a%2fb", sub + vm + "a?x=1", sub + "/" + vm + "a",
		sub + vm + "a/extensions/e", "/subscriptions/x" + vm + "a", sub + strings.Replace(vm, "virtualMachines", "disks", 1) + "a",
		sub + vm + "a b", sub + vm + "a\x00", sub + vm + "a.", sub + vm + "\u212a", strings.Replace(sub+vm, "Microsoft", "M\u0130crosoft", 1) + "a", sub + vm + strings.Repeat("a", 2000), sub + "/resourceGroups/../providers/Microsoft.Compute/virtualMachines/a",
	} {
		if id, err := access.ParseVM(bad); err == nil {
			t.Errorf("%q passed as %s", bad, id)
		} else if access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSourcesAreStrict(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.0/24": "203.0.113.0/24", "2001:db8::1": "2001:db8::1/128", "2001:db8::/32": "2001:db8::/32",
	} {
		if p, err := access.ParseSource(in); err != nil || p.String() != want {
			t.Errorf("%s: %s, %v", in, p, err)
		}
	}
	for in, reason := range map[string]string{
		"": "source_missing", "*": "source_any", "Any": "source_any", "0.0.0.0/0": "source_any", "::/0": "source_any", "Internet": "source_invalid",
		"203.0.113.7/24": "source_host_bits", "::ffff:203.0.113.7": "source_ipv4_mapped", "::ffff:203.0.113.0/120": "source_ipv4_mapped",
		"fe80::1%eth0": "source_invalid", "0.0.0.0": "source_invalid", "224.0.0.1": "source_invalid", "203.0.113.7/33": "source_invalid", " 203.0.113.7": "source_invalid",
		"203.0.113.007": "source_invalid",
	} {
		if p, err := access.ParseSource(in); access.ReasonOf(err) != reason {
			t.Errorf("%q: %s, %v, want %s", in, p, err, reason)
		}
	}
}

func TestContainmentIsThatOfAddresses(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"203.0.113.0/24", "203.0.113.7/32", true}, {"203.0.113.0/24", "203.0.113.0/24", true}, {"203.0.113.0/24", "203.0.112.0/23", false},
		{"203.0.113.0/25", "203.0.113.128/32", false}, {"0.0.0.0/0", "2001:db8::1/128", false}, {"::/0", "203.0.113.7/32", false}, {"2001:db8::/32", "2001:db8:7::/48", true},
	} {
		if got := access.PrefixContains(netip.MustParsePrefix(c.outer), netip.MustParsePrefix(c.inner)); got != c.want {
			t.Errorf("%s in %s: %v", c.inner, c.outer, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"PT5M": 5 * time.Minute, "P1D": 24 * time.Hour, "PT1H30M": 90 * time.Minute, "P1DT1S": 24*time.Hour + time.Second} {
		d, err := access.ParseDuration(in)
		if err != nil || d != want || access.FormatDuration(d) != in {
			t.Errorf("%s: %v, %v, back %s", in, d, err, access.FormatDuration(d))
		}
	}
	for _, bad := range []string{"", "P", "PT", "P1M", "P1Y", "P1W", "-PT1H", "PT-1H", "PT1.5H", "P1DT", "1H", "PT0S", "P0D", "pt1h", "PT999999999999S"} {
		if d, err := access.ParseDuration(bad); err == nil {
			t.Errorf("%q passed as %v", bad, d)
		}
	}
}

func TestRequestIDsDoNotRunTogether(t *testing.T) {
	a := access.NewRequestID(access.Sender{Channel: "http", Principal: "ab"}, "c")
	b := access.NewRequestID(access.Sender{Channel: "http", Principal: "a"}, "bc")
	if a == b {
		t.Error("two senders share a request id")
	}
	if _, err := access.ParseRequestID(string(a)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "ar-", string(a) + "x", "ar-" + strings.Repeat("A", 26), "ar-" + strings.Repeat("'", 26)} {
		if _, err := access.ParseRequestID(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestAStatusIsHonest(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opening := access.Leg{State: access.LegOpening}
	open := access.Leg{State: access.LegOpen, OpenedAt: at}
	closing := access.Leg{State: access.LegClosing, OpenedAt: at, Reason: access.Expired, ClosingAt: at}
	ended := access.Leg{State: access.LegEnded, OpenedAt: at, Reason: access.Expired, ClosingAt: at, EndedAt: at}
	never := access.Leg{State: access.LegEnded, Reason: access.NotOpenedInTime, ClosingAt: at, EndedAt: at}
	for name, c := range map[string]struct {
		legs   []access.Leg
		want   access.Status
		reason access.StatusReason
	}{
		"none":             {nil, access.Initiating, ""},
		"one open":         {[]access.Leg{open, opening}, access.Initiating, ""},
		"both open":        {[]access.Leg{open, open}, access.Initiated, ""},
		"closing":          {[]access.Leg{closing, open}, access.Initiated, access.Expired},
		"one ended":        {[]access.Leg{ended, closing}, access.Initiated, access.Expired},
		"both ended":       {[]access.Leg{ended, ended}, access.Revoked, access.Expired},
		"one never opened": {[]access.Leg{ended, never}, access.Failed, access.Expired},
	} {
		if s := access.StatusOf(c.legs); s.Status != c.want || s.Reason != c.reason {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{sub, "203.0.113.0/24", "PT1H", "::ffff:1.2.3.4/120", "P1DT1S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := access.ParseResourceID(s); err == nil {
			if again, err := access.ParseResourceID(string(id)); err != nil || again != id {
				t.Errorf("%q: %q is not canonical: %q, %v", s, id, again, err)
			}
			if strings.ContainsAny(string(id), "%?#\\\"'\x00") || path.Clean(string(id)) != string(id) || strings.Contains(string(id)+"/", "./") {
				t.Errorf("%q passed", id)
			}
			// Nothing of ASCII comes from anything else.
			if len(id) != len(s) && strings.ToLower(s) != string(id) || ascii(s) != ascii(string(id)) {
				t.Errorf("%q became %q", s, id)
			}
		}
		if p, err := access.ParseSource(s); err == nil && (p.Bits() == 0 || p != p.Masked() || p.Addr().Is4In6() || !says(s, p)) {
			t.Errorf("%q passed as %s", s, p)
		}
		if all, err := access.ParsePolicySource(s); err == nil && s != access.AnySource && (len(all) != 1 || all[0].Addr().Is4In6() || !says(s, all[0])) {
			t.Errorf("%q passed as %s", s, all)
		}
		if d, err := access.ParseDuration(s); err == nil {
			if again, err := access.ParseDuration(access.FormatDuration(d)); err != nil || again != d {
				t.Errorf("%q: %v does not come back: %v, %v", s, d, again, err)
			}
		}
	})
}

func TestNamesAreBoundedInCharacters(t *testing.T) {
	const sub = "/subscriptions/00000000-0000-0000-0000-000000000001"
	vm := func(group, name string) string {
		return sub + "/resourceGroups/" + group + "/providers/Microsoft.Compute/virtualMachines/" + name
	}
	for id, ok := range map[string]bool{
		vm(strings.Repeat("ü", 90), "web-1"): true, vm(strings.Repeat("ü", 91), "web-1"): false,
		vm("prod", strings.Repeat("é", 80)): true, vm("prod", strings.Repeat("é", 81)): false,
		vm("x_(9).-²日", "x_9.-²日"): true, vm("x", "x(1)"): false, vm("a b", "x"): false, vm("a\xff", "x"): false, vm("a\ufffd", "x"): false, vm("x", "a'b"): false, vm("x", "a\u0301"): false,
	} {
		if _, err := access.ParseVM(id); (err == nil) != ok {
			t.Errorf("%s: %v", id, err)
		}
	}
	for n, ok := range map[int]bool{80: true, 81: false} {
		if _, err := access.ParseResourceID(sub + "/resourceGroups/prod/providers/Microsoft.Compute/" + strings.Repeat("t", n) + "/x"); (err == nil) != ok {
			t.Errorf("a type of %d characters: %v", n, err)
		}
	}
}

// ascii counts the characters of ASCII.
func ascii(s string) (n int) {
	for _, r := range s {
		if r < 0x80 {
			n++
		}
	}
	return n
}

// says whether a text says exactly the prefix: the address in it, and its length
// or that of a single address.
func says(text string, p netip.Prefix) bool {
	address, bits, isRange := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	want := a.BitLen()
	if isRange {
		n, e := strconv.Atoi(bits)
		want, err = n, errors.Join(err, e)
	}
	return err == nil && a == p.Addr() && want == p.Bits()
}
