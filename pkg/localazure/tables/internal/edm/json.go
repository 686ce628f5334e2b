package edm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// The system properties of every entity.
const (
	PartitionKey = "PartitionKey"
	RowKey       = "RowKey"
	Timestamp    = "Timestamp"
)

const typeSuffix = "@odata.type"

// Payload is an entity as a client sent it.
type Payload struct {
	PartitionKey, RowKey *string          // nil if missing or null
	Properties           map[string]Value // without system properties and nulls
}

// ParsePayload reads an entity from JSON. Null properties are dropped, as
// Storage does not persist them; Timestamp and OData control information are
// ignored. It fails with InvalidInput, DuplicatePropertiesSpecified or
// OutOfRangeInput.
func ParsePayload(body []byte) (Payload, error) {
	fields, err := parseObject(body)
	if err != nil {
		return Payload{}, err
	}
	p := Payload{Properties: make(map[string]Value, len(fields))}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasPrefix(name, "odata.") || strings.Contains(name, "@odata.") || name == Timestamp {
			continue
		}
		typ, err := annotation(fields, name)
		if err != nil {
			return Payload{}, err
		}
		if fields[name] == nil {
			continue
		}
		v, err := decode(name, fields[name], typ)
		if err != nil {
			return Payload{}, err
		}
		if name != PartitionKey && name != RowKey {
			p.Properties[name] = v
			continue
		}
		if v.typ != String {
			return Payload{}, tableerr.BadInput("%s must be a string", name)
		}
		if name == PartitionKey {
			p.PartitionKey = &v.text
		} else {
			p.RowKey = &v.text
		}
	}
	return p, nil
}

// annotation is the type that the payload declares for name, if it does.
func annotation(fields map[string]any, name string) (Type, error) {
	raw, ok := fields[name+typeSuffix]
	if !ok {
		return "", nil
	}
	text, _ := raw.(string)
	switch typ := Type(text); typ {
	case String, Int32, Int64, Double, Boolean, DateTime, GUID, Binary:
		return typ, nil
	}
	return "", tableerr.BadInput("property %q has an unknown type", name)
}

// parseObject reads one flat JSON object and refuses what encoding/json would
// let pass: repeated names, nested values, trailing data.
func parseObject(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, tableerr.BadInput("the body is not a JSON object")
	}
	fields := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, tableerr.BadInput("the body is not valid JSON")
		}
		name, _ := tok.(string) // the decoder allows only strings here
		value, err := dec.Token()
		if err != nil {
			return nil, tableerr.BadInput("the body is not valid JSON")
		}
		if _, nested := value.(json.Delim); nested {
			return nil, tableerr.BadInput("property %q holds no simple value", name)
		}
		if _, twice := fields[name]; twice {
			return nil, tableerr.New(tableerr.DuplicatePropertiesSpecified, "A property is specified more than one time.")
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, tableerr.BadInput("the body is not valid JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, tableerr.BadInput("the body holds more than one JSON object")
	}
	return fields, nil
}

// Object writes a JSON object field by field, in the order of the calls.
type Object struct {
	buf []byte
}

func (o *Object) name(name string) {
	if len(o.buf) == 0 {
		o.buf = append(o.buf, '{')
	} else {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(appendString(o.buf, name), ':')
}

// Str adds a string field.
func (o *Object) Str(name, value string) {
	o.name(name)
	o.buf = appendString(o.buf, value)
}

// Raw adds a field whose value is JSON already.
func (o *Object) Raw(name string, value []byte) {
	o.name(name)
	o.buf = append(o.buf, value...)
}

// Property adds v, preceded by its type annotation if annotate is set and JSON
// alone would not tell the type.
func (o *Object) Property(name string, v Value, annotate bool) {
	if annotate && !v.inferable() {
		o.Str(name+typeSuffix, string(v.typ))
	}
	o.name(name)
	o.buf = v.appendJSON(o.buf)
}

// Bytes ends the object and returns it.
func (o *Object) Bytes() []byte {
	if len(o.buf) == 0 {
		return []byte("{}")
	}
	return append(o.buf, '}')
}

// inferable says whether the JSON form alone tells the type.
func (v Value) inferable() bool {
	switch v.typ {
	case String, Int32, Boolean:
		return true
	case Double:
		return !math.IsNaN(v.dbl) && !math.IsInf(v.dbl, 0)
	}
	return false
}

func (v Value) appendJSON(b []byte) []byte {
	switch v.typ {
	case Int32:
		return strconv.AppendInt(b, v.num, 10)
	case Boolean:
		return strconv.AppendBool(b, v.num == 1)
	case Double:
		return appendDouble(b, v.dbl)
	case Int64:
		return appendString(b, strconv.FormatInt(v.num, 10))
	case DateTime:
		return appendString(b, Ticks(v.num).String())
	case Binary:
		return appendString(b, base64.StdEncoding.EncodeToString([]byte(v.text)))
	}
	return appendString(b, v.text)
}

// appendDouble keeps a decimal point or exponent in whole numbers, so that a
// reader does not take them for Int32.
func appendDouble(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.AppendFloat(b, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("encoding a string cannot fail: " + err.Error())
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
