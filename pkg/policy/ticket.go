package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// The bounds of what a policy demands of tickets.
const (
	MaxTicketSources = 20
	MaxTicketStates  = 50
	MaxTicketSetters = 200
	MinEventAge      = time.Minute
	MaxEventAge      = 90 * 24 * time.Hour
	maxTicketText    = 128
	maxSource        = 40
)

// aheadAtMost is how far ahead of our clock an event may be dated. What is dated
// later says nothing of how old it is.
const aheadAtMost = 5 * time.Minute

var sourcePattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// validSource says whether a ticketing source may have the name. Which sources
// there are is not the policy's to know.
func validSource(name string) bool { return len(name) <= maxSource && sourcePattern.MatchString(name) }

// TicketDemand is what a ticket must be to vouch for a request, as the last
// verified event about it said. What is not known is not so.
type TicketDemand struct {
	// Sources are the ticketing sources whose tickets count.
	Sources []string
	// States are those one of which the ticket must be in, letter for letter.
	States []string
	// AssignedToRequestor demands that the ticket is assigned to the requestor.
	AssignedToRequestor bool
	// InsideWindow demands that the grant, from its begin to its end, lies inside
	// the ticket's change window.
	InsideWindow bool
	// MaxEventAge is how old the last event may be.
	MaxEventAge time.Duration
	// SetBy are those one of whom must have set the ticket's facts; empty for
	// anybody.
	SetBy []string
	// NotByRequestor demands that somebody else than the requestor set them.
	NotByRequestor bool
}

func (d *TicketDemand) validate(add func(path, reason, format string, args ...any)) {
	if d == nil {
		return
	}
	count := func(path, reason, what string, n, least, most int) {
		if n < least || n > most {
			add(path, reason, "a policy names %d to %d %s, not %d", least, most, what, n)
		}
	}
	count("ticket.sources", "ticket_sources_count", "ticketing sources", len(d.Sources), 1, MaxTicketSources)
	count("ticket.states", "ticket_states_count", "states of a ticket", len(d.States), 1, MaxTicketStates)
	count("ticket.setBy", "ticket_set_by_count", "people who set a ticket", len(d.SetBy), 0, MaxTicketSetters)
	for i, s := range d.Sources {
		if !validSource(s) {
			add(fmt.Sprintf("ticket.sources[%d]", i), "ticket_source_invalid", "the name of a ticketing source begins with a letter and has lower-case letters, digits and dashes, %d at most", maxSource)
		}
	}
	for path, list := range map[string][]string{"ticket.states": d.States, "ticket.setBy": d.SetBy} {
		for i, s := range list {
			if strings.TrimSpace(s) != s || s == "" || utf8.RuneCountInString(s) > maxTicketText || strings.ContainsFunc(s, unicode.IsControl) {
				add(fmt.Sprintf("%s[%d]", path, i), "ticket_text_invalid", "this has 1 to %d characters, none of them a control character, and no space around it", maxTicketText)
			}
		}
	}
	if d.MaxEventAge < MinEventAge || d.MaxEventAge > MaxEventAge {
		add("ticket.maxEventAge", "ticket_max_event_age_invalid", "maxEventAge is %s to %s: how old the last event about the ticket may be",
			access.FormatDuration(MinEventAge), access.FormatDuration(MaxEventAge))
	}
}

// Tickets is what is known of tickets when a request is judged.
type Tickets struct {
	// Known are those of TicketsOf that an event told of.
	Known []access.Ticket
	// Found names for each port of the request the ticket that vouched for it
	// before: it is that one which is judged again. Zero, or too short, where none did.
	Found []access.TicketID
	// AsOf is the time at which the last event must not be too old, Now the time at
	// which it is known: no event is dated later.
	AsOf, Now time.Time
}

