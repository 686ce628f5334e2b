package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// scenario is steps in their order, on a table of their own.
type scenario struct {
	name  string
	steps []step
}

// step is a request. In path, body and header values endpoint.fill puts in what
// differs between the two sides.
type step struct {
	name, method, path, body string
	headers                  []string // "Name: value"; without a value the header is not sent
	auth                     auth     // nil is sharedKeyLite
}

func get(name, path string, headers ...string) step {
	return step{name: name, method: "GET", path: path, headers: headers}
}

func post(name, path, body string, headers ...string) step {
	return step{name: name, method: "POST", path: path, body: body, headers: headers}
}

func put(name, path, body string, headers ...string) step {
	return step{name: name, method: "PUT", path: path, body: body, headers: headers}
}

func merge(name, path, body string, headers ...string) step {
	return step{name: name, method: "MERGE", path: path, body: body, headers: headers}
}

func remove(name, path string, headers ...string) step {
	return step{name: name, method: "DELETE", path: path, headers: headers}
}

func (s step) as(a auth) step {
	s.auth = a
	return s
}

// insert adds an entity of partition p; more is JSON that begins with a comma,
// or empty.
func insert(row, more string) step {
	return post("insert "+row, "/{T}", `{"PartitionKey":"p","RowKey":"`+row+`"`+more+`}`)
}

// one is the path of an entity of partition p.
func one(row string) string { return "/{T}(PartitionKey='p',RowKey='" + row + "')" }

// query is a path with a query, escaped as clients do.
func query(path string, options ...string) string {
	for i, o := range options {
		name, value, _ := strings.Cut(o, "=")
		options[i] = name + "=" + strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
	}
	return path + "?" + strings.Join(options, "&")
}

const (
	bare    = "Accept: application/json;odata=nometadata"
	full    = "Accept: application/json;odata=fullmetadata"
	anyETag = "If-Match: *"
)

func scenarios() []scenario {
	var all []scenario
	all = append(all, tableScenarios()...)
	all = append(all, entityScenarios()...)
	all = append(all, limitScenarios()...)
	all = append(all, queryScenarios()...)
	all = append(all, filterScenarios()...)
	all = append(all, batchScenarios()...)
	all = append(all, keyScenario())
	return append(all, authScenarios()...)
}

