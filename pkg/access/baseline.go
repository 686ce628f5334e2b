package access

import (
	"fmt"
	"net/netip"
	"time"
)

// PortNumber is a port by one protocol.
type PortNumber struct {
	Number   uint16   `json:"number"`
	Protocol Protocol `json:"protocol"`
}

// BaselineState is where a baseline stands on its way.
type BaselineState string

// The states of a baseline. Its deny goes only from Lifting, which somebody's
// decision has to record: that a baseline is not on record lifts nothing.
const (
	BaselineShutting BaselineState = "Shutting" // recorded; its deny was not seen yet
	BaselineShut     BaselineState = "Shut"     // its deny was written and read back
	BaselineLifting  BaselineState = "Lifting"  // its deny is to go
)

// Baseline keeps ports of one VM shut on one NSG, but for what is granted. The
// rules of the customer before it may still let traffic past it; which those
// are is told, and they are never touched.
type Baseline struct {
	NSG      ResourceID `json:"nsg"`
	VM       ResourceID `json:"vm"`
	UniqueID string     `json:"uniqueId,omitempty"`
	// Destinations are the VM's addresses behind the NSG, of both families.
	Destinations []netip.Addr `json:"destinations"`
	// Release are addresses that were the VM's and are to be let go.
	Release []netip.Addr `json:"release,omitempty"`
	Ports   []PortNumber `json:"ports"`
	// Standing are sources that the deny leaves out: the customer's own rules
	// decide about them, as if there were no baseline.
	Standing []netip.Prefix `json:"standing,omitempty"`
	// Scope is that of the policy which asks for it.
	Scope ResourceID    `json:"scope"`
	State BaselineState `json:"state"`
	// ShutAt is when the deny was first read back.
	ShutAt time.Time `json:"shutAt,omitzero"`
	// BlockedBy says what keeps the baseline from what its state asks for.
	BlockedBy string `json:"blockedBy,omitempty"`

	// ETag is the store's mark of the version that was read; not part of it.
	ETag string `json:"-"`
}

// Key names the baseline among those of its NSG.
func (b Baseline) Key() string { return string(b.VM) }

// String gives the port as "22/TCP".
func (p PortNumber) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }
