// Package accessevent holds the CloudEvents 1.0 of Portcullis: what is recorded
// goes out as such, and a request may come in as one.
package accessevent

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	// ContentType is that of a structured CloudEvent in JSON.
	ContentType = event.ApplicationCloudEventsJSON
	// MaxBody bounds an event that goes out, in bytes: a message of the Standard tier
	// has 256 KiB, with its properties.
	MaxBody = 192 << 10
	// maxKey bounds a message's id and that of its session, in characters.
	maxKey = 128
	// maxSubject bounds an event's subject, in bytes; ours are far shorter.
	maxSubject = 4 << 10
	// cutMark ends what was cut.
	cutMark = "…[cut]"
)

//go:embed access-event.schema.json
var schema []byte

// Schema gives the JSON Schema of the data of an event that goes out.
func Schema() []byte { return schema }

// Encoder makes CloudEvents of events.
type Encoder struct{ source string }

// NewEncoder makes an Encoder for the installation of that name.
func NewEncoder(installation string) Encoder { return Encoder{"/portcullis/" + installation} }

// Message is an event as it goes out.
type Message struct {
	// ID is the CloudEvent's, and the same each time that the event is sent.
	ID string
	// Kind is the event's, in lower case: the last part but one of its type.
	Kind string
	Body []byte // a structured CloudEvent in JSON, of at most MaxBody bytes
}

// Session names a subject's events within the limits of a session's id: by the
// subject where that is short enough, else by its hash.
func Session(subject string) string {
	if utf8.ValidString(subject) && utf8.RuneCountInString(subject) <= maxKey-10 { // so that an id fits too
		return subject
	}
	sum := sha256.Sum256([]byte(subject))
	return hex.EncodeToString(sum[:])
}

// Encode makes the CloudEvent of a subject's event with its number. What makes it
// too large is cut, and told of: an event must never keep back those after it.
func (e Encoder) Encode(ev access.Event, seq int) (Message, error) {
	for _, most := range []int{MaxBody, 16 << 10, 2 << 10, 256} {
		m, err := e.encode(ev, seq, dataOf(ev, most))
		if err == nil && len(m.Body) <= MaxBody {
			return m, nil
		}
	}
	return e.Bare(ev, seq)
}

// Bare makes the CloudEvent without the detail, for whom Encode's is too large.
func (e Encoder) Bare(ev access.Event, seq int) (Message, error) {
	d := data{Kind: ev.Kind, Omitted: "the detail does not fit a message: read it from the audit"}
	if strings.HasPrefix(ev.Subject, "ar-") {
		d.Request = clip(ev.Subject, maxKey)
	}
	return e.encode(ev, seq, d)
}

func (e Encoder) encode(ev access.Event, seq int, d data) (Message, error) {
	kind := strings.ToLower(string(ev.Kind))
	subject := clip(ev.Subject, maxSubject)
	m := Message{ID: Session(subject) + "/" + strconv.Itoa(seq), Kind: kind}
	ce := event.New(event.CloudEventsVersionV1)
	ce.SetID(m.ID)
	m.ID = ce.ID() // trimmed
	ce.SetSource(e.source)
	ce.SetType("io.portcullis.access." + kind + ".v1")
	ce.SetSubject(subject)
	if year := ev.At.UTC().Year(); year >= 0 && year <= 9999 {
		ce.SetTime(ev.At.UTC())
	}
	ce.SetExtension("sequence", fmt.Sprintf("%08d", seq))
	if err := ce.SetData(event.ApplicationJSON, d); err != nil {
		return m, fmt.Errorf("accessevent: %w", err)
	}
	if err := ce.Validate(); err != nil {
		return m, fmt.Errorf("accessevent: %w", err)
	}
	var err error
	m.Body, err = json.Marshal(ce)
	return m, err
}

