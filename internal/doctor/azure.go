package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Azure reads machines and network security groups, by the caller's own identity.
type Azure interface {
	List(ctx context.Context, subscription string) ([]broker.Machine, error)
	Groups(ctx context.Context, subscription string) ([]nsg.Group, error)
}

// Right is what one role assignment gives a principal.
type Right struct {
	Scope                       string
	Actions, NotActions         []string // of Resource Manager
	DataActions, NotDataActions []string // of the services themselves
}

// Lock is a management lock.
type Lock struct{ Name, Level, Scope string }

// Rights reads who may what, and what is locked.
type Rights interface {
	// Rights gives what the principal has at the scope, inherited and by groups too.
	Rights(ctx context.Context, scope, principal string) ([]Right, error)
	// RightsWithin gives what it has on anything below the scope besides.
	RightsWithin(ctx context.Context, scope, principal string) ([]Right, error)
	// Locks gives the locks at the scope and below it.
	Locks(ctx context.Context, scope string) ([]Lock, error)
}

// Networks checks the machines and groups of the subscriptions.
func Networks(subscriptions []string, azure Azure, rules nsg.Settings) Check {
	return Check{"networks", func(ctx context.Context, r *Report) {
		for _, sub := range subscriptions {
			machines, err := azure.List(ctx, sub)
			if err != nil {
				r.failed("the machines of "+sub+" cannot be read", err, "your identity takes Reader on the subscription")
				continue
			}
			groups, err := azure.Groups(ctx, sub)
			if err != nil {
				r.failed("the network security groups of "+sub+" cannot be read", err, "your identity takes Reader on the subscription")
				continue
			}
			for _, m := range machines {
				switch {
				case m.Unreadable != "":
					r.Warn(m.ID.Name()+" cannot be read: "+m.Unreadable, "nobody can ask for it until its network can be read")
				case bare(m):
					r.Warn("no network security group stands before "+m.ID.Name(), "attach one to its subnet or network interface: without a gate nothing can be shut")
				}
			}
			for _, g := range groups {
				group(r, g, rules)
			}
			r.Ok(fmt.Sprintf("%s: %d machines, %d network security groups", sub, len(machines), len(groups)))
		}
	}}
}

func bare(m broker.Machine) bool {
	return !slices.ContainsFunc(m.NICs, func(n broker.NIC) bool {
		return n.NSG != "" || slices.ContainsFunc(n.Addresses, func(a broker.Address) bool { return a.SubnetNSG != "" })
	})
}

func group(r *Report, g nsg.Group, rules nsg.Settings) {
	if g.Loss != "" {
		r.Warn(g.ID.Name()+" holds what this version cannot write back unharmed: "+g.Loss, "it is closed there and never opened: get a newer version")
	}
	inBand := 0
	for _, rule := range g.Rules {
		if !rules.Owns(rule) && rule.Direction == nsg.Inbound && rule.Priority >= rules.Band.Low && rule.Priority <= rules.Baseline.High {
			inBand++
		}
	}
	if free := rules.Baseline.High - rules.Band.Low + 1 - inBand; inBand > 0 && free < 100 {
		r.Warn(fmt.Sprintf("%s has %d rules of others between the priorities %d and %d", g.ID.Name(), inBand, rules.Band.Low, rules.Baseline.High),
			"they leave little room for ours: set PORTCULLIS_PRIORITY_BAND and PORTCULLIS_BASELINE_BAND to what is free")
	}
}

// Permissions checks that the app's identity has every action of its role on the
// subscriptions, and which locks are in its way. principal is its object id.
func Permissions(subscriptions []string, principal string, role []byte, rights Rights) Check {
	return Check{"permissions", func(ctx context.Context, r *Report) {
		var want struct{ Actions []string }
		if err := json.Unmarshal(role, &want); err != nil {
			r.failed("the role", err, "")
			return
		}
		for _, sub := range subscriptions {
			locks(ctx, r, "/subscriptions/"+sub, rights)
			if principal == "" {
				r.Skip("the app's rights on " + sub + " were not looked at: name its identity's object id with --principal")
				continue
			}
			have, err := rights.Rights(ctx, "/subscriptions/"+sub, principal)
			if err != nil {
				r.failed("the rights on "+sub+" cannot be read", err, "your identity takes Microsoft.Authorization/*/read there")
				continue
			}
			var missing []string
			for _, a := range want.Actions {
				if !slices.ContainsFunc(have, func(h Right) bool { return h.allows(a) }) {
					missing = append(missing, a)
				}
			}
			if len(missing) > 0 {
				r.Fault(fmt.Sprintf("on the subscription %s the app's identity lacks %s", sub, strings.Join(missing, ", ")),
					"assign the role that the deployment makes, on the subscription or on each resource group with machines (this looks at the subscription alone)")
				continue
			}
			r.Ok(fmt.Sprintf("the app's identity has all %d actions on %s", len(want.Actions), sub))
		}
	}}
}

