package nsg

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Evaluate says what the group does with inbound traffic, by the first match
// over its rules and the default rules. Allowed is certain: every packet of the
// flow passes. Denied is certain too: some packet is dropped. Anything else is
// Unknown, with the rule that leaves it open.
func (g Group) Evaluate(f Flow) Verdict { return newEvaluator(g).evaluate(f) }

type evaluator []matcher

func newEvaluator(g Group) evaluator {
	var e evaluator
	for _, list := range [][]Rule{g.Rules, g.Defaults} {
		for i := range list {
			if strings.EqualFold(string(list[i].Direction), string(Inbound)) {
				e = append(e, newMatcher(&list[i]))
			}
		}
	}
	slices.SortStableFunc(e, func(a, b matcher) int { return cmp.Compare(a.rule.Priority, b.rule.Priority) })
	return e
}

func (e evaluator) evaluate(f Flow) Verdict {
	// The first rules before the deciding one that match in part or unknowably.
	var partDeny, maybeDeny, maybeAllow, partAllow *Rule
	partAllows := 0
	for i := range e {
		m := &e[i]
		allow := strings.EqualFold(string(m.rule.Access), string(Allow))
		switch c := m.covers(f); {
		case c == none:
		case c == full && allow:
			switch {
			case partDeny != nil:
				return Verdict{OutcomeDenied, partDeny}
			case maybeDeny != nil:
				return Verdict{OutcomeUnknown, maybeDeny}
			}
			return Verdict{OutcomeAllowed, m.rule}
		case c == full:
			switch {
			case maybeAllow != nil:
				return Verdict{OutcomeUnknown, maybeAllow}
			case partAllows > 1 && partDeny == nil:
				// Together they may cover the flow; one alone never does.
				return Verdict{OutcomeUnknown, partAllow}
			}
			return Verdict{OutcomeDenied, m.rule}
		case allow && c == unknown:
			maybeAllow = first(maybeAllow, m.rule)
		case allow:
			partAllow, partAllows = first(partAllow, m.rule), partAllows+1
		case c == partial && maybeAllow == nil && partAllow == nil:
			partDeny = first(partDeny, m.rule)
		default:
			// It may be shadowed by what came before it, or stand for nothing.
			maybeDeny = first(maybeDeny, m.rule)
		}
	}
	if maybeAllow != nil {
		return Verdict{OutcomeUnknown, maybeAllow}
	}
	return Verdict{Outcome: OutcomeDenied}
}

func first(have, now *Rule) *Rule {
	if have != nil {
		return have
	}
	return now
}

// String says the verdict for a person, with the rule that decides it.
func (v Verdict) String() string {
	if v.Rule == nil {
		return string(v.Outcome) + ", as no rule matches"
	}
	by := "by"
	if v.Outcome == OutcomeUnknown {
		by = "because of"
	}
	s := fmt.Sprintf("%s %s rule %s (priority %d)", v.Outcome, by, v.Rule.Name, v.Rule.Priority)
	if v.Outcome == OutcomeUnknown && len(v.Rule.Sources) > 0 {
		s += ", source " + strings.Join(v.Rule.Sources[:min(3, len(v.Rule.Sources))], ", ")
	}
	return s
}

// Confirm evaluates all of a leg's traffic in the group and gives the worst
// verdict: a leg is open only where that is Allowed.
func (s Settings) Confirm(g Group, l access.Leg) Verdict { return newEvaluator(g).leg(l) }

func (e evaluator) leg(l access.Leg) Verdict {
	worst := Verdict{Outcome: OutcomeDenied}
	for i, d := range l.Destinations {
		v := e.evaluate(Flow{Source: l.Source, Destination: d, Port: l.Port, Protocol: l.Protocol})
		if i == 0 || v.Outcome != OutcomeAllowed {
			worst = v
		}
		if v.Outcome != OutcomeAllowed {
			break
		}
	}
	return worst
}
