package servicebus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

func TestPutToken(t *testing.T) {
	in(t, func(b *broker) {
		const sas, jwt = "servicebus.windows.net:sastoken", "jwt"
		soon := time.Now().Add(time.Minute)
		l := b.connect()
		for name, tc := range map[string]struct {
			kind, entity, token string
			want                int32
		}{
			"good signature":        {sas, "plain", sign("plain", keyName, key, soon), 202},
			"of the namespace":      {sas, "plain", sign("", keyName, key, soon), 202},
			"of the entity above":   {sas, "plain/$management", sign("plain", keyName, key, soon), 202},
			"sub-queue":             {sas, "plain/$DeadLetterQueue", sign("plain/$DeadLetterQueue", keyName, key, soon), 202},
			"subscription":          {sas, "news/Subscriptions/a", sign("news", keyName, key, soon), 202},
			"good JWT":              {jwt, "plain", goodJWT, 202},
			"wrong key":             {sas, "plain", sign("plain", keyName, "other", soon), 401},
			"no key":                {sas, "plain", sign("plain", keyName, "", soon), 401},
			"unknown policy":        {sas, "plain", sign("plain", "nobody", key, soon), 401},
			"expired":               {sas, "plain", sign("plain", keyName, key, time.Now()), 401},
			"another entity's":      {sas, "plain", sign("other", keyName, key, soon), 401},
			"name is only a prefix": {sas, "plain", sign("pla", keyName, key, soon), 401},
			"field given twice":     {sas, "plain", sign("plain", keyName, key, soon) + "&se=9999999999", 401},
			"garbage":               {sas, "plain", "SharedAccessSignature sig=%zz", 401},
			"bad JWT":               {jwt, "plain", "bad", 401},
			"no token":              {jwt, "plain", "", 401},
			"unknown queue":         {jwt, "nowhere", goodJWT, 404},
			"unknown subscription":  {jwt, "news/Subscriptions/nowhere", goodJWT, 404},
		} {
			if got := l.put(tc.kind, tc.entity, tc.token); got != tc.want {
				t.Errorf("%s: status %d, want %d", name, got, tc.want)
			}
		}
	})
}

