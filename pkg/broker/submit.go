package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

// SubmitSettings bound what Submit accepts.
type SubmitSettings struct {
	// ShortestDuration is the shortest grant that may be asked for.
	ShortestDuration time.Duration
	// OpenWithin is how long a grant may take to open before it is given up.
	OpenWithin time.Duration
	// SnapshotAge is how old a VM's resolved path may be when a request is
	// decided. Reconcile confirms it afresh before it opens anything.
	SnapshotAge time.Duration
	// MaxLiveGrants is how many grants a requestor may have that have not ended,
	// MaxRequestsPerHour how many requests anybody may make; 0 for no limit.
	MaxLiveGrants, MaxRequestsPerHour int
}

// SubmitPorts are what Submit needs.
type SubmitPorts struct {
	Policies     Policies
	Requests     Requests
	Files        Files
	Marks        Marks
	Index        Index
	Starts       Starts
	Events       Events
	Lockdowns    Lockdowns
	Tickets      Tickets
	Ledger       Ledger
	Machines     Machines
	Prompts      Prompts
	StartPrompts StartPrompts
	Clock        Clock
	// Token gives a new unique token at each call.
	Token func() string
	Meter Meter
}

// Submitter decides access requests and sets accepted ones going.
type Submitter struct {
	SubmitPorts
	settings SubmitSettings
}

// NewSubmitter makes a Submitter; every port and setting is required.
func NewSubmitter(p SubmitPorts, s SubmitSettings) (*Submitter, error) {
	if p.Policies == nil || p.Requests == nil || p.Files == nil || p.Marks == nil || p.Index == nil || p.Starts == nil || p.Events == nil || p.Lockdowns == nil ||
		p.Tickets == nil || p.Ledger == nil || p.Machines == nil || p.Prompts == nil || p.StartPrompts == nil || p.Clock == nil || p.Token == nil || p.Meter == nil {
		return nil, errors.New("broker: a port of the submitter is missing")
	}
	if s.ShortestDuration <= 0 || s.OpenWithin <= 0 || s.SnapshotAge < 0 || s.MaxLiveGrants < 0 || s.MaxRequestsPerHour < 0 {
		return nil, errors.New("broker: the submitter's settings must be positive")
	}
	return &Submitter{SubmitPorts: p, settings: s}, nil
}

// Submit decides the request and, when it is accepted, records it, schedules
// its close and asks for its opening. The same request again (same sender, id
// and body) gives the same answer and completes whatever was cut off; the same
// id with another body is failed_precondition, id_conflict.
//
// A refusal is recorded and comes back as an error whose code is final. Any
// other error is retryable: nothing was decided, or it will be completed.
func (s *Submitter) Submit(ctx context.Context, req access.Request) (access.Record, error) {
	rec, _, err := s.submit(ctx, access.NewRequestID(req.RequestedBy, req.ClientID), req.BodyHash, func() (access.Request, error) { return req, nil })
	return rec, err
}

// submit is Submit of a request that is put together only if none stands under
// the id yet; fresh tells that it was. An error of ask is no decision, and is not
// recorded.
func (s *Submitter) submit(ctx context.Context, id access.RequestID, bodyHash string, ask func() (access.Request, error)) (rec access.Record, fresh bool, err error) {
	ctx, end := s.Meter.Span(ctx, "Submit", slog.String("request.id", string(id)))
	defer func() { end(err, slog.Int("grants", len(rec.Grants))) }()
	rec, pending, err := s.Requests.Find(ctx, id)
	switch {
	case access.CodeOf(err) == access.NotFound:
		req, err := ask()
		if err != nil {
			return access.Record{}, false, err
		}
		if rec, err = s.decide(ctx, id, req); err != nil {
			return access.Record{}, false, err
		}
		// Whoever writes first has decided; a second delivery takes that decision.
		if rec, pending, err = s.Requests.Begin(ctx, rec); err != nil {
			return access.Record{}, false, err
		}
		fresh = true
	case err != nil:
		return access.Record{}, false, err
	}
	if err := conflict(rec, bodyHash); err != nil {
		return access.Record{}, false, err
	}
	if pending {
		if rec, err = s.resume(ctx, rec); err != nil {
			return access.Record{}, false, err
		}
		if err := conflict(rec, bodyHash); err != nil {
			return access.Record{}, false, err
		}
	}
	if rec.Outcome != access.Accepted {
		return rec, fresh, rec.Refusal.Error()
	}
	return rec, fresh, nil
}

