package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// Policies keeps access policies: a broker.PolicyDesk.
type Policies interface {
	List(ctx context.Context, by access.Caller) ([]policy.AccessPolicy, error)
	Get(ctx context.Context, by access.Caller, scope access.ResourceID) (policy.AccessPolicy, error)
	Put(ctx context.Context, by access.Caller, p policy.AccessPolicy, o broker.ChangeOptions) (broker.PolicyChange, error)
	Delete(ctx context.Context, by access.Caller, scope access.ResourceID, o broker.ChangeOptions) (broker.PolicyChange, error)
}

// policyScopes are the addresses of policies: a subscription, a resource group,
// a virtual machine.
var policyScopes = []string{
	"/api/policies/subscriptions/{s}",
	"/api/policies/subscriptions/{s}/resourceGroups/{g}",
	"/api/policies/subscriptions/{s}/resourceGroups/{g}/virtualMachines/{v}",
}

func (a *AccessAPI) policyRoutes() {
	a.on("GET /api/policies", a.listPolicies)
	for _, at := range policyScopes {
		a.on("GET "+at, a.getPolicy)
		a.on("PUT "+at, a.putPolicy)
		a.on("DELETE "+at, a.deletePolicy)
	}
}

// policyScope reads the scope from the address.
func policyScope(r *http.Request) (access.ResourceID, error) {
	id := "/subscriptions/" + r.PathValue("s")
	if g := r.PathValue("g"); g != "" {
		id += "/resourceGroups/" + g
	}
	if v := r.PathValue("v"); v != "" {
		id += "/providers/Microsoft.Compute/virtualMachines/" + v
	}
	return access.ParseScope(id)
}

func etag(version string) string { return `"` + version + `"` }

func (a *AccessAPI) listPolicies(r *http.Request, by access.Caller) (answer, error) {
	all, err := a.Policies.List(r.Context(), by)
	if err != nil {
		return answer{}, err
	}
	items := []json.RawMessage{}
	for _, p := range all {
		data, err := accessjson.EncodePolicy(p)
		if err != nil {
			return answer{}, err
		}
		items = append(items, data)
	}
	return answer{http.StatusOK, map[string]any{"items": items}, nil}, nil
}

func (a *AccessAPI) getPolicy(r *http.Request, by access.Caller) (answer, error) {
	scope, err := policyScope(r)
	if err != nil {
		return answer{}, err
	}
	p, err := a.Policies.Get(r.Context(), by, scope)
	if err != nil {
		return answer{}, err
	}
	data, err := accessjson.EncodePolicy(p)
	return answer{http.StatusOK, json.RawMessage(data), map[string]string{"ETag": etag(p.Version)}}, err
}

// putPolicy creates or changes. What it replaces must be named, so that nobody
// overwrites what they have not seen.
func (a *AccessAPI) putPolicy(r *http.Request, by access.Caller) (answer, error) {
	scope, err := policyScope(r)
	if err != nil {
		return answer{}, err
	}
	o, err := changeOptions(r)
	if err != nil {
		return answer{}, err
	}
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	p, err := accessjson.DecodePolicy(data)
	if err != nil {
		return answer{}, err
	}
	if p.Scope != scope {
		return answer{}, access.Errorf(access.InvalidArgument, "scope_mismatch", "the policy names the scope %s and was sent to that of %s", p.Scope, scope)
	}
	return changed(a.Policies.Put(r.Context(), by, p, o))
}

func (a *AccessAPI) deletePolicy(r *http.Request, by access.Caller) (answer, error) {
	scope, err := policyScope(r)
	if err != nil {
		return answer{}, err
	}
	o, err := changeOptions(r)
	if err != nil {
		return answer{}, err
	}
	return changed(a.Policies.Delete(r.Context(), by, scope, o))
}

func changed(c broker.PolicyChange, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	out := answer{http.StatusOK, changeView(c), map[string]string{}}
	if c.Policy.Version != "" {
		out.header["ETag"] = etag(c.Policy.Version)
	}
	return out, nil
}

// changeOptions reads the conditions and the query of a change.
func changeOptions(r *http.Request) (broker.ChangeOptions, error) {
	var o broker.ChangeOptions
	for name, to := range map[string]*bool{"plan": &o.Plan, "closeGrants": &o.CloseGrants} {
		switch v := r.URL.Query().Get(name); v {
		case "", "false":
		case "true":
			*to = true
		default:
			return o, access.Errorf(access.InvalidArgument, "query_invalid", "%s is true or false", name)
		}
	}
	var err error
	o.Version, err = versionOf(r, "policy")
	return o, err
}

// versionOf reads which version of what is changed; "" for one that is new.
func versionOf(r *http.Request, what string) (string, error) {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	switch {
	case len(match) == 1 && len(none) == 0:
		v, opens := strings.CutPrefix(match[0], `"`)
		v, closes := strings.CutSuffix(v, `"`)
		if !opens || !closes || v == "" || strings.ContainsAny(v, `",*`) {
			return "", access.Errorf(access.InvalidArgument, "if_match_invalid", "If-Match takes the one ETag that the %s was read with", what)
		}
		return v, nil
	case len(match) == 0 && len(none) == 1 && none[0] == "*" && r.Method == http.MethodPut:
		return "", nil
	}
	return "", access.Errorf(access.ConditionRequired, "condition_required",
		"say what is changed: If-Match with the %s's ETag, or If-None-Match: * for one that is new", what)
}
