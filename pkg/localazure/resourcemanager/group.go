package resourcemanager

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
)

// object is a JSON object. Resources are kept as such, so that nothing that a
// client sent is lost.
type object = map[string]any

type group struct {
	id, name, location, guid, etag string
	tags                           any
	// properties are those that Resource Manager keeps but this package does not
	// know, such as flushConnection.
	properties object
	rules      []rule
	running    *operation
}

type operation struct {
	id     string
	group  *group
	doneAt time.Time
	// status is what a poll answers once doneAt is reached.
	status, code string
}

func newETag() string { return `W/"` + uuid.NewString() + `"` }

// settle ends the group's operation when its time has come. The ETag changes
// twice in an operation: when it begins and when it ends.
func (g *group) settle(now time.Time) {
	if g.running != nil && !now.Before(g.running.doneAt) {
		g.running = nil
		g.etag = newETag()
	}
}

func (g *group) state() string {
	if g.running != nil {
		return "Updating"
	}
	return "Succeeded"
}

func (g *group) rule(name string) int {
	for i, r := range g.rules {
		if strings.EqualFold(r.name, name) {
			return i
		}
	}
	return -1
}

// render gives the rule as a child of its group; its ETag is the group's.
func (g *group) render(r rule, kind string) object {
	p := maps.Clone(r.properties)
	p["provisioningState"] = g.state()
	return object{"name": r.name, "id": g.id + "/" + kind + "/" + r.name, "etag": g.etag,
		"type": "Microsoft.Network/networkSecurityGroups/" + kind, "properties": p}
}

// body renders the group, with its default rules and what it is attached to.
func (s *Server) body(g *group) object {
	p := maps.Clone(g.properties)
	p["provisioningState"], p["resourceGuid"] = g.state(), g.guid
	rules := []any{}
	for _, r := range g.rules {
		rules = append(rules, g.render(r, "securityRules"))
	}
	defaults := []any{}
	for _, r := range defaultRules() {
		defaults = append(defaults, g.render(r, "defaultSecurityRules"))
	}
	p["securityRules"], p["defaultSecurityRules"] = rules, defaults
	for key, kind := range map[string]string{"subnets": "Microsoft.Network/virtualNetworks/subnets", "networkInterfaces": "Microsoft.Network/networkInterfaces"} {
		if refs := s.attached(g, kind); len(refs) > 0 {
			p[key] = refs
		}
	}
	out := object{"name": g.name, "id": g.id, "etag": g.etag, "type": "Microsoft.Network/networkSecurityGroups", "location": g.location, "properties": p}
	if g.tags != nil {
		out["tags"] = g.tags
	}
	return out
}

func (s *Server) attached(g *group, kind string) (refs []any) {
	for _, id := range s.order {
		r := s.resources[id]
		if r["type"] != kind {
			continue
		}
		p, _ := r["properties"].(object)
		if ref, ok := p["networkSecurityGroup"].(object); ok && strings.EqualFold(ref["id"].(string), g.id) {
			refs = append(refs, object{"id": r["id"]})
		}
	}
	return refs
}

func defaultRules() []rule {
	mk := func(name, description string, priority int, access, direction, source, destination string) rule {
		return rule{name, object{
			"description": description, "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*",
			"sourceAddressPrefix": source, "destinationAddressPrefix": destination, "access": access,
			"priority": float64(priority), "direction": direction,
		}}
	}
	return []rule{
		mk("AllowVnetInBound", "Allow inbound traffic from all VMs in VNET", 65000, "Allow", "Inbound", "VirtualNetwork", "VirtualNetwork"),
		mk("AllowAzureLoadBalancerInBound", "Allow inbound traffic from azure load balancer", 65001, "Allow", "Inbound", "AzureLoadBalancer", "*"),
		mk("DenyAllInBound", "Deny all inbound traffic", 65500, "Deny", "Inbound", "*", "*"),
		mk("AllowVnetOutBound", "Allow outbound traffic from all VMs to all VMs in VNET", 65000, "Allow", "Outbound", "VirtualNetwork", "VirtualNetwork"),
		mk("AllowInternetOutBound", "Allow outbound traffic from all VMs to Internet", 65001, "Allow", "Outbound", "*", "Internet"),
		mk("DenyAllOutBound", "Deny all outbound traffic", 65500, "Deny", "Outbound", "*", "*"),
	}
}

// readRule takes a rule out of a request's body; what only the server sets is
// left out.
func readRule(name string, body object) rule {
	if n, ok := body["name"].(string); ok && name == "" {
		name = n
	}
	p, _ := body["properties"].(object)
	p = maps.Clone(p)
	delete(p, "provisioningState")
	return rule{name, p}
}

// clone copies a JSON object deeply, so that no two resources share one.
func clone(o object) object {
	data, err := json.Marshal(o)
	if err != nil {
		return object{}
	}
	var out object
	if json.Unmarshal(data, &out) != nil {
		return object{}
	}
	return out
}
