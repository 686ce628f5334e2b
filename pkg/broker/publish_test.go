package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// event appends an event to the subject.
func (w *world) event(subject, key string, at time.Time) {
	w.t.Helper()
	if err := w.store.Append(context.Background(), []access.Event{{Subject: subject, Kind: access.EventOpened, Key: key, At: at}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(subject string) {
	w.t.Helper()
	if err := w.publisher.Publish(context.Background(), subject); err != nil {
		w.t.Fatal(err)
	}
}

// expectPublished checks that every event of every subject is sealed once and
// entered in the journal, and was sent, and first in the order of the seals.
func (w *world) expectPublished() {
	w.t.Helper()
	ctx := context.Background()
	entries, next, err := w.store.Journal(ctx, broker.JournalQuery{Most: 1000})
	if err != nil || next != "" {
		w.t.Fatal(next, err)
	}
	journal := map[string]int{}
	for _, e := range entries {
		journal[fmt.Sprint(e.Seal.Subject, "/", e.Seal.Seq)]++
	}
	total := 0
	for _, subject := range w.store.Subjects() {
		events, seals, err := w.store.Chain(ctx, subject)
		if err != nil {
			w.t.Fatal(err)
		}
		if found := chains.Verify(subject, events, seals, w.now); len(found) > 0 || len(seals) != len(events) {
			w.t.Fatalf("%s: %d events, %d seals: %+v", subject, len(events), len(seals), found)
		}
		first := 0
		for _, s := range w.topic.Sent(subject) {
			if s.Seq > first+1 || seals[s.Seq-1].Event != s.Event.ID() {
				w.t.Fatalf("%s: %s was sent as %d after %d, sealed is %s", subject, s.Event.ID(), s.Seq, first, seals[s.Seq-1].Event)
			}
			first = max(first, s.Seq)
		}
		if first != len(seals) {
			w.t.Fatalf("%s: %d of %d were sent", subject, first, len(seals))
		}
		for _, s := range seals {
			if n := journal[fmt.Sprint(subject, "/", s.Seq)]; n != 1 {
				w.t.Fatalf("%s: seal %d is %d times in the journal", subject, s.Seq, n)
			}
		}
		total += len(seals)
	}
	if total == 0 || total != len(entries) {
		w.t.Fatalf("%d seals, %d entries", total, len(entries))
	}
}

// expectNoNotice checks that nothing is left to be looked at.
func (w *world) expectNoNotice() {
	w.t.Helper()
	if left, err := w.store.Notices(context.Background()); err != nil || len(left) > 0 {
		w.t.Fatalf("%+v, %v", left, err)
	}
}

// sweep passes the time in minutes, with what its prompts ask for.
func (w *world) sweep(minutes int) {
	w.t.Helper()
	for range minutes {
		w.now = w.now.Add(time.Minute)
		if err := w.sweeper.Sweep(context.Background()); err != nil {
			w.t.Fatal(err)
		}
		w.deliver()
	}
}

// TestNoEventIsLostWhateverIsCutOff lives through a request that opens, an NSG
// that drifts, and a lockdown, cut off at every call before and after its effect.
func TestNoEventIsLostWhateverIsCutOff(t *testing.T) {
	live := func(w *world) {
		ctx := context.Background()
		step := func() { // what is asked for meanwhile, as far as it goes
			for _, p := range w.bus.Take(w.now) {
				_ = w.reconciler.Reconcile(ctx, p.NSG, time.Time{})
			}
			for _, s := range w.store.Subjects() {
				_ = w.publisher.Publish(ctx, s)
			}
		}
		_, _ = w.submitter.Submit(ctx, ask("1", alice, time.Hour))
		step()
		_, _ = w.lockdown.On(ctx, caller("admin", access.RoleAdminister), "drill")
		step()
	}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.faults.FailAt, w.faults.After = at, after
				live(w)
				done = w.faults.Calls() < at
				w.faults.Reset()
				live(w)
				w.sweep(3)
				if w.expectPublished(); w.store.Kinds(broker.SubjectLockdown)[access.EventLockedDown] != 1 {
					t.Error("the lockdown has no event")
				}
				w.sweep(20)
				w.expectPublished()
				w.expectNoNotice()
			})
			if done {
				break
			}
		}
	}
}

