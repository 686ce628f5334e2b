// Package accessjson holds the JSON formats of Portcullis: the request message,
// the access policy, and a request as it is shown. Reading is strict: what is
// unknown, said twice or spelled in another case is refused by name.
package accessjson

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
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
	Ports                                []access.PortRequest
}

type requestDoc struct {
	ID              *string  `json:"id"`
	Requestor       *string  `json:"requestor"`
	Justification   *string  `json:"justification"`
	Ticket          *string  `json:"ticket"`
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

var idPattern = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)

// DecodeRequest reads a request message of at most MaxBody bytes. Its errors
// are invalid_argument with every fault that was found, each at its place.
func DecodeRequest(data []byte) (Message, error) {
	var doc requestDoc
	if err := decode(data, MaxBody, &doc); err != nil {
		return Message{}, err
	}
	f := &faults{}
	m := Message{
		ID:            f.text("id", doc.ID, 128),
		Requestor:     f.text("requestor", doc.Requestor, 256),
		Justification: f.text("justification", doc.Justification, 1024),
		Ticket:        f.text("ticket", doc.Ticket, 128),
	}
	if doc.ID != nil && !idPattern.MatchString(m.ID) {
		f.add("id", "id_invalid", "id is 1 to 128 printable ASCII characters without spaces")
	}
	if doc.Requestor != nil && strings.TrimSpace(m.Requestor) == "" {
		f.add("requestor", "requestor_missing", "requestor is empty")
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
	return m, nil
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
	source := ""
	if p.Source != nil {
		source = *p.Source
	}
	r.Source, err = access.ParseSource(source)
	f.err(path+".allowedSourceAddressPrefix", err)
	switch {
	case p.Duration != nil && p.EndTime != nil:
		f.add(path, "duration_and_end_time", "give a duration or an endTimeUtc, not both")
	case p.Duration != nil:
		r.Duration, err = access.ParseDuration(*p.Duration)
		f.err(path+".duration", err)
	case p.EndTime != nil:
		if r.EndTime, err = time.Parse(time.RFC3339, *p.EndTime); err != nil || r.EndTime.Year() < 2000 || r.EndTime.Year() > 9999 {
			f.add(path+".endTimeUtc", "end_time_invalid", "endTimeUtc is a time as in RFC 3339, such as 2026-11-24T10:00:00Z")
		}
		r.EndTime = r.EndTime.UTC()
	default:
		f.add(path, "duration_missing", "give a duration, such as PT1H, or an endTimeUtc")
	}
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
type faults struct{ list []access.Violation }

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
