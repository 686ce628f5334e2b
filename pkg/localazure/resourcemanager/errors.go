package resourcemanager

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// armError is an error as Resource Manager and the network resource provider
// answer it: {"error":{"code","message","details":[…]}}.
type armError struct {
	status  int
	code    string
	message string
	details []errorDetail
	header  http.Header
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *armError) Error() string { return e.code + ": " + e.message }

// body is the wire form. The network resource provider sends an empty details
// array where it has none.
func (e *armError) body() any {
	details := e.details
	if details == nil {
		details = []errorDetail{}
	}
	return map[string]any{"error": map[string]any{"code": e.code, "message": e.message, "details": details}}
}

func newError(status int, code, format string, args ...any) *armError {
	return &armError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func badRequest(code, format string, args ...any) *armError {
	return newError(http.StatusBadRequest, code, format, args...)
}

// unparsable is the network resource provider's answer to a body it cannot read
// into its types.
func unparsable(format string, args ...any) *armError {
	return invalidFormat("InvalidJson", format, args...)
}

// duplicate: Azure/migAz#218.
func duplicate(parentID, name string) *armError {
	return invalidFormat("DuplicateResourceName", "Resource %s has two child resources with the same name (%s).", parentID, name)
}

func invalidFormat(code, format string, args ...any) *armError {
	e := badRequest("InvalidRequestFormat", "Cannot parse the request.")
	e.details = []errorDetail{{Code: code, Message: fmt.Sprintf(format, args...)}}
	return e
}

func (e *armError) retryAfter(d time.Duration) *armError {
	if e.header == nil {
		e.header = http.Header{}
	}
	setRetryAfter(e.header, max(d, time.Millisecond))
	return e
}

// setRetryAfter says when to come back; a duration that is not positive says
// nothing. Resource Manager speaks in whole seconds. A wait under a second,
// which only a stand-in set to be quick has, is also said in milliseconds, in
// the header that azcore reads before the other one.
func setRetryAfter(h http.Header, d time.Duration) {
	if d <= 0 {
		return
	}
	h.Set("Retry-After", strconv.FormatInt(wholeSeconds(d), 10))
	if d < time.Second {
		h.Set("Retry-After-Ms", strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10))
	}
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func resourceNotFound(p resourcePath) *armError {
	last := ""
	if n := len(p.Names); n > 0 {
		last = p.Names[0]
		for i := 1; i < n; i++ {
			last += "/" + p.Types[i] + "/" + p.Names[i]
		}
	}
	return newError(http.StatusNotFound, "ResourceNotFound",
		"The Resource '%s/%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
		p.Provider, p.Types[0], last, p.Group)
}

// childNotFound is how the network resource provider, rather than Resource
// Manager, misses a child of a resource that exists.
func childNotFound(id string) *armError {
	return newError(http.StatusNotFound, "NotFound", "Resource %s not found.", id)
}

// unauthorized is Resource Manager's answer to a caller without the role.
func unauthorized(req request) *armError {
	return newError(http.StatusForbidden, "AuthorizationFailed",
		"The client does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", req.action(), req.path.id())
}

// scopeLocked is Resource Manager's answer to a write that a lock forbids.
func scopeLocked(req request, scope string) *armError {
	return newError(http.StatusConflict, "ScopeLocked",
		"The scope '%s' cannot perform %s operation because following scope(s) are locked: '%s'. Please remove the lock and try again.", req.path.id(), req.verb(), scope)
}

// preconditionFailed is the network resource provider's answer to an ETag that is
// no longer the resource's (kubernetes-sigs/cloud-provider-azure#9729).
func preconditionFailed(req request, header, given, current string) *armError {
	err := newError(http.StatusPreconditionFailed, "PreconditionFailed", "Precondition failed.")
	err.details = []errorDetail{{
		Code: "PreconditionFailedEtagMismatch",
		Message: fmt.Sprintf("Etag provided in %s header %s does not match etag %s of resource %s in NRP data store.",
			header, given, current, req.path.id()),
	}}
	return err
}
