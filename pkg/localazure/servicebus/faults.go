package servicebus

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

func newInjector() *fault.Injector {
	return fault.New(fault.Slow, fault.Throttle, fault.Lock, fault.LoseReply, fault.Drop, fault.Refuse, fault.Pause)
}

// Faults is the plan of what the namespace is to do wrong; the package's
// document names the operations. It is also served, to anyone, at fault.Path of
// the admin endpoint.
func (s *Server) Faults() *fault.Injector { return s.faults }

// Operations says how many of each operation there were since the start, under
// the names that fault plans use. A batch is one operation.
func (s *Server) Operations() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.operations)
}

// act is an operation of a peer on a node.
type act struct {
	c      *conn
	verb   string
	n      *node
	do     func()        // does it and answers
	refuse func(*denial) // answers that it was not done
	holder any           // receiver and
	tokens [][16]byte    // locks that it is about, if any
}

// denial is why an operation was not done.
type denial struct {
	*wire.Error
	status int // of HTTP, for replies to requests
}

// perform does what a peer asked for, unless a fault befalls it. A slow or a
// paused operation holds up no other: it is done, and answered, later.
func (s *Server) perform(a act) {
	strike := s.strike(a.verb, a.n.path)
	if strike == nil {
		a.do()
		return
	}
	switch strike.Kind {
	case fault.Slow, fault.Pause:
		s.later(strike, a.do)
	case fault.LoseReply:
		before := len(a.c.out)
		a.do()
		a.c.cut(before)
	case fault.Drop:
		a.c.cut(len(a.c.out))
	default:
		a.refuse(refusalOf(strike, a.verb, a.n))
		if strike.Kind == fault.Lock {
			s.loseLocks(a.n, a.holder, a.tokens...)
		}
	}
}

// strike counts an operation and gives what befalls it, or nil.
func (s *Server) strike(verb, path string) *fault.Strike {
	name := verb + " " + path
	s.operations[name]++
	return s.faults.Take(name)
}

// later does what is held once the strike lets it, with the lock.
func (s *Server) later(strike *fault.Strike, do func()) {
	s.wg.Go(func() {
		if strike.Hold(s.ctx) != nil {
			return // the server is closing
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.closed {
			do()
		}
	})
}

// refusalOf is how a throttled, refused or locked operation is answered.
func refusalOf(strike *fault.Strike, verb string, n *node) *denial {
	switch {
	case strike.Kind == fault.Throttle:
		return &denial{&wire.Error{Condition: condBusy, Description: fmt.Sprintf(
			"The request was terminated because the entity is being throttled. Error code : 50009. Please wait %d seconds and try again.",
			retryAfter(strike))}, http.StatusServiceUnavailable}
	case strike.Kind == fault.Lock && verb == "attach":
		return &denial{&wire.Error{Condition: condSessionLocked, Description: "The requested session cannot be accepted. It may be locked by another receiver."}, http.StatusGone}
	case strike.Kind == fault.Lock && n.q.RequiresSession:
		return &denial{refusal(queue.ErrSessionLockLost), http.StatusGone}
	case strike.Kind == fault.Lock:
		return &denial{refusal(queue.ErrLockLost), http.StatusGone}
	}
	return &denial{&wire.Error{Condition: condUnauthorized, Description: fmt.Sprintf(
		"Unauthorized access to '%s'.", n.path)}, http.StatusUnauthorized}
}

// retryAfter is in whole seconds, as the service tells it: two unless the plan
// says otherwise.
func retryAfter(strike *fault.Strike) int {
	if strike.Delay == 0 {
		return 2
	}
	return int(math.Ceil(strike.Delay.Seconds()))
}

// cut ends the connection without a word, and with it all output from an offset
// on; what came before is still sent.
func (c *conn) cut(from int) {
	if c.closing {
		return
	}
	c.out = c.out[:from]
	c.closing, c.severed = true, true
	c.notify()
}

// loseLocks is what a fault of kind lock does to messages, or to the message
// session of their receiver: it is as if the locks had run out.
func (s *Server) loseLocks(n *node, holder any, tokens ...[16]byte) {
	now := time.Now()
	if n.q.RequiresSession && holder != nil {
		n.q.LoseSession(now, holder)
	} else if !n.q.RequiresSession {
		for _, token := range tokens {
			_ = n.q.Abandon(now, token, nil) // one that is lost already is lost
		}
	}
	s.pump(n.entity)
}
