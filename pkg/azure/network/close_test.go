package network_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

var ours = nsg.Settings{Installation: "x", Band: nsg.Band{Low: 100, High: 999}, MaxGrant: 24 * time.Hour}

// open is a rule of ours that has expired, as it is read back.
func open() nsg.Rule {
	return nsg.Rule{
		Name: "Portcullis-x-web-1-22-tcp-aaaaaaaaaaaaaaaa", Description: "Portcullis x: just-in-time access to web-1 22/TCP until 2026-01-01T00:00:00Z",
		Priority: 100, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: "Tcp", Sources: []string{"203.0.113.7"}, SourcePorts: []string{"*"},
		Destinations: []string{"10.0.1.4"}, DestinationPorts: []string{"22"},
	}
}

func put(t *testing.T, n *network.Network, r nsg.Rule) nsg.Group {
	t.Helper()
	g, err := n.Group(t.Context(), webNSG)
	if err == nil {
		err = n.Apply(t.Context(), g, nsg.Plan{Put: []nsg.Rule{r}})
	}
	if err == nil {
		g, err = n.Group(t.Context(), webNSG)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// find gives the rule of the name, and how many others there are.
func find(t *testing.T, n *network.Network, name string) (found *nsg.Rule, others []nsg.Rule) {
	t.Helper()
	g, err := n.Group(t.Context(), webNSG)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range g.Rules {
		if r.Name == name {
			found = &r
		} else {
			others = append(others, r)
		}
	}
	return found, others
}

func TestAnExpiredRuleIsClosedThroughResourceManager(t *testing.T) {
	const write = "Microsoft.Network/networkSecurityGroups/write"
	for name, c := range map[string]struct {
		lock   resourcemanager.LockKind
		denied string
		lossy  bool
		reason string
		left   nsg.Access // of our rule; "" for none
	}{
		"no lock":                            {},
		"a lock on deletions":                {lock: resourcemanager.CanNotDelete},
		"and no permission to write a whole": {lock: resourcemanager.CanNotDelete, denied: write, left: nsg.Deny},
		"and a whole that would lose some":   {lock: resourcemanager.CanNotDelete, lossy: true, left: nsg.Deny},
		"a lock on every write":              {lock: resourcemanager.ReadOnly, reason: "scope_locked", left: nsg.Allow},
	} {
		t.Run(name, func(t *testing.T) {
			var lossy atomic.Bool
			s, n := azure(t, func(path string, body map[string]any) {
				if p, ok := body["properties"].(map[string]any); ok && lossy.Load() && path == string(webNSG) {
					p["fromTheFuture"] = true
				}
			})
			g := put(t, n, open())
			lossy.Store(c.lossy)
			_, before := find(t, n, open().Name)
			s.SetLock(string(webNSG), c.lock)
			if c.denied != "" {
				s.Deny(c.denied)
			}
			closer, err := broker.NewCloser(n, ours)
			if err != nil {
				t.Fatal(err)
			}
			closed, err := closer.CloseExpired(t.Context(), g, time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))
			if access.ReasonOf(err) != c.reason || (len(closed) == 1) != (c.reason == "") {
				t.Errorf("closed %v, %v", closed, err)
			}
			r, after := find(t, n, open().Name)
			if (r == nil) != (c.left == "") || r != nil && r.Access != c.left {
				t.Errorf("left %+v, want %q", r, c.left)
			}
			if !slices.EqualFunc(before, after, func(a, b nsg.Rule) bool { return a.Name == b.Name && a.Priority == b.Priority && a.Access == b.Access }) {
				t.Errorf("the customer's rules: %+v, were %+v", after, before)
			}
		})
	}
}

// Somebody has edited a rule of ours so that only application security groups
// say whom it lets where.
func TestARuleForApplicationSecurityGroupsBecomesADenyForThem(t *testing.T) {
	for _, side := range []string{"source", "destination", "both"} {
		t.Run(side, func(t *testing.T) {
			s, n := azure(t, nil)
			edited := open()
			if side != "destination" {
				edited.Sources, edited.SourceASGs = nil, []string{prod + "microsoft.network/applicationsecuritygroups/admins", prod + "microsoft.network/applicationsecuritygroups/ops"}
			}
			if side != "source" {
				edited.Destinations, edited.DestinationASGs = nil, []string{prod + "microsoft.network/applicationsecuritygroups/web"}
			}
			g := put(t, n, edited)
			i := slices.IndexFunc(g.Rules, func(r nsg.Rule) bool { return r.Name == edited.Name })
			if i < 0 || !same(g.Rules[i], edited) {
				t.Fatalf("the test's own rule was not taken as it is: %+v", g.Rules)
			}
			s.SetLock(string(webNSG), resourcemanager.CanNotDelete)
			s.Deny("Microsoft.Network/networkSecurityGroups/write")
			closer, err := broker.NewCloser(n, ours)
			if err != nil {
				t.Fatal(err)
			}
			if err := closer.CloseRule(t.Context(), webNSG, g.Rules[i]); err != nil {
				t.Fatal(err)
			}
			denied := edited
			denied.Access = nsg.Deny
			if r, _ := find(t, n, edited.Name); r == nil || !same(*r, denied) {
				t.Errorf("%+v, want a deny of the same traffic", r)
			}
		})
	}
}

func same(a, b nsg.Rule) bool {
	return a.Access == b.Access && a.Priority == b.Priority && a.Protocol == b.Protocol &&
		slices.Equal(a.Sources, b.Sources) && slices.Equal(a.Destinations, b.Destinations) &&
		slices.EqualFunc(a.SourceASGs, b.SourceASGs, strings.EqualFold) && slices.EqualFunc(a.DestinationASGs, b.DestinationASGs, strings.EqualFold) &&
		slices.Equal(a.SourcePorts, b.SourcePorts) && slices.Equal(a.DestinationPorts, b.DestinationPorts)
}
