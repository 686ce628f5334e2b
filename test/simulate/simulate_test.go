package simulate

import (
	"context"
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

var (
	seeds = flag.Int("seeds", usualSeeds, "how many seeds to run")
	from  = flag.Uint64("from", 1, "the first seed")
	twice = flag.Int("twice", 20, "how many seeds are run twice and compared")
	one   = flag.Uint64("seed", 0, "run this seed alone and print its story")
)

const chaos = 75 * time.Minute

// outcomeOf is what a seed came to.
type outcomeOf struct {
	broken error
	story  string
	steps  int
	worst  time.Duration
	met    map[string]int
}

// play runs one seed in a bubble.
func play(t *testing.T, seed uint64, tell bool) (out outcomeOf) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(seed, drawKnobs, tell)
		if err != nil {
			t.Fatal(err)
		}
		w.live()
		w.end()
		out = outcomeOf{broken: w.broken, steps: w.steps, worst: w.judge.worst, met: w.met}
		if tell {
			out.story = w.story.String()
		}
	})
	return out
}

// live is the whole story: an hour and a quarter with the adversary, and then as
// long as anything is left.
func (w *world) live() {
	w.in(w.between(0, time.Minute), w.sweep)
	w.in(w.between(0, 15*time.Minute), w.scan)
	if w.knobs.retention > 0 {
		w.in(w.between(20*time.Minute, 30*time.Minute), w.retire)
	}
	w.plan(chaos)
	w.run(w.began.Add(chaos))
	w.quiet()
	w.run(time.Now().Add(20 * time.Minute))
	w.settled()
	w.run(time.Now().Add(5 * time.Minute))
	probes := w.probe()
	w.run(time.Now().Add(3 * time.Minute))
	w.answeredProbes(probes)
	for range 40 {
		if w.broken != nil || w.drained() == "" {
			break
		}
		w.run(time.Now().Add(5 * time.Minute))
	}
	w.run(time.Now().Add(17 * time.Minute))
	for range 3 {
		if w.broken != nil || w.topic.unsent() == "" {
			break
		}
		w.run(time.Now().Add(2 * time.Minute))
	}
	w.reckon()
}

// quiet sends the adversary away, and puts right what people did.
func (w *world) quiet() {
	if w.broken != nil {
		return
	}
	w.say("the adversary goes away")
	w.calm = true
	w.knobs = knobs{writeTakes: 5 * time.Second, skew: w.knobs.skew, narrow: len(machines), six: w.knobs.six, retention: w.knobs.retention}
	clear(w.down)
	for _, id := range groups {
		l := w.cloud.life[id]
		*l = life{under: l.under}
		w.lossless(id)
		w.unshadow(id)
	}
	w.disturbAll(0)
}

// settled puts the policy back and lifts the lockdown, once nobody is at it any
// more, and makes anew what NSGs are gone.
func (w *world) settled() {
	for _, id := range groups {
		if legs, rows, _ := w.store.Partition(context.Background(), id); w.gone[id] && len(legs)+len(rows) > 0 && w.broken == nil {
			w.breach("%s is gone, and %d legs and %d baselines of it are on record", id.Name(), len(legs), len(rows))
		}
		w.restore(id)
	}
	if w.broken == nil {
		w.liftLockdown()
		for _, p := range append([]policy.AccessPolicy{{Scope: scope}}, w.store.Policies...) {
			if p.Version == "" || p.Scope != scope && (p.Ticket != nil || p.Condition != "") {
				w.putPolicy(policyOf(p.Scope, prefix("203.0.113.0/24"), nil), false)
			}
		}
	}
}

// probe asks for every machine, to see whether the broker is alive.
func (w *world) probe() (ids []access.RequestID) {
	for i, vm := range machines {
		w.unique++
		by := caller(fmt.Sprint("probe-", i), access.RoleRequest)
		from := prefix("203.0.113.9/32")
		if w.knobs.six > 0 && i == 0 {
			from = sources6[2]
		}
		w.askByAPI(by, []access.PortRequest{{VM: vm, Port: pick(w.schedule, ports).Number, Source: from, Duration: 6 * time.Minute}}, time.Time{})
		ids = append(ids, w.asked[len(w.asked)-1].id)
	}
	return ids
}

func (w *world) answeredProbes(ids []access.RequestID) {
	for i, id := range ids {
		if w.broken != nil {
			return
		}
		switch s, err := w.view(id); {
		case err != nil:
			w.breach("the request for %s after the adversary has gone: %v", machines[i].Name(), err)
		case s.Status(0).Status != access.Initiated:
			w.breach("the request for %s after the adversary has gone is not opened: %+v", machines[i].Name(), s.Status(0))
		default:
			w.passes(s.Record.Grants[0])
		}
	}
}

// passes holds that packets reach every address of the machine that the grant is
// for, through every NSG before it.
func (w *world) passes(g access.Grant) {
	for _, nic := range w.azure.Machines[g.VM].NICs {
		for _, a := range nic.Addresses {
			for _, on := range []access.ResourceID{a.SubnetNSG, nic.NSG} {
				to := target{a.IP, g.Port, g.Protocol == access.UDP}
				if on == "" || a.IP.Is4() != g.Source.Addr().Is4() {
					continue
				}
				if with, _ := passes(filters(w.azure.Look(on).Rules), g.Source.Addr(), to); !with {
					w.breach("%s is open, and %s does not let %s pass to %s:%d", g.VM.Name(), on.Name(), g.Source, a.IP, g.Port)
				}
			}
		}
	}
}

