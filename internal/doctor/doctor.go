// Package doctor examines a deployment from outside and says what is wrong and
// how to mend it. It changes nothing: every call that it makes reads.
package doctor

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // not looked at, and why
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	What  string `json:"what"`
	Mend  string `json:"mend,omitempty"` // how, for a problem or a warning
}

// Check looks at one part of a deployment.
type Check struct {
	Name string
	Run  func(ctx context.Context, r *Report)
}

// checkTime bounds one check, so that a part which hangs hides no other.
const checkTime = 60 * time.Second

// Report gathers the findings of the checks.
type Report struct {
	Findings []Finding
	check    string
}

// Examine runs the checks one after the other.
func Examine(ctx context.Context, checks []Check) *Report {
	r := &Report{}
	for _, c := range checks {
		r.check = c.Name
		one, cancel := context.WithTimeout(ctx, checkTime)
		c.Run(one, r)
		cancel()
	}
	return r
}

// Worst is the worst level among the findings.
func (r *Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		switch {
		case f.Level == Problem:
			return Problem
		case f.Level == Warning:
			worst = Warning
		}
	}
	return worst
}

func (r *Report) add(l Level, what, mend string) {
	r.Findings = append(r.Findings, Finding{r.check, l, what, mend})
}

// Ok notes what is as it should be.
func (r *Report) Ok(what string) { r.add(OK, what, "") }

// Skip notes what was not looked at, and why.
func (r *Report) Skip(why string) { r.add(Skipped, why, "") }

// Warn notes what may be meant so.
func (r *Report) Warn(what, mend string) { r.add(Warning, what, mend) }

// Fault notes what is wrong.
func (r *Report) Fault(what, mend string) { r.add(Problem, what, mend) }

// failed notes a read that failed.
func (r *Report) failed(doing string, err error, mend string) {
	e := access.AsError(err)
	why := e.Reason + ": " + e.Message
	if e.Code == access.Internal && e.Reason == "internal" {
		why = err.Error() // not one of ours: an SDK's or the network's own words
	}
	r.Fault(doing+": "+why, mend)
}

// NotConfigured is a check that says what it lacks.
func NotConfigured(name, lacks string) Check {
	return Check{name, func(_ context.Context, r *Report) { r.Skip("not looked at: " + lacks) }}
}
