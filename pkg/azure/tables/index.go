package tables

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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

// keyUntil begins the second row of an entry under a name: its place among those
// that count. It is ordered by the later of the decision and the last grant's end,
// the latest first, so that what was decided within an hour or has not ended is one
// range, however much lies behind it.
const keyUntil = "until-"

func untilKey(e broker.IndexEntry) string {
	latest := e.DecidedAt
	if until := e.Until(); until.After(latest) {
		latest = until
	}
	return keyUntil + broker.IndexEntry{DecidedAt: latest, Request: e.Request}.Position()
}

// untilRow holds no more than what is counted: every request reads those of its names.
func untilRow(partition string, e broker.IndexEntry) (row, error) {
	key := untilKey(e)
	e.VMs, e.Tickets = nil, nil
	r, err := newRow(partition, key, e)
	if err != nil {
		return nil, err
	}
	r["Request"] = string(e.Request)
	return r, nil
}

func entryRow(partition string, e broker.IndexEntry) (row, error) {
	r, err := newRow(partition, e.Position(), e)
	if err != nil {
		return nil, err
	}
	r["Outcome"], r["Requestor"] = string(e.Outcome), e.Requestor.Name
	r.time("DecidedAt", e.DecidedAt)
	return r, nil
}

// enter writes the entry to a partition. What was accepted never changes, so it is
// left as it is where it stands.
func (s *Store) enter(ctx context.Context, partition string, e broker.IndexEntry) error {
	r, err := entryRow(partition, e)
	if err != nil {
		return err
	}
	if e.Outcome == access.Accepted {
		_, err := insert(ctx, s.index, r)
		return err
	}
	return put(ctx, s.index, r, "indexing a request")
}

// enterName writes the entry's two rows under a name together. What was accepted is
// left as it is where it stands: its time of writing is its place in a count.
func (s *Store) enterName(ctx context.Context, name string, e broker.IndexEntry, also ...aztables.TransactionAction) error {
	kind := aztables.TransactionTypeInsertReplace
	if e.Outcome == access.Accepted {
		kind = aztables.TransactionTypeAdd
	}
	actions := also
	for _, rowOf := range []func(string, broker.IndexEntry) (row, error){entryRow, untilRow} {
		r, err := rowOf(namePartition(name), e)
		if err != nil {
			return err
		}
		a, err := action(kind, r, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	err := submit(ctx, s.index, actions)
	if e.Outcome == access.Accepted && access.ReasonOf(err) == "row_changed" {
		return nil
	}
	return err
}

// enterRefusal is enterName of what was claimed as accepted before it was refused:
// that one must not count any more.
func (s *Store) enterRefusal(ctx context.Context, name string, e broker.IndexEntry) (err error) {
	p := namePartition(name)
	for range addTries {
		rows, err := query(ctx, s.index, "PartitionKey eq "+literal(p)+" and RowKey ge "+literal(keyUntil)+" and RowKey lt "+literal(untilKey(e))+
			" and Request eq "+literal(string(e.Request)))
		if err != nil {
			return err
		}
		var gone []aztables.TransactionAction
		for _, r := range rows {
			a, err := action(aztables.TransactionTypeDelete, row{"PartitionKey": p, "RowKey": r.key()}, string(azcore.ETagAny))
			if err != nil {
				return err
			}
			gone = append(gone, a)
		}
		// Somebody who does the same at the same time may have removed them.
		if err = s.enterName(ctx, name, e, gone...); access.CodeOf(err) != access.NotFound {
			return err
		}
	}
	return access.Errorf(access.Aborted, "row_changed", "a refusal is being entered by many at once")
}

// Enter implements broker.Index.
func (s *Store) Enter(ctx context.Context, e broker.IndexEntry) error {
	partitions := []string{dayPartition(e.DecidedAt)}
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
	for _, name := range e.Names() {
		g.Go(func() error {
			if e.Outcome == access.Accepted {
				return s.enterName(gctx, name, e)
			}
			return s.enterRefusal(gctx, name, e)
		})
	}
	return g.Wait()
}

// Claim implements broker.Index. It reads what counts and what ended since, not
// what the names have asked for before.
func (s *Store) Claim(ctx context.Context, e broker.IndexEntry, since, now time.Time) ([]broker.IndexEntry, error) {
	_, last := broker.IndexQuery{From: since}.Bounds()
	var out []broker.IndexEntry
	for _, name := range e.Names() {
		if err := s.enterName(ctx, name, e); err != nil {
			return nil, err
		}
		rows, err := s.claims(ctx, namePartition(name), keyUntil+last)
		if err != nil {
			return nil, err
		}
		before, err := writtenBefore(rows, untilKey(e))
		if err != nil {
			return nil, err
		}
		for _, b := range before {
			if !b.DecidedAt.Before(since) || b.Until().After(now) {
				out = append(out, b)
			}
		}
	}
	return out, nil
}

// claim is what is counted of a row that counts. An entry without its machines and
// tickets fits into one column; one that did not would be an error.
type claim struct{ RowKey, Timestamp, Doc0 string }

// claims reads the rows of a name that count: of each no more than is counted.
func (s *Store) claims(ctx context.Context, partition, end string) (out []claim, err error) {
	filter := "PartitionKey eq " + literal(partition) + " and RowKey ge " + literal(keyUntil) + " and RowKey lt " + literal(end)
	columns, format := "RowKey,Timestamp,Doc0", aztables.MetadataFormatMinimal
	err = pages(ctx, s.index, &aztables.ListEntitiesOptions{Filter: &filter, Select: &columns, Format: &format}, func(data []byte) (bool, error) {
		var c claim
		err := json.Unmarshal(data, &c)
		out = append(out, c)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// writtenBefore gives the entries that were there before the one with the key,
// by the service's own clock: of any two, one counts the other. Should that clock
// ever step back, a count is off by the few that were written meanwhile.
func writtenBefore(rows []claim, key string) ([]broker.IndexEntry, error) {
	at := func(c claim) string { return strings.TrimSuffix(c.Timestamp, "Z") }
	own := ""
	for _, c := range rows {
		if c.RowKey == key {
			own = at(c)
		}
	}
	if own == "" {
		return nil, access.Errorf(access.Unavailable, "claim_missing", "what was just written is not read back")
	}
	out := make([]broker.IndexEntry, 0, len(rows))
	for _, c := range rows {
		if t := at(c); t > own || t == own && c.RowKey >= key {
			continue
		}
		var e broker.IndexEntry
		if err := json.Unmarshal([]byte(c.Doc0), &e); err != nil {
			return nil, unreadable(err)
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
