package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/audit"
)

// anchorage is what the anchors say.
type anchorage struct {
	// used says that there are anchors to hold anything against.
	used bool
	// heads are by subject; subjects are those of the hours that are asked for.
	heads    map[string][]anchoredHead
	subjects map[string]bool
	// counts is how many seals of an hour the anchors together count.
	counts map[time.Time]int
}

type anchoredHead struct {
	audit.Head
	hour time.Time
}

// readAnchors reads the anchors from the hour asked for to the last there is,
// since later ones vouch for earlier seals, and holds them against each other.
func (c *check) readAnchors(ctx context.Context) error {
	c.anchors = anchorage{used: true, heads: map[string][]anchoredHead{}, subjects: map[string]bool{}, counts: map[time.Time]int{}}
	from := c.q.From.UTC().Truncate(time.Hour)
	hours, err := c.Anchors.AnchoredHours(ctx, from.Add(-time.Hour), lastTime)
	if err != nil {
		return err
	}
	w := anchorWalk{check: c, wholeRange: c.q.From.Equal(firstTime)}
	for _, hour := range hours {
		data, err := c.Anchors.Anchor(ctx, hour)
		if err != nil {
			return err
		}
		if hour.Before(from) { // it is here for what the next says of it
			w.last, w.sum = hour, audit.SumOf(data)
			continue
		}
		w.take(hour, data)
	}
	w.end()
	return nil
}

// anchorWalk goes from anchor to anchor.
type anchorWalk struct {
	*check
	wholeRange   bool
	installation string
	last         time.Time // the hour of the anchor before; zero at the first
	sum          string    // its hash
}

func (w *anchorWalk) bad(hour time.Time, p audit.Problem, format string, args ...any) {
	w.found("", 0, p, "the anchor of %s: %s", hour.Format(time.RFC3339), fmt.Sprintf(format, args...))
}

func (w *anchorWalk) take(hour time.Time, data []byte) {
	before, sum := w.last, w.sum
	w.last, w.sum = hour, audit.SumOf(data)
	r := &w.report
	if r.Anchors++; r.FirstAnchor.IsZero() {
		r.FirstAnchor = hour
	}
	r.LastAnchor, r.LastAnchorHash = hour, w.sum
	if !hour.Before(w.started.Truncate(time.Hour)) {
		w.bad(hour, audit.AnchorUnlinked, "its hour is not over yet")
	}
	if !before.IsZero() && hour.Sub(before) > time.Hour {
		w.found("", 0, audit.AnchorMissing, "there is no anchor from %s to %s: %s",
			before.Add(time.Hour).Format(time.RFC3339), hour.Add(-time.Hour).Format(time.RFC3339), hoursOf(hour.Sub(before)-time.Hour))
	}
	a, err := audit.ParseAnchor(data, hour)
	if err != nil {
		w.bad(hour, audit.AnchorUnlinked, "%s", err)
		return
	}
	switch {
	case before.IsZero() && w.wholeRange && a.Prev != "":
		w.found("", 0, audit.AnchorMissing, "the anchor of %s is the first there is, and names one before it", hour.Format(time.RFC3339))
	case !before.IsZero() && hour.Sub(before) == time.Hour && a.Prev != sum:
		w.bad(before, audit.AnchorUnlinked, "it is not the one that the next was written behind, or that one was altered")
	case w.installation != "" && a.Installation != w.installation:
		w.bad(hour, audit.AnchorUnlinked, "it is of the installation %q, those before are of %q", a.Installation, w.installation)
	}
	w.installation = a.Installation
	w.anchors.counts[hour] += a.Count
	w.anchors.counts[hour.Add(-time.Hour)] += a.Late
	for _, h := range a.Heads {
		if w.q.Subject != "" && h.Subject != w.q.Subject {
			continue
		}
		w.anchors.heads[h.Subject] = append(w.anchors.heads[h.Subject], anchoredHead{h, hour})
		if hour.Before(w.q.To) {
			w.anchors.subjects[h.Subject] = true
		}
	}
}

// end finds out whether there ought to be more: an hour's anchor may be late by
// another hour.
func (w *anchorWalk) end() {
	due := closedHour(w.started.Add(-time.Hour))
	switch missing := due.Sub(w.last) - time.Hour; {
	case w.last.IsZero():
		w.found("", 0, audit.AnchorMissing, "there is no anchor at all")
	case missing > 0:
		w.found("", 0, audit.AnchorMissing, "the last anchor is of %s: %s since then have none, which should", w.last.Format(time.RFC3339), hoursOf(missing))
	}
}

func hoursOf(d time.Duration) string {
	if d == time.Hour {
		return "1 hour"
	}
	return fmt.Sprintf("%d hours", d/time.Hour)
}

// holdCounts holds the journal against how much the anchors say it had, for the
// hours that were read whole. It may have more: what came late. What is missing from
// hours before the retention may be as much as the retired chains had.
func (c *check) holdCounts() {
	var short []time.Time
	missing := 0
	for hour, want := range c.anchors.counts {
		whole := !hour.Before(c.q.From) && !hour.Add(time.Hour).After(c.q.To)
		if have := c.hours[hour]; whole && have < want {
			short = append(short, hour)
			if c.beforeRetention(hour) {
				missing += want - have
			}
		}
	}
	for _, hour := range short {
		if missing > c.retiredSeals || !c.beforeRetention(hour) {
			c.found("", 0, audit.JournalMissing, "the journal of the hour %s has %d seals, and had %d when it was anchored", hour.Format(time.RFC3339), c.hours[hour], c.anchors.counts[hour])
		}
	}
}

// hold holds a chain against the heads that were anchored, and says which of its
// seals come after the last of those.
func (a anchorage) hold(subject string, seals []audit.Seal) (out []audit.Finding, uncovered *Uncovered) {
	if !a.used {
		return nil, nil
	}
	bySeq := map[int]audit.Seal{}
	for _, s := range seals {
		bySeq[s.Seq] = s
	}
	covered := 0
	for _, h := range a.heads[subject] {
		found := func(format string, args ...any) {
			out = append(out, audit.Finding{Subject: subject, Seq: h.Seq, Problem: audit.AnchorAltered,
				Message: fmt.Sprintf("the anchor of %s has seal %d, ", h.hour.Format(time.RFC3339), h.Seq) + fmt.Sprintf(format, args...)})
		}
		switch s, ok := bySeq[h.Seq]; {
		case len(seals) == 0:
			found("and nothing of the chain is left")
		case !ok:
			found("and the chain of %d does not", len(seals))
		case s.Hash != h.Hash:
			found("and the chain has another in its place")
		default:
			covered = max(covered, h.Seq)
		}
	}
	for _, s := range seals {
		switch {
		case s.Seq <= covered:
		case uncovered == nil:
			uncovered = &Uncovered{subject, s.Seq, s.Seq, s.At}
		default:
			uncovered.ToSeq = max(uncovered.ToSeq, s.Seq)
		}
	}
	return out, uncovered
}
