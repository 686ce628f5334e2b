package bicep

import "strings"

func (p *parser) primary() *Node {
	t := p.take()
	n := &Node{Line: t.line, Text: t.text}
	switch {
	case t.kind == text:
		return p.string(t)
	case t.kind == number:
		n.Kind = Literal
	case t.kind == sign && t.text == "(":
		p.lines()
		n = p.expression()
		p.lines()
		p.expect(")")
	case t.kind == sign && t.text == "{":
		return p.object(t.line)
	case t.kind == sign && t.text == "[":
		p.lines()
		if p.is("for") {
			n = p.loop()
			p.lines()
			p.expect("]")
			return n
		}
		n.Kind, n.Items = Array, p.list("]")
	case t.kind == word && (t.text == "true" || t.text == "false" || t.text == "null"):
		n.Kind = Literal
	case t.kind == word && p.accept("("):
		n.Kind, n.Items = Call, p.list(")")
	case t.kind == word:
		n.Kind = Name
	default:
		p.at--
		p.failf("%q where a value belongs", t.text)
	}
	return n
}

// string joins the literal parts of a string, with "${}" for what is put in.
func (p *parser) string(t token) *Node {
	n := &Node{Kind: String, Line: t.line}
	var b strings.Builder
	for _, part := range t.parts {
		switch v := part.(type) {
		case string:
			b.WriteString(v)
		case []token:
			b.WriteString("${}")
			inner := &parser{tokens: v}
			n.Items = append(n.Items, inner.expression())
			if inner.peek().kind != end {
				inner.failf("%q is left in ${}", inner.peek().text)
			}
		}
	}
	n.Text = b.String()
	return n
}

// list reads values up to the closing sign, parted by commas or lines.
func (p *parser) list(closing string) (out []*Node) {
	for p.lines(); !p.accept(closing); p.lines() {
		out = append(out, p.expression())
		if !p.is(closing) && !p.accept(",") && p.peek().kind != newline {
			p.failf("%q in a list", p.peek().text)
		}
	}
	return out
}

func (p *parser) object(line int) *Node {
	n := &Node{Kind: Object, Line: line}
	for p.lines(); !p.accept("}"); p.lines() {
		key := p.take()
		switch key.kind {
		case text:
			n.Keys = append(n.Keys, p.string(key))
		case word:
			n.Keys = append(n.Keys, &Node{Kind: String, Text: key.text, Line: key.line})
		default:
			p.at--
			p.failf("%q is no key", key.text)
		}
		p.expect(":")
		p.lines()
		n.Items = append(n.Items, p.expression())
		if !p.is("}") && !p.accept(",") && p.peek().kind != newline {
			p.failf("%q in an object", p.peek().text)
		}
	}
	return n
}

// loop reads for NAME in LIST: VALUE and for (NAME, INDEX) in LIST: VALUE.
func (p *parser) loop() *Node {
	n := &Node{Kind: For, Line: p.peek().line}
	p.expect("for")
	if p.accept("(") {
		n.Vars = []string{p.name()}
		p.expect(",")
		n.Vars = append(n.Vars, p.name())
		p.expect(")")
	} else {
		n.Vars = []string{p.name()}
	}
	p.expect("in")
	over := p.expression()
	p.expect(":")
	p.lines()
	if p.is("if") {
		n.Items = []*Node{over, p.body()}
		return n
	}
	n.Items = []*Node{over, p.expression()}
	return n
}
