package access

import (
	"fmt"
	"net/netip"
	"time"
)

// Grant lets one source reach one port of one VM until one time. The target is
// the VM, not its address: UniqueID tells a VM from another of the same name
// that came after it.
type Grant struct {
	Index    int          `json:"index"` // its place in the request
	VM       ResourceID   `json:"vm"`
	UniqueID string       `json:"uniqueId,omitempty"` // the VM's vmId
	Port     uint16       `json:"port"`
	Protocol Protocol     `json:"protocol"`
	Source   netip.Prefix `json:"source"`
	EndTime  time.Time    `json:"endTimeUtc"`
	// Since is when the door was first to be opened, before all extensions.
	Since time.Time `json:"since,omitzero"`
	// PolicyScope and PolicyVersion name the policy that allowed it.
	PolicyScope   ResourceID `json:"policyScope"`
	PolicyVersion string     `json:"policyVersion"`
	// Ticket is the ticket that vouched for it, with its event; nil where the policy
	// demands none and no ticket asked.
	Ticket *Vouched `json:"ticket,omitempty"`
	Legs   []Leg    `json:"legs"`
}

// LegState is where a leg stands on its way. It only ever moves forward:
// Opening → Open → Closing → Ended, with steps left out but never taken back.
type LegState string

// The states of a leg. Only an Opening leg may cause an allow rule.
const (
	LegOpening LegState = "Opening" // recorded; its rule may or may not be there yet
	LegOpen    LegState = "Open"    // read back and evaluated: traffic passes
	LegClosing LegState = "Closing" // to be removed; the reason is recorded
	LegEnded   LegState = "Ended"   // read back: no rule of ours lets it through
)

// Leg is a grant on one NSG: a VM behind a subnet's NSG and a NIC's NSG has
// two per port. It carries all that Reconcile needs.
type Leg struct {
	Request      RequestID    `json:"request"`
	Grant        int          `json:"grant"`
	NSG          ResourceID   `json:"nsg"`
	VM           ResourceID   `json:"vm"`
	UniqueID     string       `json:"uniqueId,omitempty"`
	NICs         []ResourceID `json:"nics"`
	Destinations []netip.Addr `json:"destinations"` // one family, the source's
	Source       netip.Prefix `json:"source"`
	Port         uint16       `json:"port"`
	Protocol     Protocol     `json:"protocol"`
	EndTime      time.Time    `json:"endTimeUtc"`
	// OpenBy is when a leg that could not be opened is given up.
	OpenBy time.Time `json:"openBy"`
	// Replaces is the key of the leg that this one takes over once it is open; ""
	// for none.
	Replaces string `json:"replaces,omitempty"`
	// Siblings are the other NSGs on which this grant has a leg.
	Siblings []ResourceID `json:"siblings,omitempty"`
	// Restored says that the record had lost the leg while its rule stood, and that
	// it was laid again from the request: it is judged like a new one, and keeps the
	// rule that is there, but never causes one.
	Restored bool `json:"restored,omitempty"`

	State    LegState     `json:"state"`
	OpenedAt time.Time    `json:"openedAt,omitzero"`
	Reason   StatusReason `json:"statusReason,omitempty"`
	// ClosingAt is when the end was recorded, EndedAt when it was seen.
	ClosingAt time.Time `json:"closingAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// BlockedBy says what keeps the leg from opening or closing, for a person.
	BlockedBy string `json:"blockedBy,omitempty"`

	// ETag is the store's mark of the version that was read; not part of the leg.
	ETag string `json:"-"`
}

// Key names the leg among those of its NSG.
func (l Leg) Key() string { return GrantKey(l.Request, l.Grant) }

// GrantKey is the key of a grant's legs.
func GrantKey(id RequestID, grant int) string { return fmt.Sprintf("%s-%02d", id, grant) }

// Live says whether the leg may still stand for an allow rule.
func (l Leg) Live() bool { return l.State == LegOpening || l.State == LegOpen }

// Status is the state of a grant as a person sees it.
type Status string

// The statuses. Failed means that it never opened.
const (
	Scheduled  Status = "Scheduled" // accepted, and its start is still to come
	Initiating Status = "Initiating"
	Initiated  Status = "Initiated"
	Revoked    Status = "Revoked"
	Failed     Status = "Failed"
)

// StatusReason says why a grant ended or is ending; Defender's words where it
// has them.
type StatusReason string

// The reasons.
const (
	Expired               StatusReason = "Expired"
	UserRequested         StatusReason = "UserRequested"
	NewerRequestInitiated StatusReason = "NewerRequestInitiated"
	RemovedExternally     StatusReason = "RemovedExternally" // somebody else removed or changed its rule
	TargetChanged         StatusReason = "TargetChanged"     // the VM is no longer behind the address
	NotOpenedInTime       StatusReason = "NotOpenedInTime"   // not all legs could be opened; BlockedBy says why

	RevokedByAdministrator StatusReason = "RevokedByAdministrator"
	PolicyChanged          StatusReason = "PolicyChanged" // the policy does not allow it any more
	LockedDown             StatusReason = "LockedDown"
	TicketEnded            StatusReason = "TicketEnded" // the ticket that vouched for it was closed, or does so no more
	// NoRoom: what was left of the grants on an NSG needed more rules than it holds.
	NoRoom StatusReason = "NoRoom"
)

// GrantStatus is what there is to say about one grant now.
type GrantStatus struct {
	Status    Status
	Reason    StatusReason
	BlockedBy string
	OpenedAt  time.Time // when the last leg opened; zero unless all did
	EndedAt   time.Time // when the last leg ended; zero unless all did
}

// StatusOf derives a grant's status from its legs as they now stand. It is
// honest in both directions: Initiated only once every leg is open, Revoked or
// Failed only once every leg has ended. What somebody gave back before it opened
// did not fail. A grant that is being closed keeps its
// status and already carries the reason. No legs at all is Initiating: they
// have not been written yet.
func StatusOf(legs []Leg) GrantStatus {
	s := GrantStatus{Status: Initiating}
	ended, everOpen := 0, 0
	var reasonAt time.Time
	for _, l := range legs {
		if !l.OpenedAt.IsZero() {
			everOpen++
			s.OpenedAt = later(s.OpenedAt, l.OpenedAt)
		}
		if l.State == LegEnded {
			ended++
			s.EndedAt = later(s.EndedAt, l.EndedAt)
		}
		// The first reason recorded is the cause; the others follow from it.
		if l.Reason != "" && (reasonAt.IsZero() || l.ClosingAt.Before(reasonAt)) {
			s.Reason, reasonAt = l.Reason, l.ClosingAt
			if l.BlockedBy != "" {
				s.BlockedBy = l.BlockedBy
			}
		}
		if s.BlockedBy == "" {
			s.BlockedBy = l.BlockedBy
		}
	}
	opened := len(legs) > 0 && everOpen == len(legs)
	if !opened {
		s.OpenedAt = time.Time{}
	}
	switch {
	case len(legs) > 0 && ended == len(legs) && (opened || s.Reason == UserRequested || s.Reason == RevokedByAdministrator):
		s.Status = Revoked
	case len(legs) > 0 && ended == len(legs):
		s.Status = Failed
	case opened:
		s.Status = Initiated
	}
	if ended < len(legs) {
		s.EndedAt = time.Time{}
	}
	return s
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
