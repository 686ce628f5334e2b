// Command bench measures Portcullis beside baselines, in one run and as ratios,
// on the stand-ins for Azure. It asserts nothing about time, and fails when the
// work was not done: a request that did not open, a grant that did not close.
// docs/performance.md says what the figures mean.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type options struct {
	app, nothing, dir, write string
	profile                  string
	starts, submits, rounds  int
	messages                 int
	bursts                   [2]burstOptions
	only                     string
}

func main() {
	var o options
	flag.StringVar(&o.app, "app", "dist/app", "the staged function app")
	flag.StringVar(&o.nothing, "nothing", "bin/nothing", "the handler that does nothing")
	flag.StringVar(&o.dir, "dir", ".local/bench", "where the local CA and the log are kept")
	flag.StringVar(&o.write, "write", "", "a document whose section between the markers is rewritten")
	flag.StringVar(&o.profile, "profile", "", "the folder for the profiles of a handler that make profile built")
	flag.StringVar(&o.only, "only", "start,submit,burst,broker", "the measurements to make")
	flag.IntVar(&o.starts, "starts", 20, "pairs of starts")
	flag.IntVar(&o.submits, "submits", 100, "pairs of submits")
	flag.IntVar(&o.rounds, "rounds", 15, "rounds of sends and receives")
	flag.IntVar(&o.messages, "messages", 5000, "messages in a round")
	small, large := &o.bursts[0], &o.bursts[1]
	flag.IntVar(&small.grants, "grants", 200, "requests in a burst")
	flag.IntVar(&small.naive, "baseline-grants", 5, "grants that the naive worker opens and closes for each burst")
	flag.DurationVar(&small.latency, "latency", time.Second, "how long a write of a network security group takes")
	few, many := burstCase{}, burstCase{}
	flag.IntVar(&few.machines, "machines", 20, "machines that they ask for, by turns")
	flag.IntVar(&few.bursts, "bursts", 4, "bursts over these machines")
	flag.DurationVar(&few.lease, "lease", 20*time.Second, "how long their grants last from the first send")
	flag.IntVar(&many.bursts, "many-bursts", 1, "bursts over a machine for each request")
	flag.DurationVar(&many.lease, "many-lease", 50*time.Second, "how long their grants last from the first send")
	thousand := burstCase{}
	flag.IntVar(&large.grants, "large-grants", 1000, "requests in a large burst")
	flag.IntVar(&large.naive, "large-baseline-grants", 2, "grants that the naive worker opens and closes beside it")
	flag.DurationVar(&large.latency, "large-latency", 10*time.Second, "how long a write takes there")
	flag.IntVar(&thousand.machines, "large-machines", 200, "machines that they ask for, by turns")
	flag.IntVar(&thousand.bursts, "large-bursts", 1, "large bursts")
	flag.DurationVar(&thousand.lease, "large-lease", 110*time.Second, "how long their grants last from the first send")
	flag.Parse()
	many.machines = small.grants
	small.cases, large.cases = []burstCase{few, many}, []burstCase{thousand}
	large.batched = true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	if o.profile != "" {
		// The handler runs in a folder of its own.
		dir, err := filepath.Abs(o.profile)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		o.profile = dir
	}
	log, err := os.Create(filepath.Join(o.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	measures, told, err := o.measure(ctx, log)
	if err != nil {
		return fmt.Errorf("%w (the log is in %s)", err, log.Name())
	}
	rendered, err := table(measures)
	if err != nil {
		return err
	}
	text := heading() + "\n\n" + rendered
	for _, t := range told {
		text += "\n- " + t
	}
	fmt.Println(text)
	if o.write == "" {
		return nil
	}
	doc, err := os.ReadFile(o.write)
	if err != nil {
		return err
	}
	if doc, err = splice(doc, text); err != nil {
		return err
	}
	return os.WriteFile(o.write, doc, 0o644)
}

// measure makes the measurements that were asked for. All but the burst go
// without the Functions host, so that nothing else runs beside them.
func (o options) measure(ctx context.Context, log io.Writer) (all []*measure, told []string, err error) {
	wanted := func(name string) bool { return strings.Contains(","+o.only+",", ","+name+",") }
	take := func(name string, do func() ([]*measure, []string, error)) {
		if err != nil || !wanted(name) {
			return
		}
		fmt.Fprintln(os.Stderr, "bench: measuring", name)
		var m []*measure
		var t []string
		m, t, err = do()
		all, told = append(all, m...), append(told, t...)
	}
	if wanted("start") || wanted("submit") || wanted("broker") {
		s, e := startLocal(ctx, o, "", 1, 0, log)
		if e != nil {
			return nil, nil, e
		}
		defer s.Close()
		take("start", func() ([]*measure, []string, error) {
			m, err := measureStart(ctx, s.Env(), filepath.Join(o.app, "handler"), o.nothing, o.starts)
			return m, nil, err
		})
		take("submit", func() ([]*measure, []string, error) { return measureSubmit(ctx, s, o.submits) })
		take("broker", func() ([]*measure, []string, error) {
			m, err := measureBroker(ctx, s, o.dir, o.messages, o.rounds)
			return m, nil, err
		})
	}
	for _, b := range o.bursts {
		take("burst", func() ([]*measure, []string, error) { return measureBurst(ctx, o, b, log) })
	}
	return all, told, err
}
