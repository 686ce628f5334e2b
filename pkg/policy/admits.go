package policy

import "github.com/portcullis-access/portcullis/pkg/access"

// Admits says whether the requestor is among those who may ask under the policy.
// A disabled one admits nobody.
func (p AccessPolicy) Admits(r access.Requestor) bool { return !p.Disabled && p.admits(r) }
