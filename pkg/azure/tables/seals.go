package tables

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"golang.org/x/sync/errgroup"
)

// Chain implements broker.Chains.
func (s *Store) Chain(ctx context.Context, of string) ([]access.Event, []audit.Seal, error) {
	out, err := s.Outgoing(ctx, of)
	return out.Events, out.Seals, err
}

// Outgoing implements broker.Seals. Rows come in the order of their keys: the
// seals first, then how much was sent, then the events. So an event may be read
// that was sealed meanwhile, and its seal is missing; whoever seals it again finds
// the number taken.
func (s *Store) Outgoing(ctx context.Context, of string) (out broker.Outgoing, err error) {
	rows, err := s.chainRows(ctx, of, keyChain, "event.")
	if err != nil {
		return out, err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return strings.HasPrefix(r.key(), keyUnsealed) })
	return outgoing(of, rows)
}

// Unsent implements broker.Seals, by one query for how much was sent and what is not
// sealed, one for the seals from there on, and a point read for each event that
// somebody sealed and did not send.
func (s *Store) Unsent(ctx context.Context, of string) (out broker.Outgoing, err error) {
	rows, err := s.chainRows(ctx, of, keySent, "chain.")
	if err != nil {
		return out, err
	}
	sent, err := outgoing(of, rows)
	if err != nil {
		return out, err
	}
	seals, err := s.chainRows(ctx, of, sealKey(max(sent.Sent, 1)), keySent)
	if err != nil {
		return out, err
	}
	if out, err = outgoing(of, append(seals, rows...)); err != nil {
		return out, err
	}
	if out.Sent > 0 && (len(out.Seals) == 0 || out.Seals[0].Seq != out.Sent) {
		return s.Outgoing(ctx, of) // somebody took the end of the chain
	}
	have := map[string]bool{}
	for _, e := range out.Events {
		have[e.ID()] = true
	}
	missing := slices.DeleteFunc(slices.Clone(out.Seals), func(seal audit.Seal) bool { return seal.Seq <= out.Sent || have[seal.Event] })
	events := make([]row, len(missing))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(eventsAtOnce)
	for i, seal := range missing {
		g.Go(func() (err error) {
			// One that is gone was taken by somebody; its seal tells of it.
			if events[i], err = get(gctx, s.requests, subject(of), keyEvent+eventKey(seal.Event)); access.CodeOf(err) == access.NotFound {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	more, err := outgoing(of, slices.DeleteFunc(events, func(r row) bool { return r == nil }))
	out.Events = append(out.Events, more.Events...)
	slices.SortFunc(out.Events, access.CompareEvents)
	return out, err
}

// eventsAtOnce bounds the events that are read side by side.
const eventsAtOnce = 32

// chainRows gives those of a subject's rows whose keys are not before the first and
// before the last.
func (s *Store) chainRows(ctx context.Context, of, first, last string) ([]row, error) {
	return query(ctx, s.requests, "PartitionKey eq "+literal(subject(of))+" and RowKey ge "+literal(first)+" and RowKey lt "+literal(last))
}

// outgoing reads rows of a subject's chain.
func outgoing(of string, rows []row) (out broker.Outgoing, err error) {
	out.Subject = of
	for _, r := range rows {
		switch key := r.key(); {
		case key == keySent:
			n, _ := r["Sent"].(float64)
			out.Sent, out.ETag = int(n), r.etag()
		case strings.HasPrefix(key, keyEvent), strings.HasPrefix(key, keyUnsealed):
			var e access.Event
			err = r.doc(&e)
			out.Events = append(out.Events, e)
		case strings.HasPrefix(key, keyChain):
			var seal audit.Seal
			err = r.doc(&seal)
			out.Seals = append(out.Seals, seal)
		}
		if err != nil {
			return out, err
		}
	}
	slices.SortFunc(out.Events, access.CompareEvents)
	return out, nil
}

// AddSeals implements broker.Seals.
func (s *Store) AddSeals(ctx context.Context, seals []audit.Seal) error {
	for some := range slices.Chunk(seals, maxTransaction/2) {
		err := s.addSeals(ctx, some, func(string) bool { return true })
		if access.CodeOf(err) == access.NotFound {
			// Not all of them have a copy: somebody took it, or the chain is made anew.
			rows, e := s.chainRows(ctx, some[0].Subject, keyUnsealed, "chain.")
			if e != nil {
				return e
			}
			err = s.addSeals(ctx, some, func(key string) bool {
				return slices.ContainsFunc(rows, func(r row) bool { return r.key() == key })
			})
		}
		if access.CodeOf(err) == access.NotFound {
			err = access.Wrap(err, access.Aborted, "row_changed", "somebody else has sealed")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addSeals writes the seals, and removes the copies of their events that are there.
func (s *Store) addSeals(ctx context.Context, seals []audit.Seal, there func(key string) bool) error {
	var actions []aztables.TransactionAction
	for _, seal := range seals {
		r, err := newRow(subject(seal.Subject), sealKey(seal.Seq), seal)
		if err != nil {
			return err
		}
		r["Subject"], r["Event"], r["Hash"] = seal.Subject, seal.Event, seal.Hash
		a, err := action(aztables.TransactionTypeAdd, r, "")
		if err != nil {
			return err
		}
		actions = append(actions, a)
		if key := keyUnsealed + eventKey(seal.Event); there(key) {
			a, err := action(aztables.TransactionTypeDelete, row{"PartitionKey": subject(seal.Subject), "RowKey": key}, string(azcore.ETagAny))
			if err != nil {
				return err
			}
			actions = append(actions, a)
		}
	}
	return submit(ctx, s.requests, actions)
}

// SaveSent implements broker.Seals.
func (s *Store) SaveSent(ctx context.Context, of string, sent int, etag string) (string, error) {
	return update(ctx, s.requests, row{"PartitionKey": subject(of), "RowKey": keySent, "Sent": sent, "Subject": of}, etag)
}
