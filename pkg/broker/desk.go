package broker

import (
	"context"
	"errors"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// DeskPorts are what Desk needs.
type DeskPorts struct {
	Submitter *Submitter
	Viewer    *Viewer
	Legs      LegWriter
	Events    Events
	History   History
	Heads     Heads
}

// Desk is where people ask for access, look at what became of it, extend it and
// give it back. It decides who may do what.
type Desk struct{ DeskPorts }

// NewDesk makes a Desk; every port is required.
func NewDesk(p DeskPorts) (*Desk, error) {
	if p.Submitter == nil || p.Viewer == nil || p.Legs == nil || p.Events == nil || p.History == nil || p.Heads == nil {
		return nil, errors.New("broker: a port of the desk is missing")
	}
	return &Desk{p}, nil
}

// Ask is a request as a caller makes it.
type Ask struct {
	// ClientID is the id that the caller gave it; the same again is the same request.
	ClientID string
	// Requestor is who it is for; "" or the caller's own name is the caller.
	Requestor             string
	Justification, Ticket string
	Ports                 []access.PortRequest
	StartTime             time.Time // zero for at once
	BodyHash              string
}

// Request decides a request and, when it is accepted, sets it going; see
// [Submitter.Submit]. Roles: RoleRequest for oneself, RoleRequestForOthers to
// name another. The same again shows what became of it since.
func (d *Desk) Request(ctx context.Context, by access.Caller, ask Ask) (access.Situation, error) {
	who := by.Requestor()
	if other := ask.Requestor; other != "" && !access.SameName(other, by.Name) {
		if err := by.Need(access.RoleRequestForOthers); err != nil {
			return access.Situation{}, err
		}
		// Only a name: what a policy grants to an object id is not somebody else's to
		// ask for.
		who = access.Requestor{Name: other}
	} else if err := by.Need(access.RoleRequest); err != nil {
		return access.Situation{}, err
	}
	req := access.Request{
		ClientID: ask.ClientID, Requestor: who, RequestedBy: by.Sender(), Justification: ask.Justification, Ticket: ask.Ticket,
		Ports: ask.Ports, StartTime: ask.StartTime, Roles: by.Roles, BodyHash: ask.BodyHash,
	}
	rec, fresh, err := d.Submitter.submit(ctx, access.NewRequestID(req.RequestedBy, req.ClientID), req.BodyHash, func() (access.Request, error) { return req, nil })
	return d.show(ctx, rec, fresh, err)
}

// show gives what was just decided, or what became of it since. What was
// accepted stays accepted if that cannot be read now: then as it was recorded.
func (d *Desk) show(ctx context.Context, rec access.Record, fresh bool, err error) (access.Situation, error) {
	asRecorded := access.File{Record: rec}.At(d.Submitter.Clock().UTC(), nil)
	if err != nil || fresh {
		return asRecorded, err
	}
	now, err := d.Viewer.View(ctx, rec.ID)
	if err != nil {
		return asRecorded, nil
	}
	return now, nil
}

// View shows a request as it now stands. Roles: any that asks, for one's own;
// RoleReadAll for all. What is not the caller's to see is not_found,
// request_unknown.
func (d *Desk) View(ctx context.Context, by access.Caller, id access.RequestID) (access.Situation, error) {
	if err := needAny(by); err != nil {
		return access.Situation{}, err
	}
	now, err := d.Viewer.View(ctx, id)
	if access.CodeOf(err) == access.NotFound || err == nil && !maySee(by, now.Record) {
		return access.Situation{}, unknown()
	}
	return now, err
}

// EventsOf gives what happened to a request, in the order in which it did. Who
// may see it is who may see the request.
func (d *Desk) EventsOf(ctx context.Context, by access.Caller, id access.RequestID) ([]access.Event, error) {
	if _, err := d.file(ctx, by, id); err != nil {
		return nil, err
	}
	return d.History.EventsOf(ctx, string(id))
}

// file gives what is kept of a request that the caller may see.
func (d *Desk) file(ctx context.Context, by access.Caller, id access.RequestID) (access.File, error) {
	if err := needAny(by); err != nil {
		return access.File{}, err
	}
	files, err := d.Viewer.read(ctx, []access.RequestID{id})
	if err != nil {
		return access.File{}, err
	}
	f, ok := files[id]
	if !ok || !maySee(by, f.Record) {
		return access.File{}, unknown()
	}
	return f, nil
}

func needAny(by access.Caller) error {
	return by.Need(access.RoleRequest, access.RoleRequestForOthers, access.RoleReadAll)
}

func unknown() error {
	return access.Errorf(access.NotFound, "request_unknown", "there is no such access request, or it is not yours to see")
}

func maySee(by access.Caller, rec access.Record) bool {
	return by.Has(access.RoleReadAll) || isOwn(by, rec.Request.RequestedBy, rec.Request.Requestor)
}

// isOwn says whether the caller handed the request in, or another verified
// caller did in their name. A name that a queue asserted proves nothing, so it
// makes nobody the owner.
func isOwn(by access.Caller, sender access.Sender, requestor access.Requestor) bool {
	if sender.Channel != access.ChannelHTTP {
		return false
	}
	return sender.Principal == by.Principal() || requestor.ObjectID == "" && access.SameName(requestor.Name, by.Name)
}
