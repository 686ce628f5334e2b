package simulate

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// cover says how legs stand to a door.
type cover string

const (
	covered   cover = ""
	uncovered cover = "no live leg covers it"
	expired   cover = "what covered it has expired"
	moved     cover = "the address is not the machine's any more"
)

func (l legMatch) of(d door) bool {
	return l.Source.Contains(d.source) && slices.Contains(l.Destinations, d.dest) && l.Port == d.port && (l.Protocol == access.AnyProtocol || d.udp == (l.Protocol == access.UDP))
}

type legMatch access.Leg

// covers says whether a live leg covers the door: one that has not expired at
// the time (zero for any), was not given back, in no lockdown.
func (j *judge) covers(d door, legs []access.Leg, down access.Lockdown, ended map[string]bool, now time.Time) cover {
	worst := uncovered
	for _, l := range legs {
		switch {
		case !legMatch(l).of(d) || !l.Live() || down.Active || ended[l.Key()]:
		case !now.IsZero() && !l.EndTime.After(now):
			if worst == uncovered {
				worst = expired
			}
		case !now.IsZero() && !behind(l, d.dest, j.w.azure.Machines):
			worst = moved
		default:
			return covered
		}
	}
	return worst
}

// over says whether the record tells of the leg's grant that it is over: it was
// revoked, has ended on another NSG before its time, or the ticket that vouched for
// it does so no more.
func (j *judge) over(l access.Leg) bool {
	f, _ := j.w.store.File(context.Background(), l.Request)
	_, revoked := f.Revocation(l.Grant)
	return revoked || j.unvouched(f, l) || slices.ContainsFunc(f.Ended, func(e access.Leg) bool {
		return e.Grant == l.Grant && e.Reason != access.Expired && e.Reason != access.NewerRequestInitiated
	})
}

// behind says whether the machine that the leg was granted for has the address.
func behind(l access.Leg, ip netip.Addr, machines map[access.ResourceID]broker.Machine) bool {
	m := machines[l.VM]
	return m.UniqueID == l.UniqueID && slices.Contains(addressesOf(m), ip)
}

func addressesOf(m broker.Machine) (out []netip.Addr) {
	for _, nic := range m.NICs {
		for _, a := range nic.Addresses {
			out = append(out, a.IP)
		}
	}
	return out
}

// expiry is when the last of the legs that covered the door expired.
func (j *judge) expiry(d door, legs []access.Leg, now time.Time) (at time.Time) {
	for _, l := range legs {
		if legMatch(l).of(d) && l.Live() && !l.EndTime.After(now) {
			at = later(at, l.EndTime)
		}
	}
	return at
}

// written holds a write of ours against what its writer had read.
func (j *judge) written(a *actor, id access.ResourceID, before, after []nsg.Rule) {
	seen := a.seen[id]
	if a.free > seen.call {
		seen.down = access.Lockdown{} // it was lifted since, or came later than it was read
	}
	j.w.met["writes"]++
	was := openOf(before)
	legs, _ := j.w.store.Legs(context.Background(), id)
	down, _ := j.w.store.Lockdown(context.Background())
	for _, d := range openOf(after) {
		if slices.Contains(was, d) {
			continue
		}
		if why := j.mayNotOpen(d, seen, before); why != "" {
			j.breach("#%d %s opened %s on %s: %s", a.id, a.name, d, id.Name(), why)
		}
		if how := j.covers(d, legs, down, j.ended, time.Now()); how == covered || how == moved {
			continue
		}
		if j.covers(d, seen.legs, seen.down, seen.ended, time.Time{}) == uncovered {
			j.breach("#%d %s opened %s on %s, of which it had read that nobody may", a.id, a.name, d, id.Name())
		}
		j.w.met["doors opened late"]++
		j.on[id].bare[d] = &bare{since: time.Now(), from: time.Now().Add(lateWriter), byScan: j.on[id].forgot, why: "a writer opened it late"}
	}
	still := shutOf(after)
	for t := range shutOf(before) {
		if !still[t] && !slices.ContainsFunc(seen.rows, func(r access.Baseline) bool {
			return slices.Contains(r.Release, t.dest) || r.State == access.BaselineLifting && slices.Contains(r.Destinations, t.dest)
		}) {
			j.breach("#%d %s lifted the deny of %s:%d on %s, which nobody asked for", a.id, a.name, t.dest, t.port, id.Name())
		}
	}
}

