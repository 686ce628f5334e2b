package tables

import (
	"bytes"
	"net/http"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// doTables does Query Tables, Create Table and Delete Table.
func (s *Server) doTables(r *request) (*reply, error) {
	named := r.target.table != ""
	switch {
	case r.method == http.MethodGet && named:
		return s.getTable(r)
	case r.method == http.MethodGet:
		return s.queryTables(r)
	case r.method == http.MethodPost && !named:
		return s.createTable(r)
	case r.method == http.MethodDelete && named:
		if err := r.grant.allow('c', "d", ""); err != nil {
			return nil, err
		}
		return newReply(http.StatusNoContent), s.store.DeleteTable(r.target.table)
	}
	return nil, methodNotAllowed()
}

func (s *Server) createTable(r *request) (*reply, error) {
	// Create or Write will do ("Create an account SAS").
	if err := r.grant.allow('c', "c", ""); err != nil && r.grant.allow('c', "w", "") != nil {
		return nil, err
	}
	if err := checkContentType(r.header); err != nil {
		return nil, err
	}
	f, err := payloadFormat(r)
	if err != nil {
		return nil, err
	}
	p, err := edm.ParsePayload(r.body)
	if err != nil {
		return nil, err
	}
	name := p.Properties["TableName"]
	if name.Type() != edm.String {
		return nil, tableerr.New(tableerr.PropertiesNeedValue, "The values are not specified for all properties in the entity.")
	}
	if err := s.store.CreateTable(name.Text()); err != nil {
		return nil, err
	}
	location := r.base + "/Tables('" + name.Text() + "')"
	content, applied := wantsContent(r.header)
	rep := newReply(http.StatusNoContent)
	if content {
		rep = jsonReply(http.StatusCreated, f, s.tableJSON(r, f, name.Text(), true))
	} else {
		rep.header.Set("DataServiceId", location)
	}
	if applied != "" {
		rep.header.Set("Preference-Applied", applied)
	}
	rep.header.Set("Location", location)
	return rep, nil
}

func (s *Server) getTable(r *request) (*reply, error) {
	if err := r.grant.allow('c', "l", ""); err != nil {
		return nil, err
	}
	f, err := payloadFormat(r)
	if err != nil {
		return nil, err
	}
	name, err := s.store.TableName(r.target.table)
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, f, s.tableJSON(r, f, name, true)), nil
}

func (s *Server) queryTables(r *request) (*reply, error) {
	if err := r.grant.allow('c', "l", ""); err != nil {
		return nil, err
	}
	o, err := s.queryOptions(r)
	if err != nil {
		return nil, err
	}
	var from string
	if token := r.query.Get("NextTableName"); token != "" {
		if from, err = decodeToken(token); err != nil {
			return nil, err
		}
	}
	names, next := s.store.Tables(func(name string) bool {
		return o.filter.Match(func(property string) (edm.Value, bool) {
			return edm.OfString(name), property == "TableName"
		})
	}, o.top, from)
	items := make([][]byte, len(names))
	for i, name := range names {
		items[i] = s.tableJSON(r, o.format, name, false)
	}
	rep := jsonReply(http.StatusOK, o.format, list(r.base, "Tables", o.format, items))
	if next != "" {
		rep.header.Set("x-ms-continuation-NextTableName", encodeToken(next))
	}
	return rep, nil
}

// tableJSON is one table; alone says that it is the whole body.
func (s *Server) tableJSON(r *request, f format, name string, alone bool) []byte {
	var o edm.Object
	if alone && f != noMetadata {
		o.Str("odata.metadata", r.base+"/$metadata#Tables/@Element")
	}
	if f == fullMetadata {
		link := "Tables('" + name + "')"
		o.Str("odata.type", s.cfg.Account+".Tables")
		o.Str("odata.id", r.base+"/"+link)
		o.Str("odata.editLink", link)
	}
	o.Str("TableName", name)
	return o.Bytes()
}

// list is a feed of items.
func list(base, set string, f format, items [][]byte) []byte {
	var o edm.Object
	if f != noMetadata {
		o.Str("odata.metadata", base+"/$metadata#"+set)
	}
	o.Raw("value", append(append([]byte{'['}, bytes.Join(items, []byte{','})...), ']'))
	return o.Bytes()
}
