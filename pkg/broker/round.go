package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// round is one pass of a reconcile: read, plan, record, write, read back,
// record. Its errors say whether another pass can help.
type round struct {
	*Reconciler
	id       access.ResourceID
	enqueued time.Time
	// rules are the reconciler's but, in one pass, for those that are kept: see account.
	rules nsg.Settings
	// closesOnly is set once a write that opens something was found wrong by
	// Resource Manager: a bad open must not hold up a close.
	closesOnly string
	// leavesBaselines is set likewise once a write that changes baselines was
	// found wrong: they stay as they are, and hold up nothing else.
	leavesBaselines string
	// reworded are the legs of which confirm has something new to say.
	reworded map[string]bool
	// unconfirmed are the Opening legs of which confirm could not read all.
	unconfirmed map[string]bool
	// files are the records of the legs that are to open, as confirm read them.
	files map[access.RequestID]access.File
	// unwritten is set once a leg ended that was never seen open. Where it had no
	// rule yet, its end changes nothing on the NSG, and the fence does not hold
	// against a writer who read it before and pauses: by that one's deadline
	// somebody looks again.
	unwritten bool
	// unread is why it could not be read whether open legs are to be closed. What
	// else is to be done is done; but the reconcile has not done all.
	unread error
	// sought is set once the requests were searched for lost legs, and unsearched is
	// why they could not all be read.
	sought     bool
	unsearched error
	// lockedDown is whether there was a lockdown then.
	lockedDown bool
	// kept are the rules that are left alone meanwhile.
	kept []nsg.Rule
}

// confirmAtOnce bounds the reads of one reconcile that run side by side.
const confirmAtOnce = 32

// run makes one pass. again asks for another at once.
func (w *round) run(ctx context.Context) (again bool, err error) {
	// The order of the three reads is the fence: the token first, so that Done
	// never claims legs that were not seen; then the group, then the legs, so
	// that whoever read older legs writes under an older ETag and is refused.
	head, err := w.Ledger.Head(ctx, w.id)
	if err != nil {
		return false, err
	}
	group, err := w.Groups.Group(ctx, w.id)
	missing := access.CodeOf(err) == access.NotFound
	if missing {
		group, err = nsg.Group{ID: w.id}, nil
	}
	if err != nil {
		return false, err
	}
	if group.Updating {
		return false, access.Errorf(access.Aborted, "operation_in_progress", "another operation on the group is under way")
	}
	now := w.now(w.enqueued, head)
	w.rules, w.kept = w.Reconciler.rules, nil
	legs, rows, err := w.Baselines.Partition(ctx, w.id)
	if err != nil {
		return false, errors.Join(err, w.closeExpired(ctx, group, now))
	}
	if missing {
		// There is nothing left to shut. Scan asks again for what is behind another
		// group now, or behind one that was made anew.
		if err := w.endBaselines(ctx, rows, now); err != nil {
			return false, err
		}
		rows = nil
	}

	legs, gone := w.confirm(ctx, legs, now)
	if len(gone) > 0 {
		w.unwritten = true
		if err := w.Legs.EndLegs(ctx, w.id, gone); err != nil {
			return false, err
		}
	}
	planned := rows
	if w.leavesBaselines != "" {
		planned = nil
	}
	plan := w.plan(group, w.openable(legs), now, planned)
	if lost := w.rules.Lost(group, legs, now); len(lost) > 0 || !head.Whole {
		again, err := w.account(ctx, group, legs, lost, now)
		if err != nil {
			return false, errors.Join(err, w.closeExpired(ctx, group, now)) // no close waits for it
		}
		if again {
			return true, nil
		}
		if len(w.kept) > 0 {
			plan = w.plan(group, w.openable(legs), now, planned)
		}
		if w.release(legs, plan) {
			plan = w.plan(group, w.openable(legs), now, planned)
		}
	}
	if w.confirmPutBack(ctx, legs, plan, now) {
		plan = w.plan(group, w.openable(legs), now, planned)
	}
	if restsOnAbsence(plan, legs, rows) {
		if stale, err := w.changedSince(ctx, group, missing); stale || err != nil {
			return stale, err
		}
	}
	legs, err = w.recordClosing(ctx, legs, plan, now)
	if err != nil {
		return false, err
	}
	if err := w.write(ctx, group, plan); err != nil {
		return w.afterFailedWrite(ctx, plan, err)
	}
	if !plan.Empty() {
		if group, err = w.Groups.Group(ctx, w.id); err != nil {
			return false, err
		}
		if group.Updating {
			return false, access.Errorf(access.Aborted, "operation_in_progress", "another operation on the group is under way")
		}
	}
	if err := w.settleBaselines(ctx, group, rows, plan, now); err != nil {
		return false, err
	}
	return w.settle(ctx, head.Wanted, group, legs, plan, now)
}

