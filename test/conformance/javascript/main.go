// Command javascript lets Microsoft's JavaScript SDKs do the main job against
// the stand-ins, as a foreign system would: main-job.mjs beside it is given the
// variables of the local stack's environment file and nothing else. Run it from
// the module's root, after make stage. Without Node it says so and exits 0.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	source = "test/conformance/javascript"
	// work is where the packages are installed, and the log is kept.
	work = ".local/conformance/javascript"
	// oldest is the oldest major version of Node that the SDKs run on.
	oldest = 20
	// patience bounds the whole run, and grace the end of a process in it.
	patience = 5 * time.Minute
	grace    = 20 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, ok := find(ctx)
	if !ok {
		fmt.Printf("SKIPPED: Node (>= %d) and npm are not on this machine\n", oldest)
		return
	}
	if err := run(ctx, t); err != nil {
		fmt.Fprintln(os.Stderr, "javascript:", err)
		os.Exit(1)
	}
}

// tools are the programs that the machine has to have.
type tools struct{ node, npm string }

func find(ctx context.Context) (t tools, ok bool) {
	var err error
	if t.node, err = exec.LookPath("node"); err != nil {
		return t, false
	}
	if t.npm, err = exec.LookPath("npm"); err != nil {
		return t, false
	}
	out, err := exec.CommandContext(ctx, t.node, "--version").Output()
	return t, err == nil && recent(string(out))
}

// recent tells whether what node --version printed is a version to run on.
func recent(version string) bool {
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "v"), ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= oldest
}

func run(ctx context.Context, t tools) (err error) {
	start := time.Now()
	if err := install(ctx, t); err != nil {
		return fmt.Errorf("installing the packages: %w", err)
	}
	installed := time.Now()
	s, err := startStack(ctx)
	if err != nil {
		return fmt.Errorf("starting the local stack: %w", err)
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	up := time.Now()
	during, cancel := s.while(ctx)
	defer cancel()
	if err := mainJob(during, t, s.env); err != nil {
		return fmt.Errorf("the main job: %w (the stack's log is in %s)", err, s.log)
	}
	done := time.Now()
	fmt.Printf("%.1f s: packages %.1f s, stack %.1f s, the main job %.1f s\n", done.Sub(start).Seconds(),
		installed.Sub(start).Seconds(), up.Sub(installed).Seconds(), done.Sub(up).Seconds())
	return nil
}

// install copies the module to where node finds its packages, which it looks for
// beside a module and above it, and installs those unless they are there.
func install(ctx context.Context, t tools) error {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	modules, err := filepath.Glob(source + "/*.mjs")
	if err != nil || len(modules) == 0 {
		return errors.Join(err, errors.New("no modules in "+source+": run this from the module's root"))
	}
	var wanted []byte
	for _, file := range append(modules, source+"/package.json", source+"/package-lock.json") {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if filepath.Ext(file) == ".json" {
			wanted = append(wanted, data...)
		}
		if err := os.WriteFile(filepath.Join(work, filepath.Base(file)), data, 0o644); err != nil {
			return err
		}
	}
	// The mark is written last: an install that was cut off is done again.
	mark := filepath.Join(work, "installed")
	if have, err := os.ReadFile(mark); err == nil && bytes.Equal(have, wanted) {
		return nil
	}
	c := exec.CommandContext(ctx, t.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	c.Dir = work
	if out, err := end(c).CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, out)
	}
	return os.WriteFile(mark, wanted, 0o644)
}

// mainJob runs the module with the given variables and no other.
func mainJob(ctx context.Context, t tools, env []string) error {
	c := exec.CommandContext(ctx, t.node, "main-job.mjs")
	c.Dir, c.Env = work, env
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := end(c).Run(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// end has the command asked to end when its context does, before it is made to.
func end(c *exec.Cmd) *exec.Cmd {
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = grace
	return c
}
