package tables

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// maxParts is one more than a transaction may hold: enough to tell that there
// are too many, and no reason to read on.
const maxParts = 101

// batchPart is one operation of a batch.
type batchPart struct {
	method, url string
	header      http.Header
	body        []byte
}

// batch is a parsed batch with at least one part.
type batch struct {
	changeset bool
	parts     []batchPart
}

// parseBatch reads the multipart/mixed body of a batch: one change set, or one
// operation outside of any. It fails with InvalidInput.
func parseBatch(contentType string, body []byte) (*batch, error) {
	reader, err := multipartReader(contentType, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	first, err := reader.NextRawPart()
	if err != nil {
		return nil, badBatch("it holds no part")
	}
	b := &batch{}
	if mediaType(first.Header) == "multipart/mixed" {
		b.changeset = true
		if b.parts, err = parseChangeset(first); err != nil {
			return nil, err
		}
	} else {
		part, err := parsePart(first)
		if err != nil {
			return nil, err
		}
		b.parts = []batchPart{part}
	}
	if _, err := reader.NextRawPart(); !errors.Is(err, io.EOF) {
		return nil, badBatch("it holds more than one change set or query, or does not end")
	}
	return b, nil
}

func parseChangeset(outer *multipart.Part) ([]batchPart, error) {
	reader, err := multipartReader(outer.Header.Get("Content-Type"), outer)
	if err != nil {
		return nil, err
	}
	var parts []batchPart
	for len(parts) < maxParts {
		inner, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badBatch("the change set does not end")
		}
		part, err := parsePart(inner)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return nil, badBatch("the change set is empty")
	}
	return parts, nil
}

func multipartReader(contentType string, r io.Reader) (*multipart.Reader, error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "multipart/mixed" || params["boundary"] == "" {
		return nil, badBatch("it is not multipart/mixed with a boundary")
	}
	return multipart.NewReader(r, params["boundary"]), nil
}

func mediaType(h textproto.MIMEHeader) string {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return media
}

// parsePart reads an HTTP request inside a part. There is no Content-Length to
// go by in all clients: the body is what is left.
func parsePart(p *multipart.Part) (batchPart, error) {
	if mediaType(p.Header) != "application/http" {
		return batchPart{}, badBatch("a part is not application/http")
	}
	buffered := bufio.NewReader(p)
	reader := textproto.NewReader(buffered)
	line, err := reader.ReadLine()
	if err != nil {
		return batchPart{}, badBatch("a part holds no request")
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || !strings.HasPrefix(fields[2], "HTTP/1.") {
		return batchPart{}, badBatch("a request line is not valid")
	}
	header, err := reader.ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return batchPart{}, badBatch("the headers of a part are not valid")
	}
	body, err := io.ReadAll(buffered)
	if err != nil {
		return batchPart{}, badBatch("a part does not end")
	}
	h := http.Header(header)
	if id := p.Header.Get("Content-ID"); id != "" && h.Get("Content-ID") == "" {
		h.Set("Content-ID", id)
	}
	return batchPart{method: fields[0], url: fields[1], header: h, body: bytes.TrimSpace(body)}, nil
}

func badBatch(why string) error { return tableerr.BadInput("the batch cannot be read: %s", why) }
