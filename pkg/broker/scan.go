package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// ScanPorts are what Scan needs.
type ScanPorts struct {
	Subscriptions []string
	Lister        GroupLister
	Groups        Groups
	Heads         Heads
	Ledger        Ledger
	Legs          LegWriter
	Baselines     Baselines
	Machines      Machines
	Prompts       Prompts
	Events        Events
	Clock         Clock
	Token         func() string
	Log           *slog.Logger
	Meter         Meter
	// Forget removes the head of an NSG that was not used for the Retention.
	Forget    HeadRetirements
	Retention time.Duration
	// Ensure brings a subscription's baselines up to date: an Enabler's Ensure.
	Ensure func(ctx context.Context, subscription string) error
}

// Scanner finds what nobody asked for: rules of ours that no live leg covers,
// rules of ours that were changed, and live grants whose VM is no longer behind
// the address.
type Scanner struct {
	ScanPorts
	rules  nsg.Settings
	closer *Closer
}

// NewScanner makes a Scanner; every port and at least one subscription are required.
func NewScanner(p ScanPorts, rules nsg.Settings) (*Scanner, error) {
	if len(p.Subscriptions) == 0 || p.Lister == nil || p.Groups == nil || p.Heads == nil || p.Ledger == nil || p.Legs == nil || p.Baselines == nil || p.Ensure == nil ||
		p.Machines == nil || p.Prompts == nil || p.Events == nil || p.Clock == nil || p.Token == nil || p.Log == nil || p.Meter == nil || p.Forget == nil {
		return nil, errors.New("broker: a port of the scanner is missing")
	}
	if p.Retention <= 0 {
		return nil, errors.New("broker: the scanner needs a retention")
	}
	p.Groups = meteredGroups{p.Groups, p.Meter}
	closer, err := NewCloser(p.Groups, rules)
	if err != nil {
		return nil, err
	}
	return &Scanner{ScanPorts: p, rules: rules, closer: closer}, nil
}

// Scan looks once at every NSG of the subscriptions that has a rule of ours or
// a live leg. It goes on past what fails and joins the errors. Where the ledger
// cannot be read, it closes by what the rules say of themselves.
func (s *Scanner) Scan(ctx context.Context) error {
	heads, ledgerErr := s.Heads.All(ctx)
	known := map[access.ResourceID]bool{}
	before := map[access.ResourceID]Head{}
	for _, h := range heads {
		known[h.NSG], before[h.NSG] = true, h
	}
	err := ledgerErr
	var seen sighted
	for _, sub := range s.Subscriptions {
		if e := s.Ensure(ctx, sub); e != nil {
			err = errors.Join(err, fmt.Errorf("baselines of subscription %s: %w", sub, e))
		}
		groups, e := s.Lister.Groups(ctx, sub)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("listing the groups of subscription %s: %w", sub, e))
			continue
		}
		for _, g := range groups {
			if !known[g.ID] && !slices.ContainsFunc(g.Rules, s.rules.Owns) {
				continue
			}
			delete(known, g.ID)
			if e := s.group(ctx, g, before[g.ID], &seen); e != nil {
				err = errors.Join(err, fmt.Errorf("scanning %s: %w", g.ID, e))
			}
		}
	}
	s.alarmOfBulk(ctx, seen.lost)
	// What is left is on record and was not listed: gone, or out of our sight.
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if e := s.unlisted(ctx, id, before[id]); e != nil {
			err = errors.Join(err, fmt.Errorf("scanning %s: %w", id, e))
		}
	}
	if len(seen.drifted) > 0 {
		s.Log.WarnContext(ctx, "ALARM rules of ours were changed by others", "alarm", "drift", "nsgs", len(seen.drifted), "nsg", seen.drifted[0])
	}
	if err == nil {
		s.Meter.Measure(ctx, MetricHeartbeat, 1, "scan")
	}
	return err
}

// sighted is what a scan saw that somebody is to be told of.
type sighted struct {
	drifted []access.ResourceID // NSGs that others changed
	lost    []nsg.Lost          // rules that no leg accounts for
}

func (s *Scanner) alarmOfBulk(ctx context.Context, lost []nsg.Lost) {
	n := 0
	for _, l := range lost {
		n += l.Doors
	}
	if n > bulkRemoval {
		s.Log.ErrorContext(ctx, "ALARM many rules of ours are on no record", "alarm", "bulk_removal", "doors", n, "rules", len(lost))
	}
}

