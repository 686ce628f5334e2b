package simulate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// topic is the topic of events, and what asks for their sending. A subscriber is
// promised each event at least once, and those of a subject by their numbers.
type topic struct {
	w *world
	// sent are the events that came under each number of a subject.
	sent map[string][]string
	// came are those that came at all, by subject and id.
	came map[string]bool
	// unnoted are the subjects that have an event of which a fail-over has lost the
	// notice: nobody finds it until there is another.
	unnoted map[string]bool
}

// written has the events of a subject asked for, as often as the knobs say.
func (t *topic) written(subject string, noted time.Time) {
	t.unnoted[subject] = noted.Before(t.w.judge.forgotAt)
	if t.w.chance(t.w.knobs.prompted) {
		t.w.queue.send(&message{kind: "events", event: subject}, time.Time{})
	}
}

// SendEvents sends to the topic. An error may leave the first of them sent.
func (q *queue) SendEvents(ctx context.Context, list []broker.SealedEvent) error {
	a := ctx.Value(actorKey{}).(*actor)
	return do(q.s, ctx, theQueue, "SendEvents", fmt.Sprint(list[0].Event.Subject, " ", list[0].Seq), func() error {
		n := len(list)
		if n > 1 && q.s.chance(5*q.w.knobs.refuse) {
			n = q.s.rng.IntN(n)
		}
		for _, e := range list[:n] {
			q.w.topic.take(e, a.began.Before(q.w.judge.forgotAt))
		}
		if n < len(list) {
			q.w.met["events sent in part"]++
			return access.Errorf(access.Unavailable, "partly_sent", "the topic took %d of %d", n, len(list))
		}
		return nil
	})
}

// take is a subscriber's view of an event. What comes from before a fail-over may
// have a number of which the record knows nothing any more.
func (t *topic) take(e broker.SealedEvent, before bool) {
	subject, id := e.Event.Subject, e.Event.ID()
	t.w.met["events published"]++
	t.came[subject+" "+id] = true
	if before {
		_, seals, _ := t.w.store.Chain(context.Background(), subject)
		if len(seals) < e.Seq || seals[e.Seq-1].Event != id {
			return
		}
	}
	switch sent := t.sent[subject]; {
	case e.Seq > len(sent)+1:
		t.w.breach("event %d of %s was sent before event %d was", e.Seq, subject, len(sent)+1)
	case e.Seq == len(sent)+1:
		t.sent[subject] = append(sent, id)
	case sent[e.Seq-1] != id:
		t.w.breach("event %d of %s was sent as %s and as %s", e.Seq, subject, sent[e.Seq-1], id)
	default:
		t.w.met["events published again"]++
	}
}

// failedOver forgets the numbers that the record has forgotten.
func (t *topic) failedOver() {
	for subject, sent := range t.sent {
		_, seals, _ := t.w.store.Chain(context.Background(), subject)
		t.sent[subject] = sent[:min(len(sent), len(seals))]
	}
	for id := range t.w.judge.gone { // what was retired may be back
		out, _ := t.w.store.Outgoing(context.Background(), string(id))
		t.sent[string(id)] = nil
		for _, s := range out.Seals[:out.Sent] {
			t.sent[string(id)] = append(t.sent[string(id)], s.Event)
		}
	}
}

// unsent says what was not published of what is on record; "" for nothing.
func (t *topic) unsent() string {
	ctx := context.Background()
	for _, subject := range t.w.store.Subjects() {
		if t.unnoted[subject] {
			continue
		}
		events, seals, _ := t.w.store.Chain(ctx, subject)
		for _, e := range events {
			if !t.came[subject+" "+e.ID()] {
				return fmt.Sprintf("event %s of %s was never published", e.ID(), subject)
			}
		}
		found := slices.DeleteFunc(audit.Verify(subject, events, seals, time.Now().Add(time.Hour)), func(f audit.Finding) bool {
			// A fail-over took it from between the read and the seal, which tells so; another
			// may have been written under its id since.
			return (f.Problem == audit.EventMissing || f.Problem == audit.EventAltered) && t.w.met["fail-overs"] > 0
		})
		if len(found) > 0 {
			return fmt.Sprintf("the chain of %s is not whole: %s", subject, found[0].Message)
		}
	}
	return ""
}
