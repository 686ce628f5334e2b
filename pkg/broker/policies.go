package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// NotAllowedGrant is a live grant that a changed policy does not allow.
type NotAllowedGrant struct {
	Request   access.RequestID
	Grant     access.Grant
	Requestor access.Requestor
	// Violations say why, in the words of a refusal.
	Violations []access.Violation
}

// PolicyChange is what a change of a policy means.
type PolicyChange struct {
	// Policy is as it would stand or stands; zero where it is removed.
	Policy policy.AccessPolicy
	// NotAllowed are the live grants that it does not allow any more.
	NotAllowed []NotAllowedGrant
	// Machines says what becomes of the baselines of the machines in its scope.
	Machines []MachinePlan
}

// LiveGrants finds and ends grants.
type LiveGrants interface {
	// NotAllowed gives the live grants of machines in the scope that the
	// subscription's policies, as given, do not allow.
	NotAllowed(ctx context.Context, scope access.ResourceID, policies []policy.AccessPolicy) ([]NotAllowedGrant, error)
	// End records the end of grants and asks for it; repeating it is harmless.
	End(ctx context.Context, grants []NotAllowedGrant, reason access.StatusReason) error
}

// PolicyPorts are what PolicyDesk needs.
type PolicyPorts struct {
	Policies PolicyStore
	Grants   LiveGrants
	Events   Events
	Clock    Clock
	Token    func() string
	// Baselines says what a policy would change on the NSGs, and writes nothing: an
	// Enabler's Plan.
	Baselines func(ctx context.Context, p policy.AccessPolicy, remove bool) ([]MachinePlan, error)
	// Ensure brings a subscription's baselines up to date: an Enabler's Ensure.
	Ensure func(ctx context.Context, subscription string) error
	// Document gives a policy as its document, for the events of its changes.
	Document func(p policy.AccessPolicy) ([]byte, error)
}

// maxPolicyDocument bounds a policy's document in an event, in bytes.
const maxPolicyDocument = 64 << 10

// PolicyDesk keeps the policies, and with them what is shut.
type PolicyDesk struct{ PolicyPorts }

// NewPolicyDesk makes a PolicyDesk; every port is required.
func NewPolicyDesk(p PolicyPorts) (*PolicyDesk, error) {
	if p.Policies == nil || p.Grants == nil || p.Events == nil || p.Clock == nil || p.Token == nil || p.Baselines == nil || p.Ensure == nil || p.Document == nil {
		return nil, errors.New("broker: a port of the policy desk is missing")
	}
	return &PolicyDesk{p}, nil
}

// ChangeOptions say how a policy is changed.
type ChangeOptions struct {
	// Version is the one that is changed; "" creates. Another that stands there is
	// condition_failed, policy_changed.
	Version string
	// Plan writes nothing and says what would be.
	Plan bool
	// CloseGrants ends the live grants that are not allowed any more, PolicyChanged.
	CloseGrants bool
}

// List gives every policy. Role: to read all, or to administer.
func (d *PolicyDesk) List(ctx context.Context, by access.Caller) ([]policy.AccessPolicy, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return nil, err
	}
	all, err := d.Policies.ListPolicies(ctx, "")
	return slices.DeleteFunc(all, func(p policy.AccessPolicy) bool { return p.Disabled }), err
}

// Get gives the policy that stands at the scope. Role: to read all, or to
// administer. Error not_found, policy_unknown.
func (d *PolicyDesk) Get(ctx context.Context, by access.Caller, scope access.ResourceID) (policy.AccessPolicy, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return policy.AccessPolicy{}, err
	}
	return d.get(ctx, scope)
}

func (d *PolicyDesk) get(ctx context.Context, scope access.ResourceID) (policy.AccessPolicy, error) {
	p, err := d.Policies.GetPolicy(ctx, scope)
	if access.CodeOf(err) == access.NotFound || p.Disabled {
		return policy.AccessPolicy{}, access.Errorf(access.NotFound, "policy_unknown", "no policy stands at %s", scope)
	}
	return p, err
}

// Put stores a policy at its scope. One that does not say whether its machines
// are kept shut leaves that as it is at the scope or, where none stands there, as
// the nearest wider scope has it. Shutting is asked for at once, and kept up by
// Scan. Role: to administer.
//
// The policy is stored first, then the baselines follow, then grants are closed:
// what is cut off in between is completed by the same call again, and the
// baselines by Scan.
func (d *PolicyDesk) Put(ctx context.Context, by access.Caller, p policy.AccessPolicy, o ChangeOptions) (PolicyChange, error) {
	if err := by.Need(access.RoleAdminister); err != nil {
		return PolicyChange{}, err
	}
	if err := p.Validate(); err != nil {
		return PolicyChange{}, err
	}
	all, err := d.Policies.ListPolicies(ctx, p.Scope.Subscription())
	if err != nil {
		return PolicyChange{}, err
	}
	p.Disabled = false
	p.Baseline = baselineAsItIs(p, all)
	// One that is being removed does not stand in the way of a new one.
	if i := slices.IndexFunc(all, func(q policy.AccessPolicy) bool { return q.Scope == p.Scope && q.Disabled }); i >= 0 && o.Version == "" {
		o.Version = all[i].Version
	}
	before, err := d.standing(all, p.Scope, o.Version)
	if err != nil {
		return PolicyChange{}, err
	}
	change := PolicyChange{Policy: p}
	if change.NotAllowed, err = d.Grants.NotAllowed(ctx, p.Scope, with(all, p)); err != nil {
		return PolicyChange{}, err
	}
	if o.Plan {
		change.Machines, err = d.Baselines(ctx, p, false)
		return change, err
	}
	event, err := d.event(access.EventPolicyChanged, by, p, before)
	if err != nil {
		return PolicyChange{}, err
	}
	if err := d.Events.Append(ctx, []access.Event{event}); err != nil {
		return PolicyChange{}, err
	}
	if change.Policy, err = d.Policies.SavePolicy(ctx, p, o.Version); err != nil {
		return PolicyChange{}, err
	}
	err = d.follow(ctx, p.Scope, &change, o)
	return change, err
}

