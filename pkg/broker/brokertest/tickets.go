package brokertest

import (
	"context"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Ticket implements broker.Tickets.
func (s *Store) Ticket(_ context.Context, id access.TicketID) (t access.Ticket, err error) {
	err = s.do(func() error {
		var ok bool
		if t, ok = s.tickets[id]; !ok {
			return access.Errorf(access.NotFound, "ticket_unknown", "no event told of the ticket")
		}
		return nil
	})
	return t, err
}

// SaveTicket implements broker.Tickets.
func (s *Store) SaveTicket(_ context.Context, t access.Ticket) error {
	return s.do(func() error {
		if s.tickets[t.ID].ETag != t.ETag {
			return access.Errorf(access.Aborted, "row_changed", "the ticket has changed")
		}
		t.ETag = s.etag()
		s.tickets[t.ID] = t
		return nil
	})
}
