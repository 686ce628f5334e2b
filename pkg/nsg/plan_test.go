package nsg

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// leg is a TCP leg that is Opening and ends in an hour.
func leg(id, vm, source, dests string, port uint16) access.Leg {
	l := access.Leg{
		Request: access.RequestID(id), VM: vms + access.ResourceID(vm), Source: prefix(source), Port: port, Protocol: access.TCP,
		EndTime: now.Add(time.Hour), OpenBy: now.Add(15 * time.Minute), State: access.LegOpening,
	}
	for d := range strings.SplitSeq(dests, ",") {
		l.Destinations = append(l.Destinations, netip.MustParseAddr(d))
	}
	return l
}

func in(state access.LegState, l access.Leg) access.Leg {
	l.State = state
	return l
}

func until(l access.Leg, end time.Time) access.Leg {
	l.EndTime = end
	return l
}

// opened gives a group after the legs were opened, and the legs as Open.
func opened(t *testing.T, g Group, legs ...access.Leg) (Group, []access.Leg) {
	t.Helper()
	p := prod.Plan(g, legs, now)
	if len(p.Opening) != len(legs) {
		t.Fatalf("%d of %d legs open: %s", len(p.Opening), len(legs), told(p))
	}
	legs = slices.Clone(legs)
	for i := range legs {
		legs[i].State, legs[i].OpenedAt = access.LegOpen, now
	}
	return p.Apply(g), legs
}

// told is a plan in short.
func told(p Plan) string {
	var out []string
	for _, l := range p.Closing {
		out = append(out, fmt.Sprintf("close %s %s", l.Request, l.Reason))
	}
	for _, r := range p.Put {
		out = append(out, fmt.Sprintf("put %d %s %s→%s:%s", r.Priority, r.Protocol, strings.Join(r.Sources, ","), strings.Join(r.Destinations, ","), strings.Join(r.DestinationPorts, ",")))
	}
	for _, n := range p.Remove {
		out = append(out, "remove "+strings.Join(strings.Split(n, "-")[2:4], "-"))
	}
	for _, l := range p.Opening {
		out = append(out, fmt.Sprintf("open %s", l.Request))
	}
	for _, l := range p.Blocked {
		out = append(out, fmt.Sprintf("block %s", l.Request))
	}
	for _, r := range p.Orphans {
		out = append(out, "orphan "+strings.Join(strings.Split(r.Name, "-")[2:4], "-"))
	}
	if p.Widens() {
		out = append(out, "widens")
	}
	return strings.Join(out, "; ")
}

func expect(t *testing.T, p Plan, want ...string) {
	t.Helper()
	if got := told(p); got != strings.Join(want, "; ") {
		t.Errorf("\n got %s\nwant %s", got, strings.Join(want, "; "))
	}
}

