package broker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// tampering is what somebody does by hand to the one rule of ours that stands on
// a group.
var tampering = map[string]struct {
	do func(r *nsg.Rule)
	// ends says that the grant cannot go on; else the rule is put right.
	ends bool
}{
	"the source is widened":         {func(r *nsg.Rule) { r.Sources = []string{"0.0.0.0/0"} }, false},
	"everybody is let in":           {func(r *nsg.Rule) { r.Sources = []string{"*"} }, false},
	"a source is added":             {func(r *nsg.Rule) { r.Sources = append(r.Sources, "198.51.100.1") }, false},
	"more ports are opened":         {func(r *nsg.Rule) { r.DestinationPorts = []string{"*"} }, false},
	"more machines are behind it":   {func(r *nsg.Rule) { r.Destinations = []string{"10.0.0.0/8"} }, false},
	"the deadline is moved":         {func(r *nsg.Rule) { r.Description = strings.Replace(r.Description, "2026-11-24", "2026-11-25", 1) }, false},
	"the deadline is far ahead":     {func(r *nsg.Rule) { r.Description = strings.Replace(r.Description, "2026", "2099", 1) }, false},
	"the description is gone":       {func(r *nsg.Rule) { r.Description = "" }, false},
	"another's name is put into it": {func(r *nsg.Rule) { r.Description = strings.Replace(r.Description, "Portcullis", "Mine", 1) }, false},
	"it is moved out of the band":   {func(r *nsg.Rule) { r.Priority = 3000 }, false},
	"it is turned into a deny":      {func(r *nsg.Rule) { r.Access = nsg.Deny }, true},
	"it is given to another source": {func(r *nsg.Rule) { r.Sources = []string{"198.51.100.1"} }, true},
	"it is given to another port":   {func(r *nsg.Rule) { r.DestinationPorts = []string{"3389"} }, true},
}

// TestTamperingIsNoticed: what somebody does to a rule of ours is put right at
// the next scan, or ends the grant, on all of its path and on record. It lets
// nobody else in, and keeps nothing open past its time.
func TestTamperingIsNoticed(t *testing.T) {
	for name, c := range tampering {
		for _, on := range []access.ResourceID{onWeb, onNIC} {
			t.Run(name+" on "+on.Name(), func(t *testing.T) {
				w := newWorld(t)
				rec := w.submit(ask("1", alice, time.Hour))
				w.deliver()
				ours := func(id access.ResourceID) []nsg.Rule {
					return slices.DeleteFunc(slices.Clone(w.azure.Look(id).Rules), func(r nsg.Rule) bool { return !rules.Owns(r) })
				}
				before := ours(on)
				if len(before) != 1 {
					t.Fatalf("%v", before)
				}
				w.azure.Edit(on, func(g *nsg.Group) {
					i := slices.IndexFunc(g.Rules, rules.Owns)
					g.Rules = slices.Clone(g.Rules)
					c.do(&g.Rules[i])
				})
				if err := w.scanner.Scan(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.deliver()
				w.expectOpen("198.51.100.1", 0)
				if n := w.store.Kinds(string(on))[access.EventDrift]; n != 1 {
					t.Errorf("%d events tell of it, want 1", n)
				}
				if c.ends {
					w.expectOpen(alice, 0)
					w.expectShut()
					w.expectStatus(rec, access.Revoked, access.RemovedExternally)
					if k := w.store.Kinds(string(rec.ID)); k[access.EventClosing] == 0 || k[access.EventClosed] == 0 {
						t.Errorf("nothing tells of it: %v", k)
					}
				} else {
					w.expectOpen(alice, 2)
					after := ours(on)
					if len(after) != 1 || after[0].Description != before[0].Description || !slices.Equal(after[0].Sources, before[0].Sources) ||
						!slices.Equal(after[0].Destinations, before[0].Destinations) || !slices.Equal(after[0].DestinationPorts, before[0].DestinationPorts) {
						t.Errorf("it was %+v and is %+v", before, after)
					}
				}
				w.now = w.now.Add(time.Hour)
				w.deliver()
				w.expectShut()
			})
		}
	}
}

// TestTamperingWithoutTheRecordStaysClosed: while the record cannot be read, a
// rule whose description was tampered with counts as expired.
func TestTamperingWithoutTheRecordStaysClosed(t *testing.T) {
	for name, edit := range map[string]func(string) string{
		"far ahead":  func(s string) string { return strings.Replace(s, "2026", "2099", 1) },
		"unreadable": func(string) string { return "do not touch" },
		"past":       func(s string) string { return strings.Replace(s, "2026", "2025", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.submit(ask("1", alice, time.Hour))
			w.deliver()
			for _, id := range []access.ResourceID{onWeb, onNIC} {
				w.azure.Edit(id, func(g *nsg.Group) {
					g.Rules = slices.Clone(g.Rules)
					for i, r := range g.Rules {
						if rules.Owns(r) {
							g.Rules[i].Description = edit(r.Description)
						}
					}
				})
			}
			w.store.Down = true
			if err := w.scanner.Scan(t.Context()); err == nil {
				t.Error("a scan that could not read the record succeeded")
			}
			w.expectShut()
		})
	}
}
