package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Resume completes what was decided, from any point at which it was cut off.
func (s *Submitter) Resume(ctx context.Context, rec access.Record) error {
	_, err := s.resume(ctx, rec)
	return err
}

// resume is Resume, and gives the record that stands. Begin looks at two
// tables, so of two deliveries at once the later may write its own decision
// into pending/ just after the earlier was finished: what was kept first is
// what is carried out, and nothing that no record tells of.
//
// The order keeps the invariants: the record and its event come first (opens
// wait for them), then the delayed close, and only then the legs, because from
// the moment a leg is written anybody's reconcile may open it.
func (s *Submitter) resume(ctx context.Context, rec access.Record) (access.Record, error) {
	rec, err := s.Requests.Keep(ctx, rec, []access.Event{decisionEvent(rec)})
	if err != nil {
		return access.Record{}, err
	}
	// Before any leg: whoever learns that a ticket vouches no more writes that down
	// first and then looks here for the grants that are to end. A request that is not
	// to be found yet has no leg, and whoever opens one later reads the ticket.
	if err := s.Index.Enter(ctx, entryOf(rec)); err != nil {
		return access.Record{}, err
	}
	if rec.Outcome == access.Accepted {
		if rec.Request.StartTime.IsZero() {
			err = s.carryOut(ctx, rec.Legs())
		} else {
			err = s.schedule(ctx, rec)
		}
	}
	if err != nil {
		return access.Record{}, err
	}
	if old := rec.Request.Extends; old != "" && rec.Outcome == access.Accepted {
		if err := s.Events.Append(ctx, []access.Event{{
			Subject: string(old), Kind: access.EventExtended, At: rec.DecidedAt, Actor: entryOf(rec).Asker(), Key: string(rec.ID),
			Detail: map[string]string{"extendedBy": string(rec.ID)},
		}}); err != nil {
			return access.Record{}, err
		}
		if err := s.Marks.Extended(ctx, old, rec.ID); err != nil {
			return access.Record{}, err
		}
	}
	return rec, s.Requests.Finish(ctx, rec.ID)
}

// carryOut schedules the legs' closes, writes the legs and asks for their
// opening.
func (s *Submitter) carryOut(ctx context.Context, legs []access.Leg) error {
	byNSG := map[access.ResourceID][]access.Leg{}
	for _, l := range legs {
		byNSG[l.NSG] = append(byNSG[l.NSG], l)
	}
	groups := slices.Sorted(maps.Keys(byNSG))
	for _, id := range groups {
		for _, end := range endTimes(byNSG[id]) {
			if err := s.Prompts.Prompt(ctx, id, end); err != nil {
				return err
			}
		}
	}
	now := s.Clock().UTC()
	for _, id := range groups {
		if err := s.Ledger.AddLegs(ctx, id, byNSG[id], s.Token(), now); err != nil {
			return err
		}
	}
	for _, id := range groups {
		if err := s.Prompts.Prompt(ctx, id, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

func endTimes(legs []access.Leg) []time.Time {
	var out []time.Time
	for _, l := range legs {
		if !slices.ContainsFunc(out, l.EndTime.Equal) {
			out = append(out, l.EndTime)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func decisionEvent(rec access.Record) access.Event {
	e := access.Event{
		Subject: string(rec.ID), Kind: access.EventRequested, At: rec.DecidedAt, Actor: entryOf(rec).Asker(),
		Detail: map[string]string{
			"channel": string(rec.Request.RequestedBy.Channel), "requestedBy": rec.Request.RequestedBy.Principal, "requestor": rec.Request.Requestor.Name,
			"clientId": rec.Request.ClientID, "justification": rec.Request.Justification, "ticket": rec.Request.Ticket,
		},
	}
	if !rec.Request.StartTime.IsZero() {
		e.Detail["startTimeUtc"] = rec.Request.StartTime.UTC().Format(time.RFC3339)
	}
	if by := rec.Request.Event; by != nil {
		e.Detail["ticketEvent"] = by.Ticket.String() + " event " + by.Event
	}
	if rec.Request.Extends != "" {
		e.Detail["extends"] = string(rec.Request.Extends)
	}
	if rec.Outcome == access.Refused {
		e.Kind = access.EventRefused
		e.Detail["reason"] = rec.Refusal.Reason
		var reasons []string
		for _, v := range rec.Refusal.Violations {
			reasons = append(reasons, strings.TrimSpace(v.Path+" "+v.Reason))
		}
		e.Detail["violations"] = strings.Join(reasons, "; ")
		detailAsked(e.Detail, rec.Request.Ports)
		return e
	}
	detailGrants(e.Detail, rec.Grants)
	return e
}
