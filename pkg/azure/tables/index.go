package tables

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"golang.org/x/sync/errgroup"
)

// enterAtOnce bounds the rows of one entry that are written side by side.
const enterAtOnce = 8

// dayPartition holds all entries of a day. Like the positions within it, the
// later sorts first, so that a range of days is read newest first.
func dayPartition(t time.Time) string { return fmt.Sprintf("all-%06d", 999_999-t.Unix()/86_400) }

func namePartition(name string) string { return "name-" + hash(access.FoldName(name)) }

func vmPartition(vm access.ResourceID) string { return "vm-" + hash(string(vm)) }

func vouchedPartition(id access.TicketID) string { return "ticket-" + hash(id.String()) }

// enter writes the entry to a partition. What was accepted never changes, so it is
// left as it is where it stands; its time of writing is its place in a count.
func (s *Store) enter(ctx context.Context, partition string, e broker.IndexEntry) error {
	r, err := newRow(partition, e.Position(), e)
	if err != nil {
		return err
	}
	r["Outcome"], r["Requestor"] = string(e.Outcome), e.Requestor.Name
	r.time("DecidedAt", e.DecidedAt)
	until := e.Until()
	if until.Before(e.DecidedAt) {
		until = e.DecidedAt // a column must not be missing, nor lie before 1601
	}
	r.time("Until", until)
	if e.Outcome == access.Accepted {
		_, err := insert(ctx, s.index, r)
		return err
	}
	data, err := r.bytes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = s.index.UpsertEntity(ctx, data, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	return failure(err, "indexing a request")
}

// Enter implements broker.Index.
func (s *Store) Enter(ctx context.Context, e broker.IndexEntry) error {
	partitions := []string{dayPartition(e.DecidedAt)}
	for _, name := range e.Names() {
		partitions = append(partitions, namePartition(name))
	}
	for _, vm := range e.VMs {
		partitions = append(partitions, vmPartition(vm))
	}
	for _, t := range e.Tickets {
		partitions = append(partitions, vouchedPartition(t))
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(enterAtOnce)
	for _, p := range partitions {
		g.Go(func() error { return s.enter(gctx, p, e) })
	}
	return g.Wait()
}

// Claim implements broker.Index.
func (s *Store) Claim(ctx context.Context, e broker.IndexEntry, since, now time.Time) ([]broker.IndexEntry, error) {
	_, last := broker.IndexQuery{From: now.Add(-broker.LiveWithin)}.Bounds()
	stamp := func(t time.Time) string { return "datetime" + literal(t.UTC().Format(time.RFC3339Nano)) }
	var out []broker.IndexEntry
	for _, name := range e.Names() {
		p := namePartition(name)
		if err := s.enter(ctx, p, e); err != nil {
			return nil, err
		}
		rows, err := query(ctx, s.index, "PartitionKey eq "+literal(p)+" and RowKey lt "+literal(last)+
			" and (DecidedAt ge "+stamp(since)+" or Until gt "+stamp(now)+")")
		if err != nil {
			return nil, err
		}
		before, err := writtenBefore(rows, e.Position())
		if err != nil {
			return nil, err
		}
		out = append(out, before...)
	}
	return out, nil
}

// writtenBefore gives the entries that were there before the one at the position,
// by the service's own clock: of any two, one counts the other. Should that clock
// ever step back, a count is off by the few that were written meanwhile.
func writtenBefore(rows []row, position string) ([]broker.IndexEntry, error) {
	at := func(r row) string { t, _ := r["Timestamp"].(string); return strings.TrimSuffix(t, "Z") }
	own := ""
	for _, r := range rows {
		if r.key() == position {
			own = at(r)
		}
	}
	if own == "" {
		return nil, access.Errorf(access.Unavailable, "claim_missing", "what was just written is not read back")
	}
	var out []broker.IndexEntry
	for _, r := range rows {
		if t := at(r); t > own || t == own && r.key() >= position {
			continue
		}
		var e broker.IndexEntry
		if err := r.doc(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Entries implements broker.Index.
func (s *Store) Entries(ctx context.Context, q broker.IndexQuery) ([]broker.IndexEntry, error) {
	first, last := q.Bounds()
	filter := " and RowKey ge " + literal(first) + " and RowKey lt " + literal(last)
	switch {
	case q.Name != "":
		filter = "PartitionKey eq " + literal(namePartition(q.Name)) + filter
	case q.VM != "":
		filter = "PartitionKey eq " + literal(vmPartition(q.VM)) + filter
	case !q.Ticket.Zero():
		filter = "PartitionKey eq " + literal(vouchedPartition(q.Ticket)) + filter
	default:
		newest, oldest := "all-000000", "all-999999"
		if t, ok := broker.PositionTime(first); ok {
			newest = dayPartition(t)
		}
		if !q.From.IsZero() {
			oldest = dayPartition(q.From)
		}
		filter = "PartitionKey ge " + literal(newest) + " and PartitionKey le " + literal(oldest) + filter
	}
	rows, err := queryMost(ctx, s.index, filter, q.Most)
	if err != nil {
		return nil, err
	}
	var out []broker.IndexEntry
	for _, r := range rows {
		var e broker.IndexEntry
		if err := r.doc(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
