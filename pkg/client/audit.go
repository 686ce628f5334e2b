package client

import (
	"context"
	"strconv"
	"time"
)

// AuditFilter picks sealed events; "" and zero are any.
type AuditFilter struct {
	From, To                                        time.Time // of the sealing; To is not included
	Kind, Actor, Requestor, Subject, VirtualMachine string
}

// AuditEvent is a sealed event. Missing says that its subject does not have it
// any more: then there is what the journal says of it alone.
type AuditEvent struct {
	Subject string            `json:"subject"`
	Kind    string            `json:"kind"`
	At      time.Time         `json:"at"`
	Actor   string            `json:"actor"`
	Key     string            `json:"key"`
	Detail  map[string]string `json:"detail"`
	Request *AuditRequest     `json:"request"`
	Missing bool              `json:"missing"`
	Seal    Seal              `json:"seal"`
}

// AuditRequest says by whose asking, and why, an event came about.
type AuditRequest struct {
	Requestor     string `json:"requestor"`
	RequestedBy   string `json:"requestedBy"`
	Channel       string `json:"channel"`
	Justification string `json:"justification"`
	Ticket        string `json:"ticket"`
	Policy        string `json:"policy"`
	Vouched       string `json:"vouched"`
}

// Seal is a link of a subject's chain.
type Seal struct {
	Subject string    `json:"subject"`
	Seq     int       `json:"seq"`
	Event   string    `json:"event"`
	Digest  string    `json:"digest"`
	Prev    string    `json:"prev"`
	Hash    string    `json:"hash"`
	At      time.Time `json:"at"`
}

// AuditLink is a seal with its event, or one of the two where the other is not
// there.
type AuditLink struct {
	Seal  *Seal `json:"seal"`
	Event *struct {
		Subject string            `json:"subject"`
		Kind    string            `json:"kind"`
		At      time.Time         `json:"at"`
		Actor   string            `json:"actor"`
		Key     string            `json:"key"`
		Detail  map[string]string `json:"detail"`
	} `json:"event"`
}

// AuditEvents reads a page of events in the order of their sealing, at most size
// of them (1 to 200), and gives the token of the next page; "" at the end. A page
// may be empty before that.
func (c *Client) AuditEvents(ctx context.Context, f AuditFilter, size int, token string) (List[AuditEvent], string, error) {
	q := query("from", nanos(f.From), "to", nanos(f.To), "kind", f.Kind, "actor", f.Actor, "requestor", f.Requestor, "subject", f.Subject,
		"virtualMachine", f.VirtualMachine, "pageSize", strconv.Itoa(size), "continuationToken", token)
	page, next, err := pageOf[AuditEvent](ctx, c, "/api/audit/events", q)
	if err != nil || next == nil {
		return page, "", err
	}
	after := next.Get("continuationToken")
	if after == "" || after == token {
		return page, "", &Error{Code: Internal, Reason: "answer_unreadable", Detail: "the list does not say how it goes on"}
	}
	return page, after, nil
}

// AuditChain reads a subject's whole chain: its seals by their numbers, then the
// events without one.
func (c *Client) AuditChain(ctx context.Context, subject string) (List[AuditLink], error) {
	return list[AuditLink](ctx, c, "/api/audit/chains", query("subject", subject), 0)
}

// nanos is a time to the nanosecond: seals lie close together.
func nanos(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
