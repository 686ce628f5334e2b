package resourcemanager

import (
	"cmp"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

func newFaults() *fault.Injector {
	return fault.New(fault.Slow, fault.Throttle, fault.Conflict, fault.Lock, fault.LoseReply, fault.Drop, fault.Refuse, fault.Pause)
}

// Faults is the fault plan, also served at fault.Path, where no token is needed.
// It names two sorts of operation.
//
// A request is "METHOD path", such as "PUT */nsg-web-subnet/securityRules/*":
// the path without its query, as the client wrote it. Requests without a good
// token or that cannot be read are answered before the plan is asked.
//
//   - slow, pause: nothing happens, to this request or others, until it goes on.
//   - drop: the connection ends, and nothing happens.
//   - lose-reply: the connection ends once the request has had its effect.
//   - throttle: 429 SubscriptionRequestsThrottled; Retry-After is the delay, or a
//     second where the plan has none.
//   - conflict, of writes alone: 412 PreconditionFailed where the request has
//     If-Match; else as if another operation were under way: 409
//     AnotherOperationInProgress on a whole group, 429 RetryableError on a rule.
//   - lock, of writes alone: 409 ScopeLocked, by the request's own scope.
//   - refuse: 403 AuthorizationFailed.
//
// The long-running operation that a write began is "operation NAME" by the name
// of its network security group; the write has been answered by then.
//
//   - slow: it takes the delay longer.
//   - pause: it stays under way until the plan is replaced.
//   - conflict: another writer, with an operation as long as this one's, supersedes
//     it at once, so it ends as Canceled and a removal does not happen.
//
// The other kinds do nothing to an operation.
func (s *Server) Faults() *fault.Injector { return s.faults }

// befall does to a request what the plan has for it: an error is the answer,
// and lost says that the answer is never to arrive.
func (s *Server) befall(req request, h http.Header) (lost bool, err *armError) {
	strike := s.faults.Take(req.Method + " " + req.URL.Path)
	if strike == nil {
		return false, nil
	}
	write := req.Method != http.MethodGet && req.Method != http.MethodHead
	switch strike.Kind {
	case fault.Slow, fault.Pause:
		if strike.Hold(req.Context()) != nil {
			panic(http.ErrAbortHandler) // the client went away
		}
	case fault.Drop:
		panic(http.ErrAbortHandler) // net/http drops the connection and logs nothing
	case fault.LoseReply:
		return true, nil
	case fault.Throttle:
		return false, s.bucketOf(req.Method).refuse(s.cfg.Topology.Subscription, cmp.Or(strike.Delay, time.Second), h)
	case fault.Conflict:
		if write {
			return false, s.conflict(req)
		}
	case fault.Lock:
		if write {
			return false, scopeLocked(req, req.path.id())
		}
	case fault.Refuse:
		return false, unauthorized(req)
	}
	return false, nil
}

func (s *Server) bucketOf(method string) *bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buckets.of(method)
}

// conflict answers a write as if another writer had been there first.
func (s *Server) conflict(req request) *armError {
	if given := req.Header.Get("If-Match"); given != "" {
		return preconditionFailed(req, "if-match", given, newETag())
	}
	other := &operation{id: uuid.NewString(), kind: "PutNetworkSecurityGroupOperation"}
	return s.underWay(req, other, s.cfg.Topology.Location, max(s.cfg.OperationLatency, time.Second))
}

// strike does to an operation that has just begun what the plan has for it.
func (s *Server) strike(g *group, op *operation) {
	strike := s.faults.Take("operation " + g.name)
	if strike == nil {
		return
	}
	switch strike.Kind {
	case fault.Slow, fault.Pause:
		op.held = strike
	case fault.Conflict:
		other := &operation{id: uuid.NewString(), kind: "PutNetworkSecurityGroupOperation", doneAt: op.doneAt, status: inProgress}
		s.supersedeBy(g, other)
	}
}
