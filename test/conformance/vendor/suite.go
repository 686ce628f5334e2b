package vendor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Outcome is how a test ended.
type Outcome string

// The outcomes. A test that is neither passed nor skipped has failed, also if
// its process died or ran out of time.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// Result is how one test or sub-test ended.
type Result struct {
	Name     string // as in go test -run: "TestX" or "TestX/sub"
	Outcome  Outcome
	Output   string // of this test alone; for a test that died, of its process
	Elapsed  time.Duration
	Attempts int // more than 1 if it was allowed to be flaky and was
}

// Suite is the compiled tests of one package.
type Suite struct {
	// Names are the tests, in the order of the source.
	Names []string

	bin, dir, converter string
}

// Build compiles the tests of a package, such as "." or "./admin", of the
// module in dir, and lists them. The environment is added to our own.
func Build(ctx context.Context, dir, pkg string, env []string) (*Suite, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Suite{dir: filepath.Join(dir, pkg)}
	s.bin = filepath.Join(s.dir, "conformance.test")
	// A workspace around the copy, or build flags, are none of the module's.
	if _, err := run(ctx, dir, []string{"GOWORK=off", "GOFLAGS=-mod=readonly"}, "go", "test", "-c", "-o", s.bin, pkg); err != nil {
		return nil, fmt.Errorf("building the tests: %w", err)
	}
	list, err := run(ctx, s.dir, env, s.bin, "-test.list", "^Test")
	if err != nil {
		return nil, fmt.Errorf("listing the tests: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") {
			s.Names = append(s.Names, name)
		}
	}
	converter, err := run(ctx, dir, nil, "go", "tool", "-n", "test2json")
	if err != nil {
		return nil, err
	}
	s.converter = strings.TrimSpace(string(converter))
	return s, nil
}

// Options say how to run a suite.
type Options struct {
	// Env is added to our own environment.
	Env []string
	// Each, if set, is called before each attempt at a test, with its name, and
	// gives what is to be added to the environment besides, and what to call
	// after: so that each may have a server of its own. Attempts run at the same
	// time if Parallel says so.
	Each func(test string) (env []string, after func() error, err error)
	// Only, if set, names the tests to run.
	Only *regexp.Regexp
	// Timeout is for each attempt at each test: above 0.
	Timeout time.Duration
	// Parallel is how many tests run at once, each in a process of its own;
	// 0 is one.
	Parallel int
	// Exclusions say which tests may be tried again, or are given less time.
	Exclusions []Exclusion
	// Done, if set, is told of each test's results as it ends, one at a time.
	Done func([]Result)
}

// Run runs each test in its own process and gives the results of all tests and
// sub-tests in the order of Names. An error is of the running; that a test has
// failed is none.
func (s *Suite) Run(ctx context.Context, o Options) ([]Result, error) {
	var names []string
	for _, name := range s.Names {
		if o.Only == nil || o.Only.MatchString(name) {
			names = append(names, name)
		}
	}
	results := make([][]Result, len(names))
	done := make(chan int)
	var g errgroup.Group
	g.SetLimit(max(o.Parallel, 1))
	var err error
	go func() {
		for i, name := range names {
			g.Go(func() (err error) {
				results[i], err = s.one(ctx, name, o)
				done <- i
				return err
			})
		}
		err = g.Wait()
		close(done)
	}()
	for i := range done {
		if o.Done != nil && results[i] != nil {
			o.Done(results[i])
		}
	}
	return slices.Concat(results...), err
}

// one runs a test until it passes or has had its attempts.
func (s *Suite) one(ctx context.Context, name string, o Options) ([]Result, error) {
	attempts, timeout := 1, o.Timeout
	for _, e := range o.Exclusions {
		if top, _, _ := strings.Cut(e.Name, "/"); top != name {
			continue
		}
		attempts = max(attempts, e.Attempts)
		if e.Timeout > 0 {
			timeout = min(timeout, e.Timeout)
		}
	}
	for n := 1; ; n++ {
		results, err := s.prepared(ctx, name, timeout, o)
		if err != nil {
			return nil, err
		}
		for i := range results {
			results[i].Attempts = n
		}
		if n == attempts || !slices.ContainsFunc(results, func(r Result) bool { return r.Outcome == Fail }) {
			return results, nil
		}
	}
}

func (s *Suite) prepared(ctx context.Context, name string, timeout time.Duration, o Options) (results []Result, err error) {
	env := o.Env
	if o.Each != nil {
		more, after, eachErr := o.Each(name)
		if eachErr != nil {
			return nil, fmt.Errorf("preparing %s: %w", name, eachErr)
		}
		defer func() { err = errors.Join(err, after()) }()
		env = slices.Concat(env, more)
	}
	return s.attempt(ctx, name, timeout, env)
}

func (s *Suite) attempt(ctx context.Context, name string, timeout time.Duration, env []string) ([]Result, error) {
	// The test binary ends itself, with its stacks; should it not, we do.
	const grace = 10 * time.Second
	killed, cancel := context.WithTimeout(ctx, timeout+grace)
	defer cancel()
	cmd := exec.CommandContext(killed, s.bin, "-test.run", "^"+regexp.QuoteMeta(name)+"$", "-test.v=test2json",
		"-test.count=1", "-test.timeout", timeout.String())
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, append(os.Environ(), env...), time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	elapsed := time.Since(start)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && killed.Err() == nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	results, convErr := s.convert(ctx, out.Bytes())
	if convErr != nil {
		return nil, fmt.Errorf("%s: %w", name, convErr)
	}
	return settle(results, name, err, elapsed, out.String()), nil
}

// event is a line of test2json.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// convert turns the output of a test binary into results, in the order in which
// the tests began.
func (s *Suite) convert(ctx context.Context, out []byte) ([]Result, error) {
	cmd := exec.CommandContext(ctx, s.converter)
	cmd.Stdin = bytes.NewReader(out)
	converted, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("test2json: %w", err)
	}
	var results []Result
	index := map[string]int{}
	for dec := json.NewDecoder(bytes.NewReader(converted)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("test2json: %w", err)
		}
		if e.Test == "" {
			continue
		}
		i, ok := index[e.Test]
		if !ok {
			i = len(results)
			index[e.Test] = i
			results = append(results, Result{Name: e.Test})
		}
		switch e.Action {
		case "output":
			results[i].Output += e.Output
		case "pass", "fail", "skip":
			results[i].Outcome = Outcome(e.Action)
			results[i].Elapsed = time.Duration(e.Elapsed * float64(time.Second))
		}
	}
	return results, nil
}

// settle makes sure that a process that died counts against its test, and that
// what did not end has failed.
func settle(results []Result, name string, err error, elapsed time.Duration, out string) []Result {
	if !slices.ContainsFunc(results, func(r Result) bool { return r.Name == name }) {
		results = append([]Result{{Name: name}}, results...)
	}
	for i := range results {
		r := &results[i]
		if r.Name == name {
			r.Elapsed = elapsed
			if err != nil && r.Outcome != Fail {
				r.Outcome, r.Output = Fail, err.Error()+"\n"+out
			}
		}
		if r.Outcome == "" {
			r.Outcome = Fail
		}
		r.Output = tail(r.Output)
	}
	return results
}
