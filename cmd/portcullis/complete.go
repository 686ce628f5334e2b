package main

import (
	"context"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

// completionTime bounds what somebody waits for after pressing Tab.
const completionTime = 3 * time.Second

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeMachines completes names of machines: those that may be asked for, or
// all that may be seen.
func (s *shell) completeMachines(in *placeFlags, requestable bool) completer {
	return func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completionTime)
		defer cancel()
		// A list goes on after its last comma.
		done := begun[:strings.LastIndexByte(begun, ',')+1]
		api, err := s.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := api.Machines(ctx, in.filter())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		count := map[string]int{}
		for _, m := range all.Items {
			count[strings.ToLower(m.Name)]++
		}
		var out []string
		for _, m := range all.Items {
			name := m.Name
			if count[strings.ToLower(m.Name)] > 1 {
				name = m.ResourceGroup + "/" + m.Name
			}
			if (m.MayRequest || !requestable) && strings.HasPrefix(done+name, begun) {
				out = append(out, done+clean(name)+"\t"+clean(m.ResourceGroup+", "+statusOf(m)))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRequests completes ids of the caller's requests: those that are live, or
// all.
func (s *shell) completeRequests(live bool) completer {
	return func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completionTime)
		defer cancel()
		api, err := s.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := api.Requests(ctx, client.RequestFilter{}, 50)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, r := range list.Items {
			if strings.HasPrefix(r.ID, begun) && (!live || r.Outcome == "Accepted" && !closed(r)) {
				out = append(out, r.ID+"\t"+clean(targets(r)+", "+statuses(r)))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
