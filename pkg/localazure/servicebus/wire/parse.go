package wire

import "fmt"

// list gives typed access to the fields of a composite. The first field of the
// wrong type is remembered in err; an absent or null field is never an error
// unless a must- method asks for it.
type list struct {
	values []any
	err    error
}

func (l *list) at(i int) any {
	if i < len(l.values) {
		return l.values[i]
	}
	return nil
}

func (l *list) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

func field[T any](l *list, i int) *T {
	v := l.at(i)
	if v == nil {
		return nil
	}
	if t, ok := v.(T); ok {
		return &t
	}
	l.fail(fmt.Errorf("amqp: field %d is a %T", i, v))
	return nil
}

func value[T any](l *list, i int) T {
	if p := field[T](l, i); p != nil {
		return *p
	}
	var zero T
	return zero
}

func must[T any](l *list, i int) T {
	if l.at(i) == nil {
		l.fail(fmt.Errorf("amqp: field %d is missing", i))
	}
	return value[T](l, i)
}

// composite takes a described list apart.
func composite(v any) (code uint64, fields *list, err error) {
	d, ok := v.(Described)
	if !ok {
		return 0, nil, errNotPerformative
	}
	if code, ok = d.Descriptor.(uint64); !ok {
		if code, ok = symbolic(d.Descriptor); !ok {
			return 0, nil, errNotPerformative
		}
	}
	values, ok := d.Value.([]any)
	if !ok {
		return 0, nil, errNotPerformative
	}
	return code, &list{values: values}, nil
}

// symbolic returns the code of a descriptor that is spelt out, as a peer may
// do within a performative; the libraries in use send the numeric ones.
func symbolic(descriptor any) (uint64, bool) {
	switch name, _ := descriptor.(Symbol); name {
	case "amqp:error:list":
		return codeError, true
	case "amqp:received:list":
		return codeReceived, true
	case "amqp:accepted:list":
		return codeAccepted, true
	case "amqp:rejected:list":
		return codeRejected, true
	case "amqp:released:list":
		return codeReleased, true
	case "amqp:modified:list":
		return codeModified, true
	case "amqp:source:list":
		return codeSource, true
	case "amqp:target:list":
		return codeTarget, true
	case "amqp:coordinator:list":
		return codeCoordinator, true
	}
	return 0, false
}

// ParseBody decodes the body of a frame; payload is what follows a transfer
// and aliases body.
func ParseBody(body []byte) (p Performative, payload []byte, err error) {
	v, rest, err := Decode(body)
	if err != nil {
		return nil, nil, err
	}
	code, l, err := composite(v)
	if err != nil {
		return nil, nil, err
	}
	switch code {
	case codeOpen:
		p = &Open{ContainerID: must[string](l, 0), Hostname: value[string](l, 1), MaxFrameSize: value[uint32](l, 2),
			ChannelMax: field[uint16](l, 3), IdleTimeout: value[uint32](l, 4)}
	case codeBegin:
		p = &Begin{RemoteChannel: field[uint16](l, 0), NextOutgoingID: must[uint32](l, 1),
			IncomingWindow: must[uint32](l, 2), OutgoingWindow: must[uint32](l, 3), HandleMax: field[uint32](l, 4)}
	case codeAttach:
		p = parseAttach(l)
	case codeFlow:
		p = &Flow{NextIncomingID: field[uint32](l, 0), IncomingWindow: must[uint32](l, 1), NextOutgoingID: must[uint32](l, 2),
			OutgoingWindow: must[uint32](l, 3), Handle: field[uint32](l, 4), DeliveryCount: field[uint32](l, 5),
			LinkCredit: field[uint32](l, 6), Available: field[uint32](l, 7), Drain: value[bool](l, 8), Echo: value[bool](l, 9)}
	case codeTransfer:
		p = &Transfer{Handle: must[uint32](l, 0), DeliveryID: field[uint32](l, 1), DeliveryTag: value[[]byte](l, 2),
			MessageFormat: field[uint32](l, 3), Settled: value[bool](l, 4), More: value[bool](l, 5),
			State: parseState(l, 7), Aborted: value[bool](l, 9)}
	case codeDisposition:
		p = &Disposition{Receiver: must[bool](l, 0), First: must[uint32](l, 1), Last: field[uint32](l, 2),
			Settled: value[bool](l, 3), State: parseState(l, 4)}
	case codeDetach:
		p = &Detach{Handle: must[uint32](l, 0), Closed: value[bool](l, 1), Error: parseError(l, 2)}
	case codeEnd:
		p = &End{Error: parseError(l, 0)}
	case codeClose:
		p = &Close{Error: parseError(l, 0)}
	case codeSASLInit:
		p = &SASLInit{Mechanism: must[Symbol](l, 0)}
	case codeSASLMechanisms:
		p = &SASLMechanisms{Mechanisms: symbols(l, 0)}
	case codeSASLOutcome:
		p = &SASLOutcome{Code: must[uint8](l, 0)}
	default:
		return nil, nil, fmt.Errorf("amqp: unknown performative %#02x", code)
	}
	if l.err != nil {
		return nil, nil, fmt.Errorf("performative %#02x: %w", code, l.err)
	}
	return p, rest, nil
}

