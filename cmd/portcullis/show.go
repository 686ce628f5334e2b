package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// raw writes a document as it came, but for its white space.
func (s *shell) raw(to io.Writer, data json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(to)
	return err
}

// rawList writes the items of a list as they came.
func (s *shell) rawList(items []json.RawMessage) error {
	if items == nil {
		items = []json.RawMessage{}
	}
	data := []byte(`{"items":[`)
	data = append(data, bytes.Join(toBytes(items), []byte(","))...)
	return s.raw(s.out, append(data, "]}"...))
}

func toBytes(items []json.RawMessage) (out [][]byte) {
	for _, i := range items {
		out = append(out, i)
	}
	return out
}

// table is a table for people. What is in its cells came from elsewhere and is
// cleaned; a column that has nothing in it is left out.
type table struct {
	to     io.Writer
	indent string
	headed bool
	rows   [][]string
}

// newTable makes a table; without a head its rows stand for themselves.
func newTable(to io.Writer, indent string, head ...string) *table {
	t := &table{to: to, indent: indent, headed: len(head) > 0}
	if t.headed {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = clean(c)
	}
	t.rows = append(t.rows, cells)
}

// flush writes the table.
func (t *table) flush() error {
	var used []bool
	for i, r := range t.rows {
		for j, c := range r {
			if j == len(used) {
				used = append(used, false)
			}
			used[j] = used[j] || c != "" && (i > 0 || !t.headed)
		}
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, r := range t.rows {
		line := t.indent
		for j := range used {
			if c := ""; used[j] {
				if j < len(r) {
					c = r[j]
				}
				line += c + "\t"
			}
		}
		fmt.Fprintln(w, line)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for l := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(t.to, strings.TrimRight(l, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// clean takes from a text what could make a terminal do something: control
// characters and those that turn the direction of writing.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, s)
}

// cleanText cleans a text that may have several lines.
func cleanText(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\t", "    "), "\n")
	for i, l := range lines {
		lines[i] = clean(strings.TrimSuffix(l, "\r"))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

const (
	red   = "31"
	green = "32"
)

func (s *shell) colored(on bool, color, text string) string {
	if !on {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// stamp shows a time in the reader's zone; "" for none.
func (s *shell) stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(s.now().Location()).Format("2006-01-02 15:04:05 MST")
}

// deadline shows a time that matters, and how far off it is.
func (s *shell) deadline(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	left := t.Sub(s.now())
	if left <= 0 {
		return s.stamp(t)
	}
	return s.stamp(t) + " (in " + span(left) + ")"
}

// ago shows how long past a time is.
func (s *shell) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return span(s.now().Sub(t)) + " ago"
}

// span shows a length of time in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	for _, u := range []struct {
		big, small   time.Duration
		bigS, smallS string
	}{{24 * time.Hour, time.Hour, "d", "h"}, {time.Hour, time.Minute, "h", "m"}, {time.Minute, time.Second, "m", "s"}} {
		if d >= u.big {
			out := fmt.Sprintf("%d%s", d/u.big, u.bigS)
			if rest := d % u.big / u.small; rest > 0 {
				out += fmt.Sprintf("%d%s", rest, u.smallS)
			}
			return out
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// count tells how many there are of something.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// nameOf is a resource's own name; a subscription's or a group's for those.
func nameOf(id string) string {
	if r, err := access.ParseResourceID(id); err == nil {
		return r.Name()
	}
	return id
}

// scopeName is how a person calls a scope.
func scopeName(id string) string {
	r, err := access.ParseScope(id)
	switch {
	case err != nil:
		return id
	case r.Type() != "":
		return "virtual machine " + r.ResourceGroup() + "/" + r.Name()
	case r.ResourceGroup() != "":
		return "resource group " + r.ResourceGroup()
	}
	return "subscription " + r.Subscription()
}

// isoSpan shows an ISO 8601 duration as Go does, "1h30m".
func isoSpan(s string) string {
	d, err := access.ParseDuration(s)
	if err != nil {
		return s
	}
	return span(d)
}
