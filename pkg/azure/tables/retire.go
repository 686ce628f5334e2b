package tables

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// keyRetiring is the row by which it is noted that a request is being retired. It
// is among those of its file, which leaves it out.
const keyRetiring = "retiring"

// OldDay implements broker.OldIndex. Partitions can be listed from the newest day
// alone, so the oldest is found by halves: each step asks for one row of a range.
func (s *Store) OldDay(ctx context.Context, from, to time.Time) (time.Time, bool, error) {
	day := func(n int64) time.Time { return time.Unix(n*86_400, 0).UTC() }
	low, high := max(from.Unix()/86_400, 0), max(to.Unix()/86_400, 0)
	within := func(low, high int64) (bool, error) {
		if low > high {
			return false, nil
		}
		rows, err := queryMost(ctx, s.index, "PartitionKey ge "+literal(dayPartition(day(high)))+" and PartitionKey le "+literal(dayPartition(day(low))), 1)
		return len(rows) > 0, err
	}
	if ok, err := within(low, high); err != nil || !ok {
		return time.Time{}, false, err
	}
	for low < high { // there is one from low to high, and none before low
		middle := low + (high-low)/2
		ok, err := within(low, middle)
		if err != nil {
			return time.Time{}, false, err
		}
		if ok {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return day(low), true, nil
}

// ForgetEntry implements broker.OldIndex.
func (s *Store) ForgetEntry(ctx context.Context, e broker.IndexEntry) error {
	for _, name := range e.Names() {
		if err := drop(ctx, s.index, bare(namePartition(name), e.Position(), untilKey(e))); err != nil {
			return err
		}
	}
	partitions := []string{}
	for _, vm := range e.VMs {
		partitions = append(partitions, vmPartition(vm))
	}
	for _, t := range e.Tickets {
		partitions = append(partitions, vouchedPartition(t))
	}
	for _, p := range append(partitions, dayPartition(e.DecidedAt)) {
		if err := drop(ctx, s.index, bare(p, e.Position())); err != nil {
			return err
		}
	}
	return nil
}

// ForgetHead implements broker.HeadRetirements. Rows of the index that name it go
// when a sweep comes to them.
func (s *Store) ForgetHead(ctx context.Context, h broker.Head) error {
	_, etag := versionOf(h.ETag)
	if etag == "" {
		return access.Errorf(access.Internal, "head_not_read", "a head is removed under the version that was read")
	}
	r := headRow(h.NSG)
	r["odata.etag"] = etag
	return dropOne(ctx, s.nsg, r)
}

// Retiring implements broker.Retirements.
func (s *Store) Retiring(ctx context.Context, id access.RequestID) (decidedAt time.Time, err error) {
	r, err := get(ctx, s.requests, string(id), keyRetiring)
	if access.CodeOf(err) == access.NotFound {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return decidedAt, r.doc(&decidedAt)
}

// MarkRetiring implements broker.Retirements.
func (s *Store) MarkRetiring(ctx context.Context, id access.RequestID, decidedAt time.Time) error {
	r, err := newRow(string(id), keyRetiring, decidedAt)
	if err != nil {
		return err
	}
	return put(ctx, s.requests, r, "noting that a request is being retired")
}

// DropJournal implements broker.Retirements.
func (s *Store) DropJournal(ctx context.Context, seals []audit.Seal) error {
	days := map[string][]string{}
	for _, seal := range seals {
		days[journalDay(seal.At)] = append(days[journalDay(seal.At)], journalKey(seal))
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		for keys := range slices.Chunk(days[day], maxTransaction) {
			if err := drop(ctx, s.journal, bare(day, keys...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ForgetRequest implements broker.Retirements. Each row goes under the ETag that
// was read: whoever runs at the same time must not remove what was written anew.
func (s *Store) ForgetRequest(ctx context.Context, id access.RequestID) error {
	rows, err := query(ctx, s.requests, "PartitionKey eq "+literal(string(id)))
	if err != nil {
		return err
	}
	last := func(r row) int {
		switch r.key() {
		case "request":
			return 2
		case keyRetiring:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(rows, func(a, b row) int { return last(a) - last(b) })
	// The first transaction is the short one, so that the last has both of these.
	for len(rows) > 0 {
		n := len(rows) % maxTransaction
		if n == 0 {
			n = maxTransaction
		}
		if err := drop(ctx, s.requests, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// bare makes rows of one partition that are no more than their keys.
func bare(partition string, keys ...string) (out []row) {
	for _, k := range keys {
		out = append(out, row{"PartitionKey": partition, "RowKey": k, "odata.etag": string(azcore.ETagAny)})
	}
	return out
}

// drop removes rows of one partition, at most a hundred, in one transaction, or one
// by one where some are gone; those that are twice in the list once.
func drop(ctx context.Context, c *aztables.Client, rows []row) error {
	seen := map[string]bool{}
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		twice := seen[r.key()]
		seen[r.key()] = true
		return twice
	})
	if len(rows) > 1 {
		var actions []aztables.TransactionAction
		for _, r := range rows {
			a, err := action(aztables.TransactionTypeDelete, row{"PartitionKey": r["PartitionKey"], "RowKey": r.key()}, r.etag())
			if err != nil {
				return err
			}
			actions = append(actions, a)
		}
		if err := submit(ctx, c, actions); access.CodeOf(err) != access.NotFound {
			return err
		}
	}
	for _, r := range rows {
		if err := dropOne(ctx, c, r); err != nil {
			return err
		}
	}
	return nil
}

func dropOne(ctx context.Context, c *aztables.Client, r row) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	partition, _ := r["PartitionKey"].(string)
	etag := azcore.ETag(r.etag())
	_, err := c.DeleteEntity(ctx, partition, r.key(), &aztables.DeleteEntityOptions{IfMatch: &etag})
	if err := failure(err, "removing a row"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}
