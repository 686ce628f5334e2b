package client

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The codes that errors carry; the API's own, see pkg/access.
const (
	InvalidArgument    = "invalid_argument"
	Unauthenticated    = "unauthenticated"
	PermissionDenied   = "permission_denied"
	NotFound           = "not_found"
	FailedPrecondition = "failed_precondition"
	ConditionFailed    = "condition_failed"
	Aborted            = "aborted"
	ResourceExhausted  = "resource_exhausted"
	Unavailable        = "unavailable"
	DeadlineExceeded   = "deadline_exceeded"
	Internal           = "internal"
)

// Violation is one thing that is wrong with what was asked, at one place of it.
type Violation struct {
	Path    string `json:"path,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Error is a call that failed: a problem document (RFC 9457) of the API, or
// what stands for one where there was no answer.
type Error struct {
	Status     int         // 0 where there was no answer
	Code       string      // one of the codes above
	Reason     string      // stable, such as "source_outside_policy"
	Detail     string      // for a person
	Instance   string      // where the refused request can be seen
	Violations []Violation // what to change, each at its place
	RetryAfter time.Duration
	// Repeated says that the call was tried more than once, so that an earlier
	// attempt may have done what this one was refused.
	Repeated bool
	// Raw is the problem document as it came; nil where there was none.
	Raw json.RawMessage
	// Err is the cause where there was no answer.
	Err error

	unsent bool // the call never left
}

// Error gives the code, the reason and the detail.
func (e *Error) Error() string { return e.Code + ": " + e.Reason + ": " + e.Detail }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable says whether the same call may succeed later.
func (e *Error) Retryable() bool {
	switch e.Code {
	case Aborted, ResourceExhausted, Unavailable, DeadlineExceeded:
		return true
	case Internal:
		return e.Status >= 500
	}
	return false
}

// problem reads the API's error. Of anything else only the status is told: a
// front end's page says nothing to a person at a shell.
func problem(res *http.Response, kind string, body []byte) *Error {
	e := &Error{Status: res.StatusCode, RetryAfter: retryAfter(res)}
	var doc struct {
		Detail, Instance, Code, Reason, Title string
		Violations                            []Violation
	}
	if kind == "application/problem+json" && json.Unmarshal(body, &doc) == nil {
		e.Code, e.Reason, e.Detail, e.Instance, e.Violations, e.Raw = doc.Code, doc.Reason, doc.Detail, doc.Instance, doc.Violations, body
		if e.Detail == "" {
			e.Detail = doc.Title
		}
	}
	if e.Code == "" {
		e.Code = codeOf(res.StatusCode)
	}
	if e.Reason == "" {
		e.Reason = "http_" + strconv.Itoa(res.StatusCode)
	}
	if e.Detail == "" {
		e.Detail = strings.TrimSpace("the answer was " + strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode))
	}
	return e
}

func codeOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return NotFound
	case http.StatusConflict:
		return FailedPrecondition
	case http.StatusPreconditionFailed:
		return ConditionFailed
	case http.StatusTooManyRequests:
		return ResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return Unavailable
	case http.StatusGatewayTimeout:
		return DeadlineExceeded
	}
	if status >= 400 && status < 500 {
		return InvalidArgument
	}
	return Internal
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
// 0 where there is none.
func retryAfter(res *http.Response) time.Duration {
	v := res.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	// The answer's own clock says how far ahead that is, where it tells.
	now, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}

// again says whether to call again, and after how long. An answer that names a
// time is believed; otherwise the waits double, with chance in them so that
// many callers do not come back at once.
func (c *Client) again(in call, e *Error, attempt int, waited time.Duration) (time.Duration, bool) {
	if attempt >= c.Retries || !e.Retryable() {
		return 0, false
	}
	// Without the API's word that it was not done, a conditional change may have
	// been; it is sent again only if it never left.
	if in.lossy && e.Raw == nil && !e.unsent {
		return 0, false
	}
	wait := e.RetryAfter
	if wait == 0 {
		base := 500 * time.Millisecond << attempt
		wait = base/2 + rand.N(base/2)
	}
	return wait, waited+wait <= c.Patience
}