func TestPlanOpens(t *testing.T) {
	a := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
	tests := []struct {
		name string
		legs []access.Leg
		want []string
	}{
		{"nothing", nil, nil},
		{"one", []access.Leg{a}, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22", "open a", "widens"}},
		{"two people on one port are one rule", []access.Leg{a, leg("b", "web-1", "198.51.100.0/24", "10.0.1.4", 22)},
			[]string{"put 200 Tcp 198.51.100.0/24,203.0.113.7→10.0.1.4:22", "open a", "open b", "widens"}},
		{"a source within another's is dropped", []access.Leg{a, leg("b", "web-1", "203.0.113.0/24", "10.0.1.4", 22)},
			[]string{"put 200 Tcp 203.0.113.0/24→10.0.1.4:22", "open a", "open b", "widens"}},
		{"all of a VM's addresses", []access.Leg{leg("a", "web-1", "203.0.113.7", "10.0.1.5,10.0.1.4,10.0.1.5", 22)},
			[]string{"put 200 Tcp 203.0.113.7→10.0.1.4,10.0.1.5:22", "open a", "widens"}},
		{"IPv6", []access.Leg{leg("a", "web-1", "2001:db8:9::/48", "2001:db8::4", 22)},
			[]string{"put 200 Tcp 2001:db8:9::/48→2001:db8::4:22", "open a", "widens"}},
		{"what is not open or opening adds nothing", []access.Leg{in(access.LegClosing, a), in(access.LegEnded, leg("b", "web-1", "198.51.100.1", "10.0.1.4", 22))}, nil},
		{"expired before it opened", []access.Leg{until(a, now)}, []string{"close a Expired"}},
		{"not recorded as opening", []access.Leg{in("", a)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := Group{Defaults: defaults(t)}
			p := prod.Plan(g, tt.legs, now)
			expect(t, p, tt.want...)
			for _, l := range p.Opening {
				if v := prod.Confirm(p.Apply(g), l); v.Outcome != OutcomeAllowed {
					t.Errorf("%s is not open after the plan: %s", l.Request, v)
				}
			}
		})
	}
}

func TestPlanProtocolsAndPortsAreDoorsOfTheirOwn(t *testing.T) {
	tcp, udp, both := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 53), leg("b", "web-1", "203.0.113.8", "10.0.1.4", 53), leg("c", "web-1", "203.0.113.9", "10.0.1.4", 53)
	udp.Protocol, both.Protocol = access.UDP, access.AnyProtocol
	other := leg("d", "web-1", "203.0.113.7", "10.0.1.4", 54)
	moved := leg("e", "web-1", "203.0.113.7", "10.0.1.9", 53) // the VM changed its address meanwhile
	g := prod.Plan(Group{}, []access.Leg{tcp, udp, both, other, moved}, now).Apply(Group{})
	var got []string
	for _, r := range g.Rules {
		got = append(got, fmt.Sprintf("%s%v%v%v", r.Protocol, r.Sources, r.Destinations, r.DestinationPorts))
	}
	slices.Sort(got)
	want := []string{
		"*[203.0.113.9][10.0.1.4][53]", "Tcp[203.0.113.7][10.0.1.4][53]", "Tcp[203.0.113.7][10.0.1.4][54]",
		"Tcp[203.0.113.7][10.0.1.9][53]", "Udp[203.0.113.8][10.0.1.4][53]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlanClosesOneOfTwo(t *testing.T) {
	g, legs := opened(t, Group{},
		until(leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), now.Add(10*time.Minute)), leg("b", "web-1", "203.0.113.0/24", "10.0.1.4", 22))
	if at, _ := prod.Deadline(g.Rules[0]); !at.Equal(now.Add(10 * time.Minute)) {
		t.Errorf("the rule states %s, not the earliest deadline", at)
	}

	t.Run("the narrow one ends", func(t *testing.T) {
		legs := []access.Leg{in(access.LegClosing, legs[0]), legs[1]}
		p := prod.Plan(g, legs, now)
		expect(t, p, "put 200 Tcp 203.0.113.0/24→10.0.1.4:22") // for the deadline it states
		if at, _ := prod.Deadline(p.Put[0]); !at.Equal(now.Add(time.Hour)) {
			t.Errorf("the rule now states %s", at)
		}
		// Covered still, and rightly so: for the other.
		if !prod.Covered(p.Apply(g), legs[0]) || len(prod.Residue(g, legs, now)) != 0 {
			t.Error("an ended leg within another's source is not a residue")
		}
	})
	t.Run("the wide one ends", func(t *testing.T) {
		legs := []access.Leg{legs[0], in(access.LegClosing, legs[1])}
		p := prod.Plan(g, legs, now)
		expect(t, p, "put 200 Tcp 203.0.113.7→10.0.1.4:22")
		if len(prod.Residue(g, legs, now)) != 1 || len(prod.Residue(p.Apply(g), legs, now)) != 0 {
			t.Error("the residue is what is there before, and not after")
		}
	})
	t.Run("both end by themselves", func(t *testing.T) {
		expect(t, prod.Plan(g, legs, now.Add(time.Hour)), "close a Expired", "close b Expired", "remove web-1")
	})
}

func TestPlanGivesUpWhatDidNotOpenInTime(t *testing.T) {
	l := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22)
	l.BlockedBy = "rule X"
	p := prod.Plan(Group{}, []access.Leg{l}, l.OpenBy)
	expect(t, p, "close a NotOpenedInTime")
	if c := p.Closing[0]; c.BlockedBy != "rule X" || !c.ClosingAt.Equal(l.OpenBy) || c.State != access.LegClosing {
		t.Errorf("closing is recorded as %+v", c)
	}
}

