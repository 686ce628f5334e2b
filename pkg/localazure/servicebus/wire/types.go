// Package wire reads and writes the frames of AMQP 1.0 (OASIS standard, parts
// 1 and 2) as a broker needs them: it knows the type system, the performatives
// and the SASL frames, and nothing of messages, which go-amqp encodes.
package wire

// Constructors, AMQP 1.0 part 1, section 1.6.
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBinary8    = 0xa0
	codeString8    = 0xa1
	codeSymbol8    = 0xa3
	codeBinary32   = 0xb0
	codeString32   = 0xb1
	codeSymbol32   = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

// Symbol is an AMQP symbol: a name of ASCII characters.
type Symbol string

// UUID is an AMQP uuid in the octet order of RFC 4122.
type UUID [16]byte

// Described is a value with its descriptor, usually a uint64 code.
type Described struct {
	Descriptor any
	Value      any
}

// Entry is one pair of a Map.
type Entry struct{ Key, Value any }

// Map is an AMQP map in the order it came; its keys need not be comparable.
type Map []Entry

// Get returns the value under the symbol or string name, and whether there is one.
func (m Map) Get(name string) (any, bool) {
	for _, e := range m {
		if s, ok := Text(e.Key); ok && s == name {
			return e.Value, true
		}
	}
	return nil, false
}

// Text returns the characters of a string or a symbol.
func Text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case Symbol:
		return string(v), true
	}
	return "", false
}