// Delete removes the policy at the scope with its baselines. It stands as
// disabled, granting nothing, until the last of its deny rules is on record to be
// lifted; Scan completes what is cut off. Role: to administer.
func (d *PolicyDesk) Delete(ctx context.Context, by access.Caller, scope access.ResourceID, o ChangeOptions) (PolicyChange, error) {
	if err := by.Need(access.RoleAdminister); err != nil {
		return PolicyChange{}, err
	}
	all, err := d.Policies.ListPolicies(ctx, scope.Subscription())
	if err != nil {
		return PolicyChange{}, err
	}
	p, err := d.standing(all, scope, o.Version)
	if err != nil {
		return PolicyChange{}, err
	}
	if p.Version == "" || p.Disabled {
		return PolicyChange{}, access.Errorf(access.NotFound, "policy_unknown", "no policy stands at %s", scope)
	}
	before := p
	p.Disabled = true
	var change PolicyChange
	if change.NotAllowed, err = d.Grants.NotAllowed(ctx, scope, with(all, p)); err != nil {
		return PolicyChange{}, err
	}
	if o.Plan {
		change.Machines, err = d.Baselines(ctx, p, true)
		return change, err
	}
	event, err := d.event(access.EventPolicyRemoved, by, p, before)
	if err != nil {
		return PolicyChange{}, err
	}
	if err := d.Events.Append(ctx, []access.Event{event}); err != nil {
		return PolicyChange{}, err
	}
	if _, err = d.Policies.SavePolicy(ctx, p, o.Version); err != nil {
		return PolicyChange{}, err
	}
	err = d.follow(ctx, scope, &change, o)
	return change, err
}

// follow brings what stands into step with the policies that are stored now.
func (d *PolicyDesk) follow(ctx context.Context, scope access.ResourceID, change *PolicyChange, o ChangeOptions) error {
	err := d.Ensure(ctx, scope.Subscription())
	if !o.CloseGrants {
		return err
	}
	// A grant may have opened between the look at them and the store. What opens
	// from here on is judged by the new policy.
	policies, e := d.Policies.ListPolicies(ctx, scope.Subscription())
	if e == nil {
		var found []NotAllowedGrant
		if found, e = d.Grants.NotAllowed(ctx, scope, policies); e == nil {
			change.NotAllowed = found
		}
	}
	return errors.Join(err, e, d.Grants.End(ctx, change.NotAllowed, access.PolicyChanged))
}

// standing gives the policy at the scope, if it is the version that is meant.
func (d *PolicyDesk) standing(all []policy.AccessPolicy, scope access.ResourceID, version string) (policy.AccessPolicy, error) {
	var p policy.AccessPolicy
	if i := slices.IndexFunc(all, func(p policy.AccessPolicy) bool { return p.Scope == scope }); i >= 0 {
		p = all[i]
	}
	if p.Version != version {
		return p, access.Errorf(access.ConditionFailed, "policy_changed", "somebody else has changed the policy: read it again, and apply your change to what it is now")
	}
	return p, nil
}

// with gives the policies as they would be with the changed one.
func with(all []policy.AccessPolicy, p policy.AccessPolicy) []policy.AccessPolicy {
	out := slices.DeleteFunc(slices.Clone(all), func(q policy.AccessPolicy) bool { return q.Scope == p.Scope })
	return append(out, p)
}

// baselineAsItIs fills in what a policy leaves unsaid.
func baselineAsItIs(p policy.AccessPolicy, all []policy.AccessPolicy) *bool {
	if p.Baseline != nil {
		return p.Baseline
	}
	shuts := false
	if near, ok := policy.Nearest(p.Scope, all); ok {
		shuts = near.Shuts()
	}
	return &shuts
}

func (d *PolicyDesk) event(kind access.EventKind, by access.Caller, p, before policy.AccessPolicy) (access.Event, error) {
	return PolicyEvent(kind, by, p, before, d.Document, d.Clock(), d.Token())
}

// PolicyEvent tells a change, with the whole policy before and after it: one that
// is being removed stands for nothing. The token tells apart changes of one moment.
func PolicyEvent(kind access.EventKind, by access.Caller, p, before policy.AccessPolicy, document func(policy.AccessPolicy) ([]byte, error),
	now time.Time, token string) (access.Event, error) {
	now = now.UTC()
	shuts := "false"
	if p.Shuts() {
		shuts = "true"
	}
	e := access.Event{
		Subject: string(p.Scope), Kind: kind, At: now, Actor: by.Name, Key: now.Format(time.RFC3339Nano) + "-" + token,
		Detail: map[string]string{"scope": string(p.Scope), "beforeVersion": before.Version, "baseline": shuts, "actorObjectId": by.ObjectID},
	}
	for name, p := range map[string]policy.AccessPolicy{"before": before, "after": p} {
		if p.Scope == "" || p.Disabled {
			continue
		}
		data, err := document(p)
		if err != nil {
			return e, err
		}
		var b bytes.Buffer
		if err := json.Compact(&b, data); err != nil {
			return e, err
		}
		if b.Len() > maxPolicyDocument {
			return e, access.Errorf(access.InvalidArgument, "policy_too_large", "the policy has %d bytes; %d are allowed", b.Len(), maxPolicyDocument)
		}
		e.Detail[name] = b.String()
	}
	return e, nil
}