func TestPlanAfterSomebodyEditedOurRule(t *testing.T) {
	const removed = "remove web-1"
	tests := []struct {
		name string
		edit func(r *Rule)
		want []string
	}{
		{"not at all", func(r *Rule) {}, nil},
		{"another form of the same", func(r *Rule) { r.Protocol, r.Sources = "TCP", []string{"203.0.113.7/32"} }, nil},
		{"its description", func(r *Rule) { r.Description = "mine now" }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"its priority within the band", func(r *Rule) { r.Priority = 250 }, nil},
		{"moved behind the band", func(r *Rule) { r.Priority = 300 }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22", "widens"}},
		{"moved before the band", func(r *Rule) { r.Priority = 100 }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"one more source", func(r *Rule) { r.Sources = append(r.Sources, "198.51.100.1") }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"everybody", func(r *Rule) { r.Sources = []string{"*"} }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"everywhere", func(r *Rule) { r.Destinations = []string{"10.0.1.0/24"} }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"more ports", func(r *Rule) { r.DestinationPorts = []string{"20-25"} }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"any protocol", func(r *Rule) { r.Protocol = "*" }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"a group beside it", func(r *Rule) { r.SourceASGs = []string{"x"} }, []string{"put 200 Tcp 203.0.113.7→10.0.1.4:22"}},
		{"another source", func(r *Rule) { r.Sources = []string{"198.51.100.1"} }, []string{"close a RemovedExternally", removed}},
		{"another port", func(r *Rule) { r.DestinationPorts = []string{"80"} }, []string{"close a RemovedExternally", removed}},
		{"another destination", func(r *Rule) { r.Destinations = []string{"10.0.1.5"} }, []string{"close a RemovedExternally", removed}},
		{"some source ports only", func(r *Rule) { r.SourcePorts = []string{"1024-65535"} }, []string{"close a RemovedExternally", removed}},
		{"into a deny", func(r *Rule) { r.Access = Deny }, []string{"close a RemovedExternally", removed, "widens"}},
		{"into an outbound rule", func(r *Rule) { r.Direction = Outbound }, []string{"close a RemovedExternally"}},
		{"another name", func(r *Rule) { r.Name = "Mine" }, []string{"close a RemovedExternally"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, legs := opened(t, Group{}, leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22))
			tt.edit(&g.Rules[0])
			p := prod.Plan(g, legs, now)
			expect(t, p, tt.want...)
			if len(p.Closing) == 0 {
				if v := prod.Confirm(p.Apply(g), legs[0]); v.Outcome != OutcomeAllowed {
					t.Errorf("what is kept is not open: %s", v)
				}
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		_, legs := opened(t, Group{}, leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22))
		expect(t, prod.Plan(Group{}, legs, now), "close a RemovedExternally")
	})
	t.Run("removed while another asks for the same door", func(t *testing.T) {
		_, legs := opened(t, Group{}, leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22))
		legs = append(legs, leg("b", "web-1", "198.51.100.1", "10.0.1.4", 22))
		expect(t, prod.Plan(Group{}, legs, now), "close a RemovedExternally", "put 200 Tcp 198.51.100.1→10.0.1.4:22", "open b", "widens")
	})
}

func TestPlanRemovesOrphansAndNothingElse(t *testing.T) {
	customer := []Rule{
		rule(t, "Portcullis-test-web-1-22-tcp-x", "Allow 210 Tcp * → * 22"),
		rule(t, "PortcullisFake", "Allow 211 Tcp * → * 22"),
		rule(t, "Office", "Allow 400 Tcp 203.0.113.0/24,Internet → 10.0.1.4 22"),
	}
	out := rule(t, "Portcullis-prod-web-1-out", "Allow 200 Tcp * → * 22")
	out.Direction = Outbound
	baseline := rule(t, "Portcullis-prod-baseline", "Deny 3000 * * → 10.0.1.4 22,3389")
	customer = append(customer, out, baseline)
	orphan := rule(t, "Portcullis-prod-web-9", "Allow 200 Tcp 203.0.113.7 → 10.0.1.4 22")
	leftover := rule(t, "Portcullis-prod-web-8-22-tcp-abcdefghijklmnop", "Deny 201 Tcp 203.0.113.7 → 10.0.1.4 22")

	g := Group{Rules: append([]Rule{orphan, leftover}, customer...)}
	p := prod.Plan(g, nil, now)
	expect(t, p, "remove web-8", "remove web-9", "orphan web-8", "orphan web-9", "widens")
	if diff := cmp.Diff(customer, p.Apply(g).Rules); diff != "" {
		t.Errorf("what is not a grant of ours has changed: %s", diff)
	}
	if got := prod.Residue(g, nil, now); len(got) != 1 || got[0].Name != orphan.Name {
		t.Errorf("residue %v", got)
	}
	// A rule whose leg is on record, though ended, is no orphan.
	opened, legs := opened(t, Group{}, leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22))
	expect(t, prod.Plan(opened, []access.Leg{in(access.LegEnded, legs[0])}, now), "remove web-1")
}

