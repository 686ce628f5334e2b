package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// spread is what is told of a number of samples.
type spread struct{ min, median, max float64 }

// spreadOf gives the spread of the samples; of none it is NaN throughout.
func spreadOf(samples []float64) spread {
	if len(samples) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	s := slices.Sorted(slices.Values(samples))
	half := len(s) / 2
	m := s[half]
	if len(s)%2 == 0 {
		m = (s[half-1] + s[half]) / 2
	}
	return spread{s[0], m, s[len(s)-1]}
}

// unit is what a measure is counted in.
type unit string

// The units.
const (
	milliseconds unit = "ms"
	seconds      unit = "s"
	mebibytes    unit = "MiB"
	perSecond    unit = "/s"
	count        unit = ""
)

// measure is one line of the table: what we did, what was done beside it, and
// in which pairs. ours[i] and base[i] were taken one after the other, so that
// what disturbed the machine disturbed both.
type measure struct {
	name string
	// baseline says what stands beside it, in words.
	baseline string
	unit     unit
	ours     []float64
	base     []float64
}

// add takes one pair.
func (m *measure) add(ours, base float64) {
	m.ours, m.base = append(m.ours, ours), append(m.base, base)
}

// ratios gives ours ÷ baseline of each pair.
func (m *measure) ratios() ([]float64, error) {
	if len(m.ours) != len(m.base) || len(m.ours) == 0 {
		return nil, fmt.Errorf("%s: %d samples of ours and %d of the baseline are no pairs", m.name, len(m.ours), len(m.base))
	}
	out := make([]float64, len(m.ours))
	for i := range out {
		if m.base[i] <= 0 {
			return nil, fmt.Errorf("%s: the baseline of pair %d is %v", m.name, i+1, m.base[i])
		}
		out[i] = m.ours[i] / m.base[i]
	}
	return out, nil
}

// in gives a duration in the unit, which is one of time.
func (u unit) in(d time.Duration) float64 {
	if u == milliseconds {
		return float64(d) / float64(time.Millisecond)
	}
	return d.Seconds()
}

// format writes a value with about three digits that mean something.
func (u unit) format(v float64) string {
	text := digits(v)
	if u == count {
		return text
	}
	if u == perSecond {
		return text + string(u)
	}
	return text + " " + string(u)
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
