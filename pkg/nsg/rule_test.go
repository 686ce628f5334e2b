package nsg

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

var (
	now  = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	prod = Settings{Installation: "prod", Band: Band{200, 299}, MaxGrant: 24 * time.Hour}
)

const vms = access.ResourceID("/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg/providers/microsoft.compute/virtualmachines/")

func TestOwns(t *testing.T) {
	tests := []struct {
		name  string
		rule  Rule
		owned bool
	}{
		{"ours", Rule{Name: "Portcullis-prod-web-1", Direction: Inbound}, true},
		{"ours in another case", Rule{Name: "PORTCULLIS-Prod-web-1", Direction: "inbound"}, true},
		{"outbound", Rule{Name: "Portcullis-prod-web-1", Direction: Outbound}, false},
		{"no direction", Rule{Name: "Portcullis-prod-web-1"}, false},
		{"a longer installation's", Rule{Name: "Portcullis-prod2-web-1", Direction: Inbound}, false},
		{"a shorter installation's", Rule{Name: "Portcullis-pro-web-1", Direction: Inbound}, false},
		{"the prefix alone", Rule{Name: "Portcullis-prod-", Direction: Inbound}, false},
		{"the customer's", Rule{Name: "AllowSSH", Direction: Inbound}, false},
		{"our words further in", Rule{Name: "x-Portcullis-prod-web-1", Direction: Inbound}, false},
		{"no name", Rule{Direction: Inbound}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := prod.Owns(tt.rule); got != tt.owned {
				t.Errorf("Owns = %t", got)
			}
		})
	}
}

