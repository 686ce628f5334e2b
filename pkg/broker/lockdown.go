package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

// SubjectLockdown is the subject of the lockdown's events.
const SubjectLockdown = "lockdown"

// LockdownPorts are what LockdownDesk needs.
type LockdownPorts struct {
	Lockdowns Lockdowns
	Heads     Heads
	Ledger    Ledger
	Legs      LegWriter
	Prompts   Prompts
	History   History
	Clock     Clock
	Token     func() string
}

// LockdownDesk shuts every door and keeps it shut until that is lifted. While it
// is on, Submit refuses and Reconcile opens nothing and ends what is live;
// lifting it reopens nothing.
type LockdownDesk struct{ LockdownPorts }

// NewLockdownDesk makes a LockdownDesk; every port is required.
func NewLockdownDesk(p LockdownPorts) (*LockdownDesk, error) {
	if p.Lockdowns == nil || p.Heads == nil || p.Ledger == nil || p.Legs == nil || p.Prompts == nil || p.History == nil || p.Clock == nil || p.Token == nil {
		return nil, errors.New("broker: a port of the lockdown desk is missing")
	}
	return &LockdownDesk{p}, nil
}

// Get says how the lockdown stands. Roles: any.
func (d *LockdownDesk) Get(ctx context.Context, by access.Caller) (access.Lockdown, error) {
	if err := needAny(by); err != nil {
		return access.Lockdown{}, err
	}
	return d.Lockdowns.Lockdown(ctx)
}

// EventsOf gives who locked down and lifted it, when and why. Role: RoleReadAll.
func (d *LockdownDesk) EventsOf(ctx context.Context, by access.Caller) ([]access.Event, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return nil, err
	}
	return d.History.EventsOf(ctx, SubjectLockdown)
}

// On shuts every door, for the reason given (required). From the moment it is
// recorded nothing opens; every NSG with live legs is asked to close them, and
// Sweep goes on with that should it be cut off. Again is no error; with other
// words, those count. Role: RoleAdminister.
func (d *LockdownDesk) On(ctx context.Context, by access.Caller, reason string) (access.Lockdown, error) {
	if err := by.Need(access.RoleAdminister); err != nil {
		return access.Lockdown{}, err
	}
	if reason == "" {
		return access.Lockdown{}, access.Errorf(access.InvalidArgument, "reason_missing", "say why every door is to be shut: whoever is refused is told")
	}
	l, err := d.set(ctx, func(l *access.Lockdown) (access.EventKind, bool) {
		if l.Active && l.Reason == reason {
			return "", false
		}
		*l = access.Lockdown{Active: true, Reason: reason, By: by.Name, At: d.Clock().UTC(), ETag: l.ETag}
		return access.EventLockedDown, true
	}, by)
	if err != nil {
		return l, err
	}
	return l, d.Tell(ctx)
}

// Off lifts the lockdown; again is no error. Role: RoleAdminister.
func (d *LockdownDesk) Off(ctx context.Context, by access.Caller) (access.Lockdown, error) {
	if err := by.Need(access.RoleAdminister); err != nil {
		return access.Lockdown{}, err
	}
	return d.set(ctx, func(l *access.Lockdown) (access.EventKind, bool) {
		if !l.Active {
			return "", false
		}
		*l = access.Lockdown{Reason: l.Reason, By: by.Name, At: d.Clock().UTC(), ETag: l.ETag}
		return access.EventLockdownLifted, true
	}, by)
}

// set changes the lockdown under the version that was read.
func (d *LockdownDesk) set(ctx context.Context, change func(*access.Lockdown) (access.EventKind, bool), by access.Caller) (l access.Lockdown, err error) {
	for range maxRounds {
		if l, err = d.Lockdowns.Lockdown(ctx); err != nil {
			return l, err
		}
		before := l
		kind, changed := change(&l)
		if !changed {
			return l, nil
		}
		err = d.Lockdowns.SetLockdown(ctx, l, []access.Event{{
			Subject: SubjectLockdown, Kind: kind, At: l.At, Actor: by.Name, Key: l.At.Format(time.RFC3339Nano) + "-" + d.Token(),
			Detail: map[string]string{"reason": l.Reason, "before": lockdownText(before), "after": lockdownText(l), "actorObjectId": by.ObjectID},
		}})
		if access.CodeOf(err) != access.Aborted {
			return l, err
		}
	}
	return l, err
}

// lockdownText tells how a lockdown stood.
func lockdownText(l access.Lockdown) string {
	if !l.Active {
		return "off"
	}
	return "on since " + l.At.UTC().Format(time.RFC3339) + " by " + l.By + ": " + l.Reason
}

// Tell asks every NSG with live legs to close them, if there is a lockdown of
// which that was not done yet. A leg that comes later asks for itself.
func (d *LockdownDesk) Tell(ctx context.Context) error {
	l, err := d.Lockdowns.Lockdown(ctx)
	if err != nil || !l.Active || l.Told {
		return err
	}
	heads, err := d.Heads.All(ctx)
	errs := make([]error, len(heads)) // what was found counts, whatever else failed
	var g errgroup.Group
	g.SetLimit(confirmAtOnce)
	for i, h := range heads {
		g.Go(func() error {
			errs[i] = d.tell(ctx, h.NSG)
			return nil
		})
	}
	if err := errors.Join(err, g.Wait(), errors.Join(errs...)); err != nil {
		return err
	}
	l.Told = true
	if err := d.Lockdowns.SetLockdown(ctx, l, nil); access.CodeOf(err) != access.Aborted {
		return err
	}
	return nil // somebody has changed it: it is theirs to tell
}

func (d *LockdownDesk) tell(ctx context.Context, on access.ResourceID) error {
	legs, err := d.Ledger.Legs(ctx, on)
	if err != nil || !slices.ContainsFunc(legs, access.Leg.Live) {
		return err
	}
	if err := d.Legs.Touch(ctx, on, d.Token(), d.Clock().UTC()); err != nil {
		return err
	}
	return d.Prompts.Prompt(ctx, on, time.Time{})
}
