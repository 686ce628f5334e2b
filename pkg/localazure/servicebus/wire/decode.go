package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Limits on what a peer may make the decoder build. A frame is at most
// MaxFrameSize octets, so only nesting and elements without octets of their
// own (an array of null, say) could cost more than they were sent with.
const (
	maxDepth         = 32
	maxEmptyElements = 256
)

var errTruncated = errors.New("amqp: value is cut off")

// Decode reads one value from the front of data and returns it with what
// follows. Types arrive as their plain Go counterparts: uint32 for uint,
// time.Time (UTC, milliseconds) for timestamp, []any for list and array, and
// Symbol, UUID, Map and Described for what Go has no type of its own.
// Decimals and char are kept as their raw octets. The octets of binary values
// alias data.
func Decode(data []byte) (value any, rest []byte, err error) {
	d := decoder{data: data}
	value, err = d.value(0)
	return value, d.data, err
}

type decoder struct{ data []byte }

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.data) {
		return nil, errTruncated
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b, nil
}

func (d *decoder) value(depth int) (any, error) {
	code, err := d.take(1)
	if err != nil {
		return nil, err
	}
	return d.body(code[0], depth)
}

func (d *decoder) described(depth int) (any, error) {
	descriptor, err := d.value(depth + 1)
	if err != nil {
		return nil, err
	}
	value, err := d.value(depth + 1)
	if err != nil {
		return nil, err
	}
	return Described{Descriptor: descriptor, Value: value}, nil
}

// body reads the octets that belong to a constructor (AMQP 1.0 part 1,
// section 1.2: the high nibble tells the width).
func (d *decoder) body(code byte, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("amqp: values are nested too deeply")
	}
	switch {
	case code == codeDescribed:
		return d.described(depth)
	case code>>4 == 0x4:
		return empty(code)
	case code>>4 >= 0x5 && code>>4 <= 0x9:
		b, err := d.take(1 << (code>>4 - 5))
		if err != nil {
			return nil, err
		}
		return fixed(code, b)
	case code>>4 == 0xa || code>>4 == 0xb:
		return d.variable(code)
	case code>>4 >= 0xc:
		return d.compound(code, depth)
	}
	return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
}

func empty(code byte) (any, error) {
	switch code {
	case codeNull:
		return nil, nil
	case codeTrue:
		return true, nil
	case codeFalse:
		return false, nil
	case codeUint0:
		return uint32(0), nil
	case codeUlong0:
		return uint64(0), nil
	case codeList0:
		return []any{}, nil
	}
	return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
}

func fixed(code byte, b []byte) (any, error) {
	switch code {
	case codeUbyte:
		return b[0], nil
	case codeByte:
		return int8(b[0]), nil
	case codeSmallUint:
		return uint32(b[0]), nil
	case codeSmallUlong:
		return uint64(b[0]), nil
	case codeSmallInt:
		return int32(int8(b[0])), nil
	case codeSmallLong:
		return int64(int8(b[0])), nil
	case codeBool:
		return b[0] != 0, nil
	case codeUshort:
		return binary.BigEndian.Uint16(b), nil
	case codeShort:
		return int16(binary.BigEndian.Uint16(b)), nil
	case codeUint:
		return binary.BigEndian.Uint32(b), nil
	case codeInt:
		return int32(binary.BigEndian.Uint32(b)), nil
	case codeFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
	case codeUlong:
		return binary.BigEndian.Uint64(b), nil
	case codeLong:
		return int64(binary.BigEndian.Uint64(b)), nil
	case codeDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case codeTimestamp:
		return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC(), nil
	case codeUUID:
		return UUID(b), nil
	case codeChar, codeDecimal32, codeDecimal64, codeDecimal128:
		return b, nil
	}
	return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
}

// size reads a length of one octet (high nibble even: 0xa, 0xc, 0xe) or four.
func (d *decoder) size(code byte) (int, error) {
	width := 1
	if code>>4&1 == 1 {
		width = 4
	}
	b, err := d.take(width)
	if err != nil {
		return 0, err
	}
	if width == 1 {
		return int(b[0]), nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > math.MaxInt32 {
		return 0, errTruncated
	}
	return int(n), nil
}

func (d *decoder) variable(code byte) (any, error) {
	n, err := d.size(code)
	if err != nil {
		return nil, err
	}
	b, err := d.take(n)
	if err != nil {
		return nil, err
	}
	switch code {
	case codeBinary8, codeBinary32:
		return b, nil
	case codeString8, codeString32:
		if !utf8.Valid(b) {
			return nil, errors.New("amqp: a string is not UTF-8")
		}
		return string(b), nil
	case codeSymbol8, codeSymbol32:
		return Symbol(b), nil
	}
	return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
}

func (d *decoder) compound(code byte, depth int) (any, error) {
	n, err := d.size(code)
	if err != nil {
		return nil, err
	}
	b, err := d.take(n)
	if err != nil {
		return nil, err
	}
	inner := decoder{data: b}
	count, err := inner.size(code)
	if err != nil {
		return nil, err
	}
	var value any
	switch code {
	case codeList8, codeList32:
		value, err = inner.list(count, depth)
	case codeMap8, codeMap32:
		value, err = inner.mapping(count, depth)
	case codeArray8, codeArray32:
		value, err = inner.array(count, depth)
	default:
		return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
	}
	if err == nil && len(inner.data) != 0 {
		err = errors.New("amqp: octets are left over in a compound value")
	}
	return value, err
}

func (d *decoder) list(count, depth int) (any, error) {
	if count > len(d.data) {
		return nil, errTruncated
	}
	list := make([]any, count)
	for i := range list {
		var err error
		if list[i], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *decoder) mapping(count, depth int) (any, error) {
	if count > len(d.data) {
		return nil, errTruncated
	}
	if count%2 != 0 {
		return nil, errors.New("amqp: a map has a key without a value")
	}
	m := make(Map, count/2)
	for i := range m {
		var err error
		if m[i].Key, err = d.value(depth + 1); err != nil {
			return nil, err
		}
		if m[i].Value, err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (d *decoder) array(count, depth int) (any, error) {
	code, err := d.take(1)
	if err != nil {
		return nil, err
	}
	var descriptor any
	isDescribed := code[0] == codeDescribed
	if isDescribed {
		if descriptor, err = d.value(depth + 1); err != nil {
			return nil, err
		}
		if code, err = d.take(1); err != nil {
			return nil, err
		}
	}
	// Elements of width zero cost the sender nothing: bound their number.
	if count > len(d.data) && (code[0]>>4 != 0x4 || count > maxEmptyElements) {
		return nil, errTruncated
	}
	list := make([]any, count)
	for i := range list {
		if list[i], err = d.body(code[0], depth+1); err != nil {
			return nil, err
		}
		if isDescribed {
			list[i] = Described{Descriptor: descriptor, Value: list[i]}
		}
	}
	return list, nil
}
