package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Azure is machines and network security groups in memory.
type Azure struct {
	*Faults
	mu       sync.Mutex
	version  int
	Machines map[access.ResourceID]broker.Machine
	groups   map[access.ResourceID]nsg.Group
	// Around is what stands around every machine.
	Around broker.Surroundings
	// Locked makes a DELETE fail as under a CanNotDelete lock, ReadOnly every
	// write as under a ReadOnly lock.
	Locked, ReadOnly bool
	// BeforeApply runs before each whole write is checked: somebody else's turn.
	BeforeApply func()
	Writes      int
}

// NewAzure makes an empty Azure.
func NewAzure(f *Faults) *Azure {
	return &Azure{Faults: f, Machines: map[access.ResourceID]broker.Machine{}, groups: map[access.ResourceID]nsg.Group{}}
}

func (a *Azure) do(effect func() error) error {
	return a.Do(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		return effect()
	})
}

// Edit changes a group as its customer would.
func (a *Azure) Edit(id access.ResourceID, change func(*nsg.Group)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	g.ID = id
	g.Rules = slices.Clone(g.Rules)
	change(&g)
	a.put(g)
}

func (a *Azure) put(g nsg.Group) {
	a.version++
	g.ETag = fmt.Sprint(a.version)
	a.groups[g.ID] = g
}

// Remove takes a group away, as its customer would.
func (a *Azure) Remove(id access.ResourceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.groups, id)
}

// Look gives a group without counting as a call.
func (a *Azure) Look(id access.ResourceID) nsg.Group {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.groups[id]
}

// Machine implements broker.Machines.
func (a *Azure) Machine(_ context.Context, vm access.ResourceID, _ time.Time) (m broker.Machine, err error) {
	err = a.do(func() error {
		var ok bool
		if m, ok = a.Machines[vm]; !ok {
			return access.Errorf(access.NotFound, "not_found", "no such machine")
		}
		return nil
	})
	return m, err
}

// Surroundings implements broker.Neighbourhood.
func (a *Azure) Surroundings(context.Context, broker.Machine, time.Time) (s broker.Surroundings, err error) {
	err = a.do(func() error { s = a.Around; return nil })
	return s, err
}

// Group implements broker.Groups.
func (a *Azure) Group(_ context.Context, id access.ResourceID) (g nsg.Group, err error) {
	err = a.do(func() error {
		var ok bool
		if g, ok = a.groups[id]; !ok {
			return access.Errorf(access.NotFound, "not_found", "no such group")
		}
		return nil
	})
	return g, err
}

// Apply implements broker.Groups.
func (a *Azure) Apply(_ context.Context, g nsg.Group, plan nsg.Plan) error {
	if a.BeforeApply != nil {
		a.BeforeApply()
	}
	return a.do(func() error {
		if a.ReadOnly {
			return scopeLocked()
		}
		if a.groups[g.ID].ETag != g.ETag {
			return access.Errorf(access.Aborted, "precondition_failed", "somebody wrote since the read")
		}
		a.Writes++
		a.put(plan.Apply(g))
		return nil
	})
}

func scopeLocked() error {
	return access.Errorf(access.FailedPrecondition, "scope_locked", "a lock forbids it")
}

// DeleteRule implements broker.Groups.
func (a *Azure) DeleteRule(_ context.Context, id access.ResourceID, name string) error {
	return a.do(func() error {
		if a.Locked || a.ReadOnly {
			return scopeLocked()
		}
		g := a.groups[id]
		g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), func(r nsg.Rule) bool { return strings.EqualFold(r.Name, name) })
		a.put(g)
		return nil
	})
}

// DenyRule implements broker.Groups.
func (a *Azure) DenyRule(_ context.Context, id access.ResourceID, rule nsg.Rule) error {
	return a.do(func() error {
		if a.ReadOnly {
			return scopeLocked()
		}
		g := a.groups[id]
		g.Rules = slices.Clone(g.Rules)
		for i, r := range g.Rules {
			if strings.EqualFold(r.Name, rule.Name) {
				g.Rules[i].Access = nsg.Deny
			}
		}
		a.put(g)
		return nil
	})
}

// Groups implements broker.GroupLister.
func (a *Azure) Groups(context.Context, string) (out []nsg.Group, err error) {
	err = a.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(a.groups)) {
			out = append(out, a.groups[id])
		}
		return nil
	})
	return out, err
}

// Bus keeps the messages that were sent.
type Bus struct {
	*Faults
	mu       sync.Mutex
	prompts  []Prompted
	starts   []StartPrompted
	tickets  []string
	subjects []string
	Rejected []broker.Rejection
}

// Prompted is a prompt that was sent; At is zero for at once.
type Prompted struct {
	NSG access.ResourceID
	At  time.Time
}

// Prompt implements broker.Prompts.
func (b *Bus) Prompt(_ context.Context, id access.ResourceID, at time.Time) error {
	return b.Do(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.prompts = append(b.prompts, Prompted{id, at})
		return nil
	})
}

// Take gives the prompts that are due at the time and forgets them.
func (b *Bus) Take(now time.Time) (due []Prompted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rest []Prompted
	for _, p := range b.prompts {
		if p.At.After(now) {
			rest = append(rest, p)
		} else {
			due = append(due, p)
		}
	}
	b.prompts = rest
	return due
}

// Reject implements broker.Outbox.
func (b *Bus) Reject(_ context.Context, r broker.Rejection) error {
	return b.Do(func() error { b.Rejected = append(b.Rejected, r); return nil })
}

// Retry implements broker.Outbox.
func (b *Bus) Retry(context.Context, broker.RequestMessage, time.Time) error {
	return b.Do(func() error { return nil })
}
