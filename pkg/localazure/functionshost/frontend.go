package functionshost

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

const (
	// maxRequestBody is the host's limit on a request's body, in bytes.
	maxRequestBody = 100 << 20
	// frontEndTimeout is how long App Service's front end waits for an answer.
	frontEndTimeout = 230 * time.Second
)

// errFrontEnd is the cause of a request's end by the front end's patience.
var errFrontEnd = errors.New("the front end has waited 230 s for the function")

// ServeHTTP is the app's front end: Easy Auth, the admin endpoints, then the
// HTTP functions by their routes. It answers 503 until the host is ready, and
// 404 where no function matches path and method. Before all that, and without a
// key, come the stand-in's own fault.Path and StatsPath.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case fault.Path:
		h.faults.ServeHTTP(w, r)
		return
	case StatsPath:
		h.serveStats(w, r)
		return
	}
	h.vouch(r)
	if h.cfg.SignIn != nil && h.cfg.Verify != nil && strings.HasPrefix(r.URL.Path, "/.auth/") {
		h.serveSignIn(w, r)
		return
	}
	if !h.authenticate(w, r) {
		return
	}
	segments, resolved, err := requestSegments(r.URL)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	select {
	case <-h.ready:
	default:
		http.Error(w, "Function host is not running.", http.StatusServiceUnavailable)
		return
	}
	strike := h.faults.Take("http " + r.Method + " " + r.URL.Path)
	if strike != nil && !h.letPass(w, r, strike) {
		return
	}
	if r.ContentLength > maxRequestBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	if len(segments) > 0 && strings.EqualFold(segments[0], "admin") {
		h.serveAdmin(w, r, segments[1:])
		return
	}
	f, params := h.routeFor(r.Method, segments)
	switch {
	case f == nil && isHomepage(r, segments):
		h.serveHomepage(w)
	case f == nil:
		w.WriteHeader(http.StatusNotFound)
	case h.callerLevel(r) < f.http.level:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		if resolved {
			// The handler gets the path that was matched, not one that it
			// would resolve to another.
			r.URL.Path, r.URL.RawPath = unescapedPath(segments), escapeSegments(segments)
		}
		h.serveFunction(w, r, f, params, strike)
	}
}

// forwardedFor is where the front end says whom it took the connection from.
const forwardedFor = "X-Forwarded-For"

// vouch appends the caller's address and port to what the caller sent, as App
// Service does (docs: "Use X-Forwarded-For"): the last element alone is true.
func (h *Host) vouch(r *http.Request) {
	from := r.RemoteAddr
	if h.cfg.ClientAddress.IsValid() {
		if peer, err := netip.ParseAddrPort(from); err == nil {
			from = netip.AddrPortFrom(h.cfg.ClientAddress, peer.Port()).String()
		}
	}
	r.Header.Set(forwardedFor, strings.Join(append(r.Header.Values(forwardedFor), from), ", "))
}

// serveHomepage answers / as the host does where no function has it.
func (h *Host) serveHomepage(w http.ResponseWriter) {
	if value, _ := lookup(h.cfg.Settings, "AzureWebJobsDisableHomepage"); isTrue(value) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!doctype html><title>Functions</title><p>Your Functions app is up and running.\n")
}

// serveFunction runs an HTTP function: the request itself goes to the handler
// where forwarding is on and the function has one http output, else an
// envelope.
func (h *Host) serveFunction(w http.ResponseWriter, r *http.Request, f *function, params map[string]string, strike *fault.Strike) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), frontEndTimeout, errFrontEnd)
	defer cancel()
	r = r.WithContext(ctx)
	tracked := &trackedWriter{ResponseWriter: w}
	out := losing(strike, tracked)
	err := h.execute(ctx, f, "This function was programmatically called via the host APIs.",
		struckBy(strike, nil, func(ctx context.Context, inv invocation) error {
			if f.http.proxied {
				return inv.forward(ctx, out, r)
			}
			return inv.exchange(ctx, out, r, params)
		}))
	if err != nil && (tracked.written || errors.Is(err, errReplyLost)) {
		panic(http.ErrAbortHandler) // only a broken connection can tell the caller now
	}
	if err != nil {
		w.WriteHeader(statusOf(ctx, err, h.options.streaming && f.http.proxied))
	}
}

// statusOf is what the caller of a failed function gets.
func statusOf(ctx context.Context, err error, streaming bool) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case context.Cause(ctx) == errFrontEnd:
		return http.StatusGatewayTimeout
	case errors.Is(err, errStopped):
		return http.StatusServiceUnavailable
	case streaming && !errors.Is(err, errFunctionTimeout):
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// trackedWriter knows whether an answer was begun.
type trackedWriter struct {
	http.ResponseWriter
	written bool
}

func (t *trackedWriter) WriteHeader(status int) {
	t.written = t.written || status >= 200
	t.ResponseWriter.WriteHeader(status)
}

func (t *trackedWriter) Write(p []byte) (int, error) {
	t.written = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush through it.
func (t *trackedWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
