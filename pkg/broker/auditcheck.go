package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"golang.org/x/sync/errgroup"
)

const (
	// sealedWithin is how soon an event is sealed, and a seal entered in the journal,
	// while all is well.
	sealedWithin = 15 * time.Minute
	// mostUncovered bounds those that a report lists by name.
	mostUncovered = 1000
)

// againAfter are the waits before what seems wrong is read again: it may have
// been written while it was read.
var againAfter = []time.Duration{2 * time.Second, 10 * time.Second}

// CheckPorts are what AuditCheck needs. Anchors is nil where there are none to
// hold the record against.
type CheckPorts struct {
	Chains  Chains
	Journal JournalReader
	Anchors AnchorReader
	Clock   Clock
	Wait    func(ctx context.Context, d time.Duration) error
}

// AuditCheck holds the chains, the journal and the anchors against each other. It
// changes nothing.
type AuditCheck struct{ CheckPorts }

// NewAuditCheck makes an AuditCheck; every port but the anchors is required.
func NewAuditCheck(p CheckPorts) (*AuditCheck, error) {
	if p.Chains == nil || p.Journal == nil || p.Clock == nil || p.Wait == nil {
		return nil, errors.New("broker: a port of the audit check is missing")
	}
	return &AuditCheck{p}, nil
}

// CheckQuery says what to check.
type CheckQuery struct {
	// From and To bound when the events were sealed; zero for no bound. The chains of
	// the subjects that were sealed then are checked as a whole.
	From, To time.Time
	// Subject checks one chain alone, and not the journal; "" all of them.
	Subject string
	// Retention is how long requests are kept after they were over; zero for ever.
	Retention time.Duration
}

// AuditReport is what was checked, and what is wrong. JSON is for scripts.
type AuditReport struct {
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to"`
	Subject string    `json:"subject,omitempty"`

	Subjects int `json:"subjects"`
	Events   int `json:"events"`
	Seals    int `json:"seals"`
	Journal  int `json:"journalEntries"`
	// Retired is how many chains of requests are gone that were anchored last before
	// the retention. Nothing proves that it was the retention which removed them.
	Retired int `json:"retired"`

	// Anchors is how many were read; FirstAnchor and LastAnchor are their hours, and
	// LastAnchorHash is the hash of the last, for whoever wants to keep it.
	Anchors        int       `json:"anchors"`
	FirstAnchor    time.Time `json:"firstAnchor,omitzero"`
	LastAnchor     time.Time `json:"lastAnchor,omitzero"`
	LastAnchorHash string    `json:"lastAnchorHash,omitempty"`

	Findings []audit.Finding `json:"findings"`
	// Uncovered are the ends of chains that no anchor vouches for; UncoveredSeals is
	// how many seals those are. Without anchors that is all of them, and none is listed.
	Uncovered      []Uncovered `json:"uncovered,omitempty"`
	UncoveredSeals int         `json:"uncoveredSeals"`
}

// Uncovered is the end of a chain, from a seal on.
type Uncovered struct {
	Subject string    `json:"subject"`
	FromSeq int       `json:"fromSeq"`
	ToSeq   int       `json:"toSeq"`
	Since   time.Time `json:"since"` // when the first of them was sealed
}

// check is one run.
type check struct {
	*AuditCheck
	q       CheckQuery
	started time.Time

	journal map[string]map[int]entered // what is known of entries, by subject and seal
	hours   map[time.Time]int          // how many entries each hour has
	anchors anchorage
	// retiredSeals is how many seals the retired chains had.
	retiredSeals int

	report AuditReport
}

// entered is what is remembered of an entry of the journal.
type entered struct {
	sum string
	at  time.Time // when it was sealed
}

// Check reads everything that it is about. What is wrong is in the report; an
// error means that it could not be read.
//
// Anchors are read before the journal and the journal before the chains: nothing
// but what is retired is ever taken from them, so whatever is named earlier is found
// later.
func (a *AuditCheck) Check(ctx context.Context, q CheckQuery) (AuditReport, error) {
	c := &check{AuditCheck: a, q: q, started: a.Clock().UTC(), journal: map[string]map[int]entered{}, hours: map[time.Time]int{}}
	if c.q.From.Before(firstTime) {
		c.q.From = firstTime
	}
	if c.q.To.IsZero() || c.q.To.After(lastTime) {
		c.q.To = lastTime
	}
	if !c.q.From.Before(c.q.To) {
		return AuditReport{}, access.Errorf(access.InvalidArgument, "time_range_invalid", "from is not before to")
	}
	c.report = AuditReport{From: q.From, To: c.started, Subject: q.Subject, Findings: []audit.Finding{}}
	if c.q.To.Before(c.started) {
		c.report.To = c.q.To
	}
	if a.Anchors != nil {
		if err := c.readAnchors(ctx); err != nil {
			return AuditReport{}, err
		}
	}
	subjects := []string{q.Subject}
	if q.Subject == "" {
		if err := c.readJournal(ctx); err != nil {
			return AuditReport{}, err
		}
		all := map[string]bool{}
		for s := range c.journal {
			all[s] = true
		}
		for s := range c.anchors.subjects {
			all[s] = true
		}
		subjects = slices.Sorted(maps.Keys(all))
	}
	if err := c.checkSubjects(ctx, subjects); err != nil {
		return AuditReport{}, err
	}
	if q.Subject == "" {
		c.holdCounts()
	}
	slices.SortStableFunc(c.report.Findings, func(a, b audit.Finding) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Seq, b.Seq))
	})
	slices.SortFunc(c.report.Uncovered, func(a, b Uncovered) int { return cmp.Compare(a.Subject, b.Subject) })
	c.report.Uncovered = c.report.Uncovered[:min(len(c.report.Uncovered), mostUncovered)]
	return c.report, nil
}

