package servicebus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

func adminClient(t *testing.T, namespace string, trust *tls.Config, value string) *admin.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: trust}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := admin.NewClient(namespace, token(value), &admin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func exchange(t *testing.T, c *azservicebus.Client, queue string) {
	t.Helper()
	s, err := c.NewSender(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMessage(t.Context(), &azservicebus.Message{Body: []byte("hello")}, nil); err != nil {
		t.Fatal(err)
	}
	r, err := c.NewReceiverForQueue(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.ReceiveMessages(t.Context(), 1, nil)
	if err != nil || len(got) != 1 || string(got[0].Body) != "hello" {
		t.Fatalf("received %v, %v", got, err)
	}
	if err := r.CompleteMessage(t.Context(), got[0], nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	s, namespace, trust := startTLS(t, testConfig())
	a := adminClient(t, namespace, trust, goodJWT)
	if _, err := a.CreateQueue(t.Context(), "made", nil); err != nil {
		t.Fatal(err)
	}
	c, err := azservicebus.NewClient(namespace, token(goodJWT), &azservicebus.ClientOptions{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, "made")
	if got, ok := s.Counts("made"); !ok || got.Active != 0 {
		t.Errorf("counts %+v, %v", got, ok)
	}
	c, err = azservicebus.NewClientFromConnectionString(connectionString(namespace, keyName, key, false), &azservicebus.ClientOptions{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, "plain")
}

func TestEmulatorConnectionString(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	start(t, testConfig(), l)
	c, err := azservicebus.NewClientFromConnectionString(connectionString(l.Addr().String(), keyName, key, true), nil)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, "plain")
}

func TestAdmin(t *testing.T) {
	_, namespace, trust := startTLS(t, testConfig())
	a, ctx := adminClient(t, namespace, trust, goodJWT), t.Context()
	created, err := a.CreateQueue(ctx, "Made", &admin.CreateQueueOptions{Properties: &admin.QueueProperties{
		RequiresSession: ptr(true), LockDuration: ptr("PT2M"), UserMetadata: ptr("<&>")}})
	if err != nil {
		t.Fatal(err)
	}
	if !*created.RequiresSession || *created.LockDuration != "PT2M" || *created.MaxDeliveryCount != 10 || *created.UserMetadata != "<&>" {
		t.Errorf("created %+v", created)
	}
	if _, err := a.CreateQueue(ctx, "made", nil); status(err) != http.StatusConflict {
		t.Errorf("creating it twice: %v", err)
	}
	if got, err := a.GetQueue(ctx, "made", nil); err != nil || got == nil || *got.LockDuration != "PT2M" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := a.GetQueue(ctx, "nowhere", nil); err != nil || got != nil {
		t.Errorf("an unknown queue is %+v, %v", got, err)
	}
	updated, err := a.UpdateQueue(ctx, "made", admin.QueueProperties{MaxDeliveryCount: ptr(int32(4))}, nil)
	if err != nil || *updated.MaxDeliveryCount != 4 || !*updated.RequiresSession {
		t.Errorf("updated %+v, %v", updated, err)
	}
	for name, p := range map[string]admin.QueueProperties{
		"sessions off": {RequiresSession: ptr(false)}, "lock too long": {LockDuration: ptr("PT6M")}, "no duration": {LockDuration: ptr("a minute")},
	} {
		if _, err := a.UpdateQueue(ctx, "made", p, nil); status(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.CreateQueue(ctx, "forwarding", &admin.CreateQueueOptions{Properties: &admin.QueueProperties{ForwardTo: ptr("x")}}); status(err) != http.StatusNotImplemented {
		t.Errorf("forwarding: %v", err)
	}
	var names []string
	for pager := a.NewListQueuesPager(&admin.ListQueuesOptions{MaxPageSize: 2}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range page.Queues {
			names = append(names, q.QueueName)
		}
	}
	if want := []string{"expiring", "Made", "once", "other", "plain", "sessions", "vanishing"}; !slices.Equal(names, want) {
		t.Errorf("queues %v, want %v", names, want)
	}
	if _, err := a.DeleteQueue(ctx, "MADE", nil); err != nil {
		t.Error(err)
	}
	if _, err := a.DeleteQueue(ctx, "made", nil); status(err) != http.StatusNotFound {
		t.Errorf("deleting it twice: %v", err)
	}
}

func status(err error) int {
	var re *azcore.ResponseError
	if errors.As(err, &re) {
		return re.StatusCode
	}
	return 0
}

func TestAdminTopics(t *testing.T) {
	s, namespace, trust := startTLS(t, testConfig())
	a, ctx := adminClient(t, namespace, trust, goodJWT), t.Context()
	if _, err := a.CreateTopic(ctx, "made", nil); err != nil {
		t.Fatal(err)
	}
	sub, err := a.CreateSubscription(ctx, "made", "s", nil)
	if err != nil || *sub.MaxDeliveryCount != 10 {
		t.Fatalf("%+v, %v", sub, err)
	}
	if _, err := a.CreateSubscription(ctx, "plain", "s", nil); status(err) != http.StatusNotFound {
		t.Errorf("a subscription of a queue: %v", err)
	}
	props, err := a.GetTopicRuntimeProperties(ctx, "made", nil)
	if err != nil || props.SubscriptionCount != 1 {
		t.Errorf("%+v, %v", props, err)
	}
	if got, err := a.GetSubscriptionRuntimeProperties(ctx, "made", "s", nil); err != nil || got.ActiveMessageCount != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := a.CreateSubscription(ctx, "made", "filtered", &admin.CreateSubscriptionOptions{Properties: &admin.SubscriptionProperties{
		DefaultRule: &admin.RuleProperties{Name: "r", Filter: &admin.FalseFilter{}}}}); status(err) != http.StatusNotImplemented {
		t.Errorf("a subscription with a filter: %v", err)
	}
	rules, err := a.NewListRulesPager("made", "s", nil).NextPage(ctx)
	if err != nil || len(rules.Rules) != 1 || rules.Rules[0].Name != "$Default" {
		t.Errorf("%+v, %v", rules, err)
	}
	if _, err := a.CreateRule(ctx, "made", "s", &admin.CreateRuleOptions{Name: ptr("r"), Filter: &admin.FalseFilter{}}); status(err) != http.StatusNotImplemented {
		t.Errorf("a rule: %v", err)
	}
	if _, err := a.DeleteTopic(ctx, "made", nil); err != nil {
		t.Error(err)
	}
	if _, ok := s.Counts("made/Subscriptions/s"); ok {
		t.Error("the subscription outlived its topic")
	}
}

func TestAdminNeedsAToken(t *testing.T) {
	_, namespace, trust := startTLS(t, testConfig())
	if _, err := adminClient(t, namespace, trust, "bad").CreateQueue(t.Context(), "made", nil); status(err) != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
	transport := &http.Transport{TLSClientConfig: trust}
	defer transport.CloseIdleConnections()
	for _, header := range []string{"", "Bearer", sign("plain", "sender", "s", time.Now().Add(time.Hour))} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "https://"+namespace+"/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", header)
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: status %d", header, res.StatusCode)
		}
	}
}

func TestUpdateClosesLinksAndClientsRecover(t *testing.T) {
	_, namespace, trust := startTLS(t, testConfig())
	a := adminClient(t, namespace, trust, goodJWT)
	c, err := azservicebus.NewClient(namespace, token(goodJWT), &azservicebus.ClientOptions{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	r, err := c.AcceptSessionForQueue(t.Context(), "sessions", "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.UpdateQueue(t.Context(), "sessions", admin.QueueProperties{LockDuration: ptr("PT30S")}, nil); err != nil {
		t.Fatal(err)
	}
	// The receive that is waiting when its link is closed returns, without error.
	if got, err := r.ReceiveMessages(t.Context(), 1, nil); err != nil || len(got) != 0 {
		t.Fatalf("got %d messages, %v", len(got), err)
	}
	if err := r.RenewSessionLock(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if left := time.Until(r.LockedUntil()); left > 31*time.Second {
		t.Errorf("locked for %s after the update", left)
	}
}

// Whoever connects and says nothing sensible is let go, and Close waits for nobody.
func TestStrangeConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, testConfig(), l)
	for _, data := range []string{"AMQP\x00\x01\x00\x00garbage!", "AMQP\x03\x01\x00\x00\xff\xff\xff\xff\x02\x01\x00\x00", "AMQP\x09\x09\x09\x09", "GET / HTTP/1.1\r\n\r\n"} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, data); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(nc)
		if err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %v", data, err)
		}
		if strings.HasPrefix(data, "GET") && !bytes.Contains(answer, []byte(" 400 ")) {
			t.Errorf("answer to bad HTTP: %q", answer)
		}
		_ = nc.Close()
	}
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Serve(l); err == nil {
		t.Error("a closed server serves")
	}
	if _, err := servicebus.New(servicebus.Config{}); err != nil {
		t.Error(err)
	}
}
