package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stack is the local stack, in a process of its own.
type stack struct {
	dir, log string
	// env is what its environment file says, NAME=value.
	env  []string
	proc *exec.Cmd
	// ended is closed once the process is gone, and err is how it went.
	ended chan struct{}
	err   error
}

var errEnded = errors.New("the local stack ended by itself")

// while gives a context that ends with the stack, with errEnded as its cause.
func (s *stack) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.ended:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// startStack starts the staged app and the stand-ins on free ports, and returns
// once all of them serve.
func startStack(ctx context.Context) (s *stack, err error) {
	if _, err := os.Stat("dist/app/handler"); err != nil {
		return nil, fmt.Errorf("%w: make stage comes first", err)
	}
	dir, err := os.MkdirTemp("", "portcullis-javascript-")
	if err != nil {
		return nil, err
	}
	s = &stack{dir: dir, log: filepath.Join(work, "log"), ended: make(chan struct{})}
	s.proc = exec.Command("bin/portcullis-local", "run", "--free-ports", "--dir", dir, "--log", s.log,
		"--policy", "docs/examples/policy.json", "--latency", "300ms",
		// It is also how long the module asks for.
		"--set", "PORTCULLIS_SHORTEST_DURATION=PT10S")
	s.proc.Stderr = os.Stderr
	if err := s.proc.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		s.err = s.proc.Wait()
		close(s.ended)
	}()
	// The file appears whole, once everything is up.
	for file := filepath.Join(dir, "env"); ; {
		if data, err := os.ReadFile(file); err == nil {
			s.env = variables(string(data))
			return s, nil
		}
		select {
		case <-s.ended:
			return nil, errors.Join(errEnded, s.err, os.RemoveAll(dir))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// variables reads an environment file as a shell would: each value stands in
// single quotes.
func variables(file string) []string {
	var env []string
	for line := range strings.Lines(file) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			value = strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'")
			env = append(env, name+"="+strings.ReplaceAll(value, `'\''`, "'"))
		}
	}
	return env
}

// stop ends the stack, and with it every process that it started.
func (s *stack) stop() error {
	if err := s.proc.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		return errors.Join(s.err, os.RemoveAll(s.dir))
	case <-time.After(grace):
		return errors.Join(errors.New("the local stack did not stop"), s.proc.Process.Kill(), os.RemoveAll(s.dir))
	}
}
