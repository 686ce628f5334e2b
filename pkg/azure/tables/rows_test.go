package tables

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzDocument(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("a", chunk))
	f.Add(strings.Repeat("a", chunk-1) + "ü" + strings.Repeat("🔒", chunk))
	f.Add("a" + strings.Repeat("日本", chunk))
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("JSON of ours is valid UTF-8")
		}
		r, err := newRow("p", "k", s)
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := r.doc(&back); err != nil || back != s {
			t.Errorf("it came back another: %v", err)
		}
		for name, v := range r {
			if part := v.(string); len(part) > chunk || !utf8.ValidString(part) {
				t.Errorf("%s has %d bytes, valid: %v", name, len(part), utf8.ValidString(part))
			}
		}
	})
}

func TestAValueCannotLeaveItsQuotes(t *testing.T) {
	if got := literal("x' or RowKey ne '"); got != "'x'' or RowKey ne '''" {
		t.Error(got)
	}
}
