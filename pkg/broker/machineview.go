package broker

import (
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// MachineStatus says what can be had of a machine.
type MachineStatus string

// The statuses of a machine.
const (
	Configured    MachineStatus = "Configured"    // a policy covers it
	NotConfigured MachineStatus = "NotConfigured" // none does
	Unsupported   MachineStatus = "Unsupported"   // access to it cannot be opened; Reason says why
)

// ParseMachineStatus reads a status; "" stays unset.
func ParseMachineStatus(s string) (MachineStatus, error) {
	switch m := MachineStatus(s); m {
	case "", Configured, NotConfigured, Unsupported:
		return m, nil
	}
	return "", access.Errorf(access.InvalidArgument, "status_invalid", "a machine's status is Configured, NotConfigured or Unsupported")
}

// BaselineStatus says how far the machine's ports are kept shut.
type BaselineStatus string

// The statuses of a machine's baseline, on all NSGs of its path together.
const (
	BaselineNone     BaselineStatus = "None"
	BaselineIsShut   BaselineStatus = "Shut"
	BaselineOnItsWay BaselineStatus = "Shutting" // wanted, and not seen on every NSG yet
	BaselineBlocked  BaselineStatus = "Blocked"  // BlockedBy says what is in the way
	BaselineIsLifted BaselineStatus = "Lifting"  // to go, and not gone yet
)

// MachineView is a machine as a caller sees it.
type MachineView struct {
	ID     access.ResourceID
	Name   string // as Azure spells it
	OS     string // Linux, Windows or "" for unknown
	Status MachineStatus
	Reason string // why it is Unsupported, for a person
	// Scope and Ports are those of the policy that covers it, if one does.
	Scope access.ResourceID
	Ports []policy.Port
	// Suggested are ports to choose when it is enabled; see [SuggestedPorts].
	Suggested []policy.Port
	// RequireJustification and RequireTicket are the policy's demands.
	RequireJustification, RequireTicket bool
	// MayRequest says whether the caller may ask for access to it.
	MayRequest bool
	Exposure   MachineExposure
	Baseline   BaselineStatus
	BlockedBy  string // what keeps the baseline from its state, for a person
	// Approved counts the requests of the last seven days that were accepted.
	Approved   int
	LastAccess time.Time // zero for never, as far as is known
	LastUser   string
	// AsOf is when the machine and its NSGs were read from Azure.
	AsOf time.Time
}

// MachineExposure says whether one of a machine's ports can be reached from the
// internet: Exposed, Shut or Unknown, and by or because of which rule.
type MachineExposure struct {
	Status   nsg.ExposureStatus
	Port     uint16 // 0 where it is about none
	Protocol access.Protocol
	NSG      access.ResourceID // "" where no rule is named
	Rule     string
	Why      string
}

// managementPorts are looked at on every machine: SSH, RDP and WinRM by HTTP and
// HTTPS, which are those that Defender for Cloud suggests.
var managementPorts = []access.PortNumber{
	{Number: 22, Protocol: access.TCP}, {Number: 3389, Protocol: access.TCP}, {Number: 5985, Protocol: access.TCP}, {Number: 5986, Protocol: access.TCP},
}

// suggestedDuration is the longest time that is suggested for a request, as
// Defender for Cloud has it.
const suggestedDuration = 3 * time.Hour

// SuggestedPorts are the ports to choose when a machine of the system is enabled,
// by TCP and for three hours at most. Their one allowed source is the address, of
// whoever enables it; without an address they have none, and the administrator
// has to name some. Any source is never suggested.
func SuggestedPorts(os string, address netip.Addr) []policy.Port {
	var sources []netip.Prefix
	if address = address.Unmap().WithZone(""); address.IsValid() && !address.IsUnspecified() {
		sources = []netip.Prefix{netip.PrefixFrom(address, address.BitLen())}
	}
	var out []policy.Port
	for _, p := range managementPorts {
		if os == "Linux" && p.Number != 22 || os == "Windows" && p.Number == 22 {
			continue
		}
		out = append(out, policy.Port{Number: p.Number, Protocol: p.Protocol, Sources: sources, MaxDuration: suggestedDuration})
	}
	return out
}

// unsupported says why no access to the machine can be opened; "" where it can,
// by at least one family of addresses.
func unsupported(m Machine) string {
	if m.Unreadable != "" {
		return m.Unreadable
	}
	why := m.Name + " has no private address"
	for _, source := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128)} {
		_, violation := legsOf("", access.Grant{VM: m.ID, Source: source}, m, time.Time{})
		if violation == nil {
			return ""
		}
		if violation.Reason != "no_address_of_family" {
			why = violation.Message
		}
	}
	return why
}

