package resourcemanager

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// readOnly are the types of resource that can only be read.
var readOnly = []string{
	compute + "/virtualMachines",
	network + "/networkInterfaces",
	network + "/virtualNetworks",
	network + "/virtualNetworks/subnets",
	network + "/loadBalancers",
}

// kinds are all types that are imitated.
var kinds = append([]string{
	"Microsoft.Resources/subscriptions",
	"Microsoft.Resources/subscriptions/resourceGroups",
	network + "/locations/operations",
	network + "/locations/operationResults",
	groupType,
	groupType + "/securityRules",
	groupType + "/defaultSecurityRules",
}, readOnly...)

// spell gives the proper spelling of the path's type, if it is in the list.
func spell(p resourcePath, list []string) (string, bool) {
	i := slices.IndexFunc(list, func(t string) bool { return strings.EqualFold(t, p.resourceType()) })
	if i < 0 {
		return "", false
	}
	return list[i], true
}

// getScope answers for subscriptions and resource groups.
func (s *Server) getScope(req request) (reply, *armError) {
	t := s.cfg.Topology
	subscription := object{
		"id": "/subscriptions/" + t.Subscription, "subscriptionId": t.Subscription, "displayName": "local", "state": "Enabled",
	}
	group := object{
		"id": t.groupScope(), "name": t.ResourceGroup, "type": "Microsoft.Resources/resourceGroups", "location": t.Location,
		"properties": object{"provisioningState": "Succeeded"},
	}
	p := req.path
	switch {
	case req.Method == http.MethodHead && p.Group != "":
		return reply{status: http.StatusNoContent}, nil
	case req.Method != http.MethodGet:
		return reply{}, methodNotAllowed(req)
	case p.Subscription == "":
		return s.page(req, []object{subscription})
	case !p.Groups:
		return reply{status: http.StatusOK, body: subscription}, nil
	case p.Group == "":
		return s.page(req, []object{group})
	}
	return reply{status: http.StatusOK, body: group}, nil
}

// getResource answers for the types that can only be read.
func (s *Server) getResource(req request) (reply, *armError) {
	p := req.path
	if req.Method != http.MethodGet {
		return reply{}, methodNotAllowed(req)
	}
	if p.isItem() {
		if p.Group == "" {
			return reply{}, resourceNotFound(p)
		}
		if o, ok := s.resources[key(p.id())]; ok {
			return s.single(o), nil
		}
		return reply{}, s.missing(p)
	}
	if len(p.Types) > 1 && (p.Group == "" || s.resources[key(p.parent().id())] == nil) {
		return reply{}, resourceNotFound(p.parent())
	}
	var all []object
	for _, k := range slices.Sorted(maps.Keys(s.resources)) {
		o := s.resources[k]
		if o["type"] != req.kind || len(p.Types) > 1 && !strings.HasPrefix(k, key(p.id())+"/") {
			continue
		}
		o = s.render(o)
		if p.Group == "" && req.kind == compute+"/virtualMachines" {
			o["id"] = upperGroup(o["id"].(string))
		}
		all = append(all, o)
	}
	return s.page(req, all)
}

// upperGroup writes the resource group of an id in capitals, as Azure does in
// the list of a subscription's virtual machines: ids have no case.
func upperGroup(id string) string {
	p, ok := parsePath(id)
	if !ok {
		return id
	}
	p.Group = strings.ToUpper(p.Group)
	return p.id()
}

// missing says that there is no such resource: Resource Manager speaks for a top
// resource, the provider for a child of one that exists.
func (s *Server) missing(p resourcePath) *armError {
	if len(p.Types) == 1 {
		return resourceNotFound(p)
	}
	parent := p.parent()
	if k := key(parent.id()); s.resources[k] == nil && s.groups[k] == nil {
		return resourceNotFound(parent)
	}
	return childNotFound(p.id())
}

func (s *Server) single(o object) reply {
	o = s.render(o)
	out := reply{status: http.StatusOK, body: o}
	if etag, ok := o["etag"].(string); ok {
		out.header = http.Header{"Etag": {etag}}
	}
	return out
}

// render copies a stored resource's outer object; a virtual network shows its
// subnets as they are now.
func (s *Server) render(o object) object {
	o = maps.Clone(o)
	if o["type"] != network+"/virtualNetworks" {
		return o
	}
	prefix := key(o["id"].(string)) + "/subnets/"
	subnets := []object{}
	for _, k := range slices.Sorted(maps.Keys(s.resources)) {
		if strings.HasPrefix(k, prefix) {
			subnets = append(subnets, s.resources[k])
		}
	}
	properties, _ := o["properties"].(object)
	properties = maps.Clone(properties)
	properties["subnets"] = subnets
	o["properties"] = properties
	return o
}

// page answers one page of a list. The token is opaque to clients; it holds how
// many items went before.
func (s *Server) page(req request, all []object) (reply, *armError) {
	from := 0
	if token := req.URL.Query().Get("$skipToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			from, err = strconv.Atoi(string(raw))
		}
		if err != nil || from < 0 {
			return reply{}, badRequest("InvalidSkipToken", "The value of $skipToken is invalid.")
		}
		from = min(from, len(all)) // the list may have shrunk meanwhile
	}
	to := min(from+s.cfg.PageSize, len(all))
	body := object{"value": append([]object{}, all[from:to]...)}
	if to < len(all) {
		query := url.Values{
			"api-version": {req.version},
			"$skipToken":  {base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(to)))},
		}
		body["nextLink"] = s.cfg.BaseURL + req.path.escaped() + "?" + query.Encode()
	}
	return reply{status: http.StatusOK, body: body}, nil
}
