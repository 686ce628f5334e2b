package accessjson

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// maxDepth bounds the nesting of a document; ours need 5.
const maxDepth = 16

// decode reads a document strictly: unknown and duplicate members, another
// case, nulls, invalid UTF-8, trailing data and deep nesting are refused.
func decode(data []byte, most int, into any) error {
	if err := checkObject(data, most); err != nil {
		return err
	}
	err := json.Unmarshal(data, into, json.RejectUnknownMembers(true), json.MatchCaseInsensitiveNames(false))
	if err == nil {
		return nil
	}
	if se, ok := errors.AsType[*json.SemanticError](err); ok {
		where := pointer(se.JSONPointer)
		if errors.Is(se.Err, json.ErrUnknownName) {
			return fault(where, "field_unknown", "the field %s is not known (names are case-sensitive)", where)
		}
		return fault(where, "type_invalid", "%s has a value of the wrong type", orMessage(where))
	}
	return fault("", "not_json", "the message is not valid JSON")
}

// CheckObject refuses what is not one JSON object of at most MaxBody bytes, and
// in it what no document of ours may have: a member twice, a null, invalid UTF-8,
// deep nesting.
func CheckObject(data []byte) error { return checkObject(data, MaxBody) }

func checkObject(data []byte, most int) error {
	if len(data) > most {
		return access.Errorf(access.InvalidArgument, "body_too_large", "the message has %d bytes; %d are allowed", len(data), most)
	}
	return checkShape(data)
}

// checkShape walks the tokens once, before anything is decoded.
func checkShape(data []byte) error {
	d := jsontext.NewDecoder(strings.NewReader(string(data)), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	for first := true; ; first = false {
		if !first && d.StackDepth() == 0 {
			break
		}
		t, err := d.ReadToken()
		if err != nil {
			if errors.Is(err, jsontext.ErrDuplicateName) {
				where := pointer(d.StackPointer())
				if se, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
					where = pointer(se.JSONPointer)
				}
				return fault(where, "field_twice", "the field %s is given twice", where)
			}
			return fault("", "not_json", "the message is not valid JSON")
		}
		switch {
		case first && t.Kind() != '{':
			return fault("", "not_an_object", "the message is not a JSON object")
		case t.Kind() == 'n':
			where := pointer(d.StackPointer())
			return fault(where, "null", "%s is null: give a value or leave it out", orMessage(where))
		case d.StackDepth() > maxDepth:
			return fault("", "too_deep", "the message is nested too deeply")
		}
	}
	if len(strings.TrimSpace(string(data[d.InputOffset():]))) > 0 {
		return fault("", "not_json", "there is more after the JSON object")
	}
	return nil
}

func fault(path, reason, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return &access.Error{Code: access.InvalidArgument, Reason: reason, Message: message,
		Violations: []access.Violation{{Path: path, Reason: reason, Message: message}}}
}

// pointer turns a JSON Pointer into the notation of violations, bounded and
// free of what could forge a log line, as names in it come from outside.
func pointer(p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		if tok != "" && strings.Trim(tok, "0123456789") == "" {
			fmt.Fprintf(&b, "[%s]", tok)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if r := []rune(tok); len(r) > 64 {
			tok = string(r[:64]) + "…"
		}
		q := fmt.Sprintf("%+q", tok)
		b.WriteString(q[1 : len(q)-1])
	}
	s := b.String()
	return s[:min(len(s), 512)]
}

func orMessage(where string) string {
	if where == "" {
		return "the message"
	}
	return where
}
