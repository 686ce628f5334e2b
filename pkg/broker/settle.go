package broker

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"golang.org/x/sync/errgroup"
)

// settle records what is now seen on the NSG.
func (w *round) settle(ctx context.Context, token string, group nsg.Group, legs []access.Leg, plan nsg.Plan, now time.Time) (again bool, err error) {
	var changed, live, ended []access.Leg
	seen := sight{w.rules.Confirmer(group), byKey(plan.Opening), byKey(plan.Blocked)}
	for _, l := range legs {
		before := l
		switch l.State {
		case access.LegOpening:
			l = w.opened(seen, l, now)
			if l.State != before.State || l.BlockedBy != before.BlockedBy || w.reworded[l.Key()] {
				changed = append(changed, l)
			}
			live = append(live, l)
		case access.LegOpen:
			live = append(live, l)
		case access.LegClosing:
			ended = append(ended, l)
			w.unwritten = w.unwritten || l.OpenedAt.IsZero()
		}
	}
	if residue := w.rules.Residue(group, live, now); len(residue) > 0 {
		return true, nil
	}
	if err := w.recordOpened(ctx, changed); err != nil {
		return false, err
	}
	if replaced, err := w.endReplaced(ctx, live, changed, now); err != nil || replaced {
		return replaced, err
	}
	if err := w.recordEnded(ctx, ended, plan, now); err != nil {
		return false, err
	}
	if err := w.unfinished(); err != nil {
		return false, err
	}
	due := nextLook(live, now)
	if late := now.Add(reconcileDeadline + parked); w.unwritten && (due.IsZero() || due.After(late)) {
		due = late
	}
	h, err := w.Ledger.Head(ctx, w.id)
	if err != nil {
		return false, err
	}
	if h.Wanted != token {
		return true, nil // legs came meanwhile; the next round sees them
	}
	h.Done, h.DueAt, h.Trouble, h.Whole = token, due, "", h.Whole || w.sought
	if _, err = w.Ledger.SaveHead(ctx, h); access.CodeOf(err) == access.Aborted {
		return true, nil
	}
	return false, err
}

// sight is the group that was read back, and what was planned for it.
type sight struct {
	verdict          func(access.Leg) nsg.Verdict
	opening, blocked map[string]access.Leg
}

// opened says what an Opening leg has become: Open once the group that was
// read back lets all of it through.
func (w *round) opened(seen sight, l access.Leg, now time.Time) access.Leg {
	if b, ok := seen.blocked[l.Key()]; ok {
		l.BlockedBy = b.BlockedBy
		return l
	}
	if _, ok := seen.opening[l.Key()]; !ok {
		if w.closesOnly != "" {
			l.BlockedBy = w.closesOnly
		}
		return l
	}
	if w.unconfirmed[l.Key()] {
		return l // restored: its rule stands, and nothing is said of it yet
	}
	if v := seen.verdict(l); v.Outcome != nsg.OutcomeAllowed {
		l.BlockedBy = v.String()
		return l
	}
	l.State, l.BlockedBy = access.LegOpen, ""
	if l.OpenedAt.IsZero() {
		l.OpenedAt = now
	}
	return l
}

const (
	// appendAtOnce bounds the subjects whose events are written side by side.
	appendAtOnce = 32
	// fewSubjects are written in turn.
	fewSubjects = 8
)

