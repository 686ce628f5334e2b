package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// Identities verifies who calls.
type Identities interface {
	Verify(ctx context.Context, r *http.Request) (access.Caller, error)
}

// APIParts are what the API needs; every one is required.
type APIParts struct {
	Desk       Desk
	Changes    Changes
	Machines   Machines
	Policies   Policies
	Sources    SourceDesk
	Lockdowns  Lockdowns
	Audits     Audits
	Identities Identities
	Refusals   *Refusals
	Log        *slog.Logger
}

// AccessAPI is the HTTP API under /api/. It decodes a call, lets one use case
// decide it, and encodes the answer. Who may is the use cases' to say. Errors are
// problem documents (RFC 9457).
type AccessAPI struct {
	APIParts
	routes  *http.ServeMux
	methods map[string][]string // by pattern
}

// NewAccessAPI makes the API.
func NewAccessAPI(p APIParts) (*AccessAPI, error) {
	if p.Desk == nil || p.Changes == nil || p.Machines == nil || p.Policies == nil || p.Sources == nil || p.Lockdowns == nil || p.Audits == nil || p.Identities == nil || p.Refusals == nil || p.Log == nil {
		return nil, errors.New("handlers: the access API lacks a part")
	}
	return newAPI(p)
}

func newAPI(p APIParts) (*AccessAPI, error) {
	a := &AccessAPI{APIParts: p, routes: http.NewServeMux(), methods: map[string][]string{}}
	a.on("GET /api/me", a.me)
	a.requestRoutes()
	a.machineRoutes()
	a.lockdownRoutes()
	a.policyRoutes()
	a.auditRoutes()
	a.sourceRoutes()
	a.document("/api/openapi.json", "application/json", openAPI)
	a.document("/api/schemas/access-request", "application/schema+json", func() (json.RawMessage, error) { return accessjson.RequestSchema(), nil })
	a.document("/api/schemas/access-policy", "application/schema+json", func() (json.RawMessage, error) { return accessjson.PolicySchema(), nil })
	a.document("/api/schemas/ticket-source", "application/schema+json", func() (json.RawMessage, error) { return ticket.SourceSchema(), nil })
	for pattern, known := range a.methods {
		a.routes.HandleFunc(pattern, methods(strings.Join(known, ", ")))
	}
	a.routes.HandleFunc("/", a.unknown)
	return a, nil
}

// answer is what an action gives back.
type answer struct {
	status int
	body   any
	header map[string]string
}

// action does one call of a caller whose token was verified.
type action func(r *http.Request, by access.Caller) (answer, error)

// on registers an action for "METHOD /path".
func (a *AccessAPI) on(pattern string, do action) {
	method, at, _ := strings.Cut(pattern, " ")
	a.methods[at] = append(a.methods[at], method)
	if method == http.MethodGet {
		a.methods[at] = append(a.methods[at], http.MethodHead)
	}
	a.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		by, err := a.Identities.Verify(r.Context(), r)
		if err != nil {
			a.problem(w, r, err)
			return
		}
		out, err := do(r, by)
		if err != nil {
			a.problem(w, r, err)
			return
		}
		for name, value := range out.header {
			w.Header().Set(name, value)
		}
		write(w, out.status, "application/json", out.body)
	})
}

// document serves a document that needs no token.
func (a *AccessAPI) document(at, contentType string, get func() (json.RawMessage, error)) {
	a.methods[at] = []string{http.MethodGet, http.MethodHead}
	a.routes.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) {
		data, err := get()
		if err != nil {
			a.problem(w, r, err)
			return
		}
		write(w, http.StatusOK, contentType, data)
	})
}

// ServeHTTP answers one call.
func (a *AccessAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	// A path with dot segments or empty ones is no address here; the mux would
	// redirect the caller to what it takes it for.
	if p := r.URL.EscapedPath(); p != path.Clean(p) {
		a.unknown(w, r)
		return
	}
	a.routes.ServeHTTP(w, r)
}

func (a *AccessAPI) unknown(w http.ResponseWriter, r *http.Request) {
	a.problem(w, r, access.Errorf(access.NotFound, "route_unknown", "there is nothing at this address"))
}

func methods(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		write(w, http.StatusMethodNotAllowed, "application/problem+json", problem{
			Type: "about:blank", Title: http.StatusText(http.StatusMethodNotAllowed), Status: http.StatusMethodNotAllowed,
			Detail: "use " + allow, Reason: "method_not_allowed",
		})
	}
}

// me handles GET /api/me: who calls, with which roles, from which address.
func (a *AccessAPI) me(r *http.Request, by access.Caller) (answer, error) {
	out := struct {
		Name     string        `json:"name"`
		ObjectID string        `json:"objectId"`
		Roles    []access.Role `json:"roles"`
		Address  string        `json:"address,omitempty"`
	}{by.Name, by.ObjectID, []access.Role{}, ""}
	for _, role := range []access.Role{access.RoleRequest, access.RoleRequestForOthers, access.RoleReadAll, access.RoleAdminister} {
		if slices.Contains(by.Roles, role) {
			out.Roles = append(out.Roles, role)
		}
	}
	if from, ok := clientAddress(r); ok {
		out.Address = from.String()
	}
	return answer{http.StatusOK, out, nil}, nil
}

// body reads a JSON body of bounded size.
func body(r *http.Request) ([]byte, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, access.Errorf(access.InvalidArgument, "content_type_invalid", "send the request as application/json")
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, accessjson.MaxBody+1))
	if err != nil {
		return nil, access.Wrap(err, access.InvalidArgument, "body_unreadable", "the request could not be read")
	}
	if len(data) > accessjson.MaxBody {
		return nil, access.Errorf(access.InvalidArgument, "body_too_large", "the request has more than %d bytes", accessjson.MaxBody)
	}
	return data, nil
}