func tableScenarios() []scenario {
	return []scenario{
		{"tables", []step{
			post("create", "/Tables", `{"TableName":"{T}x"}`),
			post("create again", "/Tables", `{"TableName":"{T}x"}`),
			post("create in other letters", "/Tables", `{"TableName":"{T}X"}`),
			post("create without content", "/Tables", `{"TableName":"{T}y"}`, "Prefer: return-no-content"),
			post("create with content", "/Tables", `{"TableName":"{T}z"}`, "Prefer: return-content"),
			post("create without metadata", "/Tables", `{"TableName":"{T}w"}`, bare),
			post("create with all metadata", "/Tables", `{"TableName":"{T}v"}`, full),
			get("list", query("/Tables", "$filter=TableName ge '{T}v' and TableName lt '{T}zz'")),
			get("list without metadata", query("/Tables", "$filter=TableName eq '{T}x'"), bare),
			get("list with all metadata", query("/Tables", "$filter=TableName eq '{T}x'"), full),
			get("first page", query("/Tables", "$top=2", "$filter=TableName ge '{T}v' and TableName lt '{T}zz'"), bare),
			get("second page", query("/Tables", "$top=2", "$filter=TableName ge '{T}v' and TableName lt '{T}zz'")+"&{next}", bare),
			get("last page", query("/Tables", "$top=2", "$filter=TableName ge '{T}v' and TableName lt '{T}zz'")+"&{next}", bare),
			get("one table", "/Tables('{T}x')"),
			get("no such table", "/Tables('{T}none')"),
			remove("delete", "/Tables('{T}x')"),
			remove("delete again", "/Tables('{T}x')"),
			post("no name", "/Tables", `{}`),
			post("short name", "/Tables", `{"TableName":"ab"}`),
			post("long name", "/Tables", `{"TableName":"`+strings.Repeat("a", 64)+`"}`),
			post("name with a dash", "/Tables", `{"TableName":"a-b-c"}`),
			post("name with a digit first", "/Tables", `{"TableName":"1abc"}`),
			post("reserved name", "/Tables", `{"TableName":"tables"}`),
			post("no JSON", "/Tables", `TableName=abc`),
			put("put the set", "/Tables", `{}`),
			get("query of no table", "/{T}none()"),
			get("entity of no table", "/{T}none(PartitionKey='p',RowKey='r')"),
			post("insert into no table", "/{T}none", `{"PartitionKey":"p","RowKey":"r"}`),
			put("upsert into no table", "/{T}none(PartitionKey='p',RowKey='r')", `{}`),
			remove("delete from no table", "/{T}none(PartitionKey='p',RowKey='r')", anyETag),
		}},
		{"access policies", []step{
			get("none", "/{T}?comp=acl", "Accept: application/xml"),
			put("set", "/{T}?comp=acl", acl("one", "r"), "Content-Type: application/xml", "Accept: application/xml"),
			get("one", "/{T}?comp=acl", "Accept: application/xml"),
			put("without an id", "/{T}?comp=acl", acl("", "r"), "Content-Type: application/xml", "Accept: application/xml"),
			put("six", "/{T}?comp=acl", strings.Replace(acl("1", "r"), "</SignedIdentifiers>", strings.Repeat(policy("x", "r"), 5)+"</SignedIdentifiers>", 1),
				"Content-Type: application/xml", "Accept: application/xml"),
			get("of no table", "/{T}none?comp=acl", "Accept: application/xml"),
		}},
		{"service", []step{
			put("set properties", "/?restype=service&comp=properties", properties, "Content-Type: application/xml", "Accept: application/xml"),
			get("properties", "/?restype=service&comp=properties", "Accept: application/xml"),
			put("bad properties", "/?restype=service&comp=properties", `<nonsense`, "Content-Type: application/xml", "Accept: application/xml"),
		}},
	}
}

func policy(id, permission string) string {
	return "<SignedIdentifier><Id>" + id + "</Id><AccessPolicy><Start>2024-01-02T03:04:05Z</Start><Expiry>2034-01-02T03:04:05Z</Expiry><Permission>" +
		permission + "</Permission></AccessPolicy></SignedIdentifier>"
}

func acl(id, permission string) string {
	return `<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>` + policy(id, permission) + "</SignedIdentifiers>"
}

const properties = `<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties>` +
	"<Logging><Version>1.0</Version><Delete>true</Delete><Read>true</Read><Write>false</Write><RetentionPolicy><Enabled>true</Enabled><Days>5</Days></RetentionPolicy></Logging>" +
	"<HourMetrics><Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></HourMetrics>" +
	"<MinuteMetrics><Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></MinuteMetrics>" +
	"<Cors><CorsRule><AllowedOrigins>www.example.com</AllowedOrigins><AllowedMethods>PUT</AllowedMethods><AllowedHeaders>x-ms-*</AllowedHeaders>" +
	"<ExposedHeaders>x-ms-*</ExposedHeaders><MaxAgeInSeconds>500</MaxAgeInSeconds></CorsRule></Cors></StorageServiceProperties>"

// types are a property of each type, as JSON that begins with a comma.
const types = `,"B":true,"D":1.5,"Whole":3,"Whole@odata.type":"Edm.Double","G":"0f0e0d0c-0b0a-0908-0706-050403020100","G@odata.type":"Edm.Guid",` +
	`"I":-7,"L":"1099511627776","L@odata.type":"Edm.Int64","N":"NaN","N@odata.type":"Edm.Double","S":"o'clock","E":"",` +
	`"Bin":"Cv8=","Bin@odata.type":"Edm.Binary","When":"2020-01-02T03:04:05.1234567Z","When@odata.type":"Edm.DateTime"`

