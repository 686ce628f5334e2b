package resourcemanager

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// maxOperations is how many operations are remembered. Azure forgets them after
// a while too.
const maxOperations = 4096

// The states of an operation that Azure has besides, Failed, comes to none here.
const (
	inProgress = "InProgress"
	succeeded  = "Succeeded"
	canceled   = "Canceled"
)

// operation is a long-running operation on a network security group. See
// "Track asynchronous Azure operations" for the protocol.
type operation struct {
	id     string
	kind   string // such as PutSecurityRuleOperation
	doneAt time.Time
	// finish has the effect that comes only with success; it may be nil.
	finish       func()
	status       string // InProgress, Succeeded or Canceled
	supersededBy *operation
	// held is a fault that keeps it under way for longer, or nil.
	held *fault.Strike
}

// left is how long the operation will still be under way; a second at least where
// a pause leaves it open.
func (op *operation) left(now time.Time) time.Duration {
	left := op.doneAt.Sub(now)
	switch {
	case op.held == nil || op.held.Over():
	case op.held.Kind == fault.Pause:
		left = max(left, time.Second)
	default:
		left += op.held.Delay
	}
	return left
}

type operations struct {
	byID  map[string]*operation
	order []string
}

func (o *operations) add(op *operation) {
	o.byID[op.id] = op
	o.order = append(o.order, op.id)
	if len(o.order) > maxOperations {
		delete(o.byID, o.order[0])
		o.order = o.order[1:]
	}
}

// settle ends the group's operation when its time has come. A group's ETag
// changes twice in an operation: when it begins and when it ends.
func (g *group) settle(now time.Time) {
	op := g.running
	if op == nil || op.left(now) > 0 {
		return
	}
	g.running, op.status = nil, succeeded
	if op.finish != nil {
		op.finish()
	}
	g.quiet()
}

// quiet leaves nothing of the group in the state of an operation under way.
func (g *group) quiet() {
	for i := range g.rules {
		g.rules[i].state = ""
	}
	g.defaultState = ""
	g.etag = newETag()
}

// busy answers a write that meets another operation on the same group, unless
// writes supersede one another: 409 to a write of the whole group, 429 to a write
// of one rule, the two answers known from Azure. azcore retries the second alone.
func (s *Server) busy(g *group, req request) *armError {
	op := g.running
	if op == nil || s.supersede {
		return nil
	}
	return s.underWay(req, op, g.location, op.left(req.now))
}

// underWay says that the operation has to end first.
func (s *Server) underWay(req request, op *operation, location string, left time.Duration) *armError {
	if len(req.path.Types) == 1 {
		return newError(http.StatusConflict, "AnotherOperationInProgress",
			"Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: %s.",
			s.operationURL(location, op, "operations", req.version)).retryAfter(left)
	}
	err := newError(http.StatusTooManyRequests, "RetryableError", "A retryable error occurred.").retryAfter(left)
	err.details = []errorDetail{{
		Code: "RetryableErrorDueToAnotherOperation",
		Message: fmt.Sprintf("Operation %s (%s) is updating resource %s. The call can be retried in %s seconds.",
			op.kind, op.id, req.path.topID(), err.header.Get("Retry-After")),
	}}
	return err
}

// begin starts the operation of an accepted write and returns the headers that
// tell where to watch it. busy must have let the write pass: an operation that is
// still under way is superseded.
func (s *Server) begin(g *group, req request, kind string, finish func()) http.Header {
	s.stats.count(req)
	op := &operation{id: uuid.NewString(), kind: kind, doneAt: req.now.Add(s.cfg.OperationLatency), finish: finish, status: inProgress}
	s.supersedeBy(g, op)
	s.strike(g, op)
	g.etag = newETag()
	header := http.Header{"Azure-Asyncoperation": {s.operationURL(g.location, op, "operations", req.version)}}
	if req.Method == http.MethodDelete {
		header.Set("Location", s.operationURL(g.location, op, "operationResults", req.version))
	}
	setRetryAfter(header, op.left(req.now))
	return header
}

// supersedeBy makes the operation the group's own; one still under way is
// cancelled.
func (s *Server) supersedeBy(g *group, op *operation) {
	if g.running != nil {
		g.running.status, g.running.supersededBy = canceled, op
	}
	s.operations.add(op)
	g.running = op
}

func (s *Server) operationURL(location string, op *operation, collection, version string) string {
	return fmt.Sprintf("%s/subscriptions/%s/providers/%s/locations/%s/%s/%s?api-version=%s",
		s.cfg.BaseURL, s.cfg.Topology.Subscription, network, location, collection, op.id, version)
}

func (s *Server) findOperation(req request) (*operation, *armError) {
	if req.Method != http.MethodGet {
		return nil, methodNotAllowed(req)
	}
	if req.path.isItem() {
		if op, ok := s.operations.byID[strings.ToLower(req.path.Names[1])]; ok {
			return op, nil
		}
	}
	return nil, childNotFound(req.path.id())
}

// getOperation answers what Azure-AsyncOperation points to.
func (s *Server) getOperation(req request) (reply, *armError) {
	op, err := s.findOperation(req)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: http.StatusOK, header: http.Header{}, body: object{"status": op.status}}
	switch op.status {
	case inProgress:
		setRetryAfter(out.header, op.left(req.now))
	case canceled:
		out.body = object{"status": op.status, "error": op.cancellation()}
	}
	return out, nil
}

// getOperationResult answers what Location points to: 202 until the end, then 204.
func (s *Server) getOperationResult(req request) (reply, *armError) {
	op, err := s.findOperation(req)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: http.StatusNoContent, header: http.Header{}}
	switch op.status {
	case inProgress:
		out.status = http.StatusAccepted
		out.header.Set("Location", s.cfg.BaseURL+req.URL.RequestURI())
		setRetryAfter(out.header, op.left(req.now))
	case canceled:
		out.status, out.body = http.StatusConflict, object{"error": op.cancellation()}
	}
	return out, nil
}

func (op *operation) cancellation() object {
	return object{"code": canceled, "message": "Operation was canceled.", "details": []errorDetail{{
		Code: "CanceledAndSupersededDueToAnotherOperation",
		Message: fmt.Sprintf("Operation %s (%s) was canceled and superseded by operation %s (%s).",
			op.kind, op.id, op.supersededBy.kind, op.supersededBy.id),
	}}}
}
