package broker

import (
	"context"
	"time"
)

// JournalReader lists the events of all subjects; see Journal.
type JournalReader interface {
	Journal(ctx context.Context, q JournalQuery) (entries []JournalEntry, next string, err error)
}

// AnchorReader reads the anchors, one per hour.
type AnchorReader interface {
	// AnchoredHours gives the hours that have an anchor, in their order, from one
	// (zero for no bound) to another (not included).
	AnchoredHours(ctx context.Context, from, to time.Time) ([]time.Time, error)
	// Anchor gives the anchor of an hour, byte for byte. Error not_found.
	Anchor(ctx context.Context, hour time.Time) ([]byte, error)
}

// Anchors keeps anchors where they can be added and not changed.
type Anchors interface {
	AnchorReader
	// AddAnchor writes the anchor of an hour. Error already_exists where there is
	// one, which stays.
	AddAnchor(ctx context.Context, hour time.Time, data []byte) error
}
