package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"golang.org/x/sync/errgroup"
)

const (
	// MaxChainPage is how many seals a page of a chain has.
	MaxChainPage = 1000
	// maxSubject bounds a subject's name, in bytes.
	maxSubject = 1024
	// maxMark bounds what a continuation token holds, in bytes.
	maxMark = 1024
)

// AuditFilter says which events to list; what is zero does not narrow.
type AuditFilter struct {
	// From and To bound when events were sealed; To is not included.
	From, To time.Time
	Kind     access.EventKind
	// Actor and Requestor are names, in any case.
	Actor, Requestor string
	Subject          string
	// VM picks what concerns a machine: the requests that name it, its baselines, the
	// policies at its scopes, and lockdowns.
	VM access.ResourceID
	// PageSize is 1 to MaxPageSize; 0 is DefaultPageSize.
	PageSize int
	// Token goes on where a page ended.
	Token string
}

// AuditRow is one sealed event.
type AuditRow struct {
	JournalEntry
	// Event is the event itself; nil where the journal has it and the chain does not.
	Event *access.Event
	// Request is what it comes from; nil for what happens outside any request.
	Request *AuditRequest
}

// AuditRequest says by whose asking, and why, something came about.
type AuditRequest struct {
	Requestor, RequestedBy, Channel, Justification string
	// Ticket is the one that was named.
	Ticket string
	// Policy is the policy and its version, Vouched the ticket and its event, by which
	// the event's own grant was allowed; "" for events of no single grant.
	Policy, Vouched string
}

// AuditPage is part of a list, in the order of sealing. Next is "" at the end; a
// page may be short or empty before that.
type AuditPage struct {
	Rows []AuditRow
	Next string
}

// AuditDesk is where events are read for an audit. Whatever it shows is read from
// the tables, not proven: see AuditCheck.
type AuditDesk struct {
	journal JournalReader
	chains  Chains
}

// NewAuditDesk makes an AuditDesk; every port is required.
func NewAuditDesk(journal JournalReader, chains Chains) (*AuditDesk, error) {
	if journal == nil || chains == nil {
		return nil, errors.New("broker: a port of the audit desk is missing")
	}
	return &AuditDesk{journal, chains}, nil
}

// Events lists the sealed events that match. Role: RoleReadAll. Error
// invalid_argument for a filter that is none.
func (d *AuditDesk) Events(ctx context.Context, by access.Caller, f AuditFilter) (AuditPage, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return AuditPage{}, err
	}
	q, err := f.query()
	if err != nil {
		return AuditPage{}, err
	}
	if f.Subject != "" {
		return d.ofSubject(ctx, f, q)
	}
	size := q.Most
	var page AuditPage
	for scanned := 0; ; {
		entries, next, err := d.journal.Journal(ctx, q)
		if err != nil {
			return AuditPage{}, err
		}
		scanned += len(entries)
		rows, err := d.rows(ctx, f, entries)
		if err != nil {
			return AuditPage{}, err
		}
		page.Rows = append(page.Rows, rows...)
		if next == "" {
			return page, nil
		}
		// A mark stands behind what was read and not between: so no more is read than
		// there is room for, and reading row by row is not worth while.
		q.After, q.Most = next, size-len(page.Rows)
		if q.Most <= size/2 || scanned >= mostScanned {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(next))
			return page, nil
		}
	}
}

// query is the part of the journal to read.
func (f AuditFilter) query() (JournalQuery, error) {
	q := JournalQuery{From: f.From, To: f.To, Most: f.PageSize}
	if q.From.Before(firstTime) {
		q.From = firstTime
	}
	if q.To.IsZero() || q.To.After(lastTime) {
		q.To = lastTime
	}
	if q.Most == 0 {
		q.Most = DefaultPageSize
	}
	if q.Most < 1 || q.Most > MaxPageSize {
		return q, access.Errorf(access.InvalidArgument, "page_size_invalid", "a page has 1 to %d items", MaxPageSize)
	}
	if !q.From.Before(q.To) {
		return q, access.Errorf(access.InvalidArgument, "time_range_invalid", "from is not before to")
	}
	if f.Subject != "" {
		if err := checkSubject(f.Subject); err != nil {
			return q, err
		}
	}
	if len(f.Token) > base64.RawURLEncoding.EncodedLen(maxMark) {
		return q, badToken()
	}
	mark, err := base64.RawURLEncoding.DecodeString(f.Token)
	if err != nil || f.Token != "" && f.Subject == "" && !markPattern.Match(mark) {
		return q, badToken()
	}
	q.After = string(mark)
	return q, nil
}

// markPattern is how a mark of the journal begins: with a time.
var markPattern = regexp.MustCompile(`^[0-9]{19}-[\x20-\x7e]+$`)

