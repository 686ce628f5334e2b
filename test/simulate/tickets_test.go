package simulate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// itsm is the ticketing system.
const itsm = "itsm"

// dave asks by messages, and by tickets.
const dave = "dave@contoso.com"

// ticket is one as its system has it.
type ticket struct {
	id    access.TicketID
	of    string // whose it is, when all is well
	facts access.TicketFacts
	ended bool
	// timeless are those whose events do not say when they happened.
	timeless bool
}

// demand has a policy ask for a ticket, for a tag of the machine, or both.
func (w *world) demand(p *policy.AccessPolicy) {
	if w.chance(w.knobs.demand) {
		p.Ticket = &policy.TicketDemand{
			Sources: []string{itsm}, States: []string{"Approved"}, AssignedToRequestor: true, InsideWindow: w.chance(0.5), MaxEventAge: policy.MaxEventAge,
		}
		if w.chance(0.5) {
			p.Ticket.States = append(p.Ticket.States, "Scheduled")
		}
	}
	if w.chance(w.knobs.demand) {
		p.Condition = doorOpen
	}
}

// ticketOf gives the name of a ticket that somebody asks with; "" for none.
func (w *world) ticketOf(name string) string {
	var mine []*ticket
	for _, t := range w.tickets {
		if t.facts.Assignee == name {
			mine = append(mine, t)
		}
	}
	if well := slices.DeleteFunc(slices.Clone(mine), func(t *ticket) bool { return t.ended || t.facts.State != "Approved" }); len(well) > 0 && w.chance(0.8) {
		mine = well
	}
	if len(mine) == 0 || w.chance(0.1) {
		return ""
	}
	return mine[len(mine)-1-w.rng.IntN(min(len(mine), 3))].id.String()
}

// ticketing is something that happens in the ticketing system: a ticket is made, and
// may ask for access, or one changes.
func (w *world) ticketing() {
	if len(w.tickets) > 0 && w.chance(0.6) {
		w.changeTicket(w.tickets[len(w.tickets)-1-w.rng.IntN(min(len(w.tickets), 5))])
		return
	}
	t := w.newTicket(w.somebodysName())
	w.happens(t, w.chance(0.6))
	for w.chance(w.knobs.follow) {
		w.in(w.between(0, pick(w.schedule, []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute})), func() { w.changeTicket(t) })
	}
}

// everybodysTicket gives everybody who asks for access a ticket to ask with.
func (w *world) everybodysTicket() {
	if w.knobs.tickets == 0 {
		return
	}
	for _, name := range names {
		w.in(w.between(0, 2*time.Minute), func() { w.happens(w.newTicket(name), false) })
	}
}

func (w *world) newTicket(of string) *ticket {
	t := &ticket{id: access.TicketID{Source: itsm, Key: fmt.Sprint("CHG", len(w.tickets)+1)}, of: of, timeless: w.chance(0.2)}
	t.facts = access.TicketFacts{State: pick(w.schedule, []string{"New", "Approved", "Approved", "Approved", "Scheduled"}), Assignee: of, WindowStart: w.began.UTC(), WindowEnd: w.window()}
	w.tickets = append(w.tickets, t)
	return t
}

var names = []string{people[0].Name, people[1].Name, people[2].Name, dave}

func (w *world) somebodysName() string { return pick(w.schedule, names) }

func (w *world) window() time.Time {
	return time.Now().Add(w.between(20*time.Minute, 3*time.Hour)).UTC().Truncate(time.Second)
}

func (w *world) changeTicket(t *ticket) {
	ask := false
	switch roll := w.rng.IntN(100); {
	case roll < 40:
		t.ended, t.facts.State = true, "Closed"
	case roll < 60:
		w.approve(t)
		ask = w.chance(0.5)
	case roll < 70:
		t.facts.State = pick(w.schedule, []string{"New", "Scheduled"})
	case roll < 80:
		t.facts.Assignee = w.somebodysName()
	case roll < 95:
		t.facts.WindowEnd = time.Now().Add(w.between(0, 20*time.Minute)).UTC().Truncate(time.Second)
	}
	w.happens(t, ask)
	if w.chance(0.6) {
		w.in(w.between(time.Second, 10*time.Minute), func() {
			w.approve(t)
			w.happens(t, false)
		})
	}
}

