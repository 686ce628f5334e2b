package broker

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"golang.org/x/sync/errgroup"
)

const (
	// ListingAge is how old the machines and NSGs of a list may be; AsOf says how
	// old they are. Policies, baselines and requests are read at each call.
	ListingAge = 30 * time.Second
	// MaxMachines and DefaultMachines bound a page.
	MaxMachines, DefaultMachines = 200, 50

	discoverAtOnce  = 16
	machineNotFound = "no policy lets you ask for this virtual machine, or it does not exist"
)

// Activities tells how machines were used.
type Activities interface {
	// Usages sums up the accepted requests that name each of the VMs.
	Usages(ctx context.Context, vms []access.ResourceID) (map[access.ResourceID]Usage, error)
}

// DiscoverPorts are what a Discoverer needs.
type DiscoverPorts struct {
	// Subscriptions are those whose machines are shown.
	Subscriptions []string
	Policies      PolicyStore
	Lister        MachineLister
	Machines      Machines
	GroupLister   GroupLister
	Groups        Groups
	Baselines     Baselines
	Activities    Activities
	Clock         Clock
}

// Discoverer shows the machines there are, and what can be had of them.
type Discoverer struct {
	DiscoverPorts
	rules    nsg.Settings
	listings map[string]*listing
}

// listing is what was last read of a subscription.
type listing struct {
	turn     chan struct{} // holds one: whoever takes it may read and write
	asOf     time.Time
	machines []Machine
	layers   map[access.ResourceID]nsg.Layer
}

// NewDiscoverer makes a Discoverer; every port is required.
func NewDiscoverer(p DiscoverPorts, rules nsg.Settings) (*Discoverer, error) {
	if p.Policies == nil || p.Lister == nil || p.Machines == nil || p.GroupLister == nil || p.Groups == nil || p.Baselines == nil || p.Activities == nil || p.Clock == nil {
		return nil, errors.New("broker: a port of the discoverer is missing")
	}
	d := &Discoverer{DiscoverPorts: p, rules: rules, listings: map[string]*listing{}}
	for _, s := range p.Subscriptions {
		l := &listing{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		d.listings[s] = l
	}
	return d, rules.Validate()
}

// MachineQuery asks for machines.
type MachineQuery struct {
	Subscription  string // "" for every one
	ResourceGroup string // "" for every one; in any case
	Status        MachineStatus
	// Address is the caller's own, for the ports that are suggested.
	Address netip.Addr
	// Size is how many to give, DefaultMachines for 0; After is where the last
	// list left off.
	Size  int
	After string
}

// MachineList is a page of machines.
type MachineList struct {
	Items []MachineView
	Next  string // for MachineQuery.After; "" at the end
}

// candidate is a machine that the caller may see, before the costly part of its
// view.
type candidate struct {
	machine Machine
	policy  policy.AccessPolicy // zero for none
	status  MachineStatus
	reason  string
	from    *snapshotOf
}

// snapshotOf is what was read of a subscription at one time.
type snapshotOf struct {
	asOf   time.Time
	layers map[access.ResourceID]nsg.Layer
}

// Machines lists the machines by id, those that the caller may see: all of them
// for who may read all, else those whose policy lets the caller ask. A policy at
// a machine that does not exist is shown as an Unsupported one. Errors:
// permission_denied, role_required; invalid_argument; unavailable.
func (d *Discoverer) Machines(ctx context.Context, by access.Caller, q MachineQuery) (MachineList, error) {
	if err := by.Need(access.RoleRequest, access.RoleRequestForOthers, access.RoleReadAll); err != nil {
		return MachineList{}, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.After)
	if err != nil || q.Size < 0 || q.Size > MaxMachines {
		return MachineList{}, access.Errorf(access.InvalidArgument, "page_invalid", "a page has 1 to %d machines, and goes on where an earlier one says", MaxMachines)
	}
	size := cmp.Or(q.Size, DefaultMachines)
	var found []candidate
	for _, s := range slices.Compact(slices.Sorted(slices.Values(d.Subscriptions))) {
		if q.Subscription == "" || q.Subscription == s {
			list, err := d.candidates(ctx, by, s)
			if err != nil {
				return MachineList{}, err
			}
			found = append(found, list...)
		}
	}
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return string(c.machine.ID) <= string(after) || q.Status != "" && c.status != q.Status ||
			q.ResourceGroup != "" && c.machine.ID.ResourceGroup() != strings.ToLower(q.ResourceGroup)
	})
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.machine.ID, b.machine.ID) })
	var out MachineList
	if len(found) > size {
		found = found[:size]
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(found[size-1].machine.ID))
	}
	out.Items, err = d.views(ctx, by, found, q.Address)
	return out, err
}

