package servicebus

import (
	"errors"
	"fmt"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// Error conditions: AMQP 1.0 part 2 section 2.8.15 onwards, and Service Bus's
// own (documentation, "AMQP errors"; azservicebus, internal/errors.go).
const (
	condInternal      = "amqp:internal-error"
	condNotFound      = "amqp:not-found"
	condUnauthorized  = "amqp:unauthorized-access"
	condDecode        = "amqp:decode-error"
	condNotAllowed    = "amqp:not-allowed"
	condInvalidField  = "amqp:invalid-field"
	condNotSupported  = "amqp:not-implemented"
	condForced        = "amqp:connection:forced"
	condDetachForced  = "amqp:link:detach-forced"
	condTooLarge      = "amqp:link:message-size-exceeded"
	condTimeout       = "com.microsoft:timeout"
	condBusy          = "com.microsoft:server-busy"
	condLockLost      = "com.microsoft:message-lock-lost"
	condSessionLost   = "com.microsoft:session-lock-lost"
	condSessionLocked = "com.microsoft:session-cannot-be-locked"
	condArgument      = "com.microsoft:argument-error"
	condMessageGone   = "com.microsoft:message-not-found"
)

// notFound is worded as the service words it: the SDK for JavaScript looks for
// the text.
func notFound(path string) *wire.Error {
	return &wire.Error{Condition: condNotFound, Description: fmt.Sprintf("The messaging entity '%s' could not be found.", path)}
}

// refusal tells what an error of a queue is on the wire.
func refusal(err error) *wire.Error {
	switch {
	case errors.Is(err, queue.ErrLockLost):
		return &wire.Error{Condition: condLockLost, Description: "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue, or was received by a different receiver instance."}
	case errors.Is(err, queue.ErrSessionLockLost):
		return &wire.Error{Condition: condSessionLost, Description: "The session lock has expired on the MessageSession. Accept a new MessageSession."}
	case errors.Is(err, queue.ErrNotFound):
		return &wire.Error{Condition: condMessageGone, Description: "Failed to lock one or more specified messages. The message does not exist."}
	case errors.Is(err, queue.ErrSessionRequired):
		return &wire.Error{Condition: condNotAllowed, Description: "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have session support enabled can only receive messages that have the SessionId set to a valid value."}
	}
	return &wire.Error{Condition: condInternal, Description: err.Error()}
}
