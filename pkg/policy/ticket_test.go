package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// strict demands all that a policy can of a ticket.
func strict() AccessPolicy {
	p := office()
	p.Ticket = &TicketDemand{
		Sources: []string{"itsm", "jira"}, States: []string{"Approved", "Implement"}, AssignedToRequestor: true, InsideWindow: true,
		MaxEventAge: time.Hour, SetBy: []string{"boss@contoso.com"}, NotByRequestor: true,
	}
	return p
}

// approved is a ticket of Alice's that has everything.
func approved() access.Ticket {
	return access.Ticket{
		ID: access.TicketID{Source: "itsm", Key: "CHG1"}, SetBy: "boss@contoso.com", Event: "event-1", EventAt: nine.Add(-time.Minute),
		TicketFacts: access.TicketFacts{State: "Approved", Assignee: "Alice@contoso.com", WindowStart: nine, WindowEnd: nine.Add(time.Hour)},
	}
}

func known(tickets ...access.Ticket) Tickets {
	return Tickets{Known: tickets, AsOf: nine, Now: nine}
}

func TestATicketVouchesOrNot(t *testing.T) {
	const secret = "mallory@contoso.com"
	for _, c := range []struct {
		name   string
		change func(*access.Request, *TicketDemand, *access.Ticket, *Tickets)
		want   string
	}{
		{"as it should be", func(*access.Request, *TicketDemand, *access.Ticket, *Tickets) {}, ""},
		{"with its source", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = " itsm:CHG1 " }, ""},
		{"none", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = "" }, "ticket_required"},
		{"blank", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = " \t" }, "ticket_required"},
		{"a source without a key", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = "itsm:" }, "ticket_required"},
		{"of another source", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = "pager:CHG1" }, "ticket_source_not_accepted"},
		{"of the other source", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = "jira:CHG1" }, "ticket_unknown"},
		{"of no source", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = ":CHG1" }, ""},
		{"another key", func(r *access.Request, _ *TicketDemand, _ *access.Ticket, _ *Tickets) { r.Ticket = "chg1" }, "ticket_unknown"},
		{"known elsewhere alone", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.ID.Source = "pager" }, "ticket_unknown"},
		{"no event", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.Event = "" }, "ticket_unknown"},
		{"one in each source", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, f *Tickets) {
			f.Known = append(f.Known, *k)
			f.Known[1].ID.Source = "jira"
		}, "ticket_ambiguous"},
		{"one in each, and its source is named", func(r *access.Request, _ *TicketDemand, k *access.Ticket, f *Tickets) {
			r.Ticket, f.Known = "itsm:CHG1", append(f.Known, *k)
			f.Known[1].ID.Source = "jira"
		}, ""},
		{"one in each, and the one was found before", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, f *Tickets) {
			f.Found, f.Known = []access.TicketID{k.ID}, append(f.Known, *k)
			f.Known[1].ID.Source = "jira"
		}, ""},
		{"ended", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.Ended = true }, "ticket_ended"},
		{"another state", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.State = "New" }, "ticket_state"},
		{"the other state", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.State = "Implement" }, ""},
		{"a state in other letters", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.State = "approved" }, "ticket_state"},
		{"no state", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.State = "" }, "ticket_state"},
		{"another's", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.Assignee = secret }, "ticket_not_assigned"},
		{"another's says no more", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.Assignee, k.Ended, k.State = secret, true, "Secret"
		}, "ticket_not_assigned"},
		{"nobody's", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.Assignee = "" }, "ticket_not_assigned"},
		{"another's, and the policy does not care", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.AssignedToRequestor, k.Assignee = false, secret
		}, ""},
		{"another's in a wrong state", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.AssignedToRequestor, k.Assignee, k.State = false, secret, "Secret"
		}, "ticket_state"},
		{"no window", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.WindowStart, k.WindowEnd = time.Time{}, time.Time{}
		}, "ticket_outside_window"},
		{"half a window", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.WindowStart = time.Time{} }, "ticket_outside_window"},
		{"the other half", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.WindowEnd = time.Time{} }, "ticket_outside_window"},
		{"before the window", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.WindowStart = nine.Add(time.Second)
		}, "ticket_outside_window"},
		{"past the window", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.WindowEnd = nine.Add(time.Hour - time.Second)
		}, "ticket_outside_window"},
		{"the window of a later start", func(r *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			r.StartTime, k.WindowStart, k.WindowEnd = nine.Add(5*time.Hour), nine.Add(5*time.Hour), nine.Add(6*time.Hour)
		}, ""},
		{"no window, and the policy does not care", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.InsideWindow, k.WindowStart, k.WindowEnd = false, time.Time{}, time.Time{}
		}, ""},
		{"as old as it may be", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.EventAt = nine.Add(-time.Hour)
		}, ""},
		{"too old", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.EventAt = nine.Add(-time.Hour - time.Second)
		}, "ticket_stale"},
		{"of no time", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.EventAt = time.Time{} }, "ticket_stale"},
		{"a little ahead", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.EventAt = nine.Add(5 * time.Minute)
		}, ""},
		{"from the future", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) {
			k.EventAt = nine.Add(6 * time.Minute)
		}, "ticket_stale"},
		{"heard of since the decision", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, f *Tickets) {
			k.EventAt, f.Now = nine.Add(30*time.Minute), nine.Add(31*time.Minute)
		}, ""},
		{"judged at no time", func(_ *access.Request, _ *TicketDemand, _ *access.Ticket, f *Tickets) { f.AsOf = time.Time{} }, "ticket_stale"},
		{"set by another", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.SetBy = secret }, "ticket_not_authorised"},
		{"set by the one in other letters", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.SetBy = "BOSS@contoso.com" }, ""},
		{"set by nobody known", func(_ *access.Request, _ *TicketDemand, k *access.Ticket, _ *Tickets) { k.SetBy = "" }, "ticket_not_authorised"},
		{"anybody may, and nobody is known", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) { d.SetBy, k.SetBy = nil, "" }, "ticket_not_authorised"},
		{"nobody is known, and the policy does not care", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.SetBy, d.NotByRequestor, k.SetBy = nil, false, ""
		}, ""},
		{"by herself", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.SetBy, k.SetBy = []string{"alice@contoso.com"}, "ALICE@contoso.com"
		}, "ticket_not_authorised"},
		{"by her object id", func(r *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			r.Requestor.ObjectID, d.SetBy, k.SetBy = aliceID, nil, strings.ToUpper(aliceID)
		}, "ticket_not_authorised"},
		{"by herself, as she may", func(_ *access.Request, d *TicketDemand, k *access.Ticket, _ *Tickets) {
			d.SetBy, d.NotByRequestor, k.SetBy = nil, false, "alice@contoso.com"
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, p, k := fromAlice(askFor(webOne, 22, "")), strict(), approved()
			r.Ticket = "CHG1"
			f := known(k)
			first := f.Known[0]
			c.change(&r, p.Ticket, &first, &f)
			f.Known = append([]access.Ticket{first}, f.Known[1:]...)
			d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{Tickets: f}, Limits{}, nine)
			if got := strings.Join(reasons(t, r, d), " "); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if c.want == "" {
				if v := d.Granted[0].Ticket; v == nil || v.Ticket != first.ID || v.Event != "event-1" {
					t.Errorf("vouched by %+v", v)
				}
				return
			}
			for _, hidden := range []string{secret, "Secret", "boss"} {
				if strings.Contains(d.Violations[0].Message, hidden) {
					t.Errorf("it tells a stranger %s: %s", hidden, d.Violations[0].Message)
				}
			}
		})
	}
}

