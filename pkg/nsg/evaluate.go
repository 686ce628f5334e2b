package nsg

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Evaluate says what the group does with inbound traffic, by the first match
// over its rules and then the default rules, in the order of their priorities.
//
// Allowed is certain: every packet of the flow passes, whatever service tags
// and application security groups stand for. Denied is certain too: some packet
// of it is dropped. (One exception, on the safe side: several allow rules that
// let it through only together, each for some source ports, are not added up.)
// Anything else is Unknown, with the rule that leaves it open. A flow whose
// source and destination are not of one family is no traffic, and denied.
func (g Group) Evaluate(f Flow) Verdict { return newEvaluator(g).evaluate(f) }

// evaluator is a group's inbound rules in the order in which they are met.
type evaluator []matcher

func newEvaluator(g Group) evaluator {
	e := inOrder(g.Rules)
	return append(e, inOrder(g.Defaults)...)
}

func inOrder(rules []Rule) evaluator {
	var e evaluator
	for i := range rules {
		if rules[i].inbound() {
			e = append(e, newMatcher(&rules[i]))
		}
	}
	slices.SortStableFunc(e, byPriority)
	return e
}

func byPriority(a, b matcher) int { return cmp.Compare(a.rule.Priority, b.rule.Priority) }

func (e evaluator) evaluate(f Flow) Verdict {
	p := packets{source: f.Source.Masked(), dest: f.Destination.Unmap().WithZone(""), port: f.Port}
	if !p.source.IsValid() || !p.dest.IsValid() || p.source.Addr().BitLen() != p.dest.BitLen() {
		return Verdict{Outcome: OutcomeDenied}
	}
	verdict := Verdict{Outcome: OutcomeAllowed}
	for i, proto := range transports(f.Protocol) {
		p.proto = proto
		if v := e.decide(p); i == 0 || worse(v, verdict) {
			verdict = v
		}
	}
	return verdict
}

// worse says whether less is let through under a than under b.
func worse(a, b Verdict) bool {
	rank := func(v Verdict) int {
		return slices.Index([]Outcome{OutcomeAllowed, OutcomeUnknown, OutcomeDenied}, v.Outcome)
	}
	return rank(a) > rank(b)
}

// decide follows the packets from rule to rule until none is left.
func (e evaluator) decide(p packets) Verdict {
	var (
		left     = []netip.Prefix{p.source} // not decided by any rule so far
		doubtful []netip.Prefix             // may have been let through by a rule of unknown meaning
		denied   *Rule                      // the first that surely drops some of it
		doubt    *Rule                      // the first that makes it uncertain that all of it passes
		hope     *Rule                      // the first of unknown meaning that may have let it through
	)
	for i := range e {
		m := &e[i]
		surely, perhaps := m.match(p)
		surely, perhaps = intersect(surely, left), intersect(perhaps, left)
		if len(perhaps) == 0 {
			continue
		}
		if m.allow && m.deny {
			surely = nil
		}
		drops := m.deny && len(subtract(surely, doubtful)) > 0
		switch {
		case drops:
			denied = first(denied, m.rule)
		case m.deny && len(surely) > 0:
			doubt = first(doubt, hope)
		case m.deny:
			doubt = first(doubt, m.rule)
		}
		if m.allow && len(subtract(perhaps, surely)) > 0 {
			hope, doubtful = first(hope, m.rule), append(doubtful, perhaps...)
		}
		if m.everySourcePort {
			if rest := subtract(left, surely); len(rest) <= maxPieces {
				left = rest
			}
		}
		if len(left) > 0 {
			continue
		}
		switch {
		case drops: // it decides, and denies
			return Verdict{OutcomeDenied, m.rule}
		case denied != nil:
			return Verdict{OutcomeDenied, denied}
		case m.deny:
			return Verdict{OutcomeUnknown, hope}
		case doubt != nil:
			return Verdict{OutcomeUnknown, doubt}
		}
		return Verdict{OutcomeAllowed, m.rule}
	}
	// What no rule matches is dropped.
	if denied == nil && len(subtract(left, doubtful)) == 0 {
		return Verdict{OutcomeUnknown, hope}
	}
	return Verdict{OutcomeDenied, denied}
}

func first(have, now *Rule) *Rule {
	if have != nil {
		return have
	}
	return now
}

// String says the verdict for a person, with the rule that decides it.
func (v Verdict) String() string {
	switch {
	case v.Rule == nil:
		return string(v.Outcome) + ", as no rule matches"
	case v.Outcome == OutcomeUnknown:
		return fmt.Sprintf("Unknown because of rule %s (%s)", v.Rule.Name, v.Rule.cause())
	}
	return fmt.Sprintf("%s by rule %s (priority %d)", v.Outcome, v.Rule.Name, v.Rule.Priority)
}

// cause says what in a rule is not known here.
func (r *Rule) cause() string {
	for _, side := range []struct {
		name string
		list []string
		asgs []string
	}{{"source", r.Sources, r.SourceASGs}, {"destination", r.Destinations, r.DestinationASGs}} {
		for _, s := range side.list {
			if !readAddresses([]string{s}, nil).exact {
				return side.name + " " + s
			}
		}
		if len(side.asgs) > 0 {
			group := side.asgs[0]
			return side.name + " application security group " + group[strings.LastIndex(group, "/")+1:]
		}
	}
	return fmt.Sprintf("priority %d", r.Priority)
}

// Confirm evaluates all of a leg's traffic in the group and gives the worst
// verdict: a leg is open only where that is Allowed. A leg without destinations
// is denied.
func (s Settings) Confirm(g Group, leg access.Leg) Verdict { return newEvaluator(g).leg(leg) }

// Confirmer is Confirm for many legs of a group, whose rules are read once. It
// may be used by one goroutine at a time.
func (s Settings) Confirmer(g Group) func(access.Leg) Verdict { return newEvaluator(g).leg }

func (e evaluator) leg(l access.Leg) Verdict {
	worst := Verdict{Outcome: OutcomeDenied}
	for i, d := range l.Destinations {
		v := e.evaluate(Flow{Source: l.Source, Destination: d, Port: l.Port, Protocol: l.Protocol})
		if i == 0 || worse(v, worst) {
			worst = v
		}
	}
	return worst
}
