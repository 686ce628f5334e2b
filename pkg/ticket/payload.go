package ticket

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// maxDepth bounds the nesting of a payload.
const maxDepth = 64

// parse reads a payload: one JSON value of valid UTF-8, no name twice in one
// object, no deeper than maxDepth. An integer is an int64 where it fits, any other
// number a float64. Errors: invalid_argument, payload_too_deep or payload_invalid.
func parse(data []byte) (any, error) {
	if first := bytes.TrimLeft(data, " \t\r\n"); bytes.HasPrefix(first, []byte("payload=")) {
		return nil, invalid("the payload is form-encoded: set the webhook's content type to application/json")
	}
	d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	v, err := value(d)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimLeft(data[d.InputOffset():], " \t\r\n")) > 0 {
		return nil, invalid("there is more after the payload's JSON value")
	}
	return v, nil
}

func invalid(message string) error {
	return access.Errorf(access.InvalidArgument, "payload_invalid", "%s", message)
}

// value reads the next value. It calls itself no deeper than maxDepth.
func value(d *jsontext.Decoder) (any, error) {
	t, err := token(d)
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '{':
		return object(d)
	case '[':
		return list(d)
	case '"':
		return t.String(), nil
	case '0':
		return number(t.String())
	case 't', 'f':
		return t.Bool(), nil
	}
	return nil, nil
}

func token(d *jsontext.Decoder) (jsontext.Token, error) {
	t, err := d.ReadToken()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return t, invalid("an object of the payload has the same name twice")
	case err != nil:
		return t, invalid("the payload is not valid JSON")
	case d.StackDepth() > maxDepth:
		return t, access.Errorf(access.InvalidArgument, "payload_too_deep", "the payload is nested deeper than %d levels", maxDepth)
	}
	return t, nil
}

func object(d *jsontext.Decoder) (any, error) {
	out := map[string]any{}
	for {
		t, err := token(d)
		if err != nil {
			return nil, err
		}
		if t.Kind() == '}' {
			return out, nil
		}
		name := t.String()
		if out[name], err = value(d); err != nil {
			return nil, err
		}
	}
}

func list(d *jsontext.Decoder) (any, error) {
	out := []any{}
	for {
		if d.PeekKind() == ']' {
			_, err := token(d)
			return out, err
		}
		v, err := value(d)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

func number(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, invalid("a number of the payload is larger than any that can be held")
	}
	return n, nil
}
