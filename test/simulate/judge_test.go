package simulate

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// judge holds the world against what was promised, after every step. How it
// counts is told in the package's documentation.
type judge struct {
	w    *world
	on   map[access.ResourceID]*watched
	last time.Time
	// accepted are the requests that the record has held as accepted; lost those
	// that a fail-over took out of it.
	accepted map[access.RequestID]bool
	lost     map[access.RequestID]bool
	// ended are the grants of which somebody was told that they are given back.
	ended    map[string]bool
	stale    bool      // something that all NSGs stand under has changed
	forgotAt time.Time // the last fail-over
	past     past
	gone     map[access.RequestID]bool // requests that were retired
	// worst is the longest that a door stood open without cover, as it is counted.
	worst time.Duration
}

// watched is an NSG under watch.
type watched struct {
	etag     string
	stale    bool       // the NSG or what is on record of it has changed since it was looked at
	next     time.Time  // when the next of its legs expires
	customer []nsg.Rule // what is not ours
	open     []door     // what our rules let through and the customer's would not
	bare     map[door]*bare
	// disturbedUntil is until when something of the adversary's doing may keep it
	// from being looked after; awake, that a sweep has begun since.
	disturbedUntil time.Time
	awake          bool
	forgot         bool // a fail-over may have lost what was known of it, and no scan came since
}

// door is what traffic may pass: a source to one port of one address.
type door struct {
	source netip.Addr
	target
}

type target struct {
	dest netip.Addr
	port uint16
	udp  bool
}

// bare is a door that stands open without cover.
type bare struct {
	since   time.Time
	counted time.Duration // undisturbed, and Resource Manager reachable
	all     time.Duration // Resource Manager reachable
	from    time.Time     // when counting begins
	byScan  bool          // only a scan can find it
	why     string
}

const (
	quick = 60 * time.Second
	slow  = 45 * time.Minute
	// parked is how long a use case leaves an NSG that it could not do.
	parked = time.Minute
	// lateWriter is how long after the end of a leg that was never seen open
	// somebody looks again.
	lateWriter = 6 * time.Minute
)

func newJudge(w *world) *judge {
	return &judge{w: w, on: map[access.ResourceID]*watched{}, last: time.Now(), accepted: map[access.RequestID]bool{}, lost: map[access.RequestID]bool{}, ended: map[string]bool{}, gone: map[access.RequestID]bool{}, past: past{endings: map[access.TicketID][]ending{}, entered: map[access.RequestID]time.Time{}, saved: map[access.TicketID]moment{}, told: map[string]bool{}}}
}

func (j *judge) breach(format string, args ...any) {
	if j.w.broken == nil {
		j.w.broken = fmt.Errorf(format, args...)
		j.w.say("BROKEN: %v", j.w.broken)
	}
}

func (j *judge) watch(id access.ResourceID) {
	j.on[id] = &watched{bare: map[door]*bare{}, awake: true}
	j.look(id)
}

// sight is what an actor read of a partition, with what else was on record then.
type sight struct {
	legs  []access.Leg
	rows  []access.Baseline
	down  access.Lockdown
	ended map[string]bool
	since moment
	call  int // the number of the actor's call
}

func (j *judge) read(a *actor, id access.ResourceID, legs []access.Leg, rows []access.Baseline) {
	down, _ := j.w.store.Lockdown(context.Background())
	a.seen[id] = sight{legs, rows, down, maps.Clone(j.ended), j.past.now(), a.calls}
}

// kept notes what has got into the record.
func (j *judge) kept(rec access.Record) {
	if rec.Outcome == access.Accepted {
		if !j.accepted[rec.ID] {
			for _, g := range rec.Grants {
				j.w.met["grants"]++
				if g.Ticket != nil {
					j.w.met["grants vouched for by tickets"]++
				}
			}
		}
		j.accepted[rec.ID] = true
	}
}

// disturbed notes that the adversary is at the NSG until then.
func (j *judge) disturbed(id access.ResourceID, until time.Time) {
	w := j.on[id]
	j.count()
	w.awake = false
	if until.After(w.disturbedUntil) {
		w.disturbedUntil = until
	}
	for _, b := range w.bare {
		b.counted = 0
	}
}

// swept notes that a sweep begins: from here on the NSGs that were left alone
// long enough are looked after, whatever the clocks of who left them for later
// and who sweeps.
func (j *judge) swept() {
	j.count()
	for _, id := range groups {
		if w := j.on[id]; !w.awake && !time.Now().Before(w.disturbedUntil.Add(parked+2*j.w.knobs.skew)) {
			w.awake = true
		}
	}
}

// scannedAt notes a scan with which nothing went wrong.
func (j *judge) scannedAt(began time.Time) {
	j.count()
	for _, id := range groups {
		j.on[id].forgot = j.on[id].forgot && began.Before(j.forgotAt)
		for _, b := range j.on[id].bare {
			if b.byScan && b.since.Before(began) {
				b.byScan, b.counted = false, 0
			}
		}
	}
}

// failedOver notes that the record has forgotten something.
func (j *judge) failedOver() {
	for id := range j.accepted {
		if _, _, err := j.w.store.Find(context.Background(), id); err != nil {
			j.lost[id] = true
		}
	}
	for _, w := range j.on {
		w.forgot = true
	}
	j.forgotAt, j.stale = time.Now(), true
	clear(j.ended)
	j.past.failedOver(j.w.store)
	j.w.topic.failedOver()
}

// reachable says whether Resource Manager takes writes of the NSG now.
func (j *judge) reachable(id access.ResourceID) bool {
	l, now := j.w.cloud.life[id], time.Now()
	return l.under == nil && !l.readOnly && !now.Before(l.throttledUntil) && !now.Before(j.w.down[theCloud])
}