func entityScenarios() []scenario {
	return []scenario{
		{"insert", []step{
			insert("a", types),
			get("minimal metadata", one("a")),
			get("no metadata", one("a"), bare),
			get("all metadata", one("a"), full),
			get("list, minimal metadata", "/{T}()"),
			get("list, no metadata", "/{T}()", bare),
			get("list, all metadata", "/{T}", full),
			get("$format before Accept", query("/{T}()", "$format=application/json;odata=nometadata"), full),
			post("insert what is there", "/{T}", `{"PartitionKey":"p","RowKey":"a"}`),
			post("without content", "/{T}", `{"PartitionKey":"p","RowKey":"b"}`, "Prefer: return-no-content"),
			post("with content", "/{T}", `{"PartitionKey":"p","RowKey":"c"}`, "Prefer: return-content", bare),
			post("null is no property", "/{T}", `{"PartitionKey":"p","RowKey":"d","A":null,"B":1}`, bare),
			post("odata annotations are no properties", "/{T}", `{"odata.etag":"x","PartitionKey":"p","RowKey":"e","Timestamp":"2001-01-01T00:00:00Z","B":1}`, bare),
			post("client request id", "/{T}", `{"PartitionKey":"p","RowKey":"f"}`, "x-ms-client-request-id: mine"),
			post("empty keys", "/{T}", `{"PartitionKey":"","RowKey":""}`, bare),
			get("empty keys read", "/{T}(PartitionKey='',RowKey='')", bare),
			post("a whole number that is too long", "/{T}", `{"PartitionKey":"p","RowKey":"g","A":99999999999}`, bare),
			post("Int64 as a number", "/{T}", `{"PartitionKey":"p","RowKey":"h","A":5,"A@odata.type":"Edm.Int64"}`, bare),
			post("a date without its type is text", "/{T}", `{"PartitionKey":"p","RowKey":"i","A":"2020-01-02T03:04:05Z"}`, bare),
			post("a key with a quote", "/{T}", `{"PartitionKey":"p","RowKey":"o'clock"}`),
			get("a key with a quote read", one("o''clock"), bare),
			remove("a key with a quote deleted", one("o''clock"), anyETag),
			post("a key of other letters", "/{T}", `{"PartitionKey":"p","RowKey":"ü€ +%,"}`),
			get("a key of other letters read", one("%C3%BC%E2%82%AC%20%2B%25%2C"), bare),
			post("a key with a quote again", "/{T}", `{"PartitionKey":"p","RowKey":"o'clock"}`, "Prefer: return-no-content"),
			get("a key with an escaped quote read", one("o%27%27clock"), bare),
			merge("a key with an escaped quote merged", one("o%27%27clock"), `{"A":1}`, anyETag),
			remove("a key with an escaped quote deleted", one("o%27%27clock"), anyETag),
			post("a double without a fraction", "/{T}", `{"PartitionKey":"p","RowKey":"j","A":2.0}`, bare),
			get("keys in the other order", "/{T}(RowKey='a',PartitionKey='p')", bare),
			get("selected", query(one("a"), "$select=RowKey,I,Missing"), bare),
			get("no such entity", one("none")),
			get("half a key", "/{T}(PartitionKey='p')"),
		}},
		{"update", []step{
			insert("a", `,"A":1,"B":2`),
			merge("merge", one("a"), `{"B":3,"C":4}`, "If-Match: {etag insert a}"),
			get("merged", one("a"), bare),
			merge("merge again under the old ETag", one("a"), `{"B":5}`, "If-Match: {etag insert a}"),
			{name: "merge by PATCH", method: "PATCH", path: one("a"), body: `{"D":5}`, headers: []string{anyETag}},
			{name: "merge by a tunnel", method: "POST", path: one("a"), body: `{"E":6}`, headers: []string{"X-HTTP-Method: MERGE", anyETag}},
			merge("null changes nothing", one("a"), `{"A":null}`, anyETag),
			get("merged thrice", one("a"), bare),
			put("replace", one("a"), `{"F":7}`, "If-Match: {etag merge}"),
			put("replace under any", one("a"), `{"F":7}`, anyETag),
			get("replaced", one("a"), bare),
			put("replace under a malformed ETag", one("a"), `{}`, "If-Match: tag"),
			put("replace under an empty ETag", one("a"), `{}`, `If-Match: W/""`),
			put("If-None-Match", one("a"), `{}`, "If-None-Match: *"),
			put("replace what is not there", one("none"), `{}`, anyETag),
			merge("merge what is not there", one("none"), `{}`, anyETag),
			put("upsert what is there", one("a"), `{"G":8}`),
			put("upsert what is not there", one("b"), `{"H":9}`),
			merge("upsert-merge what is there", one("b"), `{"I":10}`),
			merge("upsert-merge what is not there", one("c"), `{"J":11}`),
			get("after the upserts", query("/{T}()", "$select=RowKey,F,G,H,I,J"), bare),
			put("other keys in the body", one("a"), `{"PartitionKey":"elsewhere","RowKey":"other","K":12}`),
			get("the URL names the entity", one("a"), bare),
			put("no body", one("a"), ``),
			post("insert over a key", one("a"), `{}`),
			{name: "patch the table", method: "PATCH", path: "/{T}", body: `{}`},
			{name: "tunnel through GET", method: "GET", path: "/{T}", headers: []string{"X-HTTP-Method: DELETE"}},
			post("tunnel to nowhere", "/{T}", `{}`, "X-HTTP-Method: TRACE"),
		}},
		{"delete", []step{
			insert("a", ""),
			remove("without If-Match", one("a")),
			remove("under a malformed ETag", one("a"), "If-Match: tag"),
			remove("under another ETag", one("a"), `If-Match: W/"datetime'2020-01-01T00%3A00%3A00Z'"`),
			remove("under its ETag", one("a"), "If-Match: {etag insert a}"),
			remove("again", one("a"), anyETag),
			insert("b", ""),
			remove("under any", one("b"), anyETag),
			get("nothing is left", "/{T}()", bare),
		}},
	}
}

