package tables

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// ticketRow is the one row of a ticket's partition.
const ticketRow = "now"

func ticketPartition(id access.TicketID) string { return "t-" + hash(id.String()) }

// Ticket implements broker.Tickets.
func (s *Store) Ticket(ctx context.Context, id access.TicketID) (t access.Ticket, err error) {
	r, err := get(ctx, s.tickets, ticketPartition(id), ticketRow)
	if access.CodeOf(err) == access.NotFound {
		return t, access.Errorf(access.NotFound, "ticket_unknown", "no event told of the ticket %s", id)
	}
	if err != nil {
		return t, err
	}
	if err := r.doc(&t); err != nil {
		return access.Ticket{}, err
	}
	if t.ID != id {
		return access.Ticket{}, access.Errorf(access.Internal, "record_unreadable", "the row of a ticket is that of another")
	}
	t.ETag = r.etag()
	return t, nil
}

// SaveTicket implements broker.Tickets.
func (s *Store) SaveTicket(ctx context.Context, t access.Ticket) error {
	r, err := newRow(ticketPartition(t.ID), ticketRow, t)
	if err != nil {
		return err
	}
	r["Ticket"], r["State"], r["Ended"] = t.ID.String(), t.State, t.Ended
	kind := aztables.TransactionTypeUpdateReplace
	if t.ETag == "" {
		kind = aztables.TransactionTypeAdd
	}
	actions, err := withEvents(kind, r, t.ETag, nil)
	if err != nil {
		return err
	}
	err = submit(ctx, s.tickets, actions)
	if access.CodeOf(err) == access.NotFound {
		return access.Wrap(err, access.Aborted, "row_changed", "the ticket has changed")
	}
	return err
}
