package identity

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

func newFaults() *fault.Injector {
	return fault.New(fault.Slow, fault.Throttle, fault.LoseReply, fault.Drop, fault.Refuse, fault.Pause)
}

// Faults is the fault plan, also served at fault.Path, where no secret is needed.
// It is asked before a request is looked at. The operations are "token AUDIENCE"
// of the managed identity, the audience as the client asks for it, and
// "discovery", "keys" and "mint".
//
//   - slow, pause: the answer waits.
//   - drop, lose-reply: the connection ends. Nothing here has an effect that would
//     tell the two apart.
//   - throttle: 429 with Retry-After: the delay in whole seconds, or a second
//     where the plan has none.
//   - refuse: 403.
func (s *Server) Faults() *fault.Injector { return s.faults }

// faulty serves what h serves unless the plan has a fault for the operation.
func (s *Server) faulty(operation func(*http.Request) string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		strike := s.faults.Take(operation(r))
		if strike == nil {
			h(w, r)
			return
		}
		switch strike.Kind {
		case fault.Drop, fault.LoseReply:
			panic(http.ErrAbortHandler) // net/http drops the connection and logs nothing
		case fault.Throttle:
			wait := cmp.Or(strike.Delay, time.Second)
			w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
			s.refuseByPlan(w, http.StatusTooManyRequests, "Too many requests.")
		case fault.Refuse:
			s.refuseByPlan(w, http.StatusForbidden, "The caller has no right to this.")
		default:
			// Only once the body is read does the server notice a client that goes away.
			body, err := io.ReadAll(io.LimitReader(r.Body, maxMintBytes+1))
			if err != nil || strike.Hold(r.Context()) != nil {
				panic(http.ErrAbortHandler)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			h(w, r)
		}
	}
}

// refuseByPlan answers in the form of the managed-identity endpoint.
func (s *Server) refuseByPlan(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"statusCode": status, "message": message, "correlationId": uuid.NewString()})
}

// named is an operation that has one name.
func named(operation string) func(*http.Request) string {
	return func(*http.Request) string { return operation }
}

func tokenOperation(r *http.Request) string { return "token " + r.URL.Query().Get("resource") }
