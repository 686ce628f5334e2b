package servicebus_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

func TestFaultsOfReceiving(t *testing.T) {
	for kind, delivery := range map[fault.Kind]uint32{
		fault.Throttle:  1, // the link is detached, and comes back
		fault.Drop:      1,
		fault.LoseReply: 2, // it was locked for a receiver that never got it
		fault.Slow:      1,
	} {
		t.Run(string(kind), func(t *testing.T) {
			in(t, func(b *broker) {
				b.plan(first("receive plain", kind))
				r := b.receiver("plain")
				b.send("plain", "x")
				ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
				defer cancel()
				var got []*azservicebus.ReceivedMessage
				for len(got) == 0 { // it returns empty-handed when its link is detached
					var err error
					got, err = r.ReceiveMessages(ctx, 1, nil)
					b.must(err)
				}
				if got[0].DeliveryCount != delivery {
					t.Errorf("delivery %d, want %d", got[0].DeliveryCount, delivery)
				}
				b.must(r.CompleteMessage(b.t.Context(), got[0], nil))
			})
		})
	}
}

func TestReceiveRefused(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		b.plan(fault.Rule{On: "receive plain", Do: fault.Refuse})
		_, err := b.receiver("plain").ReceiveMessages(b.t.Context(), 1, nil)
		b.code(err, azservicebus.CodeUnauthorizedAccess)
		b.counts("plain", servicebus.Counts{Active: 1})
	})
}

// With receive and delete, a lost reply is a lost message.
func TestLostReplyWithReceiveAndDelete(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		b.plan(first("receive plain", fault.LoseReply))
		r, err := b.client.NewReceiverForQueue("plain", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		b.must(err)
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		for ctx.Err() == nil {
			if got, _ := r.ReceiveMessages(ctx, 1, nil); len(got) != 0 {
				t.Error("the message arrived")
			}
		}
		b.counts("plain", servicebus.Counts{})
	})
}

func TestFaultsOfAttaching(t *testing.T) {
	for _, tc := range []struct {
		on   string
		do   fault.Kind
		want azservicebus.Code
	}{
		{"attach plain", fault.Throttle, ""},
		{"attach plain", fault.Drop, ""},
		{"attach plain", fault.LoseReply, ""},
		{"attach plain", fault.Slow, ""},
		{"attach plain", fault.Refuse, azservicebus.CodeUnauthorizedAccess},
		{"authorize plain", fault.Throttle, ""},
		{"authorize plain", fault.Slow, ""},
		{"authorize plain", fault.Refuse, azservicebus.CodeUnauthorizedAccess},
	} {
		t.Run(tc.on+" "+string(tc.do), func(t *testing.T) {
			in(t, func(b *broker) {
				b.plan(first(tc.on, tc.do))
				b.outcome(b.sender("plain").SendMessage(b.t.Context(), &azservicebus.Message{}, nil), tc.want)
			})
		})
	}
}

func TestAttachToALockedSession(t *testing.T) {
	in(t, func(b *broker) {
		b.plan(first("attach sessions", fault.Lock))
		if _, err := b.client.AcceptSessionForQueue(b.t.Context(), "sessions", "s", nil); err == nil || !strings.Contains(err.Error(), "session-cannot-be-locked") {
			t.Errorf("got %v", err)
		}
		b.accept("s")
	})
}

// Whoever gives up on a slow attach leaves no link behind.
func TestSlowAttachGivenUp(t *testing.T) {
	in(t, func(b *broker) {
		rule := first("attach sessions", fault.Slow)
		rule.Delay = fault.Duration(time.Minute)
		b.plan(rule)
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		if _, err := b.client.AcceptSessionForQueue(ctx, "sessions", "s", nil); err == nil {
			t.Fatal("a slow attach was answered at once")
		}
		time.Sleep(2 * time.Minute)
		b.accept("s")
	})
}

