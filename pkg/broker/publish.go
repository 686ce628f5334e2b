package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"golang.org/x/sync/errgroup"
)

const (
	// promptedWithin is how long a prompt may take before Sweep sends a subject's
	// events.
	promptedWithin = 30 * time.Second
	// lastLookAfter is how old a notice must be to be dropped: older than any writer
	// can be who has noted a subject and not yet written its event. The host ends a
	// function after 10 minutes (functionTimeout in host.json), and the process with
	// it; the rest is for clocks that differ, ours and the store's.
	lastLookAfter = 15 * time.Minute
	// alarmAfter is how long events may wait before somebody must be told.
	alarmAfter = 10 * time.Minute
	// publishWithin bounds what one sweep spends on events: the next one closes doors.
	publishWithin = 30 * time.Second
	// sendAtOnce is after how many events it is noted that they were sent.
	sendAtOnce = 100
)

// PublishPorts are what Publisher needs.
type PublishPorts struct {
	Notices Notices
	Seals   Seals
	Journal Journal
	Topic   EventTopic
	Clock   Clock
	Log     *slog.Logger
}

// Publisher seals the events of subjects, enters them in the journal and sends
// them: each one at least once, and those of a subject in the order of their
// seals. It reads the event rows, so that what was recorded is sent whatever
// happened to its writer.
type Publisher struct{ PublishPorts }

// NewPublisher makes a Publisher; every port is required.
func NewPublisher(p PublishPorts) (*Publisher, error) {
	if p.Notices == nil || p.Seals == nil || p.Journal == nil || p.Topic == nil || p.Clock == nil || p.Log == nil {
		return nil, errors.New("broker: a port of the publisher is missing")
	}
	return &Publisher{p}, nil
}

// Publish seals and sends what is there of a subject, if it was noted. It may be
// asked for by anybody, run twice and by two at once, and be cut off anywhere: the
// notice stands until all was sent, and PublishDue goes on with it.
func (p *Publisher) Publish(ctx context.Context, subject string) error {
	n, err := p.Notices.Notice(ctx, subject)
	if access.CodeOf(err) == access.NotFound {
		return nil // an event is never there without one
	}
	if err != nil {
		return err
	}
	_, err = p.publish(ctx, n)
	return err
}

// publish sends what there is of the subject and then does with its notice, as it
// was read before, what is due. waiting is since when an event waits that was not
// sent; zero where none is known.
func (p *Publisher) publish(ctx context.Context, n Notice) (waiting time.Time, err error) {
	now := p.Clock().UTC()
	for range maxRounds {
		// Whoever is aborted was overtaken by somebody who did the same.
		if waiting, err = p.pass(ctx, n.Subject, now); access.CodeOf(err) != access.Aborted {
			break
		}
	}
	if err != nil {
		return waiting, err
	}
	switch {
	case now.Sub(n.At) >= lastLookAfter:
		err = p.Notices.DropNotice(ctx, n)
	case !n.Seen:
		err = p.Notices.MarkSeen(ctx, n)
	}
	if access.CodeOf(err) == access.Aborted {
		return time.Time{}, nil // it was noted again, and is looked at again
	}
	return time.Time{}, err
}

// pass goes once through the end of a subject's chain. What is new gets the next numbers in
// the order in which it happened; an event that comes in late, with a time before
// that of one already sealed, simply gets the next number.
func (p *Publisher) pass(ctx context.Context, subject string, now time.Time) (waiting time.Time, err error) {
	out, err := p.Seals.Unsent(ctx, subject)
	if err != nil {
		return time.Time{}, err
	}
	if n := len(out.Seals); out.Sent > 0 && (n == 0 || out.Seals[n-1].Seq < out.Sent) {
		// Seals were lost after they were sent, as by a fail-over. What is sealed anew is
		// sent again: it may be another event that has the number now.
		if out, err = p.Seals.Outgoing(ctx, subject); err != nil {
			return time.Time{}, err
		}
		out.Sent = min(out.Sent, len(out.Seals)) // none is missing before one that is there
	}
	var last audit.Seal
	sealed := map[string]bool{}
	for _, s := range out.Seals {
		last, sealed[s.Event] = s, true
		if waiting.IsZero() && s.Seq > out.Sent {
			waiting = s.At
		}
	}
	events := map[string]access.Event{}
	var fresh []audit.Seal
	for _, e := range out.Events {
		events[e.ID()] = e
		if sealed[e.ID()] {
			continue
		}
		if last, err = audit.Next(last, e, now); err != nil {
			return e.At, err
		}
		fresh = append(fresh, last)
		if waiting.IsZero() {
			waiting = e.At
		}
	}
	if len(fresh) > 0 {
		if err := p.Seals.AddSeals(ctx, fresh); err != nil {
			return waiting, err
		}
	}
	return waiting, p.send(ctx, out, append(out.Seals, fresh...), events)
}

