package tables

import (
	"encoding/xml"
	"net/http"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
)

// The XML of "Get Table ACL" and "Set Table ACL".
type signedIdentifiers struct {
	XMLName xml.Name           `xml:"SignedIdentifiers"`
	List    []signedIdentifier `xml:"SignedIdentifier"`
}

type signedIdentifier struct {
	ID           string `xml:"Id"`
	AccessPolicy accessPolicy
}

type accessPolicy struct {
	Start      string `xml:"Start,omitempty"`
	Expiry     string `xml:"Expiry,omitempty"`
	Permission string `xml:"Permission,omitempty"`
}

const (
	maxPolicies = 5
	maxPolicyID = 64
)

// doACL does Get and Set Table ACL. No shared access signature may.
func (s *Server) doACL(r *request) (*reply, error) {
	if !r.grant.full {
		return nil, permissionMismatch()
	}
	switch r.method {
	case http.MethodGet:
		policies, err := s.store.Policies(r.target.table)
		if err != nil {
			return nil, err
		}
		var doc signedIdentifiers
		for _, p := range policies {
			doc.List = append(doc.List, signedIdentifier{p.ID, accessPolicy{p.Start, p.Expiry, p.Permission}})
		}
		return xmlReply(http.StatusOK, doc)
	case http.MethodPut:
		policies, err := parsePolicies(r.body)
		if err != nil {
			return nil, err
		}
		return newReply(http.StatusNoContent), s.store.SetPolicies(r.target.table, policies)
	}
	return nil, methodNotAllowed()
}

// parsePolicies reads at most five policies with distinct ids of 1 to 64
// characters; an empty body sets none.
func parsePolicies(body []byte) ([]store.AccessPolicy, error) {
	if len(body) == 0 {
		return nil, nil
	}
	var doc signedIdentifiers
	if err := xml.Unmarshal(body, &doc); err != nil || len(doc.List) > maxPolicies {
		return nil, invalidXML()
	}
	seen := map[string]bool{}
	var policies []store.AccessPolicy
	for _, id := range doc.List {
		p := id.AccessPolicy
		valid := id.ID != "" && len(id.ID) <= maxPolicyID && !seen[id.ID] && strings.Trim(p.Permission, "raud") == ""
		for _, t := range []string{p.Start, p.Expiry} {
			if _, ok := sasTime(t); !ok && t != "" {
				valid = false
			}
		}
		if !valid {
			return nil, invalidXML()
		}
		seen[id.ID] = true
		policies = append(policies, store.AccessPolicy{ID: id.ID, Start: p.Start, Expiry: p.Expiry, Permission: p.Permission})
	}
	return policies, nil
}
