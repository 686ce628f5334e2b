package tables_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	local "github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

const gateKey = "YSBrZXkgb2YgdGhlIHRlc3Q="

// standIn makes a stand-in that is called without a network, so that a test may
// hold the time.
func standIn(t *testing.T) http.Handler {
	t.Helper()
	h, err := local.New(local.Config{Account: "acc", Key: gateKey, Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	return h
}

// transport sends requests.
type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

// service makes a client whose requests go through the transport.
func service(t *testing.T, through transport) *aztables.ServiceClient {
	t.Helper()
	cred, err := aztables.NewSharedKeyCredential("acc", gateKey)
	check(t, err)
	o := &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: through}}
	o.Retry.MaxRetries = 1
	o.Retry.RetryDelay = time.Millisecond
	c, err := aztables.NewServiceClientWithSharedKey("https://acc.table.core.windows.net", cred, o)
	check(t, err)
	return c
}

func storeOver(t *testing.T, through transport) *tables.Store {
	t.Helper()
	s, err := tables.New(service(t, through))
	check(t, err)
	return s
}

func serve(h http.Handler, r *http.Request) *http.Response {
	rec := httptest.NewRecorder()
	in := r.Clone(context.WithoutCancel(r.Context()))
	in.RequestURI, in.Host = r.URL.RequestURI(), r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	h.ServeHTTP(rec, in)
	res := rec.Result()
	res.Request = r
	return res
}

var errCutOff = errors.New("cut off by the test")

// gate holds the requests of some stores until one is let go.
type gate struct {
	h     http.Handler
	mu    sync.Mutex
	held  []*held
	ended bool
}

// held is a request that waits; what is sent on let says what becomes of it.
type held struct {
	actor *actor
	r     *http.Request
	let   chan fate
}

type fate int

const (
	pass fate = iota
	cutBefore
	cutAfter
)

// actor is a process: once cut off, it does nothing any more.
type actor struct {
	g *gate
	// frozen says that its requests land however late they are.
	frozen bool
	mu     sync.Mutex
	dead   bool
}

func (a *actor) gone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead
}

func (a *actor) die() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = true
}

// do holds the request and then does with it as was decided.
func (a *actor) do(r *http.Request) (*http.Response, error) {
	h := &held{a, r, make(chan fate, 1)}
	if a.gone() || !a.g.hold(h) {
		return nil, errCutOff
	}
	var done <-chan struct{}
	if !a.frozen {
		done = r.Context().Done()
	}
	var what fate
	select {
	case what = <-h.let:
	case <-done:
		a.g.forget(h)
		return nil, r.Context().Err()
	}
	if a.gone() {
		return nil, errCutOff
	}
	if what == cutBefore {
		a.die()
		return nil, errCutOff
	}
	res := serve(a.g.h, r)
	if what == cutAfter {
		a.die()
		return nil, errCutOff
	}
	return res, nil
}

// hold keeps the request, unless the run is over.
func (g *gate) hold(h *held) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.held = append(g.held, h)
	}
	return !g.ended
}

// drain ends the run: nothing is held any more.
func (g *gate) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for _, h := range g.held {
		h.let <- cutBefore
	}
	g.held = nil
}

func (g *gate) forget(h *held) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.held {
		if x == h {
			g.held = append(g.held[:i], g.held[i+1:]...)
			return
		}
	}
}

// take gives one of the held requests, chosen by pick, or nil.
func (g *gate) take(pick func(n int) int) *held {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) == 0 {
		return nil
	}
	i := pick(len(g.held))
	h := g.held[i]
	g.held = append(g.held[:i], g.held[i+1:]...)
	return h
}
