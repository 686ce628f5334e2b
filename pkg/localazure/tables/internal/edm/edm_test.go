package edm_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

func TestPayloadRoundTrip(t *testing.T) {
	for in, want := range map[string]string{
		`"x"`:         `"P":"x"`,
		`"<&>ü"`:      `"P":"<&>ü"`,
		`5`:           `"P":5`,
		`-2147483648`: `"P":-2147483648`,
		`2147483648`:  `"P":2147483648.0`, // no Int32, so a Double
		`1.5`:         `"P":1.5`,
		`5.0`:         `"P":5.0`, // not to be taken for an Int32
		`1e30`:        `"P":1e+30`,
		`true`:        `"P":true`,
		`null`:        ``,
		`"9007199254740993","P@odata.type":"Edm.Int64"`:                    `"P@odata.type":"Edm.Int64","P":"9007199254740993"`,
		`"7","P@odata.type":"Edm.Int32"`:                                   `"P":7`,
		`"NaN","P@odata.type":"Edm.Double"`:                                `"P@odata.type":"Edm.Double","P":"NaN"`,
		`"Infinity","P@odata.type":"Edm.Double"`:                           `"P@odata.type":"Edm.Double","P":"Infinity"`,
		`"-Infinity","P@odata.type":"Edm.Double"`:                          `"P@odata.type":"Edm.Double","P":"-Infinity"`,
		`2,"P@odata.type":"Edm.Double"`:                                    `"P":2.0`,
		`"false","P@odata.type":"Edm.Boolean"`:                             `"P":false`,
		`"2020-01-02T03:04:05.1200000Z","P@odata.type":"Edm.DateTime"`:     `"P@odata.type":"Edm.DateTime","P":"2020-01-02T03:04:05.12Z"`,
		`"2020-01-02T03:04:05+02:00","P@odata.type":"Edm.DateTime"`:        `"P@odata.type":"Edm.DateTime","P":"2020-01-02T01:04:05Z"`,
		`"1601-01-01T00:00:00Z","P@odata.type":"Edm.DateTime"`:             `"P@odata.type":"Edm.DateTime","P":"1601-01-01T00:00:00Z"`,
		`"9999-12-31T23:59:59.9999999Z","P@odata.type":"Edm.DateTime"`:     `"P@odata.type":"Edm.DateTime","P":"9999-12-31T23:59:59.9999999Z"`,
		`"0F0E0D0C-0B0A-0908-0706-050403020100","P@odata.type":"Edm.Guid"`: `"P@odata.type":"Edm.Guid","P":"0f0e0d0c-0b0a-0908-0706-050403020100"`,
		`"AAEC","P@odata.type":"Edm.Binary"`:                               `"P@odata.type":"Edm.Binary","P":"AAEC"`,
		`"","P@odata.type":"Edm.Binary"`:                                   `"P@odata.type":"Edm.Binary","P":""`,
	} {
		p, err := edm.ParsePayload([]byte(`{"PartitionKey":"a","RowKey":"","Timestamp":"rubbish","odata.etag":"x","P":` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if p.PartitionKey == nil || *p.PartitionKey != "a" || p.RowKey == nil || *p.RowKey != "" || len(p.Properties) > 1 {
			t.Errorf("%s: got %+v", in, p)
		}
		var o edm.Object
		for name, v := range p.Properties {
			o.Property(name, v, true)
		}
		if got := string(o.Bytes()); got != "{"+want+"}" || !json.Valid(o.Bytes()) && want != "" {
			t.Errorf("%s: got %s", in, got)
		}
	}
}

func TestPayloadRefusals(t *testing.T) {
	for in, want := range map[string]tableerr.Code{
		``:                                     tableerr.InvalidInput,
		`[]`:                                   tableerr.InvalidInput,
		`{`:                                    tableerr.InvalidInput,
		`{"a":1`:                               tableerr.InvalidInput,
		`{"a":1}{}`:                            tableerr.InvalidInput,
		`{"a":1} x`:                            tableerr.InvalidInput,
		`{"a":{}}`:                             tableerr.InvalidInput,
		`{"a":[1]}`:                            tableerr.InvalidInput,
		`{"a":1,"a":2}`:                        tableerr.DuplicatePropertiesSpecified,
		`{"PartitionKey":5}`:                   tableerr.InvalidInput,
		`{"RowKey":true}`:                      tableerr.InvalidInput,
		`{"a":1e999}`:                          tableerr.InvalidInput,
		`{"a":1,"a@odata.type":"Edm.Byte"}`:    tableerr.InvalidInput,
		`{"a":1,"a@odata.type":5}`:             tableerr.InvalidInput,
		`{"a":1,"a@odata.type":"Edm.String"}`:  tableerr.InvalidInput,
		`{"a":"x","a@odata.type":"Edm.Int32"}`: tableerr.InvalidInput,
		`{"a":2147483648,"a@odata.type":"Edm.Int32"}`:                              tableerr.InvalidInput,
		`{"a":"9223372036854775808","a@odata.type":"Edm.Int64"}`:                   tableerr.InvalidInput,
		`{"a":"0x1p4","a@odata.type":"Edm.Double"}`:                                tableerr.InvalidInput,
		`{"a":"inf","a@odata.type":"Edm.Double"}`:                                  tableerr.InvalidInput,
		`{"a":"yes","a@odata.type":"Edm.Boolean"}`:                                 tableerr.InvalidInput,
		`{"a":"today","a@odata.type":"Edm.DateTime"}`:                              tableerr.InvalidInput,
		`{"a":5,"a@odata.type":"Edm.Int64"}`:                                       tableerr.InvalidInput,
		`{"a":5,"a@odata.type":"Edm.DateTime"}`:                                    tableerr.InvalidInput,
		`{"a":"0001-01-01T00:00:00Z","a@odata.type":"Edm.DateTime"}`:               tableerr.OutOfRangeInput,
		`{"a":"{0f0e0d0c-0b0a-0908-0706-050403020100}","a@odata.type":"Edm.Guid"}`: tableerr.InvalidInput,
		`{"a":"!","a@odata.type":"Edm.Binary"}`:                                    tableerr.InvalidInput,
	} {
		_, err := edm.ParsePayload([]byte(in))
		if e, ok := tableerr.As(err); !ok || e.Code != want {
			t.Errorf("%s: got %v, want %s", in, err, want)
		}
	}
}

// TestOrdinal compares with the definition: the order of UTF-16 code units.
// Two texts are equal only if they are the same, whatever bytes they hold.
func TestOrdinalTellsApartWhatIsNoText(t *testing.T) {
	for _, c := range [][2]string{{"p", "p\xa7\xf0I"}, {"\xff", "\xfe"}, {"a\x80", "a\x81"}, {"\xff", "\ufffd"}} {
		if a, b := edm.Ordinal(c[0], c[1]), edm.Ordinal(c[1], c[0]); a == 0 || a != -b {
			t.Errorf("%q and %q: %d and %d", c[0], c[1], a, b)
		}
	}
}

func TestOrdinal(t *testing.T) {
	words := []string{"", "a", "aa", "b", "B", "é", "e\u0301", "\uD7FF", "\uE000", "\uFFFD", "\U00010000", "\U0010FFFF", "a\U00010000", "a\uFFFD", "a\u00e9", "a\u00e8", "\U00010000x", "\U00010001"}
	for _, a := range words {
		for _, b := range words {
			want := 0
			ua, ub := utf16.Encode([]rune(a)), utf16.Encode([]rune(b))
			for i := 0; want == 0 && i < max(len(ua), len(ub)); i++ {
				switch {
				case i == len(ua) || i < len(ub) && ua[i] < ub[i]:
					want = -1
				case i == len(ub) || ua[i] > ub[i]:
					want = 1
				}
			}
			if got := edm.Ordinal(a, b); got != want {
				t.Errorf("Ordinal(%+q, %+q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, at := range []time.Time{time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999_999_900, time.UTC), time.Date(2024, 2, 29, 1, 2, 3, 400, time.UTC)} {
		if got := edm.TicksOf(at).Time(); !got.Equal(at) {
			t.Errorf("got %v, want %v", got, at)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		v             edm.Value
		size, content int
	}{
		{edm.OfString("aü\U00010000"), 4 + 8, 8},
		{edm.OfBinary(make([]byte, 10)), 14, 10},
		{edm.OfInt32(1), 4, 4},
		{edm.OfInt64(1), 8, 8},
		{edm.OfDouble(math.Pi), 8, 8},
		{edm.OfBool(true), 1, 1},
		{edm.OfTicks(1), 8, 8},
	} {
		if c.v.Size() != c.size || c.v.ContentSize() != c.content {
			t.Errorf("%s: got %d and %d", c.v.Type(), c.v.Size(), c.v.ContentSize())
		}
	}
}

// FuzzParsePayload: whatever is accepted can be written and read back the same.
func FuzzParsePayload(f *testing.F) {
	for _, seed := range []string{`{"PartitionKey":"a","RowKey":"b","P":1.5}`, `{"P":"NaN","P@odata.type":"Edm.Double"}`, `{"P":"2020-01-02T03:04:05Z","P@odata.type":"Edm.DateTime"}`, `{"P":"AAEC","P@odata.type":"Edm.Binary"}`, `{"a":1,"a":2}`, `{`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := edm.ParsePayload(in)
		if err != nil {
			return
		}
		var o edm.Object
		for name, v := range p.Properties {
			o.Property(name, v, true)
		}
		again, err := edm.ParsePayload(o.Bytes())
		if err != nil {
			t.Fatalf("%s became %s: %v", in, o.Bytes(), err)
		}
		for name, v := range p.Properties {
			nan := v != v // only a Double NaN differs from itself
			if w := again.Properties[name]; w != v && !nan {
				t.Fatalf("%s: %q became %v", in, name, w)
			}
		}
	})
}
