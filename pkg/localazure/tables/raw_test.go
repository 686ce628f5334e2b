package tables

import (
	"net/url"
	"strings"
	"testing"
)

func TestMetadataLevels(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	const in = `{"PartitionKey":"p","RowKey":"o'r","B":true,"D":2.0,"G":"0f0e0d0c-0b0a-0908-0706-050403020100","G@odata.type":"Edm.Guid","L":"5","L@odata.type":"Edm.Int64","N":"NaN","N@odata.type":"Edm.Double"}`
	base := h.web.URL + "/devstoreaccount1"
	const key = `People(PartitionKey='p',RowKey='o%27%27r')`
	const plain = `"B":true,"D":2.0,"G":"0f0e0d0c-0b0a-0908-0706-050403020100","L":"5","N":"NaN"}`
	const typed = `"B":true,"D":2.0,"G@odata.type":"Edm.Guid","G":"0f0e0d0c-0b0a-0908-0706-050403020100","L@odata.type":"Edm.Int64","L":"5","N@odata.type":"Edm.Double","N":"NaN"}`
	inserted := h.raw(t, "POST", "/devstoreaccount1/People", in)
	etag := inserted.header.Get("ETag")
	if inserted.status != 201 || etag == "" || inserted.header.Get("Location") != base+"/"+key || inserted.header.Get("Preference-Applied") != "" {
		t.Errorf("got %d %v", inserted.status, inserted.header)
	}
	stamp, err := url.QueryUnescape(strings.TrimSuffix(strings.TrimPrefix(etag, `W/"datetime'`), `'"`))
	if err != nil {
		t.Fatal(err)
	}
	tag := `"odata.etag":"` + strings.ReplaceAll(etag, `"`, `\"`) + `",`
	system := `"PartitionKey":"p","RowKey":"o'r","Timestamp":"` + stamp + `",`
	minimal := tag + system + typed
	full := `"odata.type":"devstoreaccount1.People","odata.id":"` + base + "/" + key + `",` + tag + `"odata.editLink":"` + key + `",` +
		strings.Replace(system, `"Timestamp"`, `"Timestamp@odata.type":"Edm.DateTime","Timestamp"`, 1) + typed
	element, set := `"odata.metadata":"`+base+`/$metadata#People/@Element",`, `"odata.metadata":"`+base+`/$metadata#People",`
	if inserted.body != "{"+element+minimal {
		t.Errorf("inserted:\n%s\nwant\n%s", inserted.body, "{"+element+minimal)
	}
	for accept, want := range map[string][2]string{
		"application/json;odata=nometadata":               {"{" + system + plain, `{"value":[{` + system + plain + "]}"},
		"application/json; odata=minimalmetadata":         {"{" + element + minimal, "{" + set + `"value":[{` + minimal + "]}"},
		"application/json":                                {"{" + element + minimal, "{" + set + `"value":[{` + minimal + "]}"},
		"application/json;odata=fullmetadata;charset=utf": {"{" + element + full, "{" + set + `"value":[{` + full + "]}"},
	} {
		one := h.raw(t, "GET", "/devstoreaccount1/"+key, "", "Accept: "+accept)
		all := h.raw(t, "GET", "/devstoreaccount1/People()", "", "Accept: "+accept)
		format := h.raw(t, "GET", "/devstoreaccount1/People()?$format="+url.QueryEscape(accept), "", "Accept: application/json;odata=fullmetadata")
		if one.body != want[0] || one.header.Get("ETag") != etag {
			t.Errorf("%s: one is\n%s\nwant\n%s", accept, one.body, want[0])
		}
		if all.body != want[1] || format.body != want[1] {
			t.Errorf("%s: all are\n%s\nor\n%s\nwant\n%s", accept, all.body, format.body, want[1])
		}
	}
	if got := h.raw(t, "GET", "/devstoreaccount1/"+key+"?$select=D,%20Missing,L", "", "Accept: application/json;odata=nometadata").body; got != `{"D":2.0,"L":"5"}` {
		t.Errorf("selected %s", got)
	}
	if got := h.raw(t, "GET", "/devstoreaccount1/Tables", "", "Accept: application/json;odata=fullmetadata").body; got != `{"odata.metadata":"`+base+`/$metadata#Tables","value":[{"odata.type":"devstoreaccount1.Tables","odata.id":"`+base+`/Tables('People')","odata.editLink":"Tables('People')","TableName":"People"}]}` {
		t.Errorf("tables %s", got)
	}
}

