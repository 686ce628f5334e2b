package brokertest

import (
	"maps"
	"slices"
)

// Snapshot gives what brings the store back to how it stands now: a fail-over
// to a copy that had not received the latest writes. No version comes twice, so
// that whoever read a row which is lost cannot write over the one that stands.
func (s *Store) Snapshot() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.copy()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := was.copy() // it may be called again
		s.Policies, s.records, s.pending, s.ended = now.Policies, now.records, now.pending, now.ended
		s.heads, s.legs, s.rows, s.events = now.heads, now.legs, now.rows, now.events
		s.starts, s.planned, s.revoked, s.extended = now.starts, now.planned, now.revoked, now.extended
		s.index, s.lockdown, s.retiring = now.index, now.lockdown, now.retiring
		s.tickets, s.told, s.works, s.sources, s.chains = now.tickets, now.told, now.works, now.sources, now.chains
	}
}

func (s *Store) copy() *Store {
	return &Store{
		Policies: slices.Clone(s.Policies), records: maps.Clone(s.records), pending: maps.Clone(s.pending), ended: lists(s.ended),
		heads: maps.Clone(s.heads), legs: tables(s.legs), rows: tables(s.rows), events: maps.Clone(s.events),
		starts: maps.Clone(s.starts), planned: maps.Clone(s.planned), revoked: lists(s.revoked), extended: lists(s.extended),
		index: tables(s.index), lockdown: s.lockdown, retiring: maps.Clone(s.retiring),
		tickets: maps.Clone(s.tickets), told: maps.Clone(s.told), works: maps.Clone(s.works), sources: maps.Clone(s.sources),
		chains: chains{maps.Clone(s.chains.notices), lists(s.chains.seals), maps.Clone(s.chains.sent), maps.Clone(s.chains.journal)},
	}
}

func lists[K comparable, V any](m map[K][]V) map[K][]V {
	out := map[K][]V{}
	for k, v := range m {
		out[k] = slices.Clip(slices.Clone(v))
	}
	return out
}

func tables[K comparable, V any](m map[K]map[string]V) map[K]map[string]V {
	out := map[K]map[string]V{}
	for k, v := range m {
		out[k] = maps.Clone(v)
	}
	return out
}
