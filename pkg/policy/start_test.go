package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// TestTimesCountFromTheStartOrFromTheFirstOfTheChain judges ends under a policy of
// three hours at most.
func TestTimesCountFromTheStartOrFromTheFirstOfTheChain(t *testing.T) {
	const machine = access.ResourceID("/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/p/providers/microsoft.compute/virtualmachines/a")
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	p := policy.AccessPolicy{Scope: machine, Requestors: []string{"*"}, Ports: []policy.Port{{
		Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: 3 * time.Hour,
	}}}
	limits := policy.Limits{ShortestDuration: time.Minute, LongestAhead: 24 * time.Hour}
	for name, c := range map[string]struct {
		start, since time.Duration // from now; 0 for none
		length, end  time.Duration // one of the two
		reason       string
		want         time.Duration
	}{
		"at once":                         {0, 0, 3 * time.Hour, 0, "", 3 * time.Hour},
		"later":                           {2 * time.Hour, 0, 3 * time.Hour, 0, "", 5 * time.Hour},
		"later, until":                    {2 * time.Hour, 0, 0, 5 * time.Hour, "", 5 * time.Hour},
		"later, for too long":             {2 * time.Hour, 0, 0, 5*time.Hour + time.Second, "duration_too_long", 0},
		"later, over before it begins":    {2 * time.Hour, 0, 0, 2 * time.Hour, "end_time_past", 0},
		"too far ahead":                   {24*time.Hour + time.Second, 0, time.Hour, 0, "start_time_too_far", 0},
		"in the past":                     {-time.Second, 0, time.Hour, 0, "start_time_past", 0},
		"extended within the longest":     {0, -2 * time.Hour, time.Hour, 0, "", time.Hour},
		"extended past the longest":       {0, -2 * time.Hour, time.Hour + time.Second, 0, "duration_too_long", 0},
		"extended past it, by an end":     {0, -2 * time.Hour, 0, time.Hour + time.Second, "duration_too_long", 0},
		"a first start that is to come":   {0, time.Hour, 3 * time.Hour, 0, "", 3 * time.Hour},
		"a first start beyond the policy": {0, -4 * time.Hour, time.Minute, 0, "duration_too_long", 0},
	} {
		ask := access.PortRequest{VM: machine, Port: 22, Source: netip.MustParsePrefix("203.0.113.7/32"), Duration: c.length}
		if c.end != 0 {
			ask.EndTime = now.Add(c.end)
		}
		if c.since != 0 {
			ask.Since = now.Add(c.since)
		}
		req := access.Request{Requestor: access.Requestor{Name: "a"}, Ports: []access.PortRequest{ask}}
		if c.start != 0 {
			req.StartTime = now.Add(c.start)
		}
		d := policy.Evaluate(t.Context(), req, []policy.AccessPolicy{p}, policy.Facts{}, limits, now)
		switch {
		case c.reason != "" && (len(d.Violations) != 1 || d.Violations[0].Reason != c.reason):
			t.Errorf("%s: %+v", name, d)
		case c.reason == "" && (!d.Allowed() || !d.Granted[0].EndTime.Equal(now.Add(c.want))):
			t.Errorf("%s: %+v", name, d)
		}
	}
}
