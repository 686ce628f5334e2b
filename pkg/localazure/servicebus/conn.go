package servicebus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

const (
	handshakeTimeout = 30 * time.Second
	writeTimeout     = 30 * time.Second
	closeTimeout     = time.Second      // how long to wait for the peer's own close frame
	idleTimeout      = 4 * time.Minute  // what the peer is told; half of it is enough for it to be heard
	maxKeepAlive     = 15 * time.Second // between empty frames at most
	outputLimit      = 64 << 10         // octets waiting to be sent above which deliveries pause, so that receivers share
	containerID      = "portcullis-localazure"
	minFrameSize     = 512 // AMQP 1.0 part 2 section 2.4.1
)

// conn is an AMQP connection. Its reader handles frames and its writer sends
// what out holds; everything else in it is behind the server's lock.
type conn struct {
	s        *Server
	nc       net.Conn
	r        *bufio.Reader
	out      []byte
	wake     chan struct{} // out has grown or closing was set
	closing  bool          // a close frame is in out: nothing may follow
	severed  bool          // closing, but without a close frame
	gone     chan struct{} // closed when the reader has ended
	written  chan struct{} // closed when the writer has ended, as it does after a close frame
	maxFrame int           // what the peer takes
	peerIdle time.Duration
	sessions map[uint16]*session
	claims   map[string]claim // by lower-case path
}

// handle finds out what a new connection speaks.
func (s *Server) handle(nc net.Conn) {
	r := bufio.NewReaderSize(nc, wire.MaxFrameSize)
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))
	first, err := r.Peek(4)
	if err == nil && string(first) != "AMQP" {
		_ = nc.SetDeadline(time.Time{})
		s.forget(nc)
		select {
		case s.adminIn.conns <- &peeked{Conn: nc, r: r}:
		case <-s.ctx.Done():
			_ = nc.Close()
		}
		return
	}
	if err == nil {
		err = s.serveAMQP(nc, r)
	}
	s.forget(nc)
	_ = nc.Close()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("connection ended", "peer", nc.RemoteAddr().String(), "error", err.Error())
	}
}

func (s *Server) forget(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

// peeked is a connection whose first octets were read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

func (s *Server) serveAMQP(nc net.Conn, r *bufio.Reader) error {
	c := &conn{s: s, nc: nc, r: r, wake: make(chan struct{}, 1), gone: make(chan struct{}), written: make(chan struct{}),
		sessions: map[uint16]*session{}, claims: map[string]claim{}}
	if err := c.handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	_ = nc.SetDeadline(time.Time{})
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.conns[nc] = c
	s.wg.Go(c.write)
	s.mu.Unlock()
	err := c.read()
	s.mu.Lock()
	c.closing = true
	for _, ss := range c.sessions {
		ss.drop()
	}
	s.mu.Unlock()
	close(c.gone)
	return err
}

// handshake does the protocol headers, SASL and the exchange of open frames.
func (c *conn) handshake() error {
	header, err := c.header()
	if err != nil {
		return err
	}
	if header == wire.ProtocolSASL {
		if err := c.sasl(); err != nil {
			return err
		}
		if header, err = c.header(); err != nil {
			return err
		}
	}
	if header != wire.ProtocolAMQP {
		_, _ = io.WriteString(c.nc, wire.ProtocolSASL) // what the peer should have sent
		return errors.New("the peer speaks another protocol")
	}
	if _, err := io.WriteString(c.nc, wire.ProtocolAMQP); err != nil {
		return err
	}
	f, err := wire.ReadFrame(c.r)
	if err != nil {
		return err
	}
	open, ok := f.Body.(*wire.Open)
	if !ok {
		return errors.New("the peer did not open the connection")
	}
	c.maxFrame = wire.MaxFrameSize
	if n := int(open.MaxFrameSize); n != 0 && n < c.maxFrame {
		c.maxFrame = max(n, minFrameSize)
	}
	c.peerIdle = time.Duration(open.IdleTimeout) * time.Millisecond
	return c.writeNow(wire.TypeAMQP, &wire.Open{ContainerID: containerID, MaxFrameSize: wire.MaxFrameSize,
		IdleTimeout: uint32(idleTimeout / time.Millisecond)})
}

func (c *conn) header() (string, error) {
	var b [8]byte
	_, err := io.ReadFull(c.r, b[:])
	return string(b[:]), err
}

// mechanisms are those that let a client in without a word: the tokens put to
// $cbs are what authenticates. MSSBCBS is what Microsoft's C library asks for, and
// with it the older Python SDK.
var mechanisms = []wire.Symbol{"MSSBCBS", "ANONYMOUS", "EXTERNAL"}

func (c *conn) sasl() error {
	if _, err := io.WriteString(c.nc, wire.ProtocolSASL); err != nil {
		return err
	}
	if err := c.writeNow(wire.TypeSASL, &wire.SASLMechanisms{Mechanisms: mechanisms}); err != nil {
		return err
	}
	f, err := wire.ReadFrame(c.r)
	if err != nil {
		return err
	}
	init, ok := f.Body.(*wire.SASLInit)
	if !ok {
		return errors.New("the peer did not choose a SASL mechanism")
	}
	if !slices.Contains(mechanisms, init.Mechanism) {
		_ = c.writeNow(wire.TypeSASL, &wire.SASLOutcome{Code: 1})
		return errors.New("the peer chose a SASL mechanism that was not offered")
	}
	return c.writeNow(wire.TypeSASL, &wire.SASLOutcome{Code: 0})
}

func (c *conn) writeNow(frameType uint8, p wire.Performative) error {
	b, err := wire.AppendFrame(nil, frameType, 0, p, nil)
	if err != nil {
		return err
	}
	_, err = c.nc.Write(b)
	return err
}

// read handles frames until the peer or the server closes the connection.
func (c *conn) read() error {
	for {
		c.s.mu.Lock()
		if !c.closing { // else the writer sets a nearer one
			_ = c.nc.SetReadDeadline(time.Now().Add(idleTimeout))
		}
		c.s.mu.Unlock()
		f, err := wire.ReadFrame(c.r)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.end(&wire.Error{Condition: condForced, Description: fmt.Sprintf(
					"The connection was inactive for more than the allowed %d milliseconds.", idleTimeout.Milliseconds())})
			}
			return err
		}
		if f.Body == nil {
			continue
		}
		if _, ok := f.Body.(*wire.Close); ok {
			c.end(nil)
			return nil
		}
		if err := c.frame(f); err != nil {
			c.end(&wire.Error{Condition: condDecode, Description: err.Error()})
			return err
		}
	}
}

