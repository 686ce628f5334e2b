package broker

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	// grantDetail and askedDetail begin the fields of an event that tell its grants,
	// or the ports that were asked for and refused, each with its place behind.
	grantDetail = "grant."
	askedDetail = "asked."

	byPolicy = " by policy "
	byTicket = " by ticket "
)

// detailGrants tells an event's grants: what, from where, until when, by which
// version of which policy and, where one vouched, by which event of which ticket.
// readGrant reads it back.
func detailGrants(into map[string]string, grants []access.Grant) {
	for _, g := range grants {
		text := string(g.VM) + " " + port(g.Port, g.Protocol) + " from " + access.FormatPrefix(g.Source) +
			" until " + g.EndTime.UTC().Format(time.RFC3339) + byPolicy + string(g.PolicyScope) + " " + g.PolicyVersion
		if g.Ticket != nil {
			text += byTicket + g.Ticket.Ticket.String() + " event " + g.Ticket.Event
		}
		into[grantDetail+strconv.Itoa(g.Index)] = text
	}
}

// detailAsked tells the ports that were asked for.
func detailAsked(into map[string]string, ports []access.PortRequest) {
	for i, p := range ports {
		into[askedDetail+strconv.Itoa(i)] = string(p.VM) + " " + port(p.Port, p.Protocol) + " from " + access.FormatPrefix(p.Source)
	}
}

func port(number uint16, protocol access.Protocol) string {
	if protocol == access.ProtocolUnset {
		return strconv.Itoa(int(number))
	}
	return strconv.Itoa(int(number)) + "/" + string(protocol)
}

// readGrant gives the machine of a grant or a port as it was told, and by which
// policy and ticket it was allowed.
func readGrant(text string) (vm access.ResourceID, policy, vouched string) {
	text, vouched, _ = strings.Cut(text, byTicket)
	text, policy, _ = strings.Cut(text, byPolicy)
	id, _, _ := strings.Cut(text, " ")
	return access.ResourceID(id), policy, vouched
}

// chainView is what the events of a subject say together.
type chainView struct {
	byID   map[string]access.Event
	asked  *access.Event     // that the request was accepted or refused
	grants map[string]string // by their places
	vms    []access.ResourceID
}

func newChainView(events []access.Event) *chainView {
	v := &chainView{byID: map[string]access.Event{}, grants: map[string]string{}}
	for _, e := range events {
		v.byID[e.ID()] = e
		if e.Kind == access.EventRequested || e.Kind == access.EventRefused {
			v.asked = &e
		}
		if vm := e.Detail["vm"]; vm != "" {
			v.vms = append(v.vms, access.ResourceID(vm))
		}
		// A revocation has fields of that name too, which say why.
		if e.Kind != access.EventRequested && e.Kind != access.EventRefused && e.Kind != access.EventStarted {
			continue
		}
		for name, text := range e.Detail {
			place, granted := strings.CutPrefix(name, grantDetail)
			if granted {
				v.grants[place] = text
			}
			if granted || strings.HasPrefix(name, askedDetail) {
				vm, _, _ := readGrant(text)
				v.vms = append(v.vms, vm)
			}
		}
	}
	return v
}

// row gives the row of an entry, and whether it matches. Whose event is gone
// matches what its event was asked for: nobody's name or machine is to vanish from
// an audit with it.
func (v *chainView) row(f AuditFilter, entry JournalEntry) (AuditRow, bool) {
	row := AuditRow{JournalEntry: entry}
	e, ok := v.byID[entry.Seal.Event]
	if !ok {
		return row, true
	}
	row.Event = &e
	if v.asked != nil {
		row.Request = v.request(e)
	}
	return row, v.concerns(f.VM, e) && (f.Requestor == "" || row.Request != nil && access.SameName(row.Request.Requestor, f.Requestor))
}

// request tells where an event comes from.
func (v *chainView) request(e access.Event) *AuditRequest {
	d := v.asked.Detail
	r := &AuditRequest{Requestor: d["requestor"], RequestedBy: v.asked.Actor, Channel: d["channel"], Justification: d["justification"], Ticket: d["ticket"]}
	text, ok := v.grants[e.Detail["grant"]]
	if !ok && len(v.grants) == 1 {
		for _, text = range v.grants {
		}
	}
	_, r.Policy, r.Vouched = readGrant(text)
	return r
}

func (v *chainView) concerns(vm access.ResourceID, e access.Event) bool {
	switch {
	case vm == "", e.Subject == SubjectLockdown:
		return true
	case e.Detail["vm"] != "":
		return e.Detail["vm"] == string(vm)
	}
	return slices.Contains(vm.Scopes(), access.ResourceID(e.Subject)) || slices.Contains(v.vms, vm)
}
