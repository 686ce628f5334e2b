package network

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// present leaves out of a list of Azure's what is null in it: it is nothing.
func present[T any](list []*T) []*T {
	return slices.DeleteFunc(slices.Clone(list), func(p *T) bool { return p == nil })
}

func groupOf(v *armnetwork.SecurityGroup) (nsg.Group, error) {
	id, err := access.ParseResourceID(value(v.ID))
	if err != nil || v.Properties == nil {
		return nsg.Group{}, access.Wrap(err, access.Unavailable, "azure_unreadable", "Azure answered a network security group that cannot be read")
	}
	// A rule that says nothing may let through anything.
	for _, r := range slices.Concat(v.Properties.SecurityRules, v.Properties.DefaultSecurityRules) {
		if value(r).Properties == nil || value(r.Name) == "" {
			return nsg.Group{}, unreadable(id)
		}
	}
	g := nsg.Group{ID: id, ETag: value(v.Etag), Body: v}
	switch value(v.Properties.ProvisioningState) {
	case armnetwork.ProvisioningStateUpdating, armnetwork.ProvisioningStateDeleting:
		g.Updating = true
	}
	for _, r := range v.Properties.SecurityRules {
		g.Rules = append(g.Rules, ruleOf(r))
	}
	for _, r := range v.Properties.DefaultSecurityRules {
		g.Defaults = append(g.Defaults, ruleOf(r))
	}
	for _, s := range present(v.Properties.Subnets) {
		if id, err := access.ParseResourceID(value(s.ID)); err == nil {
			g.Subnets = append(g.Subnets, id)
		}
	}
	for _, s := range present(v.Properties.NetworkInterfaces) {
		if id, err := access.ParseResourceID(value(s.ID)); err == nil {
			g.NICs = append(g.NICs, id)
		}
	}
	return g, nil
}

func ruleOf(r *armnetwork.SecurityRule) nsg.Rule {
	out := nsg.Rule{Name: value(r.Name)}
	p := r.Properties
	out.Description, out.Priority = value(p.Description), int(value(p.Priority))
	out.Direction, out.Access, out.Protocol = nsg.Direction(value(p.Direction)), nsg.Access(value(p.Access)), string(value(p.Protocol))
	out.Sources = list(p.SourceAddressPrefix, p.SourceAddressPrefixes)
	out.Destinations = list(p.DestinationAddressPrefix, p.DestinationAddressPrefixes)
	out.SourcePorts = list(p.SourcePortRange, p.SourcePortRanges)
	out.DestinationPorts = list(p.DestinationPortRange, p.DestinationPortRanges)
	for _, a := range present(p.SourceApplicationSecurityGroups) {
		out.SourceASGs = append(out.SourceASGs, value(a.ID))
	}
	for _, a := range present(p.DestinationApplicationSecurityGroups) {
		out.DestinationASGs = append(out.DestinationASGs, value(a.ID))
	}
	return out
}

func list(one *string, many []*string) (out []string) {
	if value(one) != "" {
		out = append(out, *one)
	}
	for _, m := range many {
		out = append(out, value(m))
	}
	return out
}

// ruleTo makes the SDK's rule. A dimension goes into its singular field or its
// plural one, never both: Resource Manager refuses that.
func ruleTo(r nsg.Rule) *armnetwork.SecurityRule {
	p := &armnetwork.SecurityRulePropertiesFormat{
		Description: to.Ptr(r.Description), Priority: to.Ptr(int32(r.Priority)),
		Direction: to.Ptr(armnetwork.SecurityRuleDirection(r.Direction)), Access: to.Ptr(armnetwork.SecurityRuleAccess(r.Access)),
		Protocol: to.Ptr(armnetwork.SecurityRuleProtocol(r.Protocol)),
	}
	p.SourceAddressPrefix, p.SourceAddressPrefixes = split(r.Sources)
	p.DestinationAddressPrefix, p.DestinationAddressPrefixes = split(r.Destinations)
	p.SourceApplicationSecurityGroups = asgs(r.SourceASGs)
	p.DestinationApplicationSecurityGroups = asgs(r.DestinationASGs)
	p.SourcePortRange, p.SourcePortRanges = split(r.SourcePorts)
	p.DestinationPortRange, p.DestinationPortRanges = split(r.DestinationPorts)
	return &armnetwork.SecurityRule{Name: to.Ptr(r.Name), Properties: p}
}

func split(values []string) (*string, []*string) {
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return to.Ptr(values[0]), nil
	}
	return nil, to.SliceOfPtrs(values...)
}

func asgs(ids []string) (out []*armnetwork.ApplicationSecurityGroup) {
	for _, id := range ids {
		out = append(out, &armnetwork.ApplicationSecurityGroup{ID: to.Ptr(id)})
	}
	return out
}

// lossOf compares what was read with what the SDK would send back, and names
// the first thing that would be lost: the SDK silently drops properties that
// its version does not know.
func lossOf(read []byte, decoded *armnetwork.SecurityGroup) (string, error) {
	again, err := json.Marshal(decoded)
	if err != nil {
		return "", err
	}
	var before, after any
	if err := json.Unmarshal(read, &before); err != nil {
		return "", err
	}
	if err := json.Unmarshal(again, &after); err != nil {
		return "", err
	}
	return missing("", before, after), nil
}

func missing(path string, before, after any) string {
	switch b := before.(type) {
	case map[string]any:
		a, _ := after.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(b)) {
			at := strings.TrimPrefix(path+"."+k, ".")
			if empty(b[k]) {
				continue
			}
			if _, ok := a[k]; !ok {
				return at
			}
			if m := missing(at, b[k], a[k]); m != "" {
				return m
			}
		}
	case []any:
		a, _ := after.([]any)
		if len(a) != len(b) {
			return path
		}
		for i := range b {
			if m := missing(path, b[i], a[i]); m != "" {
				return m
			}
		}
	default:
		if before != after {
			return path
		}
	}
	return ""
}

// empty says whether leaving a value out says the same.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
