package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

const (
	// DefaultRetention is how long a request is kept after it was over.
	DefaultRetention = 400 * 24 * time.Hour
	// ShortestRetention is the shortest that may be set.
	ShortestRetention = 30 * 24 * time.Hour
	// mostRetired bounds the requests that one run looks at.
	mostRetired = 200
	// retireWithin bounds what one run takes: the next Scan must not wait for it.
	retireWithin = 2 * time.Minute
)

// RetirePorts are what Retirer needs.
type RetirePorts struct {
	Index   OldIndex
	Record  Retirements
	Files   Files
	Seals   Seals
	Notices Notices
	Starts  Starts
	Pending PendingRequests
	Legs    LegFinder
	Clock   Clock
	Log     *slog.Logger
	// Retention is how long a request is kept after it was over.
	Retention time.Duration
}

// Retirer takes requests out of the record that were over longer ago than the
// retention: what is kept of them, their rows in the journal and in the index. What
// is unknown is kept. What is recorded of anything but requests stays for ever.
type Retirer struct {
	RetirePorts

	mu sync.Mutex
	// from and after are where the next run goes on, so that requests which have to
	// stay do not keep back those behind them. They are lost with the process, and
	// then it begins with the oldest.
	from  time.Time
	after string
}

// NewRetirer makes a Retirer; every port is required, and a retention that is not
// shorter than ShortestRetention.
func NewRetirer(p RetirePorts) (*Retirer, error) {
	if p.Index == nil || p.Record == nil || p.Files == nil || p.Seals == nil || p.Notices == nil || p.Starts == nil || p.Pending == nil || p.Legs == nil || p.Clock == nil || p.Log == nil {
		return nil, errors.New("broker: a port of the retirer is missing")
	}
	if p.Retention < ShortestRetention {
		return nil, fmt.Errorf("broker: a retention of %s is shorter than %s", p.Retention, ShortestRetention)
	}
	return &Retirer{RetirePorts: p}, nil
}

// Retire looks at up to 200 old requests, those of the oldest day first, and retires
// those that are over. It goes on past what fails and joins the errors. It may be
// cut off anywhere and be repeated, and run twice at once.
func (r *Retirer) Retire(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, retireWithin)
	defer cancel()
	now := r.Clock().UTC()
	run := retirement{Retirer: r, before: now.Add(-r.Retention), pending: map[access.RequestID]bool{}}
	// Whatever its time is by whichever clock.
	pending, err := r.Pending.Pending(ctx, now.AddDate(1, 0, 0))
	if err != nil {
		return fmt.Errorf("retiring: reading what is pending: %w", err)
	}
	for _, rec := range pending {
		run.pending[rec.ID], run.pending[rec.Request.Extends] = true, true
	}
	err = run.walk(ctx)
	if run.retired > 0 {
		r.Log.InfoContext(ctx, "old requests were retired", "requests", run.retired, "looked", run.looked, "before", run.before)
	}
	return err
}

// retirement is one run.
type retirement struct {
	*Retirer
	before          time.Time
	pending         map[access.RequestID]bool
	looked, retired int
}

func (r *retirement) walk(ctx context.Context) (err error) {
	for r.looked < mostRetired {
		day, ok, e := r.Index.OldDay(ctx, r.from, r.before)
		if e != nil {
			return errors.Join(err, fmt.Errorf("retiring: looking for old requests: %w", e))
		}
		if !ok {
			r.from, r.after = time.Time{}, "" // the next begins anew
			return err
		}
		if !day.Equal(r.from) {
			r.from, r.after = day, ""
		}
		end := day.AddDate(0, 0, 1)
		if r.before.Before(end) {
			end = r.before
		}
		most := mostRetired - r.looked
		entries, e := r.Index.Entries(ctx, IndexQuery{From: day, To: end, After: r.after, Most: most})
		if e != nil {
			return errors.Join(err, fmt.Errorf("retiring: reading the index of %s: %w", day.Format(time.DateOnly), e))
		}
		for _, entry := range entries {
			r.looked++
			if e := r.one(ctx, entry); e != nil {
				err = errors.Join(err, fmt.Errorf("retiring %s: %w", entry.Request, e))
			}
			if ctx.Err() != nil {
				return err
			}
			r.after = entry.Position()
		}
		if len(entries) < most {
			r.from, r.after = day.AddDate(0, 0, 1), ""
		}
	}
	return err
}

