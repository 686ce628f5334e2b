package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

// OldIndex finds the requests that were decided long ago, and forgets them.
type OldIndex interface {
	// OldDay gives the beginning of the first day (UTC) that has entries, from the
	// day of one time to that of another, both included; ok is false for none.
	OldDay(ctx context.Context, from, to time.Time) (day time.Time, ok bool, err error)
	// Entries gives entries by their positions; see Index.
	Entries(ctx context.Context, q IndexQuery) ([]IndexEntry, error)
	// ForgetEntry removes an entry: under its names, its VMs and its tickets, and
	// then from its day, by which it is found. One already gone is no error.
	ForgetEntry(ctx context.Context, e IndexEntry) error
}

// HeadRetirements removes heads.
type HeadRetirements interface {
	// ForgetHead removes the head under its ETag; one already gone is no error. Error
	// aborted when somebody has written it since.
	ForgetHead(ctx context.Context, h Head) error
}

// Retirements removes what is kept of a request.
type Retirements interface {
	// Retiring says that the request is being retired, as it was decided at the time;
	// zero where it was not noted.
	Retiring(ctx context.Context, id access.RequestID) (decidedAt time.Time, err error)
	// MarkRetiring notes it with what is kept of the request, in place of what was
	// noted before.
	MarkRetiring(ctx context.Context, id access.RequestID, decidedAt time.Time) error
	// DropJournal removes the journal's entries of seals; one already gone is no
	// error.
	DropJournal(ctx context.Context, seals []audit.Seal) error
	// ForgetRequest removes all that is kept of a request: its events and their seals,
	// its ended legs and marks, and at last, and together, its record and the note that
	// it is being retired. Error aborted when any of it was changed meanwhile.
	ForgetRequest(ctx context.Context, id access.RequestID) error
}