func TestPlanWhereTheGroupCannotBeWritten(t *testing.T) {
	a := until(leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), now.Add(10*time.Minute))
	b, c := leg("b", "web-1", "198.51.100.1", "10.0.1.4", 22), leg("c", "web-2", "203.0.113.7", "10.0.1.5", 22)
	g, legs := opened(t, Group{}, a, b, c)
	g.Loss = "properties.flushConnection2"

	t.Run("nothing to do", func(t *testing.T) { expect(t, prod.Plan(g, legs, now)) })
	t.Run("nothing opens", func(t *testing.T) {
		p := prod.Plan(g, append(slices.Clone(legs), leg("d", "web-3", "203.0.113.7", "10.0.1.6", 22)), now)
		expect(t, p, "block d")
		if !strings.Contains(p.Blocked[0].BlockedBy, "flushConnection2") {
			t.Error(p.Blocked[0].BlockedBy)
		}
	})
	t.Run("what is there already may be confirmed", func(t *testing.T) {
		expect(t, prod.Plan(g, []access.Leg{legs[0], in(access.LegOpening, b), legs[2]}, now), "open b")
	})
	t.Run("closing one takes the whole rule", func(t *testing.T) {
		later := now.Add(10 * time.Minute)
		p := prod.Plan(g, legs, later)
		expect(t, p, "close a Expired", "close b RemovedExternally", "remove web-1")
		if got := prod.Residue(p.Apply(g), legs, later); len(got) != 0 {
			t.Errorf("residue %v", got)
		}
	})
	t.Run("too much goes, described well or not", func(t *testing.T) {
		g := g
		g.Rules = slices.Clone(g.Rules)
		g.Rules[0].Description, g.Rules[1].DestinationPorts = "mine", []string{"*"}
		p := prod.Plan(g, legs, now)
		if len(p.Put) != 0 || len(p.Remove) != 1 || p.Remove[0] != g.Rules[1].Name || p.Widens() {
			t.Error(told(p))
		}
	})
	t.Run("denies of ours stay", func(t *testing.T) {
		g := g
		g.Rules = append(slices.Clone(g.Rules), rule(t, "Portcullis-prod-web-8-22-tcp-abcdefghijklmnop", "Deny 250 Tcp 203.0.113.7 → 10.0.1.9 22"))
		expect(t, prod.Plan(g, legs, now))
	})
}

func TestApplyLeavesEverythingElse(t *testing.T) {
	g := Group{Rules: []Rule{rule(t, "B", "Deny 4000 * * → * *"), rule(t, "A", "Allow 110 Tcp Internet → 10.0.0.0/8 443")}, Defaults: defaults(t), ETag: "1", Loss: ""}
	before := slices.Clone(g.Rules)
	a, b := leg("a", "web-1", "203.0.113.7", "10.0.1.4", 22), leg("b", "web-1", "198.51.100.1", "10.0.1.4", 22)
	next := prod.Plan(g, []access.Leg{a}, now).Apply(g)
	if diff := cmp.Diff(before, g.Rules); diff != "" {
		t.Errorf("Apply changed the group it was given: %s", diff)
	}
	next.Rules = append(next.Rules, rule(t, "C", "Allow 120 Tcp * → 10.9.9.9 443"))
	p := prod.Plan(next, []access.Leg{a, b}, now)
	last := p.Apply(next)
	if diff := cmp.Diff(next.Rules, last.Rules, cmpopts.IgnoreFields(Rule{}, "Sources")); diff != "" {
		t.Errorf("more than the sources of our rule has changed: %s", diff)
	}
	if diff := cmp.Diff(before, last.Rules[:2]); diff != "" || len(last.Rules) != 4 {
		t.Errorf("the customer's rules have changed: %s", diff)
	}
}

func TestHandMadePlanIsTakenToWiden(t *testing.T) {
	if (Plan{}).Widens() || !(Plan{Put: []Rule{{}}}).Widens() || !(Plan{Remove: []string{"x"}}).Widens() {
		t.Error("a plan that was not planned may do anything")
	}
}

func TestConfirmTakesTheWorst(t *testing.T) {
	g := Group{Rules: []Rule{rule(t, "One", "Allow 100 Tcp * → 10.0.1.4,10.0.1.6 22"), rule(t, "Tag", "Allow 200 Tcp Internet → 10.0.1.5 22")}, Defaults: defaults(t)[2:]}
	for dests, want := range map[string]Outcome{
		"10.0.1.4": OutcomeAllowed, "10.0.1.4,10.0.1.6": OutcomeAllowed, "10.0.1.4,10.0.1.5": OutcomeUnknown,
		"10.0.1.5,10.0.1.4": OutcomeUnknown, "10.0.1.7,10.0.1.4": OutcomeDenied, "10.0.1.7,10.0.1.5": OutcomeDenied,
	} {
		if v := prod.Confirm(g, leg("a", "web-1", "203.0.113.7", dests, 22)); v.Outcome != want {
			t.Errorf("%s: %s", dests, v)
		}
	}
	if v := prod.Confirm(g, access.Leg{}); v.Outcome != OutcomeDenied {
		t.Errorf("a leg to nowhere: %s", v)
	}
}
