package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Me says who calls, with which roles, from which address.
func (c *Client) Me(ctx context.Context) (Answer[Me], error) {
	return get[Me](ctx, c, call{method: http.MethodGet, path: "/api/me"})
}

// MachineFilter picks machines; "" is any.
type MachineFilter struct{ SubscriptionID, ResourceGroup, Status string }

// Machines lists the machines that the caller may see.
func (c *Client) Machines(ctx context.Context, f MachineFilter) (List[Machine], error) {
	q := query("subscriptionId", f.SubscriptionID, "resourceGroup", f.ResourceGroup, "status", f.Status)
	q.Set("pageSize", "200")
	return list[Machine](ctx, c, "/api/machines", q, 0)
}

// Machine reads one machine.
func (c *Client) Machine(ctx context.Context, subscription, group, name string) (Answer[Machine], error) {
	return get[Machine](ctx, c, call{method: http.MethodGet, path: at("/api/machines", subscription, group, name)})
}

// Submit asks for access: a NewRequest, or its document. The key makes repeats
// the same request; "" takes one that is new.
func (c *Client) Submit(ctx context.Context, request any, key string) (Answer[AccessRequest], error) {
	return get[AccessRequest](ctx, c, c.post("/api/access-requests", request, key))
}

// RequestFilter picks requests; "" and zero are any.
type RequestFilter struct {
	VirtualMachine, Requestor, Status string
	From, To                          time.Time
}

// Requests lists requests, the newest first, as many as asked for; 0 is all.
func (c *Client) Requests(ctx context.Context, f RequestFilter, most int) (List[AccessRequest], error) {
	q := query("virtualMachine", f.VirtualMachine, "requestor", f.Requestor, "status", f.Status, "from", stamp(f.From), "to", stamp(f.To))
	if size := most; size > 0 {
		q.Set("pageSize", strconv.Itoa(min(size, 200)))
	}
	return list[AccessRequest](ctx, c, "/api/access-requests", q, most)
}

// Request reads one request.
func (c *Client) Request(ctx context.Context, id string) (Answer[AccessRequest], error) {
	return get[AccessRequest](ctx, c, call{method: http.MethodGet, path: at("/api/access-requests", id)})
}

// Events lists what happened to a request.
func (c *Client) Events(ctx context.Context, id string) (List[Event], error) {
	return list[Event](ctx, c, at("/api/access-requests", id, "events"), nil, 0)
}

// Extension asks for more time: for an ISO 8601 duration, or until a time.
type Extension struct {
	Duration      string    `json:"duration,omitempty"`
	EndTimeUTC    time.Time `json:"endTimeUtc,omitzero"`
	Justification string    `json:"justification,omitempty"`
}

// Extend asks for more time and gives the request that takes over.
func (c *Client) Extend(ctx context.Context, id string, e Extension, key string) (Answer[AccessRequest], error) {
	return get[AccessRequest](ctx, c, c.post(at("/api/access-requests", id, "extend"), e, key))
}

// Revocation gives grants back, or takes them away: those named by their index,
// or all.
type Revocation struct {
	Reason string `json:"reason,omitempty"`
	Grants []int  `json:"grants,omitempty"`
}

// Revoke ends grants of a request early.
func (c *Client) Revoke(ctx context.Context, id string, r Revocation) (Answer[AccessRequest], error) {
	return get[AccessRequest](ctx, c, c.post(at("/api/access-requests", id, "revoke"), r, ""))
}

// Policies lists the documents of the policies.
func (c *Client) Policies(ctx context.Context) (List[json.RawMessage], error) {
	return list[json.RawMessage](ctx, c, "/api/policies", nil, 0)
}

// Policy reads the policy at a scope, with its ETag.
func (c *Client) Policy(ctx context.Context, scope string) (Answer[json.RawMessage], error) {
	path, err := policyPath(scope)
	if err != nil {
		return Answer[json.RawMessage]{}, err
	}
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: path})
}

// ChangeOptions say how a policy is changed.
type ChangeOptions struct {
	// ETag is that of the policy that is replaced; "" says that there is none.
	ETag string
	// Plan writes nothing and says what would be.
	Plan bool
	// CloseGrants closes the live grants that the policy no longer allows.
	CloseGrants bool
}

// PutPolicy stores the policy's document at a scope.
func (c *Client) PutPolicy(ctx context.Context, scope string, document json.RawMessage, o ChangeOptions) (Answer[Change], error) {
	return c.change(ctx, http.MethodPut, scope, document, o)
}

// DeletePolicy removes the policy at a scope. The ETag is required.
func (c *Client) DeletePolicy(ctx context.Context, scope string, o ChangeOptions) (Answer[Change], error) {
	return c.change(ctx, http.MethodDelete, scope, nil, o)
}

func (c *Client) change(ctx context.Context, method, scope string, document json.RawMessage, o ChangeOptions) (Answer[Change], error) {
	path, err := policyPath(scope)
	if err != nil {
		return Answer[Change]{}, err
	}
	in := call{method: method, path: path, query: url.Values{}, header: map[string]string{"If-Match": o.ETag}, lossy: !o.Plan}
	if document != nil {
		in.body = document
	}
	if o.ETag == "" {
		in.header = map[string]string{"If-None-Match": "*"}
	}
	if o.Plan {
		in.query.Set("plan", "true")
	}
	if o.CloseGrants {
		in.query.Set("closeGrants", "true")
	}
	return get[Change](ctx, c, in)
}

// Lockdown says whether there is one.
func (c *Client) Lockdown(ctx context.Context) (Answer[Lockdown], error) {
	return get[Lockdown](ctx, c, call{method: http.MethodGet, path: "/api/lockdown"})
}

// LockDown closes every door and keeps it shut until lifted.
func (c *Client) LockDown(ctx context.Context, reason string) (Answer[Lockdown], error) {
	return get[Lockdown](ctx, c, call{method: http.MethodPut, path: "/api/lockdown", body: map[string]string{"reason": reason}})
}

// LiftLockdown lets requests in again.
func (c *Client) LiftLockdown(ctx context.Context) (Answer[Lockdown], error) {
	return get[Lockdown](ctx, c, call{method: http.MethodDelete, path: "/api/lockdown"})
}

func (c *Client) post(path string, body any, key string) call {
	if key == "" {
		key = rand.Text()
	}
	return call{method: http.MethodPost, path: path, body: body, header: map[string]string{"Idempotency-Key": key}}
}

// policyPath is the address of the policy at a scope: a subscription's id, a
// resource group's or a virtual machine's.
func policyPath(scope string) (string, error) {
	seg := strings.Split(strings.TrimPrefix(scope, "/"), "/")
	for i, want := range []string{"subscriptions", "", "resourcegroups", "", "providers", "microsoft.compute", "virtualmachines", ""} {
		if i < len(seg) && (want != "" && !strings.EqualFold(seg[i], want) || seg[i] == "") {
			return "", errScope
		}
	}
	switch len(seg) {
	case 2:
		return at("/api/policies/subscriptions", seg[1]), nil
	case 4:
		return at("/api/policies/subscriptions", seg[1], "resourceGroups", seg[3]), nil
	case 8:
		return at("/api/policies/subscriptions", seg[1], "resourceGroups", seg[3], "virtualMachines", seg[7]), nil
	}
	return "", errScope
}

var errScope = errors.New("client: a scope is the resource id of a virtual machine, a resource group or a subscription")

// at joins names to a path, each escaped.
func at(base string, names ...string) string {
	for _, n := range names {
		base += "/" + url.PathEscape(n)
	}
	return base
}

func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
