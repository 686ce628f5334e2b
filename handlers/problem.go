package handlers

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// problem is an error as HTTP shows it (RFC 9457), with our code and reason.
type problem struct {
	Type       string             `json:"type"`
	Title      string             `json:"title"`
	Status     int                `json:"status"`
	Detail     string             `json:"detail,omitempty"`
	Instance   string             `json:"instance,omitempty"`
	Code       access.Code        `json:"code,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Violations []access.Violation `json:"violations,omitempty"`
}

// located is an error whose occurrence has an address of its own.
type located struct {
	error
	at string
}

func (l located) Unwrap() error { return l.error }

// problem answers an error.
func (a *AccessAPI) problem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemFor(a.Log, w, r, err)
	if l, ok := errors.AsType[located](err); ok {
		p.Instance = l.at
	}
	if e := access.AsError(err); p.Status == http.StatusUnauthorized {
		a.Refusals.note(r.Context(), e.Reason)
		challenge := "Bearer"
		if e.Reason != "token_missing" {
			challenge += ` error="invalid_token"` // RFC 6750, section 3.1
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	write(w, p.Status, "application/problem+json", p)
}

// problemFor is the document of an error. Of one that is not the caller's to mend,
// only its code and reason are shown; the cause goes to the log.
func problemFor(log *slog.Logger, w http.ResponseWriter, r *http.Request, err error) problem {
	e := access.AsError(err)
	status := e.Code.HTTPStatus()
	p := problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message, Instance: r.URL.Path,
		Code: e.Code, Reason: e.Reason, Violations: e.Violations,
	}
	if e.Code.Retryable() {
		log.ErrorContext(r.Context(), "failed", "path", r.URL.Path, "error", err)
		p.Detail, p.Violations = "the request could not be handled now; try again", nil
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
	}
	return p
}

func write(w http.ResponseWriter, status int, contentType string, body any) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(body); err != nil {
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString("{}")
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // the caller is gone: nobody is left to tell
}
