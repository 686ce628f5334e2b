package handlers

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// Audits reads the sealed events: a broker.AuditDesk.
type Audits interface {
	Events(ctx context.Context, by access.Caller, f broker.AuditFilter) (broker.AuditPage, error)
	Chain(ctx context.Context, by access.Caller, subject, token string) (broker.ChainPage, error)
}

func (a *AccessAPI) auditRoutes() {
	a.on("GET /api/audit/events", a.auditEvents)
	a.on("GET /api/audit/chains", a.auditChain)
}

// auditView is a sealed event. Kind, at and actor are the journal's; missing says
// that the chain does not have the event.
type auditView struct {
	Subject string            `json:"subject"`
	Kind    access.EventKind  `json:"kind"`
	At      time.Time         `json:"at"`
	Actor   string            `json:"actor,omitempty"`
	Key     string            `json:"key,omitempty"`
	Detail  map[string]string `json:"detail,omitempty"`
	Request *askedView        `json:"request,omitempty"`
	Missing bool              `json:"missing,omitempty"`
	Seal    audit.Seal        `json:"seal"`
}

// askedView says where an event comes from.
type askedView struct {
	Requestor     string `json:"requestor,omitempty"`
	RequestedBy   string `json:"requestedBy,omitempty"`
	Channel       string `json:"channel,omitempty"`
	Justification string `json:"justification,omitempty"`
	Ticket        string `json:"ticket,omitempty"`
	Policy        string `json:"policy,omitempty"`
	Vouched       string `json:"vouched,omitempty"`
}

// auditEvents handles GET /api/audit/events.
func (a *AccessAPI) auditEvents(r *http.Request, by access.Caller) (answer, error) {
	query := r.URL.Query()
	f := broker.AuditFilter{Actor: query.Get("actor"), Requestor: query.Get("requestor"), Subject: query.Get("subject"), Token: query.Get("continuationToken")}
	var err error
	if f.PageSize, err = pageSize(query); err != nil {
		return answer{}, err
	}
	if f.From, f.To, err = timeRange(query); err != nil {
		return answer{}, err
	}
	if kind := query.Get("kind"); kind != "" {
		if f.Kind, err = access.ParseEventKind(kind); err != nil {
			return answer{}, err
		}
	}
	if vm := query.Get("virtualMachine"); vm != "" {
		if f.VM, err = access.ParseVM(vm); err != nil {
			return answer{}, err
		}
	}
	p, err := a.Audits.Events(r.Context(), by, f)
	if err != nil {
		return answer{}, err
	}
	items := []auditView{}
	for _, row := range p.Rows {
		v := auditView{Subject: row.Seal.Subject, Kind: row.Kind, At: row.At.UTC(), Actor: row.Actor, Missing: row.Event == nil, Seal: row.Seal}
		if e := row.Event; e != nil {
			v.Key, v.Detail = e.Key, e.Detail
		}
		if q := row.Request; q != nil {
			v.Request = &askedView{q.Requestor, q.RequestedBy, q.Channel, q.Justification, q.Ticket, q.Policy, q.Vouched}
		}
		items = append(items, v)
	}
	return page(r, items, p.Next), nil
}

// auditChain handles GET /api/audit/chains.
func (a *AccessAPI) auditChain(r *http.Request, by access.Caller) (answer, error) {
	query := r.URL.Query()
	p, err := a.Audits.Chain(r.Context(), by, query.Get("subject"), query.Get("continuationToken"))
	if err != nil {
		return answer{}, err
	}
	type link struct {
		Seal  *audit.Seal   `json:"seal,omitempty"`
		Event *access.Event `json:"event,omitempty"`
	}
	items := []link{}
	for _, s := range p.Seals {
		l := link{Seal: &s}
		if e, ok := p.Events[s.Event]; ok {
			l.Event = &e
		}
		items = append(items, l)
	}
	for _, e := range p.Unsealed {
		items = append(items, link{Event: &e})
	}
	return page(r, items, p.Next), nil
}

// timeRange reads from and to.
func timeRange(query url.Values) (from, to time.Time, err error) {
	for name, into := range map[string]*time.Time{"from": &from, "to": &to} {
		if text := query.Get(name); text != "" {
			if *into, err = time.Parse(time.RFC3339, text); err != nil {
				return from, to, access.Errorf(access.InvalidArgument, "time_invalid", "%s is a time such as 2026-11-24T10:00:00Z", name)
			}
		}
	}
	return from, to, nil
}