// restsOnAbsence says whether something would be taken to be gone, or to have
// been removed by somebody, because the group that was read does not hold it, and
// no write under its ETag would find out that it is old. The group is read before
// the legs: who pauses in between sees a door that opened meanwhile on record, and
// not in the group.
func restsOnAbsence(plan nsg.Plan, legs []access.Leg, rows []access.Baseline) bool {
	if slices.ContainsFunc(plan.Closing, func(l access.Leg) bool { return l.Reason == access.RemovedExternally }) {
		return true
	}
	return plan.Empty() && (len(plan.Closing) > 0 ||
		slices.ContainsFunc(legs, func(l access.Leg) bool { return l.State == access.LegClosing }) ||
		slices.ContainsFunc(rows, func(r access.Baseline) bool { return r.State == access.BaselineLifting || len(r.Release) > 0 }))
}

// changedSince says whether the group is another than the one that was read.
func (w *round) changedSince(ctx context.Context, group nsg.Group, missing bool) (bool, error) {
	now, err := w.Groups.Group(ctx, w.id)
	if missing && access.CodeOf(err) == access.NotFound {
		return false, nil
	}
	return err == nil && now.ETag != group.ETag, err
}

// confirm checks each Opening leg against what is beyond the NSG. A leg that
// has ended before (a late writer put it back) is gone. To be closed are one
// whose grant is ending elsewhere or was ended before its time, one that the
// policies of today do not allow, one whose VM is no longer behind the address,
// and in a lockdown every live leg. One of which any of that cannot be read now
// is unconfirmed, with the reason in BlockedBy, and must not open in this round.
func (w *round) confirm(ctx context.Context, legs []access.Leg, now time.Time) (live, gone []access.Leg) {
	prepareTargets(ctx, w.Machines, legs, access.LegOpening, now)
	k := w.learn(ctx, legs, now)
	w.unconfirmed, w.reworded, w.unread = map[string]bool{}, map[string]bool{}, nil
	w.files = k.files
	for i, l := range legs {
		if l.State == access.LegOpening {
			if before, ok := endedBefore(l, k.files[l.Request].Ended); ok {
				gone = append(gone, before)
				continue
			}
		}
		switch {
		case l.Live() && k.lockdown.Active:
			l = closing(l, access.LockedDown, now)
		case l.State == access.LegOpen:
			w.unread = k.lockdownErr
		case l.State == access.LegOpening:
			reason, why, err := k.judge(ctx, i, l)
			switch {
			case err != nil:
				w.unconfirmed[l.Key()] = true
				why += ": " + access.AsError(err).Message
				w.reworded[l.Key()] = l.BlockedBy != why
				l.BlockedBy = why
			case reason != "":
				l = closing(l, reason, now)
				if why != "" {
					l.BlockedBy = why
				}
			}
		}
		live = append(live, l)
	}
	return live, gone
}

func endedBefore(l access.Leg, ended []access.Leg) (access.Leg, bool) {
	i := slices.IndexFunc(ended, func(e access.Leg) bool { return e.Key() == l.Key() && e.NSG == l.NSG })
	if i < 0 {
		return access.Leg{}, false
	}
	return ended[i], true
}

func endingElsewhere(l access.Leg, ended []access.Leg) access.StatusReason {
	for _, e := range ended {
		if e.Grant == l.Grant {
			return e.Reason
		}
	}
	return ""
}

func closing(l access.Leg, reason access.StatusReason, now time.Time) access.Leg {
	l.State, l.Reason, l.ClosingAt = access.LegClosing, reason, now
	return l
}

// plan plans the group. While it is not known whether there is a lockdown, nothing
// is put back either: an open leg whose rule is gone is left as it is.
func (w *round) plan(group nsg.Group, legs []access.Leg, now time.Time, rows []access.Baseline) nsg.Plan {
	plan := w.rules.Plan(group, legs, now, rows...)
	if w.unread == nil || !plan.Widens() {
		return plan
	}
	after := plan.Apply(group)
	legs = slices.DeleteFunc(slices.Clone(legs), func(l access.Leg) bool {
		return l.State == access.LegOpen && w.rules.Confirm(group, l).Outcome != nsg.OutcomeAllowed && w.rules.Confirm(after, l).Outcome == nsg.OutcomeAllowed
	})
	return w.rules.Plan(group, legs, now, rows...)
}

// openable leaves out of the plan what must not open in this round. What was
// restored opens nothing, and keeps its rule until it is known what to make of it.
func (w *round) openable(legs []access.Leg) []access.Leg {
	return slices.DeleteFunc(slices.Clone(legs), func(l access.Leg) bool {
		return l.State == access.LegOpening && !l.Restored && (w.closesOnly != "" || w.unconfirmed[l.Key()])
	})
}

