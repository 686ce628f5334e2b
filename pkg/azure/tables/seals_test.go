package tables_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

func publisherOver(t *testing.T, s *tables.Store, topic *brokertest.Topic) *broker.Publisher {
	t.Helper()
	p, err := broker.NewPublisher(broker.PublishPorts{Notices: s, Seals: s, Journal: s, Topic: topic, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	return p
}

// add appends events to the subject, those of the numbers.
func add(t *testing.T, s *tables.Store, of string, from, to int) {
	t.Helper()
	var events []access.Event
	for i := from; i < to; i++ {
		events = append(events, event(of, fmt.Sprint(i), at.Add(time.Duration(i)*time.Second)))
	}
	check(t, s.Append(t.Context(), events))
}

// wantPublished checks that all events of the subject are sealed once, that they
// were sent, each first in its turn, and that nothing is left to be sealed or sent.
func wantPublished(t *testing.T, s *tables.Store, topic *brokertest.Topic, of string, n int) {
	t.Helper()
	events, chain, err := s.Chain(t.Context(), of)
	check(t, err)
	if found := audit.Verify(of, events, chain, time.Now()); len(found) > 0 || len(events) != n || len(chain) != n {
		t.Fatalf("%d events, %d seals, not %d: %+v", len(events), len(chain), n, found)
	}
	first := 0
	for _, e := range topic.Sent(of) {
		if e.Seq > first+1 || chain[e.Seq-1].Event != e.Event.ID() {
			t.Fatalf("%s was sent as %d after %d", e.Event.ID(), e.Seq, first)
		}
		first = max(first, e.Seq)
	}
	left, err := s.Unsent(t.Context(), of)
	check(t, err)
	if first != n || left.Sent != n || len(left.Events) > 0 || len(left.Seals) != 1 {
		t.Fatalf("%d were sent, %d are noted; left are %d events and %d seals", first, left.Sent, len(left.Events), len(left.Seals))
	}
	entries, _, err := s.Journal(t.Context(), broker.JournalQuery{Most: 1000})
	check(t, err)
	if len(entries) != n {
		t.Fatalf("%d entries in the journal", len(entries))
	}
}

// TestPublishingCostsWhatIsNew publishes an event behind one other, and behind
// thousands, of a group that drifts year after year.
func TestPublishingCostsWhatIsNew(t *testing.T) {
	h, of := standIn(t), string(on)
	s := direct(t, h)
	topic := &brokertest.Topic{Faults: &brokertest.Faults{}}
	free := publisherOver(t, s, topic)
	publish := func(n int) cost {
		add(t, s, of, n, n+1)
		c := &counted{}
		check(t, publisherOver(t, storeOver(t, frugal(t, c.over(h))), topic).Publish(t.Context(), of))
		return cost{c.calls.Load(), c.rows.Load()}
	}
	add(t, s, of, 0, 1)
	check(t, free.Publish(t.Context(), of))
	want := publish(1)
	const earlier = 2000
	add(t, s, of, 2, earlier)
	check(t, free.Publish(t.Context(), of))
	got := publish(earlier)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	t.Logf("%+v", got)
	if events, chain, err := s.Chain(t.Context(), of); err != nil || len(events) != earlier+1 || len(audit.Verify(of, events, chain, time.Now())) > 0 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

// TestAPublisherThatIsCutOffAnywhere is cut off at every call of the tables, before
// its effect and after it, and then another goes on, with one event more.
func TestAPublisherThatIsCutOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for cut := 1; ; cut++ {
			h, of, n := standIn(t), string(on), 0
			s, topic := direct(t, h), &brokertest.Topic{Faults: &brokertest.Faults{}}
			free := publisherOver(t, s, topic)
			add(t, s, of, 0, 3)
			check(t, free.Publish(t.Context(), of))
			add(t, s, of, 3, 63) // more than one transaction of seals
			dying := storeOver(t, func(r *http.Request) (*http.Response, error) {
				n++
				if n < cut {
					return serve(h, r), nil
				}
				if n == cut && after {
					serve(h, r)
				}
				return nil, errCutOff
			})
			err := publisherOver(t, dying, topic).Publish(t.Context(), of)
			add(t, s, of, 63, 64)
			check(t, free.Publish(t.Context(), of))
			wantPublished(t, s, topic, of, 64)
			if err == nil && n < cut {
				if cut < 8 {
					t.Errorf("%d calls", n)
				}
				break
			}
		}
	}
}

// TestTwoPublishersOverTheTables lets another do all its work, and more events come,
// before any call of one.
func TestTwoPublishersOverTheTables(t *testing.T) {
	for at := int64(1); ; at++ {
		h, of := standIn(t), string(on)
		var n atomic.Int64 // some of the calls are made side by side
		s, topic := direct(t, h), &brokertest.Topic{Faults: &brokertest.Faults{}}
		free := publisherOver(t, s, topic)
		add(t, s, of, 0, 3)
		slow := storeOver(t, func(r *http.Request) (*http.Response, error) {
			if n.Add(1) == at {
				check(t, free.Publish(t.Context(), of))
				add(t, s, of, 3, 5)
				check(t, free.Publish(t.Context(), of))
			}
			return serve(h, r), nil
		})
		check(t, publisherOver(t, slow, topic).Publish(t.Context(), of))
		if n.Load() < at {
			return
		}
		check(t, free.Publish(t.Context(), of))
		wantPublished(t, s, topic, of, 5)
	}
}

// TestTheEndOfAChainMayBeGone takes what the service never takes.
func TestTheEndOfAChainMayBeGone(t *testing.T) {
	for name, take := range map[string]func(ctx context.Context, remove func(key string)){
		"a seal that was sent": func(_ context.Context, remove func(string)) { remove("chain-00000003") },
		"all seals": func(_ context.Context, remove func(string)) {
			for i := range 3 {
				remove(fmt.Sprintf("chain-%08d", i+1))
			}
		},
		"how much was sent": func(_ context.Context, remove func(string)) { remove("chain-sent") },
	} {
		t.Run(name, func(t *testing.T) {
			w, ctx, of := newWorld(t, 1000), t.Context(), "s"
			topic := &brokertest.Topic{Faults: &brokertest.Faults{}}
			p := publisherOver(t, w.Store, topic)
			add(t, w.Store, of, 0, 3)
			check(t, p.Publish(ctx, of))
			take(ctx, func(key string) {
				_, err := w.service.NewClient("requests").DeleteEntity(ctx, of, key, nil)
				check(t, err)
			})
			add(t, w.Store, of, 3, 5)
			check(t, p.Publish(ctx, of))
			if sent := topic.Sent(of); sent[len(sent)-1].Event.Key != "4" {
				t.Errorf("what came later is kept back: %+v", sent)
			}
			left, err := w.Unsent(ctx, of)
			if check(t, err); len(left.Events) > 0 {
				t.Errorf("not sealed: %+v", left.Events)
			}
		})
	}
}