// Machine shows one machine, read now. One that the caller may not see looks as
// if it did not exist: not_found, vm_unknown. Its other errors are those of
// Machines.
func (d *Discoverer) Machine(ctx context.Context, by access.Caller, id access.ResourceID, address netip.Addr) (MachineView, error) {
	if err := by.Need(access.RoleRequest, access.RoleRequestForOthers, access.RoleReadAll); err != nil {
		return MachineView{}, err
	}
	unknown := access.Errorf(access.NotFound, "vm_unknown", machineNotFound)
	if _, ok := d.listings[id.Subscription()]; !ok {
		return MachineView{}, unknown
	}
	policies, err := d.Policies.ListPolicies(ctx, id.Subscription())
	if err != nil {
		return MachineView{}, err
	}
	p, ok := policy.Nearest(id, policies)
	if !by.Has(access.RoleReadAll) && (!ok || !p.Admits(by.Requestor())) {
		return MachineView{}, unknown
	}
	now := d.Clock()
	m, err := d.known(ctx, id, now)
	if err != nil {
		return MachineView{}, err
	}
	if m.ID == "" {
		if p.Scope != id {
			return MachineView{}, unknown
		}
		m = missing(id)
	}
	from := snapshotOf{asOf: now, layers: map[access.ResourceID]nsg.Layer{}}
	for _, g := range pathOf(m) {
		group, err := d.Groups.Group(ctx, g)
		if err == nil {
			from.layers[g] = d.rules.InternetLayer(group, now)
		} else if access.CodeOf(err) != access.NotFound && access.ReasonOf(err) != "azure_permission" {
			return MachineView{}, err
		}
	}
	views, err := d.views(ctx, by, []candidate{d.candidate(m, p, ok, &from)}, address)
	if err != nil {
		return MachineView{}, err
	}
	return views[0], nil
}

// known reads one machine: none where it does not exist, and with the reason
// where our identity may not read it.
func (d *Discoverer) known(ctx context.Context, id access.ResourceID, notBefore time.Time) (Machine, error) {
	m, err := d.DiscoverPorts.Machines.Machine(ctx, id, notBefore)
	switch {
	case access.CodeOf(err) == access.NotFound:
		return Machine{}, nil
	case access.ReasonOf(err) == "azure_permission" || access.ReasonOf(err) == "azure_unreadable":
		return Machine{ID: id, Name: id.Name(), Unreadable: access.AsError(err).Message}, nil
	}
	return m, err
}

func missing(id access.ResourceID) Machine {
	return Machine{ID: id, Name: id.Name(), Unreadable: "a policy stands for this virtual machine, and it does not exist: remove the policy"}
}

// candidates gives the machines of the subscription that the caller may see.
func (d *Discoverer) candidates(ctx context.Context, by access.Caller, subscription string) ([]candidate, error) {
	policies, err := d.Policies.ListPolicies(ctx, subscription)
	if err != nil {
		return nil, err
	}
	machines, from, err := d.list(ctx, subscription)
	if err != nil {
		return nil, err
	}
	listed := map[access.ResourceID]bool{}
	for _, m := range machines {
		listed[m.ID] = true
	}
	for _, p := range policies {
		if _, err := access.ParseVM(string(p.Scope)); err != nil || listed[p.Scope] || p.Disabled {
			continue
		}
		// The list may be older than the machine.
		m, err := d.known(ctx, p.Scope, d.Clock().Add(-ListingAge))
		if err != nil {
			return nil, err
		}
		if m.ID == "" {
			m = missing(p.Scope)
		}
		machines = append(machines, m)
	}
	var out []candidate
	for _, m := range machines {
		p, ok := policy.Nearest(m.ID, policies)
		if by.Has(access.RoleReadAll) || ok && p.Admits(by.Requestor()) {
			out = append(out, d.candidate(m, p, ok, from))
		}
	}
	return out, nil
}