// approve has all be well with a ticket again.
func (w *world) approve(t *ticket) {
	t.ended, t.facts.State, t.facts.Assignee, t.facts.WindowEnd = false, "Approved", t.of, w.window()
}

// ticketsMove has the ticket that a request was made with change.
func (w *world) ticketsMove(a asked) {
	for _, t := range w.tickets {
		if t.id.String() == a.ticket {
			w.changeTicket(t)
		}
	}
}

// happens sends an event of a ticket as it is now.
func (w *world) happens(t *ticket, ask bool) {
	w.unique++
	id := fmt.Sprint("event-", w.unique)
	e := access.TicketEvent{ID: id, Ticket: t.id, BodyHash: id, TicketFacts: t.facts, Actor: "boss", Ends: t.ended}
	if !t.timeless {
		e.At = time.Now().UTC()
	}
	asks := ""
	if ask && !t.ended {
		e.Ask = &access.TicketAsk{Requestor: t.facts.Assignee, Justification: "by ticket", Ports: w.portRequests()}
		if w.chance(0.2) {
			e.Ask.StartTime = time.Now().Add(w.between(time.Minute, 25*time.Minute))
		}
		asks = "; it asks for " + tellPorts(e.Ask.Ports)
		a := asked{access.NewRequestID(access.Sender{Channel: access.ChannelTicket, Principal: itsm}, id), w.personOf(t.facts.Assignee), t.id.String(), e.Ask.Ports[0].VM}
		w.asked = append(w.asked, a)
		w.met["requests"]++
		w.follow(a)
	}
	w.met["events of tickets"]++
	w.say("%s of ticket %s: %s, of %s until %s, ended %v%s", id, t.id.Key, t.facts.State, t.facts.Assignee, t.facts.WindowEnd.Format(time.TimeOnly), t.ended, asks)
	w.send(e)
}

func (w *world) personOf(name string) access.Caller {
	if i := slices.IndexFunc(people, func(p access.Caller) bool { return p.Name == name }); i >= 0 {
		return people[i]
	}
	return admin
}

// send delivers an event to the webhook: at once, late, or twice.
func (w *world) send(e access.TicketEvent) {
	late := time.Duration(0)
	if w.chance(w.knobs.late) {
		w.met["events of tickets late"]++
		late = w.between(time.Second, 10*time.Minute)
	}
	w.in(late, func() { w.deliverEvent(e, 8) })
	if w.chance(w.knobs.repeat) {
		w.in(w.between(0, 10*time.Minute), func() { w.deliverEvent(e, 1) })
	}
}

// deliverEvent is one delivery, and is repeated as a ticketing system does.
func (w *world) deliverEvent(e access.TicketEvent, tries int) {
	w.start("webhook "+e.ID, "", func(ctx context.Context, c *core) error {
		e := e
		e.ReceivedAt = c.clock().UTC()
		_, err := c.tickets.Receive(ctx, e)
		return err
	}, func(a *actor, err error) {
		if tries > 1 && (a.dead || err != nil) {
			w.in(20*time.Second, func() { w.deliverEvent(e, tries-1) })
		}
	})
}

// heard holds in the end that every event of a ticket that is on record was worked,
// and tells so.
func (w *world) heard() {
	for _, id := range slices.Sorted(maps.Keys(w.judge.past.told)) {
		if !w.judge.past.told[id] {
			continue
		}
		e, err := w.store.TicketEvent(context.Background(), id)
		if err != nil {
			continue // nobody was told that it is taken
		}
		rows, _ := w.store.EventsOf(context.Background(), broker.TicketSubject(e.Ticket))
		i := slices.IndexFunc(rows, func(r access.Event) bool { return r.Kind == access.EventTicket && r.Key == id })
		if i < 0 {
			w.breach("in the end, nothing tells what became of event %s of ticket %s", id, e.Ticket)
			return
		}
		w.met["events of tickets that "+rows[i].Detail["done"]]++
	}
}
