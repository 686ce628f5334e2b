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
	"path"
	"regexp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// Identities verifies who calls.
type Identities interface {
	Verify(ctx context.Context, r *http.Request) (access.Caller, error)
}

// Views shows requests.
type Views interface {
	View(ctx context.Context, id access.RequestID) (access.Record, []access.Leg, error)
}

// AccessAPI is the HTTP API: POST /api/access-requests, GET
// /api/access-requests/{id}, and GET /api/schemas/access-request, the one that
// needs no token. Errors are problem documents (RFC 9457).
type AccessAPI struct {
	requests   Requests
	views      Views
	identities Identities
	log        *slog.Logger
	routes     *http.ServeMux
}

// NewAccessAPI makes the API; every part is required.
func NewAccessAPI(requests Requests, views Views, identities Identities, log *slog.Logger) (*AccessAPI, error) {
	if requests == nil || views == nil || identities == nil || log == nil {
		return nil, errors.New("handlers: the access API lacks a part")
	}
	a := &AccessAPI{requests: requests, views: views, identities: identities, log: log, routes: http.NewServeMux()}
	a.routes.HandleFunc("POST /api/access-requests", a.create)
	a.routes.HandleFunc("GET /api/access-requests/{id}", a.show)
	a.routes.HandleFunc("GET /api/schemas/access-request", a.schema)
	a.routes.HandleFunc("/api/access-requests", methods("POST"))
	a.routes.HandleFunc("/api/access-requests/{id}", methods("GET, HEAD"))
	a.routes.HandleFunc("/api/schemas/access-request", methods("GET, HEAD"))
	a.routes.HandleFunc("/", a.unknown)
	return a, nil
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
	req, mayRepeat, err := httpRequest(w, r, caller)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	rec, err := a.requests.Submit(r.Context(), req)
	if err != nil {
		// A refusal is recorded, and is to be seen at the request's own address.
		a.problemAt(w, r, err, address(access.NewRequestID(req.RequestedBy, req.ClientID)))
		return
	}
	// A repeat shows what became of the request since. What was accepted stays
	// accepted if that cannot be read now: then as it was recorded.
	legs := rec.Legs()
	if mayRepeat {
		if now, current, err := a.views.View(r.Context(), rec.ID); err == nil {
			rec, legs = now, current
		} else {
			a.log.WarnContext(r.Context(), "accepted, but cannot be read back", "request", rec.ID, "error", err)
		}
	}
	w.Header().Set("Location", address(rec.ID))
	write(w, http.StatusAccepted, "application/json", accessjson.View(rec, legs))
}

func address(id access.RequestID) string { return "/api/access-requests/" + string(id) }

// httpRequest reads the request. mayRepeat says that its sender named it, so
// that it may have come before.
func httpRequest(w http.ResponseWriter, r *http.Request, caller access.Caller) (req access.Request, mayRepeat bool, err error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return access.Request{}, false, access.Errorf(access.InvalidArgument, "content_type_invalid", "send the request as application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, accessjson.MaxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return access.Request{}, false, access.Errorf(access.InvalidArgument, "body_too_large", "the request has more than %d bytes", accessjson.MaxBody)
	}
	if err != nil {
		return access.Request{}, false, access.Wrap(err, access.InvalidArgument, "body_unreadable", "the request could not be read")
	}
	m, err := accessjson.DecodeRequest(body)
	if err != nil {
		return access.Request{}, false, err
	}
	if m.Requestor != "" {
		return access.Request{}, false, access.Errorf(access.InvalidArgument, "requestor_not_allowed_here", "leave requestor out: it is who your token names")
	}
	id, mayRepeat, err := clientID(m.ID, r.Header.Values("Idempotency-Key"))
	if err != nil {
		return access.Request{}, false, err
	}
	return access.Request{
		ClientID: id, Requestor: access.Requestor{Name: caller.Name, ObjectID: caller.ObjectID},
		RequestedBy:   access.Sender{Channel: access.ChannelHTTP, Principal: caller.Principal(), Name: caller.Name},
		Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, BodyHash: accessjson.Hash(body),
	}, mayRepeat, nil
}

// idempotencyKey is what the id in a body may be, too.
var idempotencyKey = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)

// clientID is the id of the body, or else the key in the header, or else one
// that makes every call a request of its own.
func clientID(body string, keys []string) (id string, named bool, err error) {
	switch {
	case body != "":
		return body, true, nil
	case len(keys) == 0:
		return rand.Text(), false, nil
	case len(keys) > 1 || !idempotencyKey.MatchString(keys[0]):
		return "", false, access.Errorf(access.InvalidArgument, "id_invalid", "an Idempotency-Key is one of 1 to 128 printable ASCII characters without spaces")
	}
	return keys[0], true, nil
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
func mayView(c access.Caller, rec access.Record) bool {
	by := rec.Request.RequestedBy
	return c.Has(access.RoleReadAll) || by.Channel == access.ChannelHTTP && by.Principal == c.Principal()
}

func (a *AccessAPI) schema(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, "application/schema+json", json.RawMessage(accessjson.RequestSchema()))
}
