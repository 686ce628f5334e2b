package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

const (
	// unfinishedAfter is how long a Submit may take before Sweep completes it.
	unfinishedAfter = 30 * time.Second
	// overdueAfter is how long past its time an NSG may be before Sweep stops
	// relying on prompts and reconciles by itself.
	overdueAfter = 2 * time.Minute
	// sweepDeadline keeps one sweep from running into the next for long.
	sweepDeadline = 5 * time.Minute
	sweepAtOnce   = 8
	// unfinishedAlarm is how long a decision may stay unfinished before somebody is told.
	unfinishedAlarm = 5 * time.Minute
)

// SweepPorts are what Sweep needs.
type SweepPorts struct {
	Heads   Heads
	Ledger  Ledger
	Pending PendingRequests
	Prompts Prompts
	Events  Events
	Clock   Clock
	Log     *slog.Logger
	// Resume completes a request that was cut off: a Submitter's Resume.
	Resume func(context.Context, access.Record) error
	// Starts are the scheduled requests, Start begins one: a Submitter's Start.
	Starts Starts
	Start  func(context.Context, access.RequestID, time.Time) error
	// Tickets are the events of tickets, WorkTicket works one: a TicketDesk's Work.
	Tickets    PendingTickets
	WorkTicket func(context.Context, string) error
	// Lockdown goes on with a lockdown that was cut off: a LockdownDesk's Tell.
	Lockdown func(context.Context) error
	// Reconcile does an NSG at once: a Reconciler's Reconcile.
	Reconcile func(context.Context, access.ResourceID, time.Time) error
	// Publish sends the events that were not sent: a Publisher's PublishDue.
	Publish func(context.Context) error
	Meter   Meter
}

// Sweeper closes what is overdue and finishes what was cut off.
type Sweeper struct{ SweepPorts }

// NewSweeper makes a Sweeper; every port is required.
func NewSweeper(p SweepPorts) (*Sweeper, error) {
	if p.Heads == nil || p.Ledger == nil || p.Pending == nil || p.Prompts == nil || p.Events == nil || p.Clock == nil || p.Log == nil || p.Resume == nil ||
		p.Starts == nil || p.Start == nil || p.Lockdown == nil || p.Tickets == nil || p.WorkTicket == nil || p.Reconcile == nil || p.Publish == nil || p.Meter == nil {
		return nil, errors.New("broker: a port of the sweeper is missing")
	}
	return &Sweeper{p}, nil
}

// Sweep looks once at everything that is due. It goes on past what fails and
// joins the errors.
func (s *Sweeper) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepDeadline)
	defer cancel()
	now := s.Clock().UTC()
	// Closes first: they must not wait for a request that cannot be finished, nor
	// for an event.
	heads, err := s.due(ctx, now)
	err = errors.Join(err, s.Lockdown(ctx), s.tickets(ctx, now), s.starts(ctx, now), s.unfinished(ctx, now), s.overdue(ctx, heads, now), s.Publish(ctx))
	if err == nil {
		s.Meter.Measure(ctx, MetricHeartbeat, 1, "sweep")
	}
	return err
}

// due sees to the NSGs that are due, and gives them with those that are put off:
// what is overdue there is no less so.
func (s *Sweeper) due(ctx context.Context, now time.Time) ([]Head, error) {
	heads, err := s.Heads.Due(ctx, now) // what was found counts, whatever else failed
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	errs := make([]error, len(heads))
	for i, h := range heads {
		if h.DueAt.After(now) {
			continue
		}
		g.Go(func() error {
			errs[i] = s.one(ctx, h, now)
			return nil
		})
	}
	return heads, errors.Join(err, g.Wait(), errors.Join(errs...))
}

