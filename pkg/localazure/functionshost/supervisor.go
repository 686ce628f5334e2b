package functionshost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Constants of the host (WorkerConstants, HttpFunctionInvocationDispatcher).
const (
	readyPoll        = 25 * time.Millisecond
	exitRestart      = 200
	errorLimit       = 3
	errorForgetAfter = 30 * time.Minute
)

var (
	// ErrHandlerFailed is what Run returns when the handler failed for the
	// third time within 30 minutes.
	ErrHandlerFailed = errors.New("the handler failed three times within 30 minutes, the host stops")
	// errStopped is what an invocation gets that still waits for the handler
	// when the host ends.
	errStopped = errors.New("the host has stopped")
)

// supervisor keeps the handler process running, by the host's rules.
type supervisor struct {
	options     hostOptions
	environment []string
	console     *console
	log         *slog.Logger
	restarts    chan *child // runs that are to be ended and followed by another
	started     func()      // is told of every run that became ready

	mu      sync.Mutex
	current *child
	ready   chan struct{} // closed while current may be called
	stopped chan struct{} // closed when run has returned
}

func newSupervisor(options hostOptions, environment []string, c *console, log *slog.Logger) *supervisor {
	return &supervisor{
		options: options, environment: environment, console: c, log: log,
		restarts: make(chan *child),
		started:  func() {},
		ready:    make(chan struct{}),
		stopped:  make(chan struct{}),
	}
}

// address waits for a run of the handler that is ready and returns it. A run
// that exited with code 0 stays ready: the host goes on calling its dead port.
func (s *supervisor) address(ctx context.Context) (*child, error) {
	for {
		s.mu.Lock()
		current, ready := s.current, s.ready
		s.mu.Unlock()
		if current != nil {
			return current, nil
		}
		select {
		case <-ready:
		case <-s.stopped:
			return nil, errStopped
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// restart ends a run and starts another, without counting it as an error; it
// does nothing if that run is not the current one. Calls from now on wait for
// the next run.
func (s *supervisor) restart(run *child) {
	if !s.setDown(run) {
		return
	}
	select {
	case s.restarts <- run:
	case <-s.stopped:
	}
}

func (s *supervisor) setReady(run *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = run
	close(s.ready)
}

// setDown makes calls wait if run is the one that they would go to, and tells
// whether it was.
func (s *supervisor) setDown(run *child) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != run {
		return false
	}
	s.current, s.ready = nil, make(chan struct{})
	return true
}

// run starts and restarts the handler until ctx ends (nil) or the host has to
// give up. No process of the handler's group is left when it returns.
func (s *supervisor) run(ctx context.Context) error {
	defer close(s.stopped)
	var failures errorCount
	for ctx.Err() == nil {
		err := s.once(ctx)
		var start *startError
		switch {
		case err == nil:
			continue // asked for
		case errors.As(err, &start):
			return err // another attempt would end no differently
		}
		s.console.line(levelError, "Host", err.Error())
		if failures.add(time.Now()) >= errorLimit {
			return fmt.Errorf("%w: %w", ErrHandlerFailed, err)
		}
	}
	return nil
}

// errorCount counts the handler's failures. One long after the one before it
// starts a new count (AddOrUpdateErrorBucket).
type errorCount struct {
	n    int
	last time.Time
}

// add counts a failure and gives the count.
func (c *errorCount) add(now time.Time) int {
	if now.Sub(c.last) > errorForgetAfter {
		c.n = 0
	}
	c.n++
	c.last = now
	return c.n
}

// startError is a handler that cannot be started at all.
type startError struct{ error }

// once runs the handler one time. It returns nil when the handler is to be
// started again, or ctx ended, and an error when it failed.
func (s *supervisor) once(ctx context.Context) error {
	run, err := startChild(s.options, s.environment, s.console)
	if err != nil {
		return &startError{err}
	}
	defer func() { s.setDown(run); run.kill() }()
	s.log.Debug("handler started", "pid", run.pid, "address", run.address)
	died, err := s.awaitReady(ctx, run)
	if err != nil || died || ctx.Err() != nil {
		return err
	}
	s.started()
	s.setReady(run)
	done := run.done
	for {
		select {
		case <-ctx.Done():
			return nil
		case victim := <-s.restarts:
			if victim == run {
				return nil
			}
		case <-done:
			again, err := s.afterExit(run)
			if again || err != nil {
				return err
			}
			done = nil // code 0: the host does nothing
		}
	}
}

// afterExit judges the exit code: 200 asks for a restart, 0 is left alone,
// anything else is an error.
func (s *supervisor) afterExit(run *child) (again bool, err error) {
	switch run.code {
	case 0:
		s.log.Warn("the handler exited with code 0; the host does not start it again and its calls will fail")
		return false, nil
	case exitRestart:
		s.log.Info("the handler asked for a restart")
		return true, nil
	}
	return false, fmt.Errorf("the handler exited with code %d", run.code)
}

// awaitReady polls until the handler answers HTTP, with any status. died tells
// that it asked for a restart before.
func (s *supervisor) awaitReady(ctx context.Context, run *child) (died bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.initTimeout, errNotReady)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	probe := &http.Client{Transport: transport, CheckRedirect: noRedirect}
	done := run.done
	for {
		if answers(ctx, probe, run.address) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			if context.Cause(ctx) == errNotReady {
				return false, fmt.Errorf("%w within %v", errNotReady, s.options.initTimeout)
			}
			return false, nil
		case <-done:
			again, err := s.afterExit(run)
			if again || err != nil {
				return again, err
			}
			done = nil
		case <-time.After(readyPoll):
		}
	}
}

var errNotReady = errors.New("the handler did not answer HTTP")

// answers tells whether the handler's server is there: a connection that cannot
// be made means not yet, whatever else happens means yes (IsWorkerReady).
func answers(ctx context.Context, client *http.Client, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err == nil {
		response.Body.Close()
		return true
	}
	var op *net.OpError
	return ctx.Err() == nil && !(errors.As(err, &op) && op.Op == "dial")
}

// noRedirect returns redirects as answers: a handler must not make the host
// call somewhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
