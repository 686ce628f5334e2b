package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// retiredMargin is how much later than the retention the hour may be in which a
// retired chain was anchored last: a seal that came late is in the anchor of the next
// hour. The rest is for clocks that differ.
const retiredMargin = 2 * time.Hour

// beforeRetention says whether a seal of the hour may be one of a retired chain.
func (c *check) beforeRetention(hour time.Time) bool {
	return c.q.Retention > 0 && hour.Before(c.started.Add(retiredMargin-c.q.Retention))
}

// retired says how many seals the chain had, if nothing is left of it and it may
// have been retired: it is a request's, every anchor that names it is older than the
// retention, and the journal has none of its seals either. 0 for any other.
func (c *check) retired(ctx context.Context, subject string) (seals int, err error) {
	if _, err := access.ParseRequestID(subject); err != nil {
		return 0, nil
	}
	for _, h := range c.anchors.heads[subject] {
		if !c.beforeRetention(h.hour) {
			return 0, nil
		}
		seals = max(seals, h.Seq)
	}
	if seals == 0 {
		return 0, nil // no anchor says that there was one
	}
	there, err := c.inJournal(ctx, subject)
	if there {
		seals = 0
	}
	return seals, err
}

// inJournal looks for the chain's entries once more, since a request may have been
// retired after the journal was read.
func (c *check) inJournal(ctx context.Context, subject string) (there bool, err error) {
	look := func(from, to time.Time) error {
		return eachEntry(ctx, c.Journal, from, to, func(e JournalEntry) { there = there || e.Seal.Subject == subject })
	}
	for _, e := range c.journal[subject] {
		second := e.at.UTC().Truncate(time.Second)
		if err := look(second, second.Add(time.Second)); err != nil || there {
			return there, err
		}
	}
	if c.q.Subject == "" {
		return false, nil
	}
	// The journal was not read at all.
	for _, h := range c.anchors.heads[subject] {
		if err := look(h.hour.Add(-time.Hour), h.hour.Add(time.Hour)); err != nil || there {
			return there, err
		}
	}
	return false, nil
}
