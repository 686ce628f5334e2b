package broker

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Files gives what is kept of requests.
type Files interface {
	// File gives all that is kept of a request, by one query. What is kept without
	// a record comes with an empty one. Error not_found when nothing is kept.
	File(ctx context.Context, id access.RequestID) (access.File, error)
}

// Marks adds to what is kept of a request.
type Marks interface {
	// Revoke adds those revocations that are not there; of each grant the first
	// stays.
	Revoke(ctx context.Context, id access.RequestID, revocations []access.Revocation) error
	// Extended notes that by takes over grants of the request; again is no error.
	Extended(ctx context.Context, id, by access.RequestID) error
}

// Starts keeps the requests whose start is still to come.
type Starts interface {
	// Schedule notes that the request is to be started at the time; again is no
	// error.
	Schedule(ctx context.Context, id access.RequestID, at time.Time) error
	// Scheduled says whether the request is noted.
	Scheduled(ctx context.Context, id access.RequestID) (bool, error)
	// DueStarts gives the requests whose time is not after now.
	DueStarts(ctx context.Context, now time.Time) ([]access.RequestID, error)
	// DecideStart keeps the decision and its events if there is none yet, and gives
	// the one that stands.
	DecideStart(ctx context.Context, st access.Start, events []access.Event) (access.Start, error)
	// Unschedule removes the note; one already gone is no error.
	Unschedule(ctx context.Context, id access.RequestID) error
}

// StartPrompts asks for a start.
type StartPrompts interface {
	// PromptStart sends a message to access-requests that names the request in
	// StartProperty, delivered at the time.
	PromptStart(ctx context.Context, id access.RequestID, at time.Time) error
}

// StartProperty is the application property in which a message on
// access-requests names a scheduled request whose time has come. It only makes
// the broker look at the record and the clock, so it does no harm when it is
// forged or comes again.
const StartProperty = "portcullis-start"

// IndexEntry is what the index says of a request. It derives from the record.
type IndexEntry struct {
	Request   access.RequestID    `json:"request"`
	Requestor access.Requestor    `json:"requestor"`
	By        access.Sender       `json:"by"`
	DecidedAt time.Time           `json:"decidedAt"`
	Outcome   access.Outcome      `json:"outcome"`
	Reason    string              `json:"reason,omitempty"` // of a refusal
	VMs       []access.ResourceID `json:"vms"`
	Ends      []time.Time         `json:"ends,omitempty"` // one per grant
	Extends   access.RequestID    `json:"extends,omitempty"`
	// Tickets are those that vouched for its grants, or made it.
	Tickets []access.TicketID `json:"tickets,omitempty"`
}

// Until is when the last grant ends; zero where there is none.
func (e IndexEntry) Until() (until time.Time) {
	for _, t := range e.Ends {
		if t.After(until) {
			until = t
		}
	}
	return until
}

// Asker is whose count of requests it is: who handed it in and, where nobody
// but a queue did, who it is for.
func (e IndexEntry) Asker() string {
	if e.By.Channel == access.ChannelHTTP && e.By.Name != "" {
		return e.By.Name
	}
	return e.Requestor.Name
}

// Position is the entry's place in every list: the newest comes first.
func (e IndexEntry) Position() string { return position(e.DecidedAt) + "-" + string(e.Request) }

func position(t time.Time) string { return fmt.Sprintf("%019d", math.MaxInt64-t.UnixNano()) }

// PositionTime reads the time of a position, or of one of its bounds.
func PositionTime(s string) (time.Time, bool) {
	n, err := strconv.ParseInt(s[:min(len(s), 19)], 10, 64)
	if err != nil || len(s) < 19 || n == math.MaxInt64 {
		return time.Time{}, false
	}
	return time.Unix(0, math.MaxInt64-n).UTC(), true
}

