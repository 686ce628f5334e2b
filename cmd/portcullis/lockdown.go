package main

import (
	"fmt"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

func (s *shell) lockdownCommand() *cobra.Command {
	var lift, yes bool
	var reason string
	c := &cobra.Command{
		Use: "lockdown", Short: "close every door and refuse new requests, until it is lifted",
		Long: "With --reason, close every door at once and refuse every request, with that reason, until it is\n" +
			"lifted. With --lift, let requests in again: what was closed stays closed. With neither, say\n" +
			"whether there is a lockdown.",
		Example: "portcullis lockdown --reason 'stolen laptop'\nportcullis lockdown --lift",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			var out client.Answer[client.Lockdown]
			switch {
			case lift:
				if err = s.confirm(c.Context(), "Let requests in again?", yes); err == nil {
					out, err = api.LiftLockdown(c.Context())
				}
			case reason != "":
				if err = s.confirm(c.Context(), "Close every door, everybody's, now?", yes); err == nil {
					out, err = api.LockDown(c.Context(), reason)
				}
			default:
				out, err = api.Lockdown(c.Context())
			}
			if err != nil {
				return err
			}
			if s.json() {
				return s.raw(s.out, out.Raw)
			}
			s.tellLockdown(out.Value)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; whoever asks for access is told")
	c.Flags().BoolVar(&lift, "lift", false, "end it")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("reason", "lift")
	return c
}

func (s *shell) tellLockdown(l client.Lockdown) {
	if !l.Active {
		fmt.Fprintln(s.out, "There is no lockdown.")
		return
	}
	fmt.Fprintf(s.out, "Locked down by %s since %s: %s\n", clean(l.By), s.stamp(l.At), clean(l.Reason))
}
