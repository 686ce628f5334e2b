package servicebus_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// A client that has had nothing to do for half a day goes on where it was.
func TestIdleClientGoesOn(t *testing.T) {
	in(t, func(b *broker) {
		s, r := b.sender("plain"), b.receiver("plain")
		for _, body := range []string{"before", "after"} {
			b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte(body)}, nil))
			m := b.one(r)
			if text(m) != body {
				t.Errorf("got %q, want %q", text(m), body)
			}
			b.must(r.CompleteMessage(b.t.Context(), m, nil))
			time.Sleep(12 * time.Hour)
		}
		b.operations("attach plain", 6) // no link twice: each of the two has a pair to the management besides
	})
}

// Who opens a connection and then says nothing hears empty frames, and is told
// why when it is let go.
func TestSilentPeerIsLetGo(t *testing.T) {
	in(t, func(b *broker) {
		nc, err := b.p.dial(b.t.Context(), azservicebus.NewWebSocketConnArgs{})
		b.must(err)
		defer func() { _ = nc.Close() }()
		_, err = io.WriteString(nc, wire.ProtocolAMQP)
		b.must(err)
		r := bufio.NewReaderSize(nc, wire.MaxFrameSize)
		header := make([]byte, len(wire.ProtocolAMQP))
		_, err = io.ReadFull(r, header)
		b.must(err)
		open, err := wire.AppendFrame(nil, wire.TypeAMQP, 0, &wire.Open{ContainerID: "silent", IdleTimeout: 20_000}, nil)
		b.must(err)
		_, err = nc.Write(open)
		b.must(err)
		empty := 0
		var reason *wire.Error
		for {
			f, err := wire.ReadFrame(r)
			if errors.Is(err, io.EOF) {
				break
			}
			b.must(err)
			switch p := f.Body.(type) {
			case nil:
				empty++
			case *wire.Close:
				reason = p.Error
			}
		}
		if empty < 20 {
			t.Errorf("%d empty frames in four minutes, and one was asked for at least every 20 s", empty)
		}
		if reason == nil || reason.Condition != "amqp:connection:forced" {
			t.Errorf("closed with %+v", reason)
		}
	})
}

func TestBatchUpToTheLimit(t *testing.T) {
	in(t, func(b *broker) {
		s, r := b.sender("plain"), b.receiver("plain")
		batch, err := s.NewMessageBatch(b.t.Context(), nil)
		b.must(err)
		for {
			err := batch.AddMessage(&azservicebus.Message{Body: fmt.Appendf(make([]byte, 900), "%d", batch.NumMessages())}, nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) {
				break
			}
			b.must(err)
		}
		want := int(batch.NumMessages())
		if batch.NumBytes() < 255<<10 {
			t.Errorf("a batch is full at %d octets", batch.NumBytes())
		}
		b.must(s.SendMessageBatch(b.t.Context(), batch, nil))
		b.operations("send plain", 1)
		b.counts("plain", servicebus.Counts{Active: want})
		for n := 0; n < want; n++ {
			m := b.one(r)
			if string(m.Body[900:]) != fmt.Sprint(n) {
				t.Fatalf("message %d is %q", n, m.Body[900:])
			}
			b.must(r.CompleteMessage(b.t.Context(), m, nil))
		}
	})
}

// A change of a queue closes its links, and those who use it notice nothing;
// once it is gone they are told.
func TestLinksEndWithTheirQueue(t *testing.T) {
	_, namespace, trust := startTLS(t, testConfig())
	a, ctx := adminClient(t, namespace, trust, goodJWT), t.Context()
	c, err := azservicebus.NewClient(namespace, token(goodJWT), &azservicebus.ClientOptions{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	s, err := c.NewSender("plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.NewReceiverForQueue("plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint32(3) {
		if err := s.SendMessage(ctx, &azservicebus.Message{}, nil); err != nil {
			t.Fatal(err)
		}
		var got []*azservicebus.ReceivedMessage
		for len(got) == 0 { // empty-handed when the link is closed
			if got, err = r.ReceiveMessages(ctx, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.CompleteMessage(ctx, got[0], nil); err != nil {
			t.Fatal(err)
		}
		if _, err := a.UpdateQueue(ctx, "plain", admin.QueueProperties{MaxDeliveryCount: ptr(int32(4 + n))}, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReceiveMessages(ctx, 1, nil); err != nil || len(got) != 0 { // until the link is closed
			t.Fatalf("got %d messages, %v", len(got), err)
		}
	}
	if _, err := a.DeleteQueue(ctx, "plain", nil); err != nil {
		t.Fatal(err)
	}
	var gone *azservicebus.Error
	if err := s.SendMessage(ctx, &azservicebus.Message{}, nil); !errors.As(err, &gone) || gone.Code != azservicebus.CodeNotFound {
		t.Errorf("sending to a queue that is gone: %v", err)
	}
	if _, err := r.ReceiveMessages(ctx, 1, nil); !errors.As(err, &gone) || gone.Code != azservicebus.CodeNotFound {
		t.Errorf("receiving from it: %v", err)
	}
	if _, err := a.DeleteQueue(ctx, "plain", nil); status(err) != http.StatusNotFound {
		t.Errorf("deleting it again: %v", err)
	}
}