// TicketsOf names the tickets that decide about the request under the policies;
// found is as in [Tickets]. There are none unless a ticket made the request, or a
// policy under which the requestor may ask demands one.
func TicketsOf(req access.Request, policies []AccessPolicy, found []access.TicketID) (out []access.TicketID) {
	add := func(ids ...access.TicketID) {
		for _, id := range ids {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	for i, ask := range req.Ports {
		if i >= access.MaxPorts {
			break // it is refused unseen
		}
		p, ok := Nearest(ask.VM, policies)
		if !ok || !p.admits(req.Requestor) {
			continue
		}
		ids, _ := candidates(req, p.Ticket, foundOf(found, i))
		add(ids...)
	}
	return out
}

func foundOf(found []access.TicketID, port int) access.TicketID {
	if port < len(found) {
		return found[port]
	}
	return access.TicketID{}
}

// candidates gives the tickets one of which is to vouch: none where none need to,
// or where the reason says why none can.
func candidates(req access.Request, d *TicketDemand, found access.TicketID) (ids []access.TicketID, reason string) {
	id := access.ParseTicket(req.Ticket)
	switch {
	case req.Event != nil:
		id = req.Event.Ticket
	case d == nil:
		return nil, ""
	case !found.Zero():
		id = found
	}
	switch {
	case id.Key == "":
		return nil, "ticket_required"
	case d == nil:
		return []access.TicketID{id}, ""
	case id.Source == "":
		for _, s := range d.Sources {
			ids = append(ids, access.TicketID{Source: s, Key: id.Key})
		}
		return ids, ""
	case !slices.Contains(d.Sources, id.Source):
		return nil, "ticket_source_not_accepted"
	}
	return []access.TicketID{id}, ""
}

// vouching gives the ticket that vouches for a grant from begin to end under the
// policy: nil where none need to, a violation where none does.
func (t Tickets) vouching(req access.Request, d *TicketDemand, port int, begin, end time.Time) (*access.Vouched, *access.Violation) {
	ids, reason := candidates(req, d, foundOf(t.Found, port))
	if reason != "" {
		return nil, d.violation(reason, nil, req.Requestor)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var of []access.Ticket
	for _, k := range t.Known {
		if slices.Contains(ids, k.ID) {
			of = append(of, k)
		}
	}
	switch {
	case len(of) == 0:
		return nil, d.violation("ticket_unknown", nil, req.Requestor)
	case len(of) > 1:
		return nil, d.violation("ticket_ambiguous", nil, req.Requestor)
	}
	if reason := t.fails(of[0], d, req.Requestor, begin, end); reason != "" {
		return nil, d.violation(reason, &of[0], req.Requestor)
	}
	return &access.Vouched{Ticket: of[0].ID, Event: of[0].Event}, nil
}

// fails gives the first thing for which the ticket does not vouch; "" where it
// does. Whose it is comes first: of another's nothing more is said.
func (t Tickets) fails(k access.Ticket, d *TicketDemand, r access.Requestor, begin, end time.Time) string {
	age := t.AsOf.Sub(k.EventAt)
	switch {
	case d != nil && d.AssignedToRequestor && !access.SameName(k.Assignee, r.Name):
		return "ticket_not_assigned"
	case k.Ended:
		return "ticket_ended"
	case k.Event == "":
		return "ticket_unknown"
	case d == nil:
		return ""
	case !slices.Contains(d.States, k.State):
		return "ticket_state"
	case k.EventAt.IsZero() || t.AsOf.IsZero() || age > d.MaxEventAge || k.EventAt.Sub(t.Now) > aheadAtMost:
		return "ticket_stale"
	case len(d.SetBy) > 0 && !slices.ContainsFunc(d.SetBy, func(name string) bool { return access.SameName(name, k.SetBy) }):
		return "ticket_not_authorised"
	case d.NotByRequestor && (k.SetBy == "" || access.SameName(k.SetBy, r.Name) || access.SameName(k.SetBy, r.ObjectID)):
		return "ticket_not_authorised"
	case d.InsideWindow && (k.WindowStart.IsZero() || k.WindowEnd.IsZero() || begin.Before(k.WindowStart) || end.After(k.WindowEnd)):
		return "ticket_outside_window"
	}
	return ""
}

// NoLongerVouches says whether a violation's reason is that a ticket which once
// vouched may have ceased to, by itself and by no change of a policy.
func NoLongerVouches(reason string) bool {
	return slices.Contains([]string{"ticket_unknown", "ticket_not_assigned", "ticket_ended", "ticket_state", "ticket_stale", "ticket_not_authorised", "ticket_outside_window"}, reason)
}

// violation says why no ticket vouches. It tells of the ticket what the request or
// the policy says, and more only to whom it is assigned.
func (d *TicketDemand) violation(reason string, k *access.Ticket, r access.Requestor) *access.Violation {
	if d == nil {
		d = &TicketDemand{}
	}
	theirs := k != nil && access.SameName(k.Assignee, r.Name)
	say := func(format string, args ...any) *access.Violation {
		return &access.Violation{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	switch reason {
	case "ticket_required":
		return say("the policy demands a ticket")
	case "ticket_source_not_accepted":
		return say("the policy takes tickets of other sources alone: %s; write the ticket as SOURCE:KEY", strings.Join(d.Sources, ", "))
	case "ticket_unknown":
		return say("no event of a ticketing source has told of this ticket: look whether its key is right, and whether its system sends events here")
	case "ticket_ambiguous":
		return say("more than one source has a ticket of this key: write it as SOURCE:KEY, with one of %s", strings.Join(d.Sources, ", "))
	case "ticket_ended":
		return say("the ticket is closed, or vouches for nothing any more")
	case "ticket_not_assigned":
		return say("the ticket is not assigned to you")
	case "ticket_state":
		now := ""
		if theirs && k.State != "" {
			now = fmt.Sprintf(", and is %q", k.State)
		}
		return say("the ticket has to be in one of the states %s%s", quoted(d.States), now)
	case "ticket_stale":
		return say("nothing was heard of the ticket in the last %s, so how it stands is not known: update it, so that its system sends an event", access.FormatDuration(d.MaxEventAge))
	case "ticket_not_authorised":
		if len(d.SetBy) > 0 {
			return say("the ticket was not last set by somebody who may: the policy says who may approve, and that nobody approves for themselves")
		}
		return say("the ticket was last set by you, or it is not known by whom: somebody else has to approve it")
	}
	if theirs && !k.WindowStart.IsZero() && !k.WindowEnd.IsZero() {
		return say("the grant has to lie inside the ticket's change window, from %s until %s: ask for a start and an end inside it",
			k.WindowStart.UTC().Format(time.RFC3339), k.WindowEnd.UTC().Format(time.RFC3339))
	}
	return say("the grant has to lie inside the ticket's change window, and the ticket must have one: ask for a start and an end inside it")
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}