// appendEvents writes events, those of one subject in their order, of many
// subjects at a time: each has a partition of its own.
func appendEvents(ctx context.Context, to Events, events []access.Event) error {
	if len(events) == 0 {
		return nil
	}
	of := map[string][]access.Event{}
	for _, e := range events {
		of[e.Subject] = append(of[e.Subject], e)
	}
	if len(of) < fewSubjects {
		return to.Append(ctx, events)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(appendAtOnce)
	for _, subject := range slices.Sorted(maps.Keys(of)) {
		g.Go(func() error { return to.Append(gctx, of[subject]) })
	}
	return g.Wait()
}

func (w *round) recordOpened(ctx context.Context, changed []access.Leg) error {
	if len(changed) == 0 {
		return nil
	}
	var events []access.Event
	for _, l := range changed {
		if l.State == access.LegOpen {
			events = append(events, legEvent(access.EventOpened, l, l.OpenedAt))
			if l.Restored {
				events = append(events, restoredEvent(l))
			}
		}
	}
	if err := appendEvents(ctx, w.Events, events); err != nil {
		return err
	}
	if err := w.Legs.UpdateLegs(ctx, w.id, changed); err != nil {
		return err
	}
	for _, l := range changed {
		if at := decidedAt(w.files[l.Request]); l.State == access.LegOpen && !l.Restored && !at.IsZero() {
			w.Meter.Measure(ctx, MetricOpening, w.Clock().Sub(at).Seconds(), "")
		}
	}
	return nil
}

// recordEnded ends what is gone from the NSG. The rules are closed already:
// what fails here is repeated, and keeps nothing open.
func (w *round) recordEnded(ctx context.Context, ended []access.Leg, plan nsg.Plan, now time.Time) error {
	var events []access.Event
	for _, r := range plan.Orphans {
		events = append(events, access.Event{
			Subject: string(w.id), Kind: access.EventRuleRemoved, At: now, Actor: "portcullis", Key: r.Name + "-" + now.Format(time.RFC3339),
			Detail: map[string]string{"rule": r.Name, "description": r.Description, "sources": strings.Join(r.Sources, ",")},
		})
	}
	for i, l := range ended {
		events = append(events, legEvent(access.EventClosing, l, l.ClosingAt))
		kind := access.EventClosed
		if l.OpenedAt.IsZero() {
			kind = access.EventFailed
		}
		ended[i].State, ended[i].EndedAt = access.LegEnded, now
		events = append(events, legEvent(kind, ended[i], now))
	}
	if err := appendEvents(ctx, w.Events, events); err != nil {
		return err
	}
	w.drift(ctx, plan, ended)
	if len(ended) == 0 {
		return nil
	}
	if err := w.closeSiblings(ctx, ended, now); err != nil {
		return err
	}
	if err := w.Legs.EndLegs(ctx, w.id, ended); err != nil {
		return err
	}
	for _, l := range ended {
		if !l.OpenedAt.IsZero() {
			w.Meter.Measure(ctx, MetricClosing, max(0, w.Clock().Sub(closeTime(l)).Seconds()), "")
		}
	}
	return nil
}

// drift tells of rules of ours that were left over, and of those that others
// removed.
func (w *round) drift(ctx context.Context, plan nsg.Plan, ended []access.Leg) {
	missing := 0
	for _, l := range ended {
		if l.Reason == access.RemovedExternally {
			missing++
		}
	}
	if missing+len(plan.Orphans) == 0 {
		return
	}
	w.Meter.Measure(ctx, MetricDrift, float64(len(plan.Orphans)), "remove")
	w.Meter.Measure(ctx, MetricDrift, float64(missing), "missing")
	w.Log.WarnContext(ctx, "ALARM rules of ours were left over, or removed by others", "alarm", "drift", "nsg", w.id, "leftOver", len(plan.Orphans), "missing", missing)
}

// closeSiblings ends the grants' legs on other NSGs: a grant is open on all of
// its path or on none. An expired one needs no word: its siblings expire too;
// nor does one that was replaced: whoever replaced it has told them.
func (w *round) closeSiblings(ctx context.Context, ended []access.Leg, now time.Time) error {
	on := map[access.ResourceID]map[string]access.StatusReason{}
	for _, l := range ended {
		if l.Reason == access.Expired || l.Reason == access.NewerRequestInitiated {
			continue
		}
		for _, other := range l.Siblings {
			if on[other] == nil {
				on[other] = map[string]access.StatusReason{}
			}
			on[other][l.Key()] = l.Reason
		}
	}
	for _, other := range slices.Sorted(maps.Keys(on)) {
		if err := closeLegsAs(ctx, w.Ledger, w.Legs, w.Prompts, other, w.Token(), now, func(s access.Leg) (access.StatusReason, bool) {
			reason, ok := on[other][s.Key()]
			return reason, ok
		}); err != nil {
			return err
		}
	}
	return nil
}

// closeLegs records the end of those live legs of an NSG that match, and asks
// for its reconcile.
func closeLegs(ctx context.Context, ledger Ledger, writer LegWriter, prompts Prompts, on access.ResourceID, token string, now time.Time,
	reason access.StatusReason, match func(access.Leg) bool) error {
	return closeLegsAs(ctx, ledger, writer, prompts, on, token, now, func(l access.Leg) (access.StatusReason, bool) { return reason, match(l) })
}

// closeLegsAs is closeLegs with a reason for each leg.
func closeLegsAs(ctx context.Context, ledger Ledger, writer LegWriter, prompts Prompts, on access.ResourceID, token string, now time.Time,
	which func(access.Leg) (access.StatusReason, bool)) error {
	legs, err := ledger.Legs(ctx, on)
	if err != nil {
		return err
	}
	var out []access.Leg
	for _, l := range legs {
		if reason, ok := which(l); ok && l.Live() {
			out = append(out, closing(l, reason, now))
		}
	}
	if len(out) == 0 {
		return nil
	}
	if err := writer.ChangeLegs(ctx, on, out, token, now); err != nil {
		return err
	}
	// Should the prompt be lost, the head is due, and Sweep takes it from there.
	return prompts.Prompt(ctx, on, time.Time{})
}

func legEvent(kind access.EventKind, l access.Leg, at time.Time) access.Event {
	detail := map[string]string{
		"vm": string(l.VM), "nsg": string(l.NSG), "port": strconv.Itoa(int(l.Port)) + "/" + string(l.Protocol), "source": access.FormatPrefix(l.Source),
		"grant": strconv.Itoa(l.Grant), "endTimeUtc": l.EndTime.UTC().Format(time.RFC3339),
	}
	if l.Reason != "" {
		detail["statusReason"] = string(l.Reason)
	}
	if l.BlockedBy != "" {
		detail["blockedBy"] = l.BlockedBy
	}
	return access.Event{
		Subject: string(l.Request), Kind: kind, At: at, Actor: "portcullis", Key: l.Key() + "-" + l.NSG.Name(), Detail: detail,
	}
}

// nextLook is when the NSG needs somebody again: at the first deadline, and
// soon while something could not be opened yet.
func nextLook(live []access.Leg, now time.Time) time.Time {
	var due time.Time
	earliest := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	for _, l := range live {
		earliest(l.EndTime)
		if l.State == access.LegOpening {
			earliest(l.OpenBy)
			earliest(now.Add(parked))
		}
	}
	return due
}
