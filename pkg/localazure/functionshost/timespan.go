package functionshost

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseTimeSpan reads a .NET TimeSpan in its constant form
// [-][d.]hh:mm[:ss[.fffffff]], or a bare count of days, as host.json and
// function.json have it (System.TimeSpan.Parse, invariant culture). Hours run
// to 23, minutes and seconds to 59.
func parseTimeSpan(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	sign := time.Duration(1)
	if after, ok := strings.CutPrefix(rest, "-"); ok {
		sign, rest = -1, after
	}
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return 0, badTimeSpan(text)
	}
	days := "0"
	if len(parts) == 1 {
		days, parts = parts[0], []string{"0", "0"}
	} else if d, h, ok := strings.Cut(parts[0], "."); ok {
		days, parts[0] = d, h
	}
	fraction := ""
	if len(parts) == 3 {
		if s, f, ok := strings.Cut(parts[2], "."); ok {
			if f == "" || len(f) > 7 {
				return 0, badTimeSpan(text)
			}
			parts[2], fraction = s, f
		}
	}
	total, err := spanPart(days, maxTimeSpanDays)
	if err != nil {
		return 0, badTimeSpan(text)
	}
	total *= 24 * time.Hour
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second}[:len(parts)] {
		limit := 59
		if unit == time.Hour {
			limit = 23
		}
		n, err := spanPart(parts[i], limit)
		if err != nil {
			return 0, badTimeSpan(text)
		}
		total += n * unit
	}
	if fraction != "" {
		ticks, err := spanPart((fraction + "000000")[:7], 9_999_999)
		if err != nil {
			return 0, badTimeSpan(text)
		}
		total += ticks * 100 * time.Nanosecond
	}
	return sign * total, nil
}

// maxTimeSpanDays keeps every accepted span inside a time.Duration, which
// holds 292 years; .NET's own limit is some 10 million days.
const maxTimeSpanDays = 100_000

// spanPart reads one unsigned decimal number up to limit.
func spanPart(text string, limit int) (time.Duration, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) {
		return 0, errors.New("out of range")
	}
	return time.Duration(n), nil
}

func badTimeSpan(text string) error {
	return fmt.Errorf("%q is not a time span of the form [d.]hh:mm:ss", text)
}
