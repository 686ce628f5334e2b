package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

const (
	// AnchorAfter is how long after its end an hour is anchored. A seal's time is
	// its publisher's; a publisher is killed after 10 min, and what it has sealed is
	// entered in the journal by then, or as late by the next.
	AnchorAfter = 15 * time.Minute
	// mostAnchors bounds one run: a week of missed hours is caught up in one.
	mostAnchors = 7 * 24
	// journalPage is how many entries are read at once.
	journalPage = 1000
)

// AnchorPorts are what Anchorer needs.
type AnchorPorts struct {
	Journal JournalReader
	Anchors Anchors
	Clock   Clock
	// Installation names whose anchors they are.
	Installation string
}

// Anchorer anchors the heads of the chains hour by hour. The anchors themselves
// are its only memory: cut off anywhere, or run twice at once, it goes on behind
// the last that is there.
type Anchorer struct{ AnchorPorts }

// NewAnchorer makes an Anchorer; every port is required.
func NewAnchorer(p AnchorPorts) (*Anchorer, error) {
	if p.Journal == nil || p.Anchors == nil || p.Clock == nil || p.Installation == "" {
		return nil, errors.New("broker: a port of the anchorer is missing")
	}
	return &Anchorer{p}, nil
}

// Anchor writes the anchors of all hours that are over and have none, in their
// order, up to a week of them; an hour without a seal has an anchor too. What is
// left is the next run's.
func (a *Anchorer) Anchor(ctx context.Context) error {
	end := closedHour(a.Clock())
	hour, before, err := a.next(ctx, end)
	if err != nil {
		return err
	}
	for n := 0; hour.Before(end) && n < mostAnchors; n++ {
		if before, err = a.anchor(ctx, hour, before); err != nil {
			return fmt.Errorf("the anchor of %s: %w", hour.Format(time.RFC3339), err)
		}
		hour = hour.Add(time.Hour)
	}
	return nil
}

// closedHour is the beginning of the first hour that is not to be anchored yet.
func closedHour(now time.Time) time.Time { return now.UTC().Add(-AnchorAfter).Truncate(time.Hour) }

// next gives the first hour without an anchor, and the anchor before it.
func (a *Anchorer) next(ctx context.Context, end time.Time) (hour time.Time, before []byte, err error) {
	// The last is almost always of the last few hours: listing those is cheap.
	for _, from := range []time.Time{end.Add(-24 * time.Hour), end.AddDate(0, -1, 0), {}} {
		hours, err := a.Anchors.AnchoredHours(ctx, from, end)
		if err != nil {
			return hour, nil, err
		}
		if len(hours) > 0 {
			last := hours[len(hours)-1]
			before, err = a.Anchors.Anchor(ctx, last)
			return last.Add(time.Hour), before, err
		}
	}
	first, _, err := a.Journal.Journal(ctx, JournalQuery{From: firstTime, To: end, Most: 1})
	if err != nil {
		return hour, nil, err
	}
	if len(first) == 0 {
		return end.Add(-time.Hour), nil, nil
	}
	return first[0].Seal.At.UTC().Truncate(time.Hour), nil, nil
}

// anchor writes the anchor of the hour, or finds the one that somebody else has
// written, and gives its bytes.
func (a *Anchorer) anchor(ctx context.Context, hour time.Time, before []byte) ([]byte, error) {
	var seals []audit.Seal
	if err := eachEntry(ctx, a.Journal, hour.Add(-time.Hour), hour.Add(time.Hour), func(e JournalEntry) { seals = append(seals, e.Seal) }); err != nil {
		return nil, err
	}
	data, err := audit.NewAnchor(a.Installation, hour, seals, before, a.Clock()).Encode()
	if err != nil {
		return nil, err
	}
	if err = a.Anchors.AddAnchor(ctx, hour, data); access.CodeOf(err) == access.AlreadyExists {
		return a.Anchors.Anchor(ctx, hour)
	}
	return data, err
}

// eachEntry reads the journal page by page.
func eachEntry(ctx context.Context, journal JournalReader, from, to time.Time, do func(JournalEntry)) error {
	q := JournalQuery{From: from, To: to, Most: journalPage}
	for {
		entries, next, err := journal.Journal(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range entries {
			do(e)
		}
		if next == "" {
			return nil
		}
		if next == q.After {
			return access.Errorf(access.Internal, "journal_stuck", "the journal does not go on behind %q", next)
		}
		q.After = next
	}
}