// view reads a request straight from the record.
func (w *world) view(id access.RequestID) (access.Situation, error) {
	ctx := context.Background()
	f, err := w.store.File(ctx, id)
	if err != nil {
		return access.Situation{}, err
	}
	var live []access.Leg
	for _, g := range groups {
		legs, _ := w.store.Legs(ctx, g)
		for _, l := range legs {
			if l.Request == id {
				live = append(live, l)
			}
		}
	}
	return f.At(time.Now(), live), nil
}

// drained says what is left to do; "" for nothing.
func (w *world) drained() string {
	if w.queue.requests > 0 {
		return "a request message is on its way"
	}
	ctx, ahead := context.Background(), time.Now().Add(1000*time.Hour)
	if recs, _ := w.store.Pending(ctx, ahead); len(recs) > 0 {
		return fmt.Sprintf("request %s is still pending", recs[0].ID)
	}
	if events, _ := w.store.PendingTicketEvents(ctx, ahead); len(events) > 0 {
		return fmt.Sprintf("event %s of ticket %s is not worked", events[0].ID, events[0].Ticket)
	}
	if ids, _ := w.store.DueStarts(ctx, ahead); len(ids) > 0 {
		return fmt.Sprintf("request %s is still to be started", ids[0])
	}
	for _, id := range groups {
		if legs, _ := w.store.Legs(ctx, id); len(legs) > 0 {
			return fmt.Sprintf("%s still has the leg %s, %s (%s)", id.Name(), legs[0].Key(), legs[0].State, legs[0].BlockedBy)
		}
	}
	return ""
}

// reckon holds the end of the story against what was promised.
func (w *world) reckon() {
	if w.broken != nil {
		return
	}
	if left := w.drained(); left != "" {
		w.breach("in the end, %s", left)
	}
	for _, id := range groups {
		for _, r := range w.azure.Look(id).Rules {
			if settings.Owns(r) && !settings.Shuts(r) {
				w.breach("in the end, rule %s is left on %s", r.Name, id.Name())
			}
		}
		_, rows, _ := w.store.Partition(context.Background(), id)
		for _, row := range rows {
			if row.BlockedBy == "" && (row.State != access.BaselineShut || !settings.Shut(w.azure.Look(id), row)) {
				w.breach("in the end, the baseline of %s on %s is %s and does not stand", row.VM.Name(), id.Name(), row.State)
			}
		}
	}
	w.heard()
	if left := w.topic.unsent(); left != "" {
		w.breach("in the end, %s", left)
	}
	for id := range w.accepted {
		if w.lost[id] || w.judge.gone[id] {
			continue
		}
		s, err := w.view(id)
		if err != nil {
			w.breach("in the end, the accepted request %s is forgotten: %v", id, err)
			return
		}
		for _, g := range s.Record.Grants {
			if w.met["fail-overs"] > 0 && s.Status(g.Index).Status == access.Initiating {
				continue // what became of its legs may be what was lost
			}
			if st := s.Status(g.Index); st.Status != access.Revoked && st.Status != access.Failed || st.Reason == "" {
				w.breach("in the end, grant %d of %s is %s (%s)", g.Index, id, st.Status, st.Reason)
			}
		}
	}
}

func TestSimulation(t *testing.T) {
	if *one > 0 {
		out := play(t, *one, true)
		fmt.Println(out.story)
		if out.broken != nil {
			t.Fatalf("seed %d: %v", *one, out.broken)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	began := time.Now()
	var next, steps atomic.Int64
	var worst atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed, met := 0, map[string]int{}
	for range 2 {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(*seeds) {
					return
				}
				out := play(t, *from+uint64(n), false)
				steps.Add(int64(out.steps))
				mu.Lock()
				if d := int64(out.worst); d > worst.Load() {
					worst.Store(d)
				}
				for what, n := range out.met {
					met[what] += n
				}
				if out.broken != nil {
					failed++
					if failed <= 10 {
						t.Errorf("seed %d: %v (its story: make simulate SEED=%d)", *from+uint64(n), out.broken, *from+uint64(n))
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d seeds, %d steps, %d failed, longest open undisturbed %s, %.0f seeds/s; met: %v", *seeds, steps.Load(), failed, time.Duration(worst.Load()).Round(time.Second), float64(*seeds)/took.Seconds(), met)
}

// A seed is one story: what fails once fails again.
func TestASeedReplaysExactly(t *testing.T) {
	for seed := range uint64(*twice) {
		a, b := play(t, *from+seed, true), play(t, *from+seed, true)
		if a.story != b.story {
			la, lb := strings.Split(a.story, "\n"), strings.Split(b.story, "\n")
			i := 0
			for i < min(len(la), len(lb)) && la[i] == lb[i] {
				i++
			}
			t.Fatalf("seed %d parts at line %d:\n%s\n%s", *from+seed, i, strings.Join(la[max(0, i-12):min(len(la), i+4)], "\n"), strings.Join(lb[i:min(len(lb), i+4)], "\n"))
		}
	}
}
