package access

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

var durationPattern = regexp.MustCompile(`^P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?$`)

// ParseDuration reads an ISO 8601 duration of days, hours, minutes and whole
// seconds, such as "PT3H" or "P1D". Years, months and weeks are refused, as
// their length is not fixed or not Defender's; so are fractions, signs, and a
// duration of nothing.
func ParseDuration(s string) (time.Duration, error) {
	m := durationPattern.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "T") || s == "P" {
		return 0, Errorf(InvalidArgument, "duration_invalid",
			"%s is not an ISO 8601 duration of days, hours, minutes and seconds, such as PT3H", quote(s))
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return 0, Wrap(err, InvalidArgument, "duration_invalid", quote(s)+" is not a duration")
		}
		d += time.Duration(n) * unit
	}
	if d <= 0 {
		return 0, Errorf(InvalidArgument, "duration_not_positive", "a duration must be longer than nothing, not %s", quote(s))
	}
	return d, nil
}

// FormatDuration renders a duration of whole seconds as ISO 8601, in the
// largest units: 24 h is "P1D", 90 min is "PT1H30M". Parts of a second are
// dropped; zero is "PT0S".
func FormatDuration(d time.Duration) string {
	secs := int64(d / time.Second)
	if secs <= 0 {
		return "PT0S"
	}
	out := "P"
	if days := secs / 86400; days > 0 {
		out += strconv.FormatInt(days, 10) + "D"
		secs %= 86400
	}
	if secs > 0 {
		out += "T"
	}
	for _, u := range []struct {
		length int64
		sign   string
	}{{3600, "H"}, {60, "M"}, {1, "S"}} {
		if n := secs / u.length; n > 0 {
			out += strconv.FormatInt(n, 10) + u.sign
			secs %= u.length
		}
	}
	return out
}
