package simulate

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// cloud is Resource Manager behind the schedule. A write is accepted under its
// ETag, is under way for a while, in which the group says Updating, and then
// stands; another one may supersede it before that.
type cloud struct {
	s    *schedule
	in   *brokertest.Azure
	w    *world
	life map[access.ResourceID]*life
}

// life is what goes on at one NSG.
type life struct {
	under          *operation
	locked         bool // CanNotDelete
	readOnly       bool
	throttledUntil time.Time
}

type operation struct {
	by     *actor
	whole  bool                      // a write of the whole group, by what the record says
	finish func(nsg.Group) nsg.Group // what it makes of the group as it then is
	lands  bool                      // whether it has its effect, should it be superseded
	done   chan struct{}
	err    error
}

func (c cloud) Machine(ctx context.Context, vm access.ResourceID, notBefore time.Time) (broker.Machine, error) {
	return ask(c.s, ctx, theCloud, "Machine", string(vm), func() (broker.Machine, error) { return c.in.Machine(ctx, vm, notBefore) })
}

func (c cloud) List(ctx context.Context, subscription string) ([]broker.Machine, error) {
	return ask(c.s, ctx, theCloud, "List", subscription, func() ([]broker.Machine, error) { return c.in.List(ctx, subscription) })
}

func (c cloud) Surroundings(ctx context.Context, m broker.Machine, notBefore time.Time) (broker.Surroundings, error) {
	return ask(c.s, ctx, theCloud, "Surroundings", string(m.ID), func() (broker.Surroundings, error) { return c.in.Surroundings(ctx, m, notBefore) })
}

func (c cloud) Group(ctx context.Context, id access.ResourceID) (nsg.Group, error) {
	a := ctx.Value(actorKey{}).(*actor)
	return ask(c.s, ctx, theCloud, "Group", string(id), func() (nsg.Group, error) {
		g, err := c.in.Group(ctx, id)
		if _, again := a.read[g.ETag]; !again {
			a.read[g.ETag] = a.calls
		}
		a.open[id] = c.w.judge.on[id].open
		return g, err
	})
}

func (c cloud) Groups(ctx context.Context, subscription string) ([]nsg.Group, error) {
	return ask(c.s, ctx, theCloud, "Groups", subscription, func() ([]nsg.Group, error) { return c.in.Groups(ctx, subscription) })
}

func (c cloud) Apply(ctx context.Context, g nsg.Group, plan nsg.Plan) error {
	a := ctx.Value(actorKey{}).(*actor)
	return c.write(ctx, "Apply", g.ID, "", func() error {
		if !a.byRules && a.seen[g.ID].call <= a.read[g.ETag] {
			c.w.breach("#%d %s writes %s under a version that it read after the legs", a.id, a.name, g.ID.Name())
		}
		switch have := c.in.Look(g.ID); {
		case have.ETag != g.ETag:
			return access.Errorf(access.Aborted, "precondition_failed", "somebody wrote since the read")
		case have.Loss != "":
			c.w.breach("%s is written as a whole, which loses %s", g.ID.Name(), have.Loss)
		}
		return nil
	}, func(nsg.Group) nsg.Group { return plan.Apply(g) })
}

func (c cloud) DeleteRule(ctx context.Context, id access.ResourceID, name string) error {
	return c.write(ctx, "DeleteRule", id, name, func() error {
		if c.life[id].locked {
			return scopeLocked()
		}
		return nil
	}, func(g nsg.Group) nsg.Group { return nsg.Plan{Remove: []string{name}}.Apply(g) })
}

func (c cloud) DenyRule(ctx context.Context, id access.ResourceID, r nsg.Rule) error {
	r.Access = nsg.Deny
	return c.write(ctx, "DenyRule", id, r.Name, func() error { return nil }, func(g nsg.Group) nsg.Group { return nsg.Plan{Put: []nsg.Rule{r}}.Apply(g) })
}

func scopeLocked() error {
	return access.Errorf(access.FailedPrecondition, "scope_locked", "a lock forbids it")
}

// write has a write accepted, or not, and waits until it is done.
func (c cloud) write(ctx context.Context, name string, id access.ResourceID, rule string, check func() error, finish func(nsg.Group) nsg.Group) error {
	a := ctx.Value(actorKey{}).(*actor)
	a.byRules = a.byRules || name == "DeleteRule"
	op, err := ask(c.s, ctx, theCloud, name, string(id)+rule, func() (*operation, error) {
		l := c.life[id]
		switch now := time.Now(); {
		case now.Before(l.throttledUntil):
			return nil, &access.Error{Code: access.ResourceExhausted, Reason: "throttled", Message: "too many requests", RetryAfter: l.throttledUntil.Sub(now)}
		case l.readOnly:
			return nil, scopeLocked()
		case c.w.gone[id]:
			return nil, access.Errorf(access.NotFound, "not_found", "no such group")
		}
		if err := check(); err != nil {
			return nil, err
		}
		if l.under != nil && !c.s.chance(c.w.knobs.supersede) {
			return nil, access.Errorf(access.Aborted, "operation_in_progress", "another operation is under way")
		}
		return c.begin(a, id, name == "Apply" && !a.byRules, finish), nil
	})
	if err != nil {
		return err
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
		return access.Wrap(ctx.Err(), access.DeadlineExceeded, "canceled", "the operation is not waited for any more")
	}
}

// begin puts an operation under way on the group, in place of one that was.
func (c cloud) begin(a *actor, id access.ResourceID, whole bool, finish func(nsg.Group) nsg.Group) *operation {
	l := c.life[id]
	if l.under != nil {
		old := l.under
		c.w.met["operations superseded"]++
		c.settle(id, old, old.lands, access.Errorf(access.Aborted, "superseded", "another operation took its place: it may have landed"))
	}
	op := &operation{by: a, whole: whole, finish: finish, lands: c.s.chance(0.5), done: make(chan struct{})}
	l.under = op
	c.in.Edit(id, func(g *nsg.Group) { g.Updating = true })
	var lost error
	took := c.s.between(100*time.Millisecond, c.w.knobs.writeTakes)
	if c.s.chance(c.w.knobs.loseReply) {
		lost = access.Errorf(access.Unavailable, "reply_lost", "what became of the operation is not known")
		c.w.disturb(a, took, "what became of its write is lost")
	}
	c.s.in(took, func() {
		if l.under == op {
			c.settle(id, op, true, lost)
		}
	})
	return op
}

// settle ends the operation that is under way.
func (c cloud) settle(id access.ResourceID, op *operation, lands bool, err error) {
	before := c.in.Look(id)
	c.life[id].under = nil
	if c.w.gone[id] {
		op.err = access.Errorf(access.NotFound, "not_found", "no such group")
		close(op.done)
		return
	}
	c.in.Edit(id, func(g *nsg.Group) {
		if lands {
			*g = op.finish(*g)
			g.ID = id
		}
		g.Updating = false
	})
	op.err = err
	close(op.done)
	if lands {
		after := c.in.Look(id)
		if c.w.story != nil {
			c.w.say("%s is written by #%d: %s", id.Name(), op.by.id, difference(before.Rules, after.Rules))
		}
		c.w.judge.written(op.by, id, before.Rules, after.Rules)
		c.w.putsBack(id, before.Rules, after.Rules)
		if op.whole {
			c.w.judge.closed(op.by, id, before.Rules, after.Rules)
		}
	}
}
