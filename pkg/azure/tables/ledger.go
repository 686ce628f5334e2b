package tables

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"golang.org/x/sync/errgroup"
)

// addTries is how often legs are added anew where others add some of them at
// the same time.
const addTries = 10

// never stands for no DueAt: a column cannot be compared when it is missing.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func headRow(id access.ResourceID) row {
	return row{"PartitionKey": hash(string(id)), "RowKey": "head", "NSG": string(id)}
}

func (r row) due(t time.Time) {
	if t.IsZero() {
		t = never
	}
	r.time("DueAt", t)
}

func headOf(r row) (broker.Head, error) {
	text := func(k string) string { s, _ := r[k].(string); return s }
	when := func(k string) time.Time {
		t, err := time.Parse(time.RFC3339, text(k))
		if err != nil || !t.Before(never) {
			return time.Time{}
		}
		return t.UTC()
	}
	id, err := access.ParseResourceID(text("NSG"))
	if err != nil {
		return broker.Head{}, access.Wrap(err, access.Internal, "record_unreadable", "a stored head cannot be read")
	}
	h := broker.Head{NSG: id, Wanted: text("Wanted"), Done: text("Done"), DueAt: when("DueAt"), AsOf: when("AsOf"), At: when("Timestamp"), Trouble: text("Trouble")}
	h.Whole, _ = r["Whole"].(bool)
	h.ETag = headVersion(h.DueAt, r.etag())
	return h, nil
}

// Head implements broker.Ledger.
func (s *Store) Head(ctx context.Context, id access.ResourceID) (broker.Head, error) {
	r, err := get(ctx, s.nsg, hash(string(id)), "head")
	if access.CodeOf(err) == access.NotFound {
		return broker.Head{NSG: id}, nil
	}
	if err != nil {
		return broker.Head{}, err
	}
	return headOf(r)
}

// SaveHead implements broker.Ledger.
func (s *Store) SaveHead(ctx context.Context, h broker.Head) (saved broker.Head, err error) {
	was, etag := versionOf(h.ETag)
	h.ETag = etag
	write := func() error {
		var err error
		saved, err = s.saveHead(ctx, h)
		saved.ETag = headVersion(h.DueAt, saved.ETag)
		return err
	}
	if was != "" && was == minuteOf(h.DueAt) {
		err = write()
	} else {
		err = s.setDue(ctx, h.NSG, h.DueAt, h.Trouble != "", write)
	}
	return saved, err
}

func (s *Store) saveHead(ctx context.Context, h broker.Head) (broker.Head, error) {
	r := headRow(h.NSG)
	r["Wanted"], r["Done"], r["Trouble"], r["Whole"] = h.Wanted, h.Done, h.Trouble, h.Whole
	r.due(h.DueAt)
	if !h.AsOf.IsZero() {
		r.time("AsOf", h.AsOf)
	}
	data, err := r.bytes()
	if err != nil {
		return broker.Head{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if h.ETag == "" {
		res, err := s.nsg.AddEntity(ctx, data, nil)
		h.ETag = string(res.ETag)
		return h, failure(err, "writing a head")
	}
	etag := azcore.ETag(h.ETag)
	res, err := s.nsg.UpdateEntity(ctx, data, &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeReplace})
	h.ETag = string(res.ETag)
	if err := failure(err, "writing a head"); access.CodeOf(err) == access.NotFound {
		return h, access.Wrap(err, access.Aborted, "row_changed", "the head was removed meanwhile")
	} else if err != nil {
		return h, err
	}
	return h, nil
}

// Legs implements broker.Ledger.
func (s *Store) Legs(ctx context.Context, id access.ResourceID) ([]access.Leg, error) {
	rows, err := query(ctx, s.nsg, under(hash(string(id)), "leg-"))
	if err != nil {
		return nil, err
	}
	return legsOf(rows)
}

// LegsOf implements broker.LegFinder.
func (s *Store) LegsOf(ctx context.Context, id access.ResourceID, request access.RequestID) ([]access.Leg, error) {
	rows, err := query(ctx, s.nsg, under(hash(string(id)), "leg-"+string(request)+"-"))
	if err != nil {
		return nil, err
	}
	return legsOf(rows)
}

func legRow(l access.Leg) (row, error) {
	r, err := newRow(hash(string(l.NSG)), "leg-"+l.Key(), l)
	if err != nil {
		return nil, err
	}
	r["State"], r["VM"], r["Reason"] = string(l.State), string(l.VM), string(l.Reason)
	r.time("EndTime", l.EndTime)
	return r, nil
}

func wanted(id access.ResourceID, token string, due time.Time) (aztables.TransactionAction, error) {
	r := headRow(id)
	r["Wanted"] = token
	r.due(due)
	return action(aztables.TransactionTypeInsertMerge, r, "")
}

// AddLegs implements broker.Ledger.
func (s *Store) AddLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	missing := legs
	for range addTries {
		err := s.addLegs(ctx, id, missing, token, due)
		if access.ReasonOf(err) != "row_changed" {
			return err
		}
		// Some are there: a repeat, or one at the same time. They stay as they are.
		have, err := s.Legs(ctx, id)
		if err != nil {
			return err
		}
		missing = slices.DeleteFunc(slices.Clone(legs), func(l access.Leg) bool {
			return slices.ContainsFunc(have, func(h access.Leg) bool { return h.Key() == l.Key() })
		})
	}
	return access.Errorf(access.Aborted, "row_changed", "legs of the same request are being added by many at once")
}

