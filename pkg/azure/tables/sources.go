package tables

import (
	"context"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// sourcePartition holds every source: there are few.
const sourcePartition = "sources"

// Source implements broker.Sources.
func (s *Store) Source(ctx context.Context, name string) (ticket.Source, error) {
	src, _, err := s.source(ctx, name)
	return src, err
}

func (s *Store) source(ctx context.Context, name string) (ticket.Source, string, error) {
	r, err := get(ctx, s.sources, sourcePartition, name)
	if err != nil {
		return ticket.Source{}, "", err
	}
	src, err := sourceOf(r)
	return src, r.etag(), err
}

func sourceOf(r row) (ticket.Source, error) {
	var text string
	err := r.doc(&text)
	var src ticket.Source
	if err == nil {
		src, err = ticket.DecodeSource([]byte(text))
	}
	if err == nil && src.Name != r.key() {
		err = errors.New("it is of another name than it stands at")
	}
	if err == nil {
		src.Version, err = sourceVersion(src)
	}
	if err != nil {
		return ticket.Source{}, access.Wrap(err, access.Internal, "source_unreadable", "a stored source cannot be read")
	}
	return src, nil
}

// sourceVersion is the hash of a source's content.
func sourceVersion(src ticket.Source) (string, error) {
	text, err := ticket.EncodeSource(src)
	return accessjson.Hash(text)[:16], err
}

// ListSources implements broker.Sources.
func (s *Store) ListSources(ctx context.Context) ([]ticket.Source, error) {
	rows, err := query(ctx, s.sources, "PartitionKey eq "+literal(sourcePartition)) // by name, as keys are sorted
	if err != nil {
		return nil, err
	}
	var out []ticket.Source
	for _, r := range rows {
		src, err := sourceOf(r)
		if err != nil {
			return nil, err
		}
		out = append(out, src)
	}
	return out, nil
}

func changedSource(cause error) error {
	return access.Wrap(cause, access.ConditionFailed, "source_changed", "somebody else has changed the source: read it again, and apply your change to what it is now")
}

// SaveSource implements broker.Sources.
func (s *Store) SaveSource(ctx context.Context, src ticket.Source, before string) (ticket.Source, error) {
	text, err := ticket.EncodeSource(src)
	if err != nil {
		return ticket.Source{}, err
	}
	r, err := newRow(sourcePartition, src.Name, string(text)) // to the letter: the version is its hash
	if err != nil {
		return ticket.Source{}, err
	}
	r["Kind"] = string(src.Kind)
	body, err := r.bytes()
	if err != nil {
		return ticket.Source{}, err
	}
	have, etag, err := s.source(ctx, src.Name)
	if err != nil && access.CodeOf(err) != access.NotFound {
		return ticket.Source{}, err
	}
	if have.Version != before {
		return ticket.Source{}, changedSource(nil)
	}
	if src.Version, err = sourceVersion(src); err != nil {
		return ticket.Source{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if before == "" {
		_, err = s.sources.AddEntity(ctx, body, nil)
	} else {
		match := azcore.ETag(etag)
		_, err = s.sources.UpdateEntity(ctx, body, &aztables.UpdateEntityOptions{IfMatch: &match, UpdateMode: aztables.UpdateModeReplace})
	}
	err = failure(err, "storing the source")
	if c := access.CodeOf(err); c == access.Aborted || c == access.NotFound {
		err = changedSource(err)
	}
	return src, err
}

// DeleteSource implements broker.Sources.
func (s *Store) DeleteSource(ctx context.Context, name, before string) error {
	have, etag, err := s.source(ctx, name)
	if access.CodeOf(err) == access.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if have.Version != before {
		return changedSource(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	match := azcore.ETag(etag)
	_, err = s.sources.DeleteEntity(ctx, sourcePartition, name, &aztables.DeleteEntityOptions{IfMatch: &match})
	switch err = failure(err, "removing the source"); access.CodeOf(err) {
	case access.NotFound:
		return nil
	case access.Aborted:
		return changedSource(err)
	}
	return err
}
