package broker_test

import (
	"context"
	"testing"
	"time"

	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// forgetfulSeals loses what the store was told of late, right after seals were added.
type forgetfulSeals struct {
	broker.Seals
	forget func()
}

func (s *forgetfulSeals) AddSeals(ctx context.Context, seals []chains.Seal) error {
	err := s.Seals.AddSeals(ctx, seals)
	if s.forget != nil {
		s.forget()
		s.forget = nil
	}
	return err
}

// The store fails over to a copy that has not received the seals, and whoever added
// them notes that they were sent: more is said to be sent than is sealed. What is not
// sealed is sealed anew and sent, again where it was sent before.
func TestSealsThatWereLostAfterTheyWereSentAreMadeAnew(t *testing.T) {
	w := newWorld(t)
	const subject = "ar-1"
	w.event(subject, "a", w.now)
	w.publish(subject)
	w.event(subject, "c", w.now.Add(2*time.Second))
	w.event(subject, "d", w.now.Add(3*time.Second))
	ports := w.publisher.PublishPorts
	ports.Seals = &forgetfulSeals{w.store, w.store.Snapshot()}
	unlucky, err := broker.NewPublisher(ports)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlucky.Publish(t.Context(), subject); err != nil {
		t.Fatal(err)
	}
	// It comes in late, and takes the number under which another was sent.
	w.event(subject, "b", w.now.Add(time.Second))
	w.publish(subject)
	sent := map[string]bool{}
	for _, e := range w.topic.Sent(subject) {
		sent[e.Event.Key] = true
	}
	if len(sent) != 4 {
		t.Errorf("of a, b, c and d were sent: %v", sent)
	}
	events, seals, err := w.store.Chain(t.Context(), subject)
	if err != nil || len(seals) != 4 {
		t.Fatalf("%d seals, %v", len(seals), err)
	}
	if found := chains.Verify(subject, events, seals, w.now.Add(time.Hour)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	w.event(subject, "e", w.now.Add(4*time.Second))
	w.publish(subject)
	if last := w.topic.Sent(subject); last[len(last)-1].Event.Key != "e" || last[len(last)-1].Seq != 5 {
		t.Errorf("the last is %+v", last[len(last)-1])
	}
}
