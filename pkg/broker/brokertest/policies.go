package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// Partition implements broker.Baselines.
func (s *Store) Partition(_ context.Context, id access.ResourceID) (legs []access.Leg, rows []access.Baseline, err error) {
	err = s.do(func() error {
		for _, k := range slices.Sorted(maps.Keys(s.legs[id])) {
			legs = append(legs, s.legs[id][k])
		}
		for _, k := range slices.Sorted(maps.Keys(s.rows[id])) {
			rows = append(rows, s.rows[id][k])
		}
		return nil
	})
	return legs, rows, err
}

// SaveBaselines implements broker.Baselines.
func (s *Store) SaveBaselines(_ context.Context, id access.ResourceID, rows []access.Baseline, token string, due time.Time) error {
	return s.do(func() error {
		for _, r := range rows {
			if s.rows[id][r.Key()].ETag != r.ETag {
				return access.Errorf(access.Aborted, "row_changed", "a baseline has changed")
			}
		}
		if s.rows[id] == nil {
			s.rows[id] = map[string]access.Baseline{}
		}
		for _, r := range rows {
			r.ETag = s.etag()
			s.rows[id][r.Key()] = r
		}
		if token != "" {
			s.touch(id, token, due)
		}
		return nil
	})
}

// EndBaselines implements broker.Baselines.
func (s *Store) EndBaselines(_ context.Context, id access.ResourceID, rows []access.Baseline) error {
	return s.do(func() error {
		for _, r := range rows {
			if have, ok := s.rows[id][r.Key()]; ok && have.ETag != r.ETag {
				return access.Errorf(access.Aborted, "row_changed", "a baseline has changed")
			}
			delete(s.rows[id], r.Key())
		}
		return nil
	})
}

// ListPolicies implements broker.PolicyStore.
func (s *Store) ListPolicies(_ context.Context, subscription string) (out []policy.AccessPolicy, err error) {
	err = s.do(func() error {
		for _, p := range s.Policies {
			if subscription == "" || p.Scope.Subscription() == subscription {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// GetPolicy implements broker.PolicyStore.
func (s *Store) GetPolicy(_ context.Context, scope access.ResourceID) (p policy.AccessPolicy, err error) {
	err = s.do(func() error {
		i := s.at(scope)
		if i < 0 {
			return access.Errorf(access.NotFound, "row_missing", "no such policy")
		}
		p = s.Policies[i]
		return nil
	})
	return p, err
}

func (s *Store) at(scope access.ResourceID) int {
	return slices.IndexFunc(s.Policies, func(p policy.AccessPolicy) bool { return p.Scope == scope })
}

// SavePolicy implements broker.PolicyStore.
func (s *Store) SavePolicy(_ context.Context, p policy.AccessPolicy, version string) (policy.AccessPolicy, error) {
	err := s.do(func() error {
		i := s.at(p.Scope)
		if i < 0 && version != "" || i >= 0 && s.Policies[i].Version != version {
			return access.Errorf(access.ConditionFailed, "policy_changed", "the policy has changed")
		}
		p.Version = fmt.Sprint("stored-", s.etag())
		if i < 0 {
			s.Policies = append(s.Policies, p)
		} else {
			s.Policies[i] = p
		}
		return nil
	})
	return p, err
}

// DeletePolicy implements broker.PolicyStore.
func (s *Store) DeletePolicy(_ context.Context, scope access.ResourceID, version string) error {
	return s.do(func() error {
		i := s.at(scope)
		if i < 0 {
			return nil
		}
		if s.Policies[i].Version != version {
			return access.Errorf(access.ConditionFailed, "policy_changed", "the policy has changed")
		}
		s.Policies = slices.Delete(s.Policies, i, i+1)
		return nil
	})
}

// List implements broker.MachineLister.
func (a *Azure) List(_ context.Context, subscription string) (out []broker.Machine, err error) {
	err = a.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(a.Machines)) {
			if id.Subscription() == subscription {
				out = append(out, a.Machines[id])
			}
		}
		return nil
	})
	return out, err
}
