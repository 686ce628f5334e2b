package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

// Chains reads what is kept of a subject's events.
type Chains interface {
	// Chain gives the events of a subject in the order they happened, and its seals
	// by their numbers; none of a subject that nothing is kept of.
	Chain(ctx context.Context, subject string) ([]access.Event, []audit.Seal, error)
}

// JournalEntry is one sealed event among those of all subjects.
type JournalEntry struct {
	Seal  audit.Seal       `json:"seal"`
	Kind  access.EventKind `json:"kind"`
	At    time.Time        `json:"at"` // of the event
	Actor string           `json:"actor,omitempty"`
}

// JournalQuery asks for entries in the order in which they were sealed.
type JournalQuery struct {
	// From and To bound when they were sealed. To is not included.
	From, To time.Time
	// After is the mark behind which to go on; "" for the first.
	After string
	// Most is how many are given at most, 1 to 1000.
	Most int
}

// Journal lists the events of all subjects by when they were sealed, without a
// scan. An entry whose writer was cut off comes in once another completes it, a
// minute or some after it was sealed.
type Journal interface {
	// EnterJournal writes entries; again is no error.
	EnterJournal(ctx context.Context, entries []JournalEntry) error
	// Journal gives entries, and the mark behind which to go on; "" where there is
	// no more.
	Journal(ctx context.Context, q JournalQuery) (entries []JournalEntry, next string, err error)
}

// Notice says that a subject may have events which were not sent yet. The store
// writes one before it writes an event, so that an event is never there without
// it.
type Notice struct {
	Subject string
	// At is when it was written last, by the store's own clock.
	At time.Time
	// Seen is set once what was there was sent. The writer of the notice may not
	// have written its event by then.
	Seen bool
	ETag string
}

// Notices finds the subjects whose events are still to be sent.
type Notices interface {
	// Notice gives the notice of a subject. Error not_found.
	Notice(ctx context.Context, subject string) (Notice, error)
	// Notices gives all there are. One that cannot be read is an error and does not
	// keep the others back.
	Notices(ctx context.Context) ([]Notice, error)
	// MarkSeen sets Seen under the ETag. Error aborted when it was written again.
	MarkSeen(ctx context.Context, n Notice) error
	// DropNotice removes it under the ETag; one already gone is no error. Error
	// aborted when it was written again.
	DropNotice(ctx context.Context, n Notice) error
}

// Outgoing is a subject's chain, and how much of it was sent.
type Outgoing struct {
	Subject string
	Events  []access.Event // in the order they happened
	Seals   []audit.Seal   // by their numbers
	// Sent is the number of the last seal whose event was sent; 0 for none. ETag is
	// the version of it that was read; "" where none was sent yet.
	Sent int
	ETag string
}

// Seals keeps the order in which a subject's events are sealed and sent.
type Seals interface {
	// Outgoing gives a subject's chain by one query. What is written meanwhile may
	// be in it or not, but no seal is missing before one that is there.
	Outgoing(ctx context.Context, subject string) (Outgoing, error)
	// Unsent gives the end of it alone, at a cost that does not grow with what was
	// sent: the seals from the number Sent on, and the events that they name after
	// that, or that no seal names.
	Unsent(ctx context.Context, subject string) (Outgoing, error)
	// AddSeals inserts seals of one subject by their numbers. Error aborted when a
	// number is taken; then none of the fifty that it belongs to is written, and
	// none after them.
	AddSeals(ctx context.Context, seals []audit.Seal) error
	// SaveSent writes how much was sent, under the ETag (an insert when that is
	// empty), and gives the new one. Error aborted when somebody else was first.
	SaveSent(ctx context.Context, subject string, sent int, etag string) (string, error)
}

// SealedEvent is an event with its place among those of its subject.
type SealedEvent struct {
	Event access.Event
	Seq   int
}

// EventTopic sends events to whoever subscribes.
type EventTopic interface {
	// SendEvents sends events of one subject in their order, and returns once they
	// are kept. An error may leave the first of them sent. An event that no message
	// can hold goes without its detail, and keeps back none after it.
	SendEvents(ctx context.Context, events []SealedEvent) error
}

// EventPrompts asks for the sending of events.
type EventPrompts interface {
	// PromptEvents sends a message to the subject's session on event-outbox. It
	// only makes somebody look, so it does no harm when it is lost, forged or comes
	// again.
	PromptEvents(ctx context.Context, subject string) error
}