// closed holds a write that shuts doors against the record: the end of whatever
// its writer had read to be open was recorded before. (Of a leg that it had read
// as one that is to open and could not confirm, the rule may go: others may have
// found it open meanwhile, without a write that would have stopped this one.)
func (j *judge) closed(a *actor, id access.ResourceID, before, after []nsg.Rule) {
	if j.on[id].forgot {
		return // it was on record
	}
	still := openOf(after)
	legs, _ := j.w.store.Legs(context.Background(), id)
	open := func(l access.Leg) bool {
		return l.State == access.LegOpen && l.EndTime.After(time.Now().Add(time.Minute))
	}
	for _, d := range openOf(before) {
		if slices.Contains(still, d) {
			continue
		}
		for _, l := range legs {
			if open(l) && legMatch(l).of(d) && slices.ContainsFunc(a.seen[id].legs, func(s access.Leg) bool { return open(s) && s.Key() == l.Key() }) {
				j.breach("#%d %s shut %s on %s, which %s holds open", a.id, a.name, d, id.Name(), l.Key())
			}
		}
	}
}

// ends holds that a leg is said to have ended only once its door was seen shut, or
// held open by another.
func (j *judge) ends(a *actor, l access.Leg) {
	if f, _ := j.w.store.File(context.Background(), l.Request); slices.ContainsFunc(f.Ended, func(e access.Leg) bool { return e.Key() == l.Key() && e.NSG == l.NSG }) {
		return // it was before
	}
	others := slices.DeleteFunc(slices.Clone(a.seen[l.NSG].legs), func(o access.Leg) bool { return o.Key() == l.Key() || !o.Live() })
	for _, d := range a.open[l.NSG] {
		if legMatch(l).of(d) && !slices.ContainsFunc(others, func(o access.Leg) bool { return legMatch(o).of(d) }) {
			j.breach("#%d %s says that leg %s on %s has ended, and has seen %s open", a.id, a.name, l.Key(), l.NSG.Name(), d)
		}
	}
}

// vanished says whether the door is one of an open leg whose machine is there, and
// nothing of the baseline that this is shut by stands: then the rules were replaced as
// a whole.
func (j *judge) vanished(d door, seen sight, before []nsg.Rule) bool {
	shut := shutOf(before)
	return slices.ContainsFunc(seen.legs, func(l access.Leg) bool {
		return l.State == access.LegOpen && legMatch(l).of(d) && j.past.wasBehind(l, d.dest, seen.since) && slices.ContainsFunc(seen.rows, func(r access.Baseline) bool {
			return r.VM == l.VM && !slices.ContainsFunc(targets, func(t target) bool { return shut[t] && slices.Contains(r.Destinations, t.dest) })
		})
	})
}

// mayNotOpen says why a write may not open the door, by what its writer had read
// or could have read after that: it takes a leg that is to open, whose machine is
// there and whom the policies allow; a rule that stood in another place; or that
// nothing of the machine's baseline stands any more.
func (j *judge) mayNotOpen(d door, seen sight, before []nsg.Rule) string {
	if j.vanished(d, seen, before) ||
		slices.ContainsFunc(filters(before), func(f filter) bool { return f.ours && f.allow && f.matches(d.source, d.target) }) {
		return ""
	}
	why := "somebody had shut it"
	for _, l := range seen.legs {
		if l.State != access.LegOpening || !legMatch(l).of(d) {
			continue
		}
		if why = j.mayNot(l, d, seen.since); why == "" {
			return ""
		}
	}
	return why
}
