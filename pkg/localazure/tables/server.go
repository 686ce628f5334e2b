// Package tables is a stand-in for Azure Table Storage: an http.Handler, in
// memory, against which unmodified clients work. It answers what the service
// answers, with its codes, and refuses what it refuses.
//
// # Operations
//
// Fault plans and counts know an operation by a verb and its table in lower
// case, such as "insert requests": insert, merge and replace (upserts among
// them), delete, get (one entity), query, batch (a transaction, by the table of
// its first write), acl (the stored access policies), get-table, delete-table.
// The verbs create-table, query-tables, get-service and set-service stand alone.
// What no verb fits is "other".
//
// # Faults
//
// A fault plan ([Server.Faults], or fault.Path without a credential) befalls
// what is authenticated and can be read:
//
//   - slow, pause: it takes effect after Delay, or once the plan is replaced; not
//     at all if the client goes away first.
//   - throttle: 503 ServerBusy; with a Delay, Retry-After in seconds, rounded up.
//   - conflict: 409 EntityAlreadyExists to an insert, 412
//     UpdateConditionNotSatisfied to a write under an ETag, and to the rest, which
//     knows no other conflict, 409 TableBeingDeleted. A transaction is told so in
//     its 202, by the first operation that has a condition.
//   - refuse: 403 AuthorizationPermissionMismatch.
//   - drop, lose-reply: the connection ends, before the effect or after it.
//
// There is no lock: leases are of blobs alone.
//
// Source: Azure Storage REST reference, "Table Storage"; azure-sdk-for-go,
// sdk/data/aztables v1.4.1; the JavaScript client @azure/data-tables.
package tables

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

const (
	// audience is the resource that bearer tokens for Storage are issued for.
	audience = "https://storage.azure.com"
	// maxBody is the documented limit of a request body, batches included.
	maxBody = 4 << 20
	// maxPage is the most entities or tables that one answer holds.
	maxPage = 1000
	// defaultVersion is answered to clients that name no x-ms-version.
	defaultVersion = "2019-02-02"
)

// Config says which account the server plays.
type Config struct {
	// Account is the account's name, such as "devstoreaccount1".
	Account string
	// Key is the base64 account key that SharedKey, SharedKeyLite and shared
	// access signatures are checked with.
	Key string
	// Verify checks a bearer token (a JWT) for an audience; nil refuses all
	// bearer tokens. It must be safe for concurrent use.
	Verify func(ctx context.Context, token, audience string) error
	// Logger gets one Debug line per request and never a credential; nil
	// discards them.
	Logger *slog.Logger
}

// Server is the handler. It is safe for concurrent use.
type Server struct {
	// PageSize is the most entities or tables in one answer, 1,000 from New as
	// in Storage. A test may lower it before the first request.
	PageSize int

	cfg   Config
	key   []byte
	log   *slog.Logger
	now   func() time.Time
	store *store.Store

	faults *fault.Injector

	mu     sync.Mutex
	props  serviceProperties
	counts map[string]int
}

