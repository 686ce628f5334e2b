// Package edm holds the values of Azure Table Storage: the eight EDM types,
// their JSON forms, their order and their size.
//
// Source: REST reference, "Understanding the Table service data model" and
// "Payload format for Table service operations".
package edm

import (
	"cmp"
	"math"
	"strings"
	"time"
)

// Type is one of the property types that Table Storage knows.
type Type string

// The eight types.
const (
	String   Type = "Edm.String"
	Int32    Type = "Edm.Int32"
	Int64    Type = "Edm.Int64"
	Double   Type = "Edm.Double"
	Boolean  Type = "Edm.Boolean"
	DateTime Type = "Edm.DateTime"
	GUID     Type = "Edm.Guid"
	Binary   Type = "Edm.Binary"
)

// Ticks is a moment as .NET counts it: 100 ns units since 0001-01-01 UTC. It is
// the resolution at which Storage keeps DateTime values and timestamps.
type Ticks int64

const (
	ticksPerSecond   = 10_000_000
	unixEpochSeconds = 62_135_596_800 // from 0001-01-01 to 1970-01-01
	timeLayout       = "2006-01-02T15:04:05.9999999Z"
)

// TicksOf converts t, dropping what is finer than 100 ns.
func TicksOf(t time.Time) Ticks {
	return Ticks((t.Unix()+unixEpochSeconds)*ticksPerSecond + int64(t.Nanosecond()/100))
}

// Time is the moment in UTC.
func (t Ticks) Time() time.Time {
	return time.Unix(int64(t)/ticksPerSecond-unixEpochSeconds, int64(t)%ticksPerSecond*100).UTC()
}

// String is the form used in payloads and ETags, trailing zeros dropped.
func (t Ticks) String() string { return t.Time().Format(timeLayout) }

// Value is one property value. It is immutable; == compares type and content.
type Value struct {
	typ  Type
	text string  // String, GUID (canonical), Binary (raw bytes)
	num  int64   // Int32, Int64, Boolean (0 or 1), DateTime (ticks)
	dbl  float64 // Double
}

// OfString makes an Edm.String.
func OfString(s string) Value { return Value{typ: String, text: s} }

// OfInt32 makes an Edm.Int32.
func OfInt32(n int32) Value { return Value{typ: Int32, num: int64(n)} }

// OfInt64 makes an Edm.Int64.
func OfInt64(n int64) Value { return Value{typ: Int64, num: n} }

// OfDouble makes an Edm.Double, NaN and the infinities included.
func OfDouble(f float64) Value { return Value{typ: Double, dbl: f} }

// OfBool makes an Edm.Boolean.
func OfBool(b bool) Value {
	if b {
		return Value{typ: Boolean, num: 1}
	}
	return Value{typ: Boolean}
}

// OfTicks makes an Edm.DateTime.
func OfTicks(t Ticks) Value { return Value{typ: DateTime, num: int64(t)} }

// OfBinary makes an Edm.Binary.
func OfBinary(b []byte) Value { return Value{typ: Binary, text: string(b)} }

// Type is the value's type; empty for the zero Value.
func (v Value) Type() Type { return v.typ }

// Text is the content of a String, GUID or Binary, and empty for other types.
func (v Value) Text() string { return v.text }

// True says whether v is the Boolean true.
func (v Value) True() bool { return v.typ == Boolean && v.num == 1 }

func (v Value) numeric() bool { return v.typ == Int32 || v.typ == Int64 || v.typ == Double }

func (v Value) float() float64 {
	if v.typ == Double {
		return v.dbl
	}
	return float64(v.num)
}

// Compare orders a and b; ok is false if their types cannot be compared or one
// is NaN, and then no comparison operator holds. Numbers of different types are
// compared by value; all else must be of one type.
func Compare(a, b Value) (order int, ok bool) {
	if a.numeric() && b.numeric() {
		if a.typ != Double && b.typ != Double {
			return cmp.Compare(a.num, b.num), true
		}
		x, y := a.float(), b.float()
		if math.IsNaN(x) || math.IsNaN(y) {
			return 0, false
		}
		return cmp.Compare(x, y), true
	}
	if a.typ != b.typ {
		return 0, false
	}
	switch a.typ {
	case String:
		return Ordinal(a.text, b.text), true
	case GUID, Binary:
		return strings.Compare(a.text, b.text), true
	default:
		return cmp.Compare(a.num, b.num), true
	}
}

// Size is what v adds to its entity's size in bytes, as the data model counts.
func (v Value) Size() int {
	switch v.typ {
	case String:
		return 4 + 2*UTF16Len(v.text)
	case Binary:
		return 4 + len(v.text)
	case GUID:
		return 16
	case Int32:
		return 4
	case Boolean:
		return 1
	default:
		return 8
	}
}

// ContentSize is what counts towards the 64 KiB that one value may have.
func (v Value) ContentSize() int {
	switch v.typ {
	case String:
		return 2 * UTF16Len(v.text)
	case Binary:
		return len(v.text)
	default:
		return v.Size()
	}
}

// UTF16Len is the length of s in UTF-16 code units, in which Storage counts.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// Ordinal compares by UTF-16 code units, as Storage orders keys. It differs
// from byte order only where a surrogate pair meets U+E000..U+FFFF.
func Ordinal(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i > 0 && (i < len(a) && a[i]&0xC0 == 0x80 || i < len(b) && b[i]&0xC0 == 0x80) {
		i-- // back to the start of the rune in which they differ
	}
	ra, rb := firstRune(a[i:]), firstRune(b[i:])
	if (ra > 0xFFFF) == (rb > 0xFFFF) {
		// What is no UTF-8 can have the same rune in another form; the texts differ.
		return cmp.Or(cmp.Compare(ra, rb), strings.Compare(a, b))
	}
	if ra > 0xFFFF {
		ra = 0xD800 // any lead surrogate: above U+D7FF, below U+E000
	} else {
		rb = 0xD800
	}
	return cmp.Compare(ra, rb)
}

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return -1
}
