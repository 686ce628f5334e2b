package main

import (
	"encoding/json"
	"fmt"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func (s *shell) policyCommand() *cobra.Command {
	var direct bool
	c := &cobra.Command{
		Use: "policy", Short: "keep access policies",
		Long: "Keep access policies over the API: nobody overwrites what somebody else has changed meanwhile, and\n" +
			"it is shown first what a change does.\n\n" +
			"With --tables the policies are read and written in Table Storage itself, by the settings Tables__*\n" +
			"of docs/settings.md: the way in where there is no API yet. Nothing is planned or asked then, and\n" +
			"the deny rules follow at the next scan.",
		Args: cobra.NoArgs, RunE: help,
	}
	c.PersistentFlags().BoolVar(&direct, "tables", false, "read and write Table Storage itself, not the API")
	c.AddCommand(s.policyApply(&direct), s.policyList(&direct), s.policyGet(&direct), s.policyDelete(&direct), s.policyTest(&direct))
	return c
}

func (s *shell) policyApply(direct *bool) *cobra.Command {
	var file string
	var f changeFlags
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "store the policy of a JSON or YAML file", Args: cobra.NoArgs,
		Long: "Store the policy of a JSON or YAML file at the scope that it names. What stands there is read\n" +
			"first, the difference is shown with what it writes and whom it would shut out, and it is stored\n" +
			"only if nobody has changed it meanwhile.",
		Example: "portcullis policy apply -f policy.yaml --plan\nportcullis policy get web-1 -o json | jq ... | portcullis policy apply -f - --yes",
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := s.policyFile(file)
			if err != nil {
				return err
			}
			if *direct {
				return s.applyDirectly(c.Context(), p, f)
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			now, etag, err := standingPolicy(c.Context(), api, p.Scope)
			if err != nil {
				return err
			}
			data, err := accessjson.EncodePolicy(p)
			if err != nil {
				return err
			}
			return s.change(c.Context(), change{api: api, scope: p.Scope, old: now, new: data, etag: etag, flags: f, done: "Stored the policy of the " + scopeName(string(p.Scope))})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the policy's file (- for standard input, which takes --yes)")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	f.on(c)
	return c
}

func (s *shell) policyFile(file string) (policy.AccessPolicy, error) {
	data, err := s.read(file)
	if err != nil {
		return policy.AccessPolicy{}, err
	}
	if data, err = asJSON(data); err != nil {
		return policy.AccessPolicy{}, usagef("%s: %w", file, err)
	}
	return accessjson.DecodePolicy(data)
}

// asJSON takes JSON as it is, so that what it says twice is found, and turns
// YAML into JSON strictly.
func asJSON(data []byte) ([]byte, error) {
	for _, b := range data {
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return data, nil
		}
		break
	}
	return yaml.YAMLToJSONStrict(data)
}

func (s *shell) policyList(direct *bool) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the policies", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if *direct {
				return s.listDirectly(c.Context())
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			all, err := api.Policies(c.Context())
			if err != nil {
				return err
			}
			return s.tellPolicies(all.Raw)
		},
	}
}

// tellPolicies lists policies by their documents.
func (s *shell) tellPolicies(documents []json.RawMessage) error {
	if s.json() {
		return s.rawList(documents)
	}
	t := newTable(s.out, "", "SCOPE", "PORTS", "REQUESTORS", "DENY RULES")
	for _, d := range documents {
		p, err := accessjson.DecodePolicy(d)
		if err != nil {
			return &notedError{err, "The policy says what this portcullis does not know: get a newer one."}
		}
		list := ""
		for i, port := range p.Ports {
			if i > 0 {
				list += ", "
			}
			list += fmt.Sprintf("%d/%s ≤ %s", port.Number, port.Protocol, span(port.MaxDuration))
		}
		deny := "no"
		if p.Shuts() {
			deny = "yes"
		}
		t.row(string(p.Scope), list, few(p.Requestors), deny)
	}
	return t.flush()
}

// few names the first of a list, and how many more there are.
func few(list []string) string {
	const most = 3
	out := ""
	for i, v := range list {
		switch {
		case i == most:
			return fmt.Sprintf("%s and %d more", out, len(list)-most)
		case i > 0:
			out += ", "
		}
		out += v
	}
	return out
}

func (s *shell) policyGet(direct *bool) *cobra.Command {
	var in placeFlags
	c := &cobra.Command{
		Use: "get [SCOPE]", Short: "show the policy that stands at a scope, as apply takes it", Args: cobra.MaximumNArgs(1),
		Long: "Show the policy that stands at a scope: the name or id of a virtual machine, the id of a resource\n" +
			"group or subscription, or one that --resource-group or --subscription names.",
		ValidArgsFunction: s.completeMachines(&in, false),
		RunE: func(c *cobra.Command, args []string) error {
			if *direct {
				return s.getDirectly(c.Context(), args)
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			scope, err := s.scope(c.Context(), api, in, args)
			if err != nil {
				return err
			}
			found, err := api.Policy(c.Context(), string(scope))
			if err != nil {
				return err
			}
			return s.raw(s.out, found.Raw)
		},
	}
	in.on(c)
	return c
}

func (s *shell) policyDelete(direct *bool) *cobra.Command {
	var in placeFlags
	var f changeFlags
	c := &cobra.Command{
		Use: "delete [SCOPE]", Short: "remove the policy at a scope, and its deny rules", Args: cobra.MaximumNArgs(1),
		Long: "Remove the policy at a scope, named as for policy get. Its deny rules go with it.", ValidArgsFunction: s.completeMachines(&in, false),
		RunE: func(c *cobra.Command, args []string) error {
			if *direct {
				return usagef("a policy is removed over the API alone: its deny rules have to go before it")
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			scope, err := s.scope(c.Context(), api, in, args)
			if err != nil {
				return err
			}
			return s.remove(c.Context(), api, scope, f, "Removed the policy of the "+scopeName(string(scope)))
		},
	}
	in.on(c)
	f.on(c)
	return c
}

// policyReader gives the policies at the scopes of a machine.
type policyReader func(vm access.ResourceID) ([]policy.AccessPolicy, error)
