package handlers

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// Desk takes access requests and shows what becomes of them: a broker.Desk.
type Desk interface {
	Request(ctx context.Context, by access.Caller, ask broker.Ask) (access.Situation, error)
	View(ctx context.Context, by access.Caller, id access.RequestID) (access.Situation, error)
	List(ctx context.Context, by access.Caller, f broker.Filter) (broker.Page, error)
	EventsOf(ctx context.Context, by access.Caller, id access.RequestID) ([]access.Event, error)
}

// Changes changes what was granted: a broker.Desk.
type Changes interface {
	Extend(ctx context.Context, by access.Caller, id access.RequestID, e broker.Extension) (access.Situation, error)
	Revoke(ctx context.Context, by access.Caller, id access.RequestID, g broker.GiveBack) (access.Situation, error)
}

func (a *AccessAPI) requestRoutes() {
	const at = "/api/access-requests"
	a.on("POST "+at, a.create)
	a.on("GET "+at, a.list)
	a.on("GET "+at+"/{id}", a.show)
	a.on("GET "+at+"/{id}/events", a.events)
	a.on("POST "+at+"/{id}/extend", a.extend)
	a.on("POST "+at+"/{id}/revoke", a.revoke)
}

func address(id access.RequestID) string { return "/api/access-requests/" + string(id) }

// accepted answers a request that goes its way from here.
func accepted(s access.Situation) answer {
	return answer{http.StatusAccepted, accessjson.View(s), map[string]string{"Location": address(s.Record.ID)}}
}

// create handles POST /api/access-requests. The requestor is who the verified
// token names, unless the caller may ask for others. A port without a source is
// asked for from the caller's own address.
func (a *AccessAPI) create(r *http.Request, by access.Caller) (answer, error) {
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	m, err := accessjson.DecodeCallersRequest(data)
	if err != nil {
		return answer{}, err
	}
	from, _ := clientAddress(r)
	if err := m.FillSources(from); err != nil {
		return answer{}, err
	}
	id, err := clientID(m.ID, r.Header.Values("Idempotency-Key"))
	if err != nil {
		return answer{}, err
	}
	s, err := a.Desk.Request(r.Context(), by, broker.Ask{
		ClientID: id, Requestor: m.Requestor, Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, StartTime: m.StartTime,
		BodyHash: accessjson.Hash(data),
	})
	if access.ReasonOf(err) == "role_required" {
		return answer{}, err // it never became a request
	}
	if err != nil {
		// A refusal is recorded, and is to be seen at the request's own address.
		return answer{}, located{err, address(access.NewRequestID(by.Sender(), id))}
	}
	return accepted(s), nil
}

// clientID is the id of the body, or else the key in the header, or else one
// that makes every call a request of its own.
func clientID(body string, keys []string) (string, error) {
	switch {
	case body != "":
		return body, nil
	case len(keys) == 0:
		return rand.Text(), nil
	case len(keys) > 1 || !accessjson.ValidID(keys[0]):
		return "", access.Errorf(access.InvalidArgument, "id_invalid", "an Idempotency-Key is one of 1 to 128 printable ASCII characters without spaces")
	}
	return keys[0], nil
}

// requestID reads which request an address names. With ?channel=queue the id is
// the one that its sender gave it on the queue. What is no id is answered as one
// that is not there.
func requestID(r *http.Request, by access.Caller) (access.RequestID, error) {
	unknown := access.Errorf(access.NotFound, "request_unknown", "there is no such access request, or it is not yours to see")
	switch r.URL.Query().Get("channel") {
	case "":
		id, err := access.ParseRequestID(r.PathValue("id"))
		if err != nil {
			return "", unknown
		}
		return id, nil
	case string(access.ChannelQueue):
		return access.NewRequestID(QueueSender(), r.PathValue("id")), nil
	case string(access.ChannelHTTP):
		return access.NewRequestID(by.Sender(), r.PathValue("id")), nil
	}
	return "", unknown
}

// show handles GET /api/access-requests/{id}.
func (a *AccessAPI) show(r *http.Request, by access.Caller) (answer, error) {
	id, err := requestID(r, by)
	if err != nil {
		return answer{}, err
	}
	s, err := a.Desk.View(r.Context(), by, id)
	if err != nil {
		return answer{}, err
	}
	view := accessjson.View(s)
	if by.Has(access.RoleReadAll) {
		view.Cause = s.Record.Cause
	}
	return answer{http.StatusOK, view, nil}, nil
}

// list handles GET /api/access-requests.
func (a *AccessAPI) list(r *http.Request, by access.Caller) (answer, error) {
	query := r.URL.Query()
	f := broker.Filter{Requestor: query.Get("requestor"), Status: query.Get("status"), Token: query.Get("continuationToken")}
	var err error
	if f.PageSize, err = pageSize(query); err != nil {
		return answer{}, err
	}
	if vm := query.Get("virtualMachine"); vm != "" {
		if f.VM, err = access.ParseVM(vm); err != nil {
			return answer{}, err
		}
	}
	if f.From, f.To, err = timeRange(query); err != nil {
		return answer{}, err
	}
	p, err := a.Desk.List(r.Context(), by, f)
	if err != nil {
		return answer{}, err
	}
	items := []accessjson.RequestView{}
	for _, s := range p.Items {
		items = append(items, accessjson.View(s))
	}
	return page(r, items, p.Next), nil
}

// events handles GET /api/access-requests/{id}/events.
func (a *AccessAPI) events(r *http.Request, by access.Caller) (answer, error) {
	id, err := requestID(r, by)
	if err != nil {
		return answer{}, err
	}
	list, err := a.Desk.EventsOf(r.Context(), by, id)
	if err != nil {
		return answer{}, err
	}
	type event struct {
		Kind   access.EventKind  `json:"kind"`
		At     time.Time         `json:"at"`
		Actor  string            `json:"actor,omitempty"`
		Detail map[string]string `json:"detail,omitempty"`
	}
	items := []event{}
	for _, e := range list {
		items = append(items, event{e.Kind, e.At.UTC(), e.Actor, e.Detail})
	}
	return page(r, items, ""), nil
}

// extend handles POST /api/access-requests/{id}/extend.
func (a *AccessAPI) extend(r *http.Request, by access.Caller) (answer, error) {
	id, err := requestID(r, by)
	if err != nil {
		return answer{}, err
	}
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	m, err := accessjson.DecodeExtend(data)
	if err != nil {
		return answer{}, err
	}
	key, err := clientID("", r.Header.Values("Idempotency-Key"))
	if err != nil {
		return answer{}, err
	}
	s, err := a.Changes.Extend(r.Context(), by, id, broker.Extension{
		ClientID: key, Duration: m.Duration, EndTime: m.EndTime, Justification: m.Justification, BodyHash: accessjson.Hash(data),
	})
	if err != nil {
		return answer{}, err
	}
	return accepted(s), nil
}

// revoke handles POST /api/access-requests/{id}/revoke.
func (a *AccessAPI) revoke(r *http.Request, by access.Caller) (answer, error) {
	id, err := requestID(r, by)
	if err != nil {
		return answer{}, err
	}
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	m, err := accessjson.DecodeRevoke(data)
	if err != nil {
		return answer{}, err
	}
	s, err := a.Changes.Revoke(r.Context(), by, id, broker.GiveBack{Reason: m.Reason, Grants: m.Grants})
	if err != nil {
		return answer{}, err
	}
	return accepted(s), nil
}
