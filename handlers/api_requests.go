package handlers

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// Views shows requests.
type Views interface {
	View(ctx context.Context, id access.RequestID) (access.Record, []access.Leg, error)
}

func (a *AccessAPI) requestRoutes() {
	a.on("POST /api/access-requests", a.create)
	a.on("GET /api/access-requests/{id}", a.show)
}

// create handles POST /api/access-requests. The requestor is who the verified
// token names, and nobody else.
func (a *AccessAPI) create(r *http.Request, by access.Caller) (answer, error) {
	req, mayRepeat, err := httpRequest(r, by)
	if err != nil {
		return answer{}, err
	}
	rec, err := a.Requests.Submit(r.Context(), req)
	if err != nil {
		// A refusal is recorded, and is to be seen at the request's own address.
		return answer{}, located{err, address(access.NewRequestID(req.RequestedBy, req.ClientID))}
	}
	// A repeat shows what became of the request since. What was accepted stays
	// accepted if that cannot be read now: then as it was recorded.
	legs := rec.Legs()
	if mayRepeat {
		if now, current, err := a.Views.View(r.Context(), rec.ID); err == nil {
			rec, legs = now, current
		} else {
			a.Log.WarnContext(r.Context(), "accepted, but cannot be read back", "request", rec.ID, "error", err)
		}
	}
	return answer{http.StatusAccepted, accessjson.View(rec, legs), map[string]string{"Location": address(rec.ID)}}, nil
}

func address(id access.RequestID) string { return "/api/access-requests/" + string(id) }

// httpRequest reads the request. mayRepeat says that its sender named it, so
// that it may have come before.
func httpRequest(r *http.Request, by access.Caller) (req access.Request, mayRepeat bool, err error) {
	data, err := body(r)
	if err != nil {
		return access.Request{}, false, err
	}
	m, err := accessjson.DecodeRequest(data)
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
		ClientID: id, Requestor: by.Requestor(), RequestedBy: by.Sender(),
		Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, BodyHash: accessjson.Hash(data),
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
func (a *AccessAPI) show(r *http.Request, by access.Caller) (answer, error) {
	unknown := access.Errorf(access.NotFound, "request_unknown", "there is no such access request, or it is not yours to see")
	var id access.RequestID
	var err error
	switch r.URL.Query().Get("channel") {
	case "":
		id, err = access.ParseRequestID(r.PathValue("id"))
	case string(access.ChannelQueue):
		id = access.NewRequestID(QueueSender(), r.PathValue("id"))
	case string(access.ChannelHTTP):
		id = access.NewRequestID(by.Sender(), r.PathValue("id"))
	default:
		err = unknown
	}
	if err != nil {
		return answer{}, unknown
	}
	rec, legs, err := a.Views.View(r.Context(), id)
	if access.CodeOf(err) == access.NotFound || err == nil && !mayView(by, rec) {
		err = unknown
	}
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, accessjson.View(rec, legs), nil}, nil
}

// mayView says whether the caller sent the request or may see all. A name that
// a queue asserted proves nothing, so it opens nothing here.
func mayView(c access.Caller, rec access.Record) bool {
	by := rec.Request.RequestedBy
	return c.Has(access.RoleReadAll) || by.Channel == access.ChannelHTTP && by.Principal == c.Principal()
}