func (s *Store) addLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	if len(legs) > access.MaxPorts {
		return access.Errorf(access.Internal, "too_many_legs", "more legs than one transaction may hold")
	}
	head, err := wanted(id, token, due)
	if err != nil {
		return err
	}
	actions := []aztables.TransactionAction{head}
	for _, l := range legs {
		r, err := legRow(l)
		if err != nil {
			return err
		}
		a, err := action(aztables.TransactionTypeAdd, r, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	return s.setDue(ctx, id, due, false, func() error { return submit(ctx, s.nsg, actions) })
}

// Touch implements broker.LegWriter.
func (s *Store) Touch(ctx context.Context, id access.ResourceID, token string, due time.Time) error {
	return s.addLegs(ctx, id, nil, token, due)
}

// UpdateLegs implements broker.LegWriter.
func (s *Store) UpdateLegs(ctx context.Context, _ access.ResourceID, legs []access.Leg) error {
	return s.updateLegs(legs, nil, func(actions []aztables.TransactionAction) error { return submit(ctx, s.nsg, actions) })
}

// ChangeLegs implements broker.LegWriter.
func (s *Store) ChangeLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	head, err := wanted(id, token, due)
	if err != nil {
		return err
	}
	return s.updateLegs(legs, []aztables.TransactionAction{head}, func(actions []aztables.TransactionAction) error {
		return s.setDue(ctx, id, due, false, func() error { return submit(ctx, s.nsg, actions) })
	})
}

// updateLegs writes the legs, each transaction with what goes with all of them.
func (s *Store) updateLegs(legs []access.Leg, with []aztables.TransactionAction, write func([]aztables.TransactionAction) error) error {
	for len(legs) > 0 {
		n := min(len(legs), maxTransaction-len(with))
		actions := slices.Clone(with)
		for _, l := range legs[:n] {
			if l.ETag == "" {
				return access.Errorf(access.Internal, "leg_not_read", "a leg is updated under the version that was read")
			}
			r, err := legRow(l)
			if err != nil {
				return err
			}
			a, err := action(aztables.TransactionTypeUpdateReplace, r, l.ETag)
			if err != nil {
				return err
			}
			actions = append(actions, a)
		}
		err := write(actions)
		if access.CodeOf(err) == access.NotFound {
			return access.Wrap(err, access.Aborted, "row_changed", "a leg has ended meanwhile")
		}
		if err != nil {
			return err
		}
		legs = legs[n:]
	}
	return nil
}

// endAtOnce bounds the requests whose ended legs are written side by side.
const endAtOnce = 32

// EndLegs implements broker.LegWriter: first all the ended rows, each in its
// request's partition, then the removal, so that a cut between the two leaves
// both and never neither.
func (s *Store) EndLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(endAtOnce)
	for _, l := range legs {
		g.Go(func() error {
			r, err := legRow(l)
			if err != nil {
				return err
			}
			r["PartitionKey"], r["RowKey"] = string(l.Request), "leg-"+l.Key()+"-"+hash(string(l.NSG))[:32]
			_, err = insert(gctx, s.requests, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for some := range slices.Chunk(legs, maxTransaction) {
		if err := s.removeLegs(ctx, id, some); err != nil {
			return err
		}
	}
	return nil
}

// removeLegs removes legs in one transaction, or one by one where some are gone.
func (s *Store) removeLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	if len(legs) > 1 {
		seen := map[string]bool{}
		var actions []aztables.TransactionAction
		for _, l := range legs {
			if seen[l.Key()] {
				continue // a row may be in a transaction once
			}
			seen[l.Key()] = true
			a, err := action(aztables.TransactionTypeDelete, row{"PartitionKey": hash(string(id)), "RowKey": "leg-" + l.Key()}, string(azcore.ETagAny))
			if err != nil {
				return err
			}
			actions = append(actions, a)
		}
		if err := submit(ctx, s.nsg, actions); access.CodeOf(err) != access.NotFound {
			return err
		}
	}
	for _, l := range legs {
		if err := s.removeLeg(ctx, id, l); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) removeLeg(ctx context.Context, id access.ResourceID, l access.Leg) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err := s.nsg.DeleteEntity(ctx, hash(string(id)), "leg-"+l.Key(), nil)
	if err := failure(err, "ending a leg"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}

func (s *Store) heads(ctx context.Context, filter string) ([]broker.Head, error) {
	rows, err := query(ctx, s.nsg, filter)
	if err != nil {
		return nil, err
	}
	var out []broker.Head
	for _, r := range rows {
		h, e := headOf(r)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		out = append(out, h)
	}
	return out, err
}
