package tables

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// PoliciesFor implements broker.Policies.
func (s *Store) PoliciesFor(ctx context.Context, vm access.ResourceID) ([]policy.AccessPolicy, error) {
	out := []policy.AccessPolicy{}
	for _, scope := range vm.Scopes() {
		p, err := s.GetPolicy(ctx, scope)
		if access.CodeOf(err) == access.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.Disabled {
			continue
		}
		out = append(out, p)
		break // the nearest decides alone
	}
	return out, nil
}

// GetPolicy implements broker.PolicyStore.
func (s *Store) GetPolicy(ctx context.Context, scope access.ResourceID) (policy.AccessPolicy, error) {
	p, _, err := s.policy(ctx, scope)
	return p, err
}

func (s *Store) policy(ctx context.Context, scope access.ResourceID) (policy.AccessPolicy, string, error) {
	r, err := get(ctx, s.policies, scope.Subscription(), hash(string(scope)))
	if err != nil {
		return policy.AccessPolicy{}, "", err
	}
	p, err := policyOf(r)
	return p, r.etag(), err
}

func policyOf(r row) (policy.AccessPolicy, error) {
	text, _ := r["Policy"].(string)
	p, err := accessjson.DecodePolicy([]byte(text))
	if err == nil && r.key() != hash(string(p.Scope)) {
		err = errors.New("it is of another scope than it stands at")
	}
	if err != nil {
		return policy.AccessPolicy{}, access.Wrap(err, access.Internal, "policy_unreadable", "a stored policy cannot be read")
	}
	p.Disabled, _ = r["Disabled"].(bool)
	p.Version = version(text, p.Disabled)
	return p, nil
}

// version is the hash of a policy's content.
func version(text string, disabled bool) string {
	v := accessjson.Hash([]byte(text))[:16]
	if disabled {
		v += "-disabled"
	}
	return v
}

func changedPolicy(cause error) error {
	return access.Wrap(cause, access.ConditionFailed, "policy_changed", "somebody else has changed the policy: read it again, and apply your change to what it is now")
}

// SavePolicy implements broker.PolicyStore.
func (s *Store) SavePolicy(ctx context.Context, p policy.AccessPolicy, before string) (policy.AccessPolicy, error) {
	body, text, err := policyRow(p)
	if err != nil {
		return policy.AccessPolicy{}, err
	}
	have, etag, err := s.policy(ctx, p.Scope)
	switch {
	case access.CodeOf(err) == access.NotFound:
	case err != nil:
		return policy.AccessPolicy{}, err
	}
	if have.Version != before {
		return policy.AccessPolicy{}, changedPolicy(nil)
	}
	p.Version = version(text, p.Disabled)
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if before == "" {
		_, err = s.policies.AddEntity(ctx, body, nil)
	} else {
		match := azcore.ETag(etag)
		_, err = s.policies.UpdateEntity(ctx, body, &aztables.UpdateEntityOptions{IfMatch: &match, UpdateMode: aztables.UpdateModeReplace})
	}
	err = failure(err, "storing the policy")
	if c := access.CodeOf(err); c == access.Aborted || c == access.NotFound {
		err = changedPolicy(err)
	}
	return p, err
}

func policyRow(p policy.AccessPolicy) (body []byte, text string, err error) {
	if err := p.Validate(); err != nil {
		return nil, "", err
	}
	data, err := accessjson.EncodePolicy(p)
	if err != nil {
		return nil, "", err
	}
	if len(data) > chunk {
		return nil, "", access.Errorf(access.InvalidArgument, "policy_too_large", "the policy has %d bytes; %d are allowed", len(data), chunk)
	}
	r := row{"PartitionKey": p.Scope.Subscription(), "RowKey": hash(string(p.Scope)), "Scope": string(p.Scope), "Policy": string(data), "Disabled": p.Disabled}
	body, err = r.bytes()
	return body, string(data), err
}

// PutPolicy stores a valid policy at its scope, in place of any before it, and
// gives its version.
func (s *Store) PutPolicy(ctx context.Context, p policy.AccessPolicy) (string, error) {
	body, text, err := policyRow(p)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = s.policies.UpsertEntity(ctx, body, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	return version(text, p.Disabled), failure(err, "storing the policy")
}

// DeletePolicy implements broker.PolicyStore.
func (s *Store) DeletePolicy(ctx context.Context, scope access.ResourceID, before string) error {
	have, etag, err := s.policy(ctx, scope)
	if access.CodeOf(err) == access.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if have.Version != before {
		return changedPolicy(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	match := azcore.ETag(etag)
	_, err = s.policies.DeleteEntity(ctx, scope.Subscription(), hash(string(scope)), &aztables.DeleteEntityOptions{IfMatch: &match})
	switch err = failure(err, "removing the policy"); access.CodeOf(err) {
	case access.NotFound:
		return nil
	case access.Aborted: // the row's own condition
		return changedPolicy(err)
	}
	return err
}

// ListPolicies implements broker.PolicyStore.
func (s *Store) ListPolicies(ctx context.Context, subscription string) ([]policy.AccessPolicy, error) {
	filter := "PartitionKey ge '0'"
	if subscription != "" {
		filter = "PartitionKey eq " + literal(subscription)
	}
	rows, err := query(ctx, s.policies, filter)
	if err != nil {
		return nil, err
	}
	var out []policy.AccessPolicy
	for _, r := range rows {
		p, err := policyOf(r)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b policy.AccessPolicy) int { return strings.Compare(string(a.Scope), string(b.Scope)) })
	return out, nil
}
