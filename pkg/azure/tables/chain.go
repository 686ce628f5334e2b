package tables

import (
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
)

// The keys of a subject's chain lie in one range, before those of a file:
// chain-00000001, chain-00000002, …, chain-sent, chain-unsealed-…, event-….
//
// An event is written together with a copy under chain-unsealed-, which goes
// together with the writing of its seal: so whoever seals reads what is new, and not
// what there is.
const (
	keyChain    = "chain-"
	keySent     = keyChain + "sent"
	keyUnsealed = keyChain + "unsealed-"
	keyEvent    = "event-"
)

func sealKey(seq int) string { return fmt.Sprintf("%s%08d", keyChain, seq) }

// eventKey is how the keys of an event end.
func eventKey(id string) string { return hash(id)[:32] }

// unsentPartition holds the notices, in the table of what is pending.
const unsentPartition = "unsent"

// subject is the partition of a subject's events: a request's id as it is, and a
// hash of what may hold characters that no key may.
func subject(of string) string {
	switch {
	case strings.HasPrefix(of, "/"):
		return "nsg-" + hash(of)
	case plain.MatchString(of):
		return of
	}
	return "of-" + hash(of)
}

// Telling gives the store as one that tells of every subject that an event was
// written of. What is told must not wait.
func (s *Store) Telling(tell func(subject string)) *Store {
	out := *s
	out.told = tell
	return &out
}

// note writes the notices of subjects, by one transaction for a hundred of them.
func (s *Store) note(ctx context.Context, subjects ...string) error {
	var actions []aztables.TransactionAction
	for _, of := range subjects {
		a, err := action(aztables.TransactionTypeInsertReplace, row{"PartitionKey": unsentPartition, "RowKey": hash(of), "Subject": of, "Seen": false}, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	return submit(ctx, s.pending, actions)
}

// noted writes the notices of the events' subjects, then lets the events be
// written, and then tells of them. This order is what keeps an event from being
// lost: whoever finds no notice knows that nothing is there to be sent, and a
// writer who is cut off leaves one behind.
func (s *Store) noted(ctx context.Context, events []access.Event, write func() error) error {
	var subjects []string
	for _, e := range events {
		if !slices.Contains(subjects, e.Subject) {
			subjects = append(subjects, e.Subject)
		}
	}
	if err := s.note(ctx, subjects...); err != nil {
		return err
	}
	err := write()
	if s.told != nil {
		for _, of := range subjects {
			s.told(of) // where writing failed, some may be there
		}
	}
	return err
}

func noticeOf(r row) (n broker.Notice, err error) {
	n.Subject, _ = r["Subject"].(string)
	n.Seen, _ = r["Seen"].(bool)
	n.ETag = r.etag()
	stamp, _ := r["Timestamp"].(string)
	if n.At, err = time.Parse(time.RFC3339Nano, stamp); err != nil || n.Subject == "" {
		return n, access.Errorf(access.Internal, "record_unreadable", "the notice %s cannot be read", r.key())
	}
	n.At = n.At.UTC()
	return n, nil
}

// Notice implements broker.Notices.
func (s *Store) Notice(ctx context.Context, of string) (broker.Notice, error) {
	r, err := get(ctx, s.pending, unsentPartition, hash(of))
	if err != nil {
		return broker.Notice{}, err
	}
	return noticeOf(r)
}

// Notices implements broker.Notices.
func (s *Store) Notices(ctx context.Context) ([]broker.Notice, error) {
	rows, err := query(ctx, s.pending, "PartitionKey eq "+literal(unsentPartition))
	var out []broker.Notice
	for _, r := range rows {
		n, e := noticeOf(r)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		out = append(out, n)
	}
	return out, err
}

// MarkSeen implements broker.Notices.
func (s *Store) MarkSeen(ctx context.Context, n broker.Notice) error {
	r := row{"PartitionKey": unsentPartition, "RowKey": hash(n.Subject), "Subject": n.Subject, "Seen": true}
	_, err := update(ctx, s.pending, r, n.ETag)
	return err
}

// update writes a row under the version that was read (an insert when that is
// empty), and gives its new one.
func update(ctx context.Context, c *aztables.Client, r row, etag string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	data, err := r.bytes()
	if err != nil {
		return "", err
	}
	if etag == "" {
		res, err := add(ctx, c, data)
		return string(res.ETag), failure(err, "adding a row")
	}
	match := azcore.ETag(etag)
	res, err := c.UpdateEntity(ctx, data, &aztables.UpdateEntityOptions{IfMatch: &match, UpdateMode: aztables.UpdateModeReplace})
	if err = failure(err, "changing a row"); access.CodeOf(err) == access.NotFound {
		err = access.Wrap(err, access.Aborted, "row_changed", "changing a row: it is gone")
	}
	return string(res.ETag), err
}

// DropNotice implements broker.Notices.
func (s *Store) DropNotice(ctx context.Context, n broker.Notice) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	etag := azcore.ETag(n.ETag)
	_, err := s.pending.DeleteEntity(ctx, unsentPartition, hash(n.Subject), &aztables.DeleteEntityOptions{IfMatch: &etag})
	if err := failure(err, "dropping a notice"); access.CodeOf(err) != access.NotFound {
		return err
	}
	return nil
}
