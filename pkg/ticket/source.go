// Package ticket takes the word of ticketing systems: it verifies a webhook's
// delivery by the source's secrets and maps its payload to an event of a ticket.
// It is pure: headers, bodies, secrets and times come in as values.
package ticket

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// The bounds of a source.
const (
	MaxName    = 40
	MaxSecrets = 4
	MaxUsers   = 2_000
	// MaxSample and MaxSource bound the sample and the whole document, in bytes.
	MaxSample = 64 << 10
	MaxSource = 256 << 10
	MinMaxAge = time.Minute
	MaxMaxAge = 7 * 24 * time.Hour
	// maxText bounds a name in users, in characters.
	maxText = 256
)

// Kind is how a source signs what it sends.
type Kind string

// The kinds.
const (
	Standard  Kind = "standard"  // Standard Webhooks 1.0
	GitHub    Kind = "github"    // a webhook of a repository or an organization
	Jira      Kind = "jira"      // an administrator's webhook of Jira
	JSM       Kind = "jsm"       // "send web request" of Jira Service Management's automation
	PagerDuty Kind = "pagerduty" // a V3 webhook subscription
	// ServiceNow is our business-rule script, which signs as Standard Webhooks has it.
	ServiceNow Kind = "servicenow"
)

// maxAges are the kinds with the MaxAge that each has unless the source says
// otherwise: as long as its sender tries again, or an hour where it does not.
var maxAges = map[Kind]time.Duration{
	Standard:   MaxMaxAge,
	ServiceNow: MaxMaxAge,
	GitHub:     time.Hour,
	Jira:       2 * time.Hour, // five retries, at most 15 minutes apart
	JSM:        time.Hour,
	PagerDuty:  49 * time.Hour, // retries for 48 hours
}

// signsTime says whether the kind signs an id and a time beside the body.
func (k Kind) signsTime() bool { return k == Standard || k == ServiceNow }

// Source is a ticketing system whose webhooks are heard.
type Source struct {
	// Name is 1 to 40 of a-z, 0-9 and -, and begins with a letter. It is in the
	// webhook's URL and in every ticket's id.
	Name string
	Kind Kind
	// Secrets are the names of the app settings that hold the secrets, several while
	// a secret is being rotated. A source never holds a secret itself.
	Secrets []string
	// Users maps names of the source to requestors' user principal names, for use in
	// expressions.
	Users map[string]string
	// MaxAge is how old an event may be when it comes, by its own time (Mapping.At).
	// An event that ends is never too old. The signed timestamp of Standard Webhooks
	// may be 5 minutes off, whatever MaxAge says.
	MaxAge  time.Duration
	Mapping Mapping
	// Sample is a payload on which the mapping must work whenever it is saved.
	Sample json.RawMessage
	// Version names the stored version that was read; "" for one not stored.
	Version string
}

// Mapping is what makes an event of a payload: expressions in CEL over payload,
// users, source.name and received (when the delivery came). Ticket is required, At
// too where the kind signs no time; the others may be "".
type Mapping struct {
	// When (bool) says whether the payload is an event of ours at all; true by default.
	When string
	// Ticket (string or int) is the ticket's key.
	Ticket string
	// At is when it happened: a timestamp, text as in RFC 3339, or an int of
	// milliseconds since 1970. By default the signed timestamp. A sender that tries
	// again signs the new attempt's time, so without At an old event may pass for news.
	At string
	// State, Assignee and Actor are texts or null.
	State, Assignee, Actor string
	// WindowStart and WindowEnd are times as At has them, or null.
	WindowStart, WindowEnd string
	// Ends (bool) revokes what the ticket vouched for; false by default.
	Ends string
	// Request is null or a map in the format of the request message, without id and
	// ticket: those are the event's. It is not run for an event that ends.
	Request string
}

// fields lists the mapping's expressions with their names in JSON.
func (m Mapping) fields() []field {
	return []field{
		{"when", m.When}, {"ticket", m.Ticket}, {"at", m.At}, {"state", m.State}, {"assignee", m.Assignee}, {"actor", m.Actor},
		{"windowStart", m.WindowStart}, {"windowEnd", m.WindowEnd}, {"ends", m.Ends}, {"request", m.Request},
	}
}

type field struct{ name, text string }

var (
	// Lengths are counted apart: a count in a pattern would cost every start.
	namePattern   = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	secretPattern = regexp.MustCompile(`^PORTCULLIS_SECRET_[A-Z0-9_]+$`)
)

