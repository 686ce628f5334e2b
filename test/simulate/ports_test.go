package simulate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// store is the record behind the schedule: each method is one call of
// brokertest's, or what a cut may come between.
type store struct {
	s  *schedule
	in *brokertest.Store
	// read and kept tell the judge what somebody has seen, and what is on record.
	read func(a *actor, id access.ResourceID, legs []access.Leg, rows []access.Baseline)
	kept func(rec access.Record)
	// changed tells it that legs or the lockdown change.
	changed func()
	// past is told of every change of policies and tickets, once it has come.
	past  *past
	topic *topic
	// ends is told before an ended leg is kept as that.
	ends func(a *actor, l access.Leg)
	// retired is told before each part of a request that goes.
	retired func(id access.RequestID, begins bool)
	turned  func()
}

type nothing = struct{}

// do is ask for a call that gives nothing but an error.
func do(s *schedule, ctx context.Context, to port, name, arg string, effect func() error) error {
	_, err := ask(s, ctx, to, name, arg, func() (nothing, error) { return nothing{}, effect() })
	return err
}

// two holds two results of a call.
type two[A, B any] struct {
	a A
	b B
}

func (p store) PoliciesFor(ctx context.Context, vm access.ResourceID) ([]policy.AccessPolicy, error) {
	return ask(p.s, ctx, theStore, "PoliciesFor", string(vm), func() ([]policy.AccessPolicy, error) { return p.in.PoliciesFor(ctx, vm) })
}

func (p store) ListPolicies(ctx context.Context, subscription string) ([]policy.AccessPolicy, error) {
	return ask(p.s, ctx, theStore, "ListPolicies", subscription, func() ([]policy.AccessPolicy, error) { return p.in.ListPolicies(ctx, subscription) })
}

func (p store) GetPolicy(ctx context.Context, scope access.ResourceID) (policy.AccessPolicy, error) {
	return ask(p.s, ctx, theStore, "GetPolicy", string(scope), func() (policy.AccessPolicy, error) { return p.in.GetPolicy(ctx, scope) })
}

func (p store) SavePolicy(ctx context.Context, doc policy.AccessPolicy, version string) (policy.AccessPolicy, error) {
	return ask(p.s, ctx, theStore, "SavePolicy", string(doc.Scope), func() (policy.AccessPolicy, error) {
		defer p.turned()
		return p.in.SavePolicy(ctx, doc, version)
	})
}

func (p store) DeletePolicy(ctx context.Context, scope access.ResourceID, version string) error {
	return do(p.s, ctx, theStore, "DeletePolicy", string(scope), func() error {
		defer p.turned()
		return p.in.DeletePolicy(ctx, scope, version)
	})
}

func (p store) Begin(ctx context.Context, rec access.Record) (access.Record, bool, error) {
	v, err := ask(p.s, ctx, theStore, "Begin", string(rec.ID), func() (two[access.Record, bool], error) {
		stored, pending, err := p.in.Begin(ctx, rec)
		p.kept(stored)
		return two[access.Record, bool]{stored, pending}, err
	})
	return v.a, v.b, err
}

// note writes the notices of events, which come before them, and gives what asks
// for their sending once they are there.
func (p store) note(ctx context.Context, events []access.Event) (there func(), err error) {
	subjects := map[string]bool{}
	for _, e := range events {
		subjects[e.Subject] = true
	}
	list := slices.Sorted(maps.Keys(subjects))
	var noted time.Time
	err = do(p.s, ctx, theStore, "Note", strings.Join(list, ","), func() error {
		noted = time.Now()
		return p.in.Note(events)
	})
	return func() {
		for _, s := range list {
			p.topic.written(s, noted)
		}
	}, err
}

func (p store) Keep(ctx context.Context, rec access.Record, events []access.Event) (access.Record, error) {
	there, err := p.note(ctx, events)
	if err != nil {
		return access.Record{}, err
	}
	return ask(p.s, ctx, theStore, "Keep", string(rec.ID), func() (access.Record, error) {
		stored, err := p.in.Keep(ctx, rec, events)
		p.kept(stored)
		there()
		return stored, err
	})
}

func (p store) Finish(ctx context.Context, id access.RequestID) error {
	return do(p.s, ctx, theStore, "Finish", string(id), func() error { return p.in.Finish(ctx, id) })
}

func (p store) Find(ctx context.Context, id access.RequestID) (access.Record, bool, error) {
	v, err := ask(p.s, ctx, theStore, "Find", string(id), func() (two[access.Record, bool], error) {
		rec, pending, err := p.in.Find(ctx, id)
		return two[access.Record, bool]{rec, pending}, err
	})
	return v.a, v.b, err
}

