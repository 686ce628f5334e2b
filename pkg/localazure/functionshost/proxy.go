package functionshost

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
)

// proxyTarget is where a request is forwarded to, in its context.
type proxyTarget struct {
	address string
	err     *error // set when forwarding fails
}

type proxyTargetKey struct{}

// forwarded are the headers that httputil takes away and the real front end
// leaves: an outsider can send them.
var forwarded = []string{forwardedFor, "X-Forwarded-Host", "X-Forwarded-Proto"}

// newProxy forwards requests to the handler: method, path, query, headers and
// Host as they came. A streaming one passes every write on at once.
func newProxy(streaming bool, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			target := p.In.Context().Value(proxyTargetKey{}).(proxyTarget)
			p.Out.URL.Scheme, p.Out.URL.Host = "http", target.address
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Host = p.In.Host
			for _, name := range forwarded {
				if values, ok := p.In.Header[name]; ok {
					p.Out.Header[name] = values
				}
			}
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			*r.Context().Value(proxyTargetKey{}).(proxyTarget).err = err
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if streaming {
		proxy.FlushInterval = -1
	}
	return proxy
}

// forward passes the request itself to the handler and its answer back,
// whatever the status. Only a handler that cannot be reached, or stops in the
// middle, is a failure.
func (inv invocation) forward(ctx context.Context, w http.ResponseWriter, r *http.Request) (err error) {
	target := proxyTarget{address: inv.run.address, err: &err}
	out := r.Clone(context.WithValue(inv.traced(ctx), proxyTargetKey{}, target))
	inv.stamp(out.Header)
	out.Header.Del("X-Ms-Invocation-Id")
	if inv.host.options.streaming {
		out.Header.Set("X-Ms-Invocation-Id", inv.id) // DefaultHttpProxyService
	} else if err := buffer(out); err != nil {
		return err
	}
	defer func() {
		// The proxy's way to say that the answer broke off in its middle.
		if p := recover(); p == http.ErrAbortHandler {
			err = errBrokeOff
		} else if p != nil {
			panic(p)
		}
	}()
	inv.host.proxy.ServeHTTP(w, out)
	return err
}

var errBrokeOff = errors.New("the handler's answer broke off")

// buffer reads the body as forwarding does: wholly, and only where its length
// is given. A chunked one is dropped (HttpRequestExtensions.ToHttpRequestMessage).
func buffer(r *http.Request) error {
	if r.ContentLength <= 0 {
		r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return nil
}

// unescapedPath is the path of the segments for URL.Path.
func unescapedPath(segments []string) string {
	return "/" + strings.ReplaceAll(strings.Join(segments, "/"), "%2F", "/")
}
