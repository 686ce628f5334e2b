package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// chains is what the store keeps of events besides themselves.
type chains struct {
	notices map[string]broker.Notice
	seals   map[string][]audit.Seal
	sent    map[string]cursor
	journal map[string]broker.JournalEntry
}

// cursor is how much of a chain was sent.
type cursor struct {
	sent int
	etag string
}

func newChains() chains {
	return chains{map[string]broker.Notice{}, map[string][]audit.Seal{}, map[string]cursor{}, map[string]broker.JournalEntry{}}
}

// note writes the notices of the events' subjects, as a call of its own.
func (s *Store) note(events []access.Event) error {
	if len(events) == 0 || s.NotedApart {
		return nil
	}
	return s.Note(events)
}

// Note writes the notices of the events' subjects; see NotedApart.
func (s *Store) Note(events []access.Event) error {
	return s.do(func() error {
		for _, e := range events {
			s.chains.notices[e.Subject] = broker.Notice{Subject: e.Subject, At: s.Clock(), ETag: s.etag()}
		}
		return nil
	})
}

// eventsOf gives the subject's events in order; s.mu is held.
func (s *Store) eventsOf(subject string) (out []access.Event) {
	for _, e := range s.events {
		if e.Subject == subject {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, access.CompareEvents)
	return out
}

// EventsOf implements broker.History.
func (s *Store) EventsOf(_ context.Context, subject string) (out []access.Event, err error) {
	err = s.do(func() error { out = s.eventsOf(subject); return nil })
	return out, err
}

// Chain implements broker.Chains.
func (s *Store) Chain(ctx context.Context, subject string) ([]access.Event, []audit.Seal, error) {
	out, err := s.Outgoing(ctx, subject)
	return out.Events, out.Seals, err
}

// Outgoing implements broker.Seals.
func (s *Store) Outgoing(_ context.Context, subject string) (out broker.Outgoing, err error) {
	err = s.do(func() error {
		c := s.chains.sent[subject]
		out = broker.Outgoing{Subject: subject, Events: s.eventsOf(subject), Seals: slices.Clone(s.chains.seals[subject]), Sent: c.sent, ETag: c.etag}
		return nil
	})
	return out, err
}

// Unsent implements broker.Seals.
func (s *Store) Unsent(ctx context.Context, subject string) (broker.Outgoing, error) {
	out, err := s.Outgoing(ctx, subject)
	if n := len(out.Seals); n < out.Sent {
		return out, err // somebody took the end of the chain
	}
	over := map[string]bool{}
	for _, seal := range out.Seals {
		over[seal.Event] = seal.Seq <= out.Sent
	}
	out.Seals = slices.DeleteFunc(out.Seals, func(seal audit.Seal) bool { return seal.Seq < out.Sent })
	out.Events = slices.DeleteFunc(out.Events, func(e access.Event) bool { return over[e.ID()] })
	return out, err
}

// AddSeals implements broker.Seals.
func (s *Store) AddSeals(_ context.Context, seals []audit.Seal) error {
	return s.do(func() error {
		for _, seal := range seals {
			if seal.Seq != len(s.chains.seals[seal.Subject])+1 {
				return access.Errorf(access.Aborted, "row_changed", "the number is taken")
			}
			s.chains.seals[seal.Subject] = append(s.chains.seals[seal.Subject], seal)
		}
		return nil
	})
}

// SaveSent implements broker.Seals.
func (s *Store) SaveSent(_ context.Context, subject string, sent int, etag string) (fresh string, err error) {
	err = s.do(func() error {
		if s.chains.sent[subject].etag != etag {
			return access.Errorf(access.Aborted, "row_changed", "somebody else has sent")
		}
		fresh = s.etag()
		s.chains.sent[subject] = cursor{sent, fresh}
		return nil
	})
	return fresh, err
}

// Notice implements broker.Notices.
func (s *Store) Notice(_ context.Context, subject string) (n broker.Notice, err error) {
	err = s.do(func() error {
		var ok bool
		if n, ok = s.chains.notices[subject]; !ok {
			return access.Errorf(access.NotFound, "row_missing", "no notice")
		}
		return nil
	})
	return n, err
}

// Notices implements broker.Notices.
func (s *Store) Notices(context.Context) (out []broker.Notice, err error) {
	err = s.do(func() error {
		for _, subject := range slices.Sorted(maps.Keys(s.chains.notices)) {
			out = append(out, s.chains.notices[subject])
		}
		return nil
	})
	return out, err
}

// MarkSeen implements broker.Notices.
func (s *Store) MarkSeen(_ context.Context, n broker.Notice) error {
	return s.do(func() error {
		if s.chains.notices[n.Subject].ETag != n.ETag {
			return access.Errorf(access.Aborted, "row_changed", "it was noted again")
		}
		n.Seen, n.At, n.ETag = true, s.Clock(), s.etag()
		s.chains.notices[n.Subject] = n
		return nil
	})
}

// DropNotice implements broker.Notices.
func (s *Store) DropNotice(_ context.Context, n broker.Notice) error {
	return s.do(func() error {
		have, ok := s.chains.notices[n.Subject]
		if ok && have.ETag != n.ETag {
			return access.Errorf(access.Aborted, "row_changed", "it was noted again")
		}
		delete(s.chains.notices, n.Subject)
		return nil
	})
}

func journalKey(s audit.Seal) string {
	return fmt.Sprintf("%019d-%s-%08d", s.At.UnixNano(), s.Subject, s.Seq)
}

// EnterJournal implements broker.Journal.
func (s *Store) EnterJournal(_ context.Context, entries []broker.JournalEntry) error {
	return s.do(func() error {
		for _, e := range entries {
			s.chains.journal[journalKey(e.Seal)] = e
		}
		return nil
	})
}

// Journal implements broker.Journal.
func (s *Store) Journal(_ context.Context, q broker.JournalQuery) (out []broker.JournalEntry, next string, err error) {
	err = s.do(func() error {
		last := ""
		for _, key := range slices.Sorted(maps.Keys(s.chains.journal)) {
			e := s.chains.journal[key]
			if key <= q.After || e.Seal.At.Before(q.From) || !q.To.IsZero() && !e.Seal.At.Before(q.To) {
				continue
			}
			if len(out) == q.Most {
				next = last
				return nil
			}
			out, last = append(out, e), key
		}
		return nil
	})
	return out, next, err
}

// Topic keeps the events that were sent.
type Topic struct {
	*Faults
	mu   sync.Mutex
	sent []broker.SealedEvent
}

// SendEvents implements broker.EventTopic; each event is a call of its own, as a
// cut may come between them.
func (t *Topic) SendEvents(_ context.Context, events []broker.SealedEvent) error {
	for _, e := range events {
		if err := t.Do(func() error {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.sent = append(t.sent, e)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// Sent gives the events that were sent of the subject, repeats and all.
func (t *Topic) Sent(subject string) (out []broker.SealedEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.sent {
		if e.Event.Subject == subject {
			out = append(out, e)
		}
	}
	return out
}

// PromptEvents implements broker.EventPrompts.
func (b *Bus) PromptEvents(_ context.Context, subject string) error {
	return b.Do(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subjects = append(b.subjects, subject)
		return nil
	})
}

// TakeSubjects gives the subjects whose events were asked for, and forgets them.
func (b *Bus) TakeSubjects() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.subjects
	b.subjects = nil
	return out
}

// Subjects gives the subjects that events were written of.
func (s *Store) Subjects() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if !slices.Contains(out, e.Subject) {
			out = append(out, e.Subject)
		}
	}
	slices.Sort(out)
	return out
}

// Tamper changes the events of a subject behind everybody's back.
func (s *Store) Tamper(subject string, change func(*access.Event) (keep bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.events {
		if e.Subject != subject {
			continue
		}
		if delete(s.events, key); change(&e) {
			s.events[key] = e
		}
	}
}

// now is the time where a test sets none.
func now() time.Time { return time.Now().UTC() }

// ForgetJournal takes the entry of a seal out of the journal, as if its writer had
// been cut off.
func (s *Store) ForgetJournal(seal audit.Seal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.chains.journal, journalKey(seal))
}
