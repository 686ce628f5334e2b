// Azservicebus runs the tests that come inside Microsoft's azservicebus module,
// as they are, against the Service Bus stand-in:
//
//	go run ./test/conformance/azservicebus
//
// The version is the one in go.mod. Each test runs first in the module's
// playback mode, in which it skips itself if it needs a service: so it tells by
// itself that it is a live one. Those then run against the stand-in. Every test
// has to pass but for those that exclusions.go names with a reason, and those
// must not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

const (
	module   = "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	timeout  = 3 * time.Minute // for one test
	parallel = 8               // they mostly wait
)

// suite is a package of the module.
type suite struct {
	pkg        string
	live       int // least number of live tests that have to pass
	exclusions []vendor.Exclusion
}

func main() {
	only := flag.String("run", "", "run the tests whose names match; the lists are then not judged as a whole")
	verbose := flag.Bool("v", false, "print each test as it ends")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := conform(ctx, *only, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func conform(ctx context.Context, only string, verbose bool) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := vendor.Fetch(ctx, module, vendor.Dir)
	if err != nil {
		return err
	}
	site, err := newSite()
	if err != nil {
		return err
	}
	var wrong error
	for _, s := range []suite{{".", 65, rootExclusions()}, {"./admin", 19, adminExclusions()}} {
		if err := s.run(ctx, dir, site, pattern, verbose); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("azservicebus %s: %w", s.pkg, err))
		}
	}
	return errors.Join(wrong, site.close())
}

func (s suite) run(ctx context.Context, dir string, site *site, only *regexp.Regexp, verbose bool) error {
	playback := []string{"AZURE_RECORD_MODE=playback"}
	tests, err := vendor.Build(ctx, dir, s.pkg, playback)
	if err != nil {
		return err
	}
	options := vendor.Options{Env: playback, Only: only, Timeout: timeout, Parallel: parallel, Exclusions: s.exclusions}
	if verbose {
		options.Done = show
	}
	results, err := tests.Run(ctx, options)
	if err != nil {
		return err
	}
	live := liveOnes(results)
	results = slices.DeleteFunc(results, func(r vendor.Result) bool { return live[top(r)] })
	options.Env, options.Each, options.Only = site.env, site.namespace, choice(live)
	fresh, err := tests.Run(ctx, options)
	if err != nil {
		return err
	}
	fmt.Printf("\nazservicebus %s, of %s\n", s.pkg, filepath.Base(dir))
	if only.String() != "" {
		s = s.part(only)
	}
	_, err = vendor.Judge(os.Stdout, append(results, fresh...), s.exclusions)
	if live[trickle] {
		fmt.Printf("%s ran with each delivery slowed down by 1 ms: it takes a slow network for granted\n", trickle)
	}
	passed := 0
	for _, r := range fresh {
		if r.Name == top(r) && r.Outcome == vendor.Pass {
			passed++
		}
	}
	fmt.Printf("%d of %d live tests passed (live: those that skip themselves in playback mode, wanting a service)\n", passed, len(live))
	if passed < s.live {
		err = errors.Join(err, fmt.Errorf("%d live tests passed, and %d have to", passed, s.live))
	}
	return err
}

// part is the suite as far as its tests match.
func (s suite) part(only *regexp.Regexp) suite {
	s.live = 0
	s.exclusions = slices.DeleteFunc(slices.Clone(s.exclusions), func(e vendor.Exclusion) bool {
		name, _, _ := strings.Cut(e.Name, "/")
		return !only.MatchString(name)
	})
	return s
}

// liveOnes are the tests that, in playback mode, skipped themselves or a part of
// themselves for want of a service, in the two ways in which they say so.
func liveOnes(results []vendor.Result) map[string]bool {
	live := map[string]bool{}
	for _, r := range results {
		if r.Outcome == vendor.Skip && (strings.Contains(r.Output, "recording.PlaybackMode") || strings.Contains(r.Output, "live-only")) {
			live[top(r)] = true
		}
	}
	return live
}

func top(r vendor.Result) string {
	name, _, _ := strings.Cut(r.Name, "/")
	return name
}

// choice is a pattern for exactly these names.
func choice(names map[string]bool) *regexp.Regexp {
	var quoted []string
	for name := range names {
		quoted = append(quoted, regexp.QuoteMeta(name))
	}
	return regexp.MustCompile("^(" + strings.Join(quoted, "|") + ")$")
}

func show(results []vendor.Result) {
	r := results[0]
	fmt.Printf("%s %s (%.1fs)\n", r.Outcome, r.Name, r.Elapsed.Seconds())
}
