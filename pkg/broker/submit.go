package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
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
}

// SubmitPorts are what Submit needs.
type SubmitPorts struct {
	Policies Policies
	Requests Requests
	Ledger   Ledger
	Machines Machines
	Prompts  Prompts
	Clock    Clock
	// Token gives a new unique token at each call.
	Token func() string
}

// Submitter decides access requests and sets accepted ones going.
type Submitter struct {
	SubmitPorts
	settings SubmitSettings
}

// NewSubmitter makes a Submitter; every port and setting is required.
func NewSubmitter(p SubmitPorts, s SubmitSettings) (*Submitter, error) {
	if p.Policies == nil || p.Requests == nil || p.Ledger == nil || p.Machines == nil || p.Prompts == nil || p.Clock == nil || p.Token == nil {
		return nil, errors.New("broker: a port of the submitter is missing")
	}
	if s.ShortestDuration <= 0 || s.OpenWithin <= 0 || s.SnapshotAge < 0 {
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
	id := access.NewRequestID(req.RequestedBy, req.ClientID)
	rec, pending, err := s.Requests.Find(ctx, id)
	switch {
	case access.CodeOf(err) == access.NotFound:
		if rec, err = s.decide(ctx, id, req); err != nil {
			return access.Record{}, err
		}
		// Whoever writes first has decided; a second delivery takes that decision.
		if rec, pending, err = s.Requests.Begin(ctx, rec); err != nil {
			return access.Record{}, err
		}
	case err != nil:
		return access.Record{}, err
	}
	if err := conflict(rec, req); err != nil {
		return access.Record{}, err
	}
	if pending {
		if rec, err = s.resume(ctx, rec); err != nil {
			return access.Record{}, err
		}
		if err := conflict(rec, req); err != nil {
			return access.Record{}, err
		}
	}
	if rec.Outcome != access.Accepted {
		return rec, rec.Refusal.Error()
	}
	return rec, nil
}

// conflict says whether the request stands under the id of another.
func conflict(rec access.Record, req access.Request) error {
	if rec.Request.BodyHash == req.BodyHash {
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

func (s *Submitter) decide(ctx context.Context, id access.RequestID, req access.Request) (access.Record, error) {
	now := s.Clock().UTC()
	rec := access.Record{ID: id, Request: req, DecidedAt: now}
	grants, err := s.grants(ctx, rec, now)
	if err != nil {
		if access.CodeOf(err).Retryable() {
			return access.Record{}, err
		}
		refusal := access.RefusalOf(err)
		rec.Outcome, rec.Refusal = access.Refused, &refusal
		return rec, nil
	}
	rec.Outcome, rec.Grants = access.Accepted, grants
	return rec, nil
}

func (s *Submitter) grants(ctx context.Context, rec access.Record, now time.Time) ([]access.Grant, error) {
	var policies []policy.AccessPolicy
	seen := map[access.ResourceID]bool{}
	for _, p := range rec.Request.Ports {
		if seen[p.VM] {
			continue
		}
		seen[p.VM] = true
		found, err := s.Policies.PoliciesFor(ctx, p.VM)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if !slices.ContainsFunc(policies, func(have policy.AccessPolicy) bool { return have.Scope == f.Scope }) {
				policies = append(policies, f)
			}
		}
	}
	decision := policy.Evaluate(rec.Request, policies, policy.Limits{ShortestDuration: s.settings.ShortestDuration}, now)
	if !decision.Allowed() {
		return nil, decision.Error()
	}
	var grants []access.Grant
	var violations []access.Violation
	for i, g := range decision.Granted {
		// Only who may ask for the VM gets here, so its existence is theirs to know.
		m, err := s.Machines.Machine(ctx, g.Request.VM, now.Add(-s.settings.SnapshotAge))
		if access.CodeOf(err) == access.NotFound {
			violations = append(violations, access.Violation{Path: g.Request.Path, Reason: "vm_not_found", Message: "the virtual machine " + g.Request.VM.Name() + " does not exist"})
			continue
		}
		if err != nil {
			return nil, err
		}
		grant := access.Grant{
			Index: i, VM: g.Request.VM, UniqueID: m.UniqueID, Port: g.Request.Port, Protocol: g.Protocol,
			Source: g.Request.Source, EndTime: g.EndTime, PolicyScope: g.Scope, PolicyVersion: g.Version,
		}
		legs, v := legsOf(rec.ID, grant, m, now.Add(s.settings.OpenWithin))
		if v != nil {
			v.Path = g.Request.Path
			violations = append(violations, *v)
			continue
		}
		grant.Legs = legs
		grants = append(grants, grant)
	}
	if len(violations) > 0 {
		reason := "path_refused"
		if len(violations) == 1 {
			reason = violations[0].Reason
		}
		return nil, &access.Error{Code: access.FailedPrecondition, Reason: reason, Message: violations[0].Message, Violations: violations}
	}
	return grants, nil
}

// Resume completes what was decided, from any point at which it was cut off.
func (s *Submitter) Resume(ctx context.Context, rec access.Record) error {
	_, err := s.resume(ctx, rec)
	return err
}

// resume is Resume, and gives the record that stands. Begin looks at two
// tables, so of two deliveries at once the later may write its own decision
// into pending/ just after the earlier was finished: what was kept first is
// what is carried out, and nothing that no record tells of.
//
// The order keeps the invariants: the record and its event come first (opens
// wait for them), then the delayed close, and only then the legs, because from
// the moment a leg is written anybody's reconcile may open it.
func (s *Submitter) resume(ctx context.Context, rec access.Record) (access.Record, error) {
	rec, err := s.Requests.Keep(ctx, rec, []access.Event{decisionEvent(rec)})
	if err != nil {
		return access.Record{}, err
	}
	byNSG := map[access.ResourceID][]access.Leg{}
	for _, l := range rec.Legs() {
		byNSG[l.NSG] = append(byNSG[l.NSG], l)
	}
	groups := slices.Sorted(maps.Keys(byNSG))
	for _, id := range groups {
		for _, end := range endTimes(byNSG[id]) {
			if err := s.Prompts.Prompt(ctx, id, end); err != nil {
				return access.Record{}, err
			}
		}
	}
	now := s.Clock().UTC()
	for _, id := range groups {
		if err := s.Ledger.AddLegs(ctx, id, byNSG[id], s.Token(), now); err != nil {
			return access.Record{}, err
		}
	}
	for _, id := range groups {
		if err := s.Prompts.Prompt(ctx, id, time.Time{}); err != nil {
			return access.Record{}, err
		}
	}
	return rec, s.Requests.Finish(ctx, rec.ID)
}

func endTimes(legs []access.Leg) []time.Time {
	var out []time.Time
	for _, l := range legs {
		if !slices.ContainsFunc(out, l.EndTime.Equal) {
			out = append(out, l.EndTime)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func decisionEvent(rec access.Record) access.Event {
	e := access.Event{
		Subject: string(rec.ID), Kind: access.EventRequested, At: rec.DecidedAt, Actor: rec.Request.Requestor.Name,
		Detail: map[string]string{
			"channel": string(rec.Request.RequestedBy.Channel), "requestedBy": rec.Request.RequestedBy.Principal,
			"clientId": rec.Request.ClientID, "justification": rec.Request.Justification, "ticket": rec.Request.Ticket,
		},
	}
	if rec.Outcome == access.Refused {
		e.Kind = access.EventRefused
		e.Detail["reason"] = rec.Refusal.Reason
		var reasons []string
		for _, v := range rec.Refusal.Violations {
			reasons = append(reasons, strings.TrimSpace(v.Path+" "+v.Reason))
		}
		e.Detail["violations"] = strings.Join(reasons, "; ")
		return e
	}
	for _, g := range rec.Grants {
		e.Detail["grant."+strconv.Itoa(g.Index)] = strings.Join([]string{
			string(g.VM), strconv.Itoa(int(g.Port)) + "/" + string(g.Protocol), "from " + access.FormatPrefix(g.Source),
			"until " + g.EndTime.UTC().Format(time.RFC3339), "by policy " + string(g.PolicyScope) + " " + g.PolicyVersion,
		}, " ")
	}
	return e
}
