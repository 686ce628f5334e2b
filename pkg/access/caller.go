package access

import "slices"

// Role is an app role of Entra, as a token's claim "roles" names it.
type Role string

// The roles. Without any, a caller may learn who they are and nothing else.
const (
	// RoleRequest may ask for access for themselves, and see, extend and give back
	// what they asked for.
	RoleRequest Role = "Access.Request"
	// RoleRequestForOthers may name somebody else as the requestor.
	RoleRequestForOthers Role = "Access.RequestForOthers"
	// RoleReadAll sees every request, machine, policy and event.
	RoleReadAll Role = "Access.ReadAll"
	// RoleAdminister changes policies, revokes anybody's grants and locks down. It
	// sees all that RoleReadAll does, and does not ask for access by itself.
	RoleAdminister Role = "Portcullis.Administer"
)

// Caller is who a verified token names.
type Caller struct {
	Name     string // the user principal name; the object id where there is none
	ObjectID string
	TenantID string
	Roles    []Role
}

// Has says whether the caller has the role, by itself or by one that includes it.
func (c Caller) Has(r Role) bool {
	return slices.Contains(c.Roles, r) || r == RoleReadAll && slices.Contains(c.Roles, RoleAdminister)
}

// Need gives permission_denied, role_required, unless the caller has one of the
// roles.
func (c Caller) Need(roles ...Role) error {
	if slices.ContainsFunc(roles, c.Has) {
		return nil
	}
	return Errorf(PermissionDenied, "role_required", "this takes the app role %s: ask an administrator of Portcullis for it", roles[0])
}

// Principal is the caller's key: it never changes, unlike a name.
func (c Caller) Principal() string { return c.TenantID + "/" + c.ObjectID }

// Sender is the caller as one who hands requests in by HTTP.
func (c Caller) Sender() Sender {
	return Sender{Channel: ChannelHTTP, Principal: c.Principal(), Name: c.Name}
}

// Requestor is the caller as one who asks for access.
func (c Caller) Requestor() Requestor { return Requestor{Name: c.Name, ObjectID: c.ObjectID} }