func TestFaultsOfManagement(t *testing.T) {
	in(t, func(b *broker) {
		s, r := b.sender("plain"), b.receiver("plain")
		ctx := b.t.Context()
		b.plan(first("peek plain", fault.Throttle), first("schedule plain", fault.LoseReply), first("cancel plain", fault.Refuse))
		_, err := r.PeekMessages(ctx, 1, nil)
		b.must(err)
		b.operations("peek plain", 2)
		seqs, err := s.ScheduleMessages(ctx, []*azservicebus.Message{{}}, time.Now().Add(time.Hour), nil)
		b.must(err)
		b.counts("plain", servicebus.Counts{Scheduled: 2})
		b.code(s.CancelScheduledMessages(ctx, seqs, nil), azservicebus.CodeUnauthorizedAccess)
		b.must(s.CancelScheduledMessages(ctx, seqs, nil))
		b.counts("plain", servicebus.Counts{Scheduled: 1})
	})
}

// deferred messages are received, and settled, by requests to the management.
func TestFaultsOfDeferredMessages(t *testing.T) {
	in(t, func(b *broker) {
		b.send("plain", "x")
		r, ctx := b.receiver("plain"), b.t.Context()
		m := b.one(r)
		b.must(r.DeferMessage(ctx, m, nil))
		b.plan(first("receive plain", fault.Throttle), first("settle plain", fault.Lock))
		got, err := r.ReceiveDeferredMessages(ctx, []int64{*m.SequenceNumber}, nil)
		b.must(err)
		b.code(r.CompleteMessage(ctx, got[0], nil), azservicebus.CodeLockLost)
		got, err = r.ReceiveDeferredMessages(ctx, []int64{*m.SequenceNumber}, nil)
		b.must(err)
		b.must(r.CompleteMessage(ctx, got[0], nil))
		b.counts("plain", servicebus.Counts{})
	})
}

// impatient is an admin client that tries once.
func impatient(t *testing.T, namespace string, trust *tls.Config) (*admin.Client, *http.Client) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: trust}
	t.Cleanup(transport.CloseIdleConnections)
	web := &http.Client{Transport: transport}
	c, err := admin.NewClient(namespace, token(goodJWT), &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: web, Retry: policy.RetryOptions{MaxRetries: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	return c, web
}

func TestFaultsOfAdministration(t *testing.T) {
	s, namespace, trust := startTLS(t, testConfig())
	a, web := impatient(t, namespace, trust)
	put := func(plan string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+namespace+fault.Path, strings.NewReader(plan))
		if err != nil {
			t.Fatal(err)
		}
		res, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		answer, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%d %s, %v", res.StatusCode, answer, err)
		}
		return string(answer)
	}
	put(`{"rules":[{"on":"manage plain","do":"conflict"}]}`, http.StatusBadRequest) // there is no such thing here
	for kind, want := range map[string]int{"throttle": 503, "refuse": 401, "lock": 409, "drop": 0, "slow": 201, "lose-reply": 0} {
		delay := ""
		if kind == "slow" {
			delay = `,"delay":"1ms"`
		}
		put(`{"rules":[{"on":"manage made-`+kind+`","do":"`+kind+`"`+delay+`}]}`, http.StatusOK)
		_, err := a.CreateQueue(t.Context(), "made-"+kind, nil)
		if got := status(err); got != want && (want != 201 || err != nil) {
			t.Errorf("%s: %v", kind, err)
		}
		if _, made := s.Counts("made-" + kind); made != (kind == "slow" || kind == "lose-reply") {
			t.Errorf("%s: made %v", kind, made)
		}
	}
	if _, counts := s.Faults().State(); len(counts) != 1 || counts[0].Struck != 1 {
		t.Errorf("counts %+v", counts)
	}
	put(`{}`, http.StatusOK)
	if _, err := a.CreateQueue(t.Context(), "made", nil); err != nil {
		t.Error(err)
	}
}
