package main

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"
)

// The markers in docs/performance.md between which the bench writes.
const (
	beginMarker = "<!-- bench: begin -->"
	endMarker   = "<!-- bench: end -->"
)

// table renders the measures as one Markdown table, aligned for a terminal too.
func table(measures []*measure) (string, error) {
	rows := [][]string{{"Measure", "Ours", "Baseline", "The baseline is", "Ours ÷ baseline (min–median–max)", "Pairs"}}
	for _, m := range measures {
		ratios, err := m.ratios()
		if err != nil {
			return "", err
		}
		rows = append(rows, []string{
			m.name, m.unit.format(spreadOf(m.ours).median), m.unit.format(spreadOf(m.base).median), m.baseline,
			between(ratios), fmt.Sprint(len(ratios)),
		})
	}
	return aligned(rows), nil
}

// between writes the spread of ratios, and one ratio alone.
func between(ratios []float64) string {
	r := spreadOf(ratios)
	if len(ratios) == 1 {
		return "**" + digits(r.median) + "**"
	}
	return digits(r.min) + "–**" + digits(r.median) + "**–" + digits(r.max)
}

func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(row []string, fill string) {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(fill, widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
	}
	line(rows[0], " ")
	line(make([]string, len(rows[0])), "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
	return b.String()
}

// heading says on what the figures were taken, without naming the machine.
func heading() string {
	return fmt.Sprintf("One run on %s/%s, %d cores, %s.", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// splice puts the text between the markers of the document.
func splice(doc []byte, text string) ([]byte, error) {
	before, rest, begins := bytes.Cut(doc, []byte(beginMarker))
	_, after, ends := bytes.Cut(rest, []byte(endMarker))
	if !begins || !ends {
		return nil, errors.New("the document lacks the markers " + beginMarker + " and " + endMarker)
	}
	var out bytes.Buffer
	out.Write(before)
	fmt.Fprintf(&out, "%s\n\n%s\n\n%s", beginMarker, strings.TrimSpace(text), endMarker)
	out.Write(after)
	return out.Bytes(), nil
}