func TestPrefer(t *testing.T) {
	h := newHarness(t)
	// The table first: what comes after is in it.
	for _, c := range [][2]string{{"/Tables", `{"TableName":"People"}`}, {"/People", `{"PartitionKey":"p","RowKey":"r"}`}} {
		path, body := c[0], c[1]
		for prefer, status := range map[string]int{"return-no-content": 204, "return-content": 201} {
			got := h.raw(t, "POST", path, body, "Prefer: "+prefer)
			if got.status == 409 { // the other preference came first
				h.raw(t, "DELETE", strings.Replace(path, "Tables", "Tables('People')", 1)+map[string]string{"/People": "(PartitionKey='p',RowKey='r')"}[path], "", "If-Match: *")
				got = h.raw(t, "POST", path, body, "Prefer: "+prefer)
			}
			if got.status != status || got.header.Get("Preference-Applied") != prefer || (got.body == "") != (status == 204) || got.header.Get("Location") == "" {
				t.Errorf("%s %s: got %d %v %s", path, prefer, got.status, got.header, got.body)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	h.raw(t, "POST", "/People", `{"PartitionKey":"p","RowKey":"r"}`)
	const one = "/People(PartitionKey='p',RowKey='r')"
	for name, test := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               string
	}{
		"no row key":                {"POST", "/People", `{"PartitionKey":"p"}`, nil, 400, "PropertiesNeedValue"},
		"null key":                  {"POST", "/People", `{"PartitionKey":"p","RowKey":null}`, nil, 400, "PropertiesNeedValue"},
		"numeric key":               {"POST", "/People", `{"PartitionKey":5,"RowKey":"r"}`, nil, 400, "InvalidInput"},
		"key with a slash":          {"POST", "/People", `{"PartitionKey":"a/b","RowKey":"r"}`, nil, 400, "OutOfRangeInput"},
		"key with a slash in a URL": {"PUT", "/People(PartitionKey='a%2Fb',RowKey='r')", `{}`, nil, 400, "OutOfRangeInput"},
		"long key":                  {"POST", "/People", `{"PartitionKey":"` + strings.Repeat("k", 1025) + `","RowKey":"r"}`, nil, 400, "KeyValueTooLarge"},
		"no JSON":                   {"POST", "/People", `PartitionKey=p`, nil, 400, "InvalidInput"},
		"no body":                   {"POST", "/People", ``, nil, 400, "InvalidInput"},
		"property twice":            {"POST", "/People", `{"PartitionKey":"p","RowKey":"q","A":1,"A":1}`, nil, 400, "DuplicatePropertiesSpecified"},
		"property name":             {"POST", "/People", `{"PartitionKey":"p","RowKey":"q","A B":1}`, nil, 400, "PropertyNameInvalid"},
		"long property name":        {"POST", "/People", `{"PartitionKey":"p","RowKey":"q","` + strings.Repeat("A", 256) + `":1}`, nil, 400, "PropertyNameTooLong"},
		"large value":               {"POST", "/People", `{"PartitionKey":"p","RowKey":"q","A":"` + strings.Repeat("x", 32769) + `"}`, nil, 400, "PropertyValueTooLarge"},
		"bad date":                  {"POST", "/People", `{"PartitionKey":"p","RowKey":"q","A":"0001-01-01T00:00:00Z","A@odata.type":"Edm.DateTime"}`, nil, 400, "OutOfRangeInput"},
		"huge body":                 {"POST", "/People", strings.Repeat(" ", 4<<20+1), nil, 413, "RequestBodyTooLarge"},
		"exists":                    {"POST", "/People", `{"PartitionKey":"p","RowKey":"r"}`, nil, 409, "EntityAlreadyExists"},
		"no format for an insert":   {"POST", "/People", `{"PartitionKey":"p","RowKey":"atom"}`, []string{"Accept: "}, 415, "AtomFormatNotSupported"},
		"no format":                 {"GET", "/People", ``, []string{"Accept: "}, 415, "AtomFormatNotSupported"},
		"Atom body":                 {"POST", "/People", `<entry/>`, []string{"Content-Type: application/atom+xml"}, 415, "AtomFormatNotSupported"},
		"delete without If-Match":   {"DELETE", one, ``, nil, 400, "MissingRequiredHeader"},
		"malformed ETag":            {"DELETE", one, ``, []string{"If-Match: tag"}, 400, "InvalidInput"},
		"stale ETag":                {"DELETE", one, ``, []string{`If-Match: W/"x"`}, 412, "UpdateConditionNotSatisfied"},
		"If-None-Match":             {"PUT", one, `{}`, []string{`If-None-Match: *`}, 400, "InvalidInput"},
		"no such entity":            {"GET", "/People(PartitionKey='p',RowKey='q')", ``, nil, 404, "ResourceNotFound"},
		"no such table":             {"GET", "/Nobody(PartitionKey='p',RowKey='q')", ``, nil, 404, "TableNotFound"},
		"query of no table":         {"GET", "/Nobody()", ``, nil, 404, "TableNotFound"},
		"half a key":                {"GET", "/People(PartitionKey='p')", ``, nil, 400, "InvalidInput"},
		"key given twice":           {"GET", "/People(PartitionKey='p',PartitionKey='p')", ``, nil, 400, "InvalidInput"},
		"quote not doubled":         {"GET", "/People(PartitionKey='o'clock',RowKey='r')", ``, nil, 400, "InvalidInput"},
		"parenthesis open":          {"GET", "/People(PartitionKey='p',RowKey='r'", ``, nil, 400, "InvalidInput"},
		"deeper path":               {"GET", "/People/x", ``, nil, 400, "InvalidInput"},
		"other account":             {"GET", "/other/People", ``, nil, 400, "InvalidInput"},
		"method":                    {"PATCH", "/People", `{}`, nil, 405, "MethodNotAllowed"},
		"method on the set":         {"PUT", "/Tables", `{}`, nil, 405, "MethodNotAllowed"},
		"open quote":                {"GET", "/People?$filter=RowKey%20eq%20'x", ``, nil, 400, "InvalidInput"},
		"top":                       {"GET", "/People?$top=1001", ``, nil, 400, "InvalidInput"},
		"top of nothing":            {"GET", "/People?$top=", ``, nil, 400, "InvalidInput"},
		"order":                     {"GET", "/People?$orderby=RowKey", ``, nil, 501, "NotImplemented"},
		"made-up continuation":      {"GET", "/People?NextPartitionKey=p&NextRowKey=r", ``, nil, 400, "InvalidInput"},
		"service":                   {"GET", "/", ``, nil, 400, "InvalidQueryParameterValue"},
		"table without a name":      {"POST", "/Tables", `{}`, nil, 400, "PropertiesNeedValue"},
		"table name":                {"POST", "/Tables", `{"TableName":"a-b-c"}`, nil, 400, "InvalidResourceName"},
		"reserved table name":       {"POST", "/Tables", `{"TableName":"tables"}`, nil, 400, "InvalidInput"},
		"tunnel through GET":        {"GET", "/People", ``, []string{"X-HTTP-Method: DELETE"}, 400, "XMethodNotUsingPost"},
		"tunnel to nowhere":         {"POST", "/People", ``, []string{"X-HTTP-Method: TRACE"}, 400, "XMethodIncorrectValue"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := h.raw(t, test.method, test.path, test.body, test.headers...); got.status != test.status || got.code(t) != test.code {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, test.status, test.code)
			}
		})
	}
	if got := h.raw(t, "GET", "/People?$select=RowKey", "", "Accept: application/json;odata=nometadata").body; got != `{"value":[{"RowKey":"r"}]}` {
		t.Errorf("what was refused left %s", got)
	}
}

