package nsg

import (
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

func restored(l access.Leg) access.Leg {
	l.State, l.Restored, l.OpenedAt = access.LegOpening, true, now
	return l
}

// TestARestoredLegKeepsAndNeverOpens: what stands for it stays where it is and is
// told to be let through; what does not stand does not come back, in whatever group.
func TestARestoredLegKeepsAndNeverOpens(t *testing.T) {
	a, b := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), leg("b", "web-2", "203.0.113.7", "10.0.1.5", 22)
	g, _ := opened(t, Group{}, a)
	for _, loss := range []string{"", "properties.flushConnection2"} {
		g.Loss = loss
		expect(t, prod.Plan(g, []access.Leg{restored(a), restored(b)}, now), "close b RemovedExternally", "open a")
		expect(t, prod.Plan(g, []access.Leg{restored(a)}, now.Add(15*time.Minute)), "close a NotOpenedInTime", "remove web-1")
		expect(t, prod.Plan(g, []access.Leg{restored(a)}, now.Add(time.Hour)), "close a Expired", "remove web-1")
	}
	// A deny before it does not end what was there, and moves nothing.
	g.Loss = ""
	g.Rules = append(slices.Clone(g.Rules), rule(t, "theirs", "Deny 150 * * → * *"))
	expect(t, prod.Plan(g, []access.Leg{restored(a)}, now), "open a")
	g.Loss = "properties.flushConnection2"
	expect(t, prod.Plan(g, []access.Leg{restored(a)}, now), "open a")
	// In a rule that somebody widened it keeps its own part.
	g.Loss = ""
	g.Rules = slices.Clone(g.Rules[:1])
	g.Rules[0].Sources = []string{"203.0.113.0/24"}
	expect(t, prod.Plan(g, []access.Leg{restored(a)}, now), "put 200 Tcp 203.0.113.7→10.0.1.4:22", "open a")
	// One that cannot be written goes as a whole there, with what it stood for.
	g.Loss = "properties.flushConnection2"
	expect(t, prod.Plan(g, []access.Leg{restored(a)}, now), "close a RemovedExternally", "remove web-1")
}

func TestLostAreThoseThatNoLegAccountsFor(t *testing.T) {
	a, b := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), until(leg("b", "web-2", "203.0.113.7", "10.0.1.5", 22), now.Add(10*time.Minute))
	c := leg("c", "web-1", "203.0.113.8", "10.0.1.4", 22) // shares the rule of a
	g, legs := opened(t, Group{}, a, b, c)
	g.Rules = append(slices.Clone(g.Rules), rule(t, "Portcullis-prod-web-8-22-tcp-abcdefghijklmnop", "Deny 250 Tcp 203.0.113.7 → 10.0.1.9 22"))
	for what, w := range map[string]struct {
		legs         []access.Leg
		at           time.Time
		rules, doors int
	}{
		"all are on record":                {legs, now, 0, 0},
		"none is":                          {nil, now, 2, 3},
		"one of two in a rule is":          {[]access.Leg{legs[0], legs[1]}, now, 1, 1},
		"one rule is over by its own word": {nil, now.Add(10 * time.Minute), 1, 2},
		"one is being closed":              {[]access.Leg{in(access.LegClosing, legs[0]), legs[1], legs[2]}, now, 0, 0},
	} {
		doors, lost := 0, prod.Lost(g, w.legs, w.at)
		for _, l := range lost {
			doors += l.Doors
		}
		if len(lost) != w.rules || doors != w.doors {
			t.Errorf("%s: %d rules with %d doors are lost, want %d with %d", what, len(lost), doors, w.rules, w.doors)
		}
	}
}

// TestKeepingLeavesRulesAlone: a kept rule is neither removed nor changed nor in the
// way of others, and nobody counts on it.
func TestKeepingLeavesRulesAlone(t *testing.T) {
	a, b := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), leg("b", "web-2", "203.0.113.7", "10.0.1.5", 22)
	g, _ := opened(t, Group{}, a)
	if r := prod.Residue(g, nil, now); len(r) != 1 {
		t.Fatalf("residue %v", r)
	}
	keeping := prod.Keeping(g.Rules)
	expect(t, keeping.Plan(g, nil, now))
	if r := keeping.Residue(g, nil, now); len(r) != 0 {
		t.Errorf("residue %v", r)
	}
	expect(t, keeping.Plan(g, []access.Leg{b}, now), "put 201 Tcp 203.0.113.7→10.0.1.5:22", "open b", "widens")
	// What is open and goes by it does not end.
	expect(t, keeping.Plan(g, []access.Leg{in(access.LegOpen, a), restored(a)}, now))
	// A leg of the same door behind a deny cannot open by what is kept before that.
	c := leg("c", "web-1", "203.0.113.7", "10.0.1.4", 22)
	g.Rules = append(slices.Clone(g.Rules), rule(t, "theirs", "Deny 201 * * → 10.0.1.4 22"))
	expect(t, keeping.Plan(g, []access.Leg{c}, now), "block c")
}

// TestKeepableIsOnlyWhatWeWrite: a rule under our name that lets through what we
// never would is not worth keeping.
func TestKeepableIsOnlyWhatWeWrite(t *testing.T) {
	g, _ := opened(t, Group{}, leg("a", "web-1", "203.0.113.0/24", "10.0.1.4", 22))
	if !prod.Keepable(g.Rules[0]) {
		t.Fatal("a rule of ours is not")
	}
	for name, change := range map[string]func(*Rule){
		"another installation": func(r *Rule) { r.Name = "Portcullis-test-web-1-22-tcp-abcdefghijklmnop" },
		"no name that we give": func(r *Rule) { r.Name = "Portcullis-prod-web-1" },
		"a deny":               func(r *Rule) { r.Access = Deny },
		"before the band":      func(r *Rule) { r.Priority = 199 },
		"behind the band":      func(r *Rule) { r.Priority = 300 },
		"everybody":            func(r *Rule) { r.Sources = []string{"*"} },
		"everybody, by number": func(r *Rule) { r.Sources = []string{"0.0.0.0/0"} },
		"a service tag":        func(r *Rule) { r.Sources = []string{"Internet"} },
		"nobody":               func(r *Rule) { r.Sources = nil },
		"an ASG":               func(r *Rule) { r.DestinationASGs = []string{"x"} },
		"a network":            func(r *Rule) { r.Destinations = []string{"10.0.0.0/8"} },
		"all ports":            func(r *Rule) { r.DestinationPorts = []string{"*"} },
		"a range of ports":     func(r *Rule) { r.DestinationPorts = []string{"22-23"} },
		"one source port":      func(r *Rule) { r.SourcePorts = []string{"22"} },
		"outbound":             func(r *Rule) { r.Direction = Outbound },
	} {
		r := g.Rules[0]
		if change(&r); prod.Keepable(r) {
			t.Errorf("%s may be kept: %+v", name, r)
		}
	}
}
