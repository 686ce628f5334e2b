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
)

// maxEnvelope bounds an envelope: a 256 KiB message in base64, with its metadata.
const maxEnvelope = 2 << 20

// Function handles one invocation. nil completes the message; an error abandons
// it, and the host delivers it again at once.
type Function func(ctx context.Context, in Invocation) error

// Server answers the host.
type Server struct {
	functions map[string]Function
	web       http.Handler
	log       *slog.Logger
}

// New makes a Server for the functions by name, passing everything else to web.
func New(functions map[string]Function, web http.Handler, log *slog.Logger) (*Server, error) {
	if len(functions) == 0 || web == nil || log == nil {
		return nil, errors.New("customhandler: functions, a web handler and a logger are required")
	}
	return &Server{functions, web, log}, nil
}

// ServeHTTP answers one call. Whatever happens, it answers, and with a body:
// the host hangs on an empty 2xx until its timeout, and takes one that is not
// application/json for a failure.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			// No input may end the process.
			s.log.ErrorContext(r.Context(), "panic", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			answer(w, http.StatusInternalServerError)
		}
	}()
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		answer(w, http.StatusOK) // the host's readiness and health ping
		return
	}
	if len(r.URL.Path) > 1 {
		if f, ok := s.functions[r.URL.Path[1:]]; ok {
			s.invoke(w, r, r.URL.Path[1:], f)
			return
		}
	}
	s.web.ServeHTTP(w, r)
}

func (s *Server) invoke(w http.ResponseWriter, r *http.Request, name string, f Function) {
	id := r.Header.Get("X-Azure-Functions-InvocationId")
	log := s.log.With("function", name, "invocationId", id)
	if r.Method != http.MethodPost {
		answer(w, http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEnvelope))
	if err != nil {
		log.ErrorContext(r.Context(), "the envelope cannot be read", "error", err)
		answer(w, http.StatusBadRequest)
		return
	}
	in, err := Decode(body)
	if err != nil {
		log.ErrorContext(r.Context(), "the envelope cannot be decoded", "error", err)
		answer(w, http.StatusBadRequest)
		return
	}
	in.ID = id
	// The work must not end because the host's connection does: what was begun
	// is finished, or cut off by the process's end alone.
	if err := f(context.WithoutCancel(r.Context()), in); err != nil {
		log.ErrorContext(r.Context(), "failed", "error", err, "messageId", in.MessageID(), "deliveryCount", in.DeliveryCount())
		answer(w, http.StatusInternalServerError)
		return
	}
	log.InfoContext(r.Context(), "done", "messageId", in.MessageID())
	answer(w, http.StatusOK)
}

func answer(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "{}") // the host is gone: nobody is left to tell
}