const maxSecretName = len("PORTCULLIS_SECRET_") + 64

// check finds what is wrong with a source but for its expressions.
func (s Source) check(f *faults) {
	if !ValidName(s.Name) {
		f.add("name", "name_invalid", "name is 1 to %d of a-z, 0-9 and -, and begins with a letter", MaxName)
	}
	if _, ok := maxAges[s.Kind]; !ok {
		f.add("kind", "kind_unknown", "kind is standard, github, jira, jsm, pagerduty or servicenow")
	}
	if len(s.Secrets) == 0 || len(s.Secrets) > MaxSecrets {
		f.add("secrets", "secrets_count", "name 1 to %d app settings that hold the source's secrets", MaxSecrets)
	}
	for i, name := range s.Secrets {
		path := fmt.Sprintf("secrets[%d]", i)
		switch {
		case !secretPattern.MatchString(name) || len(name) > maxSecretName:
			f.add(path, "secret_name_invalid", "a secret is named by its app setting, PORTCULLIS_SECRET_ and 1 to 64 of A-Z, 0-9 and _; the secret itself never stands here")
		case slices.Contains(s.Secrets[:i], name):
			f.add(path, "secret_twice", "this app setting is named twice")
		}
	}
	if len(s.Users) > MaxUsers {
		f.add("users", "too_many_users", "users has %d names; %d are allowed", len(s.Users), MaxUsers)
	} else {
		for name, user := range s.Users {
			f.user(name, user)
		}
	}
	if s.MaxAge < MinMaxAge || s.MaxAge > MaxMaxAge || s.MaxAge%time.Second != 0 {
		f.add("maxAge", "max_age_invalid", "maxAge is whole seconds from PT1M to P7D")
	}
	for _, m := range s.Mapping.fields() {
		switch {
		case strings.TrimSpace(m.text) != "":
		case m.name == "ticket":
			f.add("mapping.ticket", "ticket_missing", "the mapping must say which ticket the event is of")
		case m.name == "at" && !s.Kind.signsTime():
			f.add("mapping.at", "at_missing", "this kind signs no time, so the mapping must find in the payload when the event happened: else an old delivery, sent again, would pass for news")
		}
	}
	if len(s.Sample) == 0 || len(s.Sample) > MaxSample {
		f.add("sample", "sample_size", "sample is a payload of at most %d bytes, on which the mapping is tried", MaxSample)
	}
}

// ValidName says whether a source can have the name.
func ValidName(name string) bool { return len(name) <= MaxName && namePattern.MatchString(name) }

func (f *faults) user(name, user string) {
	path := "users." + shown(name)
	if n := utf8.RuneCountInString(name); n == 0 || n > maxText || strings.ContainsFunc(name, unicode.IsControl) {
		f.add(path, "user_invalid", "a name of the source has 1 to %d characters, none of which is a control character", maxText)
	}
	odd := func(r rune) bool {
		return r == ':' || r == '*' || unicode.In(r, unicode.C, unicode.Z) || r == utf8.RuneError
	}
	if n := utf8.RuneCountInString(user); n == 0 || n > maxText || strings.ContainsFunc(user, odd) {
		f.add(path, "user_invalid", "a name maps to a user principal name of 1 to %d characters, without spaces, : and *", maxText)
	}
}

// faults gathers what is wrong with a source.
type faults struct{ list []access.Violation }

// maxViolations bounds how many faults are named.
const maxViolations = 100

func (f *faults) add(path, reason, format string, args ...any) {
	f.list = append(f.list, access.Violation{Path: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) error() error {
	if len(f.list) == 0 {
		return nil
	}
	// Users are visited in no order.
	slices.SortStableFunc(f.list, func(a, b access.Violation) int { return strings.Compare(a.Path, b.Path) })
	if len(f.list) > maxViolations {
		f.list = append(f.list[:maxViolations:maxViolations], access.Violation{Reason: "and_more", Message: "there is more that is wrong"})
	}
	message := "the source is not valid"
	if len(f.list) == 1 {
		message = f.list[0].Message
	}
	return &access.Error{Code: access.InvalidArgument, Reason: "source_invalid", Message: message, Violations: f.list}
}

// shown bounds a text from outside and escapes what could forge a line.
func shown(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	q := fmt.Sprintf("%+q", s)
	return q[1 : len(q)-1]
}