// ruleNamePattern is what Resource Manager accepts ("Naming rules", Azure docs).
var ruleNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,78}[A-Za-z0-9_]$`)

// ruleFor is the rule that legs of one door get.
func ruleFor(s Settings, legs ...access.Leg) Rule {
	var shares []share
	for _, l := range legs {
		shares = append(shares, sharesOf(l)...)
	}
	t := pack(shares, packings[0])[0]
	t.name = s.ruleName(doorOf(legs[0]), 0)
	return s.rule(t)
}

func TestRuleNamesAreUniqueAndValid(t *testing.T) {
	long := Settings{Installation: strings.Repeat("i", 20), Band: prod.Band, MaxGrant: prod.MaxGrant}
	seen := map[string]string{}
	for _, vm := range []string{"web-1", "web-2", strings.Repeat("v", 64), strings.Repeat("v", 63) + "w", "mañana.", "..", ""} {
		for _, dest := range []string{"10.0.1.4", "10.0.1.5", "2001:db8::4"} {
			for _, port := range []uint16{2, 22, 65535} {
				for _, proto := range []access.Protocol{access.TCP, access.UDP, access.AnyProtocol} {
					l := access.Leg{VM: vms + access.ResourceID(vm), Destinations: []netip.Addr{netip.MustParseAddr(dest)}, Port: port, Protocol: proto,
						Source: netip.MustParsePrefix("203.0.113.7/32"), EndTime: now.Add(time.Hour)}
					r := ruleFor(long, l)
					what := fmt.Sprint(vm, dest, port, proto)
					if other, ok := seen[strings.ToLower(r.Name)]; ok {
						t.Errorf("%s is the name for %s and for %s", r.Name, what, other)
					}
					seen[strings.ToLower(r.Name)] = what
					if !ruleNamePattern.MatchString(r.Name) || !long.Owns(r) || !accessRuleName.MatchString(r.Name) {
						t.Errorf("name %q (%d)", r.Name, len(r.Name))
					}
					if len(r.Description) > MaxDescription {
						t.Errorf("description %q is %d long", r.Description, len(r.Description))
					}
					if at, ok := long.Deadline(r); vm != "" && (!ok || !at.Equal(l.EndTime)) {
						t.Errorf("our own description %q reads as %s, %t", r.Description, at, ok)
					}
				}
			}
		}
	}
}

func TestRuleIsReadable(t *testing.T) {
	l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
	l.EndTime = time.Date(2026, 11, 24, 11, 0, 0, 999, time.FixedZone("CET", 3600))
	r := ruleFor(prod, l)
	if !strings.HasPrefix(r.Name, "Portcullis-prod-web-1-22-tcp-") {
		t.Errorf("name %q", r.Name)
	}
	if r.Description != "Portcullis prod: just-in-time access to web-1 22/TCP until 2026-11-24T10:00:00Z" {
		t.Errorf("description %q", r.Description)
	}
}

func TestRuleExpired(t *testing.T) {
	says := func(s string) string { return "Portcullis prod: just-in-time access to web-1 22/TCP until " + s }
	tests := []struct {
		name, description string
		expired           bool
	}{
		{"an hour ahead", says("2026-11-24T10:00:00Z"), false},
		{"a second ahead", says("2026-11-24T09:00:01Z"), false},
		{"now", says("2026-11-24T09:00:00Z"), true},
		{"past", says("2026-11-24T08:59:59Z"), true},
		{"the longest grant and the skew", says("2026-11-25T09:05:00Z"), false},
		{"further ahead than any grant", says("2026-11-25T09:05:01Z"), true},
		{"in another zone", says("2026-11-24T12:00:00+01:00"), true},
		{"with fractions", says("2026-11-24T10:00:00.5Z"), true},
		{"no such day", says("2026-11-31T10:00:00Z"), true},
		{"no such port", "Portcullis prod: just-in-time access to web-1 65536/TCP until 2026-11-24T10:00:00Z", true},
		{"port nothing", "Portcullis prod: just-in-time access to web-1 0/TCP until 2026-11-24T10:00:00Z", true},
		{"another installation's", "Portcullis test: just-in-time access to web-1 22/TCP until 2026-11-24T10:00:00Z", true},
		{"more after it", says("2026-11-24T10:00:00Z "), true},
		{"a line after it", says("2026-11-24T10:00:00Z\n"), true},
		{"empty", "", true},
		{"somebody's words", "do not touch", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Rule{Name: "Portcullis-prod-x", Direction: Inbound, Access: Allow, Description: tt.description}
			if got := prod.RuleExpired(r, now); got != tt.expired {
				t.Errorf("RuleExpired = %t", got)
			}
			denies, theirs := r, r
			denies.Access, theirs.Name = Deny, "Portcullis-test-x"
			got := prod.Expired(Group{Rules: []Rule{theirs, r, denies}}, now)
			if tt.expired != (len(got) == 1) {
				t.Errorf("Expired gives %v", got)
			}
			if len(got) == 1 && got[0].Name != r.Name {
				t.Errorf("Expired gives %s", got[0].Name)
			}
		})
	}
}

func FuzzDeadline(f *testing.F) {
	f.Add("Portcullis prod: just-in-time access to web-1 22/TCP until 2026-11-24T10:00:00Z")
	f.Add("Portcullis prod: just-in-time access to web-1 22/* until 2026-02-30T24:60:60Z")
	f.Add("Portcullis prod: just-in-time access to web-1 22/* and 99 more until 2026-11-24T10:00:00Z")
	f.Add("Portcullis prod: just-in-time access to  22/TCP until 9999-99-99T99:99:99Z\x00")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r := Rule{Description: s}
		at, ok := prod.Deadline(r)
		if !ok {
			if !prod.RuleExpired(r, now) {
				t.Errorf("%q cannot be read and has not expired", s)
			}
			return
		}
		// What is read is what we would have written: made again from its parts it is the same.
		var vm, port string
		if _, err := fmt.Sscanf(s, "Portcullis prod: just-in-time access to %s %s ", &vm, &port); err != nil {
			t.Fatalf("%q was read, and is not of our form: %v", s, err)
		}
		n, proto, _ := strings.Cut(port, "/")
		d := door{vm: vms + access.ResourceID(vm), protocol: access.Protocol(proto)}
		if _, err := fmt.Sscan(n, &d.port); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		more := 0
		if _, rest, ok := strings.Cut(s, "/"+proto+" and "); ok {
			if _, err := fmt.Sscan(rest, &more); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			if len(vm) > maxNameInGroup {
				return // read, though we would have cut the name
			}
		}
		if again := prod.describe(d, more, at); again != s {
			t.Errorf("%q was read, and we would have written %q", s, again)
		}
	})
}
