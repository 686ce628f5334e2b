package servicebus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
)

const (
	keyName = "RootManageSharedAccessKey"
	key     = "a-key-for-tests"
	goodJWT = "good"
)

func minutes(n int) servicebus.Duration { return servicebus.Duration(time.Duration(n) * time.Minute) }

// testEntities have one queue for each kind of behaviour.
func testEntities() servicebus.Entities {
	return servicebus.Entities{
		Queues: []servicebus.Queue{
			{Name: "plain", Settings: servicebus.Settings{LockDuration: minutes(1), MaxDeliveryCount: 3}},
			{Name: "other"},
			{Name: "sessions", Settings: servicebus.Settings{LockDuration: minutes(1), MaxDeliveryCount: 3, RequiresSession: true}},
			{Name: "expiring", Settings: servicebus.Settings{DefaultMessageTimeToLive: minutes(10), DeadLetteringOnMessageExpiration: true}},
			{Name: "vanishing", Settings: servicebus.Settings{DefaultMessageTimeToLive: minutes(10)}},
			{Name: "once", RequiresDuplicateDetection: true, DuplicateDetectionHistoryTimeWindow: minutes(5)},
		},
		Topics: []servicebus.Topic{{Name: "news", Subscriptions: []servicebus.Subscription{{Name: "a"}, {Name: "b"}}}},
	}
}

func testConfig() servicebus.Config {
	return servicebus.Config{
		Entities: testEntities(), SASKeyName: keyName, SASKey: key,
		Policies: []servicebus.Policy{{Name: "sender", Key: "s", Send: true}, {Name: "listener", Key: "l", Listen: true}},
		Verify: func(_ context.Context, token, audience string) error {
			if token != goodJWT || audience != "https://servicebus.azure.net" {
				return errors.New("not a token of this test")
			}
			return nil
		},
	}
}

func start(t *testing.T, cfg servicebus.Config, l net.Listener) *servicebus.Server {
	t.Helper()
	s, err := servicebus.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// startTLS serves on a loopback port and returns the namespace and what trusts it.
func startTLS(t *testing.T, cfg servicebus.Config) (s *servicebus.Server, namespace string, trust *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	namespace = "localhost:" + port
	cert, pool := certificate(t, "localhost", namespace)
	s = start(t, cfg, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}))
	return s, namespace, &tls.Config{RootCAs: pool}
}

// certificate makes one for names that need not be host names: azservicebus
// checks it for "host:port".
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pool
}

// token is a credential that always has the same token.
type token string

func (c token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func connectionString(namespace, name, secret string, emulator bool) string {
	s := "Endpoint=sb://" + namespace + ";SharedAccessKeyName=" + name + ";SharedAccessKey=" + secret
	if emulator {
		s += ";UseDevelopmentEmulator=true"
	}
	return s
}

// pipes is a listener without a network, so that a test may run in a bubble of
// testing/synctest, where hours pass in no time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// broker is a server with a client of the real SDK.
type broker struct {
	t      *testing.T
	s      *servicebus.Server
	p      *pipes
	client *azservicebus.Client
}

// newBroker is for use inside a bubble.
func newBroker(t *testing.T) *broker {
	t.Helper()
	p := newPipes()
	b := &broker{t: t, s: start(t, testConfig(), p), p: p}
	b.client = b.newClient()
	return b
}

func (b *broker) newClient() *azservicebus.Client {
	b.t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(connectionString("test", keyName, key, false),
		&azservicebus.ClientOptions{NewWebSocketConn: b.p.dial})
	b.must(err)
	b.t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			b.t.Errorf("closing the client: %v", err)
		}
	})
	return c
}

func (b *broker) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) sender(entity string) *azservicebus.Sender {
	b.t.Helper()
	s, err := b.client.NewSender(entity, nil)
	b.must(err)
	return s
}

func (b *broker) receiver(queue string) *azservicebus.Receiver {
	b.t.Helper()
	r, err := b.client.NewReceiverForQueue(queue, nil)
	b.must(err)
	return r
}

func (b *broker) deadLetters(queue string) *azservicebus.Receiver {
	b.t.Helper()
	r, err := b.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	b.must(err)
	return r
}

func (b *broker) send(entity string, bodies ...string) {
	b.t.Helper()
	s := b.sender(entity)
	for _, body := range bodies {
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte(body)}, nil))
	}
	b.must(s.Close(b.t.Context()))
}

func (b *broker) sendSession(queue, session string, bodies ...string) {
	b.t.Helper()
	s := b.sender(queue)
	for _, body := range bodies {
		b.must(s.SendMessage(b.t.Context(), &azservicebus.Message{Body: []byte(body), SessionID: &session}, nil))
	}
	b.must(s.Close(b.t.Context()))
}

type receiving interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// one receives exactly one message.
func (b *broker) one(r receiving) *azservicebus.ReceivedMessage {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for {
		got, err := r.ReceiveMessages(ctx, 1, nil)
		b.must(err)
		if len(got) == 1 {
			return got[0]
		}
	}
}

// none checks that there is nothing to receive for some seconds.
func (b *broker) none(r receiving) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	got, err := r.ReceiveMessages(ctx, 1, nil)
	if len(got) != 0 || !errors.Is(err, context.DeadlineExceeded) {
		b.t.Fatalf("got %d messages and %v, want to wait in vain", len(got), err)
	}
}

func (b *broker) counts(queue string, want servicebus.Counts) {
	b.t.Helper()
	if got, ok := b.s.Counts(queue); !ok || got != want {
		b.t.Errorf("counts of %s: %+v, %v; want %+v", queue, got, ok, want)
	}
}

func (b *broker) code(err error, want azservicebus.Code) {
	b.t.Helper()
	var sb *azservicebus.Error
	if !errors.As(err, &sb) || sb.Code != want {
		b.t.Errorf("got %v, want an error of code %s", err, want)
	}
}

func text(m *azservicebus.ReceivedMessage) string { return string(m.Body) }
