package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// Lockdowns locks down and lifts it: a broker.LockdownDesk.
type Lockdowns interface {
	Get(ctx context.Context, by access.Caller) (access.Lockdown, error)
	On(ctx context.Context, by access.Caller, reason string) (access.Lockdown, error)
	Off(ctx context.Context, by access.Caller) (access.Lockdown, error)
}

func (a *AccessAPI) lockdownRoutes() {
	const at = "/api/lockdown"
	a.on("GET "+at, func(r *http.Request, by access.Caller) (answer, error) {
		return lockdown(a.Lockdowns.Get(r.Context(), by))
	})
	a.on("PUT "+at, a.lockDown)
	a.on("DELETE "+at, func(r *http.Request, by access.Caller) (answer, error) {
		return lockdown(a.Lockdowns.Off(r.Context(), by))
	})
}

// maxReason bounds a reason, in bytes.
const maxReason = 1024

func (a *AccessAPI) lockDown(r *http.Request, by access.Caller) (answer, error) {
	var doc struct {
		Reason string `json:"reason"`
	}
	if err := strictBody(r, &doc); err != nil {
		return answer{}, err
	}
	if len(doc.Reason) > maxReason {
		return answer{}, access.Errorf(access.InvalidArgument, "text_too_long", "the reason has more than %d bytes", maxReason)
	}
	return lockdown(a.Lockdowns.On(r.Context(), by, doc.Reason))
}

// strictBody decodes a small document; a field that is not known, or known
// twice, is refused rather than passed over.
func strictBody(r *http.Request, into any) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into, json.RejectUnknownMembers(true)); err != nil {
		return access.Wrap(err, access.InvalidArgument, "body_invalid", "the body is not JSON of the fields that this call takes; see /api/openapi.json")
	}
	return nil
}

func lockdown(l access.Lockdown, err error) (answer, error) {
	return answer{http.StatusOK, struct {
		Active bool      `json:"active"`
		Reason string    `json:"reason,omitempty"`
		By     string    `json:"by,omitempty"`
		At     time.Time `json:"at,omitzero"`
	}{l.Active, l.Reason, l.By, l.At}, nil}, err
}
