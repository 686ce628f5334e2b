package tables

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// The keys of a request's rows. Those of its chain, "chain-" and "event-", sort
// before all others, so that a file is one range: leg-…, next-…, request, revoked-…, start.
const (
	keyNext    = "next-"
	keyRevoked = "revoked-"
	keyStart   = "start"
	fromFile   = "leg-"
)

// File implements broker.Files.
func (s *Store) File(ctx context.Context, id access.RequestID) (f access.File, err error) {
	rows, err := query(ctx, s.requests, "PartitionKey eq "+literal(string(id))+" and RowKey ge "+literal(fromFile))
	if err != nil {
		return f, err
	}
	if len(rows) == 0 {
		return f, access.Errorf(access.NotFound, "row_missing", "nothing is kept of the request")
	}
	var legs, next []row
	for _, r := range rows {
		switch key := r.key(); {
		case key == "request":
			err = r.doc(&f.Record)
		case key == keyStart:
			f.Start = &access.Start{}
			err = r.doc(f.Start)
		case strings.HasPrefix(key, keyRevoked):
			var v access.Revocation
			err = r.doc(&v)
			f.Revoked = append(f.Revoked, v)
		case strings.HasPrefix(key, keyNext):
			next = append(next, r)
		case strings.HasPrefix(key, fromFile):
			legs = append(legs, r)
		}
		if err != nil {
			return f, err
		}
	}
	stamp := func(r row) string { t, _ := r["Timestamp"].(string); return strings.TrimSuffix(t, "Z") }
	slices.SortStableFunc(next, func(a, b row) int { return cmp.Compare(stamp(a), stamp(b)) })
	for _, r := range next {
		f.ExtendedBy = append(f.ExtendedBy, access.RequestID(strings.TrimPrefix(r.key(), keyNext)))
	}
	f.Ended, err = legsOf(legs)
	return f, err
}

// Revoke implements broker.Marks.
func (s *Store) Revoke(ctx context.Context, id access.RequestID, revocations []access.Revocation) error {
	var rows []row
	var actions []aztables.TransactionAction
	for _, v := range revocations {
		r, err := newRow(string(id), fmt.Sprintf("%s%02d", keyRevoked, v.Grant), v)
		if err != nil {
			return err
		}
		a, err := action(aztables.TransactionTypeAdd, r, "")
		if err != nil {
			return err
		}
		rows, actions = append(rows, r), append(actions, a)
	}
	err := submit(ctx, s.requests, actions)
	if access.ReasonOf(err) != "row_changed" {
		return err
	}
	// Some are there, and stay.
	for _, r := range rows {
		if _, err := insert(ctx, s.requests, r); err != nil {
			return err
		}
	}
	return nil
}

// Extended implements broker.Marks.
func (s *Store) Extended(ctx context.Context, id, by access.RequestID) error {
	_, err := insert(ctx, s.requests, row{"PartitionKey": string(id), "RowKey": keyNext + string(by)})
	return err
}

// withEvents makes the transaction that writes a row together with its events.
func withEvents(kind aztables.TransactionType, r row, etag string, events []access.Event) ([]aztables.TransactionAction, error) {
	first, err := action(kind, r, etag)
	if err != nil {
		return nil, err
	}
	actions := []aztables.TransactionAction{first}
	for _, e := range events {
		with, err := eventActions(e)
		if err != nil {
			return nil, err
		}
		actions = append(actions, with...)
	}
	return actions, nil
}

// lockdownPartition holds the lockdown and its events.
const (
	lockdownPartition = "lockdown"
	lockdownRow       = "now"
)

// Lockdown implements broker.Lockdowns.
func (s *Store) Lockdown(ctx context.Context) (l access.Lockdown, err error) {
	r, err := get(ctx, s.requests, lockdownPartition, lockdownRow)
	if access.CodeOf(err) == access.NotFound {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	err = r.doc(&l)
	l.ETag = r.etag()
	return l, err
}

// SetLockdown implements broker.Lockdowns.
func (s *Store) SetLockdown(ctx context.Context, l access.Lockdown, events []access.Event) error {
	r, err := newRow(lockdownPartition, lockdownRow, l)
	if err != nil {
		return err
	}
	kind := aztables.TransactionTypeUpdateReplace
	if l.ETag == "" {
		kind = aztables.TransactionTypeAdd
	}
	r["Active"] = l.Active
	actions, err := withEvents(kind, r, l.ETag, events)
	if err != nil {
		return err
	}
	// Shutting every door must not wait for a notice. Should it be missing, it is
	// written with what follows: that all were told, or that the lockdown is lifted.
	if err := s.note(ctx, lockdownPartition); err != nil && (!l.Active || l.Told) {
		return err
	}
	err = submit(ctx, s.requests, actions)
	if err == nil && s.told != nil {
		s.told(lockdownPartition)
	}
	if access.CodeOf(err) == access.NotFound {
		return access.Wrap(err, access.Aborted, "row_changed", "the lockdown has changed")
	}
	return err
}
