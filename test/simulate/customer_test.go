package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// edit has the customer write an NSG. Of an operation that is under way it takes
// the place.
func (w *world) edit(id access.ResourceID, what string, change func(*nsg.Group)) {
	if w.gone[id] {
		return
	}
	if op := w.cloud.life[id].under; op != nil {
		w.met["operations superseded"]++
		w.cloud.settle(id, op, op.lands, access.Errorf(access.Aborted, "superseded", "another operation took its place: it may have landed"))
	}
	before := w.azure.Look(id).Rules
	w.azure.Edit(id, change)
	if w.story != nil {
		w.say("the customer %s on %s: %s", what, id.Name(), difference(before, w.azure.Look(id).Rules))
	}
	w.judge.edited(id)
}

func (w *world) customerEdits(id access.ResourceID) {
	w.edit(id, "changes a rule of their own", func(g *nsg.Group) {
		i := slices.IndexFunc(g.Rules, func(r nsg.Rule) bool { return r.Name == "web" })
		w.unique++
		g.Rules[i].Description = fmt.Sprint("edit ", w.unique)
	})
}

// customerTampers changes one of our rules.
func (w *world) customerTampers(id access.ResourceID) {
	ours := slices.DeleteFunc(slices.Clone(w.azure.Look(id).Rules), func(r nsg.Rule) bool { return !settings.Owns(r) })
	if len(ours) == 0 {
		return
	}
	name, how := pick(w.schedule, ours).Name, w.rng.IntN(6)
	w.edit(id, "tampers", func(g *nsg.Group) {
		i := slices.IndexFunc(g.Rules, func(r nsg.Rule) bool { return r.Name == name })
		if i < 0 {
			return // gone with the operation that this one took the place of
		}
		r := &g.Rules[i]
		switch how {
		case 0:
			g.Rules = slices.Delete(g.Rules, i, i+1)
		case 1:
			if r.Access == nsg.Allow {
				r.Sources = []string{"*"}
			}
		case 2:
			r.Description = "hands off"
		case 3:
			if n := w.free(*g, 2000); n > 0 {
				r.Priority = n
			}
		case 4:
			r.Access = nsg.Deny
		case 5: // an infrastructure redeploy
			g.Rules = slices.DeleteFunc(g.Rules, settings.Owns)
		}
	})
}

// putsBack has the customer deploy, right after a write of ours, what they had taken
// down before it: what it has removed is there again.
func (w *world) putsBack(id access.ResourceID, before, after []nsg.Rule) {
	var gone []nsg.Rule
	for _, r := range before {
		if settings.Owns(r) && r.Access == nsg.Allow && !slices.ContainsFunc(after, func(n nsg.Rule) bool { return n.Name == r.Name || n.Priority == r.Priority }) {
			gone = append(gone, r)
		}
	}
	if len(gone) == 0 || !w.chance(w.knobs.putBack) {
		return
	}
	w.met["rules put back"]++
	w.in(w.between(0, 30*time.Millisecond), func() {
		w.edit(id, "puts back", func(g *nsg.Group) {
			for _, r := range gone {
				if !slices.ContainsFunc(g.Rules, func(n nsg.Rule) bool { return n.Name == r.Name || n.Priority == r.Priority }) {
					g.Rules = append(g.Rules, r)
				}
			}
		})
	})
}

func (w *world) free(g nsg.Group, from int) int {
	for n := from; n < from+50; n++ {
		if !slices.ContainsFunc(g.Rules, func(r nsg.Rule) bool { return r.Priority == n }) {
			return n
		}
	}
	return 0
}

// customerShadows puts a rule before ours for a while.
func (w *world) customerShadows(id access.ResourceID) {
	w.unique++
	name := fmt.Sprint("shadow-", w.unique)
	r := nsg.Rule{
		Name: name, Direction: nsg.Inbound, Access: nsg.Deny, Protocol: "*", Sources: []string{pick(w.schedule, []string{"*", "203.0.113.8"})}, SourcePorts: []string{"*"},
		Destinations: []string{"*"}, DestinationPorts: []string{pick(w.schedule, []string{"22", "3389"})},
	}
	if w.chance(0.3) {
		r.Access = nsg.Allow
	}
	low := pick(w.schedule, []int{100, 104, 130})
	w.edit(id, "shadows", func(g *nsg.Group) {
		if r.Priority = w.free(*g, low); r.Priority > 0 {
			g.Rules = append(g.Rules, r)
		}
	})
	w.in(w.between(time.Minute, 40*time.Minute), func() { w.unshadow(id) })
}

