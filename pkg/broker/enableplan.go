package broker

import (
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// MachinePlan says what a policy's baseline would change for one machine.
type MachinePlan struct {
	VM     access.ResourceID
	Groups []GroupPlan
	// Unsupported says why the machine cannot be shut; "" where it can.
	Unsupported string
}

// GroupPlan is a machine's part on one NSG.
type GroupPlan struct {
	NSG access.ResourceID
	// Put and Remove are our rules that would be written, all of the NSG's.
	Put    []nsg.Rule
	Remove []string
	// Past are the customer's rules that let traffic past the baseline, Blocking
	// those that would stand before a grant.
	Past, Blocking []Advice
	// CutOff is what passes now and would not any more.
	CutOff []Cut
	// BlockedBy says why the baseline cannot stand; "" where it can.
	BlockedBy string
}

// Cut is something that a baseline would cut off, with what to do.
type Cut struct{ What, Advice string }
