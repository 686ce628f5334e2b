package broker

import (
	"context"
	"net/netip"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// NeighbourKind says what reaches a machine by the default rule for virtual
// networks, and not once a baseline stands.
type NeighbourKind string

// The kinds of neighbour.
const (
	OwnNetwork  NeighbourKind = "network" // the machine's own virtual network
	PeerNetwork NeighbourKind = "peer"    // one that is peered with it
	Bastion     NeighbourKind = "bastion" // the subnet of an Azure Bastion, in either
	Gateway     NeighbourKind = "gateway" // what is behind a VPN or ExpressRoute gateway
)

// Neighbour is a part of the network around a machine. What is behind a gateway
// is not known to Azure's network, so that a Gateway has no prefixes.
type Neighbour struct {
	Kind     NeighbourKind
	ID       access.ResourceID // of the network or subnet
	Prefixes []netip.Prefix
}

// Balanced is what a load balancer sends to an address of a machine.
type Balanced struct {
	Address  netip.Addr
	Balancer access.ResourceID
	Name     string // of the probe or the rule
	Probe    bool
	Port     uint16 // of the machine
	Protocol access.Protocol
}

// Surroundings are what stands around a machine and may need its ports.
type Surroundings struct {
	Neighbours []Neighbour
	Balanced   []Balanced
	// Unread says, for a person, what of it could not be read.
	Unread []string
}

// Neighbourhood looks at what stands around machines.
type Neighbourhood interface {
	// Surroundings gives the machine's surroundings as read not before notBefore.
	// What our identity may not read is told in Unread, and no error. Error
	// unavailable.
	Surroundings(ctx context.Context, m Machine, notBefore time.Time) (Surroundings, error)
}