func TestWhatATicketAskedForHangsOnIt(t *testing.T) {
	p := office()
	p.AssertedRequestorsFrom = []access.Channel{"ticket:itsm"}
	r := fromAlice(askFor(webOne, 22, ""))
	k := approved()
	r.RequestedBy = access.Sender{Channel: access.ChannelTicket, Principal: "itsm"}
	r.Event = &access.Vouched{Ticket: k.ID, Event: "event-0"}
	r.Ticket = "jira:OTHER" // what made it counts
	judge := func(k ...access.Ticket) Decision {
		return Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{Tickets: known(k...)}, Limits{}, nine)
	}
	if ids := TicketsOf(r, []AccessPolicy{p}, nil); !slices.Equal(ids, []access.TicketID{k.ID}) {
		t.Errorf("%v", ids)
	}
	if d := judge(k); !d.Allowed() || !reflect.DeepEqual(d.Granted[0].Ticket, &access.Vouched{Ticket: k.ID, Event: "event-1"}) {
		t.Errorf("%+v", d)
	}
	if d := judge(); d.Error() == nil || d.Error().Reason != "ticket_unknown" {
		t.Errorf("%+v", d)
	}
	k.Ended = true
	if d := judge(k); d.Error() == nil || d.Error().Reason != "ticket_ended" {
		t.Errorf("%+v", d)
	}
	k.Ended = false
	p.Ticket = &TicketDemand{Sources: []string{"jira"}, States: []string{"Approved"}, MaxEventAge: time.Hour}
	if d := judge(k); d.Error() == nil || d.Error().Reason != "ticket_source_not_accepted" {
		t.Errorf("%+v", d)
	}
	p.Ticket.Sources, k.State = []string{"itsm"}, "New"
	if d := judge(k); d.Error() == nil || d.Error().Reason != "ticket_state" {
		t.Errorf("%+v", d)
	}
	p.Ticket, p.RequireTicket, r.Ticket = nil, true, ""
	if d := judge(k); !d.Allowed() {
		t.Errorf("a ticket that asks is no ticket: %+v", d)
	}
	for _, from := range [][]access.Channel{nil, {access.ChannelQueue}, {"ticket:jira"}, {"ticket:"}, {access.ChannelTicket}} {
		p.AssertedRequestorsFrom = from
		if d := judge(k); d.Error() == nil || d.Error().Reason != "asserted_requestor_refused" {
			t.Errorf("%v: %+v", from, d)
		}
	}
}

