package tables

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// errNoReply ends the connection without an answer.
var errNoReply = errors.New("fault: no answer")

func newInjector() *fault.Injector {
	return fault.New(fault.Slow, fault.Throttle, fault.Conflict, fault.LoseReply, fault.Drop, fault.Refuse, fault.Pause)
}

// Faults is the server's fault plan; the package's document says what it may
// hold.
func (s *Server) Faults() *fault.Injector { return s.faults }

// doOrFail does one operation, or what befalls it. header is that of the answer.
func (s *Server) doOrFail(ctx context.Context, r *request, header http.Header) (*reply, error) {
	name := s.operation(r)
	s.count(name)
	strike := s.faults.Take(name)
	if strike == nil {
		return s.do(r)
	}
	if err := strike.Hold(ctx); err != nil {
		return nil, errNoReply // the client went away
	}
	switch strike.Kind {
	case fault.Throttle:
		if strike.Delay > 0 {
			header.Set("Retry-After", strconv.Itoa(int(math.Ceil(strike.Delay.Seconds()))))
		}
		return nil, tableerr.New(tableerr.ServerBusy, "The server is busy.")
	case fault.Conflict:
		return s.conflict(r)
	case fault.Refuse:
		return nil, permissionMismatch()
	case fault.Drop:
		return nil, errNoReply
	case fault.LoseReply:
		_, _ = s.do(r) // whatever came of it, nobody is told
		return nil, errNoReply
	}
	return s.do(r)
}

// conflict answers as though another writer had come first: with the error that
// the write's own condition allows, and without one that the table is on its way
// out, which may befall every operation.
func (s *Server) conflict(r *request) (*reply, error) {
	if r.batch == nil || !r.batch.changeset {
		return nil, conflictOf(r.verb(), r.header)
	}
	for i, part := range r.batch.parts {
		p, err := s.partRequest(r, part)
		if err != nil {
			continue // a batch that will be refused anyway has other conflicts
		}
		if err := conflictOf(p.verb(), p.header); err.Code != tableerr.TableBeingDeleted {
			return s.refusedBatch(r.batch.parts, &store.OpError{Index: i, Err: err}), nil
		}
	}
	return s.refusedBatch(r.batch.parts, &store.OpError{Err: conflictOf("batch", nil)}), nil
}

func conflictOf(verb string, h http.Header) *tableerr.Error {
	switch tag := h.Get("If-Match"); {
	case verb == "insert":
		return tableerr.New(tableerr.EntityAlreadyExists, "The specified entity already exists.")
	case tag != "" && tag != "*":
		return tableerr.New(tableerr.UpdateConditionNotSatisfied, "The update condition specified in the request was not satisfied.")
	}
	return tableerr.New(tableerr.TableBeingDeleted, "The specified table is being deleted. Try operation later.")
}
