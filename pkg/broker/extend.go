package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Extension asks for more time. Exactly one of Duration and EndTime is set.
type Extension struct {
	ClientID string
	// Duration counts from acceptance, as it does in every request.
	Duration      time.Duration
	EndTime       time.Time
	Justification string // that of the request which is extended, when it is ""
	BodyHash      string
}

// Extend makes a new request that takes over those live grants of an old one
// which it makes longer, from the same sources. The old grants end,
// NewerRequestInitiated, once the new are open; the doors stay open all the
// while. The policies are judged again, and their longest time counts from when
// the door was first to be opened. Roles as for [Desk.Request].
//
// The same again gives the same request. Errors, beside those of
// [Submitter.Submit]: not_found, request_unknown; permission_denied, not_yours,
// for what is the caller's to see alone; failed_precondition, grant_not_live,
// for what was refused, has ended or has not begun, and extension_not_longer.
func (d *Desk) Extend(ctx context.Context, by access.Caller, id access.RequestID, e Extension) (access.Situation, error) {
	f, err := d.file(ctx, by, id)
	if err != nil {
		return access.Situation{}, err
	}
	who, err := extends(by, f.Record)
	if err != nil {
		return access.Situation{}, err
	}
	hash := fmt.Sprintf("extend/%s/%s", id, e.BodyHash)
	sender := by.Sender()
	rec, fresh, err := d.Submitter.submit(ctx, access.NewRequestID(sender, e.ClientID), hash, func() (access.Request, error) {
		now, err := d.Viewer.View(ctx, id)
		if err != nil {
			return access.Request{}, err
		}
		ports, err := longer(f, now, e, d.Submitter.Clock().UTC())
		if err != nil {
			return access.Request{}, err
		}
		old := f.Record.Request
		justification := e.Justification
		if justification == "" {
			justification = old.Justification
		}
		return access.Request{
			ClientID: e.ClientID, Requestor: who, RequestedBy: sender, Justification: justification, Ticket: old.Ticket,
			Ports: ports, Extends: id, Roles: by.Roles, BodyHash: hash,
		}, nil
	})
	return d.show(ctx, rec, fresh, err)
}

// extends says for whom the caller's extension of the request is, if they may.
func extends(by access.Caller, rec access.Record) (access.Requestor, error) {
	who := rec.Request.Requestor
	switch {
	case !isOwn(by, rec.Request.RequestedBy, who):
		return who, access.Errorf(access.PermissionDenied, "not_yours", "the request is somebody else's: make one of your own")
	case access.SameName(who.ObjectID, by.ObjectID) || access.SameName(who.Name, by.Name):
		return by.Requestor(), by.Need(access.RoleRequest)
	}
	return who, by.Need(access.RoleRequestForOthers)
}

// longer asks anew for the live grants that the extension makes longer.
func longer(f access.File, now access.Situation, e Extension, at time.Time) ([]access.PortRequest, error) {
	end := e.EndTime
	if e.Duration > 0 {
		end = at.Add(e.Duration)
	}
	var out []access.PortRequest
	live := 0
	for _, g := range now.Record.Grants {
		if f.Over(g.Index) || !isLive(now, g, at) {
			continue
		}
		live++
		if !end.UTC().Truncate(time.Second).After(g.EndTime) {
			continue
		}
		since := g.Since
		if since.IsZero() {
			since = now.Record.Start()
		}
		out = append(out, access.PortRequest{
			VM: g.VM, Port: g.Port, Protocol: g.Protocol, Source: g.Source, Duration: e.Duration, EndTime: e.EndTime,
			Since: since, Replaces: access.GrantKey(now.Record.ID, g.Index), Path: fmt.Sprintf("grants[%d]", g.Index),
		})
	}
	switch {
	case live == 0:
		return nil, access.Errorf(access.FailedPrecondition, "grant_not_live", "nothing of the request is open or opening any more: make a new one")
	case len(out) == 0:
		return nil, access.Errorf(access.FailedPrecondition, "extension_not_longer", "the request lasts as long as that already: name a later end")
	}
	return out, nil
}

// isLive says whether every leg of the grant stands, or is to open.
func isLive(now access.Situation, g access.Grant, at time.Time) bool {
	var legs []access.Leg
	for _, l := range now.Legs {
		if l.Grant == g.Index {
			legs = append(legs, l)
		}
	}
	return now.Record.Outcome == access.Accepted && len(legs) > 0 && g.EndTime.After(at) &&
		!slices.ContainsFunc(legs, func(l access.Leg) bool { return !l.Live() })
}
