package functionshost

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// schedule tells when a timer fires next.
type schedule interface {
	// next is the first occurrence after t; the zero time if there is none.
	next(t time.Time) time.Time
	// adjustsForDST is what TimerInfo.Schedule.AdjustForDST says: true for a
	// cron expression, false for an interval (azure-webjobs-sdk-extensions,
	// CronSchedule and ConstantSchedule).
	adjustsForDST() bool
}

// parseSchedule reads a timerTrigger's "schedule": a time span such as
// "00:05:00", or an NCRONTAB expression of six fields
// {second} {minute} {hour} {day} {month} {day-of-week}; five fields, without
// seconds, are read too, as the timer extension does.
func parseSchedule(text string) (schedule, error) {
	fields := strings.Fields(text)
	switch len(fields) {
	case 1:
		every, err := parseTimeSpan(text)
		if err != nil {
			return nil, err
		}
		if every <= 0 {
			return nil, fmt.Errorf("interval %q is not positive", text)
		}
		return interval(every), nil
	case 5:
		fields = append([]string{"0"}, fields...)
	case 6:
	default:
		return nil, fmt.Errorf("schedule %q has %d fields, not 6", text, len(fields))
	}
	var c cronSchedule
	for i, field := range cronFields {
		bits, err := parseCronField(fields[i], field)
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %s: %w", text, field.name, err)
		}
		c[i] = bits
	}
	if c.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("schedule %q never occurs", text)
	}
	return c, nil
}

// interval is a schedule with a constant distance between occurrences.
type interval time.Duration

func (i interval) next(t time.Time) time.Time { return t.Add(time.Duration(i)) }
func (i interval) adjustsForDST() bool        { return false }

// cronField describes one field of an NCRONTAB expression.
type cronField struct {
	name     string
	min, max int
	names    []string // names of the values from min on, by their first three letters
}

var cronFields = [6]cronField{
	{name: "second", max: 59},
	{name: "minute", max: 59},
	{name: "hour", max: 23},
	{name: "day", min: 1, max: 31},
	{name: "month", min: 1, max: 12, names: []string{
		"January", "February", "March", "April", "May", "June", "July",
		"August", "September", "October", "November", "December"}},
	{name: "day of week", max: 6, names: []string{
		"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}},
}

// cronSchedule holds the permitted values of each field as bit sets. Unlike
// Unix cron, NCRONTAB asks day and day of week both to match, which is why no
// ordinary cron library is used here.
type cronSchedule [6]uint64

func (c cronSchedule) adjustsForDST() bool { return true }

func (c cronSchedule) has(field, value int) bool { return c[field]&(1<<value) != 0 }

// next walks from the coarsest field that does not match, in t's own zone. It
// gives up after eight years, the longest distance between two 29ths of
// February.
func (c cronSchedule) next(t time.Time) time.Time {
	const second, minute, hour, day, month, weekday = 0, 1, 2, 3, 4, 5
	limit := t.AddDate(8, 0, 1)
	t = t.Truncate(time.Second).Add(time.Second)
	for t.Before(limit) {
		switch {
		case !c.has(month, int(t.Month())):
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
		case !c.has(day, t.Day()) || !c.has(weekday, int(t.Weekday())):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
		case !c.has(hour, t.Hour()):
			t = t.Truncate(time.Minute).Add(time.Duration(60-t.Minute()) * time.Minute)
		case !c.has(minute, t.Minute()):
			t = t.Truncate(time.Minute).Add(time.Minute)
		case !c.has(second, t.Second()):
			t = t.Add(time.Second)
		default:
			return t
		}
	}
	return time.Time{}
}

// parseCronField reads lists of *, n, a-b and names, each with an optional /step.
func parseCronField(text string, f cronField) (uint64, error) {
	var bits uint64
	for _, item := range strings.Split(text, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 {
				return 0, fmt.Errorf("%q is not a step", stepText)
			}
			step = n
		}
		low, high, err := cronRange(span, f)
		if err != nil {
			return 0, err
		}
		if stepped && low == high && span != "*" && !strings.Contains(span, "-") {
			high = f.max // n/step runs from n to the end of the field
		}
		for v := low; v <= high; v += step {
			bits |= 1 << v
		}
	}
	return bits, nil
}

func cronRange(text string, f cronField) (low, high int, err error) {
	if text == "*" {
		return f.min, f.max, nil
	}
	lowText, highText, isRange := strings.Cut(text, "-")
	if low, err = cronValue(lowText, f); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return low, low, nil
	}
	if high, err = cronValue(highText, f); err != nil {
		return 0, 0, err
	}
	if high < low {
		return 0, 0, fmt.Errorf("range %q runs backwards", text)
	}
	return low, high, nil
}

func cronValue(text string, f cronField) (int, error) {
	if len(text) >= 3 {
		for i, name := range f.names {
			if len(text) <= len(name) && strings.EqualFold(text, name[:len(text)]) {
				return f.min + i, nil
			}
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || int(n) < f.min || int(n) > f.max {
		return 0, fmt.Errorf("%q is not between %d and %d", text, f.min, f.max)
	}
	return int(n), nil
}
