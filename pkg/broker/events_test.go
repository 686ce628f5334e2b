package broker_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

type blocked struct {
	prompted chan string
	free     chan struct{}
}

func (b blocked) PromptEvents(ctx context.Context, subject string) error {
	b.prompted <- subject
	<-b.free
	return nil
}

func TestAskingForEventsNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocked{make(chan string, 100), make(chan struct{})}
		p, err := broker.NewEventPrompter(b, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go p.Run(ctx)
		p.Ask("s1")
		synctest.Wait() // it prompts, and hangs
		for range 50 {
			p.Ask("s2")
			p.Ask("s3")
		}
		close(b.free)
		synctest.Wait()
		cancel()
		close(b.prompted)
		var got []string
		for s := range b.prompted {
			got = append(got, s)
		}
		if strings.Join(got, " ") != "s1 s2 s3" {
			t.Error(got)
		}
	})
}

func TestAPromptThatIsLostIsLeftToSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.faults.FailAt = 1
		p, err := broker.NewEventPrompter(w.bus, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		p.Ask("s1")
		synctest.Wait()
		w.faults.Reset()
		p.Ask("s2")
		synctest.Wait()
		if got := w.bus.TakeSubjects(); len(got) != 1 || got[0] != "s2" {
			t.Error(got)
		}
	})
}

func TestALegPastItsTimeIsRecordedOnce(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.azure.ReadOnly = true // neither removed nor turned into a deny
	w.now = w.now.Add(time.Hour)
	kinds := func() map[access.EventKind]int { return w.store.Kinds(string(rec.ID)) }
	for i := range 6 {
		_ = w.sweeper.Sweep(t.Context())
		w.deliver()
		if i < 2 && kinds()[access.EventOverdue] > 0 {
			t.Fatalf("overdue after %d minutes", i)
		}
		w.now = w.now.Add(time.Minute)
	}
	if n := kinds()[access.EventOverdue]; n != 2 {
		t.Fatalf("%d events, want one for each leg", n)
	}
	events, err := w.store.EventsOf(t.Context(), string(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == access.EventOverdue && (e.Detail["overdueSince"] == "" || e.Detail["trouble"] == "" || e.Detail["port"] != "22/TCP") {
			t.Errorf("%+v", e)
		}
	}
	w.azure.ReadOnly = false
	w.sweep(3)
	w.expectShut()
	if k := kinds(); k[access.EventOverdue] != 2 || k[access.EventClosed] != 2 {
		t.Errorf("%v", k)
	}
}

func TestDriftIsRecordedAndOurOwnWorkIsNone(t *testing.T) {
	w := newWorld(t)
	drift := func() int {
		return w.store.Kinds(string(onWeb))[access.EventDrift] + w.store.Kinds(string(onNIC))[access.EventDrift]
	}
	scan := func() {
		t.Helper()
		if err := w.scanner.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.submit(ask("1", alice, time.Hour))
	scan() // it is to be opened
	w.deliver()
	scan()
	w.now = w.now.Add(2 * time.Hour)
	scan() // it is to be closed
	w.deliver()
	if n := drift(); n > 0 {
		t.Fatalf("%d events of drift", n)
	}
	w.submit(ask("2", bob, time.Hour))
	w.deliver()
	w.azure.Edit(onWeb, func(g *nsg.Group) { g.Rules = w.customers[onWeb] })
	prompts := len(w.bus.Take(w.now))
	w.faults.Reset()
	scan()
	if drift() != 1 || len(w.bus.Take(w.now)) == prompts {
		t.Errorf("%d events of drift", drift())
	}
	events, err := w.store.EventsOf(t.Context(), string(onWeb))
	if err != nil || !contains(events[len(events)-1].Detail["closing"], "RemovedExternally") {
		t.Errorf("%+v, %v", events, err)
	}
	scan() // it was asked for, and is under way
	if drift() != 1 {
		t.Errorf("%d events of drift", drift())
	}
}

// listing lets somebody else's turn come right after the groups were listed.
type listing struct {
	broker.GroupLister
	then func()
}

func (l listing) Groups(ctx context.Context, subscription string) ([]nsg.Group, error) {
	groups, err := l.GroupLister.Groups(ctx, subscription)
	l.then()
	return groups, err
}

// TestAGroupThatWasListedBeforeAReconcileHasNotDrifted opens and closes between
// the listing and the reading of the legs.
func TestAGroupThatWasListedBeforeAReconcileHasNotDrifted(t *testing.T) {
	w := newWorld(t)
	for name, then := range map[string]func(){
		"opened":               func() { w.deliver() },
		"asked for and opened": func() { w.submit(ask("2", bob, time.Hour)); w.deliver() },
		"closed":               func() { w.now = w.now.Add(2 * time.Hour); w.deliver() },
	} {
		w = newWorld(t)
		w.submit(ask("1", alice, time.Hour))
		if name == "closed" {
			w.deliver()
		}
		ports := w.scanner.ScanPorts
		ports.Lister = listing{w.azure, then}
		s, err := broker.NewScanner(ports, rules)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.store.Kinds(string(onWeb))[access.EventDrift] + w.store.Kinds(string(onNIC))[access.EventDrift]; n > 0 {
			t.Errorf("%s: %d events of drift", name, n)
		}
	}
}
