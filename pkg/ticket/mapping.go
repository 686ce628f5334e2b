package ticket

import (
	"context"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/expression"
)

// maxTime bounds the mapping of one payload, all expressions together. Each has a
// bound of cost too, and there are ten at most.
const maxTime = 2 * time.Second

// maxFuture is how far the source's clock may be ahead of ours.
const maxFuture = 5 * time.Minute

// environment is what the expressions of mappings may use; it takes milliseconds
// to make.
var environment = sync.OnceValues(func() (*expression.Env, error) {
	return expression.NewEnv(
		expression.Var{Name: "payload", Type: expression.Any},
		expression.Var{Name: "users", Type: expression.TextMap},
		expression.Var{Name: "source.name", Type: expression.Text},
		expression.Var{Name: "received", Type: expression.Time})
})

// results are what the expressions give, where the compiler can tell.
var results = map[string]expression.Type{"when": expression.Truth, "ends": expression.Truth}

// Validate checks the source as a whole: it compiles every expression and runs the
// mapping on the sample, of which it must make an event. Errors: those of
// DecodeSource, every fault at its place ("mapping.state") with its line and column.
func (s Source) Validate() error {
	f := &faults{}
	s.check(f)
	m := s.compile(f)
	if len(f.list) > 0 {
		return f.error()
	}
	payload, err := parse(s.Sample)
	if err != nil {
		e := access.AsError(err)
		f.add("sample", e.Reason, "%s", e.Message)
		return f.error()
	}
	// A stored sample grows old, so no time is held against it.
	r := m.run(context.Background(), f, payload, time.Time{}, time.Unix(1_800_000_000, 0).UTC())
	if ours := r.event(); ours || len(f.list) > 0 {
		r.facts()
		if !r.out.Ends {
			r.ask()
		}
	} else {
		f.add("mapping.when", "sample_not_ours", "the sample is none of its events, and so shows nothing: store one that is")
	}
	return f.error()
}

// Map makes the ticket's event of a verified delivery; false where Mapping.When
// says that it is none of ours. At is never more than 5 minutes ahead of
// receivedAt, and no older than MaxAge unless the event ends.
//
// What an event that ends says besides (state, assignee, window, actor) is left
// empty where it cannot be read: no such fault keeps a door open.
//
// Errors: invalid_argument payload_invalid, payload_too_deep, event_from_future, or
// mapping_failed with every fault at its place, line and column; unauthenticated
// delivery_stale; unavailable interrupted when ctx is done or 2 seconds are over.
func (s Source) Map(ctx context.Context, v Verified, receivedAt time.Time) (access.TicketEvent, bool, error) {
	none := access.TicketEvent{}
	payload, err := parse(v.Body)
	if err != nil {
		return none, false, err
	}
	f := &faults{}
	m := s.compile(f)
	if len(f.list) > 0 {
		return none, false, f.mapping()
	}
	run, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	r := m.run(run, f, payload, v.At, receivedAt.UTC())
	ours := r.event()
	if ours && len(f.list) == 0 {
		r.facts()
		if r.out.Ends {
			f.list = nil // see above
		} else {
			r.ask()
		}
	}
	switch {
	case run.Err() != nil:
		// Too little time may be the machine's fault, and too much work has its own bound.
		return none, false, access.Wrap(run.Err(), access.Unavailable, "interrupted", "the mapping was cut off: send the delivery again")
	case len(f.list) > 0:
		return none, false, f.mapping()
	case !ours:
		return none, false, nil
	}
	e := r.out
	e.ID, e.BodyHash, e.ReceivedAt = v.ID, v.BodyHash, receivedAt.UTC()
	if e.At.Sub(receivedAt) > maxFuture {
		return none, false, access.Errorf(access.InvalidArgument, "event_from_future", "the event says that it happens more than %d minutes from now: check the source's clock", int(maxFuture.Minutes()))
	}
	if !e.Ends && receivedAt.Sub(e.At) > s.MaxAge {
		return none, false, access.Errorf(access.Unauthenticated, "delivery_stale", "the event is older than the source's maxAge, %s", access.FormatDuration(s.MaxAge))
	}
	return e, true, nil
}

// compiled is a mapping ready to run.
type compiled struct {
	source   Source
	programs map[string]*expression.Program // by field; none for what is not mapped
}

func (s Source) compile(f *faults) compiled {
	c := compiled{source: s, programs: map[string]*expression.Program{}}
	env, err := environment()
	if err != nil {
		f.add("mapping", "expression_invalid", "expressions cannot be compiled here")
		return c
	}
	for _, m := range s.Mapping.fields() {
		if m.text == "" {
			continue
		}
		p, err := env.Compile(m.text, results[m.name])
		if err != nil {
			f.expression(m.name, err)
			continue
		}
		c.programs[m.name] = p
	}
	return c
}

func (f *faults) expression(name string, err error) {
	e := access.AsError(err)
	f.add("mapping."+name, e.Reason, "%s", e.Message)
}

// mapping gives the faults as the error of a payload that cannot be mapped.
func (f *faults) mapping() error {
	e := access.AsError(f.error())
	first := f.list[0]
	return &access.Error{Code: access.InvalidArgument, Reason: "mapping_failed", Message: first.Path + ": " + first.Message, Violations: e.Violations}
}
