package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// trial is a request that is tried against the policies, with the facts that are
// given by hand.
type trial struct {
	file, oid, from, at string
	facts               factFlags
}

func (s *shell) policyTest(direct *bool) *cobra.Command {
	var t trial
	c := &cobra.Command{
		Use: "test -f FILE", Short: "say whether a request message would pass, and why not", Args: cobra.NoArgs,
		Long: "Say whether a request message would pass the policies that stand, and why not; exit with 3 if not.\n" +
			"With --oid the requestor is taken as verified by a token; with --from-source as asserted by a ticket\n" +
			"of that source; without, as asserted on the queue.\n\n" +
			"What a condition asks of the machine and what is known of the ticket is given by --tag, --os,\n" +
			"--location and --ticket; with --tables, tickets are read where none is given. What is not given is\n" +
			"not looked at: it is said what, and the exit code is 1, unless the request is refused anyhow. The\n" +
			"machine's path (its network security groups) is never looked at.",
		Example: "portcullis policy test -f request.json --at 2026-11-28T10:00:00Z --tag env=prod\n" +
			"portcullis policy test -f request.json --ticket source=itsm,state=Approved,setBy=boss@contoso.com",
		RunE: func(c *cobra.Command, _ []string) error { return s.try(c, t, *direct) },
	}
	c.Flags().StringVarP(&t.file, "file", "f", "", "the request message's file (- for standard input)")
	c.Flags().StringVar(&t.oid, "oid", "", "the requestor's Entra object id, as a token would name it")
	c.Flags().StringVar(&t.from, "from-source", "", "the ticketing source whose ticket asks")
	c.Flags().StringVar(&t.at, "at", "", "when the request is decided, as in RFC 3339; now if left out")
	t.facts.on(c)
	c.MarkFlagsMutuallyExclusive("oid", "from-source")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	return c
}

func (s *shell) try(c *cobra.Command, t trial, direct bool) error {
	data, err := s.read(t.file)
	if err != nil {
		return err
	}
	m, err := accessjson.DecodeRequest(data)
	if err != nil {
		return err
	}
	at := s.now()
	if t.at != "" {
		if at, err = time.Parse(time.RFC3339, t.at); err != nil {
			return usagef("--at %s is no time as in RFC 3339, such as 2026-11-24T10:00:00Z", t.at)
		}
	}
	req := access.Request{
		Requestor:   access.Requestor{Name: m.Requestor, ObjectID: t.oid, Asserted: t.oid == ""},
		RequestedBy: access.Sender{Channel: access.ChannelQueue}, Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports, StartTime: m.StartTime,
	}
	switch {
	case t.oid != "":
		req.RequestedBy.Channel = access.ChannelHTTP
	case t.from != "":
		id := access.ParseTicket(m.Ticket)
		if id.Key == "" || id.Source != "" && id.Source != t.from {
			return usagef("with --from-source %s the message has to name a ticket of that source", t.from)
		}
		id.Source = t.from
		req.RequestedBy = access.Sender{Channel: access.ChannelTicket, Principal: t.from}
		req.Event = &access.Vouched{Ticket: id}
	}
	policies, err := s.policiesFor(c.Context(), direct, m.Ports)
	if err != nil {
		return err
	}
	tickets, err := s.tickets(c, t.facts, direct, policy.TicketsOf(req, policies, nil), at)
	if err != nil {
		return err
	}
	looked, open := t.facts.lookedAt(c, req, policies, tickets != nil)
	judged := req
	if tickets == nil {
		judged.Event = nil // said to be open, where a ticket asks
	}
	verdict := policy.Judge(judged, looked, policy.Tickets{Known: tickets, AsOf: at, Now: at}, policy.Limits{}, at)
	machines := map[access.ResourceID]policy.Machine{}
	for _, vm := range verdict.Machines() {
		machines[vm] = t.facts.machine()
	}
	return s.tellDecision(verdict.Decide(c.Context(), machines), looked, open)
}

// tickets gives the tickets that are given by hand or, with --tables, as they are
// known; nil where they are not looked at.
func (s *shell) tickets(c *cobra.Command, f factFlags, direct bool, ids []access.TicketID, at time.Time) ([]access.Ticket, error) {
	if c.Flags().Changed("ticket") {
		t, err := f.givenTicket(ids, at)
		return []access.Ticket{t}, err
	}
	if !direct || len(ids) == 0 {
		return nil, nil
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	out := []access.Ticket{}
	for _, id := range ids {
		t, err := store.Ticket(c.Context(), id)
		if access.CodeOf(err) == access.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// policiesFor reads the policies at every scope of the machines asked for.
func (s *shell) policiesFor(ctx context.Context, direct bool, ports []access.PortRequest) ([]policy.AccessPolicy, error) {
	if direct {
		store, err := s.store()
		if err != nil {
			return nil, err
		}
		return forEach(ports, func(vm access.ResourceID) ([]policy.AccessPolicy, error) { return store.PoliciesFor(ctx, vm) })
	}
	api, err := s.client()
	if err != nil {
		return nil, err
	}
	seen := map[access.ResourceID]bool{}
	return forEach(ports, func(vm access.ResourceID) ([]policy.AccessPolicy, error) {
		var out []policy.AccessPolicy
		for _, scope := range vm.Scopes() {
			if seen[scope] {
				continue
			}
			seen[scope] = true
			p, etag, err := standingPolicy(ctx, api, scope)
			if err != nil {
				return nil, err
			}
			if etag != "" {
				out = append(out, p)
			}
		}
		return out, nil
	})
}

func forEach(ports []access.PortRequest, read policyReader) (out []policy.AccessPolicy, err error) {
	seen := map[access.ResourceID]bool{}
	for _, p := range ports {
		if seen[p.VM] {
			continue
		}
		seen[p.VM] = true
		found, err := read(p.VM)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// tellDecision tells what was decided by what was looked at; open says, by the
// scope of a policy, what was not.
func (s *shell) tellDecision(d policy.Decision, looked []policy.AccessPolicy, open map[access.ResourceID][]string) error {
	undecided := false
	for _, g := range d.Granted {
		word := "pass   "
		if len(open[g.Scope]) > 0 {
			word, undecided = "unknown", true
		}
		fmt.Fprintf(s.out, "%s %s port %d/%s from %s until %s, by the policy at %s\n", word, g.Request.VM.Name(), g.Request.Port, g.Protocol,
			access.FormatPrefix(g.Request.Source), g.EndTime.Format(time.RFC3339), g.Scope)
		if g.Ticket != nil {
			fmt.Fprintf(s.out, "        the ticket %s vouches for it\n", clean(g.Ticket.Ticket.String()))
		}
		if i := slices.IndexFunc(looked, func(p policy.AccessPolicy) bool { return p.Scope == g.Scope && p.Condition != "" }); i >= 0 {
			fmt.Fprintln(s.out, "        the condition holds")
		}
		for _, what := range open[g.Scope] {
			fmt.Fprintf(s.out, "        %s\n", what)
		}
	}
	for _, v := range d.Violations {
		fmt.Fprintf(s.out, "refuse  %s\n", strings.TrimSpace(fmt.Sprintf("%s %s (%s)", v.Path, clean(v.Message), v.Reason)))
	}
	// Whoever runs this reads the policies, so the true cause is theirs to know.
	for _, cause := range d.Internal {
		fmt.Fprintf(s.out, "        as %s\n", clean(cause))
	}
	switch {
	case !d.Allowed():
		return exitf(exitRefused, "this request would be refused")
	case undecided:
		return exitf(exitFailed, "whether this request would pass cannot be said: not everything was looked at")
	}
	return nil
}