func TestTicketsAreLookedUpForThoseAloneWhoMayAsk(t *testing.T) {
	r := fromAlice(askFor(webOne, 22, ""), askFor(webTwo, 22, ""))
	r.Ticket = "CHG1"
	itsm, jira := access.TicketID{Source: "itsm", Key: "CHG1"}, access.TicketID{Source: "jira", Key: "CHG1"}
	p := strict()
	if ids := TicketsOf(r, []AccessPolicy{p}, nil); !slices.Equal(ids, []access.TicketID{itsm, jira}) {
		t.Errorf("%v", ids)
	}
	if ids := TicketsOf(r, []AccessPolicy{p}, []access.TicketID{jira, jira}); !slices.Equal(ids, []access.TicketID{jira}) {
		t.Errorf("%v", ids)
	}
	if ids := TicketsOf(r, []AccessPolicy{office()}, nil); ids != nil {
		t.Errorf("%v, and nothing demands one", ids)
	}
	p.Requestors = nil
	if ids := TicketsOf(r, []AccessPolicy{p}, nil); ids != nil {
		t.Errorf("%v, for a stranger", ids)
	}
}

// FuzzNothingUnknownVouches takes facts away from a ticket that vouches: what is
// left never does.
func FuzzNothingUnknownVouches(f *testing.F) {
	f.Add(uint16(0))
	for i := range 10 {
		f.Add(uint16(1) << i)
	}
	f.Fuzz(func(t *testing.T, gone uint16) {
		r, p, k := fromAlice(askFor(webOne, 22, "")), strict(), approved()
		r.Ticket = "CHG1"
		tickets := known()
		for i, take := range []func(){
			func() { k.State = "" }, func() { k.Assignee = "" }, func() { k.WindowStart = time.Time{} }, func() { k.WindowEnd = time.Time{} },
			func() { k.SetBy = "" }, func() { k.Event = "" }, func() { k.EventAt = time.Time{} }, func() { k.ID = access.TicketID{} },
			func() { tickets.AsOf = time.Time{} }, func() { r.Requestor.Name = "" }, func() { r.Ticket = "" },
		} {
			if gone&(1<<i) != 0 {
				take()
			}
		}
		tickets.Known = []access.Ticket{k}
		d := Evaluate(t.Context(), r, []AccessPolicy{p}, Facts{Tickets: tickets}, Limits{}, nine)
		if d.Allowed() != (gone&(1<<11-1) == 0) {
			t.Errorf("%011b: %+v", gone, d)
		}
	})
}

func TestADemandIsComplete(t *testing.T) {
	for want, change := range map[string]func(*TicketDemand){
		"":                                    func(*TicketDemand) {},
		"ticket.sources ticket_sources_count": func(d *TicketDemand) { d.Sources = nil },
		"ticket.sources[0] ticket_source_invalid":         func(d *TicketDemand) { d.Sources[0] = "itsm:x" },
		"ticket.states ticket_states_count":               func(d *TicketDemand) { d.States = nil },
		"ticket.states[1] ticket_text_invalid":            func(d *TicketDemand) { d.States[1] = "a\nb" },
		"ticket.setBy[0] ticket_text_invalid":             func(d *TicketDemand) { d.SetBy[0] = "" },
		"ticket.maxEventAge ticket_max_event_age_invalid": func(d *TicketDemand) { d.MaxEventAge = 0 },
	} {
		p := strict()
		change(p.Ticket)
		got := ""
		if err := p.Validate(); err != nil {
			v := access.AsError(err).Violations
			got = v[0].Path + " " + v[0].Reason
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	p := strict()
	for _, age := range []time.Duration{time.Minute - 1, 90*24*time.Hour + time.Second} {
		p.Ticket.MaxEventAge = age
		if p.Validate() == nil {
			t.Errorf("%s is taken", age)
		}
	}
	for _, age := range []time.Duration{time.Minute, 90 * 24 * time.Hour} {
		if p.Ticket.MaxEventAge = age; p.Validate() != nil {
			t.Errorf("%s is refused", age)
		}
	}
}