// dataActions are what the app does to its own queues, tables and packages, with
// the built-in role that gives each ("Azure built-in roles", Integration and Storage).
var dataActions = []struct{ action, role string }{
	{"Microsoft.ServiceBus/namespaces/messages/send/action", "Azure Service Bus Data Sender"},
	{"Microsoft.ServiceBus/namespaces/messages/receive/action", "Azure Service Bus Data Receiver"},
	{"Microsoft.Storage/storageAccounts/tableServices/tables/entities/read", "Storage Table Data Contributor"},
	{"Microsoft.Storage/storageAccounts/tableServices/tables/entities/write", "Storage Table Data Contributor"},
	{"Microsoft.Storage/storageAccounts/tableServices/tables/entities/delete", "Storage Table Data Contributor"},
	{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", "Storage Blob Data Owner, on the host's account"},
	{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write", "Storage Blob Data Owner, on the host's account"},
}

// DataPermissions checks that the app's identity may use the queues, tables and
// blobs of its own resource group. That each right is on each entity it is for is
// not looked at.
func DataPermissions(group, principal string, rights Rights) Check {
	return Check{"data rights", func(ctx context.Context, r *Report) {
		have, err := rights.RightsWithin(ctx, group, principal)
		if err != nil {
			r.failed("the rights in "+group+" cannot be read", err, "your identity takes Microsoft.Authorization/*/read there")
			return
		}
		missing := false
		for _, want := range dataActions {
			if !slices.ContainsFunc(have, func(h Right) bool {
				return matches(h.DataActions, want.action) && !matches(h.NotDataActions, want.action)
			}) {
				missing = true
				r.Fault("the app's identity has no "+want.action+" in its resource group", "assign it "+want.role+", as the deployment does")
			}
		}
		if !missing {
			r.Ok(fmt.Sprintf("the app's identity has all %d actions on queues, tables and blobs", len(dataActions)))
		}
	}}
}

// allows says whether the assignment gives the action. A role's notActions take
// away only what the same role gives.
func (h Right) allows(action string) bool {
	return matches(h.Actions, action) && !matches(h.NotActions, action)
}

func matches(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		// "*" stands for any text, slashes too.
		flat := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "/", "\x00") }
		ok, err := path.Match(flat(p), flat(action))
		return ok && err == nil
	})
}

func locks(ctx context.Context, r *Report, scope string, rights Rights) {
	all, err := rights.Locks(ctx, scope)
	if err != nil {
		r.failed("the locks of "+scope+" cannot be read", err, "your identity takes Reader on the subscription")
		return
	}
	for _, l := range all {
		what := fmt.Sprintf("the lock %s (%s) stands at %s", l.Name, l.Level, l.Scope)
		if strings.EqualFold(l.Level, "ReadOnly") {
			r.Fault(what, "under it nothing can be opened or closed: take it off whatever holds network security groups")
			continue
		}
		r.Warn(what, "a rule under it is closed by writing the group anew, or by turning it into a Deny; that works, but slower")
	}
	if len(all) == 0 {
		r.Ok("no lock is in the way on " + scope)
	}
}

// Target is what the dry run is of.
type Target struct {
	VM     access.ResourceID
	Port   uint16
	Source string
}

// DryRun says what a grant would write, and what would be in its way.
func DryRun(t Target, preview func(ctx context.Context, t Target) ([]broker.Preview, error)) Check {
	return Check{"dry run", func(ctx context.Context, r *Report) {
		all, err := preview(ctx, t)
		if err != nil {
			r.failed(fmt.Sprintf("port %d of %s could not be opened from %s", t.Port, t.VM.Name(), t.Source), err, "mend what the message says")
			return
		}
		for _, p := range all {
			if p.BlockedBy != "" {
				r.Fault(fmt.Sprintf("on %s port %d of %s would not open: %s", p.NSG.Name(), t.Port, t.VM.Name(), p.BlockedBy), "portcullis vms "+t.VM.Name()+" names each rule that is in the way")
				continue
			}
			for _, rule := range p.Put {
				r.Ok(fmt.Sprintf("on %s it would write %s at priority %d", p.NSG.Name(), rule.Name, rule.Priority))
			}
			if len(p.Put) == 0 {
				r.Ok(fmt.Sprintf("on %s a rule that stands lets it through already", p.NSG.Name()))
			}
		}
	}}
}
