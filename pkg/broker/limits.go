package broker

import (
	"context"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

const (
	limitReasons  = "limit_"
	limitLive     = limitReasons + "live_grants"
	limitRequests = limitReasons + "requests_per_hour"
	// undecidedFor is how long a claim without a record counts: its request may be
	// on its way to being recorded.
	undecidedFor = 2 * time.Minute
)

// withinLimits claims the record's place among its names' requests and refuses
// what would exceed a limit. Live grants count for whom they are, requests for
// who asks. What was refused for a limit counts for none.
func (s *Submitter) withinLimits(ctx context.Context, rec access.Record, now time.Time) error {
	if s.settings.MaxLiveGrants == 0 && s.settings.MaxRequestsPerHour == 0 {
		return nil
	}
	mine := entryOf(rec)
	claimed, err := s.Index.Claim(ctx, mine, now.Add(-time.Hour), now)
	if err != nil {
		return err
	}
	others := map[access.RequestID]IndexEntry{}
	for _, e := range claimed {
		if e.Request != rec.ID && !strings.HasPrefix(e.Reason, limitReasons) {
			others[e.Request] = e
		}
	}
	if most := s.settings.MaxRequestsPerHour; most > 0 {
		n := 0
		for _, e := range others {
			if access.SameName(e.Asker(), mine.Asker()) && e.DecidedAt.After(now.Add(-time.Hour)) {
				n++
			}
		}
		if n >= most {
			return access.Errorf(access.PermissionDenied, limitRequests, "you have made %d requests within an hour, and that is the most: ask again later, with several ports in one request", n)
		}
	}
	if most := s.settings.MaxLiveGrants; most > 0 && rec.Outcome == access.Accepted {
		n, err := s.live(ctx, mine, others, most-len(rec.Grants), now)
		if err != nil {
			return err
		}
		if n+len(rec.Grants) > most {
			return access.Errorf(access.PermissionDenied, limitLive, "%s would have %d live grants, and %d are the most: give back what is no longer needed", rec.Request.Requestor.Name, n+len(rec.Grants), most)
		}
	}
	return nil
}

// live counts the requestor's grants that have not ended. Where they may be more
// than enough, what is kept of them says which were given back before their time.
func (s *Submitter) live(ctx context.Context, mine IndexEntry, others map[access.RequestID]IndexEntry, enough int, now time.Time) (int, error) {
	n := 0
	var of []IndexEntry
	for _, e := range others {
		// What is extended ends with the extension.
		if e.Outcome != access.Accepted || e.Request == mine.Extends || !access.SameName(e.Requestor.Name, mine.Requestor.Name) || !e.Until().After(now) {
			continue
		}
		of = append(of, e)
		for _, end := range e.Ends {
			if end.After(now) {
				n++
			}
		}
	}
	if n <= enough {
		return n, nil
	}
	counts := make([]int, len(of))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, e := range of {
		g.Go(func() error {
			f, err := s.Files.File(gctx, e.Request)
			switch {
			case access.CodeOf(err) == access.NotFound && now.Sub(e.DecidedAt) > undecidedFor:
				return nil // never recorded
			case access.CodeOf(err) == access.NotFound:
				counts[i] = len(e.Ends)
				return nil
			case err != nil:
				return err
			}
			for _, grant := range f.Record.Grants {
				if grant.EndTime.After(now) && !f.Over(grant.Index) {
					counts[i]++
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	n = 0
	for _, c := range counts {
		n += c
	}
	return n, nil
}
