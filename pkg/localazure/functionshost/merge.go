package functionshost

import (
	"encoding/json"
	"strings"
	"time"
)

// merge adds the top-level properties of a payload that is a JSON object to the
// binding data, where they replace what is there: a body with "messageId"
// replaces the broker's MessageId. It is what the host does with every trigger
// value that is a string (Utility.ApplyBindingData); arrays and nulls are
// skipped, objects stay objects, all else becomes text.
func (d *bindingData) merge(payload string) {
	payload = strings.TrimSpace(payload)
	if !strings.HasPrefix(payload, "{") || !strings.HasSuffix(payload, "}") {
		return
	}
	properties, err := topLevel(payload)
	if err != nil {
		return // what is not JSON is no error: there is nothing to merge
	}
	for _, p := range properties {
		if value, ok := mergedValue(p.value); ok {
			d.set(p.name, value)
		}
	}
}

type property struct {
	name  string
	value json.RawMessage
}

// topLevel lists an object's properties in order; of those that appear twice
// the later one counts, because it is set later.
func topLevel(text string) ([]property, error) {
	if !json.Valid([]byte(text)) {
		return nil, errNotJSON
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	var properties []property
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		p := property{name: name.(string)} // a key of a valid object is a string
		if err := decoder.Decode(&p.value); err != nil {
			return nil, err
		}
		properties = append(properties, p)
	}
	return properties, nil
}

// mergedValue converts as a cast of a Newtonsoft token to string does:
// booleans become True and False, dates lose their form.
func mergedValue(raw json.RawMessage) (any, bool) {
	switch raw[0] {
	case '[', 'n':
		return nil, false
	case '{':
		return raw, true
	case 't':
		return "True", true
	case 'f':
		return "False", true
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, false
		}
		if t, ok := newtonsoftDate(s); ok {
			return t.Format("01/02/2006 15:04:05"), true
		}
		return s, true
	}
	return string(raw), true
}

// newtonsoftDate recognises the ISO 8601 texts that Newtonsoft takes for dates
// while parsing; an offset moves the clock to the host's zone, which is UTC.
func newtonsoftDate(s string) (time.Time, bool) {
	if len(s) < 19 || len(s) > 40 || s[10] != 'T' {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, dateTimeFormat} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
