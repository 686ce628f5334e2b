package servicebus_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// link is a client that does what azservicebus would not.
type link struct {
	b       *broker
	conn    *amqp.Conn
	session *amqp.Session
}

// connect opens a connection and a session, with no token put for anything.
func (b *broker) connect() *link {
	b.t.Helper()
	return b.connectOver(func(c net.Conn) net.Conn { return c })
}

// connectOver connects over what wrap makes of the connection.
func (b *broker) connectOver(wrap func(net.Conn) net.Conn) *link {
	b.t.Helper()
	nc, err := b.p.dial(b.t.Context(), azservicebus.NewWebSocketConnArgs{})
	b.must(err)
	conn, err := amqp.NewConn(b.t.Context(), wrap(nc), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous(), HostName: "test"})
	b.must(err)
	b.t.Cleanup(func() { _ = conn.Close() }) // it may be closed by the server already
	session, err := conn.NewSession(b.t.Context(), nil)
	b.must(err)
	return &link{b: b, conn: conn, session: session}
}

// raw connects and puts a token for an entity.
func (b *broker) raw(entity string) *link {
	b.t.Helper()
	return b.rawOver(entity, func(c net.Conn) net.Conn { return c })
}

// rawOver is raw over what wrap makes of the connection.
func (b *broker) rawOver(entity string, wrap func(net.Conn) net.Conn) *link {
	b.t.Helper()
	l := b.connectOver(wrap)
	if status := l.put("servicebus.windows.net:sastoken", entity, sign(entity, keyName, key, time.Now().Add(time.Hour))); status != 202 {
		b.t.Fatalf("put-token: status %d", status)
	}
	return l
}

// put puts a token and returns the status.
func (l *link) put(kind, entity, value string) int32 {
	l.b.t.Helper()
	return l.call("$cbs", &amqp.Message{Value: value, ApplicationProperties: map[string]any{
		"operation": "put-token", "type": kind, "name": "amqps://test/" + entity}})
}

// call makes a request the way the SDK for JavaScript does: the reply goes to
// the reply link's name, which has no target address.
func (l *link) call(node string, m *amqp.Message) int32 {
	l.b.t.Helper()
	ctx := l.b.t.Context()
	s, err := l.session.NewSender(ctx, node, nil)
	l.b.must(err)
	name := node + "-replies"
	r, err := l.session.NewReceiver(ctx, node, &amqp.ReceiverOptions{Name: name})
	l.b.must(err)
	m.Properties = &amqp.MessageProperties{MessageID: "1", ReplyTo: &name}
	l.b.must(s.Send(ctx, m, nil))
	reply, err := r.Receive(ctx, nil)
	l.b.must(err)
	l.b.must(s.Close(ctx))
	l.b.must(r.Close(ctx))
	if reply.Properties.CorrelationID != "1" {
		l.b.t.Errorf("correlation id %v", reply.Properties.CorrelationID)
	}
	status, _ := reply.ApplicationProperties["status-code"].(int32)
	return status
}

func (l *link) sender(entity string) *amqp.Sender {
	l.b.t.Helper()
	s, err := l.session.NewSender(l.b.t.Context(), entity, nil)
	l.b.must(err)
	return s
}

// unlimited hides from its client how large a message may be: it reads 16 MiB
// where the broker's attach says 256 KiB, as a ulong. A pipe's write is a whole
// frame, which the client's first read of it takes whole while it is small.
type unlimited struct {
	net.Conn
	mu       sync.Mutex
	rejected bool
}

func (c *unlimited) wrap(conn net.Conn) net.Conn {
	c.Conn = conn
	return c
}

func (c *unlimited) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte{0x80, 0, 0, 0, 0, 0, 4, 0, 0}, []byte{0x80, 0, 0, 0, 0, 1, 0, 0, 0}))
	c.mu.Lock()
	defer c.mu.Unlock()
	// The descriptor of the outcome rejected, AMQP 1.0 part 3 section 3.4.3.
	c.rejected = c.rejected || bytes.Contains(p[:n], []byte{0, 0x53, 0x25})
	return n, err
}

// rejection tells whether the broker has rejected anything.
func (c *unlimited) rejection() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rejected
}

// sign makes a shared access signature.
func sign(entity, name, secret string, expires time.Time) string {
	resource := strings.ToLower(url.QueryEscape("amqps://test/" + entity))
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s\n%d", resource, expires.Unix())
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s", resource,
		url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))), expires.Unix(), name)
}
