package wire

import (
	"errors"
	"fmt"
)

// Descriptor codes, AMQP 1.0 part 2 section 2.7, part 3 sections 3.4 and 3.5,
// part 5 section 5.3.
const (
	codeOpen           = 0x10
	codeBegin          = 0x11
	codeAttach         = 0x12
	codeFlow           = 0x13
	codeTransfer       = 0x14
	codeDisposition    = 0x15
	codeDetach         = 0x16
	codeEnd            = 0x17
	codeClose          = 0x18
	codeError          = 0x1d
	codeReceived       = 0x23
	codeAccepted       = 0x24
	codeRejected       = 0x25
	codeReleased       = 0x26
	codeModified       = 0x27
	codeSource         = 0x28
	codeTarget         = 0x29
	codeCoordinator    = 0x30
	codeSASLMechanisms = 0x40
	codeSASLInit       = 0x41
	codeSASLOutcome    = 0x44
)

// Performative is the body of a frame: one of the structs of this package that
// have a code and fields.
type Performative interface {
	code() uint64
	fields() []any
}

// Open starts a connection.
type Open struct {
	ContainerID  string
	Hostname     string
	MaxFrameSize uint32 // octets; 0 stands for no limit
	ChannelMax   *uint16
	IdleTimeout  uint32 // milliseconds; 0 stands for none
}

func (*Open) code() uint64 { return codeOpen }
func (o *Open) fields() []any {
	return []any{o.ContainerID, text(o.Hostname), nonzero(o.MaxFrameSize), optional(o.ChannelMax), nonzero(o.IdleTimeout)}
}

// Begin starts a session on a channel.
type Begin struct {
	RemoteChannel                  *uint16
	NextOutgoingID                 uint32
	IncomingWindow, OutgoingWindow uint32
	HandleMax                      *uint32
}

func (*Begin) code() uint64 { return codeBegin }
func (p *Begin) fields() []any {
	return []any{optional(p.RemoteChannel), p.NextOutgoingID, p.IncomingWindow, p.OutgoingWindow, optional(p.HandleMax)}
}

// Terminus is the source or the target of a link, as far as a broker needs it.
type Terminus struct {
	Address string
	Filter  Map // of a source
}

// Attach binds a link to a handle.
type Attach struct {
	Name                 string
	Handle               uint32
	Receiver             bool // role of the sender of this frame
	SndSettleMode        *uint8
	RcvSettleMode        *uint8
	Source, Target       *Terminus
	Coordinator          bool // the target is a transaction coordinator
	InitialDeliveryCount *uint32
	MaxMessageSize       uint64
	Properties           Map
}

func (*Attach) code() uint64 { return codeAttach }
func (p *Attach) fields() []any {
	var size, properties any
	if p.MaxMessageSize != 0 {
		size = p.MaxMessageSize
	}
	if p.Properties != nil {
		properties = p.Properties
	}
	return []any{p.Name, p.Handle, p.Receiver, optional(p.SndSettleMode), optional(p.RcvSettleMode),
		terminus(codeSource, p.Source), terminus(codeTarget, p.Target), nil, nil,
		optional(p.InitialDeliveryCount), size, nil, nil, properties}
}

// Flow updates the windows of a session and, with a handle, a link's credit.
type Flow struct {
	NextIncomingID *uint32
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         *uint32
	DeliveryCount  *uint32
	LinkCredit     *uint32
	Available      *uint32
	Drain, Echo    bool
}

func (*Flow) code() uint64 { return codeFlow }
func (p *Flow) fields() []any {
	return []any{optional(p.NextIncomingID), p.IncomingWindow, p.NextOutgoingID, p.OutgoingWindow,
		optional(p.Handle), optional(p.DeliveryCount), optional(p.LinkCredit), optional(p.Available), p.Drain, p.Echo}
}

// Transfer carries a message or a part of one; the payload follows it in the frame.
type Transfer struct {
	Handle        uint32
	DeliveryID    *uint32
	DeliveryTag   []byte
	MessageFormat *uint32
	Settled       bool
	More          bool
	State         any
	Aborted       bool
}