// IndexQuery asks for entries, newest first: of a name if one is given, else of a
// VM, else of a ticket, else of all.
type IndexQuery struct {
	// Name is a requestor's or a sender's, in any case.
	Name   string
	VM     access.ResourceID
	Ticket access.TicketID
	// From and To bound when a request was decided; zero for no bound. To is not
	// included.
	From, To time.Time
	// After is the position behind which to go on; "" for the first.
	After string
	// Most is how many entries are given at most, 1 to 1000.
	Most int
}

// Bounds are the positions between which the entries lie: from the first,
// included, to the last, not included.
func (q IndexQuery) Bounds() (first, last string) {
	first, last = "0", "9999999999999999999"
	if !q.To.IsZero() {
		first = position(q.To.Add(-1))
	}
	if q.After > first {
		first = q.After + "." // follows every position that is not after it
	}
	if !q.From.IsZero() {
		last = position(q.From.Add(-1))
	}
	return first, last
}

// Index finds requests by who asked, by machine and by time, without a scan.
type Index interface {
	// Claim writes the entry under its names, so that whoever counts after it sees
	// it, and gives the entries of the same names which were there before it and
	// were decided since the time or have grants that end after now. Both are found
	// among those decided within LiveWithin, and may come without VMs and Tickets.
	Claim(ctx context.Context, e IndexEntry, since, now time.Time) ([]IndexEntry, error)
	// Enter writes the entry everywhere it belongs; again is no error.
	Enter(ctx context.Context, e IndexEntry) error
	// Entries gives entries by their positions. Fewer than asked for is the end.
	Entries(ctx context.Context, q IndexQuery) ([]IndexEntry, error)
}

// Lockdowns keeps the lockdown.
type Lockdowns interface {
	// Lockdown gives how it stands; one never set is not active. That it cannot be
	// read is an error, and opens nothing.
	Lockdown(ctx context.Context) (access.Lockdown, error)
	// SetLockdown writes it under its ETag (an insert when that is empty) together
	// with the events. Error aborted when somebody else was first. The notice of its
	// events (see Notice) is written before, but setting it does not fail for want of
	// one: it is written again once Told is.
	SetLockdown(ctx context.Context, l access.Lockdown, events []access.Event) error
}

// History reads events.
type History interface {
	// EventsOf gives the events of a subject in the order they happened.
	EventsOf(ctx context.Context, subject string) ([]access.Event, error)
}

func entryOf(rec access.Record) IndexEntry {
	e := IndexEntry{
		Request: rec.ID, Requestor: rec.Request.Requestor, By: rec.Request.RequestedBy, DecidedAt: rec.DecidedAt, Outcome: rec.Outcome, Extends: rec.Request.Extends,
	}
	if rec.Refusal != nil {
		e.Reason = rec.Refusal.Reason
	}
	seen := map[access.ResourceID]bool{}
	for _, p := range rec.Request.Ports {
		if !seen[p.VM] {
			seen[p.VM] = true
			e.VMs = append(e.VMs, p.VM)
		}
	}
	for _, g := range rec.Grants {
		e.Ends = append(e.Ends, g.EndTime)
		e.vouched(g.Ticket)
	}
	e.vouched(rec.Request.Event)
	return e
}

func (e *IndexEntry) vouched(by *access.Vouched) {
	if by != nil && !slices.Contains(e.Tickets, by.Ticket) {
		e.Tickets = append(e.Tickets, by.Ticket)
	}
}

// vouchedSince adds the tickets that vouched at the request's start, and says whether
// there are any that did not before.
func (e *IndexEntry) vouchedSince(f access.File) bool {
	before := len(e.Tickets)
	for _, g := range f.Grants() {
		e.vouched(g.Ticket)
	}
	return len(e.Tickets) > before
}

// Names are those under which the entry is found: who it is for and, where that
// is another, who handed it in.
func (e IndexEntry) Names() (out []string) {
	for _, name := range []string{e.Requestor.Name, e.Asker()} {
		if name = access.FoldName(name); name != "" && (len(out) == 0 || out[0] != name) {
			out = append(out, name)
		}
	}
	return out
}
