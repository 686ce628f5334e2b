package filter

import (
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

const (
	// MaxComparisons is the documented limit: "no more than 15 discrete
	// comparisons are permitted within a $filter string".
	MaxComparisons = 15
	// MaxLength bounds the text in bytes; Storage's limit is that of a URL.
	MaxLength = 32 << 10
	// maxDepth bounds nesting, so that no input exhausts the stack.
	maxDepth = 100
)

// Expr is a parsed filter; the zero Expr matches everything.
type Expr struct {
	root node
}

// Parse reads a filter; blank text matches everything. It fails with
// InvalidInput for what it cannot read and for what is beyond the limits.
func Parse(text string) (Expr, error) {
	if len(text) > MaxLength {
		return Expr{}, tableerr.BadInput("$filter is longer than %d bytes", MaxLength)
	}
	p := &parser{lex: lexer{in: text}}
	if err := p.advance(); err != nil {
		return Expr{}, err
	}
	if p.tok.kind == end {
		return Expr{}, nil
	}
	root, err := p.or()
	if err != nil {
		return Expr{}, err
	}
	if p.tok.kind != end {
		return Expr{}, syntax(p.tok.at, "the text goes on where it should end")
	}
	return Expr{root: root}, nil
}

type parser struct {
	lex         lexer
	tok         token
	depth       int
	comparisons int
}

func (p *parser) advance() (err error) {
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) is(name string) bool { return p.tok.kind == word && p.tok.text == name }

func (p *parser) or() (node, error) {
	left, err := p.and()
	for err == nil && p.is("or") {
		var right node
		if err = p.advance(); err == nil {
			right, err = p.and()
		}
		left = either{left, right}
	}
	return left, err
}

func (p *parser) and() (node, error) {
	left, err := p.unary()
	for err == nil && p.is("and") {
		var right node
		if err = p.advance(); err == nil {
			right, err = p.unary()
		}
		left = both{left, right}
	}
	return left, err
}

func (p *parser) unary() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, syntax(p.tok.at, "too deeply nested")
	}
	defer func() { p.depth-- }()
	if p.is("not") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		inner, err := p.unary()
		return negation{inner}, err
	}
	if p.tok.kind != open {
		return p.comparison()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	inner, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != closing {
		return nil, syntax(p.tok.at, "a parenthesis is not closed")
	}
	return inner, p.advance()
}

// comparison reads property-operator-constant, the same turned round, or a
// Boolean property or constant alone.
func (p *parser) comparison() (node, error) {
	if p.comparisons++; p.comparisons > MaxComparisons {
		return nil, syntax(p.tok.at, "more than 15 comparisons")
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	op, found := operator(""), false
	if p.tok.kind == word {
		op, found = operators[p.tok.text]
	}
	if !found {
		return alone(left)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch {
	case left.kind == word && right.kind == literal:
		return comparison{property: left.text, op: op, value: right.value}, nil
	case left.kind == literal && right.kind == word:
		return comparison{property: right.text, op: op.turned(), value: left.value}, nil
	}
	return nil, syntax(right.at, "a comparison needs one property and one constant")
}

func (p *parser) operand() (token, error) {
	t := p.tok
	if t.kind == word && !isName(t.text) || t.kind != word && t.kind != literal {
		return t, syntax(t.at, "a property or constant is missing")
	}
	return t, p.advance()
}
