package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"golang.org/x/sync/errgroup"
)

// The heads that are due are found by an index, so that a sweep costs what is due
// and not what there is: one partition, in the table of what is pending, with a row
// for each minute in which a head was to be due. Its promise: a head that has a
// DueAt has a row for that minute. Where it is put off, having some trouble, the row
// has a key by which it is found before its minute has come.
//
// A writer writes the row, then the head: cut off between the two, it leaves a row
// too many. Whoever looks for what is due reads the rows up to now and the heads
// that they name, and removes a row when
//
//   - its head is due in another minute or not at all, as read after the row,
//   - the row was written last more than dueKept ago, and
//   - nobody has written it since it was read: it goes under its ETag.
//
// So a head that gets its DueAt after it was read here has a row written more than
// dueKept before. No writer stands by so old a row: one that needs more than
// dueWithin for the two writes writes the row once more after the head, and each
// call ends after opTimeout. What is left is a writer that is frozen for minutes
// between the two and then cut off right after the second, and a table that loses
// its last seconds in a fail-over: All, which reads every head, writes the rows
// that are missing. The delayed close and the rules' own deadlines do not depend
// on any of it.
//
// A row of its own says that the index is whole. Where it is missing (heads of a
// version that wrote no index, a table lost) every head is read, once if each of
// them can be: one that cannot has no row, and nobody but All would come upon it.
const (
	duePartition = "due"
	// dueWhole and the keys of those with some trouble sort before the minutes.
	dueWhole   = "-whole"
	dueTrouble = "-trouble-"
	// dueKept is how long a row stays at least after it was last written. It is far
	// more than dueWithin and the difference of two clocks.
	dueKept = 5 * time.Minute
	// dueWithin is how long after its row a head may be written.
	dueWithin = time.Minute
	// dueAtOnce bounds the heads that are read side by side.
	dueAtOnce = 32
)

// dueMinute begins the keys of a minute's rows, which sort by time.
func dueMinute(t time.Time) string { return fmt.Sprintf("%012d", max(0, t.Unix()/60)) }

func dueKey(of string, due time.Time) string { return dueMinute(due) + "-" + of }

// hasDue says whether the time is one at which a head is due.
func hasDue(t time.Time) bool { return !t.IsZero() && t.Before(never) }

// isDue says whether a head is one that Due gives.
func isDue(h broker.Head, now time.Time) bool {
	return hasDue(h.DueAt) && (!h.DueAt.After(now) || h.Trouble != "")
}

func dueRow(id access.ResourceID, due time.Time, trouble bool) row {
	of := hash(string(id))
	key := dueKey(of, due)
	if trouble {
		key = dueTrouble + key
	}
	return row{"PartitionKey": duePartition, "RowKey": key, "Of": of, "NSG": string(id)}
}

// A head's version says in which minute it was due when it was read. Under that
// version the row stands as long as the head does, so that who leaves the minute as
// it is, as on the way to a close, writes the head alone. Should it have come to
// trouble then, it is found once that minute has come.

func headVersion(due time.Time, etag string) string { return minuteOf(due) + " " + etag }

func versionOf(version string) (minute, etag string) {
	minute, etag, ok := strings.Cut(version, " ")
	if !ok {
		return "", version
	}
	return minute, etag
}

// minuteOf is the minute in which a head is due, "" for never.
func minuteOf(due time.Time) string {
	if !hasDue(due) {
		return ""
	}
	return dueMinute(due)
}

// setDue lets write give the NSG's head its DueAt, after the row by which Due finds it.
func (s *Store) setDue(ctx context.Context, id access.ResourceID, due time.Time, trouble bool, write func() error) error {
	if !hasDue(due) {
		return write()
	}
	began := time.Now()
	if err := s.noteDue(ctx, id, due, trouble); err != nil {
		return err
	}
	err := write() // one that failed may have landed
	// The monotonic clock stands still while the machine does, and the other may be set.
	if ended := time.Now(); ended.Sub(began) <= dueWithin && ended.Round(0).Sub(began.Round(0)) <= dueWithin {
		return err
	}
	return errors.Join(err, s.noteDue(context.WithoutCancel(ctx), id, due, trouble))
}

// noteDue writes the row even where it stands: that is what keeps it.
func (s *Store) noteDue(ctx context.Context, id access.ResourceID, due time.Time, trouble bool) error {
	return put(ctx, s.pending, dueRow(id, due, trouble), "noting when a group is due")
}

