package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frame types, AMQP 1.0 part 2 section 2.3.1 and part 5 section 5.3.1.
const (
	TypeAMQP = 0
	TypeSASL = 1
)

const (
	headerSize = 8
	// MaxFrameSize is the largest frame that ReadFrame takes, in octets.
	MaxFrameSize = 65536
)

// Protocol headers, AMQP 1.0 part 2 section 2.2 and part 5 section 5.2.
const (
	ProtocolAMQP = "AMQP\x00\x01\x00\x00"
	ProtocolSASL = "AMQP\x03\x01\x00\x00"
)

// Frame is a frame as read. Body is nil for an empty one, which only says that
// the peer is alive.
type Frame struct {
	Type    uint8
	Channel uint16
	Body    Performative
	Payload []byte
}

// ReadFrame reads one frame. It fails on frames above MaxFrameSize without
// reading their bodies.
func ReadFrame(r io.Reader) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(header[:])
	offset := int(header[4]) * 4
	if size > MaxFrameSize {
		return Frame{}, fmt.Errorf("amqp: a frame of %d octets is above the limit", size)
	}
	if offset < headerSize || offset > int(size) {
		return Frame{}, errors.New("amqp: a frame's data offset is outside it")
	}
	rest := make([]byte, size-headerSize)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Frame{}, fmt.Errorf("amqp: frame body: %w", err)
	}
	f := Frame{Type: header[5], Channel: binary.BigEndian.Uint16(header[6:])}
	body := rest[offset-headerSize:]
	if len(body) == 0 {
		return f, nil
	}
	var err error
	f.Body, f.Payload, err = ParseBody(body)
	return f, err
}

// AppendFrame appends a frame to b. A nil body makes an empty frame.
func AppendFrame(b []byte, frameType uint8, channel uint16, body Performative, payload []byte) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 2, frameType, byte(channel>>8), byte(channel))
	if body != nil {
		var err error
		if b, err = appendPerformative(b, body); err != nil {
			return b[:start], err
		}
	}
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b, nil
}

func appendPerformative(b []byte, p Performative) ([]byte, error) {
	fields := p.fields()
	for i, f := range fields {
		switch f.(type) {
		case Accepted, Released, Rejected, Modified:
			var err error
			if fields[i], err = state(f); err != nil {
				return nil, err
			}
		}
	}
	for len(fields) > 0 && fields[len(fields)-1] == nil {
		fields = fields[:len(fields)-1]
	}
	b = append(b, codeDescribed, codeSmallUlong, byte(p.code()))
	if m, ok := p.(*SASLMechanisms); ok {
		array := symbolArray(m.Mechanisms)
		return appendCompound(b, codeList8, codeList32, 1, array), nil
	}
	return appendList(b, fields)
}

func symbolArray(symbols []Symbol) []byte {
	body := []byte{codeSymbol32}
	for _, s := range symbols {
		body = binary.BigEndian.AppendUint32(body, uint32(len(s)))
		body = append(body, s...)
	}
	return appendCompound(nil, codeArray8, codeArray32, len(symbols), body)
}
