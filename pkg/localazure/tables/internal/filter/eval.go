package filter

import (
	"unicode"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
)

// Lookup finds a property by its exact name.
type Lookup func(name string) (edm.Value, bool)

// Match says whether the entity behind lookup passes. A comparison with a
// property that is missing, or of a type that does not compare with the
// constant, is false, ne included.
func (e Expr) Match(lookup Lookup) bool { return e.root == nil || e.root.match(lookup) }

// Pinned tells the string that property must equal for anything to match, if
// the filter says so; it lets a partition query skip the rest of the table.
func (e Expr) Pinned(property string) (string, bool) { return pinned(e.root, property) }

func pinned(n node, property string) (string, bool) {
	switch n := n.(type) {
	case both:
		if v, ok := pinned(n.left, property); ok {
			return v, true
		}
		return pinned(n.right, property)
	case comparison:
		if n.property == property && n.op == eq && n.value.Type() == edm.String {
			return n.value.Text(), true
		}
	}
	return "", false
}

type node interface{ match(Lookup) bool }

type (
	both       struct{ left, right node }
	either     struct{ left, right node }
	negation   struct{ inner node }
	constant   bool
	comparison struct {
		property string
		op       operator
		value    edm.Value
	}
)

func (n both) match(l Lookup) bool     { return n.left.match(l) && n.right.match(l) }
func (n either) match(l Lookup) bool   { return n.left.match(l) || n.right.match(l) }
func (n negation) match(l Lookup) bool { return !n.inner.match(l) }
func (n constant) match(Lookup) bool   { return bool(n) }

func (n comparison) match(l Lookup) bool {
	v, ok := l(n.property)
	if !ok {
		return false
	}
	order, ok := edm.Compare(v, n.value)
	return ok && n.op.holds(order)
}

type operator string

const (
	eq operator = "eq"
	ne operator = "ne"
	gt operator = "gt"
	ge operator = "ge"
	lt operator = "lt"
	le operator = "le"
)

var operators = map[string]operator{"eq": eq, "ne": ne, "gt": gt, "ge": ge, "lt": lt, "le": le}

func (o operator) holds(order int) bool {
	switch o {
	case eq:
		return order == 0
	case ne:
		return order != 0
	case gt:
		return order > 0
	case ge:
		return order >= 0
	case lt:
		return order < 0
	default:
		return order <= 0
	}
}

// turned is the operator that says the same with its sides exchanged.
func (o operator) turned() operator {
	switch o {
	case gt:
		return lt
	case ge:
		return le
	case lt:
		return gt
	case le:
		return ge
	}
	return o
}

// alone is an operand without an operator: true, false or a Boolean property.
func alone(t token) (node, error) {
	if t.kind == word {
		return comparison{property: t.text, op: eq, value: edm.OfBool(true)}, nil
	}
	if t.value.Type() != edm.Boolean {
		return nil, syntax(t.at, "a constant stands alone")
	}
	return constant(t.value.True()), nil
}

// isName says whether text may name a property; operators may not.
func isName(text string) bool {
	if _, op := operators[text]; op || text == "and" || text == "or" || text == "not" {
		return false
	}
	for i, r := range text {
		if r == '_' || unicode.IsLetter(r) || i > 0 && (unicode.IsDigit(r) || unicode.In(r, unicode.Mn, unicode.Mc, unicode.Pc, unicode.Cf)) {
			continue
		}
		return false
	}
	return text != ""
}
