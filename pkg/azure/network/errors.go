package network

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// failure turns an error of the SDK into one with a code, by what Resource
// Manager says: the HTTP status, its error code, and Retry-After.
func failure(err error, doing string) error {
	if err == nil {
		return nil
	}
	res, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return access.Wrap(err, access.Unavailable, "azure_unreachable", doing+" failed: Azure could not be reached")
	}
	code, reason, message := classify(res)
	e := access.Wrap(err, code, reason, doing+": "+message)
	if res.RawResponse != nil {
		e.RetryAfter = retryAfter(res.RawResponse.Header)
	}
	return e
}

func classify(res *azcore.ResponseError) (access.Code, string, string) {
	said := "Azure answered " + strconv.Itoa(res.StatusCode) + " " + res.ErrorCode
	superseded := strings.Contains(res.ErrorCode, "Superseded") || strings.Contains(res.ErrorCode, "Canceled") ||
		strings.Contains(res.Error(), "CanceledAndSupersededDueToAnotherOperation")
	switch {
	case superseded:
		return access.Aborted, "superseded", "another operation took over; the write may or may not have landed"
	case res.StatusCode == http.StatusPreconditionFailed:
		return access.Aborted, "precondition_failed", "somebody wrote since the read"
	case res.ErrorCode == "ScopeLocked":
		return access.FailedPrecondition, "scope_locked", "a management lock forbids it"
	case res.ErrorCode == "SecurityRuleConflict":
		return access.FailedPrecondition, "priority_conflict", "a rule of this priority exists"
	case strings.HasPrefix(res.ErrorCode, "RetryableError"), res.StatusCode == http.StatusConflict:
		return access.Aborted, "operation_in_progress", said
	case res.StatusCode == http.StatusTooManyRequests:
		return access.ResourceExhausted, "throttled", "Azure asks for a pause"
	case res.StatusCode == http.StatusNotFound:
		return access.NotFound, "not_found", said
	case res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusUnauthorized:
		// Our own identity lacks something: never the requestor's fault.
		return access.Unavailable, "azure_permission", said
	case res.StatusCode == http.StatusBadRequest:
		return access.InvalidArgument, "azure_refused", said
	}
	return access.Unavailable, "azure_unavailable", said
}

// longestPause is how long Azure is waited for at most: no window of its quotas is
// longer, and no answer may put off a close for good.
const longestPause = time.Hour

// retryAfter reads how long Azure asks to wait: seconds, or milliseconds.
func retryAfter(h http.Header) time.Duration {
	// The finer one counts where both are given.
	for _, in := range []struct {
		name string
		unit time.Duration
	}{{"Retry-After-Ms", time.Millisecond}, {"Retry-After", time.Second}} {
		if n, err := strconv.ParseUint(h.Get(in.name), 10, 63); err == nil && n > 0 {
			return time.Duration(min(n, uint64(longestPause/in.unit))) * in.unit
		}
	}
	return 0
}
