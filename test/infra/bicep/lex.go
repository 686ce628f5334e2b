// Package bicep reads as much of the Bicep language as this repository's
// deployment uses, for tests to hold it against the code. It is no compiler: it
// knows no types and no resource schemas.
package bicep

import (
	"fmt"
	"strings"
	"unicode"
)

type kind int

const (
	end kind = iota
	newline
	word
	number
	text // a whole string: its parts are in token.parts
	sign
)

type token struct {
	kind  kind
	text  string
	parts []any // of a string: string for what is literal, []token for ${…}
	line  int
}

type lexer struct {
	src  string
	at   int
	line int
}

// lex splits a source into tokens.
func lex(src string) ([]token, error) {
	l := &lexer{src: src, line: 1}
	return l.until("")
}

// until reads tokens up to the closing sign, which it consumes; "" is the end.
func (l *lexer) until(closing string) ([]token, error) {
	var out []token
	depth := 0
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		switch {
		case t.kind == end && closing == "":
			return append(out, t), nil
		case t.kind == end:
			return nil, fmt.Errorf("line %d: ${ is not closed", l.line)
		case t.text == "{" && t.kind == sign:
			depth++
		case t.text == "}" && t.kind == sign && closing != "" && depth == 0:
			return append(out, token{kind: end, line: t.line}), nil
		case t.text == "}" && t.kind == sign:
			depth--
		}
		out = append(out, t)
	}
}

// Longer signs come first.
var signs = []string{"??", "?.", ".?", "==", "!=", ">=", "<=", "&&", "||", "=>", "=~", "!~",
	"{", "}", "[", "]", "(", ")", ":", ",", ".", "?", "=", "!", "@", "+", "-", "*", "/", "%", "<", ">"}

func (l *lexer) next() (token, error) {
	l.skip()
	if l.at >= len(l.src) {
		return token{kind: end, line: l.line}, nil
	}
	rest, line := l.src[l.at:], l.line
	c := rune(rest[0])
	if c >= unicode.MaxASCII {
		return token{}, fmt.Errorf("line %d: only ASCII belongs outside of strings", line)
	}
	switch {
	case c == '\n':
		l.at++
		l.line++
		return token{kind: newline, line: line}, nil
	case strings.HasPrefix(rest, "'''"):
		n := strings.Index(rest[3:], "'''")
		if n < 0 {
			return token{}, fmt.Errorf("line %d: ''' is not closed", line)
		}
		l.at += n + 6
		l.line += strings.Count(rest[:n+6], "\n")
		return token{kind: text, parts: []any{rest[3 : n+3]}, line: line}, nil
	case c == '\'':
		return l.str()
	case c == '_' || unicode.IsLetter(c):
		return l.run(word, func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }), nil
	case unicode.IsDigit(c):
		return l.run(number, unicode.IsDigit), nil
	}
	for _, s := range signs {
		if strings.HasPrefix(rest, s) {
			l.at += len(s)
			return token{kind: sign, text: s, line: line}, nil
		}
	}
	return token{}, fmt.Errorf("line %d: %q is no Bicep", line, string(c))
}

func (l *lexer) run(k kind, is func(rune) bool) token {
	n := strings.IndexFunc(l.src[l.at:], func(r rune) bool { return !is(r) })
	if n < 0 {
		n = len(l.src) - l.at
	}
	l.at += n
	return token{kind: k, text: l.src[l.at-n : l.at], line: l.line}
}

// skip passes over spaces and comments.
func (l *lexer) skip() {
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		switch {
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			l.at++
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			l.at += n
		case strings.HasPrefix(rest, "/*") && strings.Contains(rest, "*/"):
			n := strings.Index(rest, "*/") + 2
			l.line += strings.Count(rest[:n], "\n")
			l.at += n
		default:
			return
		}
	}
}

var escapes = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', '\'': '\'', '$': '$'}

// str reads a string of one line, with its ${…}.
func (l *lexer) str() (token, error) {
	t := token{kind: text, line: l.line}
	var lit strings.Builder
	for l.at++; l.at < len(l.src); l.at++ {
		switch c := l.src[l.at]; {
		case c == '\'':
			l.at++
			t.parts = append(t.parts, lit.String())
			return t, nil
		case c == '\n':
			return t, fmt.Errorf("line %d: a string is not closed", l.line)
		case c == '\\' && l.at+1 < len(l.src):
			l.at++
			e, ok := escapes[l.src[l.at]]
			if !ok {
				return t, fmt.Errorf("line %d: \\%c is no escape", l.line, l.src[l.at])
			}
			lit.WriteByte(e)
		case strings.HasPrefix(l.src[l.at:], "${"):
			t.parts = append(t.parts, lit.String())
			lit.Reset()
			l.at += 2
			inner, err := l.until("}")
			if err != nil {
				return t, err
			}
			t.parts = append(t.parts, inner)
			l.at-- // the loop steps on
		default:
			lit.WriteByte(c)
		}
	}
	return t, fmt.Errorf("line %d: a string is not closed", t.line)
}