func TestAnUnsetPolicyLetsNobodyIn(t *testing.T) {
	s, namespace, trust := startTLS(t, servicebus.Config{Entities: testEntities()})
	for name, client := range map[string]func() (*azservicebus.Client, error){
		"empty key": func() (*azservicebus.Client, error) {
			return azservicebus.NewClientFromConnectionString(connectionString(namespace, "", "", false), &azservicebus.ClientOptions{TLSConfig: trust})
		},
		"JWT": func() (*azservicebus.Client, error) {
			return azservicebus.NewClient(namespace, token(goodJWT), &azservicebus.ClientOptions{TLSConfig: trust})
		},
	} {
		c, err := client()
		if err != nil {
			t.Fatal(err)
		}
		sender, err := c.NewSender("plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		err = sender.SendMessage(t.Context(), &azservicebus.Message{}, nil)
		(&broker{t: t}).code(err, azservicebus.CodeUnauthorizedAccess)
		if got, _ := s.Counts("plain"); got.Active != 0 {
			t.Errorf("%s: a message got in", name)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestLinkNeedsAToken(t *testing.T) {
	in(t, func(b *broker) {
		l := b.raw("other")
		for _, address := range []string{"plain", "plain/$management", "plain/$DeadLetterQueue", "otherwise"} {
			_, err := l.session.NewReceiver(b.t.Context(), address, nil)
			want := amqp.ErrCondUnauthorizedAccess
			if address == "otherwise" {
				want = amqp.ErrCondNotFound
			}
			condition(t, err, want)
			_, err = l.session.NewSender(b.t.Context(), address, nil)
			condition(t, err, want)
		}
		_, err := l.session.NewReceiver(b.t.Context(), "other", nil)
		b.must(err)
	})
}

func TestLinkNeedsATokenThatStillHolds(t *testing.T) {
	in(t, func(b *broker) {
		l := b.connect()
		if got := l.put("servicebus.windows.net:sastoken", "plain", sign("plain", keyName, key, time.Now().Add(time.Minute))); got != 202 {
			t.Fatalf("status %d", got)
		}
		time.Sleep(2 * time.Minute)
		_, err := l.session.NewSender(b.t.Context(), "plain", nil)
		condition(t, err, amqp.ErrCondUnauthorizedAccess)
	})
}

func TestRightsOfAPolicy(t *testing.T) {
	in(t, func(b *broker) {
		for _, tc := range []struct {
			name, key     string
			send, receive bool
		}{{"sender", "s", true, false}, {"listener", "l", false, true}} {
			l := b.connect()
			if got := l.put("servicebus.windows.net:sastoken", "plain", sign("plain", tc.name, tc.key, time.Now().Add(time.Hour))); got != 202 {
				t.Fatalf("%s: status %d", tc.name, got)
			}
			_, err := l.session.NewSender(b.t.Context(), "plain", nil)
			if (err == nil) != tc.send {
				t.Errorf("%s: sending: %v", tc.name, err)
			}
			_, err = l.session.NewReceiver(b.t.Context(), "plain", nil)
			if (err == nil) != tc.receive {
				t.Errorf("%s: receiving: %v", tc.name, err)
			}
		}
	})
}

func TestOneTokenLinkPerConnection(t *testing.T) {
	in(t, func(b *broker) {
		l := b.connect()
		l.sender("$cbs")
		_, err := l.session.NewSender(b.t.Context(), "$cbs", nil)
		condition(t, err, amqp.ErrCondNotAllowed)
	})
}

func TestUnknownEntityIsTold(t *testing.T) {
	in(t, func(b *broker) {
		err := b.sender("nowhere").SendMessage(b.t.Context(), &azservicebus.Message{}, nil)
		b.code(err, azservicebus.CodeNotFound)
		_, err = b.client.AcceptNextSessionForQueue(b.t.Context(), "nowhere", nil)
		b.code(err, azservicebus.CodeNotFound)
	})
}

func TestEntitiesThatAreNotForThat(t *testing.T) {
	in(t, func(b *broker) {
		l := b.raw("")
		_, err := l.session.NewReceiver(b.t.Context(), "news", nil)
		condition(t, err, amqp.ErrCondNotAllowed)
		for _, address := range []string{"plain/$DeadLetterQueue", "news/Subscriptions/a"} {
			_, err = l.session.NewSender(b.t.Context(), address, nil)
			condition(t, err, amqp.ErrCondNotAllowed)
		}
		// Nothing is ever forwarded, so nothing is left over from it.
		r, err := l.session.NewReceiver(b.t.Context(), "plain/$Transfer/$DeadLetterQueue", nil)
		b.must(err)
		if m := r.Prefetched(); m != nil {
			t.Error("got a message")
		}
	})
}

func TestManagementErrorsCarryTheirCondition(t *testing.T) {
	in(t, func(b *broker) {
		l := b.raw("plain")
		if got := l.call("plain/$management", &amqp.Message{ApplicationProperties: map[string]any{"operation": "com.microsoft:renew-lock"},
			Value: map[string]any{"lock-tokens": []amqp.UUID{{1}}}}); got != 410 {
			t.Errorf("status %d, want 410", got)
		}
		for _, operation := range []string{"schedule-message", "cancel-scheduled-message", "peek-message", "renew-lock",
			"receive-by-sequence-number", "update-disposition", "renew-session-lock", "get-message-sessions"} {
			if got := l.call("plain/$management", &amqp.Message{
				ApplicationProperties: map[string]any{"operation": "com.microsoft:" + operation}, Value: "nonsense"}); got != 400 {
				t.Errorf("%s: status %d, want 400", operation, got)
			}
		}
		if got := l.call("plain/$management", &amqp.Message{ApplicationProperties: map[string]any{"operation": "dance"}, Value: "x"}); got != 501 {
			t.Errorf("status %d, want 501", got)
		}
	})
}

// A drain is answered even when there is nothing to send.
func TestDrain(t *testing.T) {
	in(t, func(b *broker) {
		l := b.raw("plain")
		r, err := l.session.NewReceiver(b.t.Context(), "plain", &amqp.ReceiverOptions{Credit: -1})
		b.must(err)
		b.must(r.IssueCredit(5))
		b.must(r.DrainCredit(b.t.Context(), nil))
		b.send("plain", "x")
		if m := r.Prefetched(); m != nil {
			t.Error("a message came for credit that was drained")
		}
		b.must(r.IssueCredit(1))
		if _, err := r.Receive(b.t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

// A connection stays open while nothing happens on it, and is told when the
// server closes.
func TestIdleConnectionLivesUntilClose(t *testing.T) {
	in(t, func(b *broker) {
		l := b.connect()
		time.Sleep(time.Hour)
		if err := l.conn.Err(); err != nil {
			t.Fatalf("after an hour: %v", err)
		}
		b.must(b.s.Close())
		<-l.conn.Done()
		var closed *amqp.ConnError
		if err := l.conn.Err(); !errors.As(err, &closed) || closed.RemoteErr == nil || closed.RemoteErr.Condition != amqp.ErrCondConnectionForced {
			t.Errorf("got %v", err)
		}
		b.must(b.s.Close())
	})
}

// TestARequestWithoutAReplyToIsAnswered asks as Microsoft's C library does, and
// with it the older Python SDK.
func TestARequestWithoutAReplyToIsAnswered(t *testing.T) {
	in(t, func(b *broker) {
		l, ctx := b.connect(), b.t.Context()
		r, err := l.session.NewReceiver(ctx, "$cbs", nil)
		b.must(err)
		s, err := l.session.NewSender(ctx, "$cbs", nil)
		b.must(err)
		b.must(s.Send(ctx, &amqp.Message{
			Properties: &amqp.MessageProperties{MessageID: uint64(0)}, Value: sign("plain", keyName, key, time.Now().Add(time.Hour)),
			ApplicationProperties: map[string]any{"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": "sb://test/plain"},
		}, nil))
		reply, err := r.Receive(ctx, nil)
		b.must(err)
		if reply.ApplicationProperties["status-code"] != int32(202) || reply.Properties.CorrelationID != uint64(0) {
			t.Errorf("the reply is %v %v", reply.ApplicationProperties, reply.Properties)
		}
	})
}
