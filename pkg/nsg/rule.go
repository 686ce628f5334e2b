package nsg

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
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
	maxNameInDescription = 40 // and in its description: 133 in all at most,
	maxNameInGroup       = 30 // or 139 where the rule stands for more than one door
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
var accessRuleName = regexp.MustCompile(`(?i)-[0-9]{1,5}-(tcp|udp|any)-[a-z2-7]{16}$`)

// grants says whether a rule of ours is one that legs account for: any that is
// no deny, and a just-in-time rule that was turned into a deny because it could
// not be removed. Any other deny of ours is not; it goes by a recorded decision,
// because absence never opens.
func (s Settings) grants(r Rule) bool {
	return s.Owns(r) && (!r.denies() || accessRuleName.MatchString(r.Name))
}

// door is one port of one VM at given addresses, of one family: what a grant
// opens, whoever comes through. Rules are named after doors.
type door struct {
	vm       access.ResourceID
	dests    string // sorted, comma-separated: comparable
	port     uint16
	protocol access.Protocol
}

func doorOf(l access.Leg) door {
	var names []string
	for _, d := range destinationsOf(l) {
		names = append(names, d.String())
	}
	return door{l.VM, strings.Join(names, ","), l.Port, l.Protocol}
}

// ruleName is the door's nth name, from 0: readable in front, unique by its hash.
func (s Settings) ruleName(d door, n int) string {
	text := fmt.Appendf(nil, "%s\n%s\n%d\n%s", d.vm, d.dests, d.port, d.protocol)
	if n > 0 {
		text = fmt.Appendf(text, "\n%d", n)
	}
	sum := sha256.Sum256(text)
	return s.stem(d.vm, d.port, d.protocol) + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// hashLength is how long the hash at a name's end is.
const hashLength = 16

// stem is what all of a door's names begin with.
func (s Settings) stem(vm access.ResourceID, port uint16, protocol access.Protocol) string {
	proto := "any"
	if protocol != access.AnyProtocol {
		proto = strings.ToLower(string(protocol))
	}
	return s.prefix() + plain(vm.Name(), maxNameInRule) + "-" + strconv.Itoa(int(port)) + "-" + proto + "-"
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

// description says what a rule is: whose, the door that it is named after, how
// many more it stands for, and the earliest deadline among all of them.
func (s Settings) description(t *tile) string {
	legs := t.legs()
	var earliest time.Time
	doors := map[door]bool{}
	for _, l := range legs {
		doors[door{vm: l.VM, port: l.Port}] = true
		if earliest.IsZero() || l.EndTime.Before(earliest) {
			earliest = l.EndTime
		}
	}
	named, ok := s.namesake(t.name, legs)
	if !ok {
		named = legs[0]
	}
	return s.describe(doorOf(named), len(doors)-1, earliest)
}

func (s Settings) describe(d door, more int, deadline time.Time) string {
	most, others := maxNameInDescription, ""
	if more > 0 {
		most, others = maxNameInGroup, fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("Portcullis %s: just-in-time access to %s %d/%s%s until %s", s.Installation,
		plain(d.vm.Name(), most), d.port, d.protocol, others, deadline.UTC().Truncate(time.Second).Format(time.RFC3339))
}

var descriptionPattern = regexp.MustCompile(`^Portcullis ([a-z0-9]{1,20}): just-in-time access to [a-z0-9._-]{1,40} ([1-9][0-9]{0,4})/(?:TCP|UDP|\*)(?: and [1-9][0-9]{0,5} more)? until ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)$`)

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
