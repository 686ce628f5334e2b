package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

type listing struct {
	placeFlags
	vm, requestor, status, since, before string
	everybody                            bool
	limit                                int
}

func (s *shell) statusCommand() *cobra.Command {
	var l listing
	var w waitFlags
	var events bool
	c := &cobra.Command{
		Use: "status [ID]", Short: "show a request and what happened to it, or list requests",
		Long: "With an id, show one request: per port its status, until when, and what happened when.\n" +
			"Without, list your own requests, the newest first.",
		Example: "portcullis status\nportcullis status --vm web-1 --since 2026-11-01 --everybody\nportcullis status ar-aaaaaaaaaaaaaaaaaaaaaaaaaa --wait",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: s.completeRequests(false),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return s.statusOne(c.Context(), api, args[0], events, w)
			}
			if w.wait {
				return usagef("--wait takes the id of one request")
			}
			return s.statusList(c.Context(), api, l)
		},
	}
	f := c.Flags()
	f.StringVar(&l.vm, "vm", "", "only requests for this machine")
	f.StringVar(&l.requestor, "requestor", "", "only requests for this person")
	f.StringVar(&l.status, "status", "", "only requests with a port that is Scheduled, Initiating, Initiated, Revoked or Failed")
	f.StringVar(&l.since, "since", "", "only requests since then: a time, a date, 10:00")
	f.StringVar(&l.before, "before", "", "only requests before then")
	f.BoolVar(&l.everybody, "everybody", false, "everybody's requests (takes the role Access.ReadAll)")
	f.IntVar(&l.limit, "limit", 50, "how many to list at most; 0 for all")
	f.BoolVar(&events, "events", false, "with an id and --output json: what happened to it, instead of how it stands")
	l.placeFlags.on(c)
	w.on(c)
	c.MarkFlagsMutuallyExclusive("requestor", "everybody")
	_ = c.RegisterFlagCompletionFunc("vm", s.completeMachines(&l.placeFlags, true)) // as below
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(
		[]string{"Scheduled", "Initiating", "Initiated", "Revoked", "Failed"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not defined
	return c
}

func (s *shell) statusOne(ctx context.Context, api *client.Client, id string, onlyEvents bool, w waitFlags) error {
	r, err := api.Request(ctx, id)
	if err != nil {
		return err
	}
	if w.wait && r.Value.Outcome == "Accepted" {
		return s.waitOpen(ctx, api, r.Value, w.limit)
	}
	if s.json() && !onlyEvents {
		return s.raw(s.out, r.Raw)
	}
	events, err := api.Events(ctx, id)
	if err != nil {
		return err
	}
	if s.json() {
		return s.rawList(events.Raw)
	}
	if err := s.tellRequest(r.Value); err != nil {
		return err
	}
	if len(events.Items) == 0 {
		return nil
	}
	fmt.Fprintln(s.out)
	t := newTable(s.out, "", "WHEN", "WHAT", "BY", "DETAIL")
	for _, e := range events.Items {
		t.row(s.stamp(e.At), e.Kind, e.Actor, detail(e.Detail))
	}
	return t.flush()
}

// detail tells an event's fields in a line, with resources by their names.
func detail(fields map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		v := fields[k]
		if v == "" || strings.HasPrefix(k, "grant.") || strings.HasPrefix(k, "asked.") || slices.Contains(saidAbove(), k) {
			continue
		}
		if strings.HasPrefix(v, "/subscriptions/") {
			v = nameOf(v)
		}
		out = append(out, k+"="+v)
	}
	return strings.Join(out, " ")
}

// saidAbove are an event's fields that the request itself shows, or that mean
// nothing to a person; --events -o json has them all.
func saidAbove() []string {
	return []string{"actorObjectId", "channel", "clientId", "endTimeUtc", "extends", "grant", "justification", "requestedBy", "requestor", "source", "ticket"}
}

func (s *shell) statusList(ctx context.Context, api *client.Client, l listing) error {
	f := client.RequestFilter{Requestor: l.requestor, Status: l.status}
	var err error
	for _, at := range []struct {
		flag, word string
		to         *time.Time
	}{{"--since", l.since, &f.From}, {"--before", l.before, &f.To}} {
		if at.word == "" {
			continue
		}
		if *at.to, err = s.past(at.flag, at.word); err != nil {
			return err
		}
	}
	if l.vm != "" {
		found, err := s.find(ctx, api, l.placeFlags, []string{l.vm})
		if err != nil {
			return err
		}
		f.VirtualMachine = found[0].ID
	}
	mine := l.requestor == "" && !l.everybody
	if mine {
		// Who may see everybody's asks for their own by name.
		me, err := api.Me(ctx)
		if err != nil {
			return err
		}
		if slices.Contains(me.Value.Roles, "Access.ReadAll") || slices.Contains(me.Value.Roles, "Portcullis.Administer") {
			f.Requestor = me.Value.Name
		}
	}
	list, err := api.Requests(ctx, f, l.limit)
	if err != nil {
		return err
	}
	if s.json() {
		return s.rawList(list.Raw)
	}
	return s.tellRequests(list, mine)
}

// past reads a time that has been: 10:00 is the last there was.
func (s *shell) past(flag, word string) (time.Time, error) {
	t, err := s.moment(flag, word)
	if _, e := time.Parse("15:04", word); e == nil && t.After(s.now()) {
		t = t.AddDate(0, 0, -1)
	}
	return t, err
}

func (s *shell) tellRequests(list client.List[client.AccessRequest], mine bool) error {
	if len(list.Items) == 0 {
		fmt.Fprintln(s.out, "no requests")
		return nil
	}
	head := []string{"ID", "START", "FOR", "MACHINES AND PORTS", "STATUS", "UNTIL"}
	if mine {
		head = slices.Delete(head, 2, 3)
	}
	t := newTable(s.out, "", head...)
	for _, r := range list.Items {
		row := []string{r.ID, s.stamp(r.StartTimeUTC), r.Requestor, targets(r), statuses(r), s.lastEnd(r)}
		if mine {
			row = slices.Delete(row, 2, 3)
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if list.More {
		fmt.Fprintf(s.out, "\nthere are more than these %d: --limit\n", len(list.Items))
	}
	return nil
}

func targets(r client.AccessRequest) string {
	var out []string
	for _, vm := range r.VirtualMachines {
		var list []string
		for _, p := range vm.Ports {
			list = append(list, portName(p.Number, p.Protocol))
		}
		out = append(out, nameOf(vm.ID)+" "+strings.Join(list, ","))
	}
	return strings.Join(out, "; ")
}

// statuses tells the statuses of a request's ports; how many of each if they
// differ.
func statuses(r client.AccessRequest) string {
	if r.Outcome != "Accepted" {
		return r.Outcome
	}
	count := map[string]int{}
	eachPort(r, func(_ string, p client.GrantedPort) {
		status := p.Status
		if p.StatusReason != "" {
			status += " (" + p.StatusReason + ")"
		}
		count[status]++
	})
	var out []string
	for _, k := range slices.Sorted(maps.Keys(count)) {
		if len(count) > 1 {
			k = fmt.Sprintf("%d %s", count[k], k)
		}
		out = append(out, k)
	}
	return strings.Join(out, ", ")
}

// lastEnd says when the last port that may still be open closes.
func (s *shell) lastEnd(r client.AccessRequest) string {
	var end time.Time
	eachPort(r, func(_ string, p client.GrantedPort) {
		if p.EndedAtUTC.IsZero() && p.EndTimeUTC.After(end) {
			end = p.EndTimeUTC
		}
	})
	return s.deadline(end)
}
