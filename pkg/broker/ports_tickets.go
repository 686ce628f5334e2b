package broker

import (
	"context"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Tickets keeps what is known of tickets.
type Tickets interface {
	// Ticket gives what the last verified event said of the ticket. Error not_found
	// for one that no event told of.
	Ticket(ctx context.Context, id access.TicketID) (access.Ticket, error)
	// SaveTicket writes it under its ETag (an insert when that is empty). Error
	// aborted when somebody else was first.
	SaveTicket(ctx context.Context, t access.Ticket) error
}
