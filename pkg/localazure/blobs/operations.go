package blobs

import (
	"bytes"
	"crypto/md5" // the service's own checksum of transfers
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// operation names what is asked for, as the package's document does.
func (r *request) operation() string {
	switch {
	case r.blob == "" && r.query.Get("comp") == "list":
		return "list-blobs"
	case r.blob == "":
		return "container"
	case r.Method == http.MethodPut:
		return "put-blob"
	case r.Method == http.MethodDelete:
		return "delete-blob"
	}
	return "get-blob"
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, fail(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.")
	}
	if err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "One of the request inputs is not valid.")
	}
	return body, nil
}

// do does one operation.
func (s *Server) do(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[r.container]
	operation := r.operation()
	if operation == "container" {
		return s.doContainer(r, c)
	}
	if c == nil {
		return reply{}, fail(http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
	}
	if operation == "list-blobs" {
		return s.list(r, c)
	}
	// Blocks, snapshots, tags, metadata, leases and the rest.
	if r.query.Get("comp") != "" || r.query.Get("snapshot") != "" || r.query.Get("versionid") != "" || r.Header.Get("x-ms-copy-source") != "" {
		return reply{}, notImplemented()
	}
	old, there := c.blobs[r.blob]
	if err := conditions(r, old, there); err != nil {
		return reply{}, err
	}
	switch r.Method {
	case http.MethodPut:
		return s.put(r, c, there)
	case http.MethodGet, http.MethodHead:
		if !there {
			return reply{}, blobNotFound()
		}
		return reply{http.StatusOK, old.header(), old.data}, nil
	case http.MethodDelete:
		if !there {
			return reply{}, blobNotFound()
		}
		if c.immutable {
			return reply{}, immutable()
		}
		delete(c.blobs, r.blob)
		return reply{http.StatusAccepted, http.Header{}, nil}, nil
	}
	return reply{}, notImplemented()
}

func (s *Server) doContainer(r *request, c *container) (reply, error) {
	switch {
	case r.query.Get("restype") != "container" || r.query.Get("comp") != "":
		return reply{}, notImplemented()
	case r.Method == http.MethodPut && c != nil:
		return reply{}, fail(http.StatusConflict, "ContainerAlreadyExists", "The specified container already exists.")
	case r.Method == http.MethodPut:
		s.containers[r.container] = &container{blobs: map[string]blob{}}
		return reply{http.StatusCreated, http.Header{}, nil}, nil
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return reply{}, notImplemented()
	case c == nil:
		return reply{}, fail(http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
	}
	out := reply{http.StatusOK, http.Header{}, nil}
	out.header.Set("x-ms-has-immutability-policy", strconv.FormatBool(c.immutable))
	return out, nil
}

// conditions answers as "Specifying conditional headers for Blob service
// operations" has it: * to an upload is about whether there is one at all.
func conditions(r *request, old blob, there bool) error {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case match != "" && (!there || match != "*" && match != old.etag):
		return fail(http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	case none == "" || !there || none != "*" && none != old.etag:
		return nil
	case read:
		return fail(http.StatusNotModified, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	case none == "*":
		return fail(http.StatusConflict, "BlobAlreadyExists", "The specified blob already exists.")
	}
	return fail(http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
}

func (s *Server) put(r *request, c *container, there bool) (reply, error) {
	if kind := r.Header.Get("x-ms-blob-type"); kind != "BlockBlob" {
		if kind == "" {
			return reply{}, fail(http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.")
		}
		return reply{}, notImplemented()
	}
	if sum := r.Header.Get("Content-MD5"); sum != "" && sum != checksum(r.body) {
		return reply{}, fail(http.StatusBadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with the MD5 value calculated by the server.")
	}
	if there && c.immutable {
		return reply{}, immutable()
	}
	at := s.now().UTC().Truncate(time.Second)
	b := blob{data: bytes.Clone(r.body), contentType: r.Header.Get("x-ms-blob-content-type"), etag: fmt.Sprintf(`"0x%X"`, s.now().UnixNano()), at: at}
	if b.contentType == "" {
		b.contentType = "application/octet-stream"
	}
	c.blobs[r.blob] = b
	out := reply{http.StatusCreated, http.Header{}, nil}
	out.header.Set("ETag", b.etag)
	out.header.Set("Last-Modified", at.Format(http.TimeFormat))
	out.header.Set("Content-MD5", checksum(b.data))
	out.header.Set("x-ms-request-server-encrypted", "true")
	return out, nil
}

func checksum(data []byte) string {
	sum := md5.Sum(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (b blob) header() http.Header {
	h := http.Header{}
	h.Set("Content-Type", b.contentType)
	h.Set("Content-Length", strconv.Itoa(len(b.data)))
	h.Set("Content-MD5", checksum(b.data))
	h.Set("ETag", b.etag)
	h.Set("Last-Modified", b.at.Format(http.TimeFormat))
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("Accept-Ranges", "bytes")
	return h
}

// listed is the answer of "List Blobs".
type listed struct {
	XMLName    xml.Name   `xml:"EnumerationResults"`
	Endpoint   string     `xml:"ServiceEndpoint,attr"`
	Container  string     `xml:"ContainerName,attr"`
	Prefix     string     `xml:"Prefix,omitempty"`
	Marker     string     `xml:"Marker,omitempty"`
	MaxResults int        `xml:"MaxResults,omitempty"`
	Blobs      []listItem `xml:"Blobs>Blob"`
	NextMarker string     `xml:"NextMarker"`
}

type listItem struct {
	Name       string
	Properties struct {
		LastModified  string `xml:"Last-Modified"`
		Etag          string
		ContentLength int    `xml:"Content-Length"`
		ContentType   string `xml:"Content-Type"`
		ContentMD5    string `xml:"Content-MD5"`
		BlobType      string
	}
}

// list gives the blobs in the order of their names. A marker is the name to
// begin with.
func (s *Server) list(r *request, c *container) (reply, error) {
	if r.Method != http.MethodGet || r.query.Get("restype") != "container" || r.query.Get("delimiter") != "" {
		return reply{}, notImplemented()
	}
	out := listed{Endpoint: "https://" + r.Host + "/" + s.cfg.Account + "/", Container: r.container, Prefix: r.query.Get("prefix"), Marker: r.query.Get("marker")}
	most := s.PageSize
	if text := r.query.Get("maxresults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return reply{}, fail(http.StatusBadRequest, "OutOfRangeQueryParameterValue", "One of the query parameters specified in the request URI is outside the permissible range.")
		}
		most, out.MaxResults = min(n, most), n
	}
	for _, name := range slices.Sorted(maps.Keys(c.blobs)) {
		if !strings.HasPrefix(name, out.Prefix) || name < out.Marker {
			continue
		}
		if len(out.Blobs) == most {
			out.NextMarker = name
			break
		}
		b, i := c.blobs[name], listItem{Name: name}
		i.Properties.LastModified, i.Properties.Etag, i.Properties.ContentLength = b.at.Format(http.TimeFormat), strings.Trim(b.etag, `"`), len(b.data)
		i.Properties.ContentType, i.Properties.ContentMD5, i.Properties.BlobType = b.contentType, checksum(b.data), "BlockBlob"
		out.Blobs = append(out.Blobs, i)
	}
	body, err := xml.Marshal(out)
	if err != nil {
		return reply{}, err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/xml")
	return reply{http.StatusOK, h, append([]byte(xml.Header), body...)}, nil
}

func xmlError(code, message string) []byte {
	var b strings.Builder
	b.WriteString(xml.Header + "<Error><Code>" + code + "</Code><Message>")
	// A strings.Builder never fails, and EscapeText fails only with its writer.
	_ = xml.EscapeText(&b, []byte(message))
	b.WriteString("</Message></Error>")
	return []byte(b.String())
}

func blobNotFound() error {
	return fail(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
}

func immutable() error {
	return fail(http.StatusConflict, "BlobImmutableDueToPolicy", "This operation is not permitted as the blob is immutable due to a policy.")
}

func notImplemented() error {
	return fail(http.StatusNotImplemented, "NotImplemented", "The requested operation is not implemented on the specified resource.")
}
