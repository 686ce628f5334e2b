package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/client"
)

// placedError is an error whose places can be named as they were asked for.
type placedError struct {
	error
	asked []client.NewTarget
}

func (e *placedError) Unwrap() error { return e.error }

// notedError is an error with something to know beside it.
type notedError struct {
	error
	note string
}

func (e *notedError) Unwrap() error { return e.error }

// report tells the error and gives its exit code. Scripts get the API's document.
func (s *shell) report(ctx context.Context, err error) int {
	code := exitCode(ctx, err)
	if e, ok := problemOf(err); ok && s.json() && len(e.Raw) > 0 {
		_ = s.raw(s.errs, e.Raw) // nobody is left to tell
		return code
	}
	said := explain(err)
	if code == exitInterrupted && errors.Is(err, context.Canceled) {
		said = "interrupted"
	}
	if n, ok := errors.AsType[*notedError](err); ok {
		said += "\n" + clean(n.note)
	}
	fmt.Fprintln(s.errs, s.colored(s.colorErr, red, "portcullis:")+" "+said)
	return code
}

// explain says an error for a person: what is wrong, where, and what to do.
func explain(err error) string {
	e, ok := problemOf(err)
	if !ok {
		return cleanText(err.Error())
	}
	var b strings.Builder
	where := func(path string) string { return path }
	if p, ok := errors.AsType[*placedError](err); ok {
		where = func(path string) string { return place(path, p.asked) }
	}
	// One that is all there is to say is said once.
	single := len(e.Violations) == 1 && e.Violations[0].Message == e.Detail
	if !single {
		b.WriteString(cleanText(e.Detail))
	}
	switch {
	case len(e.Violations) == 0:
		fmt.Fprintf(&b, " (%s)", clean(e.Reason))
		if e.Err != nil && e.Code == client.Unauthenticated {
			fmt.Fprintf(&b, ": %s", cleanText(firstLines(e.Err.Error(), 6)))
		}
	default:
		for _, v := range e.Violations {
			at := where(v.Path)
			if at != "" {
				at += ": "
			}
			if !single {
				b.WriteString("\n  ")
			}
			fmt.Fprintf(&b, "%s%s (%s)", clean(at), clean(v.Message), clean(v.Reason))
			if what := advice(v.Reason); what != "" {
				b.WriteString("\n      " + what)
			}
		}
	}
	if what := next(e); what != "" {
		b.WriteString("\n" + what)
	}
	return b.String()
}

var inRequest = regexp.MustCompile(`^virtualMachines\[(\d+)\](?:\.ports\[(\d+)\])?(?:\.(\w+))?$`)

// place names a place of a request by its machine and port.
func place(path string, asked []client.NewTarget) string {
	m := inRequest.FindStringSubmatch(path)
	if m == nil {
		return path
	}
	i, _ := strconv.Atoi(m[1]) // digits, by the pattern; of too many the next line says
	if i >= len(asked) {
		return path
	}
	out := nameOf(asked[i].ID)
	if j, err := strconv.Atoi(m[2]); err == nil && j < len(asked[i].Ports) {
		out += " port " + strconv.Itoa(asked[i].Ports[j].Number)
	}
	if m[3] != "" {
		out += ", " + m[3]
	}
	return out
}

// advice says what to change about one violation.
func advice(reason string) string {
	switch reason {
	case "source_outside_policy":
		return "ask from inside that range (--from), or leave this port out: the others may pass"
	case "duration_too_long", "duration_too_short":
		return "change --for (or --until)"
	case "end_time_past":
		return "change --until"
	case "justification_required":
		return "add --reason"
	case "ticket_required":
		return "add --ticket"
	case "ticket_ambiguous", "ticket_source_not_accepted":
		return "write --ticket SOURCE:KEY"
	case "port_not_in_policy":
		return "`portcullis vms NAME` shows the ports there are"
	case "protocol_required":
		return "such as --port 53/UDP"
	case "not_permitted":
		return "`portcullis vms` lists what you may ask for"
	case "source_host_bits", "source_invalid", "source_ipv4_mapped", "source_missing":
		return "change --from"
	}
	return ""
}

// next says what to do about the whole.
func next(e *client.Error) string {
	switch e.Reason {
	case "policy_changed":
		if e.Repeated {
			return "It was tried more than once: look whether your own first attempt was it (`portcullis policy get`)."
		}
		return "Run the command again: it starts from the policy as it is now."
	case "locked_down":
		return "Nothing opens until an administrator lifts it."
	case "unreachable":
		return "Is PORTCULLIS_URL right, and is there a way to it?"
	case "request_unknown":
		return "`portcullis status` lists your requests."
	}
	switch {
	case e.Code == client.Unauthenticated && e.Reason == "token_unavailable":
		return "Sign in again (az login), or give a token by --token-file or PORTCULLIS_TOKEN."
	case e.Code == client.Unauthenticated:
		return "The token is not taken: get a new one (az login, --token-file or PORTCULLIS_TOKEN), and look that PORTCULLIS_AUDIENCE is this application's."
	case e.Retryable() && e.RetryAfter > 0:
		return "Try again in " + span(e.RetryAfter) + "."
	case e.Retryable():
		return "Try again later."
	case e.Reason != "role_required" && strings.HasPrefix(e.Instance, "/api/access-requests/ar-"):
		if id, err := url.PathUnescape(strings.TrimPrefix(e.Instance, "/api/access-requests/")); err == nil {
			if id, err := access.ParseRequestID(id); err == nil {
				return "The refusal is on record: portcullis status " + string(id)
			}
		}
	}
	return ""
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(s, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}
