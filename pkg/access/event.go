package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// EventKind names what happened.
type EventKind string

// The kinds of event.
const (
	EventRequested    EventKind = "Requested"    // a request was accepted
	EventRefused      EventKind = "Refused"      // a request was refused
	EventOpened       EventKind = "Opened"       // a leg was opened, read back and evaluated
	EventClosing      EventKind = "Closing"      // the end of a leg was recorded
	EventClosed       EventKind = "Closed"       // a leg is gone, read back
	EventFailed       EventKind = "Failed"       // a leg that never opened is gone
	EventDeadLettered EventKind = "DeadLettered" // a message could not be processed
	EventRestored     EventKind = "Restored"     // an open leg that the record had lost was laid again, and confirmed
	EventRuleRemoved  EventKind = "RuleRemoved"  // a rule of ours that no live leg covers was removed

	EventBaselineShut   EventKind = "BaselineShut"   // a VM's ports were shut on an NSG, read back
	EventBaselineLifted EventKind = "BaselineLifted" // a VM's deny is gone from an NSG, read back

	EventPolicyChanged EventKind = "PolicyChanged" // a policy was stored
	EventPolicyRemoved EventKind = "PolicyRemoved" // a policy was disabled, to be removed

	EventStarted    EventKind = "Started"    // the time of a scheduled request came, and it was let in
	EventNotStarted EventKind = "NotStarted" // the time of a scheduled request came, and it was not let in
	EventRevoked    EventKind = "Revoked"    // somebody ended grants before their time
	EventExtended   EventKind = "Extended"   // another request takes over grants of this one

	EventOverdue EventKind = "Overdue" // a leg is past its time and not closed yet
	EventDrift   EventKind = "Drift"   // an NSG is not what it ought to be, and is put right

	EventSourceChanged EventKind = "SourceChanged" // a ticketing source was stored
	EventSourceRemoved EventKind = "SourceRemoved" // a ticketing source was removed
	EventTicket        EventKind = "Ticket"        // a source said something of a ticket

	EventLockedDown     EventKind = "LockedDown"     // every door is to be shut, and kept shut
	EventLockdownLifted EventKind = "LockdownLifted" // requests are taken again
)

// EventKinds lists every kind of event.
func EventKinds() []EventKind {
	return []EventKind{
		EventRequested, EventRefused, EventOpened, EventClosing, EventClosed, EventFailed, EventDeadLettered, EventRestored, EventRuleRemoved,
		EventBaselineShut, EventBaselineLifted, EventPolicyChanged, EventPolicyRemoved, EventStarted, EventNotStarted, EventRevoked, EventExtended,
		EventOverdue, EventDrift, EventSourceChanged, EventSourceRemoved, EventTicket, EventLockedDown, EventLockdownLifted,
	}
}

// ParseEventKind reads a kind's name, in any case.
func ParseEventKind(s string) (EventKind, error) {
	for _, k := range EventKinds() {
		if strings.EqualFold(string(k), s) {
			return k, nil
		}
	}
	return "", Errorf(InvalidArgument, "event_kind_unknown", "%s is no kind of event; there is %s and others", quote(s), EventOpened)
}

// Event is one decision or change, written once and never altered. Audit,
// history and outgoing events are readers of these rows.
type Event struct {
	// Subject is the id of the request it belongs to, or, for what happens outside
	// any request, a resource id, "lockdown", "source/<name>" or
	// "ticket/<source>/<key>".
	Subject string    `json:"subject"`
	Kind    EventKind `json:"kind"`
	At      time.Time `json:"at"`
	// Actor is who caused it: a requestor, or "portcullis".
	Actor string `json:"actor,omitempty"`
	// Key tells apart events of one kind in one subject; the same subject, kind
	// and key is the same event, however often it is written.
	Key string `json:"key,omitempty"`
	// Detail holds what a reader needs to understand it, by field name.
	Detail map[string]string `json:"detail,omitempty"`
}

// ID names the event within its subject.
func (e Event) ID() string { return fmt.Sprintf("%s-%s", e.Kind, e.Key) }

// inOneMoment is the order of what has one time: cause before effect.
var inOneMoment = []EventKind{
	EventDeadLettered, EventTicket, EventRequested, EventRefused, EventExtended, EventStarted, EventNotStarted, EventOpened, EventRestored,
	EventRevoked, EventOverdue, EventDrift, EventClosing, EventRuleRemoved, EventClosed, EventFailed,
}

// CompareEvents orders the events of one subject: by their time, in one moment
// cause before effect, and then by their IDs, so that everybody finds the same
// order.
func CompareEvents(a, b Event) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(slices.Index(inOneMoment, a.Kind), slices.Index(inOneMoment, b.Kind)), cmp.Compare(a.ID(), b.ID()))
}