// send enters in the journal, sends and counts as sent what is sealed and was not
// sent, in this order: cut off, the next one does all of it again.
func (p *Publisher) send(ctx context.Context, out Outgoing, seals []audit.Seal, events map[string]access.Event) error {
	for len(seals) > 0 && seals[0].Seq <= out.Sent {
		seals = seals[1:]
	}
	for len(seals) > 0 {
		n := min(len(seals), sendAtOnce)
		var entries []JournalEntry
		var sending []SealedEvent
		for _, s := range seals[:n] {
			e, ok := events[s.Event]
			if !ok {
				// Somebody took it out of the table. The others must not wait for it, and
				// the chain tells of it for ever.
				p.Log.ErrorContext(ctx, "ALARM a sealed event is gone", "alarm", "event_missing", "subject", s.Subject, "seq", s.Seq, "event", s.Event)
				kind, _, _ := strings.Cut(s.Event, "-")
				e = access.Event{Subject: s.Subject, Kind: access.EventKind(kind), At: s.At}
			} else {
				sending = append(sending, SealedEvent{e, s.Seq})
			}
			entries = append(entries, JournalEntry{Seal: s, Kind: e.Kind, At: e.At, Actor: e.Actor})
		}
		if err := p.Journal.EnterJournal(ctx, entries); err != nil {
			return err
		}
		if len(sending) > 0 {
			if err := p.Topic.SendEvents(ctx, sending); err != nil {
				return err
			}
		}
		var err error
		if out.ETag, err = p.Seals.SaveSent(ctx, out.Subject, seals[n-1].Seq, out.ETag); err != nil {
			return err
		}
		seals = seals[n:]
	}
	return nil
}

// PublishDue goes on with what no prompt has seen to, and looks once more at what
// was seen: a writer may have noted a subject, and written its event only after
// that was looked at. It goes on past what fails, within half a minute, and tells
// of events that wait for too long.
func (p *Publisher) PublishDue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	all, err := p.Notices.Notices(ctx) // what was found counts, whatever else failed
	now := p.Clock().UTC()
	var due []Notice
	for _, n := range all {
		if age := now.Sub(n.At); age >= lastLookAfter || !n.Seen && age >= promptedWithin {
			due = append(due, n)
		}
	}
	if len(due) == 0 {
		return err
	}
	// Where time does not suffice for all, it is another's turn next time.
	turn := int(now.Unix()/60) % len(due)
	due = append(due[turn:], due[:turn]...)
	var mu sync.Mutex
	late := backlog{}
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for _, n := range due {
		g.Go(func() error {
			waiting, e := time.Time{}, ctx.Err()
			if e == nil {
				waiting, e = p.publish(ctx, n)
			}
			if e != nil {
				mu.Lock()
				defer mu.Unlock()
				late.add(n, waiting, e)
			}
			return nil
		})
	}
	_ = g.Wait() // none of them fails
	if late.n == 0 {
		return err
	}
	if now.Sub(late.since) >= alarmAfter {
		p.Log.ErrorContext(ctx, "ALARM events not sent", "alarm", "events_unsent", "subjects", late.n, "since", late.since, "subject", late.subject, "error", late.cause)
	}
	return errors.Join(err, fmt.Errorf("sending the events of %d subjects, such as %s: %w", late.n, late.subject, late.cause))
}

// backlog is what could not be sent.
type backlog struct {
	n       int
	since   time.Time // how long the oldest waits
	subject string    // the oldest's
	cause   error     // why it waits
}

func (b *backlog) add(n Notice, waiting time.Time, cause error) {
	b.n++
	// A notice is written again with every event, so its event tells more, if known.
	since := n.At
	if !waiting.IsZero() && waiting.Before(since) {
		since = waiting
	}
	if b.n == 1 || since.Before(b.since) {
		b.since, b.subject, b.cause = since, n.Subject, cause
	}
}

// mostAsked bounds the subjects that wait for a prompt; Sweep finds the others.
const mostAsked = 10_000

// EventPrompter asks for the sending of events beside the work that wrote them,
// so that nothing ever waits for it, least of all a close. It keeps nothing:
// Sweep finds what it loses.
type EventPrompter struct {
	prompts EventPrompts
	log     *slog.Logger
	wake    chan struct{}

	mu    sync.Mutex
	asked []string
	there map[string]bool
}

// NewEventPrompter makes an EventPrompter; it prompts while Run runs.
func NewEventPrompter(prompts EventPrompts, log *slog.Logger) (*EventPrompter, error) {
	if prompts == nil || log == nil {
		return nil, errors.New("broker: a part of the event prompter is missing")
	}
	return &EventPrompter{prompts: prompts, log: log, wake: make(chan struct{}, 1), there: map[string]bool{}}, nil
}

// Ask has the subject's events asked for soon, once for all that asked meanwhile.
// It returns at once.
func (p *EventPrompter) Ask(subject string) {
	p.mu.Lock()
	if !p.there[subject] && len(p.asked) < mostAsked {
		p.there[subject] = true
		p.asked = append(p.asked, subject)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run prompts until the context ends.
func (p *EventPrompter) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.mu.Lock()
		subjects := p.asked
		p.asked, p.there = nil, map[string]bool{}
		p.mu.Unlock()
		for i, subject := range subjects {
			if err := p.prompts.PromptEvents(ctx, subject); err != nil {
				// The notices stand, and Sweep sends what they tell of.
				p.log.WarnContext(ctx, "events not asked for: left to Sweep", "subjects", len(subjects)-i, "error", err)
				break
			}
		}
	}
}
