// Package blobs is a stand-in for Azure Blob Storage, as small as a container of
// write-once blobs needs: an http.Handler, in memory, against which the
// unmodified SDK works. It answers what the service answers, with its codes, and
// refuses what it refuses.
//
// # What there is
//
// Put Blob (block blobs in one piece), Get Blob, Get Blob Properties, Delete
// Blob, List Blobs (flat, with a prefix, in pages), Create Container, Get
// Container Properties; the conditions If-Match and If-None-Match; shared keys
// and Entra tokens; a time-based immutability policy per container. Everything
// else answers 501.
//
// # Immutability
//
// In a container with a policy a blob is created and read, and neither
// overwritten nor deleted: 409 BlobImmutableDueToPolicy (documented: "Store
// business-critical blob data with immutable storage"; the code: azblob's
// bloberror). That a condition which fails is answered before the policy is, so
// that If-None-Match: * gives 409 BlobAlreadyExists, is inferred. The policy
// itself is Resource Manager's to set, so here it is part of the configuration
// and never ends.
//
// # Operations and faults
//
// Fault plans and counts know an operation as put-blob, get-blob, delete-blob,
// list-blobs or container, with the container's name: "put-blob anchors". What
// befalls it: slow and pause (it takes effect later), throttle (503 ServerBusy),
// refuse (403 AuthorizationPermissionMismatch), drop and lose-reply (the
// connection ends before the effect or after it).
//
// Source: Azure Storage REST reference, "Blob Storage"; azure-sdk-for-go,
// sdk/storage/azblob v1.8.3.
package blobs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

const (
	// audience is the resource that bearer tokens for Storage are issued for.
	audience = "https://storage.azure.com"
	// maxBody bounds a blob. The service takes 5,000 MiB in one piece.
	maxBody = 64 << 20
	// maxPage is the most blobs that one answer lists.
	maxPage = 5000
)

// Container is one that is there from the start.
type Container struct {
	Name string
	// Immutable says that a locked time-based policy covers it.
	Immutable bool
}

// Config says which account the server plays.
type Config struct {
	// Account is the account's name, such as "devstoreaccount1".
	Account string
	// Key is the base64 account key that SharedKey is checked with.
	Key string
	// Verify checks a bearer token (a JWT) for an audience; nil refuses all
	// bearer tokens. It must be safe for concurrent use.
	Verify     func(ctx context.Context, token, audience string) error
	Containers []Container
	// Logger gets one Debug line per request and never a credential; nil
	// discards them.
	Logger *slog.Logger
}

// Server is the handler. It is safe for concurrent use.
type Server struct {
	// PageSize is the most blobs in one answer, 5,000 from New as in Storage. A
	// test may lower it before the first request.
	PageSize int

	cfg    Config
	key    []byte
	log    *slog.Logger
	now    func() time.Time
	faults *fault.Injector

	mu         sync.Mutex
	containers map[string]*container
}

type container struct {
	immutable bool
	blobs     map[string]blob
}

type blob struct {
	data        []byte
	contentType string
	etag        string
	at          time.Time
}

// New makes a server with the containers. It fails if the account has no name or
// the key is not base64.
func New(cfg Config) (*Server, error) {
	if cfg.Account == "" || strings.ContainsAny(cfg.Account, "/ ") {
		return nil, fmt.Errorf("blobs: %q cannot name an account", cfg.Account)
	}
	key, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil || len(key) == 0 {
		return nil, errors.New("blobs: the account key is not base64") // never the key itself
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		PageSize: maxPage, cfg: cfg, key: key, log: log, now: time.Now, containers: map[string]*container{},
		faults: fault.New(fault.Slow, fault.Pause, fault.Throttle, fault.Refuse, fault.Drop, fault.LoseReply),
	}
	for _, c := range cfg.Containers {
		s.containers[c.Name] = &container{immutable: c.Immutable, blobs: map[string]blob{}}
	}
	return s, nil
}

// Faults is the server's fault plan; the package's document says what it may
// hold.
func (s *Server) Faults() *fault.Injector { return s.faults }

