package access

import "time"

// Start is what was decided about a scheduled request when its time came. It is
// written once and never changed.
type Start struct {
	Request RequestID `json:"request"`
	At      time.Time `json:"at"`
	// Grants are those of the record, with their legs; none where it was not let in.
	Grants []Grant `json:"grants,omitempty"`
	// Reason and Message say why it was not let in; "" where it was.
	Reason  StatusReason `json:"statusReason,omitempty"`
	Message string       `json:"message,omitempty"`
}

// Revocation ends one grant of a request before its time. It is recorded before
// any leg is closed, and holds for legs that nobody has written yet.
type Revocation struct {
	Grant  int          `json:"grant"`
	Reason StatusReason `json:"statusReason"`
	At     time.Time    `json:"at"`
	By     string       `json:"by,omitempty"`
}

// File is all that is kept of a request beside its live legs and its events.
type File struct {
	Record  Record
	Start   *Start // nil until the time of a scheduled request has come
	Ended   []Leg
	Revoked []Revocation
	// ExtendedBy are the requests that took over grants of this one.
	ExtendedBy []RequestID
}

// Waits says whether the request is scheduled and nothing was decided about its
// start yet.
func (f File) Waits() bool {
	return f.Record.Outcome == Accepted && !f.Record.Request.StartTime.IsZero() && f.Start == nil
}

// Grants lists the grants as they are carried out: those of a scheduled request
// have legs once it was started.
func (f File) Grants() []Grant {
	if f.Start != nil && f.Start.Reason == "" {
		return f.Start.Grants
	}
	return f.Record.Grants
}

// Grant gives one grant as it is carried out.
func (f File) Grant(index int) (Grant, bool) {
	for _, g := range f.Grants() {
		if g.Index == index {
			return g, true
		}
	}
	return Grant{}, false
}

// Revocation gives what ended the grant before its time, if anything did.
func (f File) Revocation(grant int) (Revocation, bool) {
	for _, r := range f.Revoked {
		if r.Grant == grant {
			return r, true
		}
	}
	return Revocation{}, false
}

// Over says whether the grant has ended or will never begin, as far as the file
// tells: its live legs may be on their way out yet.
func (f File) Over(grant int) bool {
	for _, l := range f.Ended {
		if l.Grant == grant {
			return true
		}
	}
	_, revoked := f.Revocation(grant)
	return revoked || f.Record.Outcome != Accepted || f.Start != nil && f.Start.Reason != ""
}

// Situation is a request as it stands at a time.
type Situation struct {
	// Record is the decision; its grants are those carried out.
	Record Record
	// Legs are those of all grants, as they now stand.
	Legs []Leg
	// Waiting says that its start is still to come.
	Waiting bool
	// ExtendedBy is the latest request that took over grants of this one; "" for
	// none.
	ExtendedBy RequestID
}

// Status is that of one grant.
func (s Situation) Status(grant int) GrantStatus {
	var of []Leg
	for _, l := range s.Legs {
		if l.Grant == grant {
			of = append(of, l)
		}
	}
	if len(of) == 0 && s.Waiting {
		return GrantStatus{Status: Scheduled}
	}
	return StatusOf(of)
}

// At gives the file's legs as they stand: live ones as they were read from the
// ledger before the file was, ended ones as the file has them. A leg that is in
// neither is not written yet, or is lost: once its time is over nobody opens it. Where two say different things
// of a leg, that it has ended counts.
func (f File) At(now time.Time, live []Leg) Situation {
	s := Situation{Record: f.Record, Waiting: f.Waits() && f.Record.Request.StartTime.After(now)}
	s.Record.Grants = f.Grants()
	if n := len(f.ExtendedBy); n > 0 {
		s.ExtendedBy = f.ExtendedBy[n-1]
	}
	for _, g := range s.Record.Grants {
		s.Legs = append(s.Legs, f.legs(g, live, now)...)
	}
	return s
}

func (f File) legs(g Grant, live []Leg, now time.Time) (out []Leg) {
	revoked, isRevoked := f.Revocation(g.Index)
	over := func(l Leg, reason StatusReason, at time.Time) Leg {
		l.State, l.Reason, l.ClosingAt, l.EndedAt = LegEnded, reason, at, at
		return l
	}
	if len(g.Legs) == 0 {
		none := Leg{Request: f.Record.ID, Grant: g.Index, VM: g.VM, Source: g.Source, Port: g.Port, Protocol: g.Protocol, EndTime: g.EndTime}
		switch {
		case isRevoked:
			return []Leg{over(none, revoked.Reason, revoked.At)}
		case f.Start != nil && f.Start.Reason != "":
			none.BlockedBy = f.Start.Message
			return []Leg{over(none, f.Start.Reason, f.Start.At)}
		}
		return nil
	}
	for _, l := range g.Legs {
		there, known := find(f.Ended, l)
		if !known {
			there, known = find(live, l)
		}
		switch {
		case known:
			out = append(out, there)
		case isRevoked:
			out = append(out, over(l, revoked.Reason, revoked.At))
		case !l.EndTime.After(now):
			out = append(out, over(l, Expired, l.EndTime))
		default:
			out = append(out, l)
		}
	}
	return out
}

func find(legs []Leg, like Leg) (Leg, bool) {
	for _, l := range legs {
		if l.Request == like.Request && l.Grant == like.Grant && l.NSG == like.NSG {
			return l, true
		}
	}
	return Leg{}, false
}

// Lockdown says whether every door is kept shut, by whom, since when and why.
type Lockdown struct {
	Active bool      `json:"active"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at,omitzero"`
	// Told says that every NSG with live legs was asked to close them.
	Told bool `json:"told"`

	// ETag is the store's mark of the version that was read; not part of it.
	ETag string `json:"-"`
}
