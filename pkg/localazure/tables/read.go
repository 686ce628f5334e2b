package tables

import (
	"maps"
	"net/http"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
)

// queryEntities does Query Entities over a table.
func (s *Server) queryEntities(r *request) (*reply, error) {
	if err := r.grant.allow('o', "r", r.target.table); err != nil {
		return nil, err
	}
	o, err := s.queryOptions(r)
	if err != nil {
		return nil, err
	}
	q := store.Query{
		Match: func(e *store.Entity) bool { return r.grant.covers(e.Key) && o.filter.Match(e.Lookup) },
		Limit: o.top,
	}
	if partition, ok := o.filter.Pinned(edm.PartitionKey); ok {
		q.Partition = &partition
	}
	if q.From, err = continuation(r); err != nil {
		return nil, err
	}
	page, next, err := s.store.Query(r.target.table, q)
	if err != nil {
		return nil, err
	}
	items := make([][]byte, len(page))
	for i, e := range page {
		items[i] = s.entityJSON(r, o.format, e, o.sel, false)
	}
	rep := jsonReply(http.StatusOK, o.format, list(r.base, r.target.table, o.format, items))
	if next != nil {
		rep.header.Set("x-ms-continuation-NextPartitionKey", encodeToken(next.Partition))
		rep.header.Set("x-ms-continuation-NextRowKey", encodeToken(next.Row))
	}
	return rep, nil
}

// continuation is where an earlier page ended; nil if the query is a new one.
func continuation(r *request) (*store.Key, error) {
	var k store.Key
	var err error
	partition, row := r.query.Get("NextPartitionKey"), r.query.Get("NextRowKey")
	if partition == "" && row == "" {
		return nil, nil
	}
	if k.Partition, err = decodeToken(partition); err != nil {
		return nil, err
	}
	if row != "" {
		if k.Row, err = decodeToken(row); err != nil {
			return nil, err
		}
	}
	return &k, nil
}

// getEntity does Query Entities for one key.
func (s *Server) getEntity(r *request) (*reply, error) {
	if err := r.grant.allow('o', "r", r.target.table); err != nil {
		return nil, err
	}
	if !r.grant.covers(r.target.key) {
		return nil, permissionMismatch()
	}
	f, err := payloadFormat(r)
	if err != nil {
		return nil, err
	}
	e, err := s.store.Get(r.target.table, r.target.key)
	if err != nil {
		return nil, err
	}
	rep := jsonReply(http.StatusOK, f, s.entityJSON(r, f, e, selected(r.query.Get("$select")), true))
	rep.header.Set("ETag", e.ETag())
	return rep, nil
}

// entityJSON is one entity with the properties that sel names, nil for all;
// alone says that it is the whole body.
func (s *Server) entityJSON(r *request, f format, e *store.Entity, sel []string, alone bool) []byte {
	var o edm.Object
	table := r.target.table
	if alone && f != noMetadata {
		o.Str("odata.metadata", r.base+"/$metadata#"+table+"/@Element")
	}
	if f == fullMetadata {
		o.Str("odata.type", s.cfg.Account+"."+table)
		o.Str("odata.id", entityURL(r.base, table, e.Key))
	}
	if f != noMetadata {
		o.Str("odata.etag", e.ETag())
	}
	if f == fullMetadata {
		o.Str("odata.editLink", entityPath(table, e.Key))
	}
	for _, name := range append([]string{edm.PartitionKey, edm.RowKey, edm.Timestamp}, slices.Sorted(maps.Keys(e.Properties))...) {
		if sel != nil && !slices.Contains(sel, name) {
			continue
		}
		v, _ := e.Lookup(name)
		// Timestamp's type is known to every client: only full metadata names it.
		o.Property(name, v, f == fullMetadata || f == minimalMetadata && name != edm.Timestamp)
	}
	return o.Bytes()
}
