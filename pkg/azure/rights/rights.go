// Package rights reads who may what in Azure, and what is locked, through
// Resource Manager, over armauthorization.
package rights

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// Right is what one role assignment gives.
type Right struct {
	Scope                       string
	Actions, NotActions         []string // of Resource Manager
	DataActions, NotDataActions []string // of the services themselves
}

// Lock is a management lock.
type Lock struct{ Name, Level, Scope string }

// Reader reads rights and locks. It takes Microsoft.Authorization/*/read at the
// scopes, and writes nothing.
type Reader struct {
	cred azcore.TokenCredential
	opts arm.ClientOptions
	raw  *arm.Client
}

// New makes a Reader for the credential and the cloud of the options.
func New(cred azcore.TokenCredential, opts arm.ClientOptions) (*Reader, error) {
	if cred == nil {
		return nil, errors.New("rights: a credential is required")
	}
	opts.DisableRPRegistration = true
	raw, err := arm.NewClient("portcullis/rights", "v1.0.0", cred, &opts)
	if err != nil {
		return nil, err
	}
	return &Reader{cred, opts, raw}, nil
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Rights gives what the principal has at the scope: assigned there or above it, to
// itself or to a group that it is in. Errors: invalid_argument; unavailable.
func (r *Reader) Rights(ctx context.Context, scope, principal string) ([]Right, error) {
	// atScope() leaves out what is assigned below the scope.
	return r.list(ctx, scope, principal, "atScope()%20and%20")
}

// RightsWithin gives, beside those of Rights, what the principal has on anything
// below the scope. Errors as of Rights.
func (r *Reader) RightsWithin(ctx context.Context, scope, principal string) ([]Right, error) {
	return r.list(ctx, scope, principal, "")
}

func (r *Reader) list(ctx context.Context, scope, principal, only string) ([]Right, error) {
	if !guid.MatchString(principal) {
		return nil, access.Errorf(access.InvalidArgument, "principal_invalid", "a principal is named by its object id, a GUID")
	}
	sub := strings.TrimPrefix(scope, "/subscriptions/")
	sub, _, _ = strings.Cut(sub, "/")
	assignments, err := armauthorization.NewRoleAssignmentsClient(sub, r.cred, &r.opts)
	if err != nil {
		return nil, err
	}
	definitions, err := armauthorization.NewRoleDefinitionsClient(r.cred, &r.opts)
	if err != nil {
		return nil, err
	}
	// The SDK puts the filter into the URL as it is, so it is escaped here.
	filter := only + "assignedTo('" + principal + "')"
	var out []Right
	for pager := assignments.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &filter}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, failure(err, "role assignments")
		}
		for _, a := range page.Value {
			if a.Properties == nil || a.Properties.RoleDefinitionID == nil {
				continue
			}
			d, err := definitions.GetByID(ctx, *a.Properties.RoleDefinitionID, nil)
			if err != nil {
				return nil, failure(err, "a role definition")
			}
			right := Right{}
			if a.Properties.Scope != nil {
				right.Scope = *a.Properties.Scope
			}
			if d.Properties != nil {
				for _, p := range d.Properties.Permissions {
					right.Actions = append(right.Actions, texts(p.Actions)...)
					right.NotActions = append(right.NotActions, texts(p.NotActions)...)
					right.DataActions = append(right.DataActions, texts(p.DataActions)...)
					right.NotDataActions = append(right.NotDataActions, texts(p.NotDataActions)...)
				}
			}
			out = append(out, right)
		}
	}
	return out, nil
}

func texts(list []*string) (out []string) {
	for _, s := range list {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// locksVersion is the API version of Microsoft.Authorization/locks.
const locksVersion = "2020-05-01"

// maxPage bounds one page of locks, in bytes; maxPages how many are read.
const (
	maxPage  = 4 << 20
	maxPages = 50
)

// Locks gives the locks at the scope and below it. Errors: unavailable.
func (r *Reader) Locks(ctx context.Context, scope string) ([]Lock, error) {
	next := runtime.JoinPaths(r.raw.Endpoint(), scope, "/providers/Microsoft.Authorization/locks") + "?api-version=" + locksVersion
	var out []Lock
	for range maxPages {
		var page struct {
			Value []struct {
				ID, Name   string
				Properties struct{ Level string }
			}
			NextLink string
		}
		if err := r.get(ctx, next, &page); err != nil {
			return nil, failure(err, "locks")
		}
		for _, l := range page.Value {
			at, _, _ := strings.Cut(l.ID, "/providers/Microsoft.Authorization/locks/")
			out = append(out, Lock{l.Name, l.Properties.Level, at})
		}
		// The token goes nowhere but where it was meant for.
		if next = page.NextLink; next == "" || !strings.HasPrefix(next, strings.TrimSuffix(r.raw.Endpoint(), "/")+"/") {
			return out, nil
		}
	}
	return out, nil
}

func (r *Reader) get(ctx context.Context, url string, into any) error {
	req, err := runtime.NewRequest(ctx, http.MethodGet, url)
	if err != nil {
		return err
	}
	res, err := r.raw.Pipeline().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	if !runtime.HasStatusCode(res, http.StatusOK) {
		return runtime.NewResponseError(res)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func failure(err error, what string) error {
	said := "Azure could not be reached"
	if res, ok := errors.AsType[*azcore.ResponseError](err); ok {
		said = "Azure answered " + res.ErrorCode
	}
	return access.Wrap(err, access.Unavailable, "rights_unreadable", what+" cannot be read: "+said)
}