// overdue records the legs that should have been closed and are still there,
// each one once, after everything was done about them.
func (s *Sweeper) overdue(ctx context.Context, heads []Head, now time.Time) (err error) {
	late := lateness{now: now}
	defer func() {
		s.Meter.Measure(ctx, MetricOverdue, float64(late.n), "")
		s.Meter.Measure(ctx, MetricOverdueAge, late.age().Seconds(), "")
		if late.n > 0 {
			s.Log.ErrorContext(ctx, "ALARM doors are open past their time", "alarm", "overdue_close", "legs", late.n, "since", late.since, "nsg", late.of)
		}
	}()
	for _, h := range heads {
		if h.Trouble == "" && now.Sub(h.DueAt) < overdueAfter {
			continue
		}
		legs, e := s.Ledger.Legs(ctx, h.NSG)
		var events []access.Event
		for _, l := range legs {
			if over := closeTime(l); now.Sub(over) >= overdueAfter {
				late.add(over, string(h.NSG))
				event := legEvent(access.EventOverdue, l, now)
				event.Detail["overdueSince"] = over.UTC().Format(time.RFC3339)
				if h.Trouble != "" {
					event.Detail["trouble"] = h.Trouble
				}
				events = append(events, event)
			}
		}
		if len(events) > 0 {
			e = errors.Join(e, s.Events.Append(ctx, events))
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("recording what is overdue on %s: %w", h.NSG, e))
		}
	}
	return err
}

// closeTime is when the leg's door was to be shut.
func closeTime(l access.Leg) time.Time {
	if l.State == access.LegClosing && l.ClosingAt.Before(l.EndTime) {
		return l.ClosingAt
	}
	return l.EndTime
}

func (s *Sweeper) one(ctx context.Context, h Head, now time.Time) error {
	err := s.Prompts.Prompt(ctx, h.NSG, time.Time{})
	if err == nil && now.Sub(h.DueAt) < overdueAfter {
		return nil
	}
	// The queue does not take the prompt, or prompts have not helped so far. The
	// fence makes it safe to do the work here, whoever else is at it.
	s.Log.WarnContext(ctx, "overdue: reconciling without the queue", "nsg", h.NSG, "dueAt", h.DueAt, "trouble", h.Trouble, "promptError", err)
	if e := s.Reconcile(ctx, h.NSG, time.Time{}); e != nil {
		return errors.Join(err, fmt.Errorf("reconciling %s: %w", h.NSG, e))
	}
	return nil
}

// tickets works the events of tickets that were left. Of one ticket the older come
// first, so that none is overtaken here.
func (s *Sweeper) tickets(ctx context.Context, now time.Time) error {
	all, err := s.Tickets.PendingTicketEvents(ctx, now.Add(-unfinishedAfter))
	slices.SortFunc(all, func(a, b access.TicketEvent) int { return a.At.Compare(b.At) })
	of := map[access.TicketID][]string{}
	for _, e := range all {
		of[e.Ticket] = append(of[e.Ticket], e.ID)
	}
	errs := make(chan error, len(all))
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for id, events := range of {
		g.Go(func() error {
			for _, event := range events {
				if e := s.WorkTicket(ctx, event); e != nil {
					errs <- fmt.Errorf("working event %s of ticket %s: %w", event, id, e)
				}
			}
			return nil
		})
	}
	err = errors.Join(err, g.Wait())
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// starts begins the scheduled requests whose time has come.
func (s *Sweeper) starts(ctx context.Context, now time.Time) error {
	ids, err := s.Starts.DueStarts(ctx, now)
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for i, id := range ids {
		g.Go(func() error {
			if e := s.Start(ctx, id, time.Time{}); e != nil {
				errs[i] = fmt.Errorf("starting %s: %w", id, e)
			}
			return nil
		})
	}
	return errors.Join(err, g.Wait(), errors.Join(errs...))
}

func (s *Sweeper) unfinished(ctx context.Context, now time.Time) error {
	recs, err := s.Pending.Pending(ctx, now.Add(-unfinishedAfter))
	found, late := lateness{now: now}, lateness{now: now}
	for _, rec := range recs {
		found.add(rec.DecidedAt, string(rec.ID))
		if e := s.Resume(ctx, rec); e != nil {
			if now.Sub(rec.DecidedAt) >= unfinishedAlarm {
				late.add(rec.DecidedAt, string(rec.ID))
			}
			err = errors.Join(err, fmt.Errorf("finishing %s: %w", rec.ID, e))
		}
	}
	s.Meter.Measure(ctx, MetricUnfinished, found.age().Seconds(), "")
	if late.n > 0 {
		s.Log.ErrorContext(ctx, "ALARM requests are not carried out", "alarm", "unfinished_request", "requests", late.n, "since", late.since, "request", late.of)
	}
	return err
}
