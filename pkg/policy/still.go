package policy

import (
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Still says what is wrong, under the policies, with a grant that was allowed
// before; nothing where it would be allowed again. It is judged as at the time
// from which its length counts, so that a grant does not become too long, or its
// end past, by the mere passing of time.
func Still(rec access.Record, g access.Grant, policies []AccessPolicy) []access.Violation {
	req := rec.Request
	from := rec.DecidedAt
	if req.StartTime.After(from) {
		from = req.StartTime
	}
	// The grant, not the words of the request: what was decided is what is judged.
	ask := access.PortRequest{VM: g.VM, Port: g.Port, Protocol: g.Protocol, Source: g.Source, EndTime: g.EndTime}
	for _, p := range rec.Request.Ports {
		if p.VM == g.VM && p.Port == g.Port && p.Source == g.Source {
			ask.Path = p.Path
		}
	}
	req.Ports = []access.PortRequest{ask}
	return Evaluate(req, policies, Limits{ShortestDuration: -time.Second}, from).Violations
}
