package bicep

import (
	"fmt"
	"os"
	"slices"
)

// Read parses a file.
func Read(path string) (*File, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(string(src))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Parse parses a source.
func Parse(src string) (f *File, err error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(fault)
			if !ok {
				panic(r)
			}
			f, err = nil, fault
		}
	}()
	f = &File{}
	for p.lines(); p.peek().kind != end; p.lines() {
		p.statement(f)
	}
	return f, nil
}

// fault ends the parsing of a file.
type fault error

type parser struct {
	tokens []token
	at     int
}

func (p *parser) failf(format string, args ...any) {
	panic(fault(fmt.Errorf("line %d: %s", p.peek().line, fmt.Sprintf(format, args...))))
}

func (p *parser) peek() token { return p.tokens[min(p.at, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.peek()
	p.at++
	return t
}

func (p *parser) is(text string) bool {
	t := p.peek()
	return (t.kind == sign || t.kind == word) && t.text == text
}

func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.failf("%q instead of %q", p.peek().text, text)
	}
}

func (p *parser) name() string {
	t := p.take()
	if t.kind != word {
		p.at--
		p.failf("%q is no name", t.text)
	}
	return t.text
}

func (p *parser) plain() string {
	n := p.primary()
	if n.Kind != String || len(n.Items) != 0 {
		p.failf("a string without ${} belongs here")
	}
	return n.Text
}

func (p *parser) lines() {
	for p.peek().kind == newline {
		p.at++
	}
}

// done wants the end of a statement.
func (p *parser) done() {
	if k := p.peek().kind; k != newline && k != end {
		p.failf("%q after the end of a statement", p.peek().text)
	}
}

func (p *parser) statement(f *File) {
	d := &Decl{Line: p.peek().line}
	for p.accept("@") {
		d.Decorators = append(d.Decorators, p.expression())
		p.lines()
	}
	keyword := p.name()
	switch keyword {
	case "targetScope":
		p.expect("=")
		f.TargetScope = p.plain()
		p.done()
		return
	case "using":
		f.Using = p.plain()
		p.done()
		return
	}
	d.Name = p.name()
	switch keyword {
	case "param":
		if p.peek().kind == word {
			d.Type = p.name()
		}
		if p.accept("=") {
			d.Value = p.expression()
		}
		f.Params = append(f.Params, d)
	case "var":
		p.expect("=")
		d.Value = p.expression()
		f.Vars = append(f.Vars, d)
	case "output":
		d.Type = p.name()
		p.expect("=")
		d.Value = p.expression()
		f.Outputs = append(f.Outputs, d)
	case "resource", "module":
		d.Type = p.plain()
		d.Existing = keyword == "resource" && p.accept("existing")
		p.expect("=")
		d.Value = p.body()
		if keyword == "module" {
			f.Modules = append(f.Modules, d)
		} else {
			f.Resources = append(f.Resources, d)
		}
	default:
		p.failf("%q begins no statement", keyword)
	}
	p.done()
}

// body is the value of a resource or module: an object, a loop or a condition.
func (p *parser) body() *Node {
	line := p.peek().line
	if p.accept("if") {
		p.expect("(")
		c := p.expression()
		p.expect(")")
		return &Node{Kind: If, Line: line, Items: []*Node{c, p.body()}}
	}
	n := p.primary()
	if n.Kind != Object && n.Kind != For {
		p.failf("an object or a loop belongs here")
	}
	return n
}

// binary operators, from the loosest.
var levels = [][]string{{"??"}, {"||"}, {"&&"}, {"==", "!=", "=~", "!~"}, {"<", ">", "<=", ">="}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) expression() *Node {
	if n := p.lambda(); n != nil {
		return n
	}
	n := p.binary(0)
	if p.peek(); p.accept("?") {
		p.lines()
		yes := p.expression()
		p.lines()
		p.expect(":")
		p.lines()
		return &Node{Kind: Op, Text: "?:", Line: n.Line, Items: []*Node{n, yes, p.expression()}}
	}
	return n
}

// lambda reads NAME => … and (NAME, NAME) => …, or nothing.
func (p *parser) lambda() *Node {
	start := p.at
	var vars []string
	if p.accept("(") {
		for p.peek().kind == word {
			vars = append(vars, p.name())
			p.accept(",")
		}
		if !p.accept(")") {
			p.at = start
			return nil
		}
	} else if p.peek().kind == word {
		vars = []string{p.name()}
	}
	if !p.accept("=>") {
		p.at = start
		return nil
	}
	return &Node{Kind: Lambda, Vars: vars, Items: []*Node{p.expression()}}
}

func (p *parser) binary(level int) *Node {
	if level == len(levels) {
		return p.unary()
	}
	n := p.binary(level + 1)
	for p.peek().kind == sign && slices.Contains(levels[level], p.peek().text) {
		op := p.take()
		p.lines()
		n = &Node{Kind: Op, Text: op.text, Line: op.line, Items: []*Node{n, p.binary(level + 1)}}
	}
	return n
}

func (p *parser) unary() *Node {
	for _, op := range []string{"!", "-"} {
		if line := p.peek().line; p.accept(op) {
			return &Node{Kind: Op, Text: op, Line: line, Items: []*Node{p.unary()}}
		}
	}
	return p.postfix(p.primary())
}

func (p *parser) postfix(n *Node) *Node {
	for {
		line := p.peek().line
		switch {
		case p.accept(".") || p.accept(".?"):
			name := p.name()
			if p.accept("(") {
				n = &Node{Kind: Call, Text: name, On: n, Line: line, Items: p.list(")")}
			} else {
				n = &Node{Kind: Member, Text: name, On: n, Line: line}
			}
		case p.accept("["):
			p.accept("?")
			n = &Node{Kind: Index, On: n, Line: line, Items: []*Node{p.expression()}}
			p.expect("]")
		default:
			return n
		}
	}
}
