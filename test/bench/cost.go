package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/test/bench/profile"
)

// tick is the unit of the times in /proc/<pid>/stat: USER_HZ is 100 on every
// architecture that Go runs on (proc(5), time(7)).
const tick = 10 * time.Millisecond

// costs meters the handler's process while it serves a burst. The zero value
// meters nothing.
type costs struct {
	pid      int             // 0 where there is no /proc
	profiles *profile.Client // nil unless the handler is profiled
}

// cost is what the process took for one phase of a burst.
type cost struct {
	cpu  time.Duration // 0 where there is no /proc
	most float64       // MiB that it ever held
	used profile.Used  // if profiled
}

// newCosts finds the process of the app's handler, of which only one may run.
func newCosts(app, profiles string) (c costs, err error) {
	if profiles != "" {
		c.profiles = profile.NewClient(profiles)
	}
	if !hasProc {
		return c, nil
	}
	handler, err := filepath.Abs(filepath.Join(app, "handler"))
	if err != nil {
		return c, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return c, err
	}
	for _, link := range links {
		// Those of others cannot be read, and some end meanwhile.
		if to, err := os.Readlink(link); err != nil || to != handler {
			continue
		}
		if c.pid != 0 {
			return c, errors.New("two handlers run: " + handler)
		}
		if c.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(link))); err != nil {
			return c, err
		}
	}
	if c.pid == 0 {
		return c, errors.New("no handler runs: " + handler)
	}
	return c, nil
}

// phase begins a phase; the function that it gives ends it.
func (c costs) phase(ctx context.Context, name string) (end func() (cost, error), err error) {
	if c.profiles != nil {
		if err := c.profiles.Begin(ctx, name); err != nil {
			return nil, err
		}
	}
	before, err := c.cpu()
	return func() (cost, error) {
		after, err := c.cpu()
		out := cost{cpu: after - before}
		if err == nil && c.pid != 0 {
			out.most, err = procField(c.pid, "status", "VmHWM:")
		}
		if err == nil && c.profiles != nil {
			out.used, err = c.profiles.End(ctx, name)
		}
		return out, err
	}, err
}

func (c costs) cpu() (time.Duration, error) {
	if c.pid == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		return 0, fmt.Errorf("the handler ended: %w", err)
	}
	return processorTime(string(text))
}

// processorTime reads utime and stime, the 14th and 15th field. The second is
// the name in parentheses, and may have spaces.
func processorTime(stat string) (time.Duration, error) {
	const utime = 14 - 3 // among those after the name
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= utime+1 {
		return 0, errors.New("this is no /proc/<pid>/stat: " + stat)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[utime+1], 10, 64)
	return time.Duration(user+system) * tick, err
}

// tellCosts says what the handler took for a request in the middle one of the
// bursts, to open and to close; nothing where it cannot be known.
func tellCosts(bursts [][2]cost, grants int) string {
	middle := func(of func([2]cost) float64) string {
		var all []float64
		for _, b := range bursts {
			all = append(all, of(b)/float64(grants))
		}
		return digits(spreadOf(all).median)
	}
	if len(bursts) == 0 || bursts[0][0].cpu == 0 {
		return ""
	}
	told := fmt.Sprintf(" (the handler took, for each request, %s ms of the processor to open and %s ms to close",
		middle(func(b [2]cost) float64 { return milliseconds.in(b[0].cpu) }), middle(func(b [2]cost) float64 { return milliseconds.in(b[1].cpu) }))
	if bursts[0][0].used.Objects > 0 {
		told += fmt.Sprintf(", with %s KiB in %s allocations and %s KiB in %s",
			middle(func(b [2]cost) float64 { return float64(b[0].used.Bytes) / 1024 }), middle(func(b [2]cost) float64 { return float64(b[0].used.Objects) }),
			middle(func(b [2]cost) float64 { return float64(b[1].used.Bytes) / 1024 }), middle(func(b [2]cost) float64 { return float64(b[1].used.Objects) }))
	}
	var most []float64
	for _, b := range bursts {
		most = append(most, b[1].most)
	}
	return told + fmt.Sprintf("; it held %s MiB at most)", digits(spreadOf(most).max))
}
