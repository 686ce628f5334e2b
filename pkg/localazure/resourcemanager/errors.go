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
	e := badRequest("InvalidRequestFormat", "Cannot parse the request.")
	e.details = []errorDetail{{Code: "InvalidJson", Message: fmt.Sprintf(format, args...)}}
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
	h.Set("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
	if d < time.Second {
		h.Set("Retry-After-Ms", strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10))
	}
}

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
