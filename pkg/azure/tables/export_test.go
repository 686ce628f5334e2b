package tables

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// EnterMany writes the rows that Enter writes under a name, a hundred at a time.
func EnterMany(ctx context.Context, s *Store, name string, entries []broker.IndexEntry) error {
	var actions []aztables.TransactionAction
	for _, e := range entries {
		for _, rowOf := range []func(string, broker.IndexEntry) (row, error){entryRow, untilRow} {
			r, err := rowOf(namePartition(name), e)
			if err != nil {
				return err
			}
			a, err := action(aztables.TransactionTypeAdd, r, "")
			if err != nil {
				return err
			}
			actions = append(actions, a)
		}
	}
	return submit(ctx, s.index, actions)
}

// Partition gives the partition of an NSG.
func Partition(id access.ResourceID) string { return hash(string(id)) }

// DueRows gives the keys of the rows by which heads are found when they are due.
func DueRows(ctx context.Context, s *Store) (out []string, err error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(duePartition)+" and RowKey ne "+literal(dueWhole))
	for _, r := range rows {
		out = append(out, r.key())
	}
	return out, err
}
