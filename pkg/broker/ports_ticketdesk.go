package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// TicketWork is a ticket's event that is not worked to its end yet.
type TicketWork struct {
	Event access.TicketEvent `json:"event"`
	// Taken says that it was news when it was first worked. It is seen through then,
	// whatever was heard of the ticket since.
	Taken bool `json:"taken,omitempty"`
}

// TicketEvents keeps the verified events of tickets, each once and for good.
type TicketEvents interface {
	// KeepTicketEvent notes the event as pending and then keeps it, and gives the
	// event that stands under its id and whether that is pending. One that was kept
	// before stays as it is and is not noted again; one whose note was all that came
	// of it is completed.
	KeepTicketEvent(ctx context.Context, e access.TicketEvent) (stored access.TicketEvent, pending bool, err error)
	// TicketEvent gives the event that was kept under the id. Error not_found.
	TicketEvent(ctx context.Context, id string) (access.TicketEvent, error)
}

// TicketWorks holds the events that are pending.
type TicketWorks interface {
	// TicketWork gives a pending event. Error not_found for one that is not pending.
	TicketWork(ctx context.Context, id string) (TicketWork, error)
	// TakeTicketEvent notes that the event is taken; of one that is not pending it
	// notes nothing, and that is no error.
	TakeTicketEvent(ctx context.Context, id string) error
	// FinishTicketEvent removes the note; one already gone is no error.
	FinishTicketEvent(ctx context.Context, id string) error
}

// PendingTickets lists the events that nobody has worked to their end.
type PendingTickets interface {
	// PendingTicketEvents gives the pending events that were received before the
	// time. One that cannot be read is an error and does not keep the others back.
	PendingTicketEvents(ctx context.Context, before time.Time) ([]access.TicketEvent, error)
}

// TicketPrompts asks for the work of a ticket's event.
type TicketPrompts interface {
	// PromptTicket sends a message to access-requests that names the event in
	// TicketEventProperty.
	PromptTicket(ctx context.Context, id string) error
}

// TicketEventProperty is the application property in which a message on
// access-requests names a ticket's event that is to be worked. It only makes the
// broker look at what is pending, so it does no harm when it is forged or comes
// again.
const TicketEventProperty = "portcullis-ticket-event"
