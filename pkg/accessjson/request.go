// Package accessjson holds the JSON formats of Portcullis: the request message,
// the access policy, and a request as it is shown. Reading is strict: what is
// unknown, said twice or spelled in another case is refused by name.
package accessjson

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// MaxBody bounds a request message, in bytes: what a Service Bus message of
// the Standard tier can carry.
const MaxBody = 256 << 10

// maxViolations bounds how many faults of one message are named.
const maxViolations = 100

//go:embed schemas/access-request.schema.json
var requestSchema []byte

//go:embed schemas/access-policy.schema.json
var policySchema []byte

// RequestSchema gives the JSON Schema of the request message.
func RequestSchema() []byte { return requestSchema }

// PolicySchema gives the JSON Schema of the access policy.
func PolicySchema() []byte { return policySchema }

// Message is a request message as it was read: well-formed, with no identity
// behind it yet.
type Message struct {
	ID, Requestor, Justification, Ticket string
	StartTime                            time.Time // zero for at once
	Ports                                []access.PortRequest
	// Sourceless are the indexes of those ports that name no source.
	Sourceless []int
}

// FillSources gives the ports without a source the caller's address. It refuses,
// source_missing, where there are such ports and the address is not valid.
func (m *Message) FillSources(caller netip.Addr) error {
	f := &faults{}
	for _, i := range m.Sourceless {
		if !caller.IsValid() {
			f.add(m.Ports[i].Path+".allowedSourceAddressPrefix", "source_missing", "no source is named, and your own address is not known here: name one")
			continue
		}
		source, err := access.ParseSource(caller.Unmap().WithZone("").String())
		f.err(m.Ports[i].Path+".allowedSourceAddressPrefix", err)
		m.Ports[i].Source = source
	}
	return f.error("request_invalid", "the request message is not valid")
}

type requestDoc struct {
	ID              *string  `json:"id"`
	Requestor       *string  `json:"requestor"`
	Justification   *string  `json:"justification"`
	Ticket          *string  `json:"ticket"`
	StartTime       *string  `json:"startTimeUtc"`
	VirtualMachines *[]vmDoc `json:"virtualMachines"`
}

type vmDoc struct {
	ID    *string    `json:"id"`
	Ports *[]portDoc `json:"ports"`
}

type portDoc struct {
	Number   *int64  `json:"number"`
	Protocol *string `json:"protocol"`
	Source   *string `json:"allowedSourceAddressPrefix"`
	Duration *string `json:"duration"`
	EndTime  *string `json:"endTimeUtc"`
}

// ValidID says whether a sender may give a request this id: 1 to 128 printable
// characters of ASCII without spaces.
func ValidID(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}

// DecodeRequest reads a request message of at most MaxBody bytes, in which every
// port names its source. Its errors are invalid_argument with every fault that
// was found, each at its place.
func DecodeRequest(data []byte) (Message, error) { return decodeRequest(data, false) }

// DecodeCallersRequest is DecodeRequest for a caller whose address is known: a
// port may leave its source out, and is then named in Sourceless.
func DecodeCallersRequest(data []byte) (Message, error) { return decodeRequest(data, true) }

func decodeRequest(data []byte, mayLackSource bool) (Message, error) {
	var doc requestDoc
	if err := decode(data, MaxBody, &doc); err != nil {
		return Message{}, err
	}
	f := &faults{mayLackSource: mayLackSource}
	m := Message{
		ID:            f.text("id", doc.ID, 128),
		Requestor:     f.text("requestor", doc.Requestor, 256),
		Justification: f.text("justification", doc.Justification, 1024),
		Ticket:        f.text("ticket", doc.Ticket, 128),
	}
	if doc.ID != nil && !ValidID(m.ID) {
		f.add("id", "id_invalid", "id is 1 to 128 printable ASCII characters without spaces")
	}
	if doc.Requestor != nil && strings.TrimSpace(m.Requestor) == "" {
		f.add("requestor", "requestor_missing", "requestor is empty")
	}
	if doc.StartTime != nil {
		m.StartTime = f.time("startTimeUtc", "start_time_invalid", *doc.StartTime)
	}
	pairs := 0
	if doc.VirtualMachines == nil || len(*doc.VirtualMachines) == 0 {
		f.add("virtualMachines", "virtual_machines_missing", "virtualMachines names no virtual machine")
	} else {
		for _, vm := range *doc.VirtualMachines {
			if vm.Ports != nil {
				pairs += len(*vm.Ports)
			}
		}
		if pairs > access.MaxPorts || len(*doc.VirtualMachines) > access.MaxPorts {
			f.add("virtualMachines", "too_many_ports", "a request names at most %d pairs of virtual machine and port, not %d", access.MaxPorts, max(pairs, len(*doc.VirtualMachines)))
		} else {
			for i, vm := range *doc.VirtualMachines {
				m.Ports = append(m.Ports, f.vm(fmt.Sprintf("virtualMachines[%d]", i), vm)...)
			}
		}
	}
	if err := f.error("request_invalid", "the request message is not valid"); err != nil {
		return Message{}, err
	}
	for i, p := range m.Ports {
		if !p.Source.IsValid() {
			m.Sourceless = append(m.Sourceless, i)
		}
	}
	return m, nil
}