// TestTwoPublishersAtOnce lets another do all of its work, and more events come,
// between any two calls of one.
func TestTwoPublishersAtOnce(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t)
		for i := range 3 {
			w.event("s", fmt.Sprint(i), w.now)
		}
		w.publish("s")
		for i := range 3 {
			w.event("s", fmt.Sprint("more-", i), w.now)
		}
		w.faults.Reset()
		w.faults.Before = func(n int) {
			if n != at {
				return
			}
			w.faults.Before = nil
			w.publish("s")
			w.event("s", "later", w.now)
			w.publish("s")
		}
		w.publish("s")
		over := w.faults.Before != nil
		w.faults.Before = nil
		w.publish("s")
		w.expectPublished()
		if over {
			if at < 6 {
				t.Errorf("%d calls", at)
			}
			return
		}
	}
}

// TestAnEventBesideAPublisherIsNotOverlooked writes an event between any two of
// its calls, and loses the prompt.
func TestAnEventBesideAPublisherIsNotOverlooked(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t)
		w.event("s", "1", w.now)
		w.faults.Reset()
		w.faults.Before = func(n int) {
			if n == at {
				w.faults.Before = nil
				w.event("s", "beside", w.now)
			}
		}
		w.publish("s")
		if w.faults.Before != nil {
			return
		}
		w.sweep(1)
		w.expectPublished()
	}
}

// TestAWriterPausedBehindItsNotice notes a subject, and writes its event only
// after everybody has looked.
func TestAWriterPausedBehindItsNotice(t *testing.T) {
	w := newWorld(t)
	w.faults.Before = func(n int) {
		if n != 2 { // the notice is the first call
			return
		}
		w.faults.Before = nil
		w.sweep(1)
		if n, err := w.store.Notice(t.Context(), "s"); err != nil || !n.Seen {
			t.Fatalf("%+v, %v", n, err)
		}
		w.sweep(10) // as long as a function lives
	}
	w.event("s", "1", w.now)
	w.sweep(3)
	if len(w.topic.Sent("s")) > 0 {
		t.Error("nobody was to look yet")
	}
	w.sweep(3)
	w.expectPublished()
	w.expectNoNotice()

	w.faults.Reset()
	w.faults.Before = func(n int) {
		if n == 2 {
			w.faults.Before = nil
			w.publish("s2")
		}
	}
	w.event("s2", "1", w.now)
	w.publish("s2") // the prompt that its writer sends
	w.expectPublished()
}

func TestAnEventThatComesInLateGetsTheNextNumber(t *testing.T) {
	w := newWorld(t)
	w.event("s", "second", w.now)
	w.publish("s")
	w.event("s", "first", w.now.Add(-time.Minute))
	w.publish("s")
	sent := w.topic.Sent("s")
	if len(sent) != 2 || sent[1].Event.Key != "first" || sent[1].Seq != 2 {
		t.Errorf("%+v", sent)
	}
	w.expectPublished()
}

func TestInOneMomentCauseComesBeforeEffect(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []access.EventKind{access.EventClosed, access.EventClosing, access.EventRevoked, access.EventOpened, access.EventRequested} {
		if err := w.store.Append(t.Context(), []access.Event{{Subject: "s", Kind: kind, At: w.now}}); err != nil {
			t.Fatal(err)
		}
	}
	w.publish("s")
	var got []string
	for _, s := range w.topic.Sent("s") {
		got = append(got, string(s.Event.Kind))
	}
	if strings.Join(got, " ") != "Requested Opened Revoked Closing Closed" {
		t.Error(got)
	}
}

