package resourcemanager

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxOperations is how many operations are remembered. Azure forgets them after
// a while too.
const maxOperations = 4096

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
	if op == nil || now.Before(op.doneAt) {
		return
	}
	g.running, op.status = nil, "Succeeded"
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
	left := op.doneAt.Sub(req.now)
	if len(req.path.Types) == 1 {
		return newError(http.StatusConflict, "AnotherOperationInProgress",
			"Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: %s.",
			s.operationURL(g, op, "operations", req.version)).retryAfter(left)
	}
	err := newError(http.StatusTooManyRequests, "RetryableError", "A retryable error occured.").retryAfter(left)
	err.details = []errorDetail{{
		Code: "RetryableErrorDueToAnotherOperation",
		Message: fmt.Sprintf("Operation %s (%s) is updating resource %s. The call can be retried in %s seconds.",
			op.kind, op.id, g.id, err.header.Get("Retry-After")),
	}}
	return err
}

// begin starts the operation of an accepted write and returns the headers that
// tell where to watch it. busy must have let the write pass: an operation that is
// still under way is superseded.
func (s *Server) begin(g *group, req request, kind string, finish func()) http.Header {
	s.writes++
	op := &operation{id: uuid.NewString(), kind: kind, doneAt: req.now.Add(s.cfg.OperationLatency), finish: finish, status: "InProgress"}
	if g.running != nil {
		g.running.status, g.running.supersededBy = "Canceled", op
	}
	s.operations.add(op)
	g.running, g.etag = op, newETag()
	header := http.Header{"Azure-Asyncoperation": {s.operationURL(g, op, "operations", req.version)}}
	if req.Method == http.MethodDelete {
		header.Set("Location", s.operationURL(g, op, "operationResults", req.version))
	}
	setRetryAfter(header, s.cfg.OperationLatency)
	return header
}

func (s *Server) operationURL(g *group, op *operation, collection, version string) string {
	return fmt.Sprintf("%s/subscriptions/%s/providers/%s/locations/%s/%s/%s?api-version=%s",
		s.cfg.BaseURL, s.cfg.Topology.Subscription, network, g.location, collection, op.id, version)
}

func (s *Server) findOperation(req request) (*operation, *armError) {
	if req.Method != http.MethodGet {
		return nil, methodNotAllowed(req)
	}
	op, ok := s.operations.byID[strings.ToLower(req.path.Names[1])]
	if !ok {
		return nil, childNotFound(req.path.id())
	}
	return op, nil
}

// getOperation answers what Azure-AsyncOperation points to.
func (s *Server) getOperation(req request) (reply, *armError) {
	op, err := s.findOperation(req)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: http.StatusOK, header: http.Header{}, body: object{"status": op.status}}
	switch op.status {
	case "InProgress":
		setRetryAfter(out.header, op.doneAt.Sub(req.now))
	case "Canceled":
		out.body = object{"status": op.status, "error": op.canceled()}
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
	case "InProgress":
		out.status = http.StatusAccepted
		out.header.Set("Location", s.cfg.BaseURL+req.URL.RequestURI())
		setRetryAfter(out.header, op.doneAt.Sub(req.now))
	case "Canceled":
		out.status, out.body = http.StatusConflict, object{"error": op.canceled()}
	}
	return out, nil
}

func (op *operation) canceled() object {
	return object{"code": "Canceled", "message": "Operation was canceled.", "details": []errorDetail{{
		Code: "CanceledAndSupersededDueToAnotherOperation",
		Message: fmt.Sprintf("Operation %s (%s) was canceled and superseded by operation %s (%s).",
			op.kind, op.id, op.supersededBy.kind, op.supersededBy.id),
	}}}
}
