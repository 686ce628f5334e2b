package config

import "strings"

// SecretPrefix begins the names of the settings that hold the secrets of ticketing
// sources. A source can name no other setting.
const SecretPrefix = "PORTCULLIS_SECRET_"

// keyVault begins what App Service leaves in a setting whose Key Vault reference it
// could not follow ("Use Key Vault references", App Service docs).
const keyVault = "@Microsoft.KeyVault("

// Secrets gives the secrets that sources name. They are looked up at each use, and
// kept nowhere.
type Secrets struct {
	lookup func(string) (string, bool)
}

// NewSecrets gives the secrets among the settings that lookup finds.
func NewSecrets(lookup func(string) (string, bool)) Secrets { return Secrets{lookup} }

// Values gives the values of the settings, in the order of their names; "" for one
// that is not set, or is no setting for a secret.
func (s Secrets) Values(names []string) []Secret {
	out := make([]Secret, len(names))
	for i, name := range names {
		if strings.HasPrefix(name, SecretPrefix) {
			v, _ := s.lookup(name)
			out[i] = Secret(v)
		}
	}
	return out
}

// State says of a setting whether it is "set", "missing", or "unresolved": a Key
// Vault reference that was not followed.
func (s Secrets) State(name string) string {
	switch v := s.Values([]string{name})[0]; {
	case v == "":
		return "missing"
	case strings.HasPrefix(string(v), keyVault):
		return "unresolved"
	}
	return "set"
}
