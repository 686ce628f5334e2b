package functionshost

import (
	"strings"
	"testing"
	"time"
)

func TestParseTimeSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"00:05:00":         5 * time.Minute,
		"01:02:03":         time.Hour + 2*time.Minute + 3*time.Second,
		"00:30":            30 * time.Minute,
		"1.02:00:00":       26 * time.Hour,
		"2":                48 * time.Hour,
		"-00:00:01":        -time.Second,
		"00:00:00.25":      250 * time.Millisecond,
		"00:00:01.0000001": time.Second + 100*time.Nanosecond,
		" 23:59:59 ":       24*time.Hour - time.Second,
	} {
		if got, err := parseTimeSpan(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "x", "24:00:00", "00:60:00", "00:00:60", "1:2:3:4", "00:00:00.", "00:00:00.12345678",
		"--00:00:01", "+00:00:01", "00:-1:00", "00:00:01 s", "999999999.00:00:00", "1.5", "00::00",
	} {
		if got, err := parseTimeSpan(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestScheduleOccurrences(t *testing.T) {
	from := time.Date(2026, 8, 20, 10, 0, 30, 5, time.UTC) // a Thursday
	for text, want := range map[string]string{
		"0 * * * * *":             "2026-08-20T10:01:00Z",
		"*/15 * * * * *":          "2026-08-20T10:00:45Z",
		"0 */5 * * * *":           "2026-08-20T10:05:00Z",
		"0 0 3 * * *":             "2026-08-21T03:00:00Z",
		"30 59 23 31 12 *":        "2026-12-31T23:59:30Z",
		"0 0 0 29 2 *":            "2028-02-29T00:00:00Z",
		"0 30 9 * * Mon-Fri":      "2026-08-21T09:30:00Z",
		"0 0 0 * January Sunday":  "2027-01-03T00:00:00Z",
		"0 0 0 13 * 5":            "2026-11-13T00:00:00Z", // both day and weekday, unlike Unix cron
		"5,50-52 0 10 * * *":      "2026-08-20T10:00:50Z",
		"0 10/20 * * * *":         "2026-08-20T10:10:00Z",
		"0 0 20-22/2 * * *":       "2026-08-20T20:00:00Z",
		"15 4 * * *":              "2026-08-21T04:15:00Z", // five fields: no seconds
		"00:00:10":                "2026-08-20T10:00:40.000000005Z",
		"  0  0   11  *  *  *   ": "2026-08-20T11:00:00Z",
	} {
		s, err := parseSchedule(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s.next(from).Format(time.RFC3339Nano); got != want {
			t.Errorf("%q: next is %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{
		"", "* * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *", "* * * * 13 *", "* * * * * 7",
		"*/0 * * * * *", "5-1 * * * * *", "a * * * * *", "1,,2 * * * * *", "1- * * * * *", "0 0 0 31 2 *",
		"* * * * Janux *", "00:00:00", "-00:01:00", "soon", "-1 * * * * *",
	} {
		if s, err := parseSchedule(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}

func TestSubMinute(t *testing.T) {
	for text, want := range map[string]bool{
		"0 * * * * *": false, "*/30 * * * * *": true, "0,59 * * * * *": true, "00:00:59": true, "00:01:00": false,
	} {
		s, err := parseSchedule(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := subMinute(s); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// FuzzSchedule checks every schedule that parses against the plain meaning of
// its bits: the next occurrence matches and no second before it does.
func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"0 */5 * * * *", "0 0 0 13 * 5", "1,2-9/3 0 4 1-7 jan,jul mon", "00:00:10", "7/7 * * * * *"} {
		f.Add(seed, int64(1_787_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		s, err := parseSchedule(text)
		c, ok := s.(cronSchedule)
		if err != nil || !ok {
			return
		}
		from := time.Unix(unix%4_000_000_000, 0).UTC()
		next := c.next(from)
		if next.IsZero() {
			return
		}
		matches := func(at time.Time) bool {
			values := [6]int{at.Second(), at.Minute(), at.Hour(), at.Day(), int(at.Month()), int(at.Weekday())}
			for i, v := range values {
				if c[i]&(1<<v) == 0 {
					return false
				}
			}
			return true
		}
		if !matches(next) || !next.After(from) {
			t.Fatalf("%q after %v: %v does not match", text, from, next)
		}
		for at, steps := from.Add(time.Second), 0; at.Before(next) && steps < 2000; at, steps = at.Add(time.Second), steps+1 {
			if matches(at) {
				t.Fatalf("%q after %v: %v was passed over for %v", text, from, at, next)
			}
		}
	})
}

func TestRouteMatching(t *testing.T) {
	tests := []struct {
		template, path string
		match          bool
		params         string
	}{
		{"api/{*path}", "/api/a/b", true, "path=a/b"},
		{"api/{*path}", "/api", true, ""},
		{"api/{*path}", "/API/x/", true, "path=x"},
		{"api/{*path}", "/apix", false, ""},
		{"api/{*path}", "/api/../RequestAccess", false, ""},
		{"api/{*path}", "/api/%2e%2E/RequestAccess", false, ""},
		{"api/{*path}", "/api/..%2FRequestAccess", true, "path=..%2FRequestAccess"},
		{"api/{*path}", "//api/x", false, ""},
		{"api/{*path}", "/x/../api/y", true, "path=y"},
		{"webhooks/{source}", "/webhooks/git%20hub", true, "source=git hub"},
		{"webhooks/{source}", "/webhooks", false, ""},
		{"webhooks/{source}", "/webhooks//", false, ""},
		{"webhooks/{source}", "/webhooks/a/b", false, ""},
		{"{root:maxlength(0)?}", "/", true, ""},
		{"{root:maxlength(0)?}", "/x", false, ""},
		{"{root:maxlength(0)?}", "/RequestAccess", false, ""},
		{"", "/", false, ""},
		{"a/{id:int}", "/a/12", true, "id=12"},
		{"a/{id:int}", "/a/x", false, ""},
		{"a/{id:int:min(5)}", "/a/4", false, ""},
		{"a/{id:guid}", "/a/6f9619ff-8b86-d011-b42d-00cf4fc964ff", true, "id=6f9619ff-8b86-d011-b42d-00cf4fc964ff"},
		{"a/{id:length(2,3)}", "/a/äöü", true, "id=äöü"},
		{"a/{id:regex(^[a-c]{{2}}$)}", "/a/aB", true, "id=aB"},
		{"a/{id:regex(^x/y$)}/b", "/a/x/b", false, ""},
		{"a/{id=7}", "/a", true, "id=7"},
		{"a/{id?}", "/a/3", true, "id=3"},
		{"a/{id:alpha}/c", "/a/bee/C", true, "id=bee"},
	}
	for _, test := range tests {
		template, err := parseRoute(test.template)
		if err != nil {
			t.Errorf("%q: %v", test.template, err)
			continue
		}
		segments, _, err := requestSegments(parseURL(t, test.path))
		if err != nil {
			t.Errorf("%q: %v", test.path, err)
			continue
		}
		params, ok := template.match(segments)
		var list []string
		for name, value := range params {
			list = append(list, name+"="+value)
		}
		if ok != test.match || ok && strings.Join(list, " ") != test.params {
			t.Errorf("%q against %q: %v %q", test.path, test.template, ok, list)
		}
	}
	for _, text := range []string{
		"a//b", "{a", "a}", "v{n}", "{*a}/b", "{a}/{A}", "{}", "{a:nope}", "{a:maxlength(x)}", "{a:regex([)}", "{a:min(1}", "{***a}", "a?",
	} {
		if _, err := parseRoute(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// FuzzRoute checks that no request path matches a template by way of dot
// segments, and that what is forwarded splits into what was matched.
func FuzzRoute(f *testing.F) {
	f.Add("api/{*path}", "/api/%2e%2e/x")
	f.Add("{a?}/{b:int}", "/1/..%2f/2//")
	f.Add("{root:maxlength(0)?}", "/")
	f.Fuzz(func(t *testing.T, text, path string) {
		template, err := parseRoute(text)
		if err != nil {
			return
		}
		u, err := parsePath(path)
		if err != nil {
			return
		}
		segments, _, err := requestSegments(u)
		if err != nil {
			return
		}
		template.match(segments)
		again, err := parsePath(escapeSegments(segments))
		if err != nil {
			t.Fatalf("%q: %v", escapeSegments(segments), err)
		}
		back, resolved, err := requestSegments(again)
		if err != nil || resolved {
			t.Fatalf("%q became %q: %v, resolved %v", path, segments, err, resolved)
		}
		if got, want := strings.Join(back, "/"), strings.Join(segments, "/"); strings.Trim(got, "/") != strings.Trim(want, "/") {
			t.Fatalf("%q became %q", want, got)
		}
	})
}
