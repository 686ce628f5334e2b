package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

func (s *shell) vmsCommand() *cobra.Command {
	var in placeFlags
	var status string
	var exposed bool
	c := &cobra.Command{
		Use: "vms [NAME...]", Aliases: []string{"machines"}, Short: "list the machines, what they have configured, and what is open to the internet",
		Long: "List the machines that you may see: whether just-in-time access is configured, for which ports,\n" +
			"whether a management port is open to the internet right now and by which rule, and who was there\n" +
			"last. With names, all there is to say about each.",
		Example: "portcullis vms\nportcullis vms --exposed\nportcullis vms web-1",
		Args:    cobra.ArbitraryArgs, ValidArgsFunction: s.completeMachines(&in, false),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			f := in.filter()
			f.Status = status
			all, err := api.Machines(c.Context(), f)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if all, err = chosen(all, args); err != nil {
					return err
				}
			}
			if exposed {
				all = onlyExposed(all)
			}
			switch {
			case s.json():
				return s.rawList(all.Raw)
			case len(args) > 0:
				return s.tellMachines(all.Items)
			}
			return s.listMachines(all.Items)
		},
	}
	in.on(c)
	c.Flags().StringVar(&status, "status", "", "only Configured, NotConfigured or Unsupported ones")
	c.Flags().BoolVar(&exposed, "exposed", false, "only those with a management port that is open to the internet, or may be")
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"Configured", "NotConfigured", "Unsupported"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not defined
	return c
}

// chosen keeps of a list the machines that are named.
func chosen(all client.List[client.Machine], words []string) (out client.List[client.Machine], err error) {
	for _, w := range words {
		i := slices.IndexFunc(all.Items, func(m client.Machine) bool { return strings.EqualFold(m.ID, w) })
		if i < 0 {
			m, err := pick(w, all.Items)
			if err != nil {
				return out, err
			}
			i = slices.IndexFunc(all.Items, func(o client.Machine) bool { return o.ID == m.ID })
		}
		out.Items, out.Raw = append(out.Items, all.Items[i]), append(out.Raw, all.Raw[i])
	}
	return out, nil
}

func onlyExposed(all client.List[client.Machine]) (out client.List[client.Machine]) {
	for i, m := range all.Items {
		if m.Exposure.Status == "Exposed" || m.Exposure.Status == "Unknown" {
			out.Items, out.Raw = append(out.Items, m), append(out.Raw, all.Raw[i])
		}
	}
	return out
}

func (s *shell) listMachines(all []client.Machine) error {
	if len(all) == 0 {
		fmt.Fprintln(s.out, "no machines that you may see")
		return nil
	}
	several := slices.ContainsFunc(all, func(m client.Machine) bool { return m.SubscriptionID != all[0].SubscriptionID })
	head := []string{"NAME", "GROUP", "STATUS", "PORTS", "EXPOSURE", "APPROVED 7D", "LAST ACCESS", "WHY"}
	if several {
		head = slices.Insert(head, 2, "SUBSCRIPTION")
	}
	t := newTable(s.out, "", head...)
	for _, m := range all {
		row := []string{m.Name, m.ResourceGroup, statusOf(m), ports(m.Ports), exposure(m.Exposure), fmt.Sprint(m.Approved7d), s.lastAccess(m), m.Reason}
		if several {
			row = slices.Insert(row, 2, m.SubscriptionID)
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	s.tellAge(all)
	return nil
}

// tellAge says how old the oldest of what is shown is, where that is not now.
func (s *shell) tellAge(all []client.Machine) {
	var oldest time.Time
	for _, m := range all {
		if oldest.IsZero() || m.AsOf.Before(oldest) && !m.AsOf.IsZero() {
			oldest = m.AsOf
		}
	}
	if age := s.now().Sub(oldest); !oldest.IsZero() && age > 5*time.Second {
		fmt.Fprintf(s.out, "\nas of %s, %s\n", s.stamp(oldest), s.ago(oldest))
	}
}

func statusOf(m client.Machine) string {
	out := m.Status
	if m.Status == "NotConfigured" {
		out = "Not configured"
	}
	switch m.Baseline.Status {
	case "Shutting":
		out += ", shutting"
	case "Lifting":
		out += ", lifting"
	case "Blocked":
		out += ", deny rules blocked"
	}
	return out
}

func ports(list []client.Port) string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf("%s ≤ %s", portName(p.Number, p.Protocol), isoSpan(p.Max)))
	}
	return strings.Join(out, ", ")
}

func exposure(e client.Exposure) string {
	switch e.Status {
	case "Exposed":
		return fmt.Sprintf("Exposed: %d by %s", e.Port, e.Rule)
	case "Unknown":
		if e.Rule != "" {
			return "Unknown: " + e.Rule
		}
	}
	return e.Status
}

func (s *shell) lastAccess(m client.Machine) string {
	if m.LastAccess.IsZero() {
		return ""
	}
	out := s.ago(m.LastAccess)
	if m.LastUser != "" {
		out += ", " + m.LastUser
	}
	return out
}

// tellMachines says all there is to say about each machine.
func (s *shell) tellMachines(all []client.Machine) error {
	for i, m := range all {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		t := newTable(s.out, "")
		row := func(name, value string) {
			if value != "" {
				t.row(name, value)
			}
		}
		row("Machine", m.Name)
		row("Id", m.ID)
		row("System", m.OSType)
		row("Status", strings.TrimSuffix(statusOf(m)+": "+m.Reason, ": "))
		if m.PolicyScope != "" {
			row("Policy", "of the "+scopeName(m.PolicyScope))
		}
		for _, p := range m.Ports {
			row("Port", fmt.Sprintf("%s from %s for %s at most", portName(p.Number, p.Protocol), strings.Join(p.Sources, ", "), isoSpan(p.Max)))
		}
		row("Exposure", exposure(m.Exposure))
		row("", m.Exposure.Why)
		row("Deny rules", strings.TrimSuffix(m.Baseline.Status+": "+m.Baseline.BlockedBy, ": "))
		row("Approved", fmt.Sprintf("%d in the last 7 days", m.Approved7d))
		row("Last access", s.lastAccess(m))
		if m.Status == "NotConfigured" {
			row("Suggested", ports(m.SuggestedPorts))
		}
		row("As of", s.stamp(m.AsOf))
		if err := t.flush(); err != nil {
			return err
		}
		switch {
		case m.MayRequest && len(m.Ports) > 0:
			fmt.Fprintf(s.out, "\nAsk for it: portcullis request --vm %s --port %d --for 1h --reason ...\n", clean(m.Name), m.Ports[0].Number)
		case m.Status == "NotConfigured":
			fmt.Fprintf(s.out, "\nSwitch it on: portcullis enable %s --plan\n", clean(m.Name))
		}
	}
	return nil
}