func (d *Discoverer) candidate(m Machine, p policy.AccessPolicy, covered bool, from *snapshotOf) candidate {
	c := candidate{machine: m, policy: p, status: NotConfigured, reason: unsupported(m), from: from}
	switch {
	case c.reason != "":
		c.status = Unsupported
	case covered:
		c.status = Configured
	}
	return c
}

// list gives the machines and NSGs of the subscription, as old as ListingAge at
// most. Callers at one time share one reading. The slice is the caller's own.
func (d *Discoverer) list(ctx context.Context, subscription string) ([]Machine, *snapshotOf, error) {
	l := d.listings[subscription]
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil, nil, access.Wrap(ctx.Err(), access.Unavailable, "azure_unreachable", "listing the virtual machines took too long")
	}
	defer func() { l.turn <- struct{}{} }()
	now := d.Clock()
	if l.asOf.IsZero() || now.Sub(l.asOf) > ListingAge || now.Before(l.asOf) {
		machines, err := d.Lister.List(ctx, subscription)
		if err != nil {
			return nil, nil, err
		}
		groups, err := d.GroupLister.Groups(ctx, subscription)
		if err != nil {
			return nil, nil, err
		}
		layers := map[access.ResourceID]nsg.Layer{}
		for _, g := range groups {
			layers[g.ID] = d.rules.InternetLayer(g, now)
		}
		l.asOf, l.machines, l.layers = now, machines, layers
	}
	return slices.Clone(l.machines), &snapshotOf{l.asOf, l.layers}, nil
}

// views completes the views of the machines of one page.
func (d *Discoverer) views(ctx context.Context, by access.Caller, list []candidate, address netip.Addr) ([]MachineView, error) {
	rows, err := d.rows(ctx, list)
	if err != nil {
		return nil, err
	}
	var vms []access.ResourceID
	for _, c := range list {
		vms = append(vms, c.machine.ID)
	}
	used, err := d.Activities.Usages(ctx, vms)
	if err != nil {
		return nil, err
	}
	out := make([]MachineView, len(list))
	for i, c := range list {
		activity := used[c.machine.ID]
		v := MachineView{
			ID: c.machine.ID, Name: c.machine.Name, OS: c.machine.OS, Status: c.status, Reason: c.reason, Scope: c.policy.Scope, Ports: c.policy.Ports,
			RequireJustification: c.policy.RequireJustification, RequireTicket: c.policy.NeedsTicket(),
			Suggested: SuggestedPorts(c.machine.OS, address), Exposure: exposureOf(d.rules, c.machine, c.policy.Ports, c.from.layers),
			MayRequest: c.status == Configured && by.Has(access.RoleRequest) && c.policy.Admits(by.Requestor()),
			Approved:   activity.Approved, LastAccess: activity.LastAccess, LastUser: activity.LastUser, AsOf: c.from.asOf,
		}
		var of []access.Baseline
		for _, id := range pathOf(c.machine) {
			of = append(of, rows[id]...)
		}
		v.Baseline, v.BlockedBy = baselineStatus(c.machine, c.policy, of)
		out[i] = v
	}
	return out, nil
}

// rows reads the baselines on the machines' NSGs.
func (d *Discoverer) rows(ctx context.Context, list []candidate) (map[access.ResourceID][]access.Baseline, error) {
	out := map[access.ResourceID][]access.Baseline{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(discoverAtOnce)
	seen := map[access.ResourceID]bool{}
	for _, c := range list {
		for _, id := range pathOf(c.machine) {
			if seen[id] {
				continue
			}
			seen[id] = true
			g.Go(func() error {
				_, rows, err := d.Baselines.Partition(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				out[id] = rows
				return err
			})
		}
	}
	return out, g.Wait()
}
