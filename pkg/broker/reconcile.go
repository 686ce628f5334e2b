package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

const (
	// reconcileDeadline ends a reconcile that hangs, well within the host's
	// limit, so that a paused instance cannot write late under an old view.
	reconcileDeadline = 4 * time.Minute
	// longestWait is the longest a reconcile waits by itself; anything longer is
	// written to the head and left to Sweep, because a failed message would come
	// back at once.
	longestWait = 60 * time.Second
	shortWait   = 2 * time.Second
	// parked is how soon Sweep looks again at what could not be done.
	parked = time.Minute
	// maxRounds bounds the rounds of one reconcile; the rest is left to Sweep.
	maxRounds = 12
)

// ReconcilePorts are what Reconcile needs.
type ReconcilePorts struct {
	Ledger    Ledger
	Legs      LegWriter
	Files     Files
	Index     Index
	Policies  Policies
	Lockdowns Lockdowns
	Tickets   Tickets
	Baselines Baselines
	Events    Events
	History   History
	Machines  Machines
	Groups    Groups
	Prompts   Prompts
	Clock     Clock
	Token     func() string
	Log       *slog.Logger
	Meter     Meter
}

// Reconciler brings an NSG to what its legs say it ought to be. It opens,
// closes and repairs; there is no other way to a rule of ours, but for closing
// by what rules say of themselves.
type Reconciler struct {
	ReconcilePorts
	rules  nsg.Settings
	closer *Closer
}

// NewReconciler makes a Reconciler; every port is required.
func NewReconciler(p ReconcilePorts, rules nsg.Settings) (*Reconciler, error) {
	if p.Ledger == nil || p.Legs == nil || p.Files == nil || p.Index == nil || p.Policies == nil || p.Lockdowns == nil || p.Tickets == nil || p.Baselines == nil || p.Events == nil || p.History == nil || p.Machines == nil || p.Groups == nil ||
		p.Prompts == nil || p.Clock == nil || p.Token == nil || p.Log == nil || p.Meter == nil {
		return nil, errors.New("broker: a port of the reconciler is missing")
	}
	p.Groups = meteredGroups{p.Groups, p.Meter}
	closer, err := NewCloser(p.Groups, rules)
	if err != nil {
		return nil, err
	}
	return &Reconciler{ReconcilePorts: p, rules: rules, closer: closer}, nil
}

// Reconcile does whatever is to be done on the NSG. enqueued is the broker's
// time of the message that asked for it (zero for none): with the head's AsOf
// it keeps a slow clock from holding a door open.
//
// It may run at any time, twice, by two at once, and be cut off anywhere. What
// it cannot do now is written to the head for Sweep, and is no error then. While
// the ledger cannot be read it closes by what the rules say, and fails.
func (r *Reconciler) Reconcile(ctx context.Context, id access.ResourceID, enqueued time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileDeadline)
	defer cancel()
	rounds := 0
	ctx, end := r.Meter.Span(ctx, "Reconcile", slog.String("nsg", id.Name()))
	defer func() { end(err, slog.Int("rounds", rounds)) }()
	head, err := r.Ledger.Head(ctx, id)
	if err != nil {
		return errors.Join(err, r.closeOnly(ctx, id, enqueued))
	}
	now := r.now(enqueued, head)
	// Of an NSG whose head is missing or new it is not known that all was done: its
	// partition may be lost, and this the delayed close of what it told of.
	if head.Whole && head.Wanted == head.Done && (head.DueAt.IsZero() || head.DueAt.After(now)) {
		return nil
	}
	w := &round{Reconciler: r, id: id, enqueued: enqueued, rules: r.rules}
	for range maxRounds {
		rounds++
		r.Meter.Measure(ctx, MetricRounds, 1, "")
		again, err := w.run(ctx)
		if err == nil && !again {
			return nil
		}
		wait := waitFor(err)
		if wait > longestWait {
			return r.park(ctx, id, r.Clock().Add(wait), err)
		}
		if err != nil && !worthAnotherRound(err) {
			return r.park(ctx, id, r.Clock().Add(parked), err)
		}
		if err := sleep(ctx, wait); err != nil {
			return r.park(ctx, id, r.Clock(), err)
		}
	}
	return r.park(ctx, id, r.Clock(), access.Errorf(access.Aborted, "too_many_rounds", "the group kept changing under us"))
}

// now is the time to act by: never behind the broker's, never behind what
// somebody already acted by.
func (r *Reconciler) now(enqueued time.Time, head Head) time.Time {
	now := r.Clock().UTC()
	for _, t := range []time.Time{enqueued, head.AsOf} {
		if t.After(now) {
			now = t.UTC()
		}
	}
	return now
}

// closeOnly is what is done while the ledger cannot be read: rules that have
// expired by their own description go; nothing opens.
func (r *Reconciler) closeOnly(ctx context.Context, id access.ResourceID, enqueued time.Time) error {
	g, err := r.Groups.Group(ctx, id)
	if err != nil {
		return err
	}
	return r.closeExpired(ctx, g, r.now(enqueued, Head{}))
}

func (r *Reconciler) closeExpired(ctx context.Context, g nsg.Group, now time.Time) error {
	closed, err := r.closer.CloseExpired(ctx, g, now)
	if len(closed) > 0 {
		r.Log.WarnContext(ctx, "closed by the rules' own descriptions, as the ledger cannot be used", "nsg", g.ID, "rules", closed)
	}
	return err
}

// park writes to the head when somebody must look again, and why. An error is
// returned only where even that failed; then the message itself is what is left.
func (r *Reconciler) park(ctx context.Context, id access.ResourceID, at time.Time, cause error) error {
	// The reconcile's own deadline may be over; the note must be written yet.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	trouble := access.AsError(cause)
	r.Log.WarnContext(ctx, "reconcile left unfinished", "nsg", id, "until", at, "error", cause)
	err := r.edit(ctx, id, func(h *Head) {
		// A shorter wait that somebody else wrote stays.
		if h.DueAt.IsZero() || h.DueAt.After(at) || !h.DueAt.After(r.Clock()) {
			h.DueAt = at
		}
		// Whatever is heard before that, such as a delayed close, is to be looked at.
		if h.Done == h.Wanted {
			h.Done = ""
		}
		h.Trouble = trouble.Reason + ": " + trouble.Message
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	return nil
}

// edit changes the head under its ETag, reading it again when somebody else
// was first.
func (r *Reconciler) edit(ctx context.Context, id access.ResourceID, change func(*Head)) error {
	var err error
	for range maxRounds {
		var h Head
		if h, err = r.Ledger.Head(ctx, id); err != nil {
			return err
		}
		change(&h)
		if _, err = r.Ledger.SaveHead(ctx, h); access.CodeOf(err) != access.Aborted {
			return err
		}
	}
	return err
}

// waitFor is how long to wait before the next round.
func waitFor(err error) time.Duration {
	if err == nil {
		return 0
	}
	e := access.AsError(err)
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	if e.Reason == "precondition_failed" {
		return 0 // the read is simply repeated
	}
	return shortWait
}

func worthAnotherRound(err error) bool {
	c := access.CodeOf(err)
	return c == access.Aborted || c == access.ResourceExhausted
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
