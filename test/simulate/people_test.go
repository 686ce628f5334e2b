package simulate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// asked is a request that somebody made by the API.
type asked struct {
	id     access.RequestID
	by     access.Caller
	ticket string // with which it was made
	vm     access.ResourceID
}

var (
	people = []access.Caller{caller("alice", access.RoleRequest), caller("bob", access.RoleRequest), caller("carol", access.RoleRequest, access.RoleRequestForOthers)}
	admin  = caller("admin", access.RoleAdminister)
)

func caller(name string, roles ...access.Role) access.Caller {
	return access.Caller{Name: name + "@contoso.com", ObjectID: "oid-" + name, TenantID: "tenant", Roles: roles}
}

// somebody does something.
func (w *world) somebody() {
	switch roll := w.rng.IntN(100); {
	case roll < 35:
		w.askByAPI(pick(w.schedule, people), w.portRequests(), time.Time{})
	case roll < 50:
		w.askByQueue()
	case roll < 60:
		w.askByAPI(pick(w.schedule, people), w.portRequests(), time.Now().Add(w.between(time.Minute, 25*time.Minute)))
	case roll < 72:
		w.lately(w.extend)
	case roll < 86:
		w.lately(w.giveBack)
	case roll < 95:
		w.changePolicy()
	default:
		w.lockDown()
	}
}

func (w *world) portRequests() (out []access.PortRequest) {
	for range 1 + w.rng.IntN(2) {
		from := sources
		if w.chance(w.knobs.six) {
			from = sources6
		}
		out = append(out, access.PortRequest{
			VM: pick(w.schedule, machines[:w.knobs.narrow]), Port: pick(w.schedule, ports).Number, Source: pick(w.schedule, from),
			Duration: pick(w.schedule, []time.Duration{5 * time.Minute, 7 * time.Minute, 12 * time.Minute, 30 * time.Minute}),
		})
	}
	return out
}

// byAPI makes a call of the API, and repeats it as a client does. then runs once
// the client was told that it is done.
func (w *world) byAPI(name string, tries int, run func(context.Context, *core) error, then ...func()) {
	w.start(name, "", run, func(a *actor, err error) {
		if tries > 1 && (a.dead || access.CodeOf(err).Retryable() && err != nil) {
			w.in(5*time.Second, func() { w.byAPI(name, tries-1, run, then...) })
		}
		for _, do := range then {
			if err == nil && !a.dead {
				do()
			}
		}
	})
}

func (w *world) askByAPI(by access.Caller, ports []access.PortRequest, start time.Time) {
	w.unique++
	ask := broker.Ask{ClientID: fmt.Sprint("ask-", w.unique), Justification: "work", Ticket: w.ticketOf(by.Name), Ports: ports, StartTime: start, BodyHash: fmt.Sprint("hash-", w.unique)}
	w.asked = append(w.asked, asked{access.NewRequestID(by.Sender(), ask.ClientID), by, ask.Ticket, ports[0].VM})
	w.met["requests"]++
	w.say("%s asks for %s", by.Name, tellPorts(ports))
	w.follow(w.asked[len(w.asked)-1])
	w.byAPI("request "+ask.ClientID, 4, func(ctx context.Context, c *core) error {
		_, err := c.desk.Request(ctx, by, ask)
		return err
	})
}

func tellPorts(ports []access.PortRequest) (out string) {
	for _, p := range ports {
		out += fmt.Sprintf("%s:%d from %s for %s; ", p.VM.Name(), p.Port, p.Source, p.Duration)
	}
	return out
}

func (w *world) askByQueue() {
	w.unique++
	id := fmt.Sprint("message-", w.unique)
	req := access.Request{ClientID: id, Requestor: access.Requestor{Name: dave, Asserted: true}, RequestedBy: sender, Ticket: w.ticketOf(dave), Ports: w.portRequests(), BodyHash: id}
	w.say("a message asks for %s", tellPorts(req.Ports))
	w.queue.send(&message{kind: "request", request: &req}, time.Now())
}

// follow has somebody do something about a request soon after it was made.
func (w *world) follow(a asked) {
	for w.chance(w.knobs.follow) {
		w.inspired(a)
	}
}

func (w *world) inspired(a asked) {
	do := pick(w.schedule, []func(){
		func() { w.ticketsMove(a) }, func() { w.ticketsMove(a) }, func() { w.machineRetagged(a.vm) }, func() { w.machineRetagged(a.vm) },
		func() { w.giveBack(a) }, func() { w.giveBack(a) }, func() { w.extend(a) }, w.changePolicy, w.machineChanges, w.lockDown,
		func() { w.customerTampers(w.opened()) },
	})
	w.in(w.between(0, pick(w.schedule, []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute})), do)
}

// opened gives an NSG in which something of ours stands open, if there is one.
func (w *world) opened() access.ResourceID {
	list := slices.DeleteFunc(slices.Clone(groups), func(id access.ResourceID) bool { return len(w.judge.on[id].open) == 0 })
	if len(list) == 0 {
		list = groups
	}
	return pick(w.schedule, list)
}

// lately gives a request of late.
func (w *world) lately(do func(asked)) {
	if len(w.asked) > 0 {
		do(w.asked[max(0, len(w.asked)-1-w.rng.IntN(6))])
	}
}

func (w *world) extend(a asked) {
	w.unique++
	e := broker.Extension{ClientID: fmt.Sprint("extension-", w.unique), Duration: 20 * time.Minute, BodyHash: fmt.Sprint("hash-", w.unique)}
	w.asked = append(w.asked, asked{access.NewRequestID(a.by.Sender(), e.ClientID), a.by, a.ticket, a.vm})
	w.byAPI("extension of "+string(a.id), 4, func(ctx context.Context, c *core) error {
		_, err := c.desk.Extend(ctx, a.by, a.id, e)
		return err
	})
}

