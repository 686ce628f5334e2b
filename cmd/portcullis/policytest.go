package main

import (
	"context"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

func (s *shell) policyTest(direct *bool) *cobra.Command {
	var file, oid string
	c := &cobra.Command{
		Use: "test -f FILE", Short: "say whether a request message would pass, and why not", Args: cobra.NoArgs,
		Long: "Say whether a request message would pass the policies that stand, and why not; exit with 3 if not.\n" +
			"With --oid the requestor is taken as verified by a token; without, as asserted on the queue.\n" +
			"The machine's path (its network security groups) is not looked at.",
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := s.read(file)
			if err != nil {
				return err
			}
			m, err := accessjson.DecodeRequest(data)
			if err != nil {
				return err
			}
			req := access.Request{
				Requestor:   access.Requestor{Name: m.Requestor, ObjectID: oid, Asserted: oid == ""},
				RequestedBy: access.Sender{Channel: access.ChannelQueue}, Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports,
			}
			if oid != "" {
				req.RequestedBy.Channel = access.ChannelHTTP
			}
			policies, err := s.policiesFor(c.Context(), *direct, m.Ports)
			if err != nil {
				return err
			}
			return s.tellDecision(policy.Evaluate(req, policies, policy.Limits{}, s.now()))
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the request message's file (- for standard input)")
	c.Flags().StringVar(&oid, "oid", "", "the requestor's Entra object id, as a token would name it")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	return c
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

func (s *shell) tellDecision(d policy.Decision) error {
	for _, g := range d.Granted {
		fmt.Fprintf(s.out, "pass    %s port %d/%s from %s until %s, by the policy at %s\n", g.Request.VM.Name(), g.Request.Port, g.Protocol,
			access.FormatPrefix(g.Request.Source), g.EndTime.Format(time.RFC3339), g.Scope)
	}
	for _, v := range d.Violations {
		fmt.Fprintf(s.out, "refuse  %s %s (%s)\n", v.Path, v.Message, v.Reason)
	}
	// Whoever runs this reads the policies, so the true cause is theirs to know.
	for _, cause := range d.Internal {
		fmt.Fprintf(s.out, "        as %s\n", cause)
	}
	if !d.Allowed() {
		return exitf(exitRefused, "this request would be refused")
	}
	return nil
}
