package broker

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// endUnvouched ends, TicketEnded, the grants for which the ticket vouched and, as
// it is known now, does so no more. The event is why they are looked at.
//
// The ticket was written before the index is read here, and a Submit enters its
// request in the index before it writes the legs. So the request is either found
// here, or whoever opens its legs has read the ticket as it is now.
func (d *TicketDesk) endUnvouched(ctx context.Context, e access.TicketEvent, t access.Ticket) error {
	now := d.Desk.Submitter.Clock().UTC()
	ids, err := d.vouchedFor(ctx, e.Ticket, now)
	if err != nil {
		return err
	}
	if asks(e) {
		// Its own request may be decided and not be in the index yet.
		ids = append(ids, access.NewRequestID(ticketSender(e), e.ID))
	}
	files, err := d.Desk.Viewer.read(ctx, ids)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	errs := make(chan error, len(files))
	for _, f := range files {
		g.Go(func() error {
			errs <- d.endOf(ctx, f, e, t)
			return nil
		})
	}
	err = g.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// vouchedFor gives the requests for which the ticket vouched and whose grants may
// not have ended.
func (d *TicketDesk) vouchedFor(ctx context.Context, id access.TicketID, now time.Time) ([]access.RequestID, error) {
	return liveRequests(ctx, d.Desk.Submitter.Index, IndexQuery{Ticket: id}, now, func(IndexEntry) bool { return true })
}

// endOf ends those grants of one request for which the ticket vouches no more.
// What the ticket ends by its own word waits for no policy.
func (d *TicketDesk) endOf(ctx context.Context, f access.File, e access.TicketEvent, t access.Ticket) error {
	var over, rest []int
	for _, g := range f.Record.Grants {
		v := vouching(f, g)
		if v == nil || v.Ticket != t.ID {
			continue
		}
		ended, err := d.ended(ctx, f, v.Event, e, t)
		switch {
		case err != nil:
			return err
		case ended:
			over = append(over, g.Index)
		case !f.Over(g.Index):
			rest = append(rest, g.Index)
		}
	}
	err := d.endGrants(ctx, f, over, e, t, nil)
	if len(rest) == 0 {
		return err
	}
	lost, why, e2 := d.lost(ctx, f, rest, t)
	return errors.Join(err, e2, d.endGrants(ctx, f, lost, e, t, why))
}

func (d *TicketDesk) endGrants(ctx context.Context, f access.File, grants []int, e access.TicketEvent, t access.Ticket, why map[string]string) error {
	if len(grants) == 0 {
		return nil
	}
	detail := map[string]string{"ticket": t.ID.String(), "ticketEvent": t.Event}
	if t.Event == e.ID && e.Actor != "" {
		detail["ticketActor"] = e.Actor
	}
	maps.Copy(detail, why)
	return d.Desk.end(ctx, f, grants, ending{reason: access.TicketEnded, by: "source/" + t.ID.Source, key: t.Event, detail: detail})
}

// lost gives those of the grants that the ticket, as it is known now, does not
// vouch for any more under the policies that stand, and why: it is somebody else's,
// in another state, or its window was moved. Conditions are not looked at: they are
// of the time of opening.
func (d *TicketDesk) lost(ctx context.Context, f access.File, grants []int, t access.Ticket) (lost []int, why map[string]string, err error) {
	s := d.Desk.Submitter
	policies, err := policiesFor(ctx, s.Policies, f.Record.Request.Ports)
	if err != nil {
		return nil, nil, err
	}
	why = map[string]string{}
	for _, i := range grants {
		q, ok := questionOf(f, i)
		if !ok {
			continue
		}
		verdict := policy.Judge(q.req, policies, policy.Tickets{
			Known: []access.Ticket{t}, Found: q.found, AsOf: q.asOf, Now: s.Clock().UTC(),
		}, policy.Limits{}, q.decidedAt)
		if refused, is := verdict.Refused(); is {
			for _, v := range refused.Violations {
				if policy.NoLongerVouches(v.Reason) {
					lost, why["grant."+strconv.Itoa(i)] = append(lost, i), v.Reason
					break
				}
			}
		}
	}
	return lost, why, nil
}

// vouching is what vouched for a grant: what its policy demanded, when it was
// decided or at its start, or else the event that made the request.
func vouching(f access.File, g access.Grant) *access.Vouched {
	if at, ok := f.Grant(g.Index); ok && at.Ticket != nil {
		return at.Ticket
	}
	if g.Ticket != nil {
		return g.Ticket
	}
	return f.Record.Request.Event
}

// ended says whether the ticket's own word ends what an event of it allowed: it is
// ended, or was since that or since the event that made the request. Where the event
// at hand ends and a later one does not, it ends what was allowed by then, and not
// what the later one allowed.
func (d *TicketDesk) ended(ctx context.Context, f access.File, allowedBy string, e access.TicketEvent, t access.Ticket) (bool, error) {
	last := t.EndedAt
	if e.Ends && e.At.After(last) {
		last = e.At // it was taken, and overtaken before it was written down
	}
	if t.Ended || last.IsZero() {
		return t.Ended, nil
	}
	events := []string{allowedBy}
	if by := f.Record.Request.Event; by != nil && by.Ticket == t.ID {
		events = append(events, by.Event)
	}
	for _, id := range distinct(events) {
		by, err := d.Kept.TicketEvent(ctx, id)
		if access.CodeOf(err) == access.NotFound || err == nil && !by.At.After(last) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}