func (w *world) giveBack(a asked) {
	by := a.by
	if w.chance(0.3) {
		by = admin
	}
	var told access.Record
	w.byAPI("giving back "+string(a.id), 4, func(ctx context.Context, c *core) error {
		s, err := c.desk.Revoke(ctx, by, a.id, broker.GiveBack{Reason: "done"})
		told = s.Record
		return err
	}, func() {
		for _, g := range told.Grants {
			w.judge.ended[access.GrantKey(told.ID, g.Index)] = true
		}
		w.judge.stale = true
	})
}

func (w *world) changePolicy() {
	yes, no := true, false
	p := policyOf(scope, prefix("203.0.113.0/24"), nil)
	switch w.rng.IntN(5) {
	case 0:
		p.Baseline = &yes
	case 1:
		p.Baseline = &no
	case 2:
		p = policyOf(scope, prefix("203.0.113.0/29"), nil)
	case 3:
		p = policyOf(pick(w.schedule, machines), prefix("203.0.113.0/24"), &yes)
	case 4:
		w.deletePolicy(pick(w.schedule, machines))
		return
	}
	w.demand(&p)
	w.putPolicy(p, w.chance(0.5))
}

func (w *world) putPolicy(p policy.AccessPolicy, closeGrants bool) {
	w.say("the policy at %s is to be from %s, baseline %s, ticket %v, condition %q", p.Scope.Name(), p.Ports[0].Sources, told(p.Baseline), p.Ticket, p.Condition)
	w.byAPI("policy at "+p.Scope.Name(), 4, func(ctx context.Context, c *core) error {
		have, err := c.policies.Get(ctx, admin, p.Scope)
		if err != nil && access.CodeOf(err) != access.NotFound {
			return err
		}
		_, err = c.policies.Put(ctx, admin, p, broker.ChangeOptions{Version: have.Version, CloseGrants: closeGrants})
		return err
	})
}

func told(b *bool) string {
	if b == nil {
		return "as it is"
	}
	return fmt.Sprint(*b)
}

func (w *world) deletePolicy(at access.ResourceID) {
	w.byAPI("no policy at "+at.Name(), 4, func(ctx context.Context, c *core) error {
		have, err := c.policies.Get(ctx, admin, at)
		if err != nil {
			return err
		}
		_, err = c.policies.Delete(ctx, admin, at, broker.ChangeOptions{Version: have.Version, CloseGrants: true})
		return err
	})
}

func (w *world) lockDown() {
	w.byAPI("lockdown", 4, func(ctx context.Context, c *core) error {
		_, err := c.lockdown.On(ctx, admin, "drill")
		return err
	})
	w.in(w.between(time.Minute, 10*time.Minute), w.liftLockdown)
}

func (w *world) liftLockdown() {
	w.byAPI("end of the lockdown", 4, func(ctx context.Context, c *core) error {
		_, err := c.lockdown.Off(ctx, admin)
		return err
	})
}

// sweep and scan are the timers: each is one at a time.
func (w *world) sweep() { w.timer("sweep", time.Minute, w.sweep, w.runSweep) }

func (w *world) runSweep(done func()) {
	w.judge.swept()
	w.start("sweep", "", func(ctx context.Context, c *core) error { return c.sweeper.Sweep(ctx) }, func(*actor, error) { done() })
}

func (w *world) scan() { w.timer("scan", 15*time.Minute, w.scan, w.runScan) }

func (w *world) runScan(done func()) {
	began := time.Now()
	w.start("scan", "", func(ctx context.Context, c *core) error { return c.scanner.Scan(ctx) }, func(a *actor, err error) {
		done()
		if err == nil && !a.faulted && !a.dead {
			w.judge.scannedAt(began)
		}
	})
}

func (w *world) timer(name string, every time.Duration, again func(), run func(done func())) {
	w.in(every, again)
	if w.singletons[name] || w.stopped {
		return
	}
	w.singletons[name] = true
	run(func() { w.singletons[name] = false })
}

// customers and others of the world, as often as the knobs say.
func (w *world) plan(length time.Duration) {
	hours := length.Hours()
	times := func(rate float64, do func()) {
		n := int(rate * hours)
		if w.chance(rate*hours - float64(n)) {
			n++
		}
		for range n {
			w.in(w.between(0, length), do)
		}
	}
	k := w.knobs
	times(30, w.somebody)
	times(k.outages, func() {
		w.outage(pick(w.schedule, []port{theStore, theQueue, theCloud}), pick(w.schedule, []time.Duration{20 * time.Second, 3 * time.Minute, 10 * time.Minute, time.Hour}))
	})
	times(k.failOvers, w.failOver)
	times(k.partLosses, w.losePartition)
	times(k.customer, func() { w.customerEdits(pick(w.schedule, groups)) })
	times(k.tamper, func() { w.customerTampers(w.opened()) })
	times(k.shadow, func() { w.customerShadows(pick(w.schedule, groups)) })
	times(k.machines, w.machineChanges)
	times(k.machines, func() { w.machineRetagged(pick(w.schedule, machines[:w.knobs.narrow])) })
	w.everybodysTicket()
	times(k.tickets, w.ticketing)
	times(k.lossy, func() { w.lossy(w.opened()) })
	times(k.renewals, func() { w.renew(w.opened()) })
	times(k.locks, func() { w.lock(pick(w.schedule, groups)) })
}
