// Package tableerr holds the error codes of Azure Table Storage.
//
// Source: REST reference, "Table Storage error codes" and "Common REST API
// error codes".
package tableerr

import (
	"errors"
	"fmt"
)

// Code is a Table Storage error code as clients see it on the wire.
type Code string

// The codes that this stand-in answers with.
const (
	AtomFormatNotSupported                  Code = "AtomFormatNotSupported"
	AuthenticationFailed                    Code = "AuthenticationFailed"
	AuthorizationPermissionMismatch         Code = "AuthorizationPermissionMismatch"
	AuthorizationProtocolMismatch           Code = "AuthorizationProtocolMismatch"
	AuthorizationResourceTypeMismatch       Code = "AuthorizationResourceTypeMismatch"
	AuthorizationServiceMismatch            Code = "AuthorizationServiceMismatch"
	AuthorizationSourceIPMismatch           Code = "AuthorizationSourceIPMismatch"
	CommandsInBatchActOnDifferentPartitions Code = "CommandsInBatchActOnDifferentPartitions"
	DuplicatePropertiesSpecified            Code = "DuplicatePropertiesSpecified"
	EntityAlreadyExists                     Code = "EntityAlreadyExists"
	EntityTooLarge                          Code = "EntityTooLarge"
	InvalidAuthenticationInfo               Code = "InvalidAuthenticationInfo"
	InvalidDuplicateRow                     Code = "InvalidDuplicateRow"
	InvalidInput                            Code = "InvalidInput"
	InvalidQueryParameterValue              Code = "InvalidQueryParameterValue"
	InvalidResourceName                     Code = "InvalidResourceName"
	InvalidURI                              Code = "InvalidUri"
	InvalidXMLDocument                      Code = "InvalidXmlDocument"
	KeyValueTooLarge                        Code = "KeyValueTooLarge"
	MethodNotAllowed                        Code = "MethodNotAllowed"
	MissingRequiredHeader                   Code = "MissingRequiredHeader"
	NoAuthenticationInformation             Code = "NoAuthenticationInformation"
	NotImplemented                          Code = "NotImplemented"
	OutOfRangeInput                         Code = "OutOfRangeInput"
	PropertiesNeedValue                     Code = "PropertiesNeedValue"
	PropertyNameInvalid                     Code = "PropertyNameInvalid"
	PropertyNameTooLong                     Code = "PropertyNameTooLong"
	PropertyValueTooLarge                   Code = "PropertyValueTooLarge"
	RequestBodyTooLarge                     Code = "RequestBodyTooLarge"
	ResourceNotFound                        Code = "ResourceNotFound"
	ServerBusy                              Code = "ServerBusy"
	TableAlreadyExists                      Code = "TableAlreadyExists"
	TableBeingDeleted                       Code = "TableBeingDeleted"
	TableNotFound                           Code = "TableNotFound"
	TooManyProperties                       Code = "TooManyProperties"
	UpdateConditionNotSatisfied             Code = "UpdateConditionNotSatisfied"
	XMethodIncorrectCount                   Code = "XMethodIncorrectCount"
	XMethodIncorrectValue                   Code = "XMethodIncorrectValue"
	XMethodNotUsingPost                     Code = "XMethodNotUsingPost"
)

// Error is a refusal that a client is told of.
type Error struct {
	Code    Code
	Message string // one sentence in English; never holds a secret
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// New makes an Error; format is as in fmt.Sprintf.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// As finds the Error in err's chain.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// BadInput is the InvalidInput that Storage gives for whatever it cannot read,
// with the detail appended for the reader of a log.
func BadInput(format string, args ...any) *Error {
	return New(InvalidInput, "One of the request inputs is not valid. (%s)", fmt.Sprintf(format, args...))
}