func TestXMLErrors(t *testing.T) {
	h := newHarness(t)
	got := h.raw(t, "PUT", "/?restype=service&comp=properties", "<nonsense", "Accept: application/xml")
	if got.status != 400 || got.header.Get("Content-Type") != "application/xml" || !strings.Contains(got.body, "<code>InvalidXmlDocument</code>") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got = h.raw(t, "GET", "/Tables", "", "Accept: application/atom+xml"); got.status != 415 || !strings.Contains(got.body, "<code>AtomFormatNotSupported</code>") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestTunnelledMethodsAndMerge(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	const one = "/People(RowKey='r', PartitionKey='p')"
	path := strings.ReplaceAll(one, " ", "%20")
	for _, test := range []struct {
		method, header, body, want string
	}{
		{"PUT", "", `{"A":1}`, `{"A":1}`},
		{"MERGE", "", `{"B":2}`, `{"A":1,"B":2}`},
		{"PATCH", "", `{"C":null,"D":4}`, `{"A":1,"B":2,"D":4}`},
		{"POST", "X-HTTP-Method: MERGE", `{"PartitionKey":"elsewhere","A":5}`, `{"A":5,"B":2,"D":4}`},
		{"POST", "X-HTTP-Method: PUT", ``, `{}`},
	} {
		if got := h.raw(t, test.method, path, test.body, test.header); got.status != 204 || got.header.Get("ETag") == "" {
			t.Errorf("%s %s: got %d %s", test.method, test.header, got.status, got.body)
		}
		if got := h.raw(t, "GET", path+"?$select=A,B,C,D", "", "Accept: application/json;odata=nometadata").body; got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.method, test.header, got, test.want)
		}
	}
	if got := h.raw(t, "POST", path, "", "X-HTTP-Method: DELETE", "If-Match: *"); got.status != 204 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
