package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/client"
)

// The exit codes, as the help tells them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotFound    = 4
	exitNotSignedIn = 5
	exitLater       = 6
	exitTimedOut    = 7
	exitChanged     = 8
	exitInterrupted = 130 // 128 and the signal's number, as shells have it
)

// usageError is a call that was not understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitError is an outcome with its exit code.
type exitError struct {
	code int
	error
}

func (e *exitError) Unwrap() error { return e.error }

func exitf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// exitCode is the one table from errors to exit codes.
func exitCode(ctx context.Context, err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if errors.As(err, new(*usageError)) {
		return exitUsage
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if errors.Is(err, errNotSignedIn) {
		return exitNotSignedIn
	}
	e, ok := problemOf(err)
	if !ok {
		return exitFailed
	}
	switch e.Code {
	case client.InvalidArgument:
		return exitUsage
	case client.Unauthenticated:
		return exitNotSignedIn
	case client.PermissionDenied:
		// Without a document of the API's it was its front end that refused.
		if e.Reason == "role_required" || e.Raw == nil && e.Status != 0 {
			return exitNotSignedIn
		}
		return exitRefused
	case client.FailedPrecondition:
		return exitRefused
	case client.NotFound:
		return exitNotFound
	case client.ConditionFailed:
		return exitChanged
	}
	if e.Retryable() {
		return exitLater
	}
	return exitFailed
}

// problemOf gives the API's error, or one of ours in the same shape.
func problemOf(err error) (*client.Error, bool) {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e, true
	}
	e, ok := errors.AsType[*access.Error](err)
	if !ok {
		return nil, false
	}
	p := &client.Error{Code: string(e.Code), Reason: e.Reason, Detail: e.Message, RetryAfter: e.RetryAfter}
	for _, v := range e.Violations {
		p.Violations = append(p.Violations, client.Violation(v))
	}
	return p, true
}