// one retires a request if it may be. The order is what makes it safe to be cut off:
// the note that it was found to be over, since what that was found by goes next;
// the journal, which is found by the seals; what is kept of it, the record last; the
// index, the day by which all is found at the very end.
func (r *retirement) one(ctx context.Context, e IndexEntry) error {
	if _, err := access.ParseRequestID(string(e.Request)); err != nil || r.pending[e.Request] || !e.DecidedAt.Before(r.before) || !e.Until().Before(r.before) {
		return nil
	}
	if busy, err := r.busy(ctx, e.Request); err != nil || busy {
		return err
	}
	out, err := r.Seals.Outgoing(ctx, string(e.Request))
	if err != nil {
		return err
	}
	f, err := r.Files.File(ctx, e.Request)
	switch {
	case access.CodeOf(err) == access.NotFound:
		if len(out.Events)+len(out.Seals)+out.Sent > 0 {
			return nil // events of a request that no record tells of
		}
	case err != nil:
		return err
	default:
		// Another decision under the same id came after this one was retired.
		if f.Record.ID != e.Request || !f.Record.DecidedAt.Equal(e.DecidedAt) {
			return nil
		}
		if live, err := r.live(ctx, f); err != nil || live {
			return err
		}
		if !fileBefore(f, r.before) || !chainBefore(out, r.before) {
			return nil
		}
		if !over(f) || !sent(out) {
			// Unless it was found to be so before, and half of it is gone.
			if of, err := r.Record.Retiring(ctx, e.Request); err != nil || !of.Equal(e.DecidedAt) {
				return err
			}
		}
		e.vouchedSince(f) // the index by days lacks what vouched at the start alone
		if forgotten, err := r.forget(ctx, e, out.Seals); err != nil || !forgotten {
			return err
		}
	}
	if err := r.Index.ForgetEntry(ctx, e); err != nil {
		return err
	}
	r.retired++
	return nil
}

// forget removes what is kept of a request, and its entries in the journal. It does
// not where somebody has written of it meanwhile.
func (r *retirement) forget(ctx context.Context, e IndexEntry, seals []audit.Seal) (bool, error) {
	if err := r.Record.MarkRetiring(ctx, e.Request, e.DecidedAt); err != nil {
		return false, err
	}
	if busy, err := r.busy(ctx, e.Request); err != nil || busy {
		return false, err
	}
	if err := r.Record.DropJournal(ctx, seals); err != nil {
		return false, err
	}
	return true, r.Record.ForgetRequest(ctx, e.Request)
}

// busy says whether anything is still to be done about the request.
func (r *retirement) busy(ctx context.Context, id access.RequestID) (bool, error) {
	if there, err := r.Starts.Scheduled(ctx, id); err != nil || there {
		return there, err
	}
	_, err := r.Notices.Notice(ctx, string(id))
	if access.CodeOf(err) == access.NotFound {
		return false, nil
	}
	return true, err
}

// live says whether any leg of the request stands on any NSG that its file names.
func (r *retirement) live(ctx context.Context, f access.File) (bool, error) {
	var on []access.ResourceID
	add := func(legs []access.Leg) {
		for _, l := range legs {
			on = append(append(on, l.NSG), l.Siblings...)
		}
	}
	add(f.Ended)
	for _, g := range append(append([]access.Grant{}, f.Record.Grants...), f.Grants()...) {
		add(g.Legs)
	}
	for _, id := range distinct(on) {
		legs, err := r.Legs.LegsOf(ctx, id, f.Record.ID)
		if err != nil || len(legs) > 0 {
			return true, err
		}
	}
	return false, nil
}

// fileBefore says whether all that the file tells of was before the time.
func fileBefore(f access.File, before time.Time) bool {
	times := []time.Time{f.Record.DecidedAt, f.Record.Request.StartTime}
	legs := func(list []access.Leg) {
		for _, l := range list {
			times = append(times, l.EndTime, l.OpenBy, l.OpenedAt, l.ClosingAt, l.EndedAt)
		}
	}
	if f.Start != nil {
		times = append(times, f.Start.At)
	}
	for _, v := range f.Revoked {
		times = append(times, v.At)
	}
	for _, g := range append(append([]access.Grant{}, f.Record.Grants...), f.Grants()...) {
		times = append(times, g.EndTime)
		legs(g.Legs)
	}
	legs(f.Ended)
	return !slices.ContainsFunc(times, func(t time.Time) bool { return !t.Before(before) })
}

// over says whether the file tells that every grant is over.
func over(f access.File) bool {
	for _, l := range f.Ended {
		if l.State != access.LegEnded {
			return false
		}
	}
	switch f.Record.Outcome {
	case access.Refused:
		return true
	case access.Accepted:
	default:
		return false
	}
	for _, g := range f.Record.Grants {
		if !grantOver(f, g.Index) {
			return false
		}
	}
	return len(f.Record.Grants) > 0
}

// grantOver says whether the grant has ended on every NSG, or was never begun and
// never will be.
func grantOver(f access.File, index int) bool {
	begun := false
	for _, l := range f.Ended {
		begun = begun || l.Grant == index
	}
	if !begun {
		_, revoked := f.Revocation(index)
		return revoked || f.Start != nil && f.Start.Reason != ""
	}
	g, ok := f.Grant(index)
	for _, l := range g.Legs {
		if !endedIn(f, l) {
			return false
		}
	}
	return ok && len(g.Legs) > 0
}

// chainBefore says whether all that the chain tells of was sealed before the time.
func chainBefore(out Outgoing, before time.Time) bool {
	return !slices.ContainsFunc(out.Events, func(e access.Event) bool { return !e.At.Before(before) }) &&
		!slices.ContainsFunc(out.Seals, func(s audit.Seal) bool { return !s.At.Before(before) })
}

// sent says whether the chain is whole, sealed to its end, and sent. One that was
// tampered with is evidence.
func sent(out Outgoing) bool {
	if len(out.Events) == 0 || len(out.Events) != len(out.Seals) || out.Sent != len(out.Seals) {
		return false
	}
	last := out.Events[len(out.Events)-1].At
	return len(audit.Verify(out.Subject, out.Events, out.Seals, last)) == 0
}
