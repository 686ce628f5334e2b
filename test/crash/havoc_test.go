package crash

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/portcullis-access/portcullis/internal/staged"
	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// mostDeaths is how often the handler dies by itself: the host gives up at its
// third error within 30 minutes, as the real one does, and the platform would
// start another host. The faults' kills are the host's own, as after a timeout,
// and do not count there.
const mostDeaths = 2

// part is a stand-in with its fault plan.
type part struct {
	name   string
	faults *fault.Injector
	// kinds are what befalls it, each with some chance.
	kinds []fault.Rule
	// out makes it unreachable for a while.
	out string
}

func ms(n int) fault.Duration { return fault.Duration(time.Duration(n) * time.Millisecond) }

func (w *world) parts() []part {
	return []part{
		{"host", w.stack.Host.Faults(), []fault.Rule{
			{On: "invoke *", Do: fault.Kill, Delay: ms(40), Chance: 0.05, Times: 1},
			{On: "invoke ReconcileNsg", Do: fault.Kill, Delay: ms(300), Chance: 0.1, Times: 1},
			{On: "http *", Do: fault.Kill, Delay: ms(20), Chance: 0.05, Times: 1},
			{On: "invoke *", Do: fault.LoseReply, Chance: 0.05},
			{On: "invoke *", Do: fault.Lock, Chance: 0.05},
			{On: "invoke *", Do: fault.Drop, Chance: 0.05},
			{On: "http *", Do: fault.LoseReply, Chance: 0.05},
		}, ""},
		{"Resource Manager", w.stack.ResourceManager.Faults(), []fault.Rule{
			{On: "PUT *", Do: fault.Conflict, Chance: 0.1},
			{On: "PUT *", Do: fault.LoseReply, Chance: 0.1},
			{On: "PUT *", Do: fault.Throttle, Delay: ms(1000), Chance: 0.05},
			{On: "GET *", Do: fault.Throttle, Delay: ms(1000), Chance: 0.02},
			{On: "GET *", Do: fault.Drop, Chance: 0.02},
			{On: "PUT *", Do: fault.Drop, Chance: 0.05},
			{On: "operation *", Do: fault.Slow, Delay: ms(1000), Chance: 0.2},
			{On: "operation *", Do: fault.Conflict, Chance: 0.1},
			{On: "GET *", Do: fault.Slow, Delay: ms(200), Chance: 0.1},
		}, "*"},
		{"Tables", w.stack.Tables.Faults(), []fault.Rule{
			{On: "*", Do: fault.Throttle, Chance: 0.02},
			{On: "merge *", Do: fault.Conflict, Chance: 0.05},
			{On: "*", Do: fault.LoseReply, Chance: 0.03},
			{On: "*", Do: fault.Drop, Chance: 0.03},
			{On: "*", Do: fault.Slow, Delay: ms(150), Chance: 0.05},
		}, "*"},
		{"Service Bus", w.stack.ServiceBus.Faults(), []fault.Rule{
			{On: "send *", Do: fault.LoseReply, Chance: 0.05},
			{On: "send *", Do: fault.Drop, Chance: 0.03},
			{On: "send *", Do: fault.Throttle, Delay: ms(1000), Chance: 0.03},
			{On: "settle *", Do: fault.Lock, Chance: 0.05},
			{On: "settle *", Do: fault.LoseReply, Chance: 0.03},
			{On: "send *", Do: fault.Slow, Delay: ms(300), Chance: 0.05},
		}, "*"},
		{"identity", w.stack.Identity.Faults(), []fault.Rule{
			{On: "token *", Do: fault.Throttle, Delay: ms(1000), Chance: 0.2},
			{On: "token *", Do: fault.Drop, Chance: 0.2},
			{On: "keys", Do: fault.Drop, Chance: 0.3},
		}, "*"},
	}
}

// havoc makes the stand-ins fail until ctx ends, in spells: each has some of the
// kinds for each part, and in one of three a part that cannot be reached at all.
func (w *world) havoc(ctx context.Context) {
	w.struck = map[string]int{}
	parts := w.parts()
	for ctx.Err() == nil {
		lost := w.random.IntN(3 * len(parts))
		for i, p := range parts {
			plan := fault.Plan{Seed: w.random.Uint64()}
			if i == lost && p.out != "" {
				plan.Rules = append(plan.Rules, fault.Rule{On: p.out, Do: fault.Drop})
			}
			for _, r := range p.kinds {
				if w.random.IntN(2) == 0 || r.Do == fault.Kill {
					plan.Rules = append(plan.Rules, r)
				}
			}
			w.set(p, plan)
		}
		spell := time.NewTimer(time.Duration(800+w.random.IntN(1200)) * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-spell.C:
		}
		spell.Stop()
		if w.deaths < mostDeaths && w.random.IntN(2) == 0 {
			w.die()
		}
	}
}

// heal ends all faults.
func (w *world) heal() {
	for _, p := range w.parts() {
		w.set(p, fault.Plan{})
	}
}

// set replaces a part's plan, and counts what the one before it did.
func (w *world) set(p part, plan fault.Plan) {
	before, counts := p.faults.State()
	for i, c := range counts {
		w.struck[p.name+": "+string(before.Rules[i].Do)] += c.Struck
		if before.Rules[i].Do == fault.Kill {
			w.kills += c.Struck
		}
	}
	if err := p.faults.Set(plan); err != nil {
		w.t.Error(err)
	}
}

// die ends the handler's process from outside, as the kernel does when memory
// runs out.
func (w *world) die() {
	if runtime.GOOS != "linux" {
		w.t.Log("only on Linux is the handler's process found and killed from outside")
		return
	}
	handler, err := filepath.EvalSymlinks(filepath.Join(staged.App(w.dir), "handler"))
	if err != nil {
		w.t.Error(err)
		return
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, link := range links {
		// Those of others cannot be read, and some end meanwhile.
		if to, err := os.Readlink(link); err != nil || to != handler {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			w.deaths++
		}
	}
}