// pathOf lists the NSGs on the machine's ways in.
func pathOf(m Machine) (out []access.ResourceID) {
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			for _, id := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
				if id != "" && !slices.Contains(out, id) {
					out = append(out, id)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// layersOf gives what stands before an address, the outermost first. Not known
// names one that could not be read.
func layersOf(nic NIC, a Address, layers map[access.ResourceID]nsg.Layer) (out []nsg.Layer, unknown access.ResourceID) {
	for _, id := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
		if id == "" {
			continue
		}
		l, ok := layers[id]
		if !ok {
			return nil, id
		}
		out = append(out, l)
	}
	return out, ""
}

// exposureOf looks at the management ports and the policy's own on every address
// of the machine. Exposed outweighs Unknown, and that Shut.
func exposureOf(rules nsg.Settings, m Machine, ports []policy.Port, layers map[access.ResourceID]nsg.Layer) MachineExposure {
	if m.Unreadable != "" {
		return MachineExposure{Status: nsg.ExposureUnknown, Why: m.Unreadable}
	}
	looked := slices.Clone(managementPorts)
	for _, p := range ports {
		if n := (access.PortNumber{Number: p.Number, Protocol: p.Protocol}); !slices.Contains(looked, n) {
			looked = append(looked, n)
		}
	}
	out := MachineExposure{Status: nsg.ExposureShut}
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			before, unread := layersOf(nic, a, layers)
			if unread != "" {
				out = MachineExposure{Status: nsg.ExposureUnknown, NSG: unread, Why: "the network security group " + unread.Name() + " could not be read"}
				continue
			}
			for _, p := range looked {
				e := rules.Exposure(before, a.IP, p.Number, p.Protocol)
				if e.Status == nsg.ExposureUnsupported {
					out = MachineExposure{Status: nsg.ExposureUnknown, Why: e.Why}
					break // the same for every port
				}
				if e.Status == nsg.ExposureShut || e.Status == nsg.ExposureUnknown && out.Status == nsg.ExposureUnknown {
					continue
				}
				out = MachineExposure{Status: e.Status, Port: p.Number, Protocol: p.Protocol, NSG: e.NSG, Rule: e.Rule.Name, Why: e.Why}
				if e.Status == nsg.Exposed {
					return out
				}
			}
		}
	}
	return out
}

// baselineStatus sums up the machine's baselines: those on record, and those that
// its policy asks for and that are not on record yet.
func baselineStatus(m Machine, p policy.AccessPolicy, rows []access.Baseline) (BaselineStatus, string) {
	status, blockedBy := BaselineNone, ""
	for _, row := range rows {
		switch {
		case row.VM != m.ID:
			continue
		case row.BlockedBy != "":
			return BaselineBlocked, row.BlockedBy
		case row.State == access.BaselineShutting:
			status = BaselineOnItsWay
		case row.State == access.BaselineLifting && status != BaselineOnItsWay:
			status = BaselineIsLifted
		case status == BaselineNone:
			status = BaselineIsShut
		}
	}
	if p.Shuts() {
		for _, want := range baselinesOf(m, p) {
			if !slices.ContainsFunc(rows, func(r access.Baseline) bool { return r.VM == m.ID && r.NSG == want.NSG }) {
				status = BaselineOnItsWay
			}
		}
	}
	return status, blockedBy
}
