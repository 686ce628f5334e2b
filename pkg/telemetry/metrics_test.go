package telemetry_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// expect compares series of one collection.
func (w *world) expect(want map[string]point) {
	w.t.Helper()
	got := w.collect()
	for name, p := range want {
		if have, ok := got[name]; !ok || have != p {
			w.t.Errorf("%s is %+v, want %+v; all: %+v", name, have, p, got)
		}
	}
}

// alarms counts the lines that name the alarm.
func (w *world) alarms(name string) int { return strings.Count(w.log.String(), `"alarm":"`+name+`"`) }

func TestADoorIsMeasuredFromItsDecisionToItsEnd(t *testing.T) {
	w := newWorld(t)
	w.open("1")
	w.expect(map[string]point{
		broker.MetricOpening.Name: {count: 1, sum: 10}, broker.MetricWrites.Name + "{put}": {value: 1}, broker.MetricRounds.Name: {value: 1},
	})
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.expect(map[string]point{broker.MetricClosing.Name: {count: 1, sum: 10}, broker.MetricWrites.Name + "{put}": {value: 1}})
	if _, again := w.collect()[broker.MetricWrites.Name+"{put}"]; again {
		t.Error("a write was exported twice")
	}
}

func TestAStartIsMeasuredFromItsOwnDecision(t *testing.T) {
	w := newWorld(t)
	at := w.now.Add(time.Hour)
	rec, err := w.submitter.Submit(t.Context(), access.Request{
		ClientID: "1", Requestor: access.Requestor{Name: person, Asserted: true}, BodyHash: "h", StartTime: at,
		RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"},
		Ports:       []access.PortRequest{{VM: vm, Port: 22, Source: w.store.Policies[0].Ports[0].Sources[0], Duration: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.now = at
	if err := w.submitter.Start(t.Context(), rec.ID, at); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(4 * time.Second)
	w.deliver()
	w.expect(map[string]point{broker.MetricOpening.Name: {count: 1, sum: 4}})
}

func TestWhatIsOverdueIsToldUntilItIsShut(t *testing.T) {
	w := newWorld(t)
	w.open("1")
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.expect(map[string]point{broker.MetricOverdue.Name: {}, broker.MetricOverdueAge.Name: {}, broker.MetricHeartbeat.Name + "{sweep}": {value: 1}})

	w.azure.ReadOnly = true // a lock
	w.now = w.now.Add(time.Hour)
	w.deliver()
	for i := range 3 { // put off or not, it is overdue all the while
		w.now = w.now.Add(100 * time.Second)
		if err := w.sweep(); err != nil {
			t.Fatal(err)
		}
		late := time.Duration(i+1)*100*time.Second + 10*time.Second
		if late < 2*time.Minute {
			w.expect(map[string]point{broker.MetricOverdue.Name: {}})
			continue
		}
		w.expect(map[string]point{broker.MetricOverdue.Name: {value: 1}, broker.MetricOverdueAge.Name: {value: late.Seconds()}})
		if n := w.alarms("overdue_close"); n != i {
			t.Errorf("%d alarms after %d sweeps", n, i)
		}
	}
	w.azure.ReadOnly = false
	w.now = w.now.Add(time.Minute)
	for range 2 {
		if err := w.sweep(); err != nil {
			t.Fatal(err)
		}
		w.deliver()
	}
	w.expect(map[string]point{broker.MetricOverdue.Name: {}, broker.MetricOverdueAge.Name: {}})
}

func TestAnNSGThatIsPutOffIsNoLessOverdue(t *testing.T) {
	w := newWorld(t)
	w.open("1")
	w.azure.ReadOnly = true
	w.now = w.now.Add(time.Hour + 10*time.Minute)
	head, err := w.store.Head(t.Context(), onWeb)
	if err != nil {
		t.Fatal(err)
	}
	head.Trouble, head.DueAt = "throttled", w.now.Add(5*time.Minute)
	if _, err := w.store.SaveHead(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.expect(map[string]point{broker.MetricOverdue.Name: {value: 1}, broker.MetricOverdueAge.Name: {value: (10*time.Minute + 10*time.Second).Seconds()}})
	for _, p := range w.bus.Take(w.now) {
		if p.At.IsZero() {
			t.Error("it was prompted before it was due")
		}
	}
}

func TestAnUnfinishedRequestHasAnAge(t *testing.T) {
	w := newWorld(t)
	w.faults.FailAt, w.faults.After = 12, true
	if _, err := w.submit(t.Context(), "1", source); err == nil {
		t.Fatal("it was not cut off")
	}
	w.faults.Reset()
	w.now = w.now.Add(time.Minute)
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.expect(map[string]point{broker.MetricUnfinished.Name: {value: 60}})
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.expect(map[string]point{broker.MetricUnfinished.Name: {}})
	if w.alarms("unfinished_request") != 0 {
		t.Error("an alarm about what was finished")
	}
}

func TestARequestThatCannotBeFinishedIsAnAlarmOnceASweep(t *testing.T) {
	w := newWorld(t)
	w.faults.FailAt, w.faults.After = 12, true
	_, _ = w.submit(t.Context(), "1", source)
	w.faults.Reset()
	w.sweeper.Resume = func(context.Context, access.Record) error {
		return access.Errorf(access.Unavailable, "queue_unavailable", "gone")
	}
	for i, late := range []time.Duration{time.Minute, 6 * time.Minute, 7 * time.Minute} {
		w.now = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC).Add(late)
		if err := w.sweep(); err == nil {
			t.Fatal("it was finished")
		}
		got := w.collect()
		if got[broker.MetricUnfinished.Name].value != late.Seconds() || w.alarms("unfinished_request") != i {
			t.Errorf("%v: %+v, %d alarms", late, got, w.alarms("unfinished_request"))
		}
		if _, ok := got[broker.MetricHeartbeat.Name+"{sweep}"]; ok {
			t.Error("a sweep that failed is no heartbeat")
		}
	}
}

func TestDeadLettersAreCountedByTheirQueue(t *testing.T) {
	w := newWorld(t)
	sender := access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}
	if err := w.dead.Request(t.Context(), sender, "m", "h", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.dead.Prompt(t.Context(), onWeb, "p"); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(map[string]point{broker.MetricDead.Name + "{access-requests}": {value: 1}, broker.MetricDead.Name + "{nsg-reconcile}": {value: 2}})
}

func TestDriftIsCountedByWhatBecameOfTheRule(t *testing.T) {
	for change, edit := range map[string]func(*nsg.Group){
		"missing": func(g *nsg.Group) { g.Rules = slices.DeleteFunc(g.Rules, rules.Owns) },
		"put": func(g *nsg.Group) {
			i := slices.IndexFunc(g.Rules, rules.Owns)
			g.Rules = slices.Clone(g.Rules)
			g.Rules[i].Sources = append(slices.Clone(g.Rules[i].Sources), "198.51.100.0/24")
		},
		"remove": func(g *nsg.Group) {
			r := g.Rules[slices.IndexFunc(g.Rules, rules.Owns)]
			r.Name, r.Priority, r.Sources = r.Name+"x", r.Priority+50, []string{"198.51.100.0/24"}
			g.Rules = append(slices.Clone(g.Rules), r)
		},
	} {
		t.Run(change, func(t *testing.T) {
			w := newWorld(t)
			w.open("1")
			w.collect()
			if err := w.scanner.Scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.collect(); got[broker.MetricDrift.Name+"{"+change+"}"] != (point{}) || w.alarms("drift") != 0 || got[broker.MetricHeartbeat.Name+"{scan}"].value != 1 {
				t.Fatalf("without any: %+v", got)
			}
			w.azure.Edit(onWeb, edit)
			w.now = w.now.Add(time.Minute)
			if err := w.scanner.Scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.deliver()
			w.expect(map[string]point{broker.MetricDrift.Name + "{" + change + "}": {value: 1}})
			if w.alarms("drift") == 0 {
				t.Error("no alarm")
			}
		})
	}
}

func TestTheLowestIsKeptUntilItIsExported(t *testing.T) {
	w := newWorld(t)
	for _, left := range []float64{180, 12, 170} {
		w.seen.Measure(t.Context(), broker.MetricQuota, left, "writes")
	}
	w.seen.Measure(t.Context(), broker.MetricQuota, 249, "reads")
	w.expect(map[string]point{broker.MetricQuota.Name + "{writes}": {value: 12}, broker.MetricQuota.Name + "{reads}": {value: 249}})
	w.seen.Measure(t.Context(), broker.MetricQuota, 170, "writes")
	w.expect(map[string]point{broker.MetricQuota.Name + "{writes}": {value: 170}})
	if _, ok := w.collect()[broker.MetricQuota.Name+"{reads}"]; ok {
		t.Error("a value was exported twice")
	}
}
