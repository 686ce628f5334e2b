// Package customhandler speaks the Azure Functions custom-handler protocol
// (host v4): the host calls POST /<FunctionName> with an envelope and judges the
// answer. HTTP triggers arrive as they were sent and are passed on.
package customhandler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// maxEnvelope bounds an envelope: a 256 KiB message in base64, with its metadata.
const maxEnvelope = 2 << 20

const (
	// holdUnreadable is how long an envelope that cannot be read is held before
	// it fails.
	holdUnreadable = 5 * time.Second
	// maxInvocationID bounds what is logged of an invocation's id, in bytes. The
	// host's are GUIDs.
	maxInvocationID = 64
)

// Function handles one invocation. nil completes the message; an error abandons
// it, and the host delivers it again at once.
type Function func(ctx context.Context, in Invocation) error

// Server answers the host.
type Server struct {
	functions map[string]Function
	web       http.Handler
	log       *slog.Logger
}

// New makes a Server for the functions by name, passing everything else to web:
// the host's readiness and health ping too, a GET of "/". Any status answers that,
// so long as it comes at once.
func New(functions map[string]Function, web http.Handler, log *slog.Logger) (*Server, error) {
	if len(functions) == 0 || web == nil || log == nil {
		return nil, errors.New("customhandler: functions, a web handler and a logger are required")
	}
	for name, f := range functions {
		if f == nil {
			return nil, errors.New("customhandler: function " + name + " is missing")
		}
	}
	return &Server{functions, web, log}, nil
}

// ServeHTTP answers one call. Whatever happens, it answers, and with a body:
// the host hangs on an empty 2xx until its timeout, and takes one that is not
// application/json for a failure.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(r.Context(), w, r)
	// The host writes the name as it is; an encoded one is somebody else's.
	name := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	if f, ok := s.functions[name]; ok {
		s.invoke(w, r, name, f)
		return
	}
	s.web.ServeHTTP(w, r)
}

func (s *Server) invoke(w http.ResponseWriter, r *http.Request, name string, f Function) {
	id := r.Header.Get("X-Azure-Functions-InvocationId")
	id = id[:min(len(id), maxInvocationID)]
	// The work must not end because the host's connection does: what was begun
	// is finished, or cut off by the process's end alone.
	ctx := context.WithoutCancel(withInvocation(r.Context(), name, id))
	defer s.recovered(ctx, w, r)
	if r.Method != http.MethodPost {
		answer(w, http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEnvelope))
	var in Invocation
	if err == nil {
		in, err = Decode(body)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "the envelope cannot be read", "error", err)
		hold(r.Context())
		answer(w, http.StatusBadRequest)
		return
	}
	in.ID, in.Traceparent = id, r.Header.Get("Traceparent")
	if err := f(ctx, in); err != nil {
		s.log.ErrorContext(ctx, "failed", "error", err, "messageId", in.MessageID(), "deliveryCount", in.DeliveryCount())
		answer(w, http.StatusInternalServerError)
		return
	}
	s.log.InfoContext(ctx, "done", "messageId", in.MessageID())
	answer(w, http.StatusOK)
}

// hold waits until the host may be told of a failure that will come again. It
// redelivers at once, and in a dead-letter queue for ever.
func hold(ctx context.Context) {
	t := time.NewTimer(holdUnreadable)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// recovered answers after a panic: no input may end the process.
func (s *Server) recovered(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	if p := recover(); p != nil {
		s.log.ErrorContext(ctx, "panic", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		answer(w, http.StatusInternalServerError)
	}
}

func answer(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "{}") // the host is gone: nobody is left to tell
}
