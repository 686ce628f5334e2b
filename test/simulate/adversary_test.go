package simulate

import (
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// knobs say how ill the adversary means it. Each is drawn for the seed, and is
// nothing in about half of them, so that some seeds are calm.
type knobs struct {
	// Of calls: how often one is cut off with its whole actor before or after its
	// effect, refused, has its reply lost, or is paused before or after its effect.
	cutBefore, cutAfter, refuse, loseReply, pause float64
	// Of actors: how often one stands still at one of its calls.
	stall float64
	// Of Resource Manager: how often it throttles, and an operation supersedes.
	throttle, supersede float64
	writeTakes          time.Duration
	// Of messages.
	lose, repeat, late, sessionLost float64
	// Of clocks.
	skew time.Duration
	// retention is how long requests are kept after they were over; 0 for ever.
	retention time.Duration
	// Of the world, per hour.
	outages, failOvers, partLosses, customer, tamper, shadow, machines, locks float64
	// Of tickets: how many events there are per hour, and how often a policy has
	// demands and conditions.
	tickets, demand float64
	// Of events: how often their sending is asked for once they are written.
	prompted float64
	// Of the NSGs, per hour: how often one gets what this version does not know, and is
	// deleted and made anew.
	lossy, renewals float64
	// putBack is how often the customer puts back what a write has just removed.
	putBack float64
	// six is how often somebody comes by IPv6.
	six float64
	// narrow is in how few machines everybody is interested.
	narrow int
	// Of people: how often somebody does something about a request soon after it.
	follow float64
}

func drawKnobs(s *schedule) knobs {
	rate := func(most float64) float64 {
		if s.chance(0.5) {
			return 0
		}
		return most * s.rng.Float64()
	}
	k := knobs{
		cutBefore: rate(0.01), cutAfter: rate(0.01), refuse: rate(0.02), loseReply: rate(0.02), pause: rate(0.01),
		throttle: rate(0.03), supersede: rate(0.5), writeTakes: s.between(200*time.Millisecond, 15*time.Second),
		lose: rate(0.2), repeat: rate(0.2), late: rate(0.2), sessionLost: rate(0.5),
		stall: rate(0.4), follow: rate(0.7),
		outages: rate(2), failOvers: rate(2), partLosses: rate(3), customer: rate(20), tamper: rate(15), shadow: rate(3), machines: rate(6), locks: rate(3),
		tickets: rate(30), demand: rate(0.8), prompted: rate(0.5), lossy: rate(3), renewals: rate(2), six: rate(0.5), putBack: rate(0.1),
	}
	k.narrow = pick(s, []int{1, 2, len(machines), len(machines)})
	if s.chance(0.5) {
		k.skew = s.between(0, 8*time.Second)
	}
	if s.chance(0.5) {
		k.retention = s.between(16*time.Minute, 40*time.Minute)
	}
	if s.chance(0.15) { // nothing fails, and the world goes on all the same
		k.cutBefore, k.cutAfter, k.refuse, k.loseReply, k.pause, k.stall = 0, 0, 0, 0, 0, 0
		k.lose, k.late, k.outages, k.failOvers, k.throttle, k.locks = 0, 0, 0, 0, 0, 0
	}
	if s.chance(0.1) {
		k = knobs{writeTakes: time.Second, narrow: len(machines)}
	}
	return k
}

// stall is the call at which an actor stands still: one by its number, or the
// first by its name that is left after some.
type stall struct {
	number int
	name   string
	after  int
}

// critical are the calls between which it matters what others do.
var critical = []string{"Group", "Partition", "File", "Lockdown", "Apply", "AddLegs", "UpdateLegs", "ChangeLegs", "EndLegs, kept", "EndLegs, removed", "SaveHead", "Revoke", "SaveBaselines", "Ticket", "SaveTicket", "Enter"}

func (w *world) drawStall() stall {
	switch {
	case !w.chance(w.knobs.stall):
		return stall{}
	case w.chance(0.4):
		return stall{number: 1 + w.rng.IntN(16)}
	}
	return stall{name: pick(w.schedule, critical), after: w.rng.IntN(2)}
}

// at says whether the call is the one.
func (s *stall) at(c *call) bool {
	if s.name == "" {
		return c.actor.calls == s.number
	}
	if !strings.HasPrefix(c.name, s.name) {
		return false
	}
	s.after--
	return s.after == -1
}

// tooLate is how long after its caller has given it up a call on its way may
// still have its effect.
const tooLate = 30 * time.Second

// fateOf plans a call: when it has its effect, and when and how its reply comes.
func (w *world) fateOf(c *call) {
	takes, back := w.between(time.Millisecond, 40*time.Millisecond), time.Duration(0)
	k := w.knobs
	c.actor.calls++
	stalls := !w.calm && c.actor.stall.at(c)
	var refused error
	var lost bool
	var cut func()
	if !w.calm {
		switch roll := w.rng.Float64(); {
		case roll < k.cutBefore:
			cut = func() { w.cut(c, "before") }
		case roll < k.cutBefore+k.cutAfter:
			lost = true
			back = w.between(0, 30*time.Millisecond)
		case roll < k.cutBefore+k.cutAfter+k.refuse:
			w.met["calls refused"]++
			refused = access.Errorf(access.Unavailable, "refused", "%s is not well", c.port)
		case roll < k.cutBefore+k.cutAfter+k.refuse+k.loseReply:
			w.met["replies lost"]++
			w.later(takes, func() {
				w.act(c)
				w.disturbCall(c, 0, "the reply of "+c.name+" is lost")
				c.answer(result{err: access.Errorf(access.Unavailable, "reply_lost", "the reply is lost")})
			})
			return
		case stalls || roll < k.cutBefore+k.cutAfter+k.refuse+k.loseReply+k.pause:
			long := w.between(time.Second, 7*time.Minute)
			if stalls {
				long = w.between(time.Second, 235*time.Second)
			}
			w.met["pauses"]++
			w.say("#%d %s pauses at %s for %s", c.actor.id, c.actor.name, c.name, long.Round(time.Second))
			w.disturbCall(c, long, "")
			if w.chance(0.5) {
				takes += long
			} else {
				back += long
			}
		case c.port == theCloud && w.chance(k.throttle):
			wait := w.between(time.Second, 5*time.Minute)
			w.throttle(c, wait)
			refused = &access.Error{Code: access.ResourceExhausted, Reason: "throttled", Message: "too many requests", RetryAfter: wait}
		}
	}
	w.later(takes, func() {
		switch {
		case cut != nil:
			cut()
		case refused != nil:
			w.disturbCall(c, 0, c.name+" is refused")
			c.answer(result{err: refused})
		case lost:
			w.act(c)
			w.later(back, func() { w.cut(c, "after") })
		default:
			r := w.act(c)
			w.later(back, func() { c.answer(r) })
		}
	})
}

func (s *schedule) later(d time.Duration, do func()) {
	if d == 0 {
		do()
		return
	}
	s.in(d, do)
}

// act lets the call have its effect, unless its port cannot be reached or it was
// given up too long ago.
func (w *world) act(c *call) result {
	if time.Now().Before(w.down[c.port]) {
		c.actor.faulted = true
		return result{err: access.Errorf(access.Unavailable, "unreachable", "%s cannot be reached", c.port)}
	}
	if c.gone && time.Since(c.goneAt) > tooLate {
		return result{err: cutOff()}
	}
	for _, t := range c.twins {
		v, err := t.effect()
		t.came = result{v, err}
	}
	v, err := c.effect()
	if w.story != nil {
		w.say("  #%d %s %s%s", c.actor.id, c.name, short(c.arg), outcome(err))
	}
	return result{v, err}
}

// cut ends an actor where it stands: nothing that it calls gets through any more.
func (w *world) cut(c *call, when string) {
	if c.actor.dead {
		return
	}
	w.met["actors cut off"]++
	w.say("#%d %s is cut off %s %s", c.actor.id, c.actor.name, when, c.name)
	c.actor.dead = true
	w.disturbCall(c, 30*time.Second, "")
	c.answer(result{err: cutOff()})
	c.actor.cancel()
}

// throttle has Resource Manager refuse writes for a while.
func (w *world) throttle(c *call, wait time.Duration) {
	on := groups
	if c.actor.nsg != "" {
		on = []access.ResourceID{c.actor.nsg}
	}
	w.met["throttlings"]++
	w.say("Resource Manager throttles #%d %s for %s", c.actor.id, c.actor.name, wait.Round(time.Second))
	for _, id := range on {
		if l := w.cloud.life[id]; l.throttledUntil.Before(time.Now().Add(wait)) {
			l.throttledUntil = time.Now().Add(wait)
		}
	}
	w.disturb(c.actor, wait, "")
}

// outage makes a part unreachable for a while.
func (w *world) outage(p port, long time.Duration) {
	w.met["outages"]++
	w.say("the %s cannot be reached for %s", p, long.Round(time.Second))
	w.down[p] = time.Now().Add(long)
	w.disturbAll(long)
	w.in(long, func() { w.say("the %s can be reached again", p) })
}

// failOver loses what the store was told in the last seconds.
func (w *world) failOver() {
	restore := w.store.Snapshot()
	lost := w.between(time.Second, 10*time.Second)
	w.in(lost, func() {
		w.met["fail-overs"]++
		w.say("the store fails over and has lost the last %s", lost.Round(100*time.Millisecond))
		restore()
		w.disturbAll(0)
		w.judge.failedOver()
	})
}

// losePartition loses what is on record of one NSG.
func (w *world) losePartition() {
	id := pick(w.schedule, groups)
	w.met["partitions lost"]++
	w.say("the partition of %s is lost", id.Name())
	w.store.LosePartition(id)
	w.disturbAll(0)
	w.judge.failedOver()
	for _, b := range w.judge.on[id].bare {
		b.byScan = true // who was to shut it knows nothing of it any more
	}
}

// disturb tells the judge that something went wrong for an actor by the
// adversary's doing, until so long from now.
func (w *world) disturb(a *actor, long time.Duration, why string) {
	a.faulted = true
	if why != "" {
		w.say("#%d %s: %s", a.id, a.name, why)
	}
	w.disturbNSG(a.nsg, long)
}

// disturbCall is disturb for a call that failed: of another NSG than the actor's,
// such as that of a grant's other leg, it keeps that one from being looked after.
func (w *world) disturbCall(c *call, long time.Duration, why string) {
	w.disturb(c.actor, long, why)
	on, _, _ := strings.Cut(c.arg, " ")
	if id := access.ResourceID(on); id != c.actor.nsg && slices.Contains(groups, id) {
		w.disturbNSG(id, long)
	}
}

func (w *world) disturbNSG(id access.ResourceID, long time.Duration) {
	if id == "" {
		w.disturbAll(long)
		return
	}
	w.judge.disturbed(id, time.Now().Add(long))
}

func (w *world) disturbAll(long time.Duration) {
	for _, id := range groups {
		w.judge.disturbed(id, time.Now().Add(long))
	}
}