// keyScenario has keys that have to be escaped in JSON, in a URL, or in a filter.
func keyScenario() scenario {
	s := scenario{name: "keys"}
	for _, key := range []string{" ", "a'b", "''", "a b+c%20d", "ü€😀", "(x)", "a,RowKey='b'", "&=;:@$!*", `"`, "<>", "Tables", "%2F"} {
		quoted := "'" + strings.ReplaceAll(key, "'", "''") + "'"
		path := "/{T}(PartitionKey=" + url.PathEscape(quoted) + ",RowKey=" + url.PathEscape(quoted) + ")"
		text, _ := json.Marshal(key) // a string always has JSON
		s.steps = append(s.steps,
			post("insert "+key, "/{T}", fmt.Sprintf(`{"PartitionKey":%s,"RowKey":%s}`, text, text), bare),
			get("get "+key, path, bare),
			get("query "+key, query("/{T}()", "$filter=PartitionKey eq "+quoted+" and RowKey eq "+quoted), bare),
			merge("merge "+key, path, `{"A":1}`, anyETag),
			remove("delete "+key, path, anyETag),
			put("upsert "+key, path, `{"B":2}`),
			get("get the upserted "+key, path, bare),
			get("list the upserted "+key, "/{T}()", bare),
			remove("delete the upserted "+key, path, anyETag),
		)
	}
	return s
}

