package filter_test

import (
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/filter"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

func value(t testing.TB, text string, typ edm.Type) edm.Value {
	t.Helper()
	v, err := edm.ParseText(text, typ)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sample(t testing.TB) filter.Lookup {
	props := map[string]edm.Value{
		"PartitionKey": edm.OfString("p"),
		"RowKey":       edm.OfString("5"),
		"S":            edm.OfString("o'clock"),
		"Empty":        edm.OfString(""),
		"Ü":            edm.OfString("é"),
		"I":            edm.OfInt32(-7),
		"L":            edm.OfInt64(1 << 40),
		"D":            edm.OfDouble(1.5),
		"Odd":          value(t, "NaN", edm.Double),
		"T":            edm.OfBool(true),
		"F":            edm.OfBool(false),
		"When":         value(t, "2020-01-02T03:04:05.1234567Z", edm.DateTime),
		"G":            value(t, "0F0E0D0C-0B0A-0908-0706-050403020100", edm.GUID),
		"B":            edm.OfBinary([]byte{0x0a, 0xff}),
		"order":        edm.OfInt32(1),
	}
	return func(name string) (edm.Value, bool) {
		v, ok := props[name]
		return v, ok
	}
}

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                      true,
		"   ":                                   true,
		"PartitionKey eq 'p' and RowKey eq '5'": true,
		"PartitionKey eq 'P'":                   false,
		"RowKey lt '6'":                         true,
		"RowKey ge '50'":                        false,
		"S eq 'o''clock'":                       true,
		"S eq ''":                               false,
		"Empty eq ''":                           true,
		"Ü eq 'é'":                              true,
		"I eq -7":                               true,
		"I gt -8 and I lt -6":                   true,
		"I le -7":                               true,
		"I ne -7":                               false,
		"I eq -7L":                              true,
		"I eq -7.0":                             true,
		"-7 eq I":                               true,
		"0 gt I":                                true,
		"0 lt I":                                false,
		"0 ge I and -7 le I and -7 ne L":        true,
		"L eq 1099511627776L":                   true,
		"L gt 1099511627775":                    true,
		"D eq 1.5":                              true,
		"D eq 15e-1":                            true,
		"D eq 1.5d":                             true,
		"D lt 2":                                true,
		"Odd eq NaN":                            false,
		"Odd ne 1.0":                            false,
		"D gt -INF":                             true,
		"T eq true":                             true,
		"T":                                     true,
		"F":                                     false,
		"not F":                                 true,
		"true":                                  true,
		"false or T":                            true,
		"F lt true":                             true,
		"When eq datetime'2020-01-02T03:04:05.1234567Z'": true,
		"When gt datetime'2020-01-02T03:04:05Z'":         true,
		"When lt datetime'2020-01-02T04:04:05+01:00'":    false,
		"When lt '2021'": false,
		"G eq guid'0f0e0d0c-0b0a-0908-0706-050403020100'": true,
		"G eq '0f0e0d0c-0b0a-0908-0706-050403020100'":     false,
		"B eq X'0aff'":           true,
		"B eq binary'0AFF'":      true,
		"B lt X'0b'":             true,
		"order eq 1":             true, // starts like an operator
		"S eq 5":                 false,
		"S ne 5":                 false, // types that do not compare never match
		"I eq '-7'":              false,
		"Missing eq 1":           false,
		"Missing ne 1":           false,
		"not (Missing ne 1)":     true,
		"T and F or T":           true,
		"T or T and F":           true, // and binds tighter
		"(T or T) and F":         false,
		"not T or T":             true, // not binds tightest
		"not (T or T)":           false,
		"not not T":              true,
		"((((I eq -7))))":        true,
		"(I eq -7)and(D eq 1.5)": true,
		"S eq 'and or not ( eq'": false,
		strings.Repeat("(", 99) + "T" + strings.Repeat(")", 99):   true,
		"T" + strings.Repeat(" and T", filter.MaxComparisons-1):   true,
		"PartitionKey ge 'p' and PartitionKey lt 'q' and not (F)": true,
		"S gt 'o''' and S lt 'o''d'":                              true,
		"RowKey eq '5' or RowKey eq '6' or (I gt 0 and Missing)":  true,
		"I eq 99999999999":                        false,
		"PartitionKey eq 'p'\tand\tRowKey eq '5'": true,
		"When ge datetime'2020-01-02' and When lt datetime'2020-01-03T00:00'": true,
	} {
		e, err := filter.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := e.Match(sample(t)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"eq", "5", "'x'", "I eq", "eq 5", "I eq eq", "I 5", "I eq 5 5", "I eq 5)", "(I eq 5", "()",
		"I == 5", "I EQ 5", "I eq 5 AND T", "and T", "T and", "T or or T", "not", "I eq I", "5 eq 5",
		"S eq 'open", "S eq 'it's'", "S eq \"x\"", "I eq 5x", "I eq 5LL", "I eq L", "I eq -", "I eq 1.2.3", "I eq 0x10", "I eq 1_000",
		"I eq 99999999999999999999", "I eq 99999999999999999999L", "D eq 1e999",
		"When eq datetime'yesterday'", "When eq datetime'1600-01-01T00:00:00Z'", "G eq guid'5'", "B eq X'0'", "B eq X'zz'", "S eq foo'x'",
		"a.b eq 5", "a/b eq 5", "startswith(S,'o')", "9a eq 5", "\x00", "S eq 'x';",
		strings.Repeat("(", 101) + "T" + strings.Repeat(")", 101),
		strings.Repeat("not ", 200) + "T",
		"T" + strings.Repeat(" and T", filter.MaxComparisons),
		"S eq '" + strings.Repeat("x", filter.MaxLength) + "'",
	} {
		_, err := filter.Parse(text)
		if e, ok := tableerr.As(err); !ok || e.Code != tableerr.InvalidInput {
			t.Errorf("%.60q: got %v, want InvalidInput", text, err)
		}
	}
}

func TestPinned(t *testing.T) {
	for text, want := range map[string]string{
		"PartitionKey eq 'p'":                          "p",
		"'p' eq PartitionKey and I gt 5":               "p",
		"I gt 5 and (T and PartitionKey eq 'p')":       "p",
		"PartitionKey eq 'p' or T":                     "-",
		"not (PartitionKey eq 'p')":                    "-",
		"PartitionKey ge 'p'":                          "-",
		"PartitionKey eq 5":                            "-",
		"":                                             "-",
		"(PartitionKey eq 'p' or T) and RowKey eq 'q'": "-",
	} {
		e, err := filter.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := e.Pinned("PartitionKey")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzParse: no input ends the process, and what Pinned says is true of every
// match.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"PartitionKey eq 'p' and (RowKey lt '6' or not T)", "I eq -7L", "D gt 1.5e3", "S eq 'o''clock'",
		"When ge datetime'2020-01-02T03:04:05Z'", "G eq guid'0f0e0d0c-0b0a-0908-0706-050403020100'", "B eq X'0aff'", "((", "'", "not not", "-",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := filter.Parse(text)
		if err != nil {
			if x, ok := tableerr.As(err); !ok || x.Code != tableerr.InvalidInput {
				t.Fatalf("%q: not an InvalidInput: %v", text, err)
			}
			return
		}
		matched := e.Match(sample(t))
		if p, ok := e.Pinned("PartitionKey"); ok && matched && p != "p" {
			t.Fatalf("%q: pinned to %q but matches p", text, p)
		}
	})
}