// count adds the time since the last look to what stands open without cover.
func (j *judge) count() {
	now := time.Now()
	for _, id := range groups {
		w := j.on[id]
		if len(w.bare) == 0 || !j.reachable(id) {
			continue
		}
		for _, b := range w.bare {
			d := now.Sub(later(j.last, later(b.since, b.from)))
			if d <= 0 {
				continue
			}
			b.all += d
			if w.awake && !b.byScan {
				b.counted += d
				j.worst = max(j.worst, b.counted)
			}
		}
	}
	j.last = now
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// judge looks at every NSG after a step.
func (j *judge) judge() {
	j.count()
	for _, id := range groups {
		j.look(id)
		if w := j.on[id]; j.stale || w.stale || !w.next.IsZero() && !time.Now().Before(w.next) {
			j.doors(id)
		}
		j.tooLong(id)
	}
	j.stale = false
}

// look reads an NSG, if it has changed.
func (j *judge) look(id access.ResourceID) {
	g, w := j.w.azure.Look(id), j.on[id]
	if g.ETag == w.etag {
		return
	}
	first := w.etag == ""
	w.etag = g.ETag
	customer := slices.DeleteFunc(slices.Clone(g.Rules), settings.Owns)
	if !first && !slices.EqualFunc(customer, w.customer, sameRule) {
		j.breach("%s: a rule of the customer's was touched", id.Name())
	}
	was := w.open
	w.customer, w.open, w.stale = customer, openOf(g.Rules), true
	if !slices.Equal(was, w.open) {
		j.agree(g, w.open)
	}
}

// agree asks the product of a door what the packets found out about it.
func (j *judge) agree(g nsg.Group, open []door) {
	if len(open) == 0 {
		return
	}
	d, proto := pick(j.w.schedule, open), access.TCP
	if d.udp {
		proto = access.UDP
	}
	flow := nsg.Flow{Source: netip.PrefixFrom(d.source, d.source.BitLen()), Destination: d.dest, Port: d.port, Protocol: proto}
	if v := g.Evaluate(flow); v.Outcome != nsg.OutcomeAllowed {
		j.breach("a packet passes %s on %s, and the product says %s", d, g.ID.Name(), v)
	}
}

func sameRule(a, b nsg.Rule) bool {
	return a.Name == b.Name && a.Description == b.Description && a.Priority == b.Priority && a.Direction == b.Direction && a.Access == b.Access && a.Protocol == b.Protocol &&
		slices.Equal(a.Sources, b.Sources) && slices.Equal(a.SourcePorts, b.SourcePorts) && slices.Equal(a.Destinations, b.Destinations) && slices.Equal(a.DestinationPorts, b.DestinationPorts)
}

// edited notes what the customer did to an NSG. What of our rules they changed
// only a scan finds.
func (j *judge) edited(id access.ResourceID) {
	w := j.on[id]
	j.w.met["edits by the customer"]++
	w.etag = "" // whatever it is, it is the customer's own doing
	j.look(id)
	j.doors(id)
	for _, b := range w.bare {
		if b.since.Equal(time.Now()) {
			b.byScan, b.why = true, "the customer has changed a rule of ours"
		}
	}
}

// removed notes that an NSG is gone, and with it every door.
func (j *judge) removed(id access.ResourceID) {
	j.count()
	w := j.on[id]
	w.etag, w.customer, w.open = "", nil, nil
	clear(w.bare)
	j.stale = true
}

// doors holds what is open against the record.
func (j *judge) doors(id access.ResourceID) {
	w, now := j.on[id], time.Now()
	w.stale, w.next = false, time.Time{}
	if len(w.open) == 0 {
		clear(w.bare)
		return
	}
	legs, _ := j.w.store.Legs(context.Background(), id)
	down, _ := j.w.store.Lockdown(context.Background())
	for d := range w.bare {
		if !slices.Contains(w.open, d) {
			delete(w.bare, d)
		}
	}
	for _, l := range legs {
		if l.EndTime.After(now) && (w.next.IsZero() || l.EndTime.Before(w.next)) {
			w.next = l.EndTime
		}
	}
	legs = slices.DeleteFunc(legs, func(l access.Leg) bool { return l.Live() && j.over(l) })
	for _, d := range w.open {
		how := j.covers(d, legs, down, j.ended, now)
		b := w.bare[d]
		switch {
		case how == covered:
			delete(w.bare, d)
		case b == nil:
			b = &bare{since: now, why: string(how)}
			if how == expired {
				b.since = j.expiry(d, legs, now)
			}
			b.byScan = w.forgot || how == moved
			w.bare[d] = b
			j.w.say("  %s stands open on %s: %s", d, id.Name(), how)
		case how == moved && b.why != string(moved):
			// What else was against it is over, such as a lockdown.
			w.bare[d] = &bare{since: now, byScan: true, why: string(moved)}
		}
	}
}

// tooLong holds what stands open without cover against the promise.
func (j *judge) tooLong(id access.ResourceID) {
	for d, b := range j.on[id].bare {
		since := b.since.Sub(j.w.began).Round(time.Second)
		if b.counted > quick {
			j.breach("%s stands open on %s for %s of undisturbed time (since %s): %s", d, id.Name(), b.counted.Round(time.Second), since, b.why)
		}
		if b.all > slow {
			j.breach("%s stands open on %s for %s (since %s): %s", d, id.Name(), b.all.Round(time.Second), since, b.why)
		}
	}
}

func (d door) String() string {
	proto := "TCP"
	if d.udp {
		proto = "UDP"
	}
	return fmt.Sprintf("%s → %s:%d/%s", d.source, d.dest, d.port, proto)
}