// badEntities are bodies that are to be refused.
func badEntities() [][2]string {
	row := 0 // of its own, as Azurite does not refuse all
	entity := func(more string) string {
		row++
		return fmt.Sprintf(`{"PartitionKey":"p","RowKey":"%d",%s}`, row, more)
	}
	return [][2]string{
		{"no row key", `{"PartitionKey":"p"}`},
		{"null key", `{"PartitionKey":"p","RowKey":null}`},
		{"numeric key", `{"PartitionKey":5,"RowKey":"r"}`},
		{"key with a slash", `{"PartitionKey":"a/b","RowKey":"r"}`},
		{"key with a backslash", `{"PartitionKey":"a\\b","RowKey":"r"}`},
		{"key with a hash", `{"PartitionKey":"a#b","RowKey":"r"}`},
		{"key with a question mark", `{"PartitionKey":"a?b","RowKey":"r"}`},
		{"key with a control character", `{"PartitionKey":"a\u0007b","RowKey":"r"}`},
		{"long partition key", `{"PartitionKey":"` + strings.Repeat("k", 1025) + `","RowKey":"r"}`},
		{"long row key", `{"PartitionKey":"p","RowKey":"` + strings.Repeat("k", 1025) + `"}`},
		{"no JSON", `PartitionKey=p`},
		{"cut JSON", `{"PartitionKey":"p"`},
		{"a list", `[]`},
		{"property name with a blank", entity(`"A B":1`)},
		{"property name with a dash", entity(`"A-B":1`)},
		{"property name with a digit first", entity(`"1A":1`)},
		{"long property name", entity(`"` + strings.Repeat("A", 256) + `":1`)},
		{"long text", entity(`"A":"` + strings.Repeat("x", 32769) + `"`)},
		{"long binary", entity(`"A":"` + strings.Repeat("AAAA", 21846) + `","A@odata.type":"Edm.Binary"`)},
		{"early date", entity(`"A":"1600-12-31T23:59:59Z","A@odata.type":"Edm.DateTime"`)},
		{"bad date", entity(`"A":"yesterday","A@odata.type":"Edm.DateTime"`)},
		{"bad GUID", entity(`"A":"some-guid-value","A@odata.type":"Edm.Guid"`)},
		{"bad Int64", entity(`"A":"5x","A@odata.type":"Edm.Int64"`)},
		{"Int64 out of range", entity(`"A":"9223372036854775808","A@odata.type":"Edm.Int64"`)},
		{"bad binary", entity(`"A":"?","A@odata.type":"Edm.Binary"`)},
		{"unknown type", entity(`"A":"5","A@odata.type":"Edm.Decimal"`)},
		{"text as a number", entity(`"A":"x","A@odata.type":"Edm.Int32"`)},
		{"an object", entity(`"A":{"B":1}`)},
		{"an array", entity(`"A":[1]`)},
		{"253 properties", entity(strings.TrimSuffix(properties253(), ","))},
		{"more than 1 MiB", entity(large())},
	}
}

func properties253() string {
	var b strings.Builder
	for i := range 253 {
		fmt.Fprintf(&b, `"A%d":1,`, i)
	}
	return b.String()
}

func large() string {
	var list []string
	for i := range 17 {
		list = append(list, fmt.Sprintf(`"A%d":"%s"`, i, strings.Repeat("x", 32000)))
	}
	return strings.Join(list, ",")
}

func limitScenarios() []scenario {
	s := scenario{name: "refused entities"}
	for _, bad := range badEntities() {
		s.steps = append(s.steps, post(bad[0], "/{T}", bad[1]))
	}
	s.steps = append(s.steps,
		post("keys as long as may be", "/{T}", `{"PartitionKey":"`+strings.Repeat("k", 512)+`","RowKey":"`+strings.Repeat("k", 512)+`"}`, "Prefer: return-no-content"),
		post("text as long as may be", "/{T}", `{"PartitionKey":"p","RowKey":"long","A":"`+strings.Repeat("x", 32768)+`"}`, "Prefer: return-no-content"),
		post("252 properties", "/{T}", `{"PartitionKey":"p","RowKey":"many",`+strings.Replace(properties253(), `"A0":1,`, "", 1)+`"odata.etag":""}`, "Prefer: return-no-content"),
		put("key with a slash in the URL", "/{T}(PartitionKey='a%2Fb',RowKey='r')", `{}`),
	)
	return []scenario{s}
}
