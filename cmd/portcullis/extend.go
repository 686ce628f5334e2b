package main

import (
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

func (s *shell) extendCommand() *cobra.Command {
	var length, until, reason, key string
	var w waitFlags
	c := &cobra.Command{
		Use: "extend ID --for TIME", Short: "ask for more time on what is open",
		Long: "Ask for more time, within the policy's maximum. The policy is asked anew; what is granted is a new\n" +
			"request that takes over from the old one without the door closing in between.",
		Example: "portcullis extend ar-aaaaaaaaaaaaaaaaaaaaaaaaaa --for 1h --reason 'not done yet'",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: s.completeRequests(true),
		RunE: func(c *cobra.Command, args []string) error {
			var e client.Extension
			var err error
			switch {
			case length != "":
				e.Duration, err = isoDuration("--for", length)
			case until != "":
				e.EndTimeUTC, err = s.moment("--until", until)
			default:
				err = usagef("for how long? --for 1h, from now; or --until a time")
			}
			if err != nil {
				return err
			}
			e.EndTimeUTC, e.Justification = e.EndTimeUTC.UTC(), reason
			api, err := s.client()
			if err != nil {
				return err
			}
			stop := s.spin("asking")
			out, err := api.Extend(c.Context(), args[0], e, key)
			stop()
			switch {
			case err != nil:
				return err
			case w.wait && out.Value.Outcome == "Accepted":
				return s.waitOpen(c.Context(), api, out.Value, w.limit)
			case s.json():
				return s.raw(s.out, out.Raw)
			}
			return s.tellRequest(out.Value)
		},
	}
	f := c.Flags()
	f.StringVar(&length, "for", "", "for how long from now: 1h30m or PT1H30M")
	f.StringVar(&until, "until", "", "until when, instead of --for")
	f.StringVar(&reason, "reason", "", "why")
	f.StringVar(&key, "id", "", "a key of your own: asking again with it is the same request")
	w.on(c)
	c.MarkFlagsMutuallyExclusive("for", "until")
	return c
}

func (s *shell) revokeCommand() *cobra.Command {
	var reason string
	var grants []int
	var w waitFlags
	c := &cobra.Command{
		Use: "revoke ID...", Aliases: []string{"give-back"}, Short: "give access back early, or as an administrator take it away",
		Long: "Close what a request has open, now. Your own is given back; anybody's is taken away by an\n" +
			"administrator. What others have asked for stays open, even on the same port.",
		Example: "portcullis revoke ar-aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: s.completeRequests(true),
		RunE: func(c *cobra.Command, args []string) error {
			if len(grants) > 0 && len(args) > 1 {
				return usagef("--grant takes one request")
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			for i, id := range args {
				out, err := api.Revoke(c.Context(), id, client.Revocation{Reason: reason, Grants: grants})
				if err == nil && w.wait {
					out, err = s.follow(c.Context(), api, out.Value, w.limit, func(r client.AccessRequest) bool { return closed(r) || len(grants) > 0 && gone(r, grants) })
				}
				if err != nil {
					return undone(err, args[i+1:])
				}
				if s.json() {
					err = s.raw(s.out, out.Raw)
				} else {
					err = s.tellRequest(out.Value)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&reason, "reason", "", "why")
	f.IntSliceVar(&grants, "grant", nil, "only this port of the request, by its # in status; several by commas")
	w.on(c)
	return c
}

// gone says whether the ports of these indexes are closed.
func gone(r client.AccessRequest, indexes []int) bool {
	done := true
	eachPort(r, func(_ string, p client.GrantedPort) {
		done = done && (!slices.Contains(indexes, p.Index) || p.Status == "Revoked" || p.Status == "Failed")
	})
	return done
}

// undone says of an error which requests were not looked at for it.
func undone(err error, rest []string) error {
	if len(rest) == 0 {
		return err
	}
	return &notedError{err, "Not looked at: " + strings.Join(rest, ", ")}
}