// end closes the connection and waits until the peer has been told.
func (c *conn) end(reason *wire.Error) {
	c.s.mu.Lock()
	c.shut(reason)
	c.s.mu.Unlock()
	<-c.written
}

// frame handles a frame of a session. What it returns ends the connection.
func (c *conn) frame(f wire.Frame) error {
	c.s.mu.Lock()
	var after func()
	defer func() {
		c.s.mu.Unlock()
		if after != nil {
			after()
		}
	}()
	if c.closing {
		return nil
	}
	ss := c.sessions[f.Channel]
	if begin, ok := f.Body.(*wire.Begin); ok {
		if ss != nil || begin.RemoteChannel != nil {
			return fmt.Errorf("unexpected begin on channel %d", f.Channel)
		}
		c.begin(f.Channel, begin)
		return nil
	}
	if ss == nil {
		return fmt.Errorf("a frame on channel %d, which has no session", f.Channel)
	}
	switch p := f.Body.(type) {
	case *wire.Attach:
		return ss.attach(p)
	case *wire.Flow:
		ss.flow(p)
	case *wire.Transfer:
		var err error
		after, err = ss.transfer(p, f.Payload)
		return err
	case *wire.Disposition:
		ss.disposition(p)
	case *wire.Detach:
		ss.detached(p)
	case *wire.End:
		ss.drop()
		delete(c.sessions, f.Channel)
		c.send(f.Channel, &wire.End{}, nil)
	default:
		return fmt.Errorf("unexpected %T", f.Body)
	}
	return nil
}

// send appends a frame to the output. A frame of ours always encodes: what
// would not is a mistake in this package.
func (c *conn) send(channel uint16, p wire.Performative, payload []byte) {
	if c.closing {
		return
	}
	out, err := wire.AppendFrame(c.out, wire.TypeAMQP, channel, p, payload)
	if err != nil {
		c.s.log.Error("a frame could not be encoded", "error", err.Error())
		c.shut(&wire.Error{Condition: condInternal, Description: "a frame could not be encoded"})
		return
	}
	c.out = out
	c.notify()
}

func (c *conn) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// shut appends the close frame, after which the writer ends.
func (c *conn) shut(reason *wire.Error) {
	if c.closing {
		return
	}
	c.send(0, &wire.Close{Error: reason}, nil)
	c.closing = true
	c.notify()
}

// write sends the output and, when there is none, a sign of life.
func (c *conn) write() {
	defer close(c.written)
	interval := maxKeepAlive
	if c.peerIdle > 0 {
		interval = min(interval, c.peerIdle/2)
	}
	keepAlive := time.NewTicker(interval)
	defer keepAlive.Stop()
	for {
		silent := false
		select {
		case <-c.wake:
		case <-keepAlive.C:
			silent = true
		case <-c.gone:
			return
		}
		c.s.mu.Lock()
		b, closing, severed := c.out, c.closing, c.severed
		c.out = nil
		c.s.mu.Unlock()
		if silent && len(b) == 0 && !closing {
			b, _ = wire.AppendFrame(nil, wire.TypeAMQP, 0, nil, nil)
		}
		timeout := writeTimeout
		if closing {
			timeout = closeTimeout
		}
		_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
		if _, err := c.nc.Write(b); err != nil {
			_ = c.nc.Close() // the reader notices
			return
		}
		if severed {
			_ = c.nc.Close()
			return
		}
		if closing {
			_ = c.nc.SetReadDeadline(time.Now().Add(closeTimeout))
			return
		}
		if len(b) >= outputLimit {
			c.resume()
		}
	}
}

// resume continues deliveries that the full output held up.
func (c *conn) resume() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, ss := range c.sessions {
		for _, l := range ss.links {
			if l.sender && l.node != nil && l.credit > 0 {
				c.s.pump(l.node.entity)
			}
		}
	}
}
