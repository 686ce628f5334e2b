package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// startLimit ends the wait for a handler that does not answer.
const startLimit = 30 * time.Second

// hasProc says whether a process's memory can be read here.
const hasProc = runtime.GOOS == "linux"

// settle is how long a handler is left alone before its memory is read.
const settle = 200 * time.Millisecond

// measureStart runs our handler and one that does nothing by turns: from exec
// to the first answer on /, and the memory they hold then. The environment is
// that of the stack, as the host would give it.
func measureStart(ctx context.Context, env map[string]string, ours, nothing string, pairs int) ([]*measure, error) {
	const beside = "a Go handler that only answers 200 (`test/bench/nothing`)"
	start := &measure{name: "Start: exec to first answer on `/`", baseline: beside, unit: milliseconds}
	rss := &measure{name: "Idle memory after it, resident (VmRSS)", baseline: beside, unit: mebibytes}
	pss := &measure{name: "Idle memory after it, proportional (Pss)", baseline: beside, unit: mebibytes}
	for i := range pairs + 1 {
		a, err := startOnce(ctx, env, ours)
		if err != nil {
			return nil, err
		}
		b, err := startOnce(ctx, env, nothing)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			continue // the files come from the disk
		}
		start.add(milliseconds.in(a.took), milliseconds.in(b.took))
		rss.add(a.rss, b.rss)
		pss.add(a.pss, b.pss)
	}
	if !hasProc {
		return []*measure{start}, nil
	}
	return []*measure{start, rss, pss}, nil
}

type started struct {
	took     time.Duration
	rss, pss float64 // MiB
}

func startOnce(ctx context.Context, env map[string]string, path string) (s started, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return s, err
	}
	port, err := freePort()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir = filepath.Dir(path)
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, "FUNCTIONS_CUSTOMHANDLER_PORT="+strconv.Itoa(port))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	err = firstAnswer(ctx, port)
	s.took = time.Since(began)
	if err == nil && hasProc {
		time.Sleep(settle)
		s.rss, s.pss, err = memory(cmd.Process.Pid)
	}
	_ = cmd.Process.Kill() // it may have ended by itself
	_ = cmd.Wait()         // it was killed
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, said.String())
	}
	return s, nil
}

// firstAnswer asks until there is an answer, whatever it says; so does the host.
func firstAnswer(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			return errors.Join(err, res.Body.Close())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer on /: %w", err)
		case <-time.After(500 * time.Microsecond):
		}
	}
}

// memory reads a process's resident and proportional set, in MiB (proc(5)).
func memory(pid int) (rss, pss float64, err error) {
	if rss, err = procField(pid, "status", "VmRSS:"); err != nil {
		return 0, 0, err
	}
	pss, err = procField(pid, "smaps_rollup", "Pss:")
	return rss, pss, err
}

func procField(pid int, file, field string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	return kibibytes(string(data), field)
}

// kibibytes finds a line such as "VmRSS:  1234 kB", and gives it in MiB.
func kibibytes(text, field string) (float64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field && f[2] == "kB" {
			n, err := strconv.ParseFloat(f[1], 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("there is no %s", field)
}
