package resourcemanager

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// groupCall answers GET and PUT of a whole group.
func (s *Server) groupCall(w http.ResponseWriter, r *http.Request, p path, body object, now time.Time) *failure {
	g := s.groups[p.id]
	switch r.Method {
	case http.MethodGet:
		if g == nil {
			return notFound(r.URL.Path)
		}
		w.Header().Set("ETag", g.etag)
		answer(w, http.StatusOK, s.body(g))
		return nil
	case http.MethodPut:
		return s.putGroup(w, r, p, g, body, now)
	}
	return &failure{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", message: "This is not imitated here."}
}

func (s *Server) putGroup(w http.ResponseWriter, r *http.Request, p path, g *group, body object, now time.Time) *failure {
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && (g == nil || match != g.etag) {
		return &failure{status: http.StatusPreconditionFailed, code: "PreconditionFailed", message: "Precondition failed."}
	}
	props, _ := body["properties"].(object)
	rules := []rule{}
	list, _ := props["securityRules"].([]any)
	for _, item := range list {
		o, ok := item.(object)
		if !ok {
			return badRequest("InvalidRequestFormat", "A security rule must be an object.")
		}
		one := readRule("", o)
		if f := checkRule(one); f != nil {
			return f
		}
		rules = append(rules, one)
	}
	if f := checkRules(rules); f != nil {
		return f
	}
	status := http.StatusOK
	if g == nil {
		location, _ := body["location"].(string)
		g = &group{id: r.URL.Path, name: p.seg[7], location: location, guid: uuid.NewString()}
		status = http.StatusCreated
	} else if f := s.compete(g); f != nil {
		return f
	}
	kept := maps.Clone(props)
	for _, computed := range []string{"securityRules", "defaultSecurityRules", "subnets", "networkInterfaces", "provisioningState", "resourceGuid", "flowLogs"} {
		delete(kept, computed)
	}
	if kept == nil {
		kept = object{}
	}
	g.rules, g.properties, g.tags = rules, kept, body["tags"]
	s.groups[p.id] = g
	s.begin(w, g, now, false)
	answer(w, status, s.body(g))
	return nil
}

// compete says what a write meets while another operation is under way.
func (s *Server) compete(g *group) *failure {
	if g.running == nil {
		return nil
	}
	if s.supersede {
		g.running.status, g.running.code = "Canceled", "CanceledAndSupersededDueToAnotherOperation"
		g.running = nil
		return nil
	}
	return &failure{status: http.StatusTooManyRequests, code: "RetryableErrorDueToAnotherOperation", retryAfter: "1",
		message: "Another operation on this or a dependent resource is in progress."}
}

// begin starts the long-running operation of an accepted write.
func (s *Server) begin(w http.ResponseWriter, g *group, now time.Time, located bool) {
	s.writes++
	op := &operation{id: uuid.NewString(), group: g, doneAt: now.Add(s.cfg.OperationLatency), status: "Succeeded"}
	s.operations[op.id] = op
	g.running, g.etag = op, newETag()
	base := s.cfg.BaseURL + "/subscriptions/" + s.cfg.Topology.Subscription + "/providers/Microsoft.Network/locations/" + g.location
	w.Header().Set("Azure-AsyncOperation", base+"/operations/"+op.id+"?api-version=2025-05-01")
	if located {
		w.Header().Set("Location", base+"/operationResults/"+op.id+"?api-version=2025-05-01")
	}
}

// ruleCall answers the calls on a group's rules.
func (s *Server) ruleCall(w http.ResponseWriter, r *http.Request, p path, body object, now time.Time) *failure {
	g := s.groups["/"+strings.ToLower(strings.Join(p.seg[:8], "/"))]
	if g == nil {
		return notFound(r.URL.Path)
	}
	kind := "securityRules"
	rules := g.rules
	if p.is(8, "defaultSecurityRules") {
		kind, rules = "defaultSecurityRules", defaultRules()
	} else if !p.is(8, kind) {
		return notFound(r.URL.Path)
	}
	if len(p.seg) == 9 {
		var all []any
		for _, one := range rules {
			all = append(all, g.render(one, kind))
		}
		return s.page(w, r, all)
	}
	i := g.rule(p.seg[9])
	switch {
	case kind != "securityRules" || len(p.seg) != 10:
		return notFound(r.URL.Path)
	case r.Method == http.MethodGet && i >= 0:
		w.Header().Set("ETag", g.etag)
		answer(w, http.StatusOK, g.render(g.rules[i], kind))
		return nil
	case r.Method == http.MethodGet:
		return notFound(r.URL.Path)
	case r.Method == http.MethodPut:
		return s.putRule(w, g, i, readRule(p.seg[9], body), now)
	case r.Method == http.MethodDelete && i < 0:
		answer(w, http.StatusNoContent, nil)
		return nil
	case r.Method == http.MethodDelete:
		if f := s.compete(g); f != nil {
			return f
		}
		g.rules = slices.Delete(slices.Clone(g.rules), i, i+1)
		s.begin(w, g, now, true)
		answer(w, http.StatusAccepted, nil)
		return nil
	}
	return &failure{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", message: "This is not imitated here."}
}

func (s *Server) putRule(w http.ResponseWriter, g *group, i int, one rule, now time.Time) *failure {
	if f := checkRule(one); f != nil {
		return f
	}
	rules, status := slices.Clone(g.rules), http.StatusOK
	if i >= 0 {
		rules[i] = one
	} else {
		rules, status = append(rules, one), http.StatusCreated
	}
	if f := checkRules(rules); f != nil {
		return f
	}
	if f := s.compete(g); f != nil {
		return f
	}
	g.rules = rules
	s.begin(w, g, now, false)
	answer(w, status, g.render(one, "securityRules"))
	return nil
}
