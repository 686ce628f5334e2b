package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

// place of machines: the flags that narrow where names are looked for.
type placeFlags struct{ subscription, group string }

func (f *placeFlags) on(c *cobra.Command) {
	c.Flags().StringVar(&f.subscription, "subscription", "", "the subscription, by its id")
	c.Flags().StringVarP(&f.group, "resource-group", "g", "", "the resource group")
}

func (f placeFlags) filter() client.MachineFilter {
	return client.MachineFilter{SubscriptionID: f.subscription, ResourceGroup: f.group}
}

// find gives the machines that are named: by their name, by group/name, or by
// their resource id. A name that fits several is refused with what it fits.
func (s *shell) find(ctx context.Context, c *client.Client, in placeFlags, words []string) ([]client.Machine, error) {
	var all []client.Machine
	var out []client.Machine
	for _, word := range words {
		if strings.HasPrefix(word, "/") {
			id, err := access.ParseVM(word)
			if err != nil {
				return nil, err
			}
			out = append(out, client.Machine{ID: string(id), Name: id.Name(), ResourceGroup: id.ResourceGroup(), SubscriptionID: id.Subscription()})
			continue
		}
		if all == nil {
			list, err := c.Machines(ctx, in.filter())
			if err != nil {
				return nil, err
			}
			all = list.Items
		}
		m, err := pick(word, all)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func pick(word string, all []client.Machine) (client.Machine, error) {
	group, name, qualified := strings.Cut(word, "/")
	if !qualified {
		group, name = "", word
	}
	var found []client.Machine
	for _, m := range all {
		if strings.EqualFold(m.Name, name) && (group == "" || strings.EqualFold(m.ResourceGroup, group)) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return client.Machine{}, exitf(exitNotFound, "there is no machine %s that you may see%s", word, near(name, all))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is the name of %d machines: say which, such as %s/%s, or by its id", word, len(found), found[0].ResourceGroup, found[0].Name)
	for _, m := range found {
		b.WriteString("\n  " + m.ID)
	}
	return client.Machine{}, usagef("%s", b.String())
}

// near names machines that may have been meant.
func near(word string, all []client.Machine) string {
	const most = 5
	var names []string
	for _, m := range all {
		a, b := strings.ToLower(word), strings.ToLower(m.Name)
		if (strings.Contains(b, a) || strings.Contains(a, b) || distance(a, b) <= 2) && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return "; `portcullis vms` lists those there are"
	}
	slices.Sort(names)
	return "; there is " + strings.Join(names[:min(len(names), most)], ", ")
}

// distance is how many letters have to be put in, taken out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// scope gives what a policy is about: a machine that is named, else the resource
// group, else the subscription of the flags. The machines are those in it, if
// they had to be read.
func (s *shell) scope(ctx context.Context, c *client.Client, in placeFlags, args []string) (access.ResourceID, error) {
	switch {
	case len(args) == 1 && strings.HasPrefix(args[0], "/"):
		return access.ParseScope(args[0])
	case len(args) == 1:
		found, err := s.find(ctx, c, in, args)
		if err != nil {
			return "", err
		}
		return access.ParseScope(found[0].ID)
	case in.group != "" && in.subscription != "":
		return access.ParseScope("/subscriptions/" + in.subscription + "/resourceGroups/" + in.group)
	case in.subscription != "":
		return access.ParseScope("/subscriptions/" + in.subscription)
	case in.group == "":
		return "", usagef("name a virtual machine, or give --resource-group or --subscription")
	}
	// A group's name says nothing of its subscription; its machines do.
	list, err := c.Machines(ctx, in.filter())
	if err != nil {
		return "", err
	}
	var subs []string
	for _, m := range list.Items {
		if !slices.Contains(subs, m.SubscriptionID) {
			subs = append(subs, m.SubscriptionID)
		}
	}
	if len(subs) != 1 {
		return "", usagef("in which subscription is the resource group %s? Give --subscription%s", in.group, among(subs))
	}
	return access.ParseScope("/subscriptions/" + subs[0] + "/resourceGroups/" + in.group)
}

func among(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ": one of " + strings.Join(list, ", ")
}