// New makes a server with no tables. It fails if the account has no name or the
// key is not base64.
func New(cfg Config) (*Server, error) {
	if cfg.Account == "" || strings.ContainsAny(cfg.Account, "/ ") {
		return nil, fmt.Errorf("tables: %q cannot name an account", cfg.Account)
	}
	key, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil || len(key) == 0 {
		return nil, errors.New("tables: the account key is not base64") // never the key itself
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{PageSize: maxPage, cfg: cfg, key: key, log: log, now: time.Now, faults: newInjector(), props: defaultProperties(), counts: map[string]int{}}
	s.store = store.New(func() time.Time { return s.now() })
	return s, nil
}

// request is one operation, from a request of its own or from a batch.
type request struct {
	method string
	target target
	query  url.Values
	header http.Header
	body   []byte
	base   string // scheme, host and account: what links in answers start with
	grant  *grant
	batch  *batch // of a batch
}

// ServeHTTP answers one request. Where a fault takes the answer away it panics
// with http.ErrAbortHandler, which makes a server end the connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case fault.Path:
		s.faults.ServeHTTP(w, r)
		return
	case statsPath:
		s.serveStats(w, r)
		return
	}
	id := uuid.NewString()
	s.commonHeaders(w.Header(), r, id)
	rep, err := s.serve(w, r)
	if errors.Is(err, errNoReply) {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		rep = s.failure(err, id, wantsXML(r.Header), -1)
		s.challenge(rep)
	}
	for name, values := range rep.header {
		w.Header()[name] = values
	}
	s.log.DebugContext(r.Context(), "table storage request", "method", r.Method, "path", r.URL.Path,
		"status", rep.status, "code", rep.header.Get(errorCodeHeader), "request_id", id)
	w.WriteHeader(rep.status)
	if _, err := w.Write(rep.body); err != nil && rep.status != http.StatusNoContent {
		s.log.DebugContext(r.Context(), "client went away", "request_id", id, "error", err)
	}
}

func (s *Server) commonHeaders(h http.Header, r *http.Request, id string) {
	version := r.Header.Get("x-ms-version")
	if version == "" {
		version = defaultVersion
	}
	h.Set("Server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0")
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-version", version)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	if client := r.Header.Get("x-ms-client-request-id"); client != "" && len(client) <= 1024 {
		h.Set("x-ms-client-request-id", client)
	}
}

// serve authenticates before it looks at anything else of the request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) (*reply, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, tableerr.New(tableerr.InvalidURI, "The requested URI does not represent any resource on the server.")
	}
	g, err := s.authenticate(r, query)
	if err != nil {
		return nil, err
	}
	t, err := parseTarget(s.cfg.Account, rawPath(r))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, tableerr.New(tableerr.RequestBodyTooLarge, "The request body is too large and exceeds the maximum permissible limit.")
		}
		return nil, tableerr.BadInput("the body could not be read")
	}
	method, err := tunnelled(r.Method, r.Header)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	req := &request{
		method: method, target: t, query: query, header: r.Header, body: body,
		base: scheme + "://" + r.Host + t.prefix, grant: g,
	}
	if t.kind == targetBatch && method == http.MethodPost {
		if req.batch, err = parseBatch(r.Header.Get("Content-Type"), body); err != nil {
			return nil, err
		}
	}
	return s.doOrFail(r.Context(), req, w.Header())
}

// tunnelled is the method that is meant: a POST may carry another in X-HTTP-Method.
func tunnelled(method string, h http.Header) (string, error) {
	values := h.Values("X-HTTP-Method")
	if len(values) == 0 {
		return method, nil
	}
	if len(values) > 1 {
		return "", tableerr.New(tableerr.XMethodIncorrectCount, "More than one X-HTTP-Method is specified.")
	}
	if method != http.MethodPost {
		return "", tableerr.New(tableerr.XMethodNotUsingPost, "The request uses X-HTTP-Method with an HTTP verb other than POST.")
	}
	switch values[0] {
	case http.MethodPut, http.MethodPatch, http.MethodDelete, methodMerge:
		return values[0], nil
	}
	return "", tableerr.New(tableerr.XMethodIncorrectValue, "The specified X-HTTP-Method is invalid.")
}

// do routes one operation.
func (s *Server) do(r *request) (*reply, error) {
	switch r.target.kind {
	case targetService:
		return s.doService(r)
	case targetTables:
		return s.doTables(r)
	case targetTable:
		if r.query.Get("comp") == "acl" {
			return s.doACL(r)
		}
		return s.doTable(r)
	case targetEntity:
		return s.doEntity(r)
	case targetBatch:
		if r.method == http.MethodPost {
			return s.doBatch(r)
		}
	}
	return nil, methodNotAllowed()
}

func methodNotAllowed() error {
	return tableerr.New(tableerr.MethodNotAllowed, "The requested method is not allowed on the specified resource.")
}
