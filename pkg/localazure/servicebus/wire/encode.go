package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Append encodes value in its shortest form and appends it to b. It takes what
// Decode returns; anything else is an error.
func Append(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(b, codeNull), nil
	case bool:
		if v {
			return append(b, codeTrue), nil
		}
		return append(b, codeFalse), nil
	case uint8:
		return append(b, codeUbyte, v), nil
	case int8:
		return append(b, codeByte, byte(v)), nil
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, codeUshort), v), nil
	case int16:
		return binary.BigEndian.AppendUint16(append(b, codeShort), uint16(v)), nil
	case uint32:
		return appendUint(b, v), nil
	case int32:
		return binary.BigEndian.AppendUint32(append(b, codeInt), uint32(v)), nil
	case uint64:
		return appendUlong(b, v), nil
	case int64:
		return binary.BigEndian.AppendUint64(append(b, codeLong), uint64(v)), nil
	case float32:
		return binary.BigEndian.AppendUint32(append(b, codeFloat), math.Float32bits(v)), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(b, codeDouble), math.Float64bits(v)), nil
	case time.Time:
		return binary.BigEndian.AppendUint64(append(b, codeTimestamp), uint64(v.UnixMilli())), nil
	case UUID:
		return append(append(b, codeUUID), v[:]...), nil
	case []byte:
		return appendVariable(b, codeBinary8, codeBinary32, v), nil
	case string:
		return appendVariable(b, codeString8, codeString32, []byte(v)), nil
	case Symbol:
		return appendVariable(b, codeSymbol8, codeSymbol32, []byte(v)), nil
	case []any:
		return appendList(b, v)
	case Map:
		return appendMap(b, v)
	case Described:
		return appendDescribed(b, v)
	}
	return nil, fmt.Errorf("amqp: cannot encode a %T", value)
}

func appendUint(b []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(b, codeUint0)
	case v <= math.MaxUint8:
		return append(b, codeSmallUint, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(b, codeUint), v)
}

func appendUlong(b []byte, v uint64) []byte {
	// Zero too goes out as smallulong: clients look for it in descriptors.
	if v <= math.MaxUint8 {
		return append(b, codeSmallUlong, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(b, codeUlong), v)
}

func appendVariable(b []byte, short, long byte, v []byte) []byte {
	if len(v) <= math.MaxUint8 {
		return append(append(b, short, byte(len(v))), v...)
	}
	return append(binary.BigEndian.AppendUint32(append(b, long), uint32(len(v))), v...)
}

func appendDescribed(b []byte, v Described) ([]byte, error) {
	b, err := Append(append(b, codeDescribed), v.Descriptor)
	if err != nil {
		return nil, err
	}
	return Append(b, v.Value)
}

func appendList(b []byte, list []any) ([]byte, error) {
	if len(list) == 0 {
		return append(b, codeList0), nil
	}
	var body []byte
	for _, v := range list {
		var err error
		if body, err = Append(body, v); err != nil {
			return nil, err
		}
	}
	return appendCompound(b, codeList8, codeList32, len(list), body), nil
}

func appendMap(b []byte, m Map) ([]byte, error) {
	var body []byte
	for _, e := range m {
		var err error
		if body, err = Append(body, e.Key); err != nil {
			return nil, err
		}
		if body, err = Append(body, e.Value); err != nil {
			return nil, err
		}
	}
	return appendCompound(b, codeMap8, codeMap32, 2*len(m), body), nil
}

func appendCompound(b []byte, short, long byte, count int, body []byte) []byte {
	if len(body)+1 <= math.MaxUint8 && count <= math.MaxUint8 {
		return append(append(b, short, byte(len(body)+1), byte(count)), body...)
	}
	b = binary.BigEndian.AppendUint32(append(b, long), uint32(len(body)+4))
	return append(binary.BigEndian.AppendUint32(b, uint32(count)), body...)
}
