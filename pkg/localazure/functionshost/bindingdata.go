package functionshost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/uuid"
)

// Formats of .NET values. An invocation carries whole seconds because the host
// passes DateTime and DateTimeOffset through ToString on their way
// (ScriptInvocationContextExtensions.GetHttpScriptInvocationContextValue).
const (
	dateTimeFormat       = "2006-01-02T15:04:05"
	dateTimeOffsetFormat = "2006-01-02T15:04:05-07:00"
	// ticksFormat is a DateTimeOffset or local DateTime inside an object:
	// Newtonsoft writes up to seven digits, without trailing zeros.
	ticksFormat = "2006-01-02T15:04:05.9999999-07:00"
	// utcTicksFormat is a DateTime of kind UTC inside an object.
	utcTicksFormat = "2006-01-02T15:04:05.9999999Z"
)

// dateTime is a .NET DateTime in UTC; time.Time stands for a DateTimeOffset.
type dateTime time.Time

// object is a value that JObject.FromObject accepts: it goes on the wire as a
// JSON object, while scalars and arrays go as a string of their JSON text.
type object map[string]any

// bindingData is what the host calls binding data and sends as Metadata: an
// ordered dictionary whose keys are compared in any case.
type bindingData struct {
	keys   []string
	values map[string]any // by lower-cased key
}

// set adds a value or replaces that of an equal key, which keeps its spelling,
// as a .NET dictionary with an ignore-case comparer does.
func (d *bindingData) set(key string, value any) {
	lower := strings.ToLower(key)
	if _, ok := d.values[lower]; !ok {
		d.keys = append(d.keys, key)
	}
	if d.values == nil {
		d.values = map[string]any{}
	}
	d.values[lower] = value
}

// setText adds a string unless it is nil.
func (d *bindingData) setText(key string, value *string) {
	if value != nil {
		d.set(key, *value)
	}
}

// encode writes the metadata: nulls and keys that end in "trigger" are left out.
func (d *bindingData) encode() (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, key := range d.keys {
		value := d.values[strings.ToLower(key)]
		if value == nil || strings.HasSuffix(strings.ToLower(key), "trigger") {
			continue
		}
		encoded, err := encodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", key, err)
		}
		name, err := jsonText(key)
		if err != nil {
			return nil, err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(encoded)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encodeValue puts one value of Data or Metadata on the wire.
func encodeValue(value any) (json.RawMessage, error) {
	switch v := value.(type) {
	case []byte:
		return jsonText(base64.StdEncoding.EncodeToString(v))
	case dateTime:
		return jsonText(time.Time(v).UTC().Format(dateTimeFormat))
	case time.Time:
		return jsonText(v.Format(dateTimeOffsetFormat))
	case object:
		return jsonText(plain(v))
	case json.RawMessage: // an object that arrived as JSON
		return v, nil
	}
	text, err := jsonText(plain(value))
	if err != nil {
		return nil, err
	}
	return jsonText(string(text))
}

// jsonText is a value's JSON, without the escaping of HTML that Newtonsoft
// does not do either.
func jsonText(value any) (json.RawMessage, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// plain turns the AMQP types that application properties may hold into what
// Newtonsoft writes for their .NET counterparts.
func plain(value any) any {
	switch v := value.(type) {
	case object:
		return plainMap(v)
	case map[string]any:
		return plainMap(v)
	case time.Time:
		return v.UTC().Format(utcTicksFormat)
	case amqp.UUID:
		return uuid.UUID(v).String()
	case amqp.Symbol:
		return string(v)
	case float32:
		return plainFloat(float64(v), value)
	case float64:
		return plainFloat(v, value)
	case nil, string, bool, []byte, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, json.RawMessage:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func plainMap(in map[string]any) map[string]any {
	out := make(map[string]any, len(in))
	for key, value := range in {
		out[key] = plain(value)
	}
	return out
}

// plainFloat spells what JSON has no number for as Newtonsoft does.
func plainFloat(f float64, value any) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return value
}
