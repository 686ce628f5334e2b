package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
)

const (
	// messageSize is about what an access request has.
	messageSize = 256
	// batchSize is how many messages go in one batch and are received at most at once.
	batchSize = 100
	// rateQueue has no sessions and no function that listens.
	rateQueue = "access-rejected"
)

// measureBroker counts messages per second through the stand-in with the real
// SDK over TLS. Beside it stands what no broker can do without: the same bytes
// to a peer over TLS on loopback, and back, one after the other.
func measureBroker(ctx context.Context, s *local, dir string, messages, rounds int) ([]*measure, error) {
	bus, err := s.bus()
	if err != nil {
		return nil, err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	sender, err := bus.NewSender(rateQueue, nil)
	if err != nil {
		return nil, err
	}
	receiver, err := bus.NewReceiverForQueue(rateQueue, nil)
	if err != nil {
		return nil, err
	}
	echo, err := startEcho(dir)
	if err != nil {
		return nil, err
	}
	defer echo.Close()
	const beside = "the same bytes there and back over bare TLS, one after the other"
	send := &measure{name: "Broker: send, one at a time", baseline: beside, unit: perSecond}
	receive := &measure{name: "Broker: receive, and complete one at a time", baseline: beside, unit: perSecond}
	batch := &measure{name: fmt.Sprintf("Broker: send, in batches of %d", batchSize), baseline: "the sends one at a time, above", unit: perSecond}
	r := &rater{ctx: ctx, sender: sender, receiver: receiver, echo: echo, messages: messages, body: bytes.Repeat([]byte("m"), messageSize)}
	for i := range rounds + 1 {
		bare, sent, got := r.rate(r.echoes), r.rate(r.send), r.rate(r.receive)
		batched := r.rate(r.sendBatches)
		r.rate(r.receive)
		if r.err != nil {
			return nil, fmt.Errorf("broker: %w", r.err)
		}
		if i == 0 {
			continue // links are attached
		}
		send.add(sent, bare)
		receive.add(got, bare)
		batch.add(batched, sent)
	}
	return []*measure{send, receive, batch}, nil
}

// rater keeps the first error, after which it does nothing more.
type rater struct {
	ctx      context.Context // of the one measurement that the rater lives for
	sender   *azservicebus.Sender
	receiver *azservicebus.Receiver
	echo     *echo
	messages int
	body     []byte
	err      error
}

// rate gives messages per second.
func (r *rater) rate(do func() error) float64 {
	if r.err != nil {
		return 0
	}
	runtime.GC()
	began := time.Now()
	r.err = do()
	return float64(r.messages) / time.Since(began).Seconds()
}

func (r *rater) echoes() error {
	for range r.messages {
		if err := r.echo.roundTrip(r.body); err != nil {
			return err
		}
	}
	return nil
}

func (r *rater) send() error {
	for range r.messages {
		if err := r.sender.SendMessage(r.ctx, &azservicebus.Message{Body: r.body}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *rater) sendBatches() error {
	for sent := 0; sent < r.messages; {
		b, err := r.sender.NewMessageBatch(r.ctx, nil)
		if err != nil {
			return err
		}
		for range min(batchSize, r.messages-sent) {
			if err := b.AddMessage(&azservicebus.Message{Body: r.body}, nil); err != nil {
				return err
			}
			sent++
		}
		if err := r.sender.SendMessageBatch(r.ctx, b, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *rater) receive() error {
	for got := 0; got < r.messages; {
		list, err := r.receiver.ReceiveMessages(r.ctx, min(batchSize, r.messages-got), nil)
		if err != nil {
			return err
		}
		for _, m := range list {
			if !bytes.Equal(m.Body, r.body) {
				return errors.New("a message came out other than it went in")
			}
			if err := r.receiver.CompleteMessage(r.ctx, m, nil); err != nil {
				return err
			}
		}
		got += len(list)
	}
	return nil
}

// echo is a connection over TLS on loopback to a peer that says everything again.
type echo struct {
	listener net.Listener
	conn     *tls.Conn
	back     []byte
}

func startEcho(dir string) (*echo, error) {
	ca, err := pki.New(dir)
	if err != nil {
		return nil, err
	}
	cert, err := ca.Server("localhost")
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c) // ends with the connection; the other end tells
			_ = c.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &echo{listener: l, conn: conn}, nil
}

func (e *echo) roundTrip(data []byte) error {
	if len(e.back) < len(data) {
		e.back = make([]byte, len(data))
	}
	if _, err := e.conn.Write(data); err != nil {
		return err
	}
	_, err := io.ReadFull(e.conn, e.back[:len(data)])
	return err
}

// Close ends the peer too.
func (e *echo) Close() error { return errors.Join(e.conn.Close(), e.listener.Close()) }
