package store

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// Store holds the tables of one account. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu     sync.RWMutex
	tables map[string]*table // by lower-case name
	last   edm.Ticks         // the newest timestamp given out
}

type table struct {
	name     string    // as created
	rows     []*Entity // ordered by key
	policies []AccessPolicy
}

// AccessPolicy is one stored access policy of a table; the times are kept as
// they were sent and are empty if they were not.
type AccessPolicy struct {
	ID, Start, Expiry, Permission string
}

// New makes an empty store that reads the time from now.
func New(now func() time.Time) *Store {
	return &Store{now: now, tables: map[string]*table{}}
}

// CreateTable creates a table. It fails with TableAlreadyExists (names differ
// by more than case) or by the naming rules.
func (s *Store) CreateTable(name string) error {
	if err := checkTableName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	if _, ok := s.tables[key]; ok {
		return tableerr.New(tableerr.TableAlreadyExists, "The table specified already exists.")
	}
	s.tables[key] = &table{name: name}
	return nil
}

// DeleteTable deletes a table with its entities. A table that does not exist is
// ResourceNotFound, not TableNotFound, as in Storage.
func (s *Store) DeleteTable(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	if _, ok := s.tables[key]; !ok {
		return resourceNotFound()
	}
	delete(s.tables, key)
	return nil
}

// TableName is the name of a table as it was created; ResourceNotFound if there
// is none.
func (s *Store) TableName(name string) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t, ok := s.tables[strings.ToLower(name)]; ok {
		return t.name, nil
	}
	return "", resourceNotFound()
}

// Tables lists at most limit table names that pass match, in order of their
// names without case, starting at from; next is where to go on, empty at the end.
func (s *Store) Tables(match func(name string) bool, limit int, from string) (names []string, next string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, key := range slices.Sorted(maps.Keys(s.tables)) {
		if key < strings.ToLower(from) || !match(s.tables[key].name) {
			continue
		}
		if len(names) == limit {
			return names, key
		}
		names = append(names, s.tables[key].name)
	}
	return names, ""
}

// Policies returns a table's stored access policies; TableNotFound if there is
// no such table.
func (s *Store) Policies(name string) ([]AccessPolicy, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.table(name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(t.policies), nil
}

// SetPolicies replaces a table's stored access policies; TableNotFound if there
// is no such table.
func (s *Store) SetPolicies(name string, policies []AccessPolicy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.table(name)
	if err != nil {
		return err
	}
	t.policies = slices.Clone(policies)
	return nil
}

// table needs s.mu.
func (s *Store) table(name string) (*table, error) {
	if t, ok := s.tables[strings.ToLower(name)]; ok {
		return t, nil
	}
	return nil, tableerr.New(tableerr.TableNotFound, "The table specified does not exist.")
}

// tick needs s.mu for writing. It never gives the same timestamp twice, so that
// every write changes the ETag even if the clock stands still or goes back.
func (s *Store) tick() edm.Ticks {
	s.last = max(s.last+1, edm.TicksOf(s.now()))
	return s.last
}

func (t *table) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(t.rows, k, func(e *Entity, k Key) int { return e.Key.Compare(k) })
}

func (t *table) get(k Key) *Entity {
	if i, ok := t.find(k); ok {
		return t.rows[i]
	}
	return nil
}

// put stores e under its key; a nil e removes k.
func (t *table) put(k Key, e *Entity) {
	i, found := t.find(k)
	switch {
	case e == nil && found:
		t.rows = slices.Delete(t.rows, i, i+1)
	case e != nil && found:
		t.rows[i] = e
	case e != nil:
		t.rows = slices.Insert(t.rows, i, e)
	}
}

func resourceNotFound() error {
	return tableerr.New(tableerr.ResourceNotFound, "The specified resource does not exist.")
}
