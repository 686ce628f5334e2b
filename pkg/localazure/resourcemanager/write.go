package resourcemanager

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// putGroup creates or replaces a whole group: what the body leaves out is gone.
func (s *Server) putGroup(req request, g *group) (reply, *armError) {
	p := req.path
	if err := checkName(p.Names[0]); err != nil {
		return reply{}, err
	}
	next, err := s.readGroup(req, g)
	if err != nil {
		return reply{}, err
	}
	if err := checkPreconditions(req, g); err != nil {
		return reply{}, err
	}
	status := http.StatusCreated
	if g != nil {
		if err := s.busy(g, req); err != nil {
			return reply{}, err
		}
		status = http.StatusOK
		g.extra, g.properties, g.rules = next.extra, next.properties, next.rules
	} else {
		g = next
		s.groups[key(g.id)] = g
	}
	for i := range g.rules {
		g.rules[i].state = updating
	}
	g.defaultState = updating
	header := s.begin(g, req, "PutNetworkSecurityGroupOperation", nil)
	return reply{status: status, header: header, body: s.renderGroup(g)}, nil
}

// readGroup reads and checks the body of a PUT of a group; g is the one there is.
func (s *Server) readGroup(req request, g *group) (*group, *armError) {
	location, err := text(req.object, "location")
	if err != nil {
		return nil, err
	}
	location = strings.ToLower(strings.ReplaceAll(location, " ", "")) // "West Europe" is westeurope
	switch {
	case location == "":
		return nil, badRequest("LocationRequired", "The location property is required for this definition.")
	case g != nil && location != g.location:
		return nil, newError(http.StatusConflict, "InvalidResourceLocation",
			"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.",
			g.name, g.location, s.cfg.Topology.ResourceGroup, location)
	case resourceName.FindString(location) == "":
		return nil, badRequest("LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type '%s'.", location, groupType)
	}
	properties, ok := req.object["properties"].(object)
	if !ok && req.object["properties"] != nil {
		return nil, unparsable("Error converting the value of 'properties' to an object.")
	}
	next := &group{
		id:       s.cfg.Topology.groupID(req.path.Names[0]),
		name:     req.path.Names[0],
		location: location,
		guid:     uuid.NewString(),
		extra:    without(req.object, computedGroup), properties: without(properties, computedProperties),
	}
	if next.rules, err = readRules(next.id, properties["securityRules"]); err != nil {
		return nil, err
	}
	return next, checkRules(next.id, next.rules)
}