// Due implements broker.Heads. It costs one query for the rows up to now, and a
// point read for each head they name: those that are due or put off, and those whose
// DueAt passed or changed within the last minutes.
func (s *Store) Due(ctx context.Context, now time.Time) ([]broker.Head, error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(duePartition)+" and RowKey lt "+literal(dueMinute(now.Add(time.Minute))))
	not := func(h broker.Head) bool { return !isDue(h, now) }
	if err != nil {
		// What is due is due without its index; that it cannot be read is told yet.
		all, e := s.heads(ctx, "RowKey eq 'head'")
		return slices.DeleteFunc(all, not), errors.Join(err, e)
	}
	if !slices.ContainsFunc(rows, func(r row) bool { return r.key() == dueWhole }) {
		all, err := s.All(ctx)
		return slices.DeleteFunc(all, not), err
	}
	rowsOf := map[string][]row{}
	var of []string
	for _, r := range rows {
		if r.key() == dueWhole {
			continue
		}
		p, _ := r["Of"].(string)
		if rowsOf[p] == nil {
			of = append(of, p)
		}
		rowsOf[p] = append(rowsOf[p], r)
	}
	heads, errs := make([]broker.Head, len(of)), make([]error, len(of))
	var g errgroup.Group
	g.SetLimit(dueAtOnce)
	for i, p := range of {
		g.Go(func() error {
			heads[i], errs[i] = s.headDue(ctx, p, rowsOf[p])
			return nil
		})
	}
	err = errors.Join(g.Wait(), errors.Join(errs...))
	heads = slices.DeleteFunc(heads, not)
	slices.SortStableFunc(heads, func(a, b broker.Head) int { return cmp.Compare(a.DueAt.UnixNano(), b.DueAt.UnixNano()) })
	return heads, err
}

// headDue reads the head of a partition and removes those of its rows that it does
// not need any more. A partition without a head needs none.
func (s *Store) headDue(ctx context.Context, of string, rows []row) (h broker.Head, err error) {
	r, err := get(ctx, s.nsg, of, "head")
	switch {
	case access.CodeOf(err) == access.NotFound:
		err = nil
	case err != nil:
		return h, err
	default:
		if h, err = headOf(r); err != nil {
			return broker.Head{}, err
		}
	}
	for _, r := range rows {
		stamp, _ := r["Timestamp"].(string)
		written, e := time.Parse(time.RFC3339Nano, stamp)
		if e != nil || time.Since(written) <= dueKept || hasDue(h.DueAt) && strings.TrimPrefix(r.key(), dueTrouble) == dueKey(of, h.DueAt) {
			continue
		}
		err = errors.Join(err, s.dropDue(ctx, r))
	}
	return h, err
}

func (s *Store) dropDue(ctx context.Context, r row) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	etag := azcore.ETag(r.etag())
	_, err := s.pending.DeleteEntity(ctx, duePartition, r.key(), &aztables.DeleteEntityOptions{IfMatch: &etag})
	if err := failure(err, "removing what is not due any more"); access.CodeOf(err) != access.NotFound && access.CodeOf(err) != access.Aborted {
		return err
	}
	return nil
}

// All implements broker.Heads. It costs a scan of the whole table of NSGs (heads,
// live legs and baselines: nothing that has ended), in pages of a thousand rows at
// most, and one query for the rows of the index; those that are missing it writes.
func (s *Store) All(ctx context.Context) ([]broker.Head, error) {
	heads, err := s.heads(ctx, "RowKey eq 'head'")
	if err != nil && len(heads) == 0 {
		return nil, err
	}
	return heads, errors.Join(err, s.mendDue(ctx, heads, err == nil))
}

// mendDue writes the rows of the index that the heads need and that are missing; if
// these are all there are, the index is whole then. A head that has changed since it
// was read leaves a row too many.
func (s *Store) mendDue(ctx context.Context, heads []broker.Head, all bool) error {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(duePartition))
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, r := range rows {
		have[r.key()] = true
	}
	var missing []row
	for _, h := range heads {
		// The one for trouble serves where there is none any more.
		if r := dueRow(h.NSG, h.DueAt, h.Trouble != ""); hasDue(h.DueAt) && !have[r.key()] && !have[dueTrouble+r.key()] {
			have[r.key()] = true
			missing = append(missing, r)
		}
	}
	if all && !have[dueWhole] {
		// After all others: what comes first must not vouch for what follows.
		missing = append(missing, row{"PartitionKey": duePartition, "RowKey": dueWhole})
	}
	var actions []aztables.TransactionAction
	for _, r := range missing {
		a, err := action(aztables.TransactionTypeInsertReplace, r, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	return submit(ctx, s.pending, actions)
}
