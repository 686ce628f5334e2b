package functionshost

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// What an invocation fails with that a fault befell.
var (
	errDropped   = errors.New("fault: the connection to the handler was dropped")
	errReplyLost = errors.New("fault: the handler's answer was lost")
	errKilled    = errors.New("fault: the handler was killed")
)

func newInjector() *fault.Injector {
	return fault.New(fault.Slow, fault.Throttle, fault.Lock, fault.LoseReply, fault.Drop, fault.Refuse, fault.Pause, fault.Kill)
}

// Faults is the host's fault plan; the package says what it may hold.
func (h *Host) Faults() *fault.Injector { return h.faults }

// letPass does to a request what befalls it before it is routed, and reports
// whether it goes on.
func (h *Host) letPass(w http.ResponseWriter, r *http.Request, s *fault.Strike) bool {
	// The host may end while the request is held.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.base, cancel)()
	if err := s.Hold(ctx); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	switch s.Kind {
	case fault.Drop:
		panic(http.ErrAbortHandler)
	case fault.Throttle:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(s.Delay.Seconds())))))
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	case fault.Refuse:
		w.WriteHeader(http.StatusForbidden)
		return false
	}
	return true
}

// struckBy is work as the strike, if there is one, lets it happen.
func struckBy(s *fault.Strike, loseLock func(), work func(context.Context, invocation) error) func(context.Context, invocation) error {
	if s == nil {
		return work
	}
	return func(ctx context.Context, inv invocation) error {
		switch s.Kind {
		case fault.Drop, fault.Throttle, fault.Refuse:
			return errDropped
		case fault.LoseReply:
			return instead(work(ctx, inv), errReplyLost)
		case fault.Lock:
			return inv.withoutLock(ctx, loseLock, work)
		case fault.Kill:
			return instead(inv.killing(ctx, s.Delay, work), errKilled)
		}
		return work(ctx, inv)
	}
}

// instead is err, or what became of a success.
func instead(err, of error) error {
	if err != nil {
		return err
	}
	return of
}

// withoutLock gives up the lock, if there is one, once the handler has the
// request, and lets it work on.
func (inv invocation) withoutLock(ctx context.Context, lose func(), work func(context.Context, invocation) error) error {
	var losing sync.WaitGroup
	defer losing.Wait()
	if lose != nil {
		inv.sent = sync.OnceFunc(func() { losing.Go(lose) })
	}
	return work(ctx, inv)
}

// killing kills the handler the delay after it has the request, or at its
// answer if that comes first.
func (inv invocation) killing(ctx context.Context, delay time.Duration, work func(context.Context, invocation) error) error {
	sent, done := make(chan struct{}), make(chan error, 1)
	inv.sent = sync.OnceFunc(func() { close(sent) })
	go func() { done <- work(ctx, inv) }()
	var err error
	select {
	case err = <-done:
	case <-sent:
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			inv.host.handler.restart(inv.run)
			return <-done
		}
	}
	inv.host.handler.restart(inv.run)
	return err
}

// traced tells inv.sent when the request has gone out whole.
func (inv invocation) traced(ctx context.Context) context.Context {
	if inv.sent == nil {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			inv.sent()
		}
	}})
}

// losing is where the handler's answer goes: nowhere, if it is to be lost.
func losing(s *fault.Strike, w http.ResponseWriter) http.ResponseWriter {
	if s != nil && (s.Kind == fault.LoseReply || s.Kind == fault.Kill) {
		return nowhere{}
	}
	return w
}

type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// loseLock gives a message's or session's lock back to the broker, as far as
// others can tell a lock that ran out: the message is there to be taken again,
// and its delivery count goes up.
func (h *Host) loseLock(ctx context.Context, f *function, r receiver, m *azservicebus.ReceivedMessage, session *sessionLock) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	// Closing a session counts no delivery, as the end of its lock does
	// (learn.microsoft.com, message sessions), so the message is abandoned first.
	err := r.Settle(ctx, m, false)
	if session != nil {
		err = errors.Join(err, r.Close(ctx))
	}
	h.log.Warn("fault: the lock is lost", "function", f.Name, "message", m.MessageID, "error", err)
}
