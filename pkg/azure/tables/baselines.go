package tables

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// Partition implements broker.Baselines.
func (s *Store) Partition(ctx context.Context, id access.ResourceID) ([]access.Leg, []access.Baseline, error) {
	rows, err := query(ctx, s.nsg, "PartitionKey eq "+literal(hash(string(id))))
	if err != nil {
		return nil, nil, err
	}
	var legs []row
	var baselines []access.Baseline
	for _, r := range rows {
		switch {
		case strings.HasPrefix(r.key(), "leg-"):
			legs = append(legs, r)
		case strings.HasPrefix(r.key(), "baseline-"):
			var b access.Baseline
			if err := r.doc(&b); err != nil {
				return nil, nil, err
			}
			b.ETag = r.etag()
			baselines = append(baselines, b)
		}
	}
	l, err := legsOf(legs)
	return l, baselines, err
}

func baselineRow(b access.Baseline) (row, error) {
	r, err := newRow(hash(string(b.NSG)), "baseline-"+hash(b.Key()), b)
	if err != nil {
		return nil, err
	}
	r["State"], r["VM"], r["Scope"] = string(b.State), string(b.VM), string(b.Scope)
	return r, nil
}

// SaveBaselines implements broker.Baselines.
func (s *Store) SaveBaselines(ctx context.Context, id access.ResourceID, rows []access.Baseline, token string, due time.Time) error {
	if len(rows) > access.MaxPorts {
		return access.Errorf(access.Internal, "too_many_baselines", "more baselines than one transaction may hold")
	}
	var actions []aztables.TransactionAction
	if token != "" {
		head, err := wanted(id, token, due)
		if err != nil {
			return err
		}
		actions = append(actions, head)
	}
	for _, b := range rows {
		r, err := baselineRow(b)
		if err != nil {
			return err
		}
		kind := aztables.TransactionTypeUpdateReplace
		if b.ETag == "" {
			kind = aztables.TransactionTypeAdd
		}
		a, err := action(kind, r, b.ETag)
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	if token == "" {
		due = time.Time{} // no head is written
	}
	err := s.setDue(ctx, id, due, false, func() error { return submit(ctx, s.nsg, actions) })
	if access.CodeOf(err) == access.NotFound {
		return access.Wrap(err, access.Aborted, "row_changed", "a baseline was lifted meanwhile")
	}
	return err
}

// EndBaselines implements broker.Baselines.
func (s *Store) EndBaselines(ctx context.Context, id access.ResourceID, rows []access.Baseline) error {
	for _, b := range rows {
		if err := s.endBaseline(ctx, id, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) endBaseline(ctx context.Context, id access.ResourceID, b access.Baseline) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	etag := azcore.ETag(b.ETag)
	_, err := s.nsg.DeleteEntity(ctx, hash(string(id)), "baseline-"+hash(b.Key()), &aztables.DeleteEntityOptions{IfMatch: &etag})
	if err := failure(err, "lifting a baseline"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}
