package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// changeFlags say how a change of a policy is made.
type changeFlags struct{ plan, yes, closeGrants bool }

func (f *changeFlags) on(c *cobra.Command) {
	c.Flags().BoolVar(&f.plan, "plan", false, "show what would be written, and write nothing")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.closeGrants, "close-grants", false, "close the live grants that are no longer allowed, too")
}

// change is a change of the policy at a scope, from what was read under an ETag.
type change struct {
	api   *client.Client
	scope access.ResourceID
	old   policy.AccessPolicy
	new   json.RawMessage // nil removes it
	etag  string          // "" where no policy stands
	flags changeFlags
	done  string
}

// change shows a change, asks, and makes it.
func (s *shell) change(ctx context.Context, c change) error {
	stop := s.spin("planning")
	plan, err := c.send(ctx, true)
	stop()
	if err != nil {
		return err
	}
	if c.flags.plan && s.json() {
		return s.raw(s.out, plan.Raw)
	}
	if !s.json() {
		s.tellDifference(c)
		s.tellChange(plan.Value, c.flags)
	}
	if c.flags.plan {
		fmt.Fprintln(s.out, "\nNothing was written.")
		return nil
	}
	if err := s.confirm(ctx, "Write this?", c.flags.yes); err != nil {
		return err
	}
	stop = s.spin("writing")
	out, err := c.send(ctx, false)
	stop()
	if err != nil {
		return err
	}
	if s.json() {
		return s.raw(s.out, out.Raw)
	}
	fmt.Fprintf(s.out, "\n%s.", c.done)
	if written(plan.Value) > 0 {
		fmt.Fprint(s.out, " The rules are being written; `portcullis vms` shows how far they are.")
	}
	fmt.Fprintln(s.out)
	return nil
}

func (c change) send(ctx context.Context, plan bool) (client.Answer[client.Change], error) {
	o := client.ChangeOptions{ETag: c.etag, Plan: plan, CloseGrants: c.flags.closeGrants}
	if c.new == nil {
		return c.api.DeletePolicy(ctx, string(c.scope), o)
	}
	return c.api.PutPolicy(ctx, string(c.scope), c.new, o)
}

// confirm asks whoever sits there; a script has to say --yes.
func (s *shell) confirm(ctx context.Context, question string, yes bool) error {
	if yes {
		return nil
	}
	if !s.asks || s.json() {
		return usagef("nobody can be asked here: add --yes to do it, or (but for lockdown) --plan to see what it does")
	}
	fmt.Fprintf(s.errs, "\n%s [y/N] ", question)
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(s.in, 1<<10)).ReadString('\n') // the end of the input is a no
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a := <-said:
		if a != "y" && a != "yes" {
			return exitf(exitFailed, "nothing was done")
		}
		return nil
	}
}

// tellDifference shows how the policy's document changes.
func (s *shell) tellDifference(c change) {
	var old []byte
	if c.etag != "" {
		old, _ = accessjson.EncodePolicy(c.old) // what cannot be shown is not
	}
	switch lines := diff(string(old), string(c.new)); {
	case c.etag == "":
		fmt.Fprintf(s.out, "New policy of the %s:\n%s\n", scopeName(string(c.scope)), c.new)
	case c.new == nil:
		fmt.Fprintf(s.out, "The policy of the %s goes.\n", scopeName(string(c.scope)))
	case len(lines) == 0:
		fmt.Fprintf(s.out, "The policy of the %s stays as it is.\n", scopeName(string(c.scope)))
	default:
		fmt.Fprintf(s.out, "The policy of the %s changes:\n", scopeName(string(c.scope)))
		for _, l := range lines {
			color := map[byte]string{'-': red, '+': green}[l[0]]
			fmt.Fprintln(s.out, s.colored(s.colorOut && color != "", color, clean(l)))
		}
	}
}

// tellChange shows what a change writes, and what there is to know before.
func (s *shell) tellChange(c client.Change, f changeFlags) {
	for _, m := range c.Machines {
		fmt.Fprintf(s.out, "\n%s\n", clean(machineName(m.ID)))
		if m.Unsupported != "" {
			fmt.Fprintf(s.out, "  not supported: %s\n", clean(m.Unsupported))
		}
		for _, g := range m.Groups {
			s.tellGroup(g)
		}
	}
	if len(c.NotAllowedGrants) > 0 {
		if f.closeGrants {
			fmt.Fprintln(s.out, "\nLive grants that are no longer allowed, and are closed:")
		} else {
			fmt.Fprintln(s.out, "\nLive grants that are no longer allowed, and stay open until their time (--close-grants closes them):")
		}
		for _, g := range c.NotAllowedGrants {
			fmt.Fprintf(s.out, "  %s %s port %d, %s, until %s\n", clean(g.RequestID), clean(nameOf(g.VirtualMachine)), g.Port, clean(g.Requestor), s.stamp(g.EndTimeUTC))
			for _, w := range g.Why {
				fmt.Fprintf(s.out, "      %s\n", clean(w))
			}
		}
	}
	fmt.Fprintf(s.out, "\n%s\n", total(c))
}

func machineName(id string) string {
	if r, err := access.ParseVM(id); err == nil {
		return r.ResourceGroup() + "/" + r.Name()
	}
	return id
}

func (s *shell) tellGroup(g client.GroupChange) {
	fmt.Fprintf(s.out, "  %s\n", clean(nameOf(g.ID)))
	t := newTable(s.out, "    ")
	for _, r := range g.Put {
		t.row("write", fmt.Sprint(r.Priority), r.Name,
			fmt.Sprintf("%s %s %s from %s to %s", r.Access, r.Protocol, strings.Join(r.Ports, ","), strings.Join(r.Sources, ","), strings.Join(r.Destinations, ",")))
	}
	for _, name := range g.Remove {
		t.row("remove", "", name)
	}
	for _, a := range g.Past {
		t.row("past it", fmt.Sprint(a.Priority), a.Rule, a.Advice)
	}
	for _, a := range g.Blocking {
		t.row("blocks", fmt.Sprint(a.Priority), a.Rule, a.Advice)
	}
	for _, c := range g.CutOff {
		t.row("cut off", "", c.What, c.Advice)
	}
	if g.BlockedBy != "" {
		t.row("cannot", "", g.BlockedBy)
	}
	if len(g.Put)+len(g.Remove) == 0 && g.BlockedBy == "" {
		t.row("nothing to write")
	}
	_ = t.flush() // to the same output as all else
}

func written(c client.Change) (n int) {
	for _, m := range c.Machines {
		for _, g := range m.Groups {
			n += len(g.Put) + len(g.Remove)
		}
	}
	return n
}

// total sums a change up: a rule that several machines share counts once.
func total(c client.Change) string {
	put, remove, look, groups := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range c.Machines {
		for _, g := range m.Groups {
			for _, r := range g.Put {
				put[g.ID+r.Name], groups[g.ID] = true, true
			}
			for _, name := range g.Remove {
				remove[g.ID+name], groups[g.ID] = true, true
			}
			for _, a := range append(append([]client.Advice{}, g.Past...), g.Blocking...) {
				look[g.ID+a.Rule] = true
			}
			for _, x := range g.CutOff {
				look[g.ID+x.What] = true
			}
		}
	}
	out := fmt.Sprintf("%s to write, %d to remove, on %s", count(len(put), "rule"), len(remove), count(len(groups), "network security group"))
	if len(look) > 0 {
		out += "; " + count(len(look), "thing") + " to look at"
	}
	return out + "."
}
