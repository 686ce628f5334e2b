package resourcemanager

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// object is a JSON object. Resources are kept as such, so that nothing that a
// client sent is lost.
type object = map[string]any

const (
	groupType = network + "/networkSecurityGroups"

	updating = "Updating"
	deleting = "Deleting"
)

// group is a network security group.
type group struct {
	id, name, location, guid, etag string
	// extra holds the members beside those that the server sets, such as tags.
	extra object
	// properties are those beside the rules and those that the server sets, such
	// as flushConnection.
	properties object
	rules      []rule
	// defaultState is the default rules' provisioning state, "" for Succeeded.
	defaultState string
	running      *operation
}

// rule is a security rule as the client sent it.
type rule struct {
	name       string
	extra      object
	properties object
	// state is the provisioning state, "" for Succeeded.
	state string
}

// computedGroup, computedProperties and computedRule are what a client may send
// back but only the server sets.
var (
	computedGroup      = []string{"id", "name", "type", "etag", "location", "properties"}
	computedProperties = []string{"securityRules", "defaultSecurityRules", "subnets", "networkInterfaces", "flowLogs", "provisioningState", "resourceGuid"}
	computedRule       = []string{"id", "name", "type", "etag", "properties"}
)

func newETag() string { return `W/"` + uuid.NewString() + `"` }

func (g *group) state() string {
	if g.running != nil {
		return updating
	}
	return "Succeeded"
}

// find is the index of the rule with the name, or -1.
func (g *group) find(name string) int {
	return slices.IndexFunc(g.rules, func(r rule) bool { return strings.EqualFold(r.name, name) })
}

// mark gives one rule a state. No other has one then: a superseded operation may
// have left its mark.
func (g *group) mark(i int, state string) {
	for j := range g.rules {
		g.rules[j].state = ""
	}
	g.rules[i].state = state
	g.defaultState = ""
}

// renderRule gives the rule as a child of its group. Its ETag is the group's.
// The plural fields are there even when empty, as Azure sends them.
func (g *group) renderRule(r rule, collection string) object {
	properties := maps.Clone(r.properties)
	for _, plural := range []string{"sourceAddressPrefixes", "sourcePortRanges", "destinationAddressPrefixes", "destinationPortRanges"} {
		if properties[plural] == nil {
			properties[plural] = []any{}
		}
	}
	properties["provisioningState"] = r.state
	if r.state == "" {
		properties["provisioningState"] = "Succeeded"
	}
	out := object{}
	maps.Copy(out, r.extra)
	out["id"] = g.id + "/" + collection + "/" + r.name
	out["name"] = r.name
	out["etag"] = g.etag
	out["type"] = groupType + "/" + collection
	out["properties"] = properties
	return out
}

func (g *group) renderRules() []object {
	out := make([]object, 0, len(g.rules))
	for _, r := range g.rules {
		out = append(out, g.renderRule(r, "securityRules"))
	}
	return out
}

func (g *group) renderDefaults() []object {
	out := make([]object, 0, len(defaultRules))
	for _, r := range defaultRules {
		r.state = g.defaultState
		out = append(out, g.renderRule(r, "defaultSecurityRules"))
	}
	return out
}

// renderGroup renders the group, with its default rules and what it is attached to.
func (s *Server) renderGroup(g *group) object {
	properties := maps.Clone(g.properties)
	properties["provisioningState"] = g.state()
	properties["resourceGuid"] = g.guid
	properties["securityRules"] = g.renderRules()
	properties["defaultSecurityRules"] = g.renderDefaults()
	for member, kind := range map[string]string{"subnets": network + "/virtualNetworks/subnets", "networkInterfaces": network + "/networkInterfaces"} {
		if refs := s.attached(g, kind); len(refs) > 0 {
			properties[member] = refs
		}
	}
	out := object{}
	maps.Copy(out, g.extra)
	out["id"] = g.id
	out["name"] = g.name
	out["type"] = groupType
	out["location"] = g.location
	out["etag"] = g.etag
	out["properties"] = properties
	return out
}

// attached lists the resources of the type that name the group as theirs.
func (s *Server) attached(g *group, kind string) []object {
	var refs []object
	for _, k := range slices.Sorted(maps.Keys(s.resources)) {
		o := s.resources[k]
		properties, _ := o["properties"].(object)
		ref, _ := properties["networkSecurityGroup"].(object)
		if id, _ := ref["id"].(string); o["type"] == kind && key(id) == key(g.id) {
			refs = append(refs, object{"id": o["id"]})
		}
	}
	return refs
}

// serveGroup answers for whole groups and lists of them.
func (s *Server) serveGroup(req request) (reply, *armError) {
	p := req.path
	if p.isCollection() {
		if req.Method != http.MethodGet {
			return reply{}, methodNotAllowed(req)
		}
		all := make([]object, 0, len(s.groups))
		for _, k := range slices.Sorted(maps.Keys(s.groups)) {
			all = append(all, s.renderGroup(s.groups[k]))
		}
		return s.page(req, all)
	}
	if p.Group == "" {
		return reply{}, resourceNotFound(p)
	}
	g := s.groups[key(p.id())]
	switch {
	case req.Method == http.MethodPut:
		return s.putGroup(req, g)
	case req.Method != http.MethodGet:
		return reply{}, methodNotAllowed(req)
	case g == nil:
		return reply{}, resourceNotFound(p)
	}
	return reply{status: http.StatusOK, header: http.Header{"Etag": {g.etag}}, body: s.renderGroup(g)}, nil
}

// defaultRules are in every group ("Network security groups", default security
// rules).
var defaultRules = []rule{
	defaultRule("AllowVnetInBound", "Allow inbound traffic from all VMs in VNET", 65000, "Allow", "Inbound", "VirtualNetwork", "VirtualNetwork"),
	defaultRule("AllowAzureLoadBalancerInBound", "Allow inbound traffic from azure load balancer", 65001, "Allow", "Inbound", "AzureLoadBalancer", "*"),
	defaultRule("DenyAllInBound", "Deny all inbound traffic", 65500, "Deny", "Inbound", "*", "*"),
	defaultRule("AllowVnetOutBound", "Allow outbound traffic from all VMs to all VMs in VNET", 65000, "Allow", "Outbound", "VirtualNetwork", "VirtualNetwork"),
	defaultRule("AllowInternetOutBound", "Allow outbound traffic from all VMs to Internet", 65001, "Allow", "Outbound", "*", "Internet"),
	defaultRule("DenyAllOutBound", "Deny all outbound traffic", 65500, "Deny", "Outbound", "*", "*"),
}

func defaultRule(name, description string, priority int, access, direction, source, destination string) rule {
	return rule{name: name, properties: object{
		"description": description, "protocol": "*", "access": access, "direction": direction,
		"priority":        json.Number(strconv.Itoa(priority)),
		"sourcePortRange": "*", "destinationPortRange": "*",
		"sourceAddressPrefix": source, "destinationAddressPrefix": destination,
	}}
}
