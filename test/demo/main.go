// Command demo shows the whole main job on a machine without Azure: a port that
// is shut opens for one address and falls shut by itself, as another system asks
// for it and as people do. Every step is checked;
// one that differs ends it with a non-zero exit that says which.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo: this step differs from what it should be:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	s, err := startStack(ctx)
	if err != nil {
		return fmt.Errorf("starting the local stack: %w", err)
	}
	defer func() {
		if e := s.stop(); e != nil && err == nil {
			err = fmt.Errorf("stopping the local stack: %w", e)
		}
	}()
	d, err := newStory(ctx, s)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"Before: the gate is shut", d.before},
		{"A request from outside the policy's range", d.refused},
		{"A good request", d.opened},
		{"The time is up", d.closed},
		{"An administrator switches it on for web-1", d.enabled},
		{"Alice asks for two ports, one of them from outside its range", d.onePortOutside},
		{"She leaves that one out, is let in, and asks for more time", d.letIn},
		{"She is done early; Bob is not", d.givenBack},
		{"Lockdown", d.lockedDown},
		{"Switched off again", d.disabled},
		{"The customer's own rules", d.untouched},
	} {
		d.title(step.title)
		if err := step.tell(ctx); err != nil {
			return fmt.Errorf("%q: %w (the log is in %s)", step.title, err, s.logFile)
		}
	}
	d.summary()
	return nil
}
