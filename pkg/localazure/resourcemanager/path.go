package resourcemanager

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPathBytes and maxSegments bound what is parsed. Real resource ids have at
	// most a few hundred bytes.
	maxPathBytes = 4 << 10
	maxSegments  = 32
)

// resourcePath is a parsed Resource Manager URL path or resource id:
//
//	/subscriptions/{Subscription}[/resourceGroups/{Group}][/providers/{Provider}/{Types[0]}/{Names[0]}/…]
//
// There are as many names as types for a single resource, and one fewer for a
// collection. Keywords are matched regardless of case, as Resource Manager does;
// what the caller named keeps its case.
type resourcePath struct {
	Subscription string
	// Groups is set where the path goes into resource groups: for the collection
	// of them, where Group is empty, and for a single one.
	Groups   bool
	Group    string
	Provider string
	Types    []string
	Names    []string
}

// parsePath parses an escaped URL path. It refuses empty segments, segments that
// hide a slash, and control characters, so that a path and the lower-case key
// made from it name the same thing.
func parsePath(escaped string) (resourcePath, bool) {
	var p resourcePath
	segments, ok := splitPath(escaped)
	if !ok || !strings.EqualFold(segments[0], "subscriptions") {
		return p, false
	}
	if len(segments) == 1 {
		return p, true
	}
	p.Subscription, segments = segments[1], segments[2:]
	if len(segments) > 0 && strings.EqualFold(segments[0], "resourceGroups") {
		p.Groups = true
		if len(segments) == 1 {
			return p, true
		}
		p.Group, segments = segments[1], segments[2:]
	}
	if len(segments) == 0 {
		return p, true
	}
	// A provider alone addresses the provider itself, which nothing here needs.
	if !strings.EqualFold(segments[0], "providers") || len(segments) < 3 {
		return resourcePath{}, false
	}
	p.Provider = segments[1]
	for i, s := range segments[2:] {
		if i%2 == 0 {
			p.Types = append(p.Types, s)
		} else {
			p.Names = append(p.Names, s)
		}
	}
	return p, true
}

func splitPath(escaped string) ([]string, bool) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok || len(escaped) > maxPathBytes {
		return nil, false
	}
	segments := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if len(segments) > maxSegments {
		return nil, false
	}
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil || decoded == "" || !utf8.ValidString(decoded) ||
			strings.ContainsFunc(decoded, func(r rune) bool { return r == '/' || unicode.IsControl(r) }) {
			return nil, false
		}
		segments[i] = decoded
	}
	return segments, true
}

// isItem reports whether the path names one resource of a provider.
func (p resourcePath) isItem() bool { return len(p.Types) > 0 && len(p.Names) == len(p.Types) }

// isCollection reports whether the path names the resources of one type.
func (p resourcePath) isCollection() bool { return len(p.Types) == len(p.Names)+1 }

// is reports whether the path goes to the given type of a provider, such as
// "Microsoft.Network", "networkSecurityGroups", "securityRules".
func (p resourcePath) is(provider string, types ...string) bool {
	return strings.EqualFold(p.Provider, provider) && slices.EqualFunc(p.Types, types, strings.EqualFold)
}

// resourceType is the full type, "Microsoft.Network/networkSecurityGroups".
func (p resourcePath) resourceType() string {
	switch {
	case p.Provider == "" && p.Groups:
		return "Microsoft.Resources/subscriptions/resourceGroups"
	case p.Provider == "":
		return "Microsoft.Resources/subscriptions"
	}
	return p.Provider + "/" + strings.Join(p.Types, "/")
}

// id is the resource id, unescaped, as Resource Manager writes ids in bodies.
func (p resourcePath) id() string { return p.join(func(s string) string { return s }) }

// escaped is the URL path that parses to p.
func (p resourcePath) escaped() string { return p.join(url.PathEscape) }

func (p resourcePath) join(escape func(string) string) string {
	var b strings.Builder
	b.WriteString("/subscriptions")
	if p.Subscription == "" {
		return b.String()
	}
	b.WriteString("/" + escape(p.Subscription))
	if p.Groups {
		b.WriteString("/resourceGroups")
	}
	if p.Group != "" {
		b.WriteString("/" + escape(p.Group))
	}
	if p.Provider != "" {
		b.WriteString("/providers/" + escape(p.Provider))
	}
	for i, t := range p.Types {
		b.WriteString("/" + escape(t))
		if i < len(p.Names) {
			b.WriteString("/" + escape(p.Names[i]))
		}
	}
	return b.String()
}

// parent is the path of the resource that p's resource is a child of.
func (p resourcePath) parent() resourcePath {
	p.Types = p.Types[:len(p.Types)-1]
	p.Names = p.Names[:min(len(p.Names), len(p.Types))]
	return p
}

// topID is the id of the top resource that p's resource belongs to.
func (p resourcePath) topID() string {
	for len(p.Types) > 1 {
		p = p.parent()
	}
	return p.id()
}

// key is how ids are compared: Resource Manager's are case-insensitive.
func key(id string) string { return strings.ToLower(id) }