func parseAttach(l *list) *Attach {
	a := &Attach{Name: must[string](l, 0), Handle: must[uint32](l, 1), Receiver: must[bool](l, 2),
		SndSettleMode: field[uint8](l, 3), RcvSettleMode: field[uint8](l, 4),
		InitialDeliveryCount: field[uint32](l, 9), MaxMessageSize: value[uint64](l, 10), Properties: value[Map](l, 13)}
	a.Source = parseTerminus(l, 5, codeSource)
	if a.Target = parseTerminus(l, 6, codeTarget); a.Target == nil && l.at(6) != nil {
		a.Coordinator = true
	}
	return a
}

// parseTerminus returns nil for a terminus that is absent or a coordinator.
func parseTerminus(l *list, i int, want uint64) *Terminus {
	v := l.at(i)
	if v == nil {
		return nil
	}
	code, fields, err := composite(v)
	if err == nil && code != want && code != codeCoordinator {
		err = fmt.Errorf("amqp: %#02x is not a terminus", code)
	}
	if err != nil {
		l.fail(err)
		return nil
	}
	if code == codeCoordinator {
		return nil
	}
	// The address may be of any type; only text names an entity here.
	address, _ := Text(fields.at(0))
	t := &Terminus{Address: address}
	if want == codeSource {
		t.Filter = value[Map](fields, 7)
	}
	if fields.err != nil {
		l.fail(fields.err)
	}
	return t
}

func parseState(l *list, i int) any {
	v := l.at(i)
	if v == nil {
		return nil
	}
	code, fields, err := composite(v)
	if err != nil {
		l.fail(err)
		return nil
	}
	var s any
	switch code {
	case codeReceived:
		s = Received{}
	case codeAccepted:
		s = Accepted{}
	case codeReleased:
		s = Released{}
	case codeRejected:
		s = Rejected{Error: parseError(fields, 0)}
	case codeModified:
		s = Modified{DeliveryFailed: value[bool](fields, 0), UndeliverableHere: value[bool](fields, 1), Annotations: value[Map](fields, 2)}
	default:
		l.fail(fmt.Errorf("amqp: unknown delivery state %#02x", code))
	}
	if fields.err != nil {
		l.fail(fields.err)
	}
	return s
}

func parseError(l *list, i int) *Error {
	v := l.at(i)
	if v == nil {
		return nil
	}
	code, fields, err := composite(v)
	if err == nil && code != codeError {
		err = fmt.Errorf("amqp: %#02x is not an error", code)
	}
	if err != nil {
		l.fail(err)
		return nil
	}
	condition, _ := Text(fields.at(0))
	e := &Error{Condition: condition, Description: value[string](fields, 1), Info: value[Map](fields, 2)}
	if fields.err != nil {
		l.fail(fields.err)
	}
	return e
}

func symbols(l *list, i int) []Symbol {
	switch v := l.at(i).(type) {
	case Symbol:
		return []Symbol{v}
	case []any:
		out := make([]Symbol, 0, len(v))
		for _, e := range v {
			if s, ok := e.(Symbol); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