// time reads a time as endTimeUtc and startTimeUtc have it.
func (f *faults) time(path, reason, s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() < 2000 || t.Year() > 9999 {
		f.add(path, reason, "%s is a time as in RFC 3339, such as 2026-11-24T10:00:00Z", path[strings.LastIndexByte(path, '.')+1:])
	}
	return t.UTC()
}

func (f *faults) vm(path string, vm vmDoc) (out []access.PortRequest) {
	var id access.ResourceID
	if vm.ID == nil {
		f.add(path+".id", "resource_id_missing", "the virtual machine's id is missing")
	} else {
		var err error
		id, err = access.ParseVM(*vm.ID)
		f.err(path+".id", err)
	}
	if vm.Ports == nil || len(*vm.Ports) == 0 {
		f.add(path+".ports", "ports_missing", "no port is asked for")
		return nil
	}
	for i, p := range *vm.Ports {
		r := f.port(fmt.Sprintf("%s.ports[%d]", path, i), p)
		r.VM = id
		out = append(out, r)
	}
	return out
}

func (f *faults) port(path string, p portDoc) access.PortRequest {
	r := access.PortRequest{Path: path}
	if p.Number == nil || *p.Number < 1 || *p.Number > 65535 {
		f.add(path+".number", "port_invalid", "number is the port's number, 1 to 65535")
	} else {
		r.Port = uint16(*p.Number)
	}
	var err error
	if p.Protocol != nil {
		if r.Protocol, err = access.ParseProtocol(*p.Protocol); err == nil && *p.Protocol == "" {
			err = access.Errorf(access.InvalidArgument, "protocol_invalid", "protocol is empty: leave it out, or say TCP, UDP or *")
		}
		f.err(path+".protocol", err)
	}
	if p.Source != nil || !f.mayLackSource {
		source := ""
		if p.Source != nil {
			source = *p.Source
		}
		r.Source, err = access.ParseSource(source)
		f.err(path+".allowedSourceAddressPrefix", err)
	}
	r.Duration, r.EndTime = f.length(path, p.Duration, p.EndTime)
	return r
}

// Hash tells one content from another: two encodings of the same JSON value
// (white space, order of members) have the same hash; anything that is not JSON
// is hashed as it is.
func Hash(data []byte) string {
	v := jsontext.Value(append([]byte(nil), data...))
	if len(data) <= MaxBody && v.Canonicalize() == nil {
		data = v
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// faults gathers what is wrong with a document.
type faults struct {
	list          []access.Violation
	mayLackSource bool
}

func (f *faults) add(path, reason, format string, args ...any) {
	f.list = append(f.list, access.Violation{Path: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) err(path string, err error) {
	if err != nil {
		e := access.AsError(err)
		f.list = append(f.list, access.Violation{Path: path, Reason: e.Reason, Message: e.Message})
	}
}

// text reads an optional text: bounded, and without control characters, which
// have no place in a record or a log.
func (f *faults) text(path string, s *string, most int) string {
	if s == nil {
		return ""
	}
	if n := len([]rune(*s)); n > most {
		f.add(path, "text_too_long", "%s has %d characters; %d are allowed", path, n, most)
		return ""
	}
	if strings.ContainsFunc(*s, unicode.IsControl) {
		f.add(path, "text_invalid", "%s has control characters", path)
		return ""
	}
	return *s
}

func (f *faults) error(reason, message string) error {
	if len(f.list) == 0 {
		return nil
	}
	if len(f.list) > maxViolations {
		f.list = append(f.list[:maxViolations:maxViolations], access.Violation{Reason: "and_more", Message: "there is more that is wrong"})
	}
	if len(f.list) == 1 {
		reason, message = f.list[0].Reason, f.list[0].Message
	}
	return &access.Error{Code: access.InvalidArgument, Reason: reason, Message: message, Violations: f.list}
}