// Tamper does to a blob what no client of an immutable container can: it puts
// other bytes in its place, or with nil takes it away. It is for tests of those
// who are to notice.
func (s *Server) Tamper(container, name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[container]
	if data == nil {
		delete(c.blobs, name)
		return
	}
	b := c.blobs[name]
	b.data = data
	c.blobs[name] = b
}

// request is one operation.
type request struct {
	*http.Request
	query           url.Values
	container, blob string
	body            []byte
}

// reply is what it is answered with.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// failure is a refusal that a client is told of.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func fail(status int, code, message string) error { return &failure{status, code, message} }

// errNoReply ends the connection without an answer.
var errNoReply = errors.New("fault: no answer")

// ServeHTTP answers one request. Where a fault takes the answer away it panics
// with http.ErrAbortHandler, which makes a server end the connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == fault.Path {
		s.faults.ServeHTTP(w, r)
		return
	}
	id := uuid.NewString()
	out, err := s.serve(w, r)
	if errors.Is(err, errNoReply) {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		out = s.failed(err, id)
	}
	version := r.Header.Get("x-ms-version")
	if version == "" {
		version = "2020-10-02"
	}
	h := w.Header()
	h.Set("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-version", version)
	if client := r.Header.Get("x-ms-client-request-id"); client != "" && len(client) <= 1024 {
		h.Set("x-ms-client-request-id", client)
	}
	for name, values := range out.header {
		h[name] = values
	}
	s.log.DebugContext(r.Context(), "blob storage request", "method", r.Method, "path", r.URL.Path, "status", out.status,
		"code", out.header.Get("x-ms-error-code"), "request_id", id)
	w.WriteHeader(out.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.body) // the client is gone: nobody is left to tell
	}
}

func (s *Server) failed(err error, id string) reply {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		s.log.Error("blob storage stand-in failed", "request_id", id, "error", err)
		f = &failure{http.StatusInternalServerError, "InternalError", "The server encountered an internal error. Please retry the request."}
	}
	out := reply{f.status, http.Header{}, xmlError(f.code, f.message+"\nRequestId:"+id+"\nTime:"+s.now().UTC().Format("2006-01-02T15:04:05.0000000Z"))}
	out.header.Set("x-ms-error-code", f.code)
	out.header.Set("Content-Type", "application/xml")
	if f.status == http.StatusUnauthorized {
		out.header.Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id="+audience)
	}
	return out
}

// serve authenticates before it looks at anything else of the request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) (reply, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return reply{}, invalidURI()
	}
	if err := s.authenticate(r, query); err != nil {
		return reply{}, err
	}
	in := &request{Request: r, query: query}
	if in.container, in.blob, err = s.target(r); err != nil {
		return reply{}, err
	}
	if in.body, err = readBody(w, r); err != nil {
		return reply{}, err
	}
	strike := s.faults.Take(in.operation() + " " + in.container)
	if strike == nil {
		return s.do(in)
	}
	if err := strike.Hold(r.Context()); err != nil {
		return reply{}, errNoReply // the client went away
	}
	switch strike.Kind {
	case fault.Throttle:
		if strike.Delay > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(strike.Delay.Seconds()))))
		}
		return reply{}, fail(http.StatusServiceUnavailable, "ServerBusy", "The server is busy.")
	case fault.Refuse:
		return reply{}, fail(http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
	case fault.Drop:
		return reply{}, errNoReply
	case fault.LoseReply:
		_, _ = s.do(in) // whatever came of it, nobody is told
		return reply{}, errNoReply
	}
	return s.do(in)
}

// target reads /account/container/blob.
func (s *Server) target(r *http.Request) (container, blob string, err error) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/"+s.cfg.Account+"/")
	container, blob, _ = strings.Cut(rest, "/")
	if !ok || container == "" || len(blob) > 1024 {
		return "", "", invalidURI()
	}
	return container, blob, nil
}

func invalidURI() error {
	return fail(http.StatusBadRequest, "InvalidUri", "The requested URI does not represent any resource on the server.")
}
