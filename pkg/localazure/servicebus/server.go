// Package servicebus stands in for an Azure Service Bus namespace on a machine
// without Azure: an AMQP 1.0 broker and the Atom admin endpoint, in memory, for
// tests and laptops. Unmodified Service Bus SDKs work against it over real
// sockets, and it refuses what the service refuses, with its codes.
//
// It can be told to fail by a fault plan (package fault), from Go or over its
// admin endpoint. Operations are called by what is done and to what, in the
// words of the configuration: "send plain", "receive plain/$DeadLetterQueue",
// "attach news/Subscriptions/a". What is done is one of
//
//   - authorize: a token is put for the entity;
//   - attach: a link is opened to send, to receive (which locks a session if the
//     queue has them) or for requests to the entity's management;
//   - send: a message or a batch is sent; receive: a message is delivered over a
//     link, or deferred messages are asked for by number; settle: a message is
//     completed, abandoned, deferred, dead-lettered or released;
//   - schedule, cancel, peek, renew-lock (of messages or of a session),
//     get-session-state, set-session-state, list-sessions: requests to the
//     entity's management;
//   - manage: a request to the Atom admin endpoint for the path.
//
// A struck operation is answered so: throttle with com.microsoft:server-busy or
// 503, refuse with amqp:unauthorized-access or 401, lock with
// com.microsoft:message-lock-lost, session-lock-lost (and the locks that the
// operation was about are indeed lost), session-cannot-be-locked to attach, 410
// or, to manage, 409. A delivery has nothing to answer: its link is detached
// with the error, but with amqp:link:detach-forced to throttle, as azservicebus
// v1.11.0 never again opens a link that was detached as busy. A connection that drops does so without a close frame. What is
// slow or paused holds up nothing else, but for the deliveries that come after
// it on the same link.
//
// Left out: forwarding, subscription rules other than the default one, which
// lets everything through, transactions, AMQP over WebSockets, and quotas other
// than the message size.
package servicebus

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// Config says what a Server serves and whom.
type Config struct {
	// Entities are the queues and topics to create at start.
	Entities Entities
	// Verify checks a bearer JWT for the audience
	// "https://servicebus.azure.net"; nil refuses all JWTs. It may be called
	// concurrently.
	Verify func(ctx context.Context, token, audience string) error
	// SASKeyName and SASKey are the namespace's shared access policy, with all
	// rights. An empty key refuses its signatures.
	SASKeyName, SASKey string
	// Policies are further shared access policies.
	Policies []Policy
	// Logger is told of connections and refusals; nil for silence. No secret is
	// ever logged.
	Logger *slog.Logger
}

// Policy is a shared access policy: a named key with some of the rights.
type Policy struct {
	Name, Key            string
	Manage, Send, Listen bool // Manage includes the others
}

// Server is a namespace. All its state is behind one lock: every event, from a
// frame or a timer, is handled at once and only appends to the connections'
// output, which their writers send.
type Server struct {
	cfg Config
	log *slog.Logger

	mu        sync.Mutex
	entities  map[string]*entity // by lower-case path
	conns     map[net.Conn]*conn // nil value: not known to be AMQP yet
	listeners []net.Listener
	closed    bool
	faults    *fault.Injector
	// operations counts them by name, as fault plans name them.
	operations map[string]int

	admin   *http.Server
	adminIn *handedOver // connections that speak HTTP
	wg      sync.WaitGroup
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
}

// New makes a namespace. It fails on entities that the service would refuse.
func New(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, log: cfg.Logger,
		entities: map[string]*entity{}, conns: map[net.Conn]*conn{},
		faults: newInjector(), operations: map[string]int{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.create(cfg.Entities); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.admin = &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.adminIn = &handedOver{conns: make(chan net.Conn), done: s.ctx.Done()}
	return s, nil
}

// Serve accepts on l until Close, which closes l, and then returns nil. l
// yields plain or TLS connections; the first octets of each tell AMQP from
// HTTP, the Atom admin. Serve may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("servicebus: the server is closed")
	}
	if len(s.listeners) == 0 {
		s.wg.Go(func() { _ = s.admin.Serve(s.adminIn) }) // always ErrServerClosed
	}
	s.listeners = append(s.listeners, l)
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = nc.Close()
			return nil
		}
		s.conns[nc] = nil
		s.wg.Go(func() { s.handle(nc) })
		s.mu.Unlock()
	}
}

// Close closes the listeners, tells every connection that it is over and closes
// it, and waits until no goroutine of the server is left. Messages are gone
// with it. It may be called more than once.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	if !s.closed {
		for _, l := range s.listeners {
			_ = l.Close()
		}
	}
	s.closed = true
	for nc, c := range s.conns {
		if c == nil {
			_ = nc.Close()
		} else {
			c.shut(&wire.Error{Condition: condForced, Description: "The namespace is shutting down."})
			_ = nc.SetWriteDeadline(time.Now().Add(closeTimeout)) // a write may be stuck
		}
	}
	for _, e := range s.entities {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.admin.Shutdown(ctx)
	if err != nil {
		err = s.admin.Close() // somebody is slow
	}
	s.wg.Wait()
	return err
}

// Counts are the numbers of messages in a queue. Active ones include those
// that are locked or deferred.
type Counts struct{ Active, Scheduled, DeadLettered int }

// Counts looks into a queue, or a subscription by "topic/Subscriptions/name";
// false if there is none.
func (s *Server) Counts(name string) (Counts, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entities[strings.ToLower(name)]
	if !ok {
		return Counts{}, false
	}
	c := s.count(e)
	return Counts{Active: c.Active, Scheduled: c.Scheduled, DeadLettered: c.DeadLettered}, true
}

// count advances the entity first, so what falls due by it must be delivered.
func (s *Server) count(e *entity) queue.Counts {
	s.pump(e)
	return e.main.q.Counts(time.Now())
}

// handedOver is the listener through which the admin endpoint gets its connections.
type handedOver struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handedOver) Close() error   { return nil }
func (h *handedOver) Addr() net.Addr { return &net.TCPAddr{} }