// conflict says whether the request stands under the id of another.
func conflict(rec access.Record, bodyHash string) error {
	if rec.Request.BodyHash == bodyHash {
		return nil
	}
	return access.Errorf(access.FailedPrecondition, "id_conflict",
		"this id was already used for another request: send a request of other content under an id of its own")
}

// RefuseMalformed records the refusal of a message that is no request at all,
// and gives the id of the record. Such a refusal does not claim the sender's
// id: the mended message may come again under it.
func (s *Submitter) RefuseMalformed(ctx context.Context, sender access.Sender, messageID, bodyHash string, cause error) (access.RequestID, error) {
	refusal := access.RefusalOf(cause)
	rec := access.Record{
		ID: access.NewRequestID(sender, "malformed/"+messageID+"/"+bodyHash),
		Request: access.Request{
			ClientID: messageID, RequestedBy: sender, BodyHash: bodyHash,
		},
		Outcome: access.Refused, DecidedAt: s.Clock().UTC(), Refusal: &refusal,
	}
	_, err := s.Requests.Keep(ctx, rec, []access.Event{decisionEvent(rec)})
	return rec.ID, err
}

// The bounds of a start in the future. One that has passed on its way here is
// taken as "at once".
const (
	longestAhead = 7 * 24 * time.Hour
	startGrace   = time.Minute
)

func (s *Submitter) decide(ctx context.Context, id access.RequestID, req access.Request) (access.Record, error) {
	now := s.Clock().UTC()
	if at := req.StartTime; !at.After(now) && now.Sub(at) <= startGrace {
		req.StartTime = time.Time{}
	}
	rec := access.Record{ID: id, Request: req, DecidedAt: now}
	grants, err := s.grants(ctx, rec, now, policy.Limits{ShortestDuration: s.settings.ShortestDuration, LongestAhead: longestAhead})
	if retryable(err) {
		return access.Record{}, err
	}
	if !req.StartTime.IsZero() {
		for i := range grants {
			grants[i].Legs = nil // they are laid when the time has come
		}
	}
	rec = decided(rec, grants, err)
	switch err := s.withinLimits(ctx, rec, now); {
	case retryable(err):
		return access.Record{}, err
	case err != nil:
		rec = decided(rec, nil, err)
	}
	return rec, nil
}

// decided is the record with its decision.
func decided(rec access.Record, grants []access.Grant, err error) access.Record {
	if err == nil {
		rec.Outcome, rec.Grants = access.Accepted, grants
		return rec
	}
	refusal := access.RefusalOf(err)
	rec.Outcome, rec.Refusal, rec.Grants = access.Refused, &refusal, nil
	if e := access.AsError(err); e.Code == access.PermissionDenied && e.Err != nil {
		rec.Cause = e.Err.Error()
	}
	return rec
}

// retryable says whether err is one that leaves everything undecided.
func retryable(err error) bool { return err != nil && access.CodeOf(err).Retryable() }

