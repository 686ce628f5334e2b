package edm

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// earliest is the first DateTime that Storage accepts: 1601-01-01.
var earliest = TicksOf(time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC))

// decode reads one JSON value as type typ; typ is empty where the payload does
// not annotate it, and then the type follows from the JSON. name is for errors.
func decode(name string, raw any, typ Type) (Value, error) {
	if typ == "" {
		return infer(name, raw)
	}
	text, err := scalarText(name, raw, typ)
	if err != nil {
		return Value{}, err
	}
	v, err := ParseText(text, typ)
	if e, ok := tableerr.As(err); ok && e.Code == tableerr.OutOfRangeInput {
		return Value{}, tableerr.New(e.Code, "The '%s' parameter of value '%s' is out of range.", name, text)
	}
	if err != nil {
		return Value{}, tableerr.BadInput("property %q is not a valid %s", name, typ)
	}
	return v, nil
}

func infer(name string, raw any) (Value, error) {
	switch x := raw.(type) {
	case string:
		return OfString(x), nil
	case bool:
		return OfBool(x), nil
	case json.Number:
		if n, err := strconv.ParseInt(x.String(), 10, 32); err == nil {
			return OfInt32(int32(n)), nil
		}
		// OData JSON readers take a number that is no Int32 for a Double.
		return ParseText(x.String(), Double)
	}
	return Value{}, tableerr.BadInput("property %q holds no simple value", name)
}

// scalarText is raw as text if its JSON kind may carry typ.
func scalarText(name string, raw any, typ Type) (string, error) {
	switch x := raw.(type) {
	case string:
		return x, nil
	case bool:
		if typ == Boolean {
			return strconv.FormatBool(x), nil
		}
	case json.Number:
		// Int64 travels as a string, so that no reader rounds it.
		if typ == Int32 || typ == Double {
			return x.String(), nil
		}
	}
	return "", tableerr.BadInput("property %q cannot be read as %s", name, typ)
}

// ParseText reads the text form of a value of type typ. It fails with
// InvalidInput, or OutOfRangeInput for a date before 1601.
func ParseText(text string, typ Type) (Value, error) {
	switch typ {
	case String:
		return OfString(text), nil
	case Int32:
		n, err := strconv.ParseInt(text, 10, 32)
		return OfInt32(int32(n)), badIf(err, typ)
	case Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		return OfInt64(n), badIf(err, typ)
	case Double:
		return parseDouble(text)
	case Boolean:
		switch text {
		case "true":
			return OfBool(true), nil
		case "false":
			return OfBool(false), nil
		}
		return Value{}, tableerr.BadInput("not an %s", typ)
	case DateTime:
		return parseDateTime(text)
	case GUID:
		return parseGUID(text)
	case Binary:
		b, err := base64.StdEncoding.DecodeString(text)
		return OfBinary(b), badIf(err, typ)
	}
	return Value{}, tableerr.BadInput("unknown type")
}

func badIf(err error, typ Type) error {
	if err != nil {
		return tableerr.BadInput("not an %s", typ)
	}
	return nil
}

// parseDouble accepts decimal numbers and the three names of the data model;
// Go's own spellings (inf, hexadecimal floats, underscores) are refused.
func parseDouble(text string) (Value, error) {
	switch text {
	case "NaN":
		return OfDouble(math.NaN()), nil
	case "Infinity", "INF":
		return OfDouble(math.Inf(1)), nil
	case "-Infinity", "-INF":
		return OfDouble(math.Inf(-1)), nil
	}
	if text == "" || strings.Trim(text, "0123456789+-.eE") != "" {
		return Value{}, tableerr.BadInput("not an %s", Double)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return Value{}, tableerr.BadInput("not an %s", Double)
	}
	return OfDouble(f), nil
}

func parseDateTime(text string) (Value, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		ticks := TicksOf(t)
		if ticks < earliest {
			return Value{}, tableerr.New(tableerr.OutOfRangeInput, "The value '%s' is out of range.", text)
		}
		return OfTicks(ticks), nil
	}
	return Value{}, tableerr.BadInput("not an %s", DateTime)
}

func parseGUID(text string) (Value, error) {
	ok := len(text) == 36
	for i := 0; ok && i < len(text); i++ {
		c := text[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			ok = c == '-'
		} else {
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		}
	}
	if !ok {
		return Value{}, tableerr.BadInput("not an %s", GUID)
	}
	return Value{typ: GUID, text: strings.ToLower(text)}, nil
}
