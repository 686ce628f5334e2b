package functionshost

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// route is one HTTP function with its template.
type route struct {
	template routeTemplate
	fn       *function
}

// routesOf lists the enabled HTTP functions in the order in which they are
// tried: alphabetically by name, whatever their templates (as the host does,
// azure-functions-host issue 9876).
func routesOf(functions []*function) []route {
	var routes []route
	for _, f := range functions {
		if f.http != nil && !f.Disabled {
			routes = append(routes, route{f.http.template, f})
		}
	}
	return routes
}

// routeFor finds the first function whose template and methods match. A method
// that does not match is no match at all, so that the caller gets 404, never
// 405: methods are a route constraint in the WebJobs HTTP extension.
func (h *Host) routeFor(method string, segments []string) (*function, map[string]string) {
	for _, r := range h.routes {
		if len(r.fn.Methods) > 0 && !slices.Contains(r.fn.Methods, method) {
			continue
		}
		if params, ok := r.template.match(segments); ok {
			return r.fn, params
		}
	}
	return nil, nil
}

// requestSegments splits a request's path as Kestrel presents it: percent
// encoding undone except for %2F, dot segments resolved, one slash at either
// end ignored. Resolving them here matters: a path such as
// /api/%2e%2e/SomeQueueFunction must not match api/{*path} and then reach the
// handler as the invocation of a queue function.
func requestSegments(u *url.URL) (segments []string, resolved bool, err error) {
	for raw := range strings.SplitSeq(u.EscapedPath(), "/") {
		segment, err := unescapeSegment(raw)
		if err != nil {
			return nil, false, err
		}
		switch segment {
		case ".":
			resolved = true
		case "..":
			resolved = true
			if len(segments) > 1 {
				segments = segments[:len(segments)-1]
			}
		default:
			segments = append(segments, segment)
		}
	}
	if len(segments) > 0 && segments[0] == "" {
		segments = segments[1:]
	}
	if n := len(segments); n > 0 && segments[n-1] == "" {
		segments = segments[:n-1]
	}
	return segments, resolved, nil
}

var encodedSlash = regexp.MustCompile(`%2[fF]`)

// unescapeSegment undoes percent encoding except that of the slash.
func unescapeSegment(raw string) (string, error) {
	segment, err := url.PathUnescape(encodedSlash.ReplaceAllString(raw, "%252F"))
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(segment) || strings.ContainsRune(segment, 0) {
		return "", errors.New("the path is not UTF-8 text")
	}
	return segment, nil
}