func (w *world) unshadow(id access.ResourceID) {
	w.edit(id, "takes rules back", func(g *nsg.Group) {
		g.Rules = slices.DeleteFunc(g.Rules, func(r nsg.Rule) bool { return strings.HasPrefix(r.Name, "shadow-") })
	})
}

// lossy puts something into an NSG for a while that this version would lose if it
// wrote the whole of it.
func (w *world) lossy(id access.ResourceID) {
	w.met["groups that would lose something"]++
	w.edit(id, "puts in something new", func(g *nsg.Group) { g.Loss = "properties.novelty" })
	w.in(w.between(time.Minute, 30*time.Minute), func() { w.lossless(id) })
}

func (w *world) lossless(id access.ResourceID) {
	w.edit(id, "takes out what was new", func(g *nsg.Group) { g.Loss = "" })
}

// renew deletes an NSG, with all that is under way on it, and makes it anew.
func (w *world) renew(id access.ResourceID) {
	if w.gone[id] {
		return
	}
	w.met["groups made anew"]++
	w.say("%s is deleted", id.Name())
	w.gone[id] = true
	if op := w.cloud.life[id].under; op != nil {
		w.cloud.settle(id, op, false, nil)
	}
	w.azure.Remove(id)
	w.attach()
	w.turned()
	w.judge.removed(id)
	w.in(w.between(time.Second, pick(w.schedule, []time.Duration{10 * time.Second, 2 * time.Minute, 20 * time.Minute, 3 * time.Hour})), func() { w.restore(id) })
}

func (w *world) restore(id access.ResourceID) {
	if !w.gone[id] {
		return
	}
	delete(w.gone, id)
	w.azure.Edit(id, func(g *nsg.Group) { g.Rules = customers() })
	w.attach()
	w.turned()
	w.say("%s is made anew", id.Name())
	w.judge.edited(id)
}

func (w *world) lock(id access.ResourceID) {
	w.met["locks"]++
	l, long := w.cloud.life[id], w.between(time.Minute, 20*time.Minute)
	if w.chance(0.7) {
		l.locked = true
		w.say("a CanNotDelete lock is put on %s for %s", id.Name(), long.Round(time.Second))
	} else {
		l.readOnly = true
		w.say("a ReadOnly lock is put on %s for %s", id.Name(), long.Round(time.Second))
		w.disturbNSG(id, long)
	}
	w.in(long, func() { *l = life{under: l.under, throttledUntil: l.throttledUntil} })
}

// machineChanges deletes a machine and makes it anew, with another address or
// with that of another, which gets its own in turn.
func (w *world) machineChanges() {
	vm := pick(w.schedule, machines[:w.knobs.narrow])
	address := func(vm access.ResourceID) string { return w.azure.Machines[vm].NICs[0].Addresses[0].IP.String() }
	for _, a := range places[vm].addresses {
		other := slices.IndexFunc(machines, func(o access.ResourceID) bool { return o != vm && address(o) == a })
		switch {
		case a == address(vm):
		case other < 0 && w.chance(0.7):
			w.met["machines made anew"]++
			w.say("%s is made anew at %s", vm.Name(), a)
			w.placeMachine(vm, a)
			w.turned()
			return
		case other >= 0 && w.chance(0.5):
			w.met["addresses handed over"]++
			w.say("%s is made anew at %s, and %s at %s", vm.Name(), a, machines[other].Name(), address(vm))
			mine := address(vm)
			w.placeMachine(vm, a)
			w.placeMachine(machines[other], mine)
			w.turned()
			return
		}
	}
}

// machineRetagged takes from a machine the tag that a condition asks for, or gives it
// back, which it gets soon in any case.
func (w *world) machineRetagged(vm access.ResourceID) {
	m := w.azure.Machines[vm]
	to := "open"
	if m.Tags["door"] == to {
		to = "shut"
		w.in(w.between(time.Second, 5*time.Minute), func() {
			if w.azure.Machines[vm].Tags["door"] != "open" {
				w.machineRetagged(vm)
			}
		})
	}
	w.met["machines tagged"]++
	w.say("the tag of %s is %s now", vm.Name(), to)
	m.Tags = map[string]string{"door": to}
	w.azure.Machines[vm] = m
	w.turned()
}
