package broker

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// schedule sees to it that the request is started when its time has come: by a
// message and, should that be lost, by Sweep.
func (s *Submitter) schedule(ctx context.Context, rec access.Record) error {
	if err := s.Starts.Schedule(ctx, rec.ID, rec.Request.StartTime); err != nil {
		return err
	}
	return s.StartPrompts.PromptStart(ctx, rec.ID, rec.Request.StartTime)
}

// Start begins a scheduled request whose time has come: the policies, the
// requestor's admission, the ticket that vouched (it must be fresh now) and the
// lockdown are judged again, all or nothing, and what is granted is carried out. enqueued is the broker's time of the message
// that asks for it (zero for none).
//
// It looks at the record and the clock alone, so that it may be asked for by
// anybody at any time: an unknown request, one that is not due, and one that was
// started before are none of its business and no error. It may be cut off
// anywhere and be repeated; every error is worth trying again.
func (s *Submitter) Start(ctx context.Context, id access.RequestID, enqueued time.Time) (err error) {
	ctx, end := s.Meter.Span(ctx, "Start", slog.String("request.id", string(id)))
	defer func() { end(err) }()
	there, err := s.Starts.Scheduled(ctx, id)
	if err != nil || !there {
		return err
	}
	f, err := s.Files.File(ctx, id)
	if access.CodeOf(err) == access.NotFound {
		// The record is written before the note: it was lost, and there is nothing to
		// start. Should the decision be pending yet, who finishes it notes it again.
		return s.Starts.Unschedule(ctx, id)
	}
	if err != nil {
		return err
	}
	now := s.Clock().UTC()
	if enqueued.After(now) {
		now = enqueued.UTC()
	}
	if now.Before(f.Record.Request.StartTime) {
		return nil
	}
	if f.Start == nil && !allOver(f) {
		st, err := s.decideStart(ctx, f.Record, now)
		if err != nil {
			return err
		}
		// Whoever writes first has decided.
		if st, err = s.Starts.DecideStart(ctx, st, []access.Event{startEvent(st)}); err != nil {
			return err
		}
		f.Start = &st
	}
	if f.Start != nil {
		// Before any leg, as in resume: a ticket that no policy demanded when the request
		// was decided may vouch for it now.
		if e := entryOf(f.Record); e.vouchedSince(f) {
			if err := s.Index.Enter(ctx, e); err != nil {
				return err
			}
		}
		var legs []access.Leg
		for _, g := range f.Start.Grants {
			if _, revoked := f.Revocation(g.Index); revoked {
				continue
			}
			// Cut off before, it may have laid some legs of a grant, and they may have
			// ended since. Their siblings are laid all the same: they end too, and tell it.
			for _, l := range g.Legs {
				if !endedIn(f, l) {
					legs = append(legs, l)
				}
			}
		}
		if err := s.carryOut(ctx, legs); err != nil {
			return err
		}
	}
	return s.Starts.Unschedule(ctx, id)
}

func allOver(f access.File) bool {
	for _, g := range f.Record.Grants {
		if !f.Over(g.Index) {
			return false
		}
	}
	return true
}

func (s *Submitter) decideStart(ctx context.Context, rec access.Record, now time.Time) (access.Start, error) {
	st := access.Start{Request: rec.ID, At: now}
	var last time.Time
	for _, g := range rec.Grants {
		if g.EndTime.After(last) {
			last = g.EndTime
		}
	}
	if !last.After(now) {
		st.Reason, st.Message = access.Expired, "its time was over before it could be started"
		return st, nil
	}
	grants, err := s.grants(ctx, rec, now, policy.Limits{})
	if retryable(err) {
		return st, err
	}
	if err != nil {
		e := access.AsError(err)
		st.Message = e.Message
		switch {
		case e.Reason == "locked_down":
			st.Reason = access.LockedDown
		case e.Code == access.PermissionDenied:
			vouched := slices.ContainsFunc(rec.Grants, func(g access.Grant) bool { return g.Ticket != nil })
			st.Reason = lostReason(vouched, e.Violations)
		default:
			st.Reason = access.TargetChanged
		}
		return st, nil
	}
	for i, g := range grants {
		if g.UniqueID != rec.Grants[i].UniqueID {
			st.Reason, st.Message = access.TargetChanged, "another virtual machine has taken the place of "+g.VM.Name()
			return st, nil
		}
	}
	st.Grants = grants
	return st, nil
}

func startEvent(st access.Start) access.Event {
	e := access.Event{Subject: string(st.Request), Kind: access.EventStarted, At: st.At, Actor: "portcullis", Detail: map[string]string{}}
	if st.Reason != "" {
		e.Kind = access.EventNotStarted
		e.Detail["statusReason"], e.Detail["message"] = string(st.Reason), strings.TrimSpace(st.Message)
	}
	detailGrants(e.Detail, st.Grants)
	return e
}