func badToken() error {
	return access.Errorf(access.InvalidArgument, "continuation_token_invalid", "the continuation token is none of ours: begin again without it")
}

func checkSubject(s string) error {
	if s == "" || len(s) > maxSubject || strings.ContainsFunc(s, unicode.IsControl) {
		return access.Errorf(access.InvalidArgument, "subject_invalid", "a subject is the id of a request, a resource id, \"lockdown\", \"source/<name>\" or \"ticket/<source>/<key>\"")
	}
	return nil
}

// ofSubject lists by the subject's own chain. The mark is the number of the seal
// behind which to go on.
func (d *AuditDesk) ofSubject(ctx context.Context, f AuditFilter, q JournalQuery) (AuditPage, error) {
	after := 0
	if q.After != "" {
		var err error
		if after, err = strconv.Atoi(q.After); err != nil {
			return AuditPage{}, badToken()
		}
	}
	events, seals, err := d.chains.Chain(ctx, f.Subject)
	if err != nil {
		return AuditPage{}, err
	}
	chain := newChainView(events)
	var page AuditPage
	for _, s := range seals {
		if s.Seq <= after || s.At.Before(q.From) || !s.At.Before(q.To) {
			continue
		}
		if len(page.Rows) == q.Most {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(after)))
			return page, nil
		}
		after = s.Seq
		entry := JournalEntry{Seal: s}
		if e, ok := chain.byID[s.Event]; ok {
			entry.Kind, entry.At, entry.Actor = e.Kind, e.At, e.Actor
		}
		if f.names(entry) {
			if row, ok := chain.row(f, entry); ok {
				page.Rows = append(page.Rows, row)
			}
		}
	}
	return page, nil
}

// names says whether what the journal tells of an entry matches.
func (f AuditFilter) names(e JournalEntry) bool {
	return (f.Kind == "" || e.Kind == f.Kind) && (f.Actor == "" || access.SameName(e.Actor, f.Actor))
}

// rows gives the rows of those entries that match, in their order. Each subject's
// chain is read once.
func (d *AuditDesk) rows(ctx context.Context, f AuditFilter, entries []JournalEntry) ([]AuditRow, error) {
	entries = slices.DeleteFunc(entries, func(e JournalEntry) bool { return !f.names(e) })
	chains := map[string]*chainView{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for _, e := range entries {
		if chains[e.Seal.Subject] != nil {
			continue
		}
		view := &chainView{}
		chains[e.Seal.Subject] = view
		g.Go(func() error {
			events, _, err := d.chains.Chain(gctx, e.Seal.Subject)
			if err == nil {
				*view = *newChainView(events)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []AuditRow
	for _, e := range entries {
		if row, ok := chains[e.Seal.Subject].row(f, e); ok {
			out = append(out, row)
		}
	}
	return out, nil
}

// ChainPage is part of a subject's chain: seals by their numbers, each with its
// event where that is there. Unsealed are the events that no seal names, on the
// last page alone.
type ChainPage struct {
	Seals    []audit.Seal
	Events   map[string]access.Event // by their ids
	Unsealed []access.Event
	Next     string
}

// Chain gives a subject's chain as it is kept. Role: RoleReadAll. Error
// not_found, subject_unknown, where nothing is kept.
func (d *AuditDesk) Chain(ctx context.Context, by access.Caller, subject, token string) (ChainPage, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return ChainPage{}, err
	}
	if err := checkSubject(subject); err != nil {
		return ChainPage{}, err
	}
	from := 0
	if token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 {
			return ChainPage{}, badToken()
		}
	}
	events, seals, err := d.chains.Chain(ctx, subject)
	if err != nil {
		return ChainPage{}, err
	}
	if len(events) == 0 && len(seals) == 0 {
		return ChainPage{}, access.Errorf(access.NotFound, "subject_unknown", "nothing is kept of such a subject")
	}
	page := ChainPage{Seals: seals[min(from, len(seals)):], Events: map[string]access.Event{}}
	all := newChainView(events).byID
	if len(page.Seals) > MaxChainPage {
		page.Seals, page.Next = page.Seals[:MaxChainPage], strconv.Itoa(from+MaxChainPage)
	}
	for _, s := range page.Seals {
		if e, ok := all[s.Event]; ok {
			page.Events[s.Event] = e
		}
	}
	if page.Next == "" {
		sealed := map[string]bool{}
		for _, s := range seals {
			sealed[s.Event] = true
		}
		for _, e := range events {
			if !sealed[e.ID()] {
				page.Unsealed = append(page.Unsealed, e)
			}
		}
	}
	return page, nil
}
