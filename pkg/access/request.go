package access

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
	"time"
)

// MaxPorts is the most VM × port pairs that one request may name. What a
// request changes on one NSG goes in one table transaction, which holds 100
// rows at most.
const MaxPorts = 50

// Channel is the door a request came in by.
type Channel string

// The channels.
const (
	ChannelQueue Channel = "queue" // a message on the queue access-requests
	ChannelHTTP  Channel = "http"  // a call of the access API
	// ChannelTicket is a verified event of a ticketing source; the principal is the
	// source's name.
	ChannelTicket Channel = "ticket"
)

// Sender is who handed a request in. On HTTP it is the verified caller; on a
// queue it is the queue itself, because Service Bus does not say who sent a
// message. Ids of requests are idempotency keys within one sender.
type Sender struct {
	Channel Channel `json:"channel"`
	// Principal is the caller's "tenant/object id", or the name of the queue or the
	// source.
	Principal string `json:"principal"`
	// Name is for people to read.
	Name string `json:"name,omitempty"`
}

// Asserter names the sender as policies do that take its word for who the
// requestor is: "queue", or "ticket:" and the source; else its channel, which no
// policy can name.
func (s Sender) Asserter() Channel {
	if s.Channel == ChannelTicket {
		return ChannelTicket + ":" + Channel(s.Principal)
	}
	return s.Channel
}

// Requestor is who the access is for.
type Requestor struct {
	// Name is the user principal name, or what the channel asserts.
	Name string `json:"name"`
	// ObjectID is the Entra object id from a verified token; empty when asserted.
	ObjectID string `json:"objectId,omitempty"`
	// Asserted says that no token vouched for the requestor, only the channel.
	Asserted bool `json:"asserted,omitempty"`
}

// Protocol is a transport protocol as an NSG rule names it.
type Protocol string

// The protocols. ProtocolUnset lets the policy decide.
const (
	ProtocolUnset Protocol = ""
	TCP           Protocol = "TCP"
	UDP           Protocol = "UDP"
	AnyProtocol   Protocol = "*"
)

// ParseProtocol reads TCP, UDP (in any case) or "*"; "" stays unset.
func ParseProtocol(s string) (Protocol, error) {
	switch p := Protocol(strings.ToUpper(s)); p {
	case ProtocolUnset, TCP, UDP, AnyProtocol:
		return p, nil
	}
	return "", Errorf(InvalidArgument, "protocol_invalid", "protocol %s is not TCP, UDP or *", quote(s))
}

// PortRequest asks for one port of one VM. Exactly one of Duration and EndTime
// is set.
type PortRequest struct {
	VM       ResourceID    `json:"vm"`
	Port     uint16        `json:"port"`
	Protocol Protocol      `json:"protocol,omitempty"`
	Source   netip.Prefix  `json:"source"`
	Duration time.Duration `json:"duration,omitzero"` // from acceptance, or from the start
	EndTime  time.Time     `json:"endTimeUtc,omitzero"`
	// Since is when the door was first to be opened, and Replaces the key of the
	// grant that is taken over; both of an extension alone. The policy's longest
	// time counts from Since.
	Since    time.Time `json:"since,omitzero"`
	Replaces string    `json:"replaces,omitempty"`
	// Path is the port's place in the request message, for violations.
	Path string `json:"path,omitempty"`
}

// Request is an access request as it was asked, well-formed but not decided.
type Request struct {
	// ClientID is the id its sender gave it.
	ClientID      string    `json:"clientId"`
	Requestor     Requestor `json:"requestor"`
	RequestedBy   Sender    `json:"requestedBy"`
	Justification string    `json:"justification,omitempty"`
	Ticket        string    `json:"ticket,omitempty"`
	// Event is the ticket's event that made the request; nil where a ticket did not.
	Event *Vouched      `json:"event,omitempty"`
	Ports []PortRequest `json:"ports"`
	// StartTime is when the ports are to open; zero for at once. Durations count
	// from it.
	StartTime time.Time `json:"startTimeUtc,omitzero"`
	// Extends is the request whose grants this one takes over; "" for none.
	Extends RequestID `json:"extends,omitempty"`
	// Roles are those the caller had when they asked. What is decided later, at the
	// start, is decided by them.
	Roles []Role `json:"roles,omitempty"`
	// BodyHash tells a repeat from another request under the same id.
	BodyHash string `json:"bodyHash"`
}

// RequestID is the key of a request in the record, derived from its sender and
// the id that the sender gave it.
type RequestID string

// NewRequestID derives the key: the same sender and client id always give the
// same one, and nobody can reach another sender's by choosing an id.
func NewRequestID(s Sender, clientID string) RequestID {
	h := sha256.New()
	for _, part := range []string{string(s.Channel), s.Principal, clientID} {
		// The length in front keeps ("a","bc") and ("ab","c") apart.
		h.Write([]byte{byte(len(part) >> 24), byte(len(part) >> 16), byte(len(part) >> 8), byte(len(part))})
		h.Write([]byte(part))
	}
	sum := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil))
	return RequestID("ar-" + strings.ToLower(sum[:26]))
}

// ParseRequestID reads a request's key from outside.
func ParseRequestID(s string) (RequestID, error) {
	bad := len(s) != 29 || !strings.HasPrefix(s, "ar-")
	for _, r := range strings.TrimPrefix(s, "ar-") {
		bad = bad || !(r >= 'a' && r <= 'z' || r >= '2' && r <= '7')
	}
	if bad {
		return "", Errorf(InvalidArgument, "request_id_invalid", "%s is not the id of an access request", quote(s))
	}
	return RequestID(s), nil
}

// Outcome is what was decided about a request.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "Accepted"
	Refused  Outcome = "Refused"
)

// Refusal says why a request was refused.
type Refusal struct {
	Code       Code        `json:"code"`
	Reason     string      `json:"reason"`
	Message    string      `json:"message"`
	Violations []Violation `json:"violations,omitempty"`
}

// Error gives the refusal back as the error it was.
func (r Refusal) Error() *Error {
	return &Error{Code: r.Code, Reason: r.Reason, Message: r.Message, Violations: r.Violations}
}

// RefusalOf keeps of an error what its sender may know.
func RefusalOf(err error) Refusal {
	e := AsError(err)
	return Refusal{Code: e.Code, Reason: e.Reason, Message: e.Message, Violations: e.Violations}
}

// Record is a request with what was decided about it. It is written once and
// never changed; what becomes of its grants is told by their legs.
type Record struct {
	ID        RequestID `json:"id"`
	Request   Request   `json:"request"`
	Outcome   Outcome   `json:"outcome"`
	DecidedAt time.Time `json:"decidedAt"`
	Refusal   *Refusal  `json:"refusal,omitempty"`
	// Cause says of a refusal what its requestor must not learn: whether a machine
	// has a policy, by what a condition failed. It is for who may read everything.
	Cause  string  `json:"cause,omitempty"`
	Grants []Grant `json:"grants,omitempty"`
}

// Start is when its grants begin: at its start if it has one, else when it was
// decided. What its policy says of durations counts from there.
func (r Record) Start() time.Time {
	if r.Request.StartTime.IsZero() {
		return r.DecidedAt
	}
	return r.Request.StartTime
}

// Legs lists the legs of all grants, as they were when the request was
// accepted.
func (r Record) Legs() []Leg {
	var out []Leg
	for _, g := range r.Grants {
		out = append(out, g.Legs...)
	}
	return out
}