func (p store) Pending(ctx context.Context, before time.Time) ([]access.Record, error) {
	return ask(p.s, ctx, theStore, "Pending", "", func() ([]access.Record, error) { return p.in.Pending(ctx, before) })
}

func (p store) File(ctx context.Context, id access.RequestID) (access.File, error) {
	return ask(p.s, ctx, theStore, "File", string(id), func() (access.File, error) { return p.in.File(ctx, id) })
}

func (p store) Revoke(ctx context.Context, id access.RequestID, revocations []access.Revocation) error {
	return do(p.s, ctx, theStore, "Revoke", string(id), func() error {
		p.changed()
		return p.in.Revoke(ctx, id, revocations)
	})
}

func (p store) Extended(ctx context.Context, id, by access.RequestID) error {
	return do(p.s, ctx, theStore, "Extended", string(id), func() error { return p.in.Extended(ctx, id, by) })
}

func (p store) Schedule(ctx context.Context, id access.RequestID, at time.Time) error {
	return do(p.s, ctx, theStore, "Schedule", string(id), func() error { return p.in.Schedule(ctx, id, at) })
}

func (p store) Scheduled(ctx context.Context, id access.RequestID) (bool, error) {
	return ask(p.s, ctx, theStore, "Scheduled", string(id), func() (bool, error) { return p.in.Scheduled(ctx, id) })
}

func (p store) DueStarts(ctx context.Context, now time.Time) ([]access.RequestID, error) {
	return ask(p.s, ctx, theStore, "DueStarts", "", func() ([]access.RequestID, error) { return p.in.DueStarts(ctx, now) })
}

func (p store) DecideStart(ctx context.Context, st access.Start, events []access.Event) (access.Start, error) {
	there, err := p.note(ctx, events)
	if err != nil {
		return access.Start{}, err
	}
	return ask(p.s, ctx, theStore, "DecideStart", string(st.Request), func() (access.Start, error) {
		defer there()
		return p.in.DecideStart(ctx, st, events)
	})
}

func (p store) Unschedule(ctx context.Context, id access.RequestID) error {
	return do(p.s, ctx, theStore, "Unschedule", string(id), func() error { return p.in.Unschedule(ctx, id) })
}

func (p store) Claim(ctx context.Context, e broker.IndexEntry, since, now time.Time) ([]broker.IndexEntry, error) {
	return ask(p.s, ctx, theStore, "Claim", string(e.Request), func() ([]broker.IndexEntry, error) { return p.in.Claim(ctx, e, since, now) })
}

func (p store) Enter(ctx context.Context, e broker.IndexEntry) error {
	return do(p.s, ctx, theStore, "Enter", string(e.Request), func() error {
		if _, again := p.past.entered[e.Request]; !again {
			p.past.entered[e.Request] = time.Now()
		}
		return p.in.Enter(ctx, e)
	})
}

func (p store) Entries(ctx context.Context, q broker.IndexQuery) ([]broker.IndexEntry, error) {
	return ask(p.s, ctx, theStore, "Entries", q.Name, func() ([]broker.IndexEntry, error) { return p.in.Entries(ctx, q) })
}

func (p store) Lockdown(ctx context.Context) (access.Lockdown, error) {
	a := ctx.Value(actorKey{}).(*actor)
	return ask(p.s, ctx, theStore, "Lockdown", "", func() (access.Lockdown, error) {
		l, err := p.in.Lockdown(ctx)
		if err == nil && !l.Active {
			a.free = a.calls
		}
		return l, err
	})
}

func (p store) SetLockdown(ctx context.Context, l access.Lockdown, events []access.Event) error {
	return do(p.s, ctx, theStore, "SetLockdown", fmt.Sprint(l.Active, l.Told), func() error {
		p.changed()
		defer p.topic.written(broker.SubjectLockdown, time.Now())
		return p.in.SetLockdown(ctx, l, events)
	})
}

func (p store) EventsOf(ctx context.Context, subject string) ([]access.Event, error) {
	return ask(p.s, ctx, theStore, "EventsOf", subject, func() ([]access.Event, error) { return p.in.EventsOf(ctx, subject) })
}

func (p store) Append(ctx context.Context, list []access.Event) error {
	if len(list) == 0 {
		return nil
	}
	there, err := p.note(ctx, list)
	if err != nil {
		return err
	}
	var kinds []string
	for _, e := range list {
		kinds = append(kinds, string(e.Kind)+" of "+short(e.Subject))
	}
	return do(p.s, ctx, theStore, "Append", strings.Join(kinds, ","), func() error {
		defer there()
		return p.in.Append(ctx, list)
	})
}
