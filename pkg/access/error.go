package access

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code classifies a failure. There are few of them, they never change their
// meaning, and one table (see [Code.HTTPStatus] and [Code.Retryable]) decides
// what each does to an HTTP answer and to a queue message.
type Code string

// The codes. All but the retryable ones are final: the same input will fail
// again, and its sender must change something.
const (
	InvalidArgument    Code = "invalid_argument"
	Unauthenticated    Code = "unauthenticated"
	PermissionDenied   Code = "permission_denied"
	NotFound           Code = "not_found"
	AlreadyExists      Code = "already_exists"
	FailedPrecondition Code = "failed_precondition"
	ConditionRequired  Code = "condition_required" // the change does not say of which version
	ConditionFailed    Code = "condition_failed"   // it is of a version that no longer stands
	Unimplemented      Code = "unimplemented"
	Aborted            Code = "aborted"
	ResourceExhausted  Code = "resource_exhausted"
	Unavailable        Code = "unavailable"
	DeadlineExceeded   Code = "deadline_exceeded"
	Internal           Code = "internal"
)

// fates is the one table of outcomes: the HTTP status of each code, and
// whether trying the same thing again can help.
var fates = map[Code]struct {
	status int
	retry  bool
}{
	InvalidArgument:    {http.StatusBadRequest, false},
	Unauthenticated:    {http.StatusUnauthorized, false},
	PermissionDenied:   {http.StatusForbidden, false},
	NotFound:           {http.StatusNotFound, false},
	AlreadyExists:      {http.StatusConflict, false},
	FailedPrecondition: {http.StatusConflict, false},
	ConditionRequired:  {http.StatusPreconditionRequired, false},
	ConditionFailed:    {http.StatusPreconditionFailed, false},
	Unimplemented:      {http.StatusNotImplemented, false},
	Aborted:            {http.StatusConflict, true},
	ResourceExhausted:  {http.StatusTooManyRequests, true},
	Unavailable:        {http.StatusServiceUnavailable, true},
	DeadlineExceeded:   {http.StatusGatewayTimeout, true},
	Internal:           {http.StatusInternalServerError, true},
}

// HTTPStatus is the status an HTTP answer carries for the code; an unknown
// code is a 500.
func (c Code) HTTPStatus() int {
	if f, ok := fates[c]; ok {
		return f.status
	}
	return http.StatusInternalServerError
}

// Retryable says whether the same input may succeed later. An unknown code is
// retryable, so that nothing is given up by mistake.
func (c Code) Retryable() bool {
	f, ok := fates[c]
	return !ok || f.retry
}

// Violation is one thing that is wrong with a request, at one place of it.
type Violation struct {
	// Path names the place in the request message, such as
	// "virtualMachines[0].ports[1].duration"; empty for the whole request.
	Path string `json:"path,omitempty"`
	// Reason is stable and machine-readable, such as "source_outside_policy".
	Reason string `json:"reason"`
	// Message tells a person what to change.
	Message string `json:"message"`
}

// Error is a failure with a code, a stable reason and a message for whoever
// must act on it. Err, the cause, is internal: it may go to a log and must not
// go to a caller.
type Error struct {
	Code       Code
	Reason     string
	Message    string
	Violations []Violation
	// RetryAfter is how long to wait before trying again; zero when unknown.
	RetryAfter time.Duration
	Err        error
}

// Error renders the error for a log.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %s", e.Code, e.Reason, e.Message)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error whose message is formatted; a %w verb sets its cause
// as well as its text, so wrap with it only what a caller may read.
func Errorf(code Code, reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Reason: reason, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Wrap makes an Error whose message is safe to show and whose cause is kept
// apart for the log.
func Wrap(cause error, code Code, reason, message string) *Error {
	return &Error{Code: code, Reason: reason, Message: message, Err: cause}
}

// AsError gives the first Error in err's chain. An error that is not one of
// ours is Internal, with a message that reveals nothing; nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Wrap(err, Internal, "internal", "an internal error occurred")
}

// CodeOf gives err's code: "" for nil, Internal for an error not of ours.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}

// ReasonOf gives err's stable reason: "" for nil.
func ReasonOf(err error) string {
	if err == nil {
		return ""
	}
	return AsError(err).Reason
}
