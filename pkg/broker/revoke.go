package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"golang.org/x/sync/errgroup"
)

// GiveBack says what is to end, and why.
type GiveBack struct {
	Reason string // for people to read; may be ""
	// Grants are the indexes of those to end; none is all of them.
	Grants []int
}

// Revoke ends grants of a request before their time: one's own, as
// UserRequested, or anybody's with RoleAdminister, as RevokedByAdministrator. A
// grant that has not begun never will; one that has ended stays as it is. It may
// be cut off anywhere and be repeated.
//
// Errors: not_found, request_unknown, for what is not the caller's to see;
// permission_denied, role_required, for what is theirs to see alone;
// failed_precondition, grant_not_live, for a request that was refused;
// invalid_argument, grant_unknown.
func (d *Desk) Revoke(ctx context.Context, by access.Caller, id access.RequestID, g GiveBack) (access.Situation, error) {
	f, err := d.file(ctx, by, id)
	if err != nil {
		return access.Situation{}, err
	}
	reason := access.UserRequested
	if !isOwn(by, f.Record.Request.RequestedBy, f.Record.Request.Requestor) {
		if err := by.Need(access.RoleAdminister); err != nil {
			return access.Situation{}, err
		}
		reason = access.RevokedByAdministrator
	}
	if f.Record.Outcome != access.Accepted {
		return access.Situation{}, access.Errorf(access.FailedPrecondition, "grant_not_live", "the request was refused: there is nothing to give back")
	}
	grants, err := chosen(f, g.Grants)
	if err != nil {
		return access.Situation{}, err
	}
	err = d.end(ctx, f, grants, ending{
		reason: reason, by: by.Name, key: by.Principal(), detail: map[string]string{"reason": g.Reason, "actorObjectId": by.ObjectID},
	})
	if err != nil {
		return access.Situation{}, err
	}
	return d.Viewer.View(ctx, id)
}

func chosen(f access.File, asked []int) (out []int, err error) {
	for _, g := range f.Record.Grants {
		if len(asked) == 0 || slices.Contains(asked, g.Index) {
			out = append(out, g.Index)
		}
	}
	for _, i := range asked {
		if !slices.Contains(out, i) {
			return nil, access.Errorf(access.InvalidArgument, "grant_unknown", "the request has no grant %d: they are 0 to %d", i, len(f.Record.Grants)-1)
		}
	}
	return out, nil
}

// ending says who ends grants and why.
type ending struct {
	reason access.StatusReason
	by     string
	key    string // tells this ending from others of the same grants
	detail map[string]string
}

// end ends grants of a request: who and why is written down, then the legs that are
// there end, then the grants are marked, and then the legs that came meanwhile end.
// Cut off before the marks, the legs are on their way out already. And the marks
// hold: whoever opens a leg has read it before it reads them, so either it sees the
// mark and closes, or the leg was there before the mark, and is found here.
//
// A close never waits for its event: where that cannot be written the rest is done
// all the same, the marks tell who it was, and the same call again writes it.
func (d *Desk) end(ctx context.Context, f access.File, grants []int, e ending) error {
	now := d.Submitter.Clock().UTC()
	var marks []access.Revocation
	for _, i := range grants {
		if !f.Over(i) {
			marks = append(marks, access.Revocation{Grant: i, Reason: e.reason, At: now, By: e.by})
		}
	}
	said := marks
	if len(marks) == 0 {
		for _, i := range grants {
			if r, ok := f.Revocation(i); ok && r.By == e.by && r.Reason == e.reason {
				said = append(said, r)
			}
		}
	}
	unwritten := d.Events.Append(ctx, revoked(f.Record.ID, said, e))
	if len(marks) > 0 {
		if err := d.closeAll(ctx, f, grants, e.reason, now); err != nil {
			return errors.Join(unwritten, err)
		}
		if err := d.Submitter.Marks.Revoke(ctx, f.Record.ID, marks); err != nil {
			return errors.Join(unwritten, err)
		}
	}
	// A scheduled request may have been started since the file was read.
	if again, err := d.Submitter.Files.File(ctx, f.Record.ID); err == nil && again.Record.ID != "" {
		f = again
	} else if err != nil && access.CodeOf(err) != access.NotFound {
		return errors.Join(unwritten, err)
	}
	return errors.Join(unwritten, d.closeAll(ctx, f, grants, e.reason, now))
}

// revoked gives an event for all that was ended at one time. The same marks give
// the same events, however often they are written.
func revoked(id access.RequestID, marks []access.Revocation, e ending) (out []access.Event) {
	for len(marks) > 0 {
		at := marks[0].At
		var together []int
		var others []access.Revocation
		for _, m := range marks {
			if m.At.Equal(at) {
				together = append(together, m.Grant)
			} else {
				others = append(others, m)
			}
		}
		event := access.Event{
			Subject: string(id), Kind: access.EventRevoked, At: at, Actor: e.by, Key: fmt.Sprint(e.key, "-", together),
			Detail: map[string]string{"statusReason": string(e.reason), "grants": fmt.Sprint(together)},
		}
		maps.Copy(event.Detail, e.detail)
		out, marks = append(out, event), others
	}
	return out
}

// closeAll records the end of those live legs of the grants that there are.
func (d *Desk) closeAll(ctx context.Context, f access.File, grants []int, reason access.StatusReason, now time.Time) error {
	on := map[access.ResourceID]bool{}
	for _, g := range f.Grants() {
		for _, l := range g.Legs {
			if slices.Contains(grants, g.Index) && !endedIn(f, l) {
				on[l.NSG] = true
			}
		}
	}
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	errs := make(chan error, len(on))
	for id := range on {
		g.Go(func() error {
			errs <- d.closeOn(ctx, id, now, func(l access.Leg) (access.StatusReason, bool) {
				if l.Request != f.Record.ID || !slices.Contains(grants, l.Grant) {
					return "", false
				}
				if r, ok := f.Revocation(l.Grant); ok {
					return r.Reason, true // the first reason stays
				}
				return reason, true
			})
			return nil
		})
	}
	err := g.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// closeOn records the end of live legs of an NSG, reading again where somebody
// else changed one meanwhile.
func (d *Desk) closeOn(ctx context.Context, on access.ResourceID, now time.Time, which func(access.Leg) (access.StatusReason, bool)) error {
	s := d.Submitter
	var err error
	for range maxRounds {
		err = closeLegsAs(ctx, s.Ledger, d.Legs, s.Prompts, on, s.Token(), now, which)
		if access.CodeOf(err) != access.Aborted {
			return err
		}
	}
	return err
}