// group looks at one NSG. before is its head as it was before the NSG was read.
func (s *Scanner) group(ctx context.Context, g nsg.Group, before Head, seen *sighted) error {
	now := s.Clock().UTC()
	legs, rows, err := s.Baselines.Partition(ctx, g.ID)
	if err != nil {
		closed, e := s.closer.CloseExpired(ctx, g, now)
		if len(closed) > 0 {
			s.Log.WarnContext(ctx, "closed by the rules' own descriptions, as the ledger cannot be read", "nsg", g.ID, "rules", closed)
		}
		return errors.Join(err, e)
	}
	if err := s.targets(ctx, g.ID, legs, now); err != nil {
		return err
	}
	plan := s.rules.Plan(g, legs, now, rows...)
	if plan.Empty() && len(plan.Closing) == 0 {
		return s.forget(ctx, before, legs, rows, now)
	}
	s.Log.WarnContext(ctx, "drift", "nsg", g.ID, "change", len(plan.Put), "remove", plan.Remove, "orphans", len(plan.Orphans))
	seen.lost = append(seen.lost, s.rules.Lost(g, legs, now)...)
	after, unread := s.Ledger.Head(ctx, g.ID)
	if err := s.ask(ctx, g.ID, now); err != nil {
		return err
	}
	// Nothing was under way when the NSG was listed, and nothing was asked for since.
	if unread != nil || len(plan.Opening) > 0 || after.Wanted != before.Wanted || !settled(before, now) {
		return nil
	}
	// What is missing or left over is counted by the reconcile that was asked for.
	s.Meter.Measure(ctx, MetricDrift, float64(len(plan.Put)), "put")
	seen.drifted = append(seen.drifted, g.ID)
	return s.Events.Append(ctx, []access.Event{driftEvent(g.ID, plan, now)})
}

// settled says whether nothing was to be done on the NSG: what differs then is
// somebody else's doing, and no work of ours under way.
func settled(h Head, now time.Time) bool {
	return h.Wanted == h.Done && (h.DueAt.IsZero() || h.DueAt.After(now))
}

// mostTold bounds how many rules an event names.
const mostTold = 100

func driftEvent(on access.ResourceID, plan nsg.Plan, now time.Time) access.Event {
	names := func(rules []nsg.Rule) (out []string) {
		for _, r := range rules {
			out = append(out, r.Name)
		}
		return out
	}
	var closing []string
	for _, l := range plan.Closing {
		closing = append(closing, l.Key()+" "+string(l.Reason))
	}
	detail := map[string]string{"nsg": string(on)}
	for name, list := range map[string][]string{"put": names(plan.Put), "removed": plan.Remove, "orphans": names(plan.Orphans), "closing": closing} {
		if more := len(list) - mostTold; more > 0 {
			list = append(slices.Clone(list[:mostTold]), fmt.Sprintf("and %d more", more))
		}
		if len(list) > 0 {
			detail[name] = strings.Join(list, ", ")
		}
	}
	return access.Event{Subject: string(on), Kind: access.EventDrift, At: now, Actor: "portcullis", Key: now.UTC().Format(time.RFC3339), Detail: detail}
}

// targets closes the live legs whose VM is no longer what they were granted for.
func (s *Scanner) targets(ctx context.Context, id access.ResourceID, legs []access.Leg, now time.Time) error {
	prepareTargets(ctx, s.Machines, legs, "", now)
	changed := map[string]bool{}
	var err error
	for _, l := range legs {
		// One that is to open, too: whoever has confirmed it may have written its rule,
		// and not have recorded it as open yet.
		if !l.Live() {
			continue
		}
		there, e := targetOf(ctx, s.Machines, l, now)
		if e != nil {
			err = errors.Join(err, e)
		} else if !there {
			changed[l.Key()] = true
		}
	}
	if len(changed) == 0 {
		return err
	}
	return errors.Join(err, closeLegs(ctx, s.Ledger, s.Legs, s.Prompts, id, s.Token(), now, access.TargetChanged, func(l access.Leg) bool {
		return changed[l.Key()]
	}))
}

func (s *Scanner) unlisted(ctx context.Context, id access.ResourceID, before Head) error {
	legs, rows, err := s.Baselines.Partition(ctx, id)
	if err != nil {
		return err
	}
	now := s.Clock().UTC()
	if len(legs)+len(rows) == 0 {
		return s.forget(ctx, before, legs, rows, now)
	}
	return s.ask(ctx, id, now)
}

// forget removes the head of an NSG of which nothing is wanted, and nothing was for
// the retention, so that a scan does not look for ever at what was used once. before
// is the head as it was before its partition was read: no leg and no baseline comes
// into it without a change of the head, and so it stays where one has. Whoever comes
// after all, such as a prompt that comes again, finds an NSG of which nothing is known
// and looks at it, as if the partition were lost.
func (s *Scanner) forget(ctx context.Context, before Head, legs []access.Leg, rows []access.Baseline, now time.Time) error {
	used := func(at time.Time) bool { return now.Sub(at) < s.Retention }
	if len(legs)+len(rows) > 0 || before.ETag == "" || before.Wanted != before.Done || !before.DueAt.IsZero() || before.Trouble != "" ||
		before.At.IsZero() || used(before.At) || used(before.AsOf) {
		return nil
	}
	if err := s.Forget.ForgetHead(ctx, before); access.CodeOf(err) != access.Aborted {
		return err
	}
	return nil
}

func (s *Scanner) ask(ctx context.Context, id access.ResourceID, now time.Time) error {
	if err := s.Legs.Touch(ctx, id, s.Token(), now); err != nil {
		return err
	}
	// Should the prompt be lost, the head is due, and Sweep takes it from there.
	return s.Prompts.Prompt(ctx, id, time.Time{})
}
