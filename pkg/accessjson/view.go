package accessjson

import (
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// RequestView is a request as the access API shows it.
type RequestView struct {
	ID              access.RequestID `json:"id"`
	ClientRequestID string           `json:"clientRequestId,omitempty"`
	Outcome         access.Outcome   `json:"outcome"`
	Requestor       string           `json:"requestor,omitempty"`
	RequestedBy     string           `json:"requestedBy,omitempty"`
	Channel         access.Channel   `json:"channel"`
	Justification   string           `json:"justification,omitempty"`
	Ticket          string           `json:"ticket,omitempty"`
	DecidedAtUTC    time.Time        `json:"decidedAtUtc"`
	// StartTimeUTC is when its grants begin: its start, or when it was decided.
	StartTimeUTC    time.Time        `json:"startTimeUtc"`
	Extends         access.RequestID `json:"extends,omitempty"`
	ExtendedBy      access.RequestID `json:"extendedBy,omitempty"`
	VirtualMachines []VMView         `json:"virtualMachines,omitempty"`
	Refusal         *access.Refusal  `json:"refusal,omitempty"`
	// Cause is the record's, for who may read everything; View leaves it out.
	Cause string `json:"cause,omitempty"`
}

// VMView is one machine of a request.
type VMView struct {
	ID    access.ResourceID `json:"id"`
	Ports []PortView        `json:"ports"`
}

// PortView is one port of a request, with what became of it.
type PortView struct {
	// Index names the grant where some of a request's are to be given back.
	Index        int                 `json:"index"`
	Number       uint16              `json:"number"`
	Protocol     access.Protocol     `json:"protocol,omitempty"`
	Source       string              `json:"allowedSourceAddressPrefix"`
	EndTimeUTC   time.Time           `json:"endTimeUtc,omitzero"`
	Status       access.Status       `json:"status,omitempty"`
	StatusReason access.StatusReason `json:"statusReason,omitempty"`
	BlockedBy    string              `json:"blockedBy,omitempty"`
	OpenedAtUTC  time.Time           `json:"openedAtUtc,omitzero"`
	EndedAtUTC   time.Time           `json:"endedAtUtc,omitzero"`
	// Ticket is the ticket that vouched for it.
	Ticket *TicketView `json:"ticket,omitempty"`
}

// TicketView names a ticket and the event of it by which something was allowed.
type TicketView struct {
	Source string `json:"source"`
	Key    string `json:"key"`
	Event  string `json:"event"`
}

func ticketView(v *access.Vouched) *TicketView {
	if v == nil {
		return nil
	}
	return &TicketView{Source: v.Ticket.Source, Key: v.Ticket.Key, Event: v.Event}
}

// View shows a request as it stands.
func View(now access.Situation) RequestView {
	rec := now.Record
	v := RequestView{
		ID: rec.ID, ClientRequestID: rec.Request.ClientID, Outcome: rec.Outcome, Requestor: rec.Request.Requestor.Name,
		RequestedBy: rec.Request.RequestedBy.Name, Channel: rec.Request.RequestedBy.Channel, Justification: rec.Request.Justification,
		Ticket: rec.Request.Ticket, DecidedAtUTC: rec.DecidedAt.UTC(), StartTimeUTC: rec.Start().UTC(),
		Extends: rec.Request.Extends, ExtendedBy: now.ExtendedBy, Refusal: rec.Refusal,
	}
	if v.RequestedBy == "" {
		v.RequestedBy = rec.Request.RequestedBy.Principal
	}
	if rec.Outcome != access.Accepted {
		for i, p := range rec.Request.Ports {
			v.port(p.VM, PortView{Index: i, Number: p.Port, Protocol: p.Protocol, Source: access.FormatPrefix(p.Source)})
		}
		return v
	}
	for _, g := range rec.Grants {
		s := now.Status(g.Index)
		v.port(g.VM, PortView{
			Index: g.Index, Number: g.Port, Protocol: g.Protocol, Source: access.FormatPrefix(g.Source), EndTimeUTC: g.EndTime.UTC(),
			Status: s.Status, StatusReason: s.Reason, BlockedBy: s.BlockedBy, OpenedAtUTC: s.OpenedAt, EndedAtUTC: s.EndedAt,
			Ticket: ticketView(g.Ticket),
		})
	}
	return v
}

func (v *RequestView) port(vm access.ResourceID, p PortView) {
	for i := range v.VirtualMachines {
		if v.VirtualMachines[i].ID == vm {
			v.VirtualMachines[i].Ports = append(v.VirtualMachines[i].Ports, p)
			return
		}
	}
	v.VirtualMachines = append(v.VirtualMachines, VMView{ID: vm, Ports: []PortView{p}})
}