func readRules(groupID string, value any) ([]rule, *armError) {
	list, ok := value.([]any)
	if !ok && value != nil {
		return nil, unparsable("Error converting the value of 'securityRules' to a list.")
	}
	rules := make([]rule, 0, len(list))
	for _, item := range list {
		o, ok := item.(object)
		if !ok {
			return nil, unparsable("An element of 'securityRules' is no object.")
		}
		name, err := text(o, "name")
		if err != nil {
			return nil, err
		}
		r, err := readRule(name, o)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(rules, func(other rule) bool { return strings.EqualFold(other.name, name) }) {
			return nil, duplicate(groupID, name)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func readRule(name string, o object) (rule, *armError) {
	if err := checkName(name); err != nil {
		return rule{}, err
	}
	properties, ok := o["properties"].(object)
	if !ok {
		return rule{}, unparsable("Security rule %s has no properties.", name)
	}
	return rule{
		name:       name,
		extra:      without(o, computedRule),
		properties: without(properties, []string{"provisioningState"}),
	}, nil
}

// without copies an object, leaving out the members named and those that are null.
func without(o object, members []string) object {
	out := make(object, len(o))
	for k, v := range o {
		if v != nil && !slices.Contains(members, k) {
			out[k] = v
		}
	}
	return out
}

// checkRules checks each rule of a group and all of them together.
func checkRules(groupID string, rules []rule) *armError {
	if len(rules) > maxRulesPerGroup {
		return badRequest("SecurityRuleCountLimitReached", "A security group cannot have more than %d security rules.", maxRulesPerGroup)
	}
	type place struct {
		inbound  bool
		priority int
	}
	taken := map[place]string{}
	sources, destinations := 0, 0
	for _, r := range rules {
		facts, err := checkRule(groupID+"/securityRules/"+r.name, r.properties)
		if err != nil {
			return err
		}
		at := place{facts.inbound, facts.priority}
		if other, ok := taken[at]; ok {
			return badRequest("SecurityRuleConflict",
				"Security rule %s conflicts with rule %s. Rules cannot have the same Priority and Direction. To learn more, see aka.ms/nsgrules.", other, r.name)
		}
		taken[at] = r.name
		sources += facts.sources
		destinations += facts.destinations
	}
	if sources > maxPrefixesPerSide {
		return tooManyPrefixes(groupID, "Source", sources)
	}
	if destinations > maxPrefixesPerSide {
		return tooManyPrefixes(groupID, "Destination", destinations)
	}
	return nil
}

// tooManyPrefixes: kubernetes-sigs/cloud-provider-azure#2725.
func tooManyPrefixes(groupID, side string, n int) *armError {
	return badRequest("SecurityRuleAddressesOrPortsPerSecurityGroupLimitReached",
		"Network security group %s has %d %[3]sAddressPrefixes. A security group cannot have more than %[4]d %[3]sAddressPrefixes as per the limit MaxSecurityRuleAddressesOrPortsPerSecurityGroup.",
		groupID, n, side, maxPrefixesPerSide)
}

// checkPreconditions honours If-Match and If-None-Match of a whole group's PUT.
func checkPreconditions(req request, g *group) *armError {
	failed := func(header, given string) *armError {
		current := "none"
		if g != nil {
			current = g.etag
		}
		return preconditionFailed(req, header, given, current)
	}
	if given := req.Header.Get("If-Match"); given != "" && (g == nil || !matches(given, g.etag)) {
		return failed("if-match", given)
	}
	if given := req.Header.Get("If-None-Match"); given != "" && g != nil && matches(given, g.etag) {
		return failed("if-none-match", given)
	}
	return nil
}

// matches compares weakly (RFC 9110, section 8.8.3.2): network resources have
// weak tags alone.
func matches(header, etag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// serveRule answers for single rules and lists of them.
func (s *Server) serveRule(req request) (reply, *armError) {
	p := req.path
	var g *group
	if p.Group != "" {
		g = s.groups[key(p.parent().id())]
	}
	if g == nil {
		return reply{}, orphan(req)
	}
	if strings.EqualFold(p.Types[1], "defaultSecurityRules") {
		if req.Method != http.MethodGet {
			return reply{}, methodNotAllowed(req)
		}
		return s.ruleOf(req, g.etag, g.renderDefaults())
	}
	switch {
	case req.Method == http.MethodGet:
		return s.ruleOf(req, g.etag, g.renderRules())
	case p.isItem() && req.Method == http.MethodPut:
		return s.putRule(req, g)
	case p.isItem() && req.Method == http.MethodDelete:
		return s.deleteRule(req, g)
	}
	return reply{}, methodNotAllowed(req)
}

// orphan answers a call on a rule whose group is not there.
func orphan(req request) *armError {
	parent := req.path.parent()
	if req.Method == http.MethodPut {
		return newError(http.StatusNotFound, "ParentResourceNotFound",
			"Failed to perform 'write' on resource(s) of type '%s', because the parent resource '%s' could not be found.",
			strings.Join(req.path.Types, "/"), parent.id())
	}
	return resourceNotFound(parent)
}

// ruleOf answers a list of rules, or the one that the path names.
func (s *Server) ruleOf(req request, etag string, all []object) (reply, *armError) {
	if req.path.isCollection() {
		return s.page(req, all)
	}
	for _, r := range all {
		if strings.EqualFold(r["name"].(string), req.path.Names[1]) {
			return reply{status: http.StatusOK, header: http.Header{"Etag": {etag}}, body: r}, nil
		}
	}
	return reply{}, childNotFound(req.path.id())
}

// putRule creates or replaces one rule. If-Match is not looked at: that Azure
// honours it on a rule is not on record, and nobody should come to rely on it.
func (s *Server) putRule(req request, g *group) (reply, *armError) {
	r, err := readRule(req.path.Names[1], req.object)
	if err != nil {
		return reply{}, err
	}
	rules, status, i := slices.Clone(g.rules), http.StatusOK, g.find(r.name)
	if i < 0 {
		rules, status, i = append(rules, rule{name: r.name}), http.StatusCreated, len(rules)
	}
	r.name = rules[i].name // a name keeps the case that it was created with
	rules[i] = r
	if err := checkRules(g.id, rules); err != nil {
		return reply{}, err
	}
	if err := s.busy(g, req); err != nil {
		return reply{}, err
	}
	g.rules = rules
	g.mark(i, updating)
	header := s.begin(g, req, "PutSecurityRuleOperation", nil)
	return reply{status: status, header: header, body: g.renderRule(g.rules[i], "securityRules")}, nil
}

// deleteRule starts the removal of one rule, which is in force until the
// operation has ended.
func (s *Server) deleteRule(req request, g *group) (reply, *armError) {
	i := g.find(req.path.Names[1])
	if i < 0 {
		return reply{status: http.StatusNoContent}, nil
	}
	if err := s.busy(g, req); err != nil {
		return reply{}, err
	}
	name := g.rules[i].name
	g.mark(i, deleting)
	header := s.begin(g, req, "DeleteSecurityRuleOperation", func() {
		if i := g.find(name); i >= 0 {
			g.rules = slices.Delete(g.rules, i, i+1)
		}
	})
	return reply{status: http.StatusAccepted, header: header}, nil
}
