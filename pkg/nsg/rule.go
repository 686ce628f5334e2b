package nsg

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// clockSkew is how much further ahead than the longest grant a deadline may
// lie before it is taken for a forgery: our own clocks may differ by that.
const clockSkew = 5 * time.Minute

const (
	maxNameInRule        = 20 // of the VM's name, in a rule's name: 79 in all at most
	maxNameInDescription = 40 // and in its description: 133 in all at most
)

func (s Settings) prefix() string { return "Portcullis-" + s.Installation + "-" }

// Owns says whether a rule is of this installation. Its name alone decides,
// without regard to case, as Resource Manager compares names; the separator
// after the installation keeps "a" from owning the rules of "ab".
func (s Settings) Owns(r Rule) bool {
	p := s.prefix()
	return r.inbound() && len(r.Name) > len(p) && strings.EqualFold(r.Name[:len(p)], p)
}

// accessRuleName is how the names of our just-in-time rules end.
var accessRuleName = regexp.MustCompile(`(?i)-[0-9]{1,5}-(?:tcp|udp|any)-[a-z2-7]{16}$`)

// grants says whether a rule of ours is one that legs account for: any that is
// no deny, and a just-in-time rule that was turned into a deny because it could
// not be removed. Any other deny of ours is not; it goes by a recorded decision,
// because absence never opens.
func (s Settings) grants(r Rule) bool {
	return s.Owns(r) && (!r.denies() || accessRuleName.MatchString(r.Name))
}

// door is what one rule of ours lets through, but for the sources: one port of
// one VM at given addresses (of one family, as a rule cannot mix them). Legs
// that differ in the addresses are behind different doors, so that no rule lets
// through a source and a destination that no single leg has together.
type door struct {
	vm       access.ResourceID
	dests    string // sorted, comma-separated: comparable
	port     uint16
	protocol access.Protocol
}

func doorOf(l access.Leg) door {
	dests := slices.SortedFunc(slices.Values(l.Destinations), netip.Addr.Compare)
	var names []string
	for _, d := range slices.Compact(dests) {
		names = append(names, d.String())
	}
	return door{l.VM, strings.Join(names, ","), l.Port, l.Protocol}
}

func (d door) destinations() []string { return strings.Split(d.dests, ",") }

// ruleName is the door's one name: readable in front, unique by its hash.
func (s Settings) ruleName(d door) string {
	proto := "any"
	if d.protocol != access.AnyProtocol {
		proto = strings.ToLower(string(d.protocol))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d\n%s", d.vm, d.dests, d.port, d.protocol))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	return fmt.Sprintf("%s%s-%d-%s-%s", s.prefix(), plain(d.vm.Name(), maxNameInRule), d.port, proto, hash)
}

// plain keeps of a name what any rule's name and description may hold.
func plain(name string, most int) string {
	out := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, name)
	return out[:min(len(out), most)]
}

// rule makes the door's rule, but for its priority, for the live legs behind it.
func (s Settings) rule(d door, legs []access.Leg) Rule {
	var sources []netip.Prefix
	var earliest time.Time
	for _, l := range legs {
		sources = append(sources, l.Source)
		if earliest.IsZero() || l.EndTime.Before(earliest) {
			earliest = l.EndTime
		}
	}
	r := Rule{
		Name: s.ruleName(d), Description: s.description(d, earliest), Direction: Inbound, Access: Allow, Protocol: "*",
		SourcePorts: []string{"*"}, Destinations: d.destinations(), DestinationPorts: []string{strconv.Itoa(int(d.port))},
	}
	switch d.protocol {
	case access.TCP:
		r.Protocol = "Tcp"
	case access.UDP:
		r.Protocol = "Udp"
	}
	for _, p := range union(sources) {
		r.Sources = append(r.Sources, access.FormatPrefix(p))
	}
	return r
}

func (s Settings) description(d door, deadline time.Time) string {
	return fmt.Sprintf("Portcullis %s: just-in-time access to %s %d/%s until %s", s.Installation,
		plain(d.vm.Name(), maxNameInDescription), d.port, d.protocol, deadline.UTC().Truncate(time.Second).Format(time.RFC3339))
}

var descriptionPattern = regexp.MustCompile(`^Portcullis ([a-z0-9]{1,20}): just-in-time access to [a-z0-9._-]{1,40} ([1-9][0-9]{0,4})/(?:TCP|UDP|\*) until ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)$`)

// Deadline reads the earliest deadline that a rule of ours states; false for
// anything that is not exactly what this installation writes.
func (s Settings) Deadline(r Rule) (time.Time, bool) {
	if len(r.Description) > MaxDescription {
		return time.Time{}, false
	}
	m := descriptionPattern.FindStringSubmatch(r.Description)
	if m == nil || m[1] != s.Installation {
		return time.Time{}, false
	}
	if _, err := strconv.ParseUint(m[2], 10, 16); err != nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, m[3])
	return t, err == nil
}

// RuleExpired says whether a rule of ours has expired by its own description:
// its deadline is reached, cannot be read, or lies further ahead than any grant.
func (s Settings) RuleExpired(r Rule, now time.Time) bool {
	t, ok := s.Deadline(r)
	return !ok || !t.After(now) || t.After(now.Add(s.MaxGrant+clockSkew))
}

// Expired gives our rules in the group that have expired by their own
// description: what is closed when nothing else is known. A deny is never among
// them, as removing one closes nothing.
func (s Settings) Expired(g Group, now time.Time) []Rule {
	var out []Rule
	for _, r := range g.Rules {
		if s.Owns(r) && !r.denies() && s.RuleExpired(r, now) {
			out = append(out, r)
		}
	}
	return out
}
