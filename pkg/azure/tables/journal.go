package tables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// journalDay is the partition of what was sealed in a day.
func journalDay(t time.Time) string { return "day-" + t.UTC().Format(time.DateOnly) }

// journalStamp is how the keys of a moment begin.
func journalStamp(t time.Time) string { return fmt.Sprintf("%019d", max(t.UnixNano(), 0)) }

// journalKey follows from the seal alone, so that entering it again changes
// nothing. It is the mark that a query goes on behind.
func journalKey(s audit.Seal) string {
	return fmt.Sprintf("%s-%s-%08d", journalStamp(s.At), hash(s.Subject)[:16], s.Seq)
}

// EnterJournal implements broker.Journal.
func (s *Store) EnterJournal(ctx context.Context, entries []broker.JournalEntry) error {
	days := map[string][]aztables.TransactionAction{}
	for _, e := range entries {
		day := journalDay(e.Seal.At)
		r, err := newRow(day, journalKey(e.Seal), e)
		if err != nil {
			return err
		}
		r["Subject"], r["Kind"], r["Actor"] = e.Seal.Subject, string(e.Kind), e.Actor
		r.time("At", e.At)
		a, err := action(aztables.TransactionTypeInsertReplace, r, "")
		if err != nil {
			return err
		}
		days[day] = append(days[day], a)
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		if err := submit(ctx, s.journal, days[day]); err != nil {
			return err
		}
	}
	return nil
}

// The days that a journal may hold.
var (
	firstDay = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDay  = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Journal implements broker.Journal. Partitions and keys both rise with the time
// of sealing, so what is asked for is one range of the table.
func (s *Store) Journal(ctx context.Context, q broker.JournalQuery) (out []broker.JournalEntry, next string, err error) {
	within := func(t, otherwise time.Time) time.Time {
		if t.Before(firstDay) || t.After(lastDay) {
			return otherwise
		}
		return t
	}
	from, to := within(q.From, firstDay), within(q.To, lastDay)
	filter := "PartitionKey ge " + literal(journalDay(from)) + " and PartitionKey le " + literal(journalDay(to)) +
		" and RowKey ge " + literal(journalStamp(from)) + " and RowKey lt " + literal(journalStamp(to))
	if at, ok := markTime(q.After); ok {
		filter += " and PartitionKey ge " + literal(journalDay(at)) + " and RowKey gt " + literal(q.After)
	}
	rows, err := queryMost(ctx, s.journal, filter, q.Most+1)
	if err != nil {
		return nil, "", err
	}
	for i, r := range rows {
		if i == q.Most {
			return out, rows[i-1].key(), nil
		}
		var e broker.JournalEntry
		if err := r.doc(&e); err != nil {
			return nil, "", err
		}
		out = append(out, e)
	}
	return out, "", nil
}

// markTime reads the time of a mark.
func markTime(mark string) (time.Time, bool) {
	var n int64
	if len(mark) < 19 {
		return time.Time{}, false
	}
	if _, err := fmt.Sscanf(mark[:19], "%019d", &n); err != nil || n < 0 {
		return time.Time{}, false
	}
	return time.Unix(0, n).UTC(), true
}
