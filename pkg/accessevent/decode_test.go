package accessevent_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
)

const (
	message    = `{"requestor":"alice@contoso.com","virtualMachines":[]}`
	structured = `{"specversion":"1.0","type":"io.portcullis.access.request.v1","source":"/ci/deploy","id":"42","datacontenttype":"application/json","data":` + message + `}`
	cejson     = "application/cloudevents+json"
)

func binary(change func(map[string]string)) map[string]string {
	p := map[string]string{"cloudEvents:specversion": "1.0", "cloudEvents:type": accessevent.RequestType, "cloudEvents:source": "/ci/deploy", "cloudEvents:id": "42", "other": "x"}
	if change != nil {
		change(p)
	}
	return p
}

func but(old, now string) string {
	if !strings.Contains(structured, old) {
		panic("the event does not have " + old)
	}
	return strings.Replace(structured, old, now, 1)
}

func TestTheSameEventIsTheSameRequestInEitherMode(t *testing.T) {
	want := ""
	for name, c := range map[string]struct {
		contentType string
		properties  map[string]string
		body        string
	}{
		"structured":                {cejson, nil, structured},
		"with a charset":            {"application/cloudevents+json; charset=UTF-8", nil, structured},
		"in another case":           {"Application/CloudEvents+JSON", nil, structured},
		"without datacontenttype":   {cejson, nil, but(`"datacontenttype":"application/json",`, "")},
		"data before the version":   {cejson, nil, `{"data":` + message + `,"id":"42","source":"/ci/deploy","type":"` + accessevent.RequestType + `","specversion":"1.0"}`},
		"with extensions":           {cejson, nil, but(`"id":"42"`, `"id":"42","traceparent":"00-1","n":1,"b":true,"subject":"s","time":"2026-11-24T09:00:00Z","dataschema":"https://example.org/s"`)},
		"data_base64":               {cejson, nil, but(`"data":`+message, `"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(message))+`"`)},
		"data_base64 first":         {cejson, nil, `{"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(message)) + `","id":"42","source":"/ci/deploy","type":"` + accessevent.RequestType + `","specversion":"1.0"}`},
		"binary":                    {"application/json", binary(nil), message},
		"binary, no content type":   {"", binary(nil), message},
		"binary, with a charset":    {"application/json; charset=utf-8", binary(nil), message},
		"binary, the other prefix":  {"application/json", map[string]string{"cloudEvents_specversion": "1.0", "cloudEvents_type": accessevent.RequestType, "cloudEvents_source": "/ci/deploy", "cloudEvents_id": "42"}, message},
		"binary, the host's time":   {"application/json", binary(func(p map[string]string) { p["cloudEvents:time"] = "2026-11-24T09:00:00" }), message},
		"binary, with an extension": {"application/json", binary(func(p map[string]string) { p["cloudEvents:traceparent"] = "00-1" }), message},
	} {
		r, is, err := accessevent.DecodeRequest(c.contentType, c.properties, []byte(c.body))
		if err != nil || !is || string(r.Data) != message {
			t.Errorf("%s: %v, %v, %s", name, is, err, r.Data)
			continue
		}
		if want == "" {
			want = r.ClientID
		}
		if r.ClientID != want || len(r.ClientID) > 128 {
			t.Errorf("%s: id %s, want %s", name, r.ClientID, want)
		}
	}
	for name, body := range map[string]string{"another id": but(`"42"`, `"43"`), "another source": but("/ci/deploy", "/ci/deploy2"), "the same letters": but(`/ci/deploy","id":"42"`, `/ci/deploy4","id":"2"`)} {
		if r, _, err := accessevent.DecodeRequest(cejson, nil, []byte(body)); err != nil || r.ClientID == want {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestWhatIsNoCloudEventIsNone(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "text/plain", "application/x-cloudevents"} {
		if _, is, err := accessevent.DecodeRequest(contentType, map[string]string{"portcullis-attempts": "1", "cloudevents:id": "1"}, []byte(structured)); is || err != nil {
			t.Errorf("%q: %v, %v", contentType, is, err)
		}
	}
}

func TestACloudEventIsReadStrictly(t *testing.T) {
	none := map[string]string(nil)
	without := func(name string) map[string]string {
		return binary(func(p map[string]string) { delete(p, "cloudEvents:"+name) })
	}
	with := func(name, v string) map[string]string {
		return binary(func(p map[string]string) { p[name] = v })
	}
	for name, c := range map[string]struct {
		contentType string
		properties  map[string]string
		body        string
		reason      string
	}{
		"both modes":            {cejson, binary(nil), structured, "cloudevent_invalid"},
		"a batch":               {"application/cloudevents-batch+json", none, "[" + structured + "]", "cloudevent_format_unknown"},
		"another format":        {"application/cloudevents+avro", none, structured, "cloudevent_format_unknown"},
		"another charset":       {cejson + "; charset=utf-16", none, structured, "cloudevent_format_unknown"},
		"a spoilt content type": {cejson + "; charset", none, structured, "cloudevent_format_unknown"},
		"not JSON":              {cejson, none, "x", "not_json"},
		"null":                  {cejson, none, "null", "not_an_object"},
		"a list":                {cejson, none, "[" + structured + "]", "not_an_object"},
		"two":                   {cejson, none, structured + structured, "not_json"},
		"an attribute twice":    {cejson, none, but(`"id":"42"`, `"id":"42","id":"43"`), "field_twice"},
		"an attribute null":     {cejson, none, but(`"42"`, "null"), "null"},
		"data twice":            {cejson, none, but(`"data":`, `"data_base64":"e30=","data":`), "cloudevent_invalid"},
		"too large":             {cejson, none, but(`"42"`, `"`+strings.Repeat("4", 256<<10)+`"`), "body_too_large"},
		"too deep":              {cejson, none, but(message, strings.Repeat("[", 20)+strings.Repeat("]", 20)), "too_deep"},
		"an old version":        {cejson, none, but(`"1.0"`, `"0.3"`), "cloudevent_version_unknown"},
		"no version":            {cejson, none, but(`"specversion":"1.0",`, ""), "cloudevent_version_unknown"},
		"a version's number":    {cejson, none, but(`"1.0"`, `1.0`), "cloudevent_invalid"},
		"no id":                 {cejson, none, but(`"id":"42",`, ""), "cloudevent_invalid"},
		"an empty id":           {cejson, none, but(`"42"`, `""`), "cloudevent_invalid"},
		"an id's number":        {cejson, none, but(`"42"`, `42`), "cloudevent_invalid"},
		"no source":             {cejson, none, but(`"source":"/ci/deploy",`, ""), "cloudevent_invalid"},
		"a spoilt time":         {cejson, none, but(`"id":"42"`, `"id":"42","time":"noon"`), "cloudevent_invalid"},
		"an object":             {cejson, none, but(`"id":"42"`, `"id":"42","x":{}`), "cloudevent_invalid"},
		"a strange name":        {cejson, none, but(`"id":"42"`, `"id":"42","X-1":"y"`), "cloudevent_invalid"},
		"no name":               {cejson, none, but(`"id":"42"`, `"id":"42","":"y"`), "cloudevent_invalid"},
		"data_base64 no string": {cejson, none, but(`"data":`+message, `"data_base64":1`), "cloudevent_invalid"},
		"data_base64 not so":    {cejson, none, but(`"data":`+message, `"data_base64":"%"`), "cloudevent_invalid"},
		"no type":               {cejson, none, but(`"type":"io.portcullis.access.request.v1",`, ""), "cloudevent_invalid"},
		"another type":          {cejson, none, but("request.v1", "request.v2"), "cloudevent_type_unknown"},
		"our own event":         {cejson, none, but("request.v1", "opened.v1"), "cloudevent_type_unknown"},
		"other data":            {cejson, none, but(`"application/json"`, `"text/xml"`), "cloudevent_invalid"},
		"other data, encoded":   {cejson, none, but(`"application/json","data":`+message, `"text/xml","data_base64":"e30="`), "cloudevent_data_not_json"},
		"no data":               {cejson, none, but(`,"data":`+message, ""), "cloudevent_data_not_json"},

		"binary, no version":         {"", without("specversion"), message, "cloudevent_version_unknown"},
		"binary, an old version":     {"", with("cloudEvents:specversion", "0.3"), message, "cloudevent_version_unknown"},
		"binary, no id":              {"", without("id"), message, "cloudevent_invalid"},
		"binary, no source":          {"", without("source"), message, "cloudevent_invalid"},
		"binary, no type":            {"", without("type"), message, "cloudevent_invalid"},
		"binary, another type":       {"", with("cloudEvents:type", "x"), message, "cloudevent_type_unknown"},
		"binary, an attribute twice": {"", with("cloudEvents_id", "43"), message, "cloudevent_invalid"},
		"binary, a strange name":     {"", with("cloudEvents:X-1", "y"), message, "cloudevent_invalid"},
		"binary, datacontenttype":    {"", with("cloudEvents:datacontenttype", "application/json"), message, "cloudevent_invalid"},
		"binary, other data":         {"text/plain", binary(nil), message, "cloudevent_data_not_json"},
		"binary, another charset":    {"application/json; charset=latin1", binary(nil), message, "cloudevent_data_not_json"},
		"binary, no data":            {"", binary(nil), "", "cloudevent_data_not_json"},
		"binary, too large":          {"", binary(nil), strings.Repeat("x", 257<<10), "body_too_large"},
	} {
		_, is, err := accessevent.DecodeRequest(c.contentType, c.properties, []byte(c.body))
		if !is || access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v, %v, want %s", name, is, err, c.reason)
		}
	}
}

func TestAMessageKeepsWhatSaysWhatItIs(t *testing.T) {
	got := accessevent.Properties(binary(func(p map[string]string) { p["cloudEvents_x"] = "y" }))
	want := binary(func(p map[string]string) { p["cloudEvents_x"] = "y"; delete(p, "other") })
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(cejson, "", "", "", "", structured)
	f.Add("application/json", "cloudEvents:specversion", "1.0", "cloudEvents:id", "1", message)
	f.Add(cejson, "", "", "", "", `{"data_base64":1,"specversion":"1.0"}`)
	f.Add(cejson, "", "", "", "", `{"specversion":"1.0","id":"1","source":"a","type":"io.portcullis.access.request.v1","data_base64":"\u0065=="}`)
	f.Fuzz(func(t *testing.T, contentType, name1, v1, name2, v2, body string) {
		p := map[string]string{"cloudEvents:type": accessevent.RequestType, "cloudEvents:source": "s", name1: v1, name2: v2}
		for _, properties := range []map[string]string{nil, p} {
			r, is, err := accessevent.DecodeRequest(contentType, properties, []byte(body))
			switch {
			case err != nil && (!is || access.CodeOf(err) != access.InvalidArgument || len(err.Error()) > 2000):
				t.Errorf("%v, %v", is, err)
			case err == nil && is && (len(r.Data) == 0 || len(r.ClientID) != 67):
				t.Errorf("%+v", r)
			case err == nil && is && properties == nil:
				// What was read strictly is what any reader of JSON reads.
				var doc struct {
					Data json.RawMessage `json:"data"`
					B64  []byte          `json:"data_base64"`
				}
				if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Data) > 0 && string(doc.Data) != string(r.Data) || len(doc.Data) == 0 && string(doc.B64) != string(r.Data) {
					t.Errorf("%v: %q, read %q", err, body, r.Data)
				}
			}
		}
	})
}
