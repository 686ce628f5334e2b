// Package client calls the HTTP API of Portcullis. It needs the standard
// library alone, so that it can be used where the rest of the module is not.
//
// What may be tried again is tried again, within bounds; what is asked for by
// POST carries an Idempotency-Key, so that a second try is the same request.
// Redirects are not followed and nothing is sent anywhere but to the address
// that was given: a token goes nowhere else.
package client
