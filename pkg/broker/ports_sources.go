package broker

import (
	"context"

	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// Sources keeps the ticketing sources.
type Sources interface {
	// Source gives the source of the name as it is stored now. Errors: not_found;
	// internal for one that cannot be read.
	Source(ctx context.Context, name string) (ticket.Source, error)
	// ListSources gives all of them, by name. One that cannot be read is an error.
	ListSources(ctx context.Context) ([]ticket.Source, error)
	// SaveSource stores the source in place of the version ("" for none) and gives it
	// with its new one. Error condition_failed, source_changed, when another stands
	// there.
	SaveSource(ctx context.Context, s ticket.Source, version string) (ticket.Source, error)
	// DeleteSource removes that version; one already gone is no error.
	DeleteSource(ctx context.Context, name, version string) error
}

// SecretState says what an app setting that is to hold a secret is.
type SecretState string

// The states.
const (
	SecretSet        SecretState = "set"
	SecretMissing    SecretState = "missing"
	SecretUnresolved SecretState = "unresolved" // a Key Vault reference that App Service could not follow
)