func (*Transfer) code() uint64 { return codeTransfer }
func (p *Transfer) fields() []any {
	var tag any
	if p.DeliveryTag != nil {
		tag = p.DeliveryTag
	}
	return []any{p.Handle, optional(p.DeliveryID), tag, optional(p.MessageFormat), p.Settled, p.More, nil, p.State, nil, p.Aborted}
}

// Disposition states an outcome for the deliveries First to Last.
type Disposition struct {
	Receiver bool // role of the sender of this frame
	First    uint32
	Last     *uint32
	Settled  bool
	State    any // Accepted, Rejected, Released, Modified, Received or nil
}

func (*Disposition) code() uint64 { return codeDisposition }
func (p *Disposition) fields() []any {
	return []any{p.Receiver, p.First, optional(p.Last), p.Settled, p.State}
}

// Detach unbinds a link; Closed ends it for good.
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

func (*Detach) code() uint64    { return codeDetach }
func (p *Detach) fields() []any { return []any{p.Handle, p.Closed, failure(p.Error)} }

// End ends a session.
type End struct{ Error *Error }

func (*End) code() uint64    { return codeEnd }
func (p *End) fields() []any { return []any{failure(p.Error)} }

// Close ends a connection.
type Close struct{ Error *Error }

func (*Close) code() uint64    { return codeClose }
func (p *Close) fields() []any { return []any{failure(p.Error)} }

// SASLMechanisms offers ways to authenticate.
type SASLMechanisms struct{ Mechanisms []Symbol }

func (*SASLMechanisms) code() uint64 { return codeSASLMechanisms }

// fields is for symmetry only: appendPerformative writes the one field itself,
// as an array, because some clients will not take a single symbol or a list.
func (p *SASLMechanisms) fields() []any { return nil }

// SASLInit chooses one.
type SASLInit struct{ Mechanism Symbol }

func (*SASLInit) code() uint64    { return codeSASLInit }
func (p *SASLInit) fields() []any { return []any{p.Mechanism} }

// SASLOutcome tells the result: 0 is success.
type SASLOutcome struct{ Code uint8 }

func (*SASLOutcome) code() uint64    { return codeSASLOutcome }
func (p *SASLOutcome) fields() []any { return []any{p.Code} }

// Error is amqp:error:list.
type Error struct {
	Condition   string
	Description string
	Info        Map
}

// Error implements error.
func (e *Error) Error() string { return e.Condition + ": " + e.Description }

// Accepted is the outcome of a delivery that was taken.
type Accepted struct{}

// Released is the outcome of a delivery that may go to anyone, as if never sent.
type Released struct{}

// Received tells of partial delivery; it is no outcome.
type Received struct{}

// Rejected is the outcome of a delivery that is invalid.
type Rejected struct{ Error *Error }

// Modified is the outcome of a delivery that may go out again, changed.
type Modified struct {
	DeliveryFailed    bool
	UndeliverableHere bool
	Annotations       Map
}

// state turns an outcome into what Append takes.
func state(v any) (any, error) {
	list := func(code uint64, fields ...any) (any, error) {
		return Described{Descriptor: code, Value: fields}, nil
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case Accepted:
		return list(codeAccepted)
	case Released:
		return list(codeReleased)
	case Rejected:
		return list(codeRejected, failure(v.Error))
	case Modified:
		return list(codeModified, v.DeliveryFailed, v.UndeliverableHere, v.Annotations)
	}
	return nil, fmt.Errorf("amqp: %T is not a delivery state", v)
}

func failure(e *Error) any {
	if e == nil {
		return nil
	}
	var info any
	if e.Info != nil {
		info = e.Info
	}
	return Described{Descriptor: uint64(codeError), Value: []any{Symbol(e.Condition), text(e.Description), info}}
}

func terminus(code uint64, t *Terminus) any {
	if t == nil {
		return nil
	}
	fields := []any{text(t.Address)}
	if t.Filter != nil {
		fields = append(fields, nil, nil, nil, nil, nil, nil, t.Filter)
	}
	return Described{Descriptor: code, Value: fields}
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nonzero(n uint32) any {
	if n == 0 {
		return nil
	}
	return n
}

func optional[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

var errNotPerformative = errors.New("amqp: a frame's body is not a performative")
