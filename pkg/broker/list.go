package broker

import (
	"context"
	"encoding/base64"
	"regexp"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

// The bounds of a page.
const (
	MaxPageSize     = 200
	DefaultPageSize = 50
	// mostScanned and mostViewed bound the work for one page: past them it is given
	// as it is, with a token to go on.
	mostScanned = 5000
	mostViewed  = 600
	// LiveWithin is how long ago a request was made that may have a grant which has
	// not ended: made a week ahead, open for a day, and its close overdue for a week.
	LiveWithin = 16 * 24 * time.Hour
)

// Filter says which requests to list; what is zero does not narrow.
type Filter struct {
	VM        access.ResourceID
	Requestor string // in any case
	// Status is that of at least one of the request's grants, or access.Refused.
	Status string
	// From and To bound when a request was decided; To is not included.
	From, To time.Time
	// PageSize is 1 to MaxPageSize; 0 is DefaultPageSize.
	PageSize int
	// Token goes on where a page ended.
	Token string
}

// Page is part of a list, newest first. Next is "" at the end; a page may be short
// or empty before that.
type Page struct {
	Items []access.Situation
	Next  string
}

// List gives the requests that match. Roles: any that asks, for one's own;
// RoleReadAll for all. Error invalid_argument for a filter that is none.
func (d *Desk) List(ctx context.Context, by access.Caller, f Filter) (Page, error) {
	if err := needAny(by); err != nil {
		return Page{}, err
	}
	q, err := f.query(by, d.Submitter.Clock().UTC())
	if err != nil {
		return Page{}, err
	}
	size := f.PageSize
	if size == 0 {
		size = DefaultPageSize
	}
	var page Page
	for scanned, viewed := 0, 0; ; {
		entries, err := d.Submitter.Index.Entries(ctx, q)
		if err != nil {
			return Page{}, err
		}
		scanned += len(entries)
		end := len(entries) < q.Most
		entries, q.After, end = cut(entries, q.After, end, func(e IndexEntry) bool { return f.matches(by, e) }, size-len(page.Items))
		items, err := d.situations(ctx, entries, f.Status)
		if err != nil {
			return Page{}, err
		}
		viewed += len(entries)
		page.Items = append(page.Items, items...)
		if end {
			return page, nil
		}
		if len(page.Items) >= size || scanned >= mostScanned || viewed >= mostViewed {
			page.Next = token(q.After)
			return page, nil
		}
	}
}

// cut keeps the entries that match, up to most, and says where to go on and
// whether the end was reached.
func cut(entries []IndexEntry, after string, end bool, match func(IndexEntry) bool, most int) ([]IndexEntry, string, bool) {
	var out []IndexEntry
	for i, e := range entries {
		after = e.Position()
		if match(e) {
			out = append(out, e)
		}
		if len(out) == most {
			return out, after, end && i == len(entries)-1
		}
	}
	return out, after, end
}

// situations gives the entries' requests as they stand, but for those of which
// no such decision was recorded, and those that have no such status.
func (d *Desk) situations(ctx context.Context, entries []IndexEntry, status string) ([]access.Situation, error) {
	var ids []access.RequestID
	for _, e := range entries {
		ids = append(ids, e.Request)
	}
	found, err := d.Viewer.Views(ctx, ids)
	if err != nil {
		return nil, err
	}
	var out []access.Situation
	for _, e := range entries {
		s, ok := found[e.Request]
		if ok && s.Record.DecidedAt.Equal(e.DecidedAt) && hasStatus(s, status) {
			out = append(out, s)
		}
	}
	return out, nil
}

func hasStatus(s access.Situation, status string) bool {
	if status == "" || s.Record.Outcome != access.Accepted {
		return status == "" || status == string(access.Refused)
	}
	return slices.ContainsFunc(s.Record.Grants, func(g access.Grant) bool { return string(s.Status(g.Index).Status) == status })
}

func (f Filter) matches(by access.Caller, e IndexEntry) bool {
	return (by.Has(access.RoleReadAll) || isOwn(by, e.By, e.Requestor)) &&
		(f.Requestor == "" || access.SameName(f.Requestor, e.Requestor.Name)) &&
		(f.VM == "" || slices.Contains(e.VMs, f.VM)) &&
		(f.Status == "" || (e.Outcome == access.Accepted) == (f.Status != string(access.Refused)))
}

// A position can tell the times between these apart. Whoever names an earlier
// start or a later end wants no bound.
var (
	firstTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// query picks the list that holds what the caller may see and asks for.
func (f Filter) query(by access.Caller, now time.Time) (IndexQuery, error) {
	q := IndexQuery{From: f.From, To: f.To, Most: MaxPageSize}
	if q.From.Before(firstTime) {
		q.From = time.Time{}
	}
	if q.To.After(lastTime) {
		q.To = time.Time{}
	}
	switch {
	case !f.From.IsZero() && f.From.After(lastTime), !f.To.IsZero() && f.To.Before(firstTime):
		return q, access.Errorf(access.InvalidArgument, "time_range_invalid", "nothing is asked for before %d or after %d", firstTime.Year(), lastTime.Year())
	case f.PageSize < 0 || f.PageSize > MaxPageSize:
		return q, access.Errorf(access.InvalidArgument, "page_size_invalid", "a page has 1 to %d items", MaxPageSize)
	case !f.To.IsZero() && !f.From.IsZero() && !f.From.Before(f.To):
		return q, access.Errorf(access.InvalidArgument, "time_range_invalid", "from is not before to")
	}
	switch f.Status {
	case string(access.Scheduled), string(access.Initiating), string(access.Initiated):
		if since := now.Add(-LiveWithin); q.From.Before(since) {
			q.From = since
		}
	case "", string(access.Revoked), string(access.Failed), string(access.Refused):
	default:
		return q, access.Errorf(access.InvalidArgument, "status_invalid", "status is one of Scheduled, Initiating, Initiated, Revoked, Failed and Refused")
	}
	switch {
	case !by.Has(access.RoleReadAll):
		q.Name = by.Name
	case f.Requestor != "":
		q.Name = f.Requestor
	case f.VM != "":
		q.VM = f.VM
	}
	if f.Token == "" {
		return q, nil
	}
	var err error
	q.After, err = place(f.Token)
	return q, err
}

var positionPattern = regexp.MustCompile(`^[0-9]{19}-ar-[a-z2-7]{26}$`)

// token hides a position, so that nobody takes it for more than a place to go on
// from. It gives access to nothing: what may be seen is decided item by item.
func token(position string) string { return base64.RawURLEncoding.EncodeToString([]byte(position)) }

func place(token string) (string, error) {
	data, err := base64.RawURLEncoding.DecodeString(token[:min(len(token), 128)])
	if err != nil || !positionPattern.Match(data) {
		return "", access.Errorf(access.InvalidArgument, "continuation_token_invalid", "the continuation token is none of ours: begin again without it")
	}
	return string(data), nil
}

// Usage is what was asked for of a machine.
type Usage struct {
	// Approved counts the requests accepted in the last 7 days.
	Approved int
	// LastAccess and LastUser are of the latest request that was accepted; zero where
	// there is none.
	LastAccess time.Time
	LastUser   string
}

// usageWithin is how far back Usage counts.
const usageWithin = 7 * 24 * time.Hour

// UsageIndex tells how machines were used, by the index. It implements
// Activities.
type UsageIndex struct {
	Index Index
	Clock Clock
}

// Usages tells of each machine how it was used, several at a time. Who may know is
// the caller's to decide.
func (u UsageIndex) Usages(ctx context.Context, vms []access.ResourceID) (map[access.ResourceID]Usage, error) {
	now := u.Clock().UTC()
	found := make([]Usage, len(vms))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, vm := range vms {
		g.Go(func() (err error) {
			found[i], err = usage(gctx, u.Index, now, vm)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := map[access.ResourceID]Usage{}
	for i, vm := range vms {
		out[vm] = found[i]
	}
	return out, nil
}

// liveRequests gives the accepted requests among those that the query asks for, and
// that are wanted, which may have grants that have not ended: one whose time is over
// is on its way out already. It costs one call for every thousand requests of the
// last sixteen days.
func liveRequests(ctx context.Context, index Index, q IndexQuery, now time.Time, wanted func(IndexEntry) bool) (out []access.RequestID, err error) {
	q.From, q.Most = now.Add(-LiveWithin), 1000
	for {
		entries, err := index.Entries(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			q.After = e.Position()
			if e.Outcome == access.Accepted && e.Until().After(now) && wanted(e) {
				out = append(out, e.Request)
			}
		}
		if len(entries) < q.Most {
			return out, nil
		}
	}
}

func usage(ctx context.Context, index Index, now time.Time, vm access.ResourceID) (Usage, error) {
	var u Usage
	q := IndexQuery{VM: vm, Most: 1000}
	for {
		entries, err := index.Entries(ctx, q)
		if err != nil {
			return u, err
		}
		for _, e := range entries {
			q.After = e.Position()
			recent := now.Sub(e.DecidedAt) <= usageWithin
			if !recent && !u.LastAccess.IsZero() {
				return u, nil
			}
			if e.Outcome != access.Accepted {
				continue
			}
			if u.LastAccess.IsZero() {
				u.LastAccess, u.LastUser = e.DecidedAt, e.Requestor.Name
			}
			if recent {
				u.Approved++
			}
		}
		if len(entries) < q.Most {
			return u, nil
		}
	}
}
