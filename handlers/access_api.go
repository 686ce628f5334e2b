package handlers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/identity"
)

// RoleReadAll is the app role that may see everybody's requests.
const RoleReadAll = "AccessRequests.Read.All"

// Identities verifies who calls.
type Identities interface {
	Verify(ctx context.Context, r *http.Request) (identity.Caller, error)
}

// Views shows requests.
type Views interface {
	View(ctx context.Context, id access.RequestID) (access.Record, []access.Leg, error)
}

// AccessAPI is the HTTP API.
type AccessAPI struct {
	requests   Requests
	views      Views
	identities Identities
	log        *slog.Logger
	routes     *http.ServeMux
}

// NewAccessAPI makes the API.
func NewAccessAPI(requests Requests, views Views, identities Identities, log *slog.Logger) (*AccessAPI, error) {
	if requests == nil || views == nil || identities == nil || log == nil {
		return nil, errors.New("handlers: the access API lacks a part")
	}
	a := &AccessAPI{requests: requests, views: views, identities: identities, log: log, routes: http.NewServeMux()}
	a.routes.HandleFunc("POST /api/access-requests", a.create)
	a.routes.HandleFunc("GET /api/access-requests/{id}", a.show)
	a.routes.HandleFunc("GET /api/schemas/access-request", a.schema)
	a.routes.HandleFunc("/api/access-requests", methods("POST"))
	a.routes.HandleFunc("/api/access-requests/{id}", methods("GET"))
	a.routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.problem(w, r, access.Errorf(access.NotFound, "route_unknown", "there is nothing at this address"))
	})
	return a, nil
}

// ServeHTTP answers one call.
func (a *AccessAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	a.routes.ServeHTTP(w, r)
}

func methods(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		write(w, http.StatusMethodNotAllowed, "application/problem+json", problem{
			Type: "about:blank", Title: http.StatusText(http.StatusMethodNotAllowed), Status: http.StatusMethodNotAllowed,
			Detail: "use " + allow, Reason: "method_not_allowed",
		})
	}
}

// create handles POST /api/access-requests. The requestor is who the verified
// token names, and nobody else.
func (a *AccessAPI) create(w http.ResponseWriter, r *http.Request) {
	caller, err := a.identities.Verify(r.Context(), r)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	req, err := httpRequest(w, r, caller)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	rec, err := a.requests.Submit(r.Context(), req)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/access-requests/"+string(rec.ID))
	write(w, http.StatusAccepted, "application/json", accessjson.View(rec, rec.Legs()))
}

func httpRequest(w http.ResponseWriter, r *http.Request, caller identity.Caller) (access.Request, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return access.Request{}, access.Errorf(access.InvalidArgument, "content_type_invalid", "send the request as application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, accessjson.MaxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return access.Request{}, access.Errorf(access.InvalidArgument, "body_too_large", "the request has more than %d bytes", accessjson.MaxBody)
	}
	if err != nil {
		return access.Request{}, access.Wrap(err, access.InvalidArgument, "body_unreadable", "the request could not be read")
	}
	m, err := accessjson.DecodeRequest(body)
	if err != nil {
		return access.Request{}, err
	}
	if m.Requestor != "" {
		return access.Request{}, access.Errorf(access.InvalidArgument, "requestor_not_allowed_here", "leave requestor out: it is who your token names")
	}
	id := m.ID
	if id == "" {
		id = r.Header.Get("Idempotency-Key")
	}
	if id == "" {
		id = rand.Text()
	}
	if len(id) > 128 {
		return access.Request{}, access.Errorf(access.InvalidArgument, "id_invalid", "an id has at most 128 characters")
	}
	return access.Request{
		ClientID: id, Requestor: access.Requestor{Name: caller.Name, ObjectID: caller.ObjectID},
		RequestedBy:   access.Sender{Channel: access.ChannelHTTP, Principal: caller.Principal(), Name: caller.Name},
		Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, BodyHash: accessjson.Hash(body),
	}, nil
}

// show handles GET /api/access-requests/{id}. With ?channel=queue the id is the
// one that its sender gave it on the queue. A request that is not the caller's
// to see looks like one that does not exist.
func (a *AccessAPI) show(w http.ResponseWriter, r *http.Request) {
	caller, err := a.identities.Verify(r.Context(), r)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	unknown := access.Errorf(access.NotFound, "request_unknown", "there is no such access request, or it is not yours to see")
	var id access.RequestID
	switch r.URL.Query().Get("channel") {
	case "":
		id, err = access.ParseRequestID(r.PathValue("id"))
	case string(access.ChannelQueue):
		id = access.NewRequestID(QueueSender(), r.PathValue("id"))
	case string(access.ChannelHTTP):
		id = access.NewRequestID(access.Sender{Channel: access.ChannelHTTP, Principal: caller.Principal()}, r.PathValue("id"))
	default:
		err = unknown
	}
	if err != nil {
		a.problem(w, r, unknown)
		return
	}
	rec, legs, err := a.views.View(r.Context(), id)
	if access.CodeOf(err) == access.NotFound || err == nil && !mayView(caller, rec) {
		err = unknown
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", accessjson.View(rec, legs))
}

// mayView says whether the caller sent the request or may see all. A name that
// a queue asserted proves nothing, so it opens nothing here.
func mayView(c identity.Caller, rec access.Record) bool {
	by := rec.Request.RequestedBy
	return c.Has(RoleReadAll) || by.Channel == access.ChannelHTTP && by.Principal == c.Principal()
}

func (a *AccessAPI) schema(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, "application/schema+json", json.RawMessage(accessjson.RequestSchema()))
}
