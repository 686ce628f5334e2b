package tables

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// scheduledPartition holds what is to be started, in the table of what is pending:
// of each request a row under its id, and one under its time, by which it is found
// when it is due. Both are written together and removed together.
const (
	scheduledPartition = "scheduled"
	// keyAt begins no request's id.
	keyAt = "at-"
)

func startKey(at time.Time) string { return fmt.Sprintf("%s%012d", keyAt, max(at.Unix(), 0)) }

// Schedule implements broker.Starts.
func (s *Store) Schedule(ctx context.Context, id access.RequestID, at time.Time) error {
	timed := startKey(at) + "-" + string(id)
	var actions []aztables.TransactionAction
	for _, r := range []row{{"RowKey": string(id), "Timed": timed}, {"RowKey": timed, "Request": string(id)}} {
		r["PartitionKey"] = scheduledPartition
		r.time("StartAt", at)
		a, err := action(aztables.TransactionTypeAdd, r, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	if err := submit(ctx, s.pending, actions); access.ReasonOf(err) != "row_changed" {
		return err
	}
	return nil // it is noted, and stays as it is
}

// Scheduled implements broker.Starts.
func (s *Store) Scheduled(ctx context.Context, id access.RequestID) (bool, error) {
	_, err := get(ctx, s.pending, scheduledPartition, string(id))
	if access.CodeOf(err) == access.NotFound {
		return false, nil
	}
	return err == nil, err
}

// DueStarts implements broker.Starts. It reads no row of a time to come.
func (s *Store) DueStarts(ctx context.Context, now time.Time) (out []access.RequestID, err error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(scheduledPartition)+" and RowKey ge "+literal(keyAt)+" and RowKey lt "+literal(startKey(now.Add(time.Second))))
	for _, r := range rows {
		id, _ := r["Request"].(string)
		stamp, _ := r["StartAt"].(string)
		// One whose time cannot be read is due: who starts it looks at the record.
		if at, e := time.Parse(time.RFC3339Nano, stamp); e != nil || !at.After(now) {
			out = append(out, access.RequestID(id))
		}
	}
	return out, err
}

// DecideStart implements broker.Starts.
func (s *Store) DecideStart(ctx context.Context, st access.Start, events []access.Event) (access.Start, error) {
	r, err := newRow(string(st.Request), keyStart, st)
	if err != nil {
		return st, err
	}
	r["Reason"] = string(st.Reason)
	actions, err := withEvents(aztables.TransactionTypeAdd, r, "", events)
	if err != nil {
		return st, err
	}
	err = s.noted(ctx, events, func() error { return submit(ctx, s.requests, actions) })
	if access.ReasonOf(err) != "row_changed" {
		return st, err
	}
	// They were written together, so the first that exists means all exist.
	if r, err = get(ctx, s.requests, string(st.Request), keyStart); err != nil {
		return st, err
	}
	st = access.Start{}
	return st, r.doc(&st)
}

// Unschedule implements broker.Starts.
func (s *Store) Unschedule(ctx context.Context, id access.RequestID) error {
	r, err := get(ctx, s.pending, scheduledPartition, string(id))
	if access.CodeOf(err) == access.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	keys := []string{string(id)}
	if timed, _ := r["Timed"].(string); timed != "" {
		keys = append(keys, timed)
	}
	return drop(ctx, s.pending, bare(scheduledPartition, keys...))
}
