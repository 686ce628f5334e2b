package main

import (
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// factFlags are facts about the machine and the ticket, given by hand.
type factFlags struct {
	tags         []string
	os, location string
	ticket       map[string]string
}

func (f *factFlags) on(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.tags, "tag", nil, "a tag of the machine, NAME=VALUE; again for each, '' for none at all")
	c.Flags().StringVar(&f.os, "os", "", "the machine's operating system: Linux or Windows")
	c.Flags().StringVar(&f.location, "location", "", "the machine's location, such as westeurope")
	c.Flags().StringToStringVar(&f.ticket, "ticket", nil, "the ticket as it is known: source, key, state, assignee, setBy, windowStart, windowEnd, eventAt, ended=true")
}

func (f factFlags) machine() policy.Machine {
	m := policy.Machine{OS: f.os, Location: f.location, Tags: map[string]string{}}
	for _, t := range f.tags {
		if name, value, ok := strings.Cut(t, "="); ok {
			m.Tags[name] = value
		}
	}
	return m
}

// givenTicket is the ticket of --ticket. Its source and key are those that the
// policies look for, where that leaves no choice; its last event is of now.
func (f factFlags) givenTicket(ids []access.TicketID, at time.Time) (access.Ticket, error) {
	t := access.Ticket{Event: "given by --ticket", EventAt: at}
	if len(ids) == 1 {
		t.ID = ids[0]
	} else if len(ids) > 1 {
		t.ID.Key = ids[0].Key
	}
	for name, value := range f.ticket {
		var err error
		switch name {
		case "source":
			t.ID.Source = value
		case "key":
			t.ID.Key = value
		case "state":
			t.State = value
		case "assignee":
			t.Assignee = value
		case "setBy":
			t.SetBy = value
		case "windowStart":
			t.WindowStart, err = time.Parse(time.RFC3339, value)
		case "windowEnd":
			t.WindowEnd, err = time.Parse(time.RFC3339, value)
		case "eventAt":
			t.EventAt, err = time.Parse(time.RFC3339, value)
		case "ended":
			if value != "true" && value != "false" {
				return t, usagef("--ticket ended is true or false, not %s", value)
			}
			t.Ended = value == "true"
		default:
			return t, usagef("--ticket has no %s: it takes source, key, state, assignee, setBy, windowStart, windowEnd, eventAt and ended", name)
		}
		if err != nil {
			return t, usagef("--ticket %s: %s is no time as in RFC 3339, such as 2026-11-24T10:00:00Z", name, value)
		}
	}
	if len(ids) > 1 && t.ID.Source == "" {
		return t, usagef("--ticket takes source= too: a ticket of more than one source would do")
	}
	return t, nil
}

// lookedAt gives the policies without what cannot be looked at for want of facts
// and says, by the scope of each policy, what that is.
func (f factFlags) lookedAt(c *cobra.Command, req access.Request, policies []policy.AccessPolicy, tickets bool) ([]policy.AccessPolicy, map[access.ResourceID][]string) {
	given := map[string]string{"machine.os": "os", "machine.location": "location", "machine.tags": "tag"}
	open := map[access.ResourceID][]string{}
	out := slices.Clone(policies)
	for i := range out {
		p := &out[i]
		if !tickets && len(policy.TicketsOf(req, []policy.AccessPolicy{*p}, nil)) > 0 {
			p.RequireTicket, p.Ticket = p.NeedsTicket(), nil
			open[p.Scope] = append(open[p.Scope], "the ticket was not looked at: give --ticket source=…,state=…")
		}
		uses, err := p.ConditionUses()
		if err != nil {
			continue // it fails where it is run, and says why
		}
		var missing []string
		for _, name := range uses {
			if flag := given[name]; !c.Flags().Changed(flag) {
				missing = append(missing, "--"+flag)
			}
		}
		if len(missing) > 0 {
			p.Condition = ""
			open[p.Scope] = append(open[p.Scope], "the condition was not evaluated: give "+strings.Join(missing, " and "))
		}
	}
	return out, open
}
