package access

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ResourceID is an Azure resource id in its one canonical form: lower case,
// one leading slash, none trailing. Resource Manager compares ids without
// regard to case, so two ids name the same resource exactly when they are
// equal as ResourceIDs. The zero value names nothing.
type ResourceID string

// The resource types Portcullis deals with.
const (
	TypeVirtualMachine = "microsoft.compute/virtualmachines"
	TypeNIC            = "microsoft.network/networkinterfaces"
	TypeSubnet         = "microsoft.network/virtualnetworks/subnets"
	TypeVNet           = "microsoft.network/virtualnetworks"
	TypeNSG            = "microsoft.network/networksecuritygroups"
)

// maxResourceID bounds an id's length. Azure's own longest are far shorter.
const maxResourceID = 1024

var (
	subscriptionPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	typePattern         = regexp.MustCompile(`^[a-z0-9.]+$`)
)

const (
	maxGroupName = 90
	maxName      = 80
	maxType      = 80

	// What a name may hold besides letters and numbers.
	alsoInGroups = "_().-"
	alsoInNames  = "_.-"
)

// named says whether a segment is a name of at most so many characters. A resource
// group may hold letters of any script, in one case or none; what must never pass is
// anything that could change the path or the meaning of a URL or of a table key. The
// classes of these letters are large: a pattern of them would cost every start.
func named(s, also string, most int) bool {
	return s != "" && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune(also, r)
	})
}

// typed says whether a segment is a namespace or a type.
func typed(s string) bool { return len(s) <= maxType && typePattern.MatchString(s) }

// ParseResourceID reads the id of a resource, a resource group or a
// subscription and puts it into canonical form. Empty segments, percent
// signs, dot segments, queries and unknown shapes are refused: an id that two
// readers could understand differently is no id.
func ParseResourceID(s string) (ResourceID, error) {
	if s == "" {
		return "", Errorf(InvalidArgument, "resource_id_missing", "a resource id is missing")
	}
	bad := func(why string) (ResourceID, error) {
		return "", Errorf(InvalidArgument, "resource_id_invalid", "%s is not a resource id: %s", quote(s), why)
	}
	if len(s) > maxResourceID {
		return bad("it is too long")
	}
	if !strings.HasPrefix(s, "/") {
		return bad("it must begin with /subscriptions/")
	}
	if strings.ContainsFunc(s, disguised) {
		return bad("it has a character that only looks like a letter of ASCII in lower case")
	}
	seg := strings.Split(strings.ToLower(s[1:]), "/")
	if len(seg) < 2 || seg[0] != "subscriptions" || !subscriptionPattern.MatchString(seg[1]) {
		return bad("it must begin with /subscriptions/ and the subscription's GUID")
	}
	if len(seg) >= 3 {
		if seg[2] != "resourcegroups" || len(seg) < 4 || !named(seg[3], alsoInGroups, maxGroupName) || strings.HasSuffix(seg[3], ".") {
			return bad("after the subscription it must go on with /resourceGroups/ and a name")
		}
	}
	if len(seg) > 4 {
		if seg[4] != "providers" || len(seg) < 8 || len(seg)%2 != 0 {
			return bad("after the resource group it must go on with /providers/, a namespace, and pairs of type and name")
		}
		if !typed(seg[5]) {
			return bad("its namespace has characters that no namespace has")
		}
		for i := 6; i < len(seg); i += 2 {
			if !typed(seg[i]) || !named(seg[i+1], alsoInNames, maxName) || strings.HasSuffix(seg[i+1], ".") {
				return bad("a type or a name in it is empty, ends with a dot or has characters that none may have")
			}
		}
	}
	return ResourceID("/" + strings.Join(seg, "/")), nil
}

// disguised says whether a character becomes one of ASCII in lower case and is
// none: the Kelvin sign is a k to some readers, the dotted I an i, and neither
// to Resource Manager, which compares ordinally.
func disguised(r rune) bool { return r >= utf8.RuneSelf && unicode.ToLower(r) < utf8.RuneSelf }

// ParseVM reads the id of a virtual machine and of nothing else.
func ParseVM(s string) (ResourceID, error) {
	id, err := ParseResourceID(s)
	if err != nil {
		return "", err
	}
	if id.Type() != TypeVirtualMachine {
		return "", Errorf(InvalidArgument, "not_a_virtual_machine", "%s is not the id of a virtual machine (Microsoft.Compute/virtualMachines)", quote(s))
	}
	return id, nil
}

// ParseScope reads what a policy can apply to: a virtual machine, a resource
// group or a subscription.
func ParseScope(s string) (ResourceID, error) {
	id, err := ParseResourceID(s)
	if err != nil {
		return "", err
	}
	if t := id.Type(); t != "" && t != TypeVirtualMachine {
		return "", Errorf(InvalidArgument, "scope_invalid", "a policy's scope is a virtual machine, a resource group or a subscription; %s is none", quote(s))
	}
	return id, nil
}

func (id ResourceID) segments() []string {
	return strings.Split(strings.TrimPrefix(string(id), "/"), "/")
}

// Subscription is the subscription's GUID.
func (id ResourceID) Subscription() string {
	if seg := id.segments(); len(seg) > 1 {
		return seg[1]
	}
	return ""
}

// ResourceGroup is the resource group's name, in lower case; "" for a
// subscription.
func (id ResourceID) ResourceGroup() string {
	if seg := id.segments(); len(seg) > 3 {
		return seg[3]
	}
	return ""
}

// Type is the full resource type in lower case, such as
// "microsoft.network/virtualnetworks/subnets"; "" for a resource group or a
// subscription.
func (id ResourceID) Type() string {
	seg := id.segments()
	if len(seg) < 8 {
		return ""
	}
	t := seg[5]
	for i := 6; i < len(seg); i += 2 {
		t += "/" + seg[i]
	}
	return t
}

// Name is the last segment: the resource's own name, the resource group's, or
// the subscription's GUID.
func (id ResourceID) Name() string {
	seg := id.segments()
	return seg[len(seg)-1]
}

// Parent is the resource that holds this child (a subnet's virtual network),
// or the resource group of a top-level resource, or the subscription of a
// resource group; "" for a subscription.
func (id ResourceID) Parent() ResourceID {
	seg := id.segments()
	switch {
	case len(seg) > 8:
		seg = seg[:len(seg)-2]
	case len(seg) > 4:
		seg = seg[:4]
	case len(seg) > 2:
		seg = seg[:2]
	default:
		return ""
	}
	return ResourceID("/" + strings.Join(seg, "/"))
}

// Scopes lists the scopes at which a policy for the resource may stand, the
// nearest first: the resource itself, its resource group, its subscription.
func (id ResourceID) Scopes() []ResourceID {
	seg := id.segments()
	var out []ResourceID
	if len(seg) > 4 {
		out = append(out, id)
	}
	if len(seg) >= 4 {
		out = append(out, ResourceID("/"+strings.Join(seg[:4], "/")))
	}
	return append(out, ResourceID("/"+strings.Join(seg[:2], "/")))
}

// String gives the canonical form.
func (id ResourceID) String() string { return string(id) }