// data is what an event tells. The facts that a consumer acts on stand by
// themselves, in the words of a request message; the detail is what was recorded.
type data struct {
	Kind  access.EventKind `json:"kind"`
	Actor string           `json:"actor,omitempty"`

	Request        string `json:"requestId,omitempty"`
	Requestor      string `json:"requestor,omitempty"`
	Ticket         string `json:"ticket,omitempty"`
	VirtualMachine string `json:"virtualMachine,omitempty"`
	NSG            string `json:"networkSecurityGroup,omitempty"`
	Number         int    `json:"number,omitempty"`
	Protocol       string `json:"protocol,omitempty"`
	Source         string `json:"allowedSourceAddressPrefix,omitempty"`
	StartTime      string `json:"startTimeUtc,omitempty"`
	EndTime        string `json:"endTimeUtc,omitempty"`
	StatusReason   string `json:"statusReason,omitempty"`
	Reason         string `json:"reason,omitempty"` // of a refusal, or as somebody gave it
	Grants         []fact `json:"grants,omitempty"`

	Detail  map[string]string `json:"detail,omitempty"`
	Cut     []string          `json:"cut,omitempty"`     // the details that were cut
	Omitted string            `json:"omitted,omitempty"` // why there is no detail
}

// fact is a grant of an accepted request.
type fact struct {
	Index          int    `json:"index"`
	VirtualMachine string `json:"virtualMachine"`
	Number         int    `json:"number"`
	Protocol       string `json:"protocol"`
	Source         string `json:"allowedSourceAddressPrefix"`
	EndTime        string `json:"endTimeUtc"`
	PolicyScope    string `json:"policyScope"`
	PolicyVersion  string `json:"policyVersion"`
}

// dataOf gives the event's data, in which no text has more than most bytes.
func dataOf(ev access.Event, most int) data {
	d := data{Kind: access.EventKind(clip(string(ev.Kind), most)), Actor: clip(ev.Actor, most)}
	if strings.HasPrefix(ev.Subject, "ar-") {
		d.Request = clip(ev.Subject, most)
	}
	for name, to := range map[string]*string{
		"requestor": &d.Requestor, "ticket": &d.Ticket, "vm": &d.VirtualMachine, "nsg": &d.NSG, "source": &d.Source, "startTimeUtc": &d.StartTime,
		"endTimeUtc": &d.EndTime, "statusReason": &d.StatusReason, "reason": &d.Reason,
	} {
		*to = clip(ev.Detail[name], most)
	}
	d.Number, d.Protocol = portOf(ev.Detail["port"])
	for i := 0; i < access.MaxPorts; i++ {
		text, ok := ev.Detail["grant."+strconv.Itoa(i)]
		if !ok {
			break
		}
		if f, ok := factOf(i, text); ok && len(text) <= most {
			d.Grants = append(d.Grants, f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ev.Detail)) {
		if d.Detail == nil {
			d.Detail = map[string]string{}
		}
		text := clip(ev.Detail[name], most)
		if d.Detail[clip(name, most)] = text; text != ev.Detail[name] && utf8.ValidString(ev.Detail[name]) {
			d.Cut = append(d.Cut, clip(name, most))
		}
	}
	return d
}

// clip cuts text to at most so many bytes, at a character, and marks that.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return s
	}
	n := most - len(cutMark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + cutMark
}

// portOf reads a port, such as 22/TCP.
func portOf(s string) (int, string) {
	number, protocol, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p, unknown := access.ParseProtocol(protocol)
	if err != nil || n == 0 || unknown != nil || p == access.ProtocolUnset {
		return 0, ""
	}
	return int(n), string(p)
}

// factOf reads a grant as the event of its request tells of it: the machine, the
// port, "from" its source, "until" its end, "by policy" and that one's version.
func factOf(i int, text string) (fact, bool) {
	p := strings.Fields(text)
	if len(p) < 9 || p[2] != "from" || p[4] != "until" || p[6] != "by" || p[7] != "policy" {
		return fact{}, false
	}
	f := fact{Index: i, VirtualMachine: p[0], Source: p[3], EndTime: p[5], PolicyScope: p[8]}
	if len(p) > 9 {
		f.PolicyVersion = p[9]
	}
	f.Number, f.Protocol = portOf(p[1])
	_, err := time.Parse(time.RFC3339, f.EndTime)
	return f, err == nil && f.Number > 0
}
