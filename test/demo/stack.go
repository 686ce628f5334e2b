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

// stack is the local stack in a process of its own.
type stack struct {
	bin, dir, logFile string
	proc              *exec.Cmd
	done              chan error
	env               map[string]string
}

func startStack(ctx context.Context) (*stack, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &stack{bin: filepath.Dir(self), done: make(chan error, 1)}
	s.dir = filepath.Join(".local", "demo")
	s.logFile = filepath.Join(s.dir, "log")
	envFile := filepath.Join(s.dir, "env")
	if err := os.Remove(envFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	s.proc = exec.Command(filepath.Join(s.bin, "portcullis-local"), "run", "--free-ports", "--dir", s.dir, "--latency", "300ms",
		"--set", "PORTCULLIS_SHORTEST_DURATION=PT1S")
	s.proc.Stderr = os.Stderr
	if err := s.proc.Start(); err != nil {
		return nil, err
	}
	go func() { s.done <- s.proc.Wait() }()
	for {
		if data, err := os.ReadFile(envFile); err == nil {
			s.env = parseEnv(string(data))
			break
		}
		select {
		case err := <-s.done:
			return nil, fmt.Errorf("it stopped: %w", err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
	// The SDKs of this process read these, as those of any client would.
	for k, v := range s.env {
		if err := os.Setenv(k, v); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

func parseEnv(text string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[name] = strings.Trim(value, "'")
		}
	}
	return env
}

func (s *stack) stop() error {
	if err := s.proc.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.done:
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("it did not stop"), s.proc.Process.Kill())
	}
}

// tool runs one of the programs and gives what it printed.
func (s *stack) tool(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
