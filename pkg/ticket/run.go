package ticket

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// maxKey bounds a ticket's key, in characters.
const maxKey = 128

// run is one payload being mapped. What goes wrong is added to the faults.
type run struct {
	compiled
	*faults
	ctx        context.Context
	vars       map[string]any
	signed     time.Time
	receivedAt time.Time
	out        access.TicketEvent
}

func (c compiled) run(ctx context.Context, f *faults, payload any, signed, receivedAt time.Time) *run {
	users := c.source.Users
	if users == nil {
		users = map[string]string{}
	}
	return &run{compiled: c, faults: f, ctx: ctx, signed: signed, receivedAt: receivedAt, vars: map[string]any{
		"payload": payload, "users": users, "source.name": c.source.Name, "received": receivedAt,
	}}
}

// event reads what every event must have, and says whether it is one of ours.
func (r *run) event() bool {
	if !r.truth("when", true) {
		return false
	}
	r.out.Ticket = access.TicketID{Source: r.source.Name, Key: r.key()}
	if r.out.At = r.signed; r.programs["at"] != nil {
		if r.out.At = r.time("at"); r.out.At.IsZero() {
			r.fail("at", "it gives no time")
		}
	}
	if r.out.At.IsZero() {
		r.out.At = r.receivedAt
	}
	r.out.Ends = r.truth("ends", false)
	return true
}

// facts reads what the ticket vouches by.
func (r *run) facts() {
	r.out.State, r.out.Assignee, r.out.Actor = r.text("state"), r.text("assignee"), r.text("actor")
	start, end := r.time("windowStart"), r.time("windowEnd")
	if !start.IsZero() && !end.IsZero() && end.Before(start) {
		r.fail("windowEnd", "the window ends before it starts")
		return
	}
	r.out.WindowStart, r.out.WindowEnd = start, end
}

// value runs the field's expression; nil where there is none or it failed.
func (r *run) value(name string) any {
	p := r.programs[name]
	if p == nil {
		return nil
	}
	v, err := p.Run(r.ctx, r.vars)
	if err != nil {
		r.expression(name, err)
		return nil
	}
	return v
}

func (r *run) fail(name, format string, args ...any) {
	for _, v := range r.list {
		if v.Path == "mapping."+name {
			return // one fault of an expression is enough
		}
	}
	r.add("mapping."+name, "result_invalid", format, args...)
}

func (r *run) truth(name string, otherwise bool) bool {
	if r.programs[name] == nil {
		return otherwise
	}
	v, ok := r.value(name).(bool)
	if !ok {
		r.fail(name, "it must give true or false")
	}
	return v
}

func (r *run) key() string {
	var key string
	switch v := r.value("ticket").(type) {
	case string:
		key = strings.TrimSpace(v)
	case int64:
		key = strconv.FormatInt(v, 10)
	case uint64:
		key = strconv.FormatUint(v, 10)
	default:
		r.fail("ticket", "it must give a string or an int, and gives %s", kindOf(v))
		return ""
	}
	if !printable(key, maxKey) || key == "" {
		r.fail("ticket", "a ticket's key has 1 to %d printable characters", maxKey)
	}
	return key
}

func (r *run) text(name string) string {
	switch v := r.value(name).(type) {
	case nil:
		return ""
	case string:
		if v = strings.TrimSpace(v); printable(v, maxText) {
			return v
		}
		r.fail(name, "it gives more than %d characters, or some that are not printable", maxText)
	default:
		r.fail(name, "it must give a string or null, and gives %s", kindOf(v))
	}
	return ""
}

func printable(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// time reads a time; zero for null.
func (r *run) time(name string) time.Time {
	var at time.Time
	switch v := r.value(name).(type) {
	case nil:
		return at
	case time.Time:
		at = v
	case int64:
		at = time.UnixMilli(v)
	case string:
		var ok bool
		if at, ok = parseTime(v); !ok {
			r.fail(name, "it gives a text that is no time as in RFC 3339, such as 2026-11-24T10:00:00Z")
			return at
		}
	default:
		r.fail(name, "it must give a timestamp, a text as in RFC 3339, or an int of milliseconds since 1970, and gives %s", kindOf(v))
		return at
	}
	if at = at.UTC(); at.Year() < 2000 || at.Year() > 9999 {
		r.fail(name, "it gives a time before the year 2000 or after 9999; a number counts milliseconds since 1970, not seconds")
		return time.Time{}
	}
	return at
}

// parseTime reads a time as in RFC 3339, or with an offset without a colon, as
// Jira writes it.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a bool"
	case string:
		return "a string"
	case int64, uint64:
		return "an int"
	case float64:
		return "a double"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	case time.Time:
		return "a timestamp"
	}
	return fmt.Sprintf("a %T", v)
}

// ask reads the request: a map in the format of the request message, which the
// decoder of those reads, so that neither takes what the other refuses.
func (r *run) ask() {
	v := r.value("request")
	if v == nil {
		return
	}
	doc, ok := v.(map[string]any)
	if !ok {
		r.fail("request", "it must give a map or null, and gives %s", kindOf(v))
		return
	}
	for _, own := range []string{"id", "ticket"} {
		if _, has := doc[own]; has {
			r.add("mapping.request."+own, "field_of_event", "leave %s out: it is the event's", own)
			return
		}
	}
	if _, has := doc["requestor"]; !has {
		r.add("mapping.request.requestor", "requestor_missing", "requestor is missing: name who the access is for")
		return
	}
	data, err := json.Marshal(plain(doc), json.Deterministic(true))
	if err != nil {
		r.fail("request", "it gives what JSON cannot hold")
		return
	}
	m, err := accessjson.DecodeRequest(data)
	if err != nil {
		r.message(err)
		return
	}
	r.out.Ask = &access.TicketAsk{Requestor: m.Requestor, Justification: m.Justification, Ports: m.Ports, StartTime: m.StartTime}
}

// message adds what is wrong with the request message.
func (r *run) message(err error) {
	e, ok := errors.AsType[*access.Error](err)
	if !ok || len(e.Violations) == 0 {
		r.add("mapping.request", access.ReasonOf(err), "%s", access.AsError(err).Message)
		return
	}
	for _, v := range e.Violations {
		path := "mapping.request"
		if v.Path != "" {
			path += "." + v.Path
		}
		r.add(path, v.Reason, "%s", v.Message)
	}
}

// plain writes durations and times as the request message has them.
func plain(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return access.FormatDuration(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return v
}
