package tables

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// doTable does Query Entities and Insert Entity.
func (s *Server) doTable(r *request) (*reply, error) {
	if r.method == http.MethodGet {
		return s.queryEntities(r)
	}
	return s.writeOne(r)
}

// doEntity does everything that names an entity in the URL.
func (s *Server) doEntity(r *request) (*reply, error) {
	if r.method == http.MethodGet {
		return s.getEntity(r)
	}
	return s.writeOne(r)
}

func (s *Server) writeOne(r *request) (*reply, error) {
	op, err := decodeOp(r)
	if err != nil {
		return nil, err
	}
	results, err := s.store.Apply([]store.Op{op})
	if err != nil {
		return nil, err
	}
	return s.written(r, op, results[0])
}

// decodeOp reads Insert, Update, Merge, Delete and the two upserts, and checks
// that the client may do it.
func decodeOp(r *request) (store.Op, error) {
	op := store.Op{Table: r.target.table, Key: r.target.key}
	need := "u"
	switch {
	case r.target.kind == targetTable && r.method == http.MethodPost:
		op.Kind, need = store.Insert, "a"
	case r.target.kind != targetEntity:
		return op, methodNotAllowed()
	case r.method == http.MethodPut:
		op.Kind = store.Replace
	case r.method == http.MethodPatch || r.method == methodMerge:
		op.Kind = store.Merge
	case r.method == http.MethodDelete:
		op.Kind, need = store.Delete, "d"
	default:
		return op, methodNotAllowed()
	}
	var err error
	if op.Kind != store.Insert {
		if op.IfMatch, err = ifMatch(r.header); err != nil {
			return op, err
		}
	}
	if op.IfMatch == "" && (op.Kind == store.Merge || op.Kind == store.Replace) {
		need = "au" // an upsert
	}
	if err := r.grant.allow('o', need, op.Table); err != nil {
		return op, err
	}
	if op.Kind != store.Delete {
		if err := decodeEntity(r, &op); err != nil {
			return op, err
		}
	}
	if !r.grant.covers(op.Key) {
		return op, permissionMismatch()
	}
	return op, nil
}

// decodeEntity reads the body into op. An insert takes its key from the body;
// elsewhere the URL names the entity and keys in the body do not count.
func decodeEntity(r *request, op *store.Op) error {
	if err := checkContentType(r.header); err != nil {
		return err
	}
	if len(r.body) == 0 && op.Kind != store.Insert {
		return nil // an entity without custom properties
	}
	p, err := edm.ParsePayload(r.body)
	if err != nil {
		return err
	}
	op.Properties = p.Properties
	if op.Kind != store.Insert {
		return nil
	}
	// An answer that could not be given must be refused before the write.
	if _, err := payloadFormat(r); err != nil {
		return err
	}
	if p.PartitionKey == nil || p.RowKey == nil {
		return tableerr.New(tableerr.PropertiesNeedValue, "The values are not specified for all properties in the entity.")
	}
	op.Key = store.Key{Partition: *p.PartitionKey, Row: *p.RowKey}
	return nil
}

var entityTag = regexp.MustCompile(`^(W/)?"[^"]*"$`)

// ifMatch is the If-Match header, checked for its form; empty if there is none.
func ifMatch(h http.Header) (string, error) {
	if len(h.Values("If-None-Match")) > 0 {
		return "", tableerr.New(tableerr.InvalidInput, "If-None-Match HTTP header cannot be specified for this operation.")
	}
	values := h.Values("If-Match")
	if len(values) == 0 {
		return "", nil
	}
	tag := strings.TrimSpace(values[0])
	if len(values) > 1 || tag != "*" && !entityTag.MatchString(tag) {
		return "", tableerr.New(tableerr.InvalidInput, "The etag value '%s' specified in one of the request headers is not valid. Please make sure only one etag value is specified and is valid.", tag)
	}
	return tag, nil
}

// written is the answer to op, which left e behind (nil for a delete).
func (s *Server) written(r *request, op store.Op, e *store.Entity) (*reply, error) {
	rep := newReply(http.StatusNoContent)
	if op.Kind == store.Insert {
		f, err := payloadFormat(r)
		if err != nil {
			return nil, err
		}
		location := entityURL(r.base, op.Table, e.Key)
		content, applied := wantsContent(r.header)
		if content {
			rep = jsonReply(http.StatusCreated, f, s.entityJSON(r, f, e, nil, true))
		} else {
			rep.header.Set("DataServiceId", location)
		}
		if applied != "" {
			rep.header.Set("Preference-Applied", applied)
		}
		rep.header.Set("Location", location)
	}
	if e != nil {
		rep.header.Set("ETag", e.ETag())
	}
	return rep, nil
}
