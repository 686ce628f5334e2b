package tables

import (
	"regexp"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

const batchType = "Content-Type: multipart/mixed; boundary=batch_1"

// rawBatch wraps requests in a change set, as clients do.
func rawBatch(requests ...string) string {
	var b strings.Builder
	b.WriteString("--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n")
	for _, r := range requests {
		b.WriteString("--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + r + "\r\n")
	}
	b.WriteString("--changeset_1--\r\n\r\n--batch_1--\r\n")
	return b.String()
}

func TestBatchReplyIsWhatClientsParse(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	got := h.raw(t, "POST", "/devstoreaccount1/$batch", rawBatch(
		"POST "+h.web.URL+"/devstoreaccount1/People HTTP/1.1\r\nContent-Type: application/json\r\nPrefer: return-no-content\r\nContent-ID: 7\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"a\"}",
		"POST /devstoreaccount1/People HTTP/1.1\r\nAccept: application/json;odata=nometadata\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"b\"}",
		"MERGE /devstoreaccount1/People(PartitionKey='p',RowKey='c') HTTP/1.1\r\n\r\n{}",
	), batchType)
	want := regexp.MustCompile(`(?s)^--batchresponse_[-0-9a-f]{36}\r
Content-Type: multipart/mixed; boundary=changesetresponse_[-0-9a-f]{36}\r
\r
--changesetresponse_[-0-9a-f]{36}\r
Content-Type: application/http\r
Content-Transfer-Encoding: binary\r
\r
HTTP/1\.1 204 No Content\r
[^{]*Content-ID: 7\r
[^{]*ETag: W/"datetime'[^']+'"\r
[^{]*Preference-Applied: return-no-content\r
\r
\r
--changesetresponse_.*
HTTP/1\.1 201 Created\r
.*\r
\r
{"PartitionKey":"p","RowKey":"b","Timestamp":"[^"]+"}\r
--changesetresponse_.*
HTTP/1\.1 204 No Content\r
.*
--changesetresponse_[-0-9a-f]{36}--\r
--batchresponse_[-0-9a-f]{36}--\r
$`)
	if got.status != 202 || !strings.HasPrefix(got.header.Get("Content-Type"), "multipart/mixed; boundary=batchresponse_") || !want.MatchString(got.body) {
		t.Errorf("got %d %v\n%s", got.status, got.header, got.body)
	}
}

func TestBatchRefusals(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	insert := func(row string) string {
		return "POST /People HTTP/1.1\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"" + row + "\"}"
	}
	many := make([]string, 150)
	for i := range many {
		many[i] = insert(strings.Repeat("x", i+1))
	}
	for name, test := range map[string]struct {
		body string
		want string
	}{
		"too many":         {rawBatch(many...), `HTTP/1.1 400 Bad Request.*"InvalidInput".*"99:The batch request operation exceeds`},
		"twice":            {rawBatch(insert("a"), insert("a")), `HTTP/1.1 400 .*"InvalidDuplicateRow".*"1:A command with RowKey 'a'`},
		"query in it":      {rawBatch(insert("a"), "GET /People(PartitionKey='p',RowKey='a') HTTP/1.1\r\n\r\n"), `HTTP/1.1 405 .*"MethodNotAllowed".*"1:`},
		"bad URL":          {rawBatch(insert("a"), "DELETE /People(x) HTTP/1.1\r\nIf-Match: *\r\n\r\n"), `HTTP/1.1 400 .*"InvalidInput".*"1:`},
		"a table":          {rawBatch(insert("a"), "DELETE /Tables('People') HTTP/1.1\r\n\r\n"), `HTTP/1.1 405 .*"MethodNotAllowed".*"1:`},
		"bad entity":       {rawBatch(insert("a"), "POST /People HTTP/1.1\r\n\r\n{"), `HTTP/1.1 400 .*"InvalidInput".*"1:`},
		"no table":         {rawBatch("POST /Nowhere HTTP/1.1\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"a\"}"), `HTTP/1.1 404 .*"TableNotFound".*"0:`},
		"If-Match missing": {rawBatch(insert("a"), "DELETE /People(PartitionKey='p',RowKey='b') HTTP/1.1\r\n\r\n"), `HTTP/1.1 400 .*"MissingRequiredHeader".*"1:`},
		"Atom answer":      {rawBatch(insert("a"), "POST /People HTTP/1.1\r\nAccept: application/atom+xml\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"b\"}"), `HTTP/1.1 415 .*"AtomFormatNotSupported".*"1:`},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.raw(t, "POST", "/$batch", test.body, batchType)
			if got.status != 202 || !regexp.MustCompile("(?s)"+test.want).MatchString(got.body) || strings.Count(got.body, "HTTP/1.1") != 1 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	if got := h.raw(t, "GET", "/People", "", "Accept: application/json;odata=nometadata").body; got != `{"value":[]}` {
		t.Errorf("a refused batch left %s", got)
	}
}

func TestBatchQuery(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	h.raw(t, "POST", "/People", `{"PartitionKey":"p","RowKey":"a"}`)
	batch := func(line string) string {
		return "--batch_1\r\nContent-Type: application/http\r\n\r\n" + line + " HTTP/1.1\r\nAccept: application/json;odata=nometadata\r\n\r\n\r\n--batch_1--\r\n"
	}
	for line, want := range map[string]string{
		"GET " + h.web.URL + "/People(PartitionKey='p',RowKey='a')?$select=RowKey": `HTTP/1.1 200 OK`,
		"GET /People(PartitionKey='p',RowKey='b')":                                 `HTTP/1.1 404 Not Found`,
		"GET /Tables": `HTTP/1.1 400 Bad Request`,
		"DELETE /People(PartitionKey='p',RowKey='a')": `HTTP/1.1 400 Bad Request`,
	} {
		if got := h.raw(t, "POST", "/$batch", batch(line), batchType); got.status != 202 || !strings.Contains(got.body, want) {
			t.Errorf("%s: got %d %s", line, got.status, got.body)
		}
	}
}

func TestParseBatchRefuses(t *testing.T) {
	good := rawBatch("POST /People HTTP/1.1\r\n\r\n{}")
	if b, err := parseBatch("multipart/mixed; boundary=batch_1", []byte(good)); err != nil || !b.changeset || len(b.parts) != 1 || string(b.parts[0].body) != "{}" {
		t.Fatalf("%+v, %v", b, err)
	}
	for name, test := range map[string]struct{ contentType, body string }{
		"no type":           {"", good},
		"other type":        {"application/json; boundary=batch_1", good},
		"no boundary":       {"multipart/mixed", good},
		"other boundary":    {"multipart/mixed; boundary=batch_2", good},
		"empty":             {"multipart/mixed; boundary=batch_1", ""},
		"cut off":           {"multipart/mixed; boundary=batch_1", good[:len(good)-20]},
		"empty change set":  {"multipart/mixed; boundary=batch_1", rawBatch()},
		"not HTTP":          {"multipart/mixed; boundary=batch_1", strings.Replace(good, "application/http", "text/plain", 1)},
		"no request line":   {"multipart/mixed; boundary=batch_1", rawBatch("POST /People")},
		"bad header":        {"multipart/mixed; boundary=batch_1", rawBatch("POST /People HTTP/1.1\r\n: x\r\n\r\n{}")},
		"control in header": {"multipart/mixed; boundary=batch_1", rawBatch("POST /People HTTP/1.1\r\nContent-ID: 1\x00\r\n\r\n{}")},
		"two change sets":   {"multipart/mixed; boundary=batch_1", strings.Replace(good, "--batch_1--", "", 1) + good},
	} {
		_, err := parseBatch(test.contentType, []byte(test.body))
		if e, ok := tableerr.As(err); !ok || e.Code != tableerr.InvalidInput {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzParseBatch: nothing ends the process, refusals are InvalidInput, and what
// is accepted stays within the bounds.
func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(rawBatch("POST /People HTTP/1.1\r\nA: b\r\n\r\n{}", "DELETE /x HTTP/1.1\r\nIf-Match: *\r\n\r\n")))
	f.Add([]byte(rawBatch()))
	f.Add([]byte("--batch_1\r\nContent-Type: application/http\r\n\r\nGET /x HTTP/1.1\r\n\r\n\r\n--batch_1--\r\n"))
	f.Add([]byte("--batch_1\nContent-Type: multipart/mixed; boundary=\"\"\n\n--batch_1--"))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseBatch("multipart/mixed; boundary=batch_1", body)
		if err != nil {
			if e, ok := tableerr.As(err); !ok || e.Code != tableerr.InvalidInput {
				t.Fatalf("not an InvalidInput: %v", err)
			}
			return
		}
		if len(b.parts) == 0 || len(b.parts) > maxParts || !b.changeset && len(b.parts) != 1 {
			t.Fatalf("%d parts", len(b.parts))
		}
		for _, p := range b.parts {
			if p.method == "" || p.url == "" || p.header == nil {
				t.Fatalf("part %+v", p)
			}
		}
	})
}

// FuzzParseTarget: what entityPath writes, parseTarget reads; and no path ends
// the process.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"/", "/People", "/acct/People(PartitionKey='o%27%27c',RowKey='')", "/Tables('x')", "/$batch", "/People(", "/a(RowKey='", "/%zz", "//x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := parseTarget("acct", path)
		if err != nil || got.kind != targetEntity {
			return
		}
		again, err := parseTarget("acct", "/acct/"+entityPath(got.table, got.key))
		if err == nil && (again.key != got.key || again.table != got.table) {
			t.Fatalf("%q: %+v became %+v", path, got, again)
		}
	})
}
