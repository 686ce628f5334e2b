// Package defender reads the just-in-time policies of Microsoft Defender for
// Cloud (Microsoft.Security/locations/jitNetworkAccessPolicies, API version
// 2020-01-01) and turns them into access policies. It is pure.
//
// It never widens: what cannot be said in the same words is left out, and told.
package defender

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// MaxExport bounds an export, in bytes: some ten thousand machines.
const MaxExport = 32 << 20

// Policy is one policy of Defender's, as its REST API gives it.
type Policy struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Properties struct {
		VirtualMachines []struct {
			ID    string `json:"id"`
			Ports []Port `json:"ports"`
		} `json:"virtualMachines"`
		Requests []struct {
			Requestor       string    `json:"requestor"`
			StartTime       time.Time `json:"startTimeUtc"`
			VirtualMachines []struct {
				ID    string        `json:"id"`
				Ports []RequestPort `json:"ports"`
			} `json:"virtualMachines"`
		} `json:"requests"`
	} `json:"properties"`
}

// Port is a port of a machine that may be asked for.
type Port struct {
	Number      int64    `json:"number"`
	Protocol    string   `json:"protocol"`
	Source      string   `json:"allowedSourceAddressPrefix"`
	Sources     []string `json:"allowedSourceAddressPrefixes"`
	MaxDuration string   `json:"maxRequestAccessDuration"`
}

// RequestPort is a port that somebody asked for.
type RequestPort struct {
	Number  int64     `json:"number"`
	EndTime time.Time `json:"endTimeUtc"`
	Status  string    `json:"status"`
}

