package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// isoDuration reads a duration as Go writes it (1h30m) or as ISO 8601 does
// (PT1H30M), and gives the latter. Whether it is too long is for the policy.
func isoDuration(flag, s string) (string, error) {
	if t := strings.ToUpper(s); strings.HasPrefix(t, "P") {
		if _, err := access.ParseDuration(t); err != nil {
			return "", usagef("%s: %s", flag, access.AsError(err).Message)
		}
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return "", usagef("%s takes a duration such as 1h30m or PT1H30M, not %q", flag, s)
	}
	if d < time.Second || d%time.Second != 0 {
		return "", usagef("%s takes whole seconds, and more than none, not %q", flag, s)
	}
	return access.FormatDuration(d), nil
}

// moment reads a point in time: RFC 3339, a local date and time, a local time of
// day (the next there is), or +duration from now.
func (s *shell) moment(flag, v string) (time.Time, error) {
	now := s.now()
	if rest, ok := strings.CutPrefix(v, "+"); ok {
		iso, err := isoDuration(flag, rest)
		if err != nil {
			return time.Time{}, err
		}
		d, err := access.ParseDuration(iso)
		return now.Add(d).Truncate(time.Second), err
	}
	if t, err := time.Parse(time.RFC3339, v); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.ParseInLocation("15:04", v, now.Location()); err == nil {
		at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
		if !at.After(now) {
			at = time.Date(now.Year(), now.Month(), now.Day()+1, t.Hour(), t.Minute(), 0, 0, now.Location())
		}
		return at, nil
	}
	return time.Time{}, usagef("%s takes a time such as 2026-11-24T10:00:00Z, \"2026-11-24 10:00\", 10:00 or +2h, not %q", flag, v)
}

// portWord is a port as a flag names it.
type portWord struct {
	number   int
	protocol string // "" lets the policy decide
}

func (p portWord) String() string { return portName(p.number, p.protocol) }

func portName(number int, protocol string) string {
	if protocol == "" {
		return strconv.Itoa(number)
	}
	return fmt.Sprintf("%d/%s", number, protocol)
}

// portWords reads ports such as 22 and 53/UDP.
func portWords(list []string) ([]portWord, error) {
	var out []portWord
	for _, s := range list {
		number, protocol, named := strings.Cut(strings.TrimSpace(s), "/")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 65535 {
			return nil, usagef("--port takes a number from 1 to 65535, with a protocol if need be (22, 53/UDP), not %q", s)
		}
		p, err := access.ParseProtocol(protocol)
		if err != nil || named && p == "" {
			return nil, usagef("--port %s: the protocol is TCP, UDP or *", s)
		}
		out = append(out, portWord{n, string(p)})
	}
	return out, nil
}
