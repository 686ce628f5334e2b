package brokertest

import (
	"context"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// OldDay implements broker.OldIndex.
func (s *Store) OldDay(_ context.Context, from, to time.Time) (day time.Time, ok bool, err error) {
	floor := func(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
	err = s.do(func() error {
		for _, r := range s.index["all"] {
			d := floor(r.entry.DecidedAt)
			if !d.Before(floor(from)) && !d.After(floor(to)) && (!ok || d.Before(day)) {
				day, ok = d, true
			}
		}
		return nil
	})
	return day, ok, err
}

// ForgetEntry implements broker.OldIndex; each row is a call of its own, as a cut
// may come between them.
func (s *Store) ForgetEntry(_ context.Context, e broker.IndexEntry) error {
	var partitions []string
	for _, name := range e.Names() {
		partitions = append(partitions, "name/"+name)
	}
	for _, vm := range e.VMs {
		partitions = append(partitions, "vm/"+string(vm))
	}
	for _, t := range e.Tickets {
		partitions = append(partitions, "ticket/"+t.String())
	}
	for _, p := range append(partitions, "all") {
		if err := s.do(func() error { delete(s.index[p], e.Position()); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// ForgetHead implements broker.HeadRetirements.
func (s *Store) ForgetHead(_ context.Context, h broker.Head) error {
	return s.do(func() error {
		if have, ok := s.heads[h.NSG]; ok && have.ETag != h.ETag {
			return access.Errorf(access.Aborted, "row_changed", "the head has changed")
		}
		delete(s.heads, h.NSG)
		return nil
	})
}

// Retiring implements broker.Retirements.
func (s *Store) Retiring(_ context.Context, id access.RequestID) (decidedAt time.Time, err error) {
	err = s.do(func() error { decidedAt = s.retiring[id]; return nil })
	return decidedAt, err
}

// MarkRetiring implements broker.Retirements.
func (s *Store) MarkRetiring(_ context.Context, id access.RequestID, decidedAt time.Time) error {
	return s.do(func() error { s.retiring[id] = decidedAt; return nil })
}

// DropJournal implements broker.Retirements.
func (s *Store) DropJournal(_ context.Context, seals []audit.Seal) error {
	for _, seal := range seals {
		if err := s.do(func() error { delete(s.chains.journal, journalKey(seal)); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// ForgetRequest implements broker.Retirements, in as many calls as a large request
// takes.
func (s *Store) ForgetRequest(ctx context.Context, id access.RequestID) error {
	for n := range ForgetParts {
		if err := s.ForgetPart(ctx, id, n); err != nil {
			return err
		}
	}
	return nil
}

// ForgetParts is how many calls ForgetRequest is.
const ForgetParts = 4

// ForgetPart is one of the calls of ForgetRequest, from 0.
func (s *Store) ForgetPart(_ context.Context, id access.RequestID, n int) error {
	return s.do(func() error {
		s.forgetParts(id)[n]()
		return nil
	})
}

func (s *Store) forgetParts(id access.RequestID) [ForgetParts]func() {
	return [ForgetParts]func(){
		func() { delete(s.chains.seals, string(id)); delete(s.chains.sent, string(id)) },
		func() {
			for key, e := range s.events {
				if e.Subject == string(id) {
					delete(s.events, key)
				}
			}
		},
		func() { delete(s.ended, id); delete(s.extended, id); delete(s.starts, id); delete(s.revoked, id) },
		func() { delete(s.retiring, id); delete(s.records, id) },
	}
}

// Trace says what there is of a request, anywhere.
func (s *Store) Trace(id access.RequestID) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note := func(there bool, what string) {
		if there {
			out = append(out, what)
		}
	}
	_, record := s.records[id]
	note(record, "record")
	note(len(s.ended[id])+len(s.extended[id])+len(s.revoked[id]) > 0, "file")
	_, start := s.starts[id]
	note(start, "start")
	note(!s.retiring[id].IsZero(), "retiring")
	note(len(s.eventsOf(string(id))) > 0, "events")
	note(len(s.chains.seals[string(id)]) > 0 || s.chains.sent[string(id)].sent > 0, "seals")
	for _, e := range s.chains.journal {
		note(e.Seal.Subject == string(id), "journal")
	}
	for p, rows := range s.index {
		for _, r := range rows {
			note(r.entry.Request == id, "index "+p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Unfinish leaves a decision as if its Submit had been cut off.
func (s *Store) Unfinish(rec access.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[rec.ID] = rec
}

// DropNotices forgets every notice.
func (s *Store) DropNotices() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.chains.notices)
}

// LoseEnded forgets ended legs of a request.
func (s *Store) LoseEnded(id access.RequestID, which func(access.Leg) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[id] = slices.DeleteFunc(s.ended[id], which)
}

// ChangeEnded changes the ended legs of a request behind everybody's back.
func (s *Store) ChangeEnded(id access.RequestID, change func(*access.Leg)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ended[id] {
		change(&s.ended[id][i])
	}
}

// ChangeRecord changes the record of a request behind everybody's back.
func (s *Store) ChangeRecord(id access.RequestID, change func(*access.Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.records[id]
	rec.Grants = slices.Clone(rec.Grants)
	change(&rec)
	s.records[id] = rec
}
