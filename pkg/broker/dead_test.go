package broker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var queue = access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}

// deadLetters gives the use case over the world, and what it logs.
func deadLetters(t *testing.T, w *world) (*broker.DeadLetters, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	d, err := broker.NewDeadLetters(w.store, w.bus, w.store, w.bus, func() time.Time { return w.now }, func() string { return "dead" }, slog.New(slog.NewTextHandler(&out, nil)), w.meter)
	if err != nil {
		t.Fatal(err)
	}
	return d, &out
}

func TestADeadRequestIsRecordedOnceAlarmedAndHandedOn(t *testing.T) {
	w := newWorld(t)
	d, log := deadLetters(t, w)
	body := []byte(strings.Repeat("x", 2*broker.MaxExcerpt))
	for range 2 { // a message is delivered at least once
		if err := d.Request(t.Context(), queue, "m-1", "hash", body); err != nil {
			t.Fatal(err)
		}
	}
	id := access.NewRequestID(queue, "m-1")
	if n := w.store.Kinds(string(id))[access.EventDeadLettered]; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if len(w.bus.Rejected) != 2 {
		t.Fatalf("rejected %d times", len(w.bus.Rejected))
	}
	r := w.bus.Rejected[0]
	if r.MessageID != "m-1" || r.RequestID != id || r.Refusal.Reason != "undeliverable" || r.BodyHash != "hash" || len(r.Excerpt) != broker.MaxExcerpt {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(log.String(), "alarm=dead_request") || strings.Contains(log.String(), "xxxx") {
		t.Errorf("logged %s", log)
	}
	w.expectShut()
}

func TestADeadPromptLeavesNoDoorOpen(t *testing.T) {
	w := newWorld(t)
	rec := w.submit(ask("1", alice, time.Hour))
	w.deliver()
	w.bus.Take(w.now.Add(2 * time.Hour)) // the close died in all its deliveries
	w.now = w.now.Add(time.Hour)
	d, log := deadLetters(t, w)
	for _, id := range []access.ResourceID{onWeb, onNIC} {
		if err := d.Prompt(t.Context(), id, "m-1"); err != nil {
			t.Fatal(err)
		}
		if n := w.store.Kinds(string(id))[access.EventDeadLettered]; n != 1 {
			t.Errorf("%d events on %s", n, id.Name())
		}
	}
	if !strings.Contains(log.String(), "alarm=dead_prompt") {
		t.Errorf("logged %s", log)
	}
	if got := w.bus.Take(w.now); len(got) != 0 {
		t.Errorf("prompted at once, it would spin: %v", got)
	}
	w.now = w.now.Add(time.Minute)
	w.deliver()
	w.expectStatus(rec, access.Revoked, access.Expired)
	w.expectShut()
}

// Should the new prompt be lost as well, Sweep finds the group due.
func TestADeadPromptCutOffAnywhereIsFoundBySweep(t *testing.T) {
	for at := 1; at <= 3; at++ {
		w := newWorld(t)
		w.submit(ask("1", alice, time.Hour))
		w.deliver()
		w.now = w.now.Add(time.Hour)
		d, _ := deadLetters(t, w)
		w.faults.Reset()
		w.faults.FailAt, w.faults.After = at, true
		if err := d.Prompt(t.Context(), onWeb, "m-1"); err == nil {
			t.Fatalf("cut at %d: no error, so nobody delivers it again", at)
		}
		w.faults.Reset()
		w.bus.Take(w.now.Add(2 * time.Hour))
		w.now = w.now.Add(10 * time.Minute)
		if err := w.sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver()
		w.expectShut()
	}
}

func TestDeadLettersAreTriedAgainWhereTheyCannotBeRecorded(t *testing.T) {
	for at := 1; at <= 2; at++ {
		w := newWorld(t)
		d, _ := deadLetters(t, w)
		w.faults.FailAt = at
		if err := d.Request(t.Context(), queue, "m-1", "hash", nil); access.CodeOf(err) != access.Unavailable {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	if _, err := broker.NewDeadLetters(nil, nil, nil, nil, nil, nil, nil, nil); err == nil {
		t.Error("made of nothing")
	}
}
