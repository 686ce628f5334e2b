// Package filter reads and evaluates the $filter of Azure Table Storage.
//
// The language (REST reference, "Querying tables and entities"): comparisons
// eq ne gt ge lt le between a property and a constant, and, or, not,
// parentheses. Everything is case-sensitive.
package filter

import (
	"encoding/hex"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

type kind int

const (
	end kind = iota
	word
	literal
	open
	closing
)

type token struct {
	kind  kind
	text  string
	value edm.Value
	at    int
}

type lexer struct {
	in  string
	pos int
}

// next reads one token; at the end of the input it returns end for ever.
func (l *lexer) next() (token, error) {
	for l.pos < len(l.in) && (l.in[l.pos] == ' ' || l.in[l.pos] == '\t') {
		l.pos++
	}
	at := l.pos
	if at == len(l.in) {
		return token{kind: end, at: at}, nil
	}
	switch c := l.in[at]; {
	case c == '(':
		l.pos++
		return token{kind: open, text: "(", at: at}, nil
	case c == ')':
		l.pos++
		return token{kind: closing, text: ")", at: at}, nil
	case c == '\'':
		s, err := l.quoted()
		return token{kind: literal, value: edm.OfString(s), at: at}, err
	case c >= '0' && c <= '9' || c == '-' || c == '.':
		return l.number()
	}
	return l.word()
}

// quoted reads '…' with quotes inside doubled.
func (l *lexer) quoted() (string, error) {
	start := l.pos
	var b strings.Builder
	for l.pos++; l.pos < len(l.in); l.pos++ {
		if l.in[l.pos] != '\'' {
			b.WriteByte(l.in[l.pos])
			continue
		}
		if l.pos+1 == len(l.in) || l.in[l.pos+1] != '\'' {
			l.pos++
			return b.String(), nil
		}
		l.pos++
		b.WriteByte('\'')
	}
	return "", syntax(start, "a quote is not closed")
}

func (l *lexer) run() string {
	start := l.pos
	for l.pos < len(l.in) && !strings.ContainsRune(" \t()'", rune(l.in[l.pos])) {
		l.pos++
	}
	return l.in[start:l.pos]
}

func (l *lexer) number() (token, error) {
	at := l.pos
	text := l.run()
	v, err := parseNumber(text)
	if err != nil {
		return token{}, syntax(at, "a number is not valid")
	}
	return token{kind: literal, text: text, value: v, at: at}, nil
}

// parseNumber tells the type as OData does: L is Int64, a fraction, an exponent
// or D is Double, and a whole number is Int32 or, if it does not fit, Int64.
func parseNumber(text string) (edm.Value, error) {
	switch text[len(text)-1] {
	case 'L', 'l':
		return edm.ParseText(text[:len(text)-1], edm.Int64)
	case 'D', 'd':
		return edm.ParseText(text[:len(text)-1], edm.Double)
	}
	if text == "-INF" || strings.ContainsAny(text, ".eE") {
		return edm.ParseText(text, edm.Double)
	}
	if v, err := edm.ParseText(text, edm.Int32); err == nil {
		return v, nil
	}
	return edm.ParseText(text, edm.Int64)
}

// word reads a name, an operator, a named constant or a prefixed literal.
func (l *lexer) word() (token, error) {
	at := l.pos
	text := l.run()
	if l.pos < len(l.in) && l.in[l.pos] == '\'' {
		s, err := l.quoted()
		if err != nil {
			return token{}, err
		}
		v, err := prefixed(text, s)
		if err != nil {
			return token{}, syntax(at, "a literal is not valid")
		}
		return token{kind: literal, value: v, at: at}, nil
	}
	switch text {
	case "true", "false":
		return token{kind: literal, value: edm.OfBool(text == "true"), at: at}, nil
	case "NaN", "INF":
		v, err := edm.ParseText(text, edm.Double)
		return token{kind: literal, value: v, at: at}, err
	}
	return token{kind: word, text: text, at: at}, nil
}

func prefixed(prefix, s string) (edm.Value, error) {
	switch prefix {
	case "datetime":
		return edm.ParseText(s, edm.DateTime)
	case "guid":
		return edm.ParseText(s, edm.GUID)
	case "X", "binary":
		b, err := hex.DecodeString(s)
		if err != nil {
			return edm.Value{}, err
		}
		return edm.OfBinary(b), nil
	}
	return edm.Value{}, tableerr.BadInput("unknown literal")
}

func syntax(at int, what string) error {
	return tableerr.BadInput("$filter: %s, at character %d", what, at)
}
