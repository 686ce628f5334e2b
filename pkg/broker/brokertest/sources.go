package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// Source implements broker.Sources.
func (s *Store) Source(_ context.Context, name string) (out ticket.Source, err error) {
	err = s.do(func() error {
		var ok bool
		if out, ok = s.sources[name]; !ok {
			return access.Errorf(access.NotFound, "row_missing", "no such source")
		}
		return nil
	})
	return out, err
}

// ListSources implements broker.Sources.
func (s *Store) ListSources(context.Context) (out []ticket.Source, err error) {
	err = s.do(func() error {
		for _, name := range slices.Sorted(maps.Keys(s.sources)) {
			out = append(out, s.sources[name])
		}
		return nil
	})
	return out, err
}

func (s *Store) sourceAt(name, version string) error {
	if s.sources[name].Version != version {
		return access.Errorf(access.ConditionFailed, "source_changed", "the source has changed")
	}
	return nil
}

// SaveSource implements broker.Sources.
func (s *Store) SaveSource(_ context.Context, in ticket.Source, version string) (ticket.Source, error) {
	err := s.do(func() error {
		if err := s.sourceAt(in.Name, version); err != nil {
			return err
		}
		in.Version = fmt.Sprint("stored-", s.etag())
		s.sources[in.Name] = in
		return nil
	})
	return in, err
}

// DeleteSource implements broker.Sources.
func (s *Store) DeleteSource(_ context.Context, name, version string) error {
	return s.do(func() error {
		if _, ok := s.sources[name]; !ok {
			return nil
		}
		if err := s.sourceAt(name, version); err != nil {
			return err
		}
		delete(s.sources, name)
		return nil
	})
}
