package servicebus

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// maxTimeSpan is .NET's TimeSpan.MaxValue, by which the service says "for ever".
const maxTimeSpan = "P10675199DT2H48M5.4775807S"

// parseDuration reads an ISO 8601 duration of days, hours, minutes and seconds;
// years and months are refused, for their length varies. What time.Duration
// cannot hold becomes the largest it can.
func parseDuration(s string) (time.Duration, error) {
	pattern := regexp.MustCompile(`^P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?$`)
	m := pattern.FindStringSubmatch(s)
	if m == nil || s == "P" || s[len(s)-1] == 'T' {
		return 0, fmt.Errorf("%q is not a duration such as PT1M or P14D", s)
	}
	var seconds float64
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return 0, fmt.Errorf("duration %q: %w", s, err)
		}
		seconds += n * unit
	}
	if seconds >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64, nil
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// formatDuration writes a duration as the admin endpoint gives it back.
func formatDuration(d time.Duration) string {
	if d <= 0 || d == math.MaxInt64 {
		return maxTimeSpan
	}
	s := "P"
	if days := d / (24 * time.Hour); days > 0 {
		s += strconv.Itoa(int(days)) + "D"
		d -= days * 24 * time.Hour
	}
	if d == 0 {
		return s
	}
	s += "T"
	for _, part := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "H"}, {time.Minute, "M"}} {
		if n := d / part.unit; n > 0 {
			s += strconv.Itoa(int(n)) + part.name
			d -= n * part.unit
		}
	}
	if d > 0 {
		s += strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
	}
	return s
}
