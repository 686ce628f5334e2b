package main

import (
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/spf13/cobra"
)

func (s *shell) sweepCommand() *cobra.Command {
	var managed bool
	var clientID string
	c := &cobra.Command{
		Use: "sweep", Short: "close what has expired, with permissions on network security groups alone", Args: cobra.NoArgs,
		Long: "Remove every rule of this installation that has expired by its own description, in all the\n" +
			"subscriptions. It needs neither tables nor queues: run it from any scheduler as the last closer.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(s.lookup, config.Azure)
			if err != nil {
				return &usageError{err}
			}
			azure, err := connect.Network(cfg, config.Connection{ManagedIdentity: managed, ClientID: clientID}, time.Now, connect.Watch{})
			if err != nil {
				return err
			}
			closer, err := broker.NewCloser(azure, cfg.Rules)
			if err != nil {
				return err
			}
			total := 0
			err = closer.CloseAll(c.Context(), azure, cfg.Subscriptions, time.Now(), func(on access.ResourceID, rule string) {
				fmt.Fprintf(c.OutOrStdout(), "closed %s in %s\n", rule, on)
				total++
			})
			fmt.Fprintf(c.OutOrStdout(), "%d rules closed\n", total)
			if err != nil {
				// Of several, each counts; and whatever it was, something may be open.
				return exitf(exitFailed, "%s", err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&managed, "managed-identity", false, "use a managed identity instead of the default credential chain")
	c.Flags().StringVar(&clientID, "client-id", "", "the client id of a user-assigned identity")
	return c
}
