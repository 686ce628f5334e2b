package resourcemanager

import (
	"maps"
	"net/http"
)

// statsPath is where the counts are served; no token is needed.
const statsPath = "/_local/stats"

// Stats counts the requests since the start that were let in: with a good token,
// not throttled, not refused. The keys are resource types, such as
// "Microsoft.Network/networkSecurityGroups/securityRules".
type Stats struct {
	// Reads count whether or not there was anything to read, polls of operations
	// among them.
	Reads map[string]int `json:"reads"`
	// Writes and Deletes are those that began an operation: removing what is not
	// there is none.
	Writes  map[string]int `json:"writes"`
	Deletes map[string]int `json:"deletes"`
	// NSGWrites is how often a network security group was written in any way: its
	// own writes, and the writes and deletes of its rules.
	NSGWrites int `json:"nsgWrites"`
}

func newStats() Stats {
	return Stats{Reads: map[string]int{}, Writes: map[string]int{}, Deletes: map[string]int{}}
}

// Stats gives the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Reads, out.Writes, out.Deletes = maps.Clone(out.Reads), maps.Clone(out.Writes), maps.Clone(out.Deletes)
	return out
}

// count counts a write that began an operation on a network security group.
func (t *Stats) count(req request) {
	kinds := t.Writes
	if req.Method == http.MethodDelete {
		kinds = t.Deletes
	}
	kinds[req.kind]++
	t.NSGWrites++
}
