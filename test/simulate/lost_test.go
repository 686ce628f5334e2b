package simulate

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// The doors of these stories stand open for 20 minutes, and one more is to open
// in 10, when a whole part is lost.
const (
	standsFor = 20 * time.Minute
	startsIn  = 10 * time.Minute
)

// loss is a part that is lost.
type loss struct {
	name string
	lose func(w *world)
	// shutBy is by when after their end all doors are shut.
	shutBy time.Duration
	// starts says that the request for later still opens.
	starts bool
}

var losses = []loss{
	{"nothing", func(*world) {}, quick, true},
	{"the queue is emptied", func(w *world) { w.queue.emptied++ }, quick + 30*time.Second, true},
	{"the queue is emptied and takes nothing", func(w *world) {
		w.queue.emptied++
		w.down[theQueue] = time.Now().Add(100 * time.Hour)
	}, quick + 30*time.Second, false}, // no close can be scheduled, so nothing opens
	{"the partitions of the NSGs are lost", func(w *world) { w.store.LoseLedger() }, quick, true},
	{"the partitions of the NSGs are lost, and no scan comes", func(w *world) {
		w.store.LoseLedger()
		w.singletons["scan"] = true
	}, quick, true},
	{"the policies are lost", func(w *world) { w.store.Policies = nil }, quick, false},
	{"Tables are unreachable", func(w *world) { w.down[theStore] = time.Now().Add(100 * time.Hour) }, quick, false},
	{"Tables are unreachable and the queue is emptied", func(w *world) {
		w.queue.emptied++
		w.down[theStore] = time.Now().Add(100 * time.Hour)
	}, 15*time.Minute + quick, false}, // by the scan
	{"the function app is stopped, and portcullis sweep is left", func(w *world) {
		w.stopped = true
		w.closer(time.Minute)
	}, quick + 30*time.Second, false},
	{"everything but portcullis sweep is lost", func(w *world) {
		w.stopped = true
		w.queue.emptied++
		w.store.LoseLedger()
		w.store.Policies = nil
		w.closer(5 * time.Minute)
	}, 5*time.Minute + 30*time.Second, false},
}

// closer runs what `portcullis sweep` does, from some scheduler, with the NSGs
// alone.
func (w *world) closer(every time.Duration) {
	w.in(every, func() {
		w.closer(every)
		w.spawn("portcullis sweep", 0, "", stall{}, func(ctx context.Context) error {
			c, err := broker.NewCloser(w.cloud, settings)
			if err != nil {
				return err
			}
			return c.CloseAll(ctx, w.cloud, []string{subscription}, time.Now(), func(access.ResourceID, string) {})
		}, func(_ *actor, err error) {
			if err != nil {
				w.breach("portcullis sweep: %v", err)
			}
		})
	})
}

// doorsNow gives what stands open by our doing.
func (w *world) doorsNow() (out []door) {
	for _, id := range groups {
		out = append(out, openOf(w.azure.Look(id).Rules)...)
	}
	return out
}

func TestLosingAWholePart(t *testing.T) {
	for _, l := range losses {
		t.Run(l.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { l.play(t) }) })
	}
}

func (l loss) play(t *testing.T) {
	w, err := newWorld(1, func(*schedule) knobs { return knobs{writeTakes: time.Second, narrow: len(machines)} }, true)
	if err != nil {
		t.Fatal(err)
	}
	defer w.end()
	defer func() {
		if t.Failed() {
			t.Log(w.story)
		}
	}()
	w.calm = true
	yes := true
	w.store.Policies[0].Baseline = &yes
	w.in(20*time.Second, w.sweep)
	w.in(time.Minute, w.scan)
	w.run(w.began.Add(3 * time.Minute)) // the baselines are shut
	ask := func(vm access.ResourceID, start time.Time) access.RequestID {
		w.askByAPI(people[0], []access.PortRequest{{VM: vm, Port: 22, Source: sources[0], Duration: standsFor}}, start)
		return w.asked[len(w.asked)-1].id
	}
	ask(web1, time.Time{})
	ask(db2, time.Time{})
	later := ask(web2, time.Now().Add(startsIn))
	w.run(time.Now().Add(2 * time.Minute))
	open, shut := w.doorsNow(), w.denies()
	if len(open) != 4 || len(shut) == 0 {
		t.Fatalf("open before the loss: %v, shut %v", open, shut)
	}

	w.say("LOST: %s", l.name)
	l.lose(w)
	w.judge.failedOver() // what stands open is judged here
	var seen []door
	ends := time.Now().Add(standsFor - 2*time.Minute)
	for time.Now().Before(ends.Add(l.shutBy)) {
		w.run(time.Now().Add(5 * time.Second))
		now := w.doorsNow()
		// What stands open does so until its end, whatever is lost.
		if time.Now().Before(ends.Add(-time.Minute)) && slices.ContainsFunc(open, func(d door) bool { return !slices.Contains(now, d) }) {
			t.Fatalf("of %v only %v stand open, %s before their end", open, now, time.Until(ends))
		}
		seen = append(seen, now...)
	}
	l.check(t, w, open, seen)
	w.run(time.Now().Add(startsIn + standsFor + l.shutBy))
	if left := w.doorsNow(); len(left) > 0 {
		t.Errorf("in the end, %v stand open", left)
	}
	if now := w.denies(); !slices.Equal(now, shut) {
		t.Errorf("the denies were %v and are %v", shut, now)
	}
	if w.broken != nil {
		t.Error(w.broken)
	}
	if s, err := w.view(later); l.starts && (err != nil || s.Status(0).OpenedAt.IsZero()) {
		t.Errorf("the request for later: %+v, %v", s.Status(0), err)
	}
}

// check holds what was seen open since the loss against what was open then, and
// what of it is open now.
func (l loss) check(t *testing.T, w *world, before, seen []door) {
	t.Helper()
	for _, d := range w.doorsNow() {
		if slices.Contains(before, d) {
			t.Errorf("%s is open %s after its end", d, l.shutBy)
		}
	}
	for _, d := range seen {
		starts := l.starts && slices.Contains(addressesOf(w.azure.Machines[web2]), d.dest)
		if !slices.Contains(before, d) && !starts {
			t.Errorf("%s has opened since the loss", d)
			return
		}
	}
}

// denies gives the names of our baseline rules, by NSG.
func (w *world) denies() (out []string) {
	for _, id := range groups {
		for _, r := range w.azure.Look(id).Rules {
			if settings.Shuts(r) && r.Access == nsg.Deny {
				out = append(out, id.Name()+"/"+r.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}
