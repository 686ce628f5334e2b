package store

import "slices"

// Query says which entities to return.
type Query struct {
	Match     func(*Entity) bool
	Partition *string // if set, nothing outside this partition can match
	Limit     int     // at most so many, at least 1
	From      *Key    // where to go on, from an earlier page; nil for the start
}

// Get returns one entity; TableNotFound or ResourceNotFound if there is none.
func (s *Store) Get(table string, k Key) (*Entity, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.table(table)
	if err != nil {
		return nil, err
	}
	if e := t.get(k); e != nil {
		return e, nil
	}
	return nil, resourceNotFound()
}

// Query returns a page in key order, and the key of the next match if there is
// one. It fails with TableNotFound. The page is a snapshot; the next one sees
// what was written in between.
func (s *Store) Query(table string, q Query) (page []*Entity, next *Key, err error) {
	s.mu.RLock()
	t, err := s.table(table)
	if err != nil {
		s.mu.RUnlock()
		return nil, nil, err
	}
	rows := t.rows
	if q.From != nil {
		i, _ := t.find(*q.From)
		rows = rows[i:]
	}
	if q.Partition != nil {
		rows = partition(rows, *q.Partition)
	}
	rows = slices.Clone(rows)
	s.mu.RUnlock()

	for _, e := range rows {
		if !q.Match(e) {
			continue
		}
		if len(page) == q.Limit {
			return page, &e.Key, nil
		}
		page = append(page, e)
	}
	return page, nil, nil
}

// partition is the part of the ordered rows that lies in one partition.
func partition(rows []*Entity, name string) []*Entity {
	start, _ := slices.BinarySearchFunc(rows, Key{Partition: name}, func(e *Entity, k Key) int { return e.Key.Compare(k) })
	rows = rows[start:]
	for i, e := range rows {
		if e.Key.Partition != name {
			return rows[:i]
		}
	}
	return rows
}