func (c *check) found(subject string, seq int, p audit.Problem, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, audit.Finding{Subject: subject, Seq: seq, Problem: p, Message: fmt.Sprintf(format, args...)})
}

func (c *check) readJournal(ctx context.Context) error {
	return eachEntry(ctx, c.Journal, c.q.From, c.q.To, func(e JournalEntry) {
		c.report.Journal++
		c.hours[e.Seal.At.UTC().Truncate(time.Hour)]++
		of := c.journal[e.Seal.Subject]
		if of == nil {
			of = map[int]entered{}
			c.journal[e.Seal.Subject] = of
		}
		sum := entrySum(e)
		if was, twice := of[e.Seal.Seq]; twice && was.sum != sum {
			c.found(e.Seal.Subject, e.Seal.Seq, audit.JournalMismatch, "the journal names seal %d twice, and not the same", e.Seal.Seq)
		}
		of[e.Seal.Seq] = entered{sum, e.Seal.At}
	})
}

// entrySum tells entries apart in little space.
func entrySum(e JournalEntry) string {
	s := e.Seal
	text := fmt.Sprintf("%q %d %q %q %q %q %d %q %d %q", s.Subject, s.Seq, s.Event, s.Digest, s.Prev, s.Hash, s.At.UnixNano(), e.Kind, e.At.UnixNano(), e.Actor)
	return audit.SumOf([]byte(text))[:32]
}

// checkSubjects checks each chain, several at a time. Those that seem wrong are
// read again, and what they show then is what counts.
func (c *check) checkSubjects(ctx context.Context, subjects []string) error {
	for _, wait := range append([]time.Duration{0}, againAfter...) {
		if wait > 0 {
			if err := c.Wait(ctx, wait); err != nil {
				return err
			}
		}
		outcomes := make([]outcome, len(subjects))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(confirmAtOnce)
		for i, s := range subjects {
			g.Go(func() (err error) {
				outcomes[i], err = c.checkSubject(gctx, s)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		last := wait == againAfter[len(againAfter)-1]
		var again []string
		for i, o := range outcomes {
			if len(o.findings) > 0 && !last {
				again = append(again, subjects[i])
				continue
			}
			c.add(o)
		}
		if subjects = again; len(subjects) == 0 {
			return nil
		}
	}
	return nil
}

// outcome is what there is to say of one chain.
type outcome struct {
	events, seals int
	findings      []audit.Finding
	uncovered     *Uncovered
	// retired is how many seals a chain had that was retired.
	retired int
}

func (c *check) add(o outcome) {
	if o.retired > 0 {
		c.report.Retired++
		c.retiredSeals += o.retired
		return
	}
	c.report.Subjects++
	c.report.Events += o.events
	c.report.Seals += o.seals
	c.report.Findings = append(c.report.Findings, o.findings...)
	switch u := o.uncovered; {
	case c.Anchors == nil:
		c.report.UncoveredSeals += o.seals
	case u != nil:
		c.report.Uncovered = append(c.report.Uncovered, *u)
		c.report.UncoveredSeals += u.ToSeq - u.FromSeq + 1
	}
}

func (c *check) checkSubject(ctx context.Context, subject string) (outcome, error) {
	events, seals, err := c.Chains.Chain(ctx, subject)
	if err != nil {
		return outcome{}, err
	}
	if len(events)+len(seals) == 0 {
		if n, err := c.retired(ctx, subject); err != nil || n > 0 {
			return outcome{retired: n}, err
		}
	}
	o := outcome{events: len(events), seals: len(seals)}
	o.findings = audit.Verify(subject, events, seals, c.started.Add(-sealedWithin))
	if c.q.Subject == "" {
		o.findings = append(o.findings, c.holdJournal(subject, events, seals)...)
	}
	findings, uncovered := c.anchors.hold(subject, seals)
	o.findings = append(o.findings, findings...)
	o.uncovered = uncovered
	return o, nil
}

// holdJournal holds a chain against the journal's entries of it.
func (c *check) holdJournal(subject string, events []access.Event, seals []audit.Seal) (out []audit.Finding) {
	found := func(s int, p audit.Problem, format string, args ...any) {
		out = append(out, audit.Finding{Subject: subject, Seq: s, Problem: p, Message: fmt.Sprintf(format, args...)})
	}
	byID := map[string]access.Event{}
	for _, e := range events {
		byID[e.ID()] = e
	}
	entries := c.journal[subject]
	there := map[int]bool{}
	for _, s := range seals {
		there[s.Seq] = true
		entry, entered := entries[s.Seq]
		e, ok := byID[s.Event]
		switch within := !s.At.Before(c.q.From) && s.At.Before(c.q.To); {
		case !entered && within && s.At.Before(c.started.Add(-sealedWithin)):
			found(s.Seq, audit.JournalMissing, "seal %d of %s is not in the journal", s.Seq, s.At.UTC().Format(time.RFC3339))
		case entered && ok && entry.sum != entrySum(JournalEntry{Seal: s, Kind: e.Kind, At: e.At, Actor: e.Actor}):
			found(s.Seq, audit.JournalMismatch, "the journal says another thing of seal %d", s.Seq)
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(entries)) {
		if !there[seq] {
			found(seq, audit.JournalMismatch, "the journal names seal %d, which the chain does not have", seq)
		}
	}
	return out
}