// grants evaluates the record's request as at its decision, but the tickets as at
// now, and lays what is granted onto the machines' paths as they are now.
func (s *Submitter) grants(ctx context.Context, rec access.Record, now time.Time, limits policy.Limits) ([]access.Grant, error) {
	if err := s.lockedDown(ctx); err != nil {
		return nil, err
	}
	policies, err := policiesFor(ctx, s.Policies, rec.Request.Ports)
	if err != nil {
		return nil, err
	}
	tickets, err := s.tickets(ctx, rec, policies, now)
	if err != nil {
		return nil, err
	}
	verdict := policy.Judge(rec.Request, policies, tickets, limits, rec.DecidedAt)
	if decision, refused := verdict.Refused(); refused {
		return nil, refusedBy(decision)
	}
	// Only who may ask for the VM gets here, so its existence is theirs to know, and
	// so is what a condition says of it.
	machines, err := s.machines(ctx, verdict.Machines(), now.Add(-s.settings.SnapshotAge))
	if err != nil {
		return nil, err
	}
	known := map[access.ResourceID]policy.Machine{}
	for id, m := range machines {
		known[id] = conditionMachine(m)
	}
	var violations []access.Violation
	for _, p := range rec.Request.Ports {
		if _, ok := machines[p.VM]; !ok {
			violations = append(violations, access.Violation{Path: p.Path, Reason: "vm_not_found", Message: "the virtual machine " + p.VM.Name() + " does not exist"})
		}
	}
	if len(violations) > 0 {
		return nil, pathRefused(violations)
	}
	decision := verdict.Decide(ctx, known)
	if !decision.Allowed() {
		return nil, refusedBy(decision)
	}
	var grants []access.Grant
	for i, g := range decision.Granted {
		m := machines[g.Request.VM]
		grant := access.Grant{
			Index: i, VM: g.Request.VM, UniqueID: m.UniqueID, Port: g.Request.Port, Protocol: g.Protocol, Source: g.Request.Source,
			EndTime: g.EndTime, Since: g.Request.Since, PolicyScope: g.Scope, PolicyVersion: g.Version, Ticket: g.Ticket,
		}
		if grant.Since.IsZero() {
			grant.Since = rec.Start()
		}
		legs, v := legsOf(rec.ID, grant, m, now.Add(s.settings.OpenWithin))
		if v != nil {
			v.Path = g.Request.Path
			violations = append(violations, *v)
			continue
		}
		for j := range legs {
			legs[j].Replaces = g.Request.Replaces
		}
		grant.Legs = legs
		grants = append(grants, grant)
	}
	if len(violations) > 0 {
		return nil, pathRefused(violations)
	}
	return grants, nil
}

// refusedBy is the decision's error, with what only the record is to tell as its
// cause.
func refusedBy(d policy.Decision) error {
	e := d.Error()
	if len(d.Internal) > 0 {
		e.Err = errors.New(strings.Join(d.Internal, "; "))
	}
	return e
}

func pathRefused(violations []access.Violation) error {
	reason := "path_refused"
	if len(violations) == 1 {
		reason = violations[0].Reason
	}
	return &access.Error{Code: access.FailedPrecondition, Reason: reason, Message: violations[0].Message, Violations: violations}
}

// tickets reads the tickets that decide about the request. What vouched for it
// when it was decided is what is looked at again when it starts.
func (s *Submitter) tickets(ctx context.Context, rec access.Record, policies []policy.AccessPolicy, now time.Time) (policy.Tickets, error) {
	t := policy.Tickets{Found: foundTickets(rec.Grants, 0, len(rec.Request.Ports)), AsOf: now, Now: now}
	ids := policy.TicketsOf(rec.Request, policies, t.Found)
	var err error
	t.Known, err = readFacts(ctx, s.Tickets, ids, nil, nil, time.Time{}).known(ids)
	return t, err
}

// machines reads the machines; one that does not exist is left out.
func (s *Submitter) machines(ctx context.Context, vms []access.ResourceID, notBefore time.Time) (map[access.ResourceID]Machine, error) {
	out := map[access.ResourceID]Machine{}
	for _, vm := range vms {
		m, err := s.Machines.Machine(ctx, vm, notBefore)
		switch {
		case access.CodeOf(err) == access.NotFound:
		case err != nil:
			return nil, err
		default:
			out[vm] = m
		}
	}
	return out, nil
}

// policiesFor reads the policies of all machines that are asked for, each
// machine's once, several at a time.
func policiesFor(ctx context.Context, from Policies, ports []access.PortRequest) ([]policy.AccessPolicy, error) {
	var vms []access.ResourceID
	for _, p := range ports {
		if !slices.Contains(vms, p.VM) {
			vms = append(vms, p.VM)
		}
	}
	found := make([][]policy.AccessPolicy, len(vms))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(confirmAtOnce)
	for i, vm := range vms {
		g.Go(func() (err error) {
			found[i], err = from.PoliciesFor(gctx, vm)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []policy.AccessPolicy
	for _, f := range slices.Concat(found...) {
		if !slices.ContainsFunc(out, func(have policy.AccessPolicy) bool { return have.Scope == f.Scope }) {
			out = append(out, f)
		}
	}
	return out, nil
}

// lockedDown refuses while every door is to be kept shut.
func (s *Submitter) lockedDown(ctx context.Context) error {
	l, err := s.Lockdowns.Lockdown(ctx)
	if err != nil {
		return err
	}
	if l.Active {
		return access.Errorf(access.FailedPrecondition, "locked_down", "every door is kept shut at present: %s", l.Reason)
	}
	return nil
}
