package tables

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// doBatch does an entity group transaction, or the one query that a batch may
// hold instead. A refused operation is told inside a 202 answer.
func (s *Server) doBatch(r *request) (*reply, error) {
	if !r.batch.changeset {
		return s.batchQuery(r, r.batch.parts[0]), nil
	}
	answers, err := s.transaction(r, r.batch.parts)
	if err != nil {
		return s.refusedBatch(r.batch.parts, err), nil
	}
	return batchReply(answers, true), nil
}

// refusedBatch is the answer to a transaction that one operation ended: the one
// that err names, or else the first.
func (s *Server) refusedBatch(parts []batchPart, err error) *reply {
	index := 0
	if op, ok := errors.AsType[*store.OpError](err); ok {
		index = op.Index
	}
	failed := s.failure(err, uuid.NewString(), false, index)
	failed.header.Set("Content-ID", parts[index].header.Get("Content-ID"))
	return batchReply([]*reply{failed}, true)
}

// transaction applies all parts, or fails with the *store.OpError of one.
func (s *Server) transaction(r *request, parts []batchPart) ([]*reply, error) {
	requests := make([]*request, len(parts))
	ops := make([]store.Op, len(parts))
	for i, part := range parts {
		var err error
		if requests[i], err = s.partRequest(r, part); err == nil {
			ops[i], err = decodeOp(requests[i])
		}
		if err != nil {
			return nil, &store.OpError{Index: i, Err: err}
		}
	}
	results, err := s.store.Apply(ops)
	if err != nil {
		return nil, err
	}
	answers := make([]*reply, len(parts))
	for i, req := range requests {
		if answers[i], err = s.written(req, ops[i], results[i]); err != nil {
			return nil, &store.OpError{Index: i, Err: err}
		}
		if id := parts[i].header.Get("Content-ID"); id != "" {
			answers[i].header.Set("Content-ID", id)
		}
	}
	return answers, nil
}

func (s *Server) batchQuery(r *request, part batchPart) *reply {
	req, err := s.partRequest(r, part)
	var answer *reply
	switch {
	case err != nil:
	case req.method != http.MethodGet || req.target.kind != targetEntity && req.target.kind != targetTable:
		err = tableerr.BadInput("outside a change set a batch may hold one query")
	default:
		answer, err = s.do(req)
	}
	if err != nil {
		answer = s.failure(err, uuid.NewString(), false, 0)
	}
	return batchReply([]*reply{answer}, false)
}

// partRequest makes an operation of its own of a part. It is authorised as the
// batch is, and its answer has the batch's format if it asks for none.
func (s *Server) partRequest(r *request, part batchPart) (*request, error) {
	u, err := url.Parse(part.url)
	if err != nil {
		return nil, invalidURI()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, invalidURI()
	}
	t, err := parseTarget(s.cfg.Account, u.EscapedPath())
	if err != nil {
		return nil, err
	}
	method, err := tunnelled(part.method, part.header)
	if err != nil {
		return nil, err
	}
	if len(part.header.Values("Accept")) == 0 {
		part.header["Accept"] = r.header.Values("Accept")
	}
	return &request{method: method, target: t, query: query, header: part.header, body: part.body, base: r.base, grant: r.grant}, nil
}

// batchReply writes answers as multipart/mixed. Clients look for the literal
// "--changesetresponse_", "HTTP/1.1 NNN" and "ETag: ".
func batchReply(answers []*reply, changeset bool) *reply {
	outer, inner := "batchresponse_"+uuid.NewString(), "changesetresponse_"+uuid.NewString()
	boundary := outer
	var b bytes.Buffer
	if changeset {
		boundary = inner
		b.WriteString("--" + outer + "\r\nContent-Type: multipart/mixed; boundary=" + inner + "\r\n\r\n")
	}
	for _, a := range answers {
		b.WriteString("--" + boundary + "\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n")
		writePart(&b, a)
		b.WriteString("\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	if changeset {
		b.WriteString("--" + outer + "--\r\n")
	}
	r := newReply(http.StatusAccepted)
	r.header.Set("Content-Type", "multipart/mixed; boundary="+outer)
	r.body = b.Bytes()
	return r
}

func writePart(b *bytes.Buffer, a *reply) {
	b.WriteString("HTTP/1.1 " + strconv.Itoa(a.status) + " " + http.StatusText(a.status) + "\r\n")
	b.WriteString("X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nDataServiceVersion: 3.0;\r\n")
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		value := strings.Map(dropControl, a.header.Get(name))
		if value == "" || name == errorCodeHeader {
			continue
		}
		b.WriteString(spelling(name) + ": " + value + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(a.body)
}

// spelling undoes what net/http makes of names that clients look for literally.
func spelling(name string) string {
	switch name {
	case "Etag":
		return "ETag"
	case "Dataserviceid":
		return "DataServiceId"
	case "Content-Id":
		return "Content-ID"
	}
	return name
}

// dropControl keeps what a client sent, such as a Content-ID, from ending a
// header line early.
func dropControl(r rune) rune {
	if r < ' ' || r == 0x7F {
		return -1
	}
	return r
}
