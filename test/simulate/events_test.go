package simulate

import (
	"context"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func (p store) Notice(ctx context.Context, subject string) (broker.Notice, error) {
	return ask(p.s, ctx, theStore, "Notice", subject, func() (broker.Notice, error) { return p.in.Notice(ctx, subject) })
}

func (p store) Notices(ctx context.Context) ([]broker.Notice, error) {
	return ask(p.s, ctx, theStore, "Notices", "", func() ([]broker.Notice, error) { return p.in.Notices(ctx) })
}

func (p store) MarkSeen(ctx context.Context, n broker.Notice) error {
	return do(p.s, ctx, theStore, "MarkSeen", n.Subject, func() error { return p.in.MarkSeen(ctx, n) })
}

func (p store) DropNotice(ctx context.Context, n broker.Notice) error {
	return do(p.s, ctx, theStore, "DropNotice", n.Subject, func() error { return p.in.DropNotice(ctx, n) })
}

func (p store) Outgoing(ctx context.Context, subject string) (broker.Outgoing, error) {
	return ask(p.s, ctx, theStore, "Outgoing", subject, func() (broker.Outgoing, error) { return p.in.Outgoing(ctx, subject) })
}

func (p store) Unsent(ctx context.Context, subject string) (broker.Outgoing, error) {
	return ask(p.s, ctx, theStore, "Unsent", subject, func() (broker.Outgoing, error) { return p.in.Unsent(ctx, subject) })
}

func (p store) AddSeals(ctx context.Context, seals []audit.Seal) error {
	return do(p.s, ctx, theStore, "AddSeals", fmt.Sprint(seals[0].Subject, " ", seals[0].Seq), func() error { return p.in.AddSeals(ctx, seals) })
}

func (p store) SaveSent(ctx context.Context, subject string, sent int, etag string) (string, error) {
	return ask(p.s, ctx, theStore, "SaveSent", subject, func() (string, error) { return p.in.SaveSent(ctx, subject, sent, etag) })
}

func (p store) EnterJournal(ctx context.Context, entries []broker.JournalEntry) error {
	return do(p.s, ctx, theStore, "EnterJournal", entries[0].Seal.Subject, func() error { return p.in.EnterJournal(ctx, entries) })
}

func (p store) Journal(ctx context.Context, q broker.JournalQuery) ([]broker.JournalEntry, string, error) {
	v, err := ask(p.s, ctx, theStore, "Journal", q.After, func() (two[[]broker.JournalEntry, string], error) {
		list, next, err := p.in.Journal(ctx, q)
		return two[[]broker.JournalEntry, string]{list, next}, err
	})
	return v.a, v.b, err
}

func (p store) Ticket(ctx context.Context, id access.TicketID) (access.Ticket, error) {
	return ask(p.s, ctx, theStore, "Ticket", fmt.Sprint(id), func() (access.Ticket, error) { return p.in.Ticket(ctx, id) })
}

func (p store) SaveTicket(ctx context.Context, t access.Ticket) error {
	return do(p.s, ctx, theStore, "SaveTicket", fmt.Sprint(t.ID), func() error {
		err := p.in.SaveTicket(ctx, t)
		if err == nil {
			p.changed()
			p.past.ticket(t)
		}
		return err
	})
}

// KeepTicketEvent is as many calls as a cut may come between.
func (p store) KeepTicketEvent(ctx context.Context, e access.TicketEvent) (access.TicketEvent, bool, error) {
	stored, err := p.TicketEvent(ctx, e.ID)
	if err == nil {
		_, err := p.TicketWork(ctx, e.ID)
		if access.CodeOf(err) == access.NotFound {
			return stored, false, nil
		}
		return stored, true, err
	}
	if access.CodeOf(err) != access.NotFound {
		return access.TicketEvent{}, false, err
	}
	noted, err := ask(p.s, ctx, theStore, "NoteTicketEvent", e.ID, func() (access.TicketEvent, error) {
		p.past.told[e.ID] = false
		return p.in.NoteTicketEvent(ctx, e)
	})
	if err != nil {
		return access.TicketEvent{}, false, err
	}
	stored, err = ask(p.s, ctx, theStore, "EnterTicketEvent", e.ID, func() (access.TicketEvent, error) {
		if _, noted := p.past.told[e.ID]; noted {
			p.past.told[e.ID] = true
		}
		return p.in.EnterTicketEvent(ctx, noted)
	})
	return stored, true, err
}

func (p store) TicketEvent(ctx context.Context, id string) (access.TicketEvent, error) {
	return ask(p.s, ctx, theStore, "TicketEvent", id, func() (access.TicketEvent, error) { return p.in.TicketEvent(ctx, id) })
}

func (p store) TicketWork(ctx context.Context, id string) (broker.TicketWork, error) {
	return ask(p.s, ctx, theStore, "TicketWork", id, func() (broker.TicketWork, error) { return p.in.TicketWork(ctx, id) })
}

func (p store) TakeTicketEvent(ctx context.Context, id string) error {
	return do(p.s, ctx, theStore, "TakeTicketEvent", id, func() error { return p.in.TakeTicketEvent(ctx, id) })
}

func (p store) FinishTicketEvent(ctx context.Context, id string) error {
	return do(p.s, ctx, theStore, "FinishTicketEvent", id, func() error { return p.in.FinishTicketEvent(ctx, id) })
}

func (p store) PendingTicketEvents(ctx context.Context, before time.Time) ([]access.TicketEvent, error) {
	return ask(p.s, ctx, theStore, "PendingTicketEvents", "", func() ([]access.TicketEvent, error) { return p.in.PendingTicketEvents(ctx, before) })
}

func (q *queue) PromptTicket(ctx context.Context, id string) error {
	return do(q.s, ctx, theQueue, "PromptTicket", id, func() error {
		q.send(&message{kind: "ticket", event: id}, time.Time{})
		return nil
	})
}
