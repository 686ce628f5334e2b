package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// enabling is what the flags of enable say.
type enabling struct {
	placeFlags
	ports, sources, standing, requestors []string
	most                                 time.Duration
	requireReason, requireTicket         bool
	changeFlags
}

func (s *shell) enableCommand() *cobra.Command {
	var e enabling
	c := &cobra.Command{
		Use: "enable [VM]", Short: "switch just-in-time access on: a machine, a resource group or a subscription",
		Long: "Switch just-in-time access on: the policy is stored, and the ports are shut by deny rules on every\n" +
			"network security group on the machines' paths. First it is shown what is written, at which\n" +
			"priorities, which of your own rules let traffic past it or would block a grant, and what is cut\n" +
			"off; --plan stops there. No rule of yours is touched.\n\n" +
			"Where a policy stands already, what the flags do not name stays as it is. Without --port the ports\n" +
			"are those suggested for the machines' systems.",
		Example: "portcullis enable web-1 --plan\n" +
			"portcullis enable web-1 --port 22 --source 203.0.113.0/24 --max 3h\n" +
			"portcullis enable --resource-group prod --standing 10.0.250.0/26 --yes",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: s.completeMachines(&e.placeFlags, false),
		RunE: func(c *cobra.Command, args []string) error { return s.enable(c, args, e) },
	}
	f := c.Flags()
	f.StringSliceVar(&e.ports, "port", nil, "a port that may be asked for: 22, 53/UDP; several by commas or by giving it again")
	f.StringSliceVar(&e.sources, "source", nil, "an address or range that may be asked for, or * for every one (default: your own address); several as for --port")
	f.DurationVar(&e.most, "max", 3*time.Hour, "for how long a port may be open at most")
	f.StringSliceVar(&e.requestors, "requestor", nil, "who may ask: a user principal name, oid:ID, or * for everybody with the role (the default)")
	f.StringSliceVar(&e.standing, "standing", nil, "a source that the deny rules leave out: a bastion, a jump host, a probe")
	f.BoolVar(&e.requireReason, "require-reason", true, "demand a justification")
	f.BoolVar(&e.requireTicket, "require-ticket", false, "demand a ticket")
	e.placeFlags.on(c)
	e.changeFlags.on(c)
	return c
}

func (s *shell) enable(c *cobra.Command, args []string, e enabling) error {
	ctx := c.Context()
	api, err := s.client()
	if err != nil {
		return err
	}
	stop := s.spin("reading")
	defer func() { stop() }()
	scope, err := s.scope(ctx, api, e.placeFlags, args)
	if err != nil {
		return err
	}
	now, etag, err := standingPolicy(ctx, api, scope)
	if err != nil {
		return err
	}
	suggested, err := suggestions(ctx, api, scope)
	if err != nil {
		return err
	}
	stop()
	stop = func() {}
	p, err := e.apply(c.Flags().Changed, now, etag == "", suggested)
	if err != nil {
		return err
	}
	data, err := accessjson.EncodePolicy(p)
	if err != nil {
		return err
	}
	return s.change(ctx, change{
		api: api, scope: scope, old: now, new: data, etag: etag, flags: e.changeFlags, done: "Enabled on the " + scopeName(string(scope)),
	})
}

// standingPolicy reads the policy that stands at the scope; no ETag where there
// is none.
func standingPolicy(ctx context.Context, api *client.Client, scope access.ResourceID) (policy.AccessPolicy, string, error) {
	found, err := api.Policy(ctx, string(scope))
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == client.NotFound && e.Reason == "policy_unknown" {
		return policy.AccessPolicy{Scope: scope}, "", nil
	}
	if err != nil {
		return policy.AccessPolicy{}, "", err
	}
	p, err := accessjson.DecodePolicy(found.Value)
	if err != nil {
		return p, "", &notedError{err, "The policy says what this portcullis does not know: get a newer one."}
	}
	return p, found.ETag, nil
}

// suggestions gives the ports that are suggested for the machines in the scope.
func suggestions(ctx context.Context, api *client.Client, scope access.ResourceID) ([]client.Port, error) {
	var machines []client.Machine
	if scope.Type() == access.TypeVirtualMachine {
		m, err := api.Machine(ctx, scope.Subscription(), scope.ResourceGroup(), scope.Name())
		if err != nil {
			return nil, err
		}
		machines = []client.Machine{m.Value}
	} else {
		list, err := api.Machines(ctx, client.MachineFilter{SubscriptionID: scope.Subscription(), ResourceGroup: scope.ResourceGroup()})
		if err != nil {
			return nil, err
		}
		machines = list.Items
	}
	var out []client.Port
	for _, m := range machines {
		for _, p := range m.SuggestedPorts {
			if !slices.ContainsFunc(out, func(o client.Port) bool { return o.Number == p.Number && o.Protocol == p.Protocol }) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b client.Port) int { return a.Number - b.Number })
	return out, nil
}

