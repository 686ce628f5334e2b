package brokertest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// indexRow is an entry with the order in which it came.
type indexRow struct {
	entry broker.IndexEntry
	seq   int
}

// File implements broker.Files.
func (s *Store) File(_ context.Context, id access.RequestID) (f access.File, err error) {
	err = s.do(func() error {
		rec, kept := s.records[id]
		f = access.File{Record: rec, Ended: slices.Clone(s.ended[id]), Revoked: slices.Clone(s.revoked[id]), ExtendedBy: slices.Clone(s.extended[id])}
		if st, ok := s.starts[id]; ok {
			f.Start = &st
		}
		if !kept && f.Start == nil && len(f.Ended)+len(f.Revoked)+len(f.ExtendedBy) == 0 {
			return access.Errorf(access.NotFound, "row_missing", "no such request")
		}
		return nil
	})
	return f, err
}

// Revoke implements broker.Marks.
func (s *Store) Revoke(_ context.Context, id access.RequestID, revocations []access.Revocation) error {
	return s.do(func() error {
		for _, r := range revocations {
			if !slices.ContainsFunc(s.revoked[id], func(have access.Revocation) bool { return have.Grant == r.Grant }) {
				s.revoked[id] = append(s.revoked[id], r)
			}
		}
		return nil
	})
}

// Extended implements broker.Marks.
func (s *Store) Extended(_ context.Context, id, by access.RequestID) error {
	return s.do(func() error {
		if !slices.Contains(s.extended[id], by) {
			s.extended[id] = append(s.extended[id], by)
		}
		return nil
	})
}

// Schedule implements broker.Starts.
func (s *Store) Schedule(_ context.Context, id access.RequestID, at time.Time) error {
	return s.do(func() error { s.planned[id] = at; return nil })
}

// Scheduled implements broker.Starts.
func (s *Store) Scheduled(_ context.Context, id access.RequestID) (there bool, err error) {
	err = s.do(func() error { _, there = s.planned[id]; return nil })
	return there, err
}

// DueStarts implements broker.Starts.
func (s *Store) DueStarts(_ context.Context, now time.Time) (out []access.RequestID, err error) {
	err = s.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(s.planned)) {
			if !s.planned[id].After(now) {
				out = append(out, id)
			}
		}
		return nil
	})
	return out, err
}

// DecideStart implements broker.Starts.
func (s *Store) DecideStart(_ context.Context, st access.Start, events []access.Event) (stored access.Start, err error) {
	if err := s.note(events); err != nil {
		return stored, err
	}
	err = s.do(func() error {
		if _, ok := s.starts[st.Request]; !ok {
			s.starts[st.Request] = st
			s.append(events)
		}
		stored = s.starts[st.Request]
		return nil
	})
	return stored, err
}

// Unschedule implements broker.Starts.
func (s *Store) Unschedule(_ context.Context, id access.RequestID) error {
	return s.do(func() error { delete(s.planned, id); return nil })
}

func (s *Store) enter(partition string, e broker.IndexEntry) {
	if s.index[partition] == nil {
		s.index[partition] = map[string]indexRow{}
	}
	have, ok := s.index[partition][e.Position()]
	if ok && e.Outcome == access.Accepted {
		return
	}
	s.version++
	s.index[partition][e.Position()] = indexRow{e, cmp.Or(have.seq, s.version)}
}

// Claim implements broker.Index.
func (s *Store) Claim(_ context.Context, e broker.IndexEntry, since, now time.Time) (out []broker.IndexEntry, err error) {
	for _, name := range e.Names() {
		if err := s.do(func() error { s.enter("name/"+name, e); return nil }); err != nil {
			return nil, err
		}
		if err := s.do(func() error {
			own := s.index["name/"+name][e.Position()].seq
			for _, r := range s.index["name/"+name] {
				if r.seq < own && (!r.entry.DecidedAt.Before(since) || r.entry.Until().After(now)) {
					out = append(out, r.entry)
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Enter implements broker.Index.
func (s *Store) Enter(_ context.Context, e broker.IndexEntry) error {
	partitions := []string{"all"}
	for _, name := range e.Names() {
		partitions = append(partitions, "name/"+name)
	}
	for _, vm := range e.VMs {
		partitions = append(partitions, "vm/"+string(vm))
	}
	for _, t := range e.Tickets {
		partitions = append(partitions, "ticket/"+t.String())
	}
	for _, p := range partitions {
		if err := s.do(func() error { s.enter(p, e); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Entries implements broker.Index.
func (s *Store) Entries(_ context.Context, q broker.IndexQuery) (out []broker.IndexEntry, err error) {
	partition := "all"
	switch {
	case q.Name != "":
		partition = "name/" + access.FoldName(q.Name)
	case q.VM != "":
		partition = "vm/" + string(q.VM)
	case !q.Ticket.Zero():
		partition = "ticket/" + q.Ticket.String()
	}
	err = s.do(func() error {
		first, last := q.Bounds()
		for _, at := range slices.Sorted(maps.Keys(s.index[partition])) {
			if at >= first && at < last && len(out) < q.Most {
				out = append(out, s.index[partition][at].entry)
			}
		}
		return nil
	})
	return out, err
}

// Lockdown implements broker.Lockdowns.
func (s *Store) Lockdown(context.Context) (l access.Lockdown, err error) {
	err = s.do(func() error { l = s.lockdown; return nil })
	return l, err
}

// SetLockdown implements broker.Lockdowns.
func (s *Store) SetLockdown(_ context.Context, l access.Lockdown, events []access.Event) error {
	// As in the tables: shutting every door waits for no notice.
	if err := s.Note([]access.Event{{Subject: broker.SubjectLockdown}}); err != nil && (!l.Active || l.Told) {
		return err
	}
	return s.do(func() error {
		if s.lockdown.ETag != l.ETag {
			return access.Errorf(access.Aborted, "row_changed", "the lockdown has changed")
		}
		s.lockdown = l
		s.lockdown.ETag = s.etag()
		s.append(events)
		return nil
	})
}

// PromptStart implements broker.StartPrompts.
func (b *Bus) PromptStart(_ context.Context, id access.RequestID, at time.Time) error {
	return b.Do(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.starts = append(b.starts, StartPrompted{id, at})
		return nil
	})
}

// StartPrompted is a start that was asked for.
type StartPrompted struct {
	Request access.RequestID
	At      time.Time
}

// TakeStarts gives the asked starts that are due at the time and forgets them.
func (b *Bus) TakeStarts(now time.Time) (due []StartPrompted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starts = slices.DeleteFunc(b.starts, func(p StartPrompted) bool {
		if p.At.After(now) {
			return false
		}
		due = append(due, p)
		return true
	})
	return due
}