// Decode reads an export: what the REST API lists ({"value": […]}), an array of
// policies, or one policy. What it does not know of it is passed over. Errors:
// invalid_argument, export_invalid.
func Decode(data []byte) ([]Policy, error) {
	bad := func(cause error, why string) ([]Policy, error) {
		return nil, access.Wrap(cause, access.InvalidArgument, "export_invalid", "the export cannot be read: "+why)
	}
	if len(data) > MaxExport {
		return bad(nil, fmt.Sprintf("it has more than %d bytes", MaxExport))
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // PowerShell writes one
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) > 0 && t[0] == '[' {
		var all []Policy
		if err := json.Unmarshal(data, &all); err != nil {
			return bad(err, err.Error())
		}
		return all, nil
	}
	var doc struct {
		Policy
		Value    *[]Policy `json:"value"`
		NextLink string    `json:"nextLink"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return bad(err, err.Error())
	}
	switch {
	case doc.NextLink != "":
		return bad(nil, "it is one page of several: list all of them, as `az rest` does not by itself")
	case doc.Value != nil:
		return *doc.Value, nil
	case doc.Properties.VirtualMachines == nil:
		return bad(nil, "it is no policy of Defender's and no list of them")
	}
	return []Policy{doc.Policy}, nil
}

// NoteKind says what a note is about.
type NoteKind string

// The kinds of note.
const (
	Differs NoteKind = "differs"  // it means something else here, or is worth a thought
	LeftOut NoteKind = "left out" // it is not in the access policies
	Live    NoteKind = "live"     // Defender keeps a port open at present
)

// Note is something to know of what was read.
type Note struct {
	Kind    NoteKind          `json:"kind"`
	VM      access.ResourceID `json:"vm,omitempty"`
	Port    string            `json:"port,omitempty"`
	Message string            `json:"message"`
}

// Options say what Defender's policies do not.
type Options struct {
	// Requestors may ask: Defender leaves that to Azure's roles.
	Requestors []string
	// Baseline says whether our deny rules are to shut the ports.
	Baseline bool
}

// Convert makes one access policy for each machine, by its id, and tells what
// differs. A machine of which nothing is left has none.
func Convert(from []Policy, o Options, now time.Time) ([]policy.AccessPolicy, []Note) {
	c := &converter{now: now, ports: map[access.ResourceID][]found{}}
	for _, p := range from {
		c.policy(p)
	}
	var out []policy.AccessPolicy
	for _, vm := range c.order {
		p := policy.AccessPolicy{Scope: vm, Requestors: o.Requestors, Baseline: &o.Baseline, RequireJustification: false}
		p.Ports = c.merged(vm)
		if len(p.Ports) == 0 {
			c.note(LeftOut, vm, "", "none of its ports can be taken over, so it gets no policy")
			continue
		}
		if err := p.Validate(); err != nil {
			c.note(LeftOut, vm, "", "its policy would not be valid: "+access.AsError(err).Message)
			continue
		}
		out = append(out, p)
	}
	if len(o.Requestors) == 0 && len(out) > 0 {
		c.note(Differs, "", "", "Defender leaves who may ask to Azure's roles (initiate/action); name them with --requestor, or nobody may ask")
	}
	slices.SortStableFunc(out, func(a, b policy.AccessPolicy) int { return cmp.Compare(a.Scope, b.Scope) })
	return out, c.notes
}

type found struct {
	port policy.Port
	of   string // the policy's name
}

type converter struct {
	now   time.Time
	order []access.ResourceID
	ports map[access.ResourceID][]found
	notes []Note
}

func (c *converter) note(kind NoteKind, vm access.ResourceID, port, message string) {
	c.notes = append(c.notes, Note{kind, vm, port, message})
}

func (c *converter) policy(p Policy) {
	if p.Kind != "" && !strings.EqualFold(p.Kind, "Basic") {
		c.note(LeftOut, "", "", fmt.Sprintf("the policy %.80q is of the kind %.40q, which is not known", p.Name, p.Kind))
		return
	}
	for _, m := range p.Properties.VirtualMachines {
		vm, err := access.ParseVM(m.ID)
		if err != nil {
			c.note(LeftOut, "", "", fmt.Sprintf("a machine of the policy %.80q: %s", p.Name, access.AsError(err).Message))
			continue
		}
		if !slices.Contains(c.order, vm) {
			c.order = append(c.order, vm)
		}
		for _, d := range m.Ports {
			if port, ok := c.port(vm, d); ok {
				c.ports[vm] = append(c.ports[vm], found{port, p.Name})
			}
		}
	}
	for _, r := range p.Properties.Requests {
		for _, m := range r.VirtualMachines {
			vm, err := access.ParseVM(m.ID)
			if err != nil {
				continue // the machine itself was told of
			}
			for _, d := range m.Ports {
				if d.EndTime.After(c.now) && !strings.EqualFold(d.Status, "Revoked") {
					c.note(Live, vm, fmt.Sprint(d.Number), fmt.Sprintf("Defender keeps it open for %.120q until %s", r.Requestor, d.EndTime.UTC().Format(time.RFC3339)))
				}
			}
		}
	}
}

// port reads one port, or tells why not.
func (c *converter) port(vm access.ResourceID, d Port) (policy.Port, bool) {
	label := fmt.Sprintf("%d/%.10s", d.Number, d.Protocol)
	leave := func(format string, args ...any) (policy.Port, bool) {
		c.note(LeftOut, vm, label, fmt.Sprintf(format, args...))
		return policy.Port{}, false
	}
	if d.Number < 1 || d.Number > 65535 {
		return leave("there is no port of this number")
	}
	protocol, err := access.ParseProtocol(d.Protocol)
	if err != nil || protocol == access.ProtocolUnset {
		return leave("the protocol %.20q is none of TCP, UDP and *", d.Protocol)
	}
	length, err := access.ParseDuration(d.MaxDuration)
	if err != nil {
		return leave("the longest time %.40q cannot be read", d.MaxDuration)
	}
	switch {
	case length < policy.MinMaxDuration:
		return leave("the longest time is %s, and %s is the least here", d.MaxDuration, access.FormatDuration(policy.MinMaxDuration))
	case length > policy.MaxMaxDuration:
		c.note(Differs, vm, label, fmt.Sprintf("the longest time is %s, and becomes %s", d.MaxDuration, access.FormatDuration(policy.MaxMaxDuration)))
		length = policy.MaxMaxDuration
	}
	named := d.Sources
	if d.Source != "" {
		named = append([]string{d.Source}, named...)
	}
	var sources []netip.Prefix
	for _, s := range named {
		if s == access.AnySource {
			c.note(Differs, vm, label, "any source may be asked for, as in Defender; but a request names its own here, and cannot ask for all")
		}
		read, err := access.ParsePolicySource(s)
		if err != nil {
			c.note(LeftOut, vm, label, access.AsError(err).Message)
			continue
		}
		sources = append(sources, read...)
	}
	if len(sources) == 0 {
		return leave("no source of it can be taken over")
	}
	return policy.Port{Number: uint16(d.Number), Protocol: protocol, Sources: sources, MaxDuration: length}, true
}

// merged gives a machine's ports. Where two policies of Defender's say different
// things of one port, either would widen the other, so it is left out.
func (c *converter) merged(vm access.ResourceID) (out []policy.Port) {
	all := c.ports[vm]
	for i, f := range all {
		clash := slices.IndexFunc(all, func(o found) bool {
			return o.port.Number == f.port.Number && meet(o.port.Protocol, f.port.Protocol) && !same(o.port, f.port)
		})
		label := fmt.Sprintf("%d/%s", f.port.Number, f.port.Protocol)
		switch {
		case clash >= 0:
			c.note(LeftOut, vm, label, fmt.Sprintf("the policies %.60q and %.60q say different things of the port: decide which is meant", f.of, all[clash].of))
		case slices.ContainsFunc(all[:i], func(o found) bool { return same(o.port, f.port) }):
			// The same again, in another policy.
		default:
			out = append(out, f.port)
		}
	}
	return out
}

func meet(a, b access.Protocol) bool {
	return a == b || a == access.AnyProtocol || b == access.AnyProtocol
}

func same(a, b policy.Port) bool {
	return a.Number == b.Number && a.Protocol == b.Protocol && a.MaxDuration == b.MaxDuration && slices.Equal(a.Sources, b.Sources)
}
