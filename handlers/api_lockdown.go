package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
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

func (a *AccessAPI) lockDown(r *http.Request, by access.Caller) (answer, error) {
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	reason, err := accessjson.DecodeLockdown(data)
	if err != nil {
		return answer{}, err
	}
	return lockdown(a.Lockdowns.On(r.Context(), by, reason))
}

func lockdown(l access.Lockdown, err error) (answer, error) {
	return answer{http.StatusOK, struct {
		Active bool      `json:"active"`
		Reason string    `json:"reason,omitempty"`
		By     string    `json:"by,omitempty"`
		At     time.Time `json:"at,omitzero"`
	}{l.Active, l.Reason, l.By, l.At}, nil}, err
}
