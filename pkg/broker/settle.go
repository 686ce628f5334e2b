package broker

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// settle records what is now seen on the NSG.
func (w *round) settle(ctx context.Context, token string, group nsg.Group, legs []access.Leg, plan nsg.Plan, now time.Time) (again bool, err error) {
	var changed, live, ended []access.Leg
	for _, l := range legs {
		before := l
		switch l.State {
		case access.LegOpening:
			l = w.opened(group, l, plan, now)
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
	h.Done, h.DueAt, h.Trouble = token, due, ""
	if _, err = w.Ledger.SaveHead(ctx, h); access.CodeOf(err) == access.Aborted {
		return true, nil
	}
	return false, err
}

// opened says what an Opening leg has become: Open once the group that was
// read back lets all of it through.
func (w *round) opened(group nsg.Group, l access.Leg, plan nsg.Plan, now time.Time) access.Leg {
	if i := slices.IndexFunc(plan.Blocked, func(b access.Leg) bool { return b.Key() == l.Key() }); i >= 0 {
		l.BlockedBy = plan.Blocked[i].BlockedBy
		return l
	}
	if !slices.ContainsFunc(plan.Opening, func(o access.Leg) bool { return o.Key() == l.Key() }) {
		if w.closesOnly != "" {
			l.BlockedBy = w.closesOnly
		}
		return l
	}
	if v := w.rules.Confirm(group, l); v.Outcome != nsg.OutcomeAllowed {
		l.BlockedBy = v.String()
		return l
	}
	l.State, l.OpenedAt, l.BlockedBy = access.LegOpen, now, ""
	return l
}

func (w *round) recordOpened(ctx context.Context, changed []access.Leg) error {
	if len(changed) == 0 {
		return nil
	}
	var events []access.Event
	for _, l := range changed {
		if l.State == access.LegOpen {
			events = append(events, legEvent(access.EventOpened, l, l.OpenedAt))
		}
	}
	if err := w.Events.Append(ctx, events); err != nil {
		return err
	}
	return w.Legs.UpdateLegs(ctx, w.id, changed)
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
	if len(events) > 0 {
		if err := w.Events.Append(ctx, events); err != nil {
			return err
		}
	}
	if len(ended) == 0 {
		return nil
	}
	for _, l := range ended {
		if err := w.closeSiblings(ctx, l, now); err != nil {
			return err
		}
	}
	return w.Legs.EndLegs(ctx, w.id, ended)
}

// closeSiblings ends the grant's legs on other NSGs: a grant is open on all of
// its path or on none. An expired one needs no word: its siblings expire too;
// nor does one that was replaced: whoever replaced it has told them.
func (w *round) closeSiblings(ctx context.Context, l access.Leg, now time.Time) error {
	if l.Reason == access.Expired || l.Reason == access.NewerRequestInitiated {
		return nil
	}
	for _, other := range l.Siblings {
		if err := closeLegs(ctx, w.Ledger, w.Legs, w.Prompts, other, w.Token(), now, l.Reason, func(s access.Leg) bool {
			return s.Key() == l.Key()
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