// apply gives the policy with what the flags change in it.
func (e enabling) apply(given func(string) bool, p policy.AccessPolicy, fresh bool, suggested []client.Port) (policy.AccessPolicy, error) {
	on := true
	p.Baseline = &on
	if given("require-reason") || fresh {
		p.RequireJustification = e.requireReason
	}
	if given("require-ticket") || fresh {
		p.RequireTicket = e.requireTicket
	}
	if given("requestor") {
		p.Requestors = e.requestors
	} else if fresh {
		p.Requestors = []string{"*"}
	}
	var err error
	if given("standing") {
		if p.Standing, err = prefixes("--standing", e.standing, access.ParseSource); err != nil {
			return p, err
		}
	}
	if p.Ports, err = e.portsOf(given, p.Ports, suggested); err != nil {
		return p, err
	}
	return p, p.Validate()
}

// portsOf picks the ports: those of the flags, else those that stand, else those
// suggested.
func (e enabling) portsOf(given func(string) bool, now []policy.Port, suggested []client.Port) ([]policy.Port, error) {
	words, err := portWords(e.ports)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 && len(now) == 0 {
		for _, p := range suggested {
			words = append(words, portWord{p.Number, p.Protocol})
		}
		if len(words) == 0 {
			return nil, usagef("which ports? There is no machine to suggest them for: --port 22,3389")
		}
	}
	// What is suggested for one port, the address of whoever enables it, is for
	// another as well.
	var mine []netip.Prefix
	if len(suggested) > 0 {
		if mine, err = prefixes("the suggested port", suggested[0].Sources, nil); err != nil {
			return nil, err
		}
	}
	out := slices.Clone(now)
	if len(words) > 0 {
		out = nil
	}
	for _, w := range words {
		port := policy.Port{Number: uint16(w.number), Protocol: access.Protocol(w.protocol), MaxDuration: e.most, Sources: mine}
		if port.Protocol == "" {
			port.Protocol = access.TCP
		}
		same := func(n int, protocol string) bool {
			return n == w.number && strings.EqualFold(protocol, string(port.Protocol))
		}
		if i := slices.IndexFunc(now, func(o policy.Port) bool { return same(int(o.Number), string(o.Protocol)) }); i >= 0 {
			port = now[i]
		} else if i := slices.IndexFunc(suggested, func(o client.Port) bool { return same(o.Number, o.Protocol) }); i >= 0 {
			if port, err = portOf(suggested[i]); err != nil {
				return nil, err
			}
		}
		out = append(out, port)
	}
	sources, err := prefixes("--source", e.sources, nil)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if given("max") {
			out[i].MaxDuration = e.most
		}
		if given("source") {
			out[i].Sources = sources
		}
		if len(out[i].Sources) == 0 {
			return nil, usagef("from where may port %d be asked for? --source and an address or a range (* is everywhere)", out[i].Number)
		}
	}
	return out, nil
}

func portOf(p client.Port) (policy.Port, error) {
	out := policy.Port{Number: uint16(p.Number), Protocol: access.Protocol(p.Protocol)}
	var err error
	if out.Sources, err = prefixes("the suggested port", p.Sources, nil); err != nil {
		return out, err
	}
	out.MaxDuration, err = access.ParseDuration(p.Max)
	return out, err
}

// prefixes reads ranges; with one that reads each, else as a policy's sources.
func prefixes(flag string, words []string, one func(string) (netip.Prefix, error)) (out []netip.Prefix, err error) {
	for _, w := range words {
		var list []netip.Prefix
		if one == nil {
			list, err = access.ParsePolicySource(w)
		} else {
			list = make([]netip.Prefix, 1)
			list[0], err = one(w)
		}
		if err != nil {
			return nil, usagef("%s: %s", flag, access.AsError(err).Message)
		}
		out = append(out, list...)
	}
	return out, nil
}

func (s *shell) disableCommand() *cobra.Command {
	var in placeFlags
	var f changeFlags
	c := &cobra.Command{
		Use: "disable [VM]", Short: "switch just-in-time access off again: the policy and the deny rules go",
		Long: "Switch just-in-time access off: the policy goes, and with it the deny rules that it asked for. Only\n" +
			"rules of ours are removed; all others are as they were.",
		Example: "portcullis disable web-1 --plan\nportcullis disable --resource-group prod",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: s.completeMachines(&in, false),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			scope, err := s.scope(c.Context(), api, in, args)
			if err != nil {
				return err
			}
			return s.remove(c.Context(), api, scope, f, "Disabled on the "+scopeName(string(scope)))
		},
	}
	in.on(c)
	f.on(c)
	return c
}

// remove removes the policy at a scope.
func (s *shell) remove(ctx context.Context, api *client.Client, scope access.ResourceID, f changeFlags, done string) error {
	found, err := api.Policy(ctx, string(scope))
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == client.NotFound && scope.Type() == access.TypeVirtualMachine {
		// What covers it is more use than that nothing stands here.
		if m, e := api.Machine(ctx, scope.Subscription(), scope.ResourceGroup(), scope.Name()); e == nil && m.Value.PolicyScope != "" {
			return &notedError{err, "It is covered by the policy of the " + scopeName(m.Value.PolicyScope) + "."}
		}
	}
	if err != nil {
		return err
	}
	var old policy.AccessPolicy
	if old, err = accessjson.DecodePolicy(found.Value); err != nil {
		old = policy.AccessPolicy{} // it is only shown
	}
	return s.change(ctx, change{api: api, scope: scope, old: old, etag: found.ETag, flags: f, done: done})
}
