// Package store keeps tables and their entities in memory under the rules of
// Azure Table Storage. It knows nothing of HTTP; the clock is given.
package store

import (
	"cmp"
	"net/url"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
)

// Key names an entity within its table.
type Key struct {
	Partition, Row string
}

// Compare orders keys as queries return them: by partition, then by row.
func (k Key) Compare(other Key) int {
	return cmp.Or(edm.Ordinal(k.Partition, other.Partition), edm.Ordinal(k.Row, other.Row))
}

// Entity is one stored version of an entity. It is immutable once stored.
type Entity struct {
	Key        Key
	Properties map[string]edm.Value // custom properties; not to be changed
	Modified   edm.Ticks
}

// ETag is the version's tag: W/"datetime'…'" with the time URL-encoded.
func (e *Entity) ETag() string {
	return `W/"datetime'` + url.QueryEscape(e.Modified.String()) + `'"`
}

// Lookup finds a property, system properties included.
func (e *Entity) Lookup(name string) (edm.Value, bool) {
	switch name {
	case edm.PartitionKey:
		return edm.OfString(e.Key.Partition), true
	case edm.RowKey:
		return edm.OfString(e.Key.Row), true
	case edm.Timestamp:
		return edm.OfTicks(e.Modified), true
	}
	v, ok := e.Properties[name]
	return v, ok
}