// escapeSegments is the path of the segments, percent-encoded.
func escapeSegments(segments []string) string {
	var b strings.Builder
	for _, segment := range segments {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(url.PathEscape(segment), "%252F", "%2F"))
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// routeTemplate is a parsed ASP.NET Core route template.
type routeTemplate []routePart

type routePart struct {
	literal     string // in lower case; used where name is ""
	name        string
	optional    bool // {name?}, or {name=default}
	catchAll    bool // {*name}
	fallback    string
	constraints []constraint
}

// constraint tells whether a parameter's value is acceptable.
type constraint func(value string) bool

// parseRoute reads literals and whole-segment parameters: {name}, {name?},
// {name=default}, {*name}, {name:constraint:constraint(args)}. Parameters
// within a segment, such as v{n}, are refused.
func parseRoute(text string) (routeTemplate, error) {
	var template routeTemplate
	seen := map[string]bool{}
	if text == "" {
		return template, nil
	}
	segments, err := splitTemplate(text)
	if err != nil {
		return nil, err
	}
	for i, segment := range segments {
		part, err := parseRoutePart(segment)
		if err != nil {
			return nil, err
		}
		last := i == len(segments)-1
		switch {
		case part.name == "":
		case seen[strings.ToLower(part.name)]:
			return nil, fmt.Errorf("parameter %q appears twice", part.name)
		case part.catchAll && !last:
			return nil, fmt.Errorf("catch-all parameter %q is not the last segment", part.name)
		}
		seen[strings.ToLower(part.name)] = true
		template = append(template, part)
	}
	return template, nil
}

// splitTemplate splits at slashes outside braces: a regex constraint may hold some.
func splitTemplate(text string) ([]string, error) {
	var segments []string
	depth, start := 0, 0
	for i, r := range text {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == '/' && depth == 0:
			segments = append(segments, text[start:i])
			start = i + 1
		}
		if depth < 0 {
			return nil, errors.New("unbalanced braces")
		}
	}
	segments = append(segments, text[start:])
	if depth != 0 {
		return nil, errors.New("unbalanced braces")
	}
	if slices.Contains(segments, "") {
		return nil, errors.New("an empty segment")
	}
	return segments, nil
}

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_\-]*$`)

func parseRoutePart(segment string) (routePart, error) {
	inner, ok := strings.CutPrefix(segment, "{")
	if !ok || !strings.HasSuffix(segment, "}") {
		if strings.ContainsAny(segment, "{}?*") {
			return routePart{}, fmt.Errorf("segment %q is not supported here", segment)
		}
		return routePart{literal: strings.ToLower(segment)}, nil
	}
	inner = strings.TrimSuffix(inner, "}")
	var part routePart
	if rest := strings.TrimLeft(inner, "*"); rest != inner {
		if len(inner)-len(rest) > 2 {
			return part, fmt.Errorf("parameter %q", segment)
		}
		part.catchAll, inner = true, rest
	}
	if rest, ok := strings.CutSuffix(inner, "?"); ok {
		part.optional, inner = true, rest
	}
	name, rest, constrained := strings.Cut(inner, ":")
	if !constrained {
		var hasDefault bool
		if name, part.fallback, hasDefault = strings.Cut(name, "="); hasDefault {
			part.optional = true
		}
	}
	if !parameterName.MatchString(name) {
		return part, fmt.Errorf("%q is not a parameter name", name)
	}
	part.name = name
	for constrained {
		var text string
		text, rest, constrained = cutConstraint(rest)
		test, err := parseConstraint(text)
		if err != nil {
			return part, fmt.Errorf("parameter %q: %w", name, err)
		}
		part.constraints = append(part.constraints, test)
	}
	return part, nil
}

// cutConstraint cuts at the first colon outside parentheses.
func cutConstraint(text string) (first, rest string, more bool) {
	depth := 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ':' && depth == 0:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

var (
	alphaOnly  = regexp.MustCompile(`^[A-Za-z]*$`)
	guidFormat = regexp.MustCompile(`^\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?$`)
)

// parseConstraint knows the inline constraints of ASP.NET Core routing
// (RouteOptions.ConstraintMap) except datetime, decimal, file and nonfile.
func parseConstraint(text string) (constraint, error) {
	name, args, hasArgs := strings.Cut(text, "(")
	if hasArgs {
		var ok bool
		if args, ok = strings.CutSuffix(args, ")"); !ok {
			return nil, fmt.Errorf("constraint %q is not closed", text)
		}
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "regex" && hasArgs {
		// Within a template, braces of the expression are doubled.
		re, err := regexp.Compile("(?i)" + strings.NewReplacer("{{", "{", "}}", "}").Replace(args))
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	if hasArgs {
		return numericConstraint(name, args)
	}
	switch name {
	case "int":
		return func(v string) bool { _, err := strconv.ParseInt(v, 10, 32); return err == nil }, nil
	case "long":
		return func(v string) bool { _, err := strconv.ParseInt(v, 10, 64); return err == nil }, nil
	case "double", "float":
		return func(v string) bool { _, err := strconv.ParseFloat(v, 64); return err == nil }, nil
	case "bool":
		return func(v string) bool { return strings.EqualFold(v, "true") || strings.EqualFold(v, "false") }, nil
	case "alpha":
		return alphaOnly.MatchString, nil
	case "guid":
		return guidFormat.MatchString, nil
	case "required":
		return func(v string) bool { return v != "" }, nil
	}
	return nil, fmt.Errorf("constraint %q is not supported here", text)
}

func numericConstraint(name, args string) (constraint, error) {
	var numbers []int64
	for arg := range strings.SplitSeq(args, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(arg), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("constraint %s(%s): %w", name, args, err)
		}
		numbers = append(numbers, n)
	}
	if name == "length" && len(numbers) == 1 {
		numbers = append(numbers, numbers[0])
	}
	length := func(v string) int64 { return int64(utf8.RuneCountInString(v)) }
	within := func(low, high int64) constraint {
		return func(v string) bool {
			n, err := strconv.ParseInt(v, 10, 64)
			return err == nil && n >= low && n <= high
		}
	}
	switch key := fmt.Sprintf("%s/%d", name, len(numbers)); key {
	case "minlength/1":
		return func(v string) bool { return length(v) >= numbers[0] }, nil
	case "maxlength/1":
		return func(v string) bool { return length(v) <= numbers[0] }, nil
	case "length/2":
		return func(v string) bool { return length(v) >= numbers[0] && length(v) <= numbers[1] }, nil
	case "min/1":
		return within(numbers[0], 1<<63-1), nil
	case "max/1":
		return within(-1<<63, numbers[0]), nil
	case "range/2":
		return within(numbers[0], numbers[1]), nil
	}
	return nil, fmt.Errorf("constraint %s(%s) is not supported here", name, args)
}

func (t routeTemplate) matches(segments []string) bool {
	_, ok := t.match(segments)
	return ok
}

// match returns the parameters of a path. Literals are compared in any case; an
// optional or catch-all parameter may be absent, and then no constraint asks.
// A route without segments never matches: the WebJobs router does not bind an
// empty template at the root.
func (t routeTemplate) match(segments []string) (map[string]string, bool) {
	if len(t) == 0 {
		return nil, false
	}
	params := map[string]string{}
	for i, part := range t {
		switch {
		case part.catchAll:
			value := part.fallback
			if len(segments) > i {
				value = strings.Join(segments[i:], "/")
			}
			if value != "" {
				params[part.name] = value
			}
			return params, value == "" && part.optional || part.accepts(value)
		case i >= len(segments):
			if !part.optional {
				return nil, false
			}
			if part.fallback != "" {
				params[part.name] = part.fallback
			}
		case part.name == "":
			if !strings.EqualFold(part.literal, segments[i]) {
				return nil, false
			}
		default:
			if segments[i] == "" || !part.accepts(segments[i]) {
				return nil, false
			}
			params[part.name] = segments[i]
		}
	}
	return params, len(segments) <= len(t)
}

func (p routePart) accepts(value string) bool {
	for _, test := range p.constraints {
		if !test(value) {
			return false
		}
	}
	return true
}

// isHomepage tells a request for the app's home page, which the host answers
// where no function does.
func isHomepage(r *http.Request, segments []string) bool {
	return len(segments) == 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}