func TestAForgedPromptCostsOneRead(t *testing.T) {
	w := newWorld(t)
	w.publish("nobody")
	if w.faults.Calls() != 1 {
		t.Errorf("%d calls", w.faults.Calls())
	}
	w.event("s", "1", w.now)
	w.publish("s")
	for range 3 {
		w.publish("s") // again
	}
	if n := len(w.topic.Sent("s")); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// down is a topic that takes nothing of certain subjects.
type down struct {
	broker.EventTopic
	subjects []string
}

func (d *down) SendEvents(ctx context.Context, events []broker.SealedEvent) error {
	for _, s := range d.subjects {
		if events[0].Event.Subject == s {
			return access.Errorf(access.Unavailable, "queue_unavailable", "the topic is down")
		}
	}
	return d.EventTopic.SendEvents(ctx, events)
}

// publisherOver gives a publisher over other ports, and what it logs.
func (w *world) publisherOver(change func(*broker.PublishPorts)) (*broker.Publisher, *bytes.Buffer) {
	w.t.Helper()
	var log bytes.Buffer
	ports := w.publisher.PublishPorts
	ports.Log = slog.New(slog.NewTextHandler(&log, nil))
	change(&ports)
	p, err := broker.NewPublisher(ports)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, &log
}

func TestEventsThatWaitTooLongRaiseAnAlarmAndKeepNoOthersBack(t *testing.T) {
	w := newWorld(t)
	topic := &down{w.topic, []string{"s1", "s2"}}
	p, log := w.publisherOver(func(ports *broker.PublishPorts) { ports.Topic = topic })
	for i := range 4 {
		w.event(fmt.Sprint("s", i), "1", w.now)
	}
	for range 9 {
		w.now = w.now.Add(time.Minute)
		if err := p.PublishDue(t.Context()); access.ReasonOf(err) != "queue_unavailable" || !contains(err.Error(), "2 subjects") {
			t.Fatal(err)
		}
	}
	if len(w.topic.Sent("s0")) != 1 || len(w.topic.Sent("s3")) != 1 {
		t.Error("the others were kept back")
	}
	if contains(log.String(), "ALARM") {
		t.Errorf("too early: %s", log)
	}
	w.event("s1", "2", w.now) // its notice is fresh again, its first event is not
	w.now = w.now.Add(2 * time.Minute)
	if err := p.PublishDue(t.Context()); err == nil || !contains(log.String(), `"ALARM events not sent"`) || !contains(log.String(), "alarm=events_unsent") || !contains(log.String(), "subjects=2") {
		t.Errorf("%v, %s", err, log)
	}
	topic.subjects = nil
	log.Reset()
	w.now = w.now.Add(time.Minute)
	if err := p.PublishDue(t.Context()); err != nil || log.Len() > 0 {
		t.Errorf("%v, %s", err, log)
	}
	w.expectPublished()
}

func TestAnEventThatWasTakenOutKeepsNoneBack(t *testing.T) {
	w := newWorld(t)
	topic := &down{w.topic, []string{"s"}}
	p, log := w.publisherOver(func(ports *broker.PublishPorts) { ports.Topic = topic })
	for i := range 3 {
		w.event("s", fmt.Sprint(i), w.now.Add(time.Duration(i)))
	}
	if err := p.Publish(t.Context(), "s"); err == nil { // sealed, and not sent
		t.Fatal("the topic is down")
	}
	w.store.Tamper("s", func(e *access.Event) bool { return e.Key != "1" })
	topic.subjects = nil
	if err := p.Publish(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	sent := w.topic.Sent("s")
	if len(sent) != 2 || sent[0].Seq != 1 || sent[1].Seq != 3 || !contains(log.String(), "alarm=event_missing") {
		t.Errorf("%+v, %s", sent, log)
	}
}

// TestClosesWaitForNoEvent closes while nothing can be sent.
func TestClosesWaitForNoEvent(t *testing.T) {
	w := newWorld(t)
	w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.expectOpen(alice, 2)
	ports := w.sweeper.SweepPorts
	ports.Publish = func(context.Context) error {
		w.deliver()
		w.expectShut() // by the time that events are looked at
		return errors.New("down")
	}
	ports.Events = lost{}
	s, err := broker.NewSweeper(ports)
	if err != nil {
		t.Fatal(err)
	}
	w.bus.Take(w.now.Add(2 * time.Hour)) // every message is lost
	w.now = w.now.Add(time.Hour)
	if err := s.Sweep(t.Context()); err == nil || !contains(err.Error(), "down") {
		t.Error(err)
	}
	w.expectShut()
}

// lost are events that cannot be written.
type lost struct{}

func (lost) Append(context.Context, []access.Event) error { return errors.New("down") }
