package tables

import (
	"context"

	"github.com/portcullis-access/portcullis/pkg/access"
)

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