// recordClosing writes what ends before anything is written to the NSG, and
// gives the legs as they now stand.
func (w *round) recordClosing(ctx context.Context, legs []access.Leg, plan nsg.Plan, now time.Time) ([]access.Leg, error) {
	var changed []access.Leg
	ending := byKey(plan.Closing)
	for i, l := range legs {
		if c, ok := ending[l.Key()]; ok {
			legs[i] = c
		}
		// An Opening leg left out of the plan still has its deadlines.
		if legs[i].State == access.LegOpening && !legs[i].EndTime.After(now) {
			legs[i] = closing(legs[i], access.Expired, now)
		} else if legs[i].State == access.LegOpening && !legs[i].OpenBy.After(now) {
			legs[i] = closing(legs[i], access.NotOpenedInTime, now)
		}
		// The time of the change tells one made in this round from one recorded earlier.
		if legs[i].State == access.LegClosing && (l.State != access.LegClosing || l.ClosingAt.Equal(now)) {
			changed = append(changed, legs[i])
		}
	}
	if len(changed) == 0 && plan.Empty() {
		return legs, nil
	}
	if err := w.edit(ctx, w.id, func(h *Head) {
		if now.After(h.AsOf) {
			h.AsOf = now
		}
		if !h.Whole && h.DueAt.IsZero() {
			h.DueAt = now // a head that is made by this: should what follows be cut off
		}
	}); err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		return legs, nil
	}
	if err := w.Legs.UpdateLegs(ctx, w.id, changed); err != nil {
		return nil, err
	}
	// The versions have changed with the write.
	fresh, err := w.Ledger.Legs(ctx, w.id)
	if err != nil {
		return nil, err
	}
	return adoptETags(legs, changed, fresh), nil
}

// adoptETags gives the legs that were changed their new versions. Of all others
// the one that was read stays: what somebody else has changed meanwhile, such as
// by recording its end, must not be written over.
func adoptETags(legs, changed, fresh []access.Leg) []access.Leg {
	ours, now := byKey(changed), byKey(fresh)
	for i, l := range legs {
		if _, ok := ours[l.Key()]; !ok {
			continue
		}
		if f, ok := now[l.Key()]; ok {
			legs[i].ETag = f.ETag
		}
	}
	return legs
}

func byKey(legs []access.Leg) map[string]access.Leg {
	out := make(map[string]access.Leg, len(legs))
	for _, l := range legs {
		out[l.Key()] = l
	}
	return out
}

// write brings the NSG to the plan: the whole group under the ETag that was
// read or, where re-encoding would lose something of the customer's, child
// DELETEs alone.
func (w *round) write(ctx context.Context, group nsg.Group, plan nsg.Plan) error {
	if plan.Empty() {
		return nil
	}
	if group.Loss == "" {
		return w.Groups.Apply(ctx, group, plan)
	}
	return w.removeOneByOne(ctx, group, plan)
}

func (w *round) removeOneByOne(ctx context.Context, group nsg.Group, plan nsg.Plan) error {
	var err error
	for _, name := range plan.Remove {
		i := slices.IndexFunc(group.Rules, func(r nsg.Rule) bool { return strings.EqualFold(r.Name, name) })
		// A baseline's deny is no door: it goes by a write of the whole group alone.
		if i >= 0 && !w.rules.Shuts(group.Rules[i]) {
			err = errors.Join(err, w.closer.CloseRule(ctx, w.id, group.Rules[i]))
		}
	}
	return err
}

// afterFailedWrite decides what a failed write means for this reconcile. What
// is to be closed is tried by every other means before it is left.
func (w *round) afterFailedWrite(ctx context.Context, plan nsg.Plan, err error) (again bool, _ error) {
	code, reason := access.CodeOf(err), access.ReasonOf(err)
	switch {
	case code == access.Aborted || code == access.ResourceExhausted:
		return false, err
	case (code == access.InvalidArgument || reason == reasonPriorityConflict) && w.leavesBaselines == "" && slices.ContainsFunc(plan.Put, w.rules.Shuts):
		w.leavesBaselines = access.AsError(err).Message
		return true, nil
	case (code == access.InvalidArgument || reason == reasonPriorityConflict) && len(plan.Opening) > 0 && w.closesOnly == "":
		w.closesOnly = access.AsError(err).Message
		return true, nil
	case len(plan.Remove) > 0 && (reason == reasonScopeLocked || reason == "azure_permission"):
		g, e := w.Groups.Group(ctx, w.id)
		if e != nil {
			return false, errors.Join(err, e)
		}
		if e := w.removeOneByOne(ctx, g, plan); e != nil {
			return false, errors.Join(err, e)
		}
	}
	return false, err
}
