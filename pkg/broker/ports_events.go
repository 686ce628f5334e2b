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
// scan.
type Journal interface {
	// EnterJournal writes entries; again is no error.
	EnterJournal(ctx context.Context, entries []JournalEntry) error
	// Journal gives entries, and the mark behind which to go on; "" where there is
	// no more.
	Journal(ctx context.Context, q JournalQuery) (entries []JournalEntry, next string, err error)
}
