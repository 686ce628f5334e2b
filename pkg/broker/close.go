package broker

import (
	"context"
	"errors"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Closer removes rules of ours with permissions on NSGs alone: no table, no
// queue. It is what is left when everything else is gone.
type Closer struct {
	groups Groups
	rules  nsg.Settings
}

// NewCloser makes a Closer for the rules that the settings call ours.
func NewCloser(groups Groups, rules nsg.Settings) (*Closer, error) {
	if groups == nil {
		return nil, errors.New("broker: the closer needs the NSGs")
	}
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	return &Closer{groups: groups, rules: rules}, nil
}

// CloseExpired removes the group's rules that have expired by their own
// description, and gives the names of those that are gone. It goes on past a
// rule that it cannot close, and joins the errors.
func (c *Closer) CloseExpired(ctx context.Context, g nsg.Group, now time.Time) (closed []string, err error) {
	for _, r := range c.rules.Expired(g, now) {
		if e := c.CloseRule(ctx, g.ID, r); e != nil {
			err = errors.Join(err, e)
			continue
		}
		closed = append(closed, r.Name)
	}
	return closed, err
}

// CloseAll does CloseExpired for every group of the subscriptions, and tells of
// each rule that is gone. It goes on past what fails, and joins the errors.
func (c *Closer) CloseAll(ctx context.Context, lister GroupLister, subscriptions []string, now time.Time, tell func(on access.ResourceID, rule string)) (err error) {
	for _, sub := range subscriptions {
		groups, e := lister.Groups(ctx, sub)
		err = errors.Join(err, e)
		for _, g := range groups {
			closed, e := c.CloseExpired(ctx, g, now)
			err = errors.Join(err, e)
			for _, name := range closed {
				tell(g.ID, name)
			}
		}
	}
	return err
}

// CloseRule removes one rule of ours, by whatever means is left: a child
// DELETE; where a lock forbids that, a write of the whole group without it,
// which a CanNotDelete lock lets through; and at last by turning it into a Deny.
func (c *Closer) CloseRule(ctx context.Context, id access.ResourceID, r nsg.Rule) error {
	if !c.rules.Owns(r) {
		return access.Errorf(access.Internal, "not_ours", "rule %s is not ours to remove", r.Name)
	}
	err := c.groups.DeleteRule(ctx, id, r.Name)
	if access.ReasonOf(err) != reasonScopeLocked {
		return err
	}
	if g, e := c.groups.Group(ctx, id); e == nil && g.Loss == "" && !g.Updating {
		if e = c.groups.Apply(ctx, g, nsg.Plan{Remove: []string{r.Name}}); e == nil {
			return nil
		}
		err = errors.Join(err, e)
	}
	r.Access = nsg.Deny
	if e := c.groups.DenyRule(ctx, id, r); e != nil {
		return errors.Join(err, e)
	}
	return nil
}

// The stable reasons that adapters give and the use cases act on.
const (
	reasonScopeLocked      = "scope_locked"
	reasonPriorityConflict = "priority_conflict"
)
