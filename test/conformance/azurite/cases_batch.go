package main

import (
	"strings"
	"time"
)

// operation is one request of a transaction.
func operation(method, path, body string, headers ...string) string {
	text := method + " {base}" + path + " HTTP/1.1\r\nAccept: application/json;odata=minimalmetadata\r\nDataServiceVersion: 3.0\r\n"
	if body != "" {
		text += "Content-Type: application/json\r\n"
	}
	for _, h := range headers {
		text += h + "\r\n"
	}
	return text + "\r\n" + body
}

// changes is a transaction, as the SDKs write it.
func changes(name string, operations ...string) step {
	var b strings.Builder
	b.WriteString("--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n")
	for _, o := range operations {
		b.WriteString("--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + o + "\r\n")
	}
	b.WriteString("--changeset_1--\r\n\r\n--batch_1--\r\n")
	return step{name: name, method: "POST", path: "/$batch", body: b.String(), headers: []string{batchType}}
}

// alone is a batch of one query.
func alone(name, path string) step {
	body := "--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + operation("GET", path, "") + "\r\n--batch_1--\r\n"
	return step{name: name, method: "POST", path: "/$batch", body: body, headers: []string{batchType}}
}

const batchType = "Content-Type: multipart/mixed; boundary=batch_1"

func batchScenarios() []scenario {
	add := func(row string, headers ...string) string {
		return operation("POST", "/{T}", `{"PartitionKey":"p","RowKey":"`+row+`"}`, headers...)
	}
	var many []string
	for i := range 101 {
		many = append(many, add(strings.Repeat("x", i+1), "Prefer: return-no-content"))
	}
	rows := get("what is there", query("/{T}()", "$select=PartitionKey,RowKey"), bare)
	rows2 := rows
	rows2.name = "what is there at the end"
	return []scenario{{"transactions", []step{
		changes("insert", add("a", "Prefer: return-no-content"), add("b"), add("c", "Prefer: return-content")),
		changes("every kind", add("d", "Prefer: return-no-content"),
			operation("PUT", one("a"), `{"A":1}`), operation("MERGE", one("b"), `{"B":2}`, anyETag),
			operation("PATCH", one("e"), `{"E":5}`), operation("DELETE", one("c"), "", anyETag)),
		rows,
		get("what was merged", one("b"), bare),
		changes("exists", add("f", "Prefer: return-no-content"), add("a")),
		changes("not there", add("f"), operation("DELETE", one("none"), "", anyETag)),
		changes("another ETag", add("f"), operation("MERGE", one("a"), `{}`, `If-Match: W/"datetime'2020-01-01T00%3A00%3A00Z'"`)),
		changes("the same row twice", add("f"), add("f")),
		changes("no table", operation("POST", "/{T}none", `{"PartitionKey":"p","RowKey":"f"}`)),
		changes("a query in it", add("f"), operation("GET", one("a"), "")),
		changes("101 operations", many...),
		changes("100 operations", many[:100]...),
		alone("one query", one("b")),
		alone("one query of what is not there", one("none")),
		{name: "no boundary", method: "POST", path: "/$batch", body: "x", headers: []string{"Content-Type: multipart/mixed"}},
		{name: "read the batch", method: "GET", path: "/$batch"},
		rows2,
		changes("delete without If-Match", add("f"), operation("DELETE", one("a"), "")),
		changes("two partitions", add("i"), operation("POST", "/{T}", `{"PartitionKey":"q","RowKey":"i"}`)),
		changes("a bad entity", add("g"), operation("POST", "/{T}", `{"PartitionKey":"p","RowKey":"h","A-B":1}`)),
	}}}
}

func authScenarios() []scenario {
	tables := get("", "/Tables?$top=1", bare)
	named := func(s step, name string, a auth) step {
		s.name = name
		return s.as(a)
	}
	add := func(row string) step { return insert(row, "") }
	const hour = time.Hour
	return []scenario{
		{"shared keys", []step{
			named(tables, "full", sharedKey),
			named(tables, "none", authorization("")),
			named(tables, "unknown scheme", authorization("Basic eDp5")),
			named(tables, "wrong signature", authorization("SharedKeyLite "+account+":"+mac("x"))),
			named(tables, "no signature", authorization("SharedKeyLite "+account)),
			named(tables, "other account", authorization("SharedKeyLite other:"+mac("x"))),
			named(tables, "sixteen minutes old", liteAt(time.Now().Add(-16*time.Minute))),
			named(tables, "sixteen minutes early", liteAt(time.Now().Add(16*time.Minute))),
			named(add("full"), "insert, full", sharedKey),
		}},
		{"shared access signatures", []step{
			add("a"),
			named(get("", one("a"), bare), "account, read", accountSAS("r", "o", -hour, hour)),
			named(add("b"), "account, read, insert", accountSAS("r", "o", -hour, hour)),
			named(add("b"), "account, add, insert", accountSAS("a", "o", -hour, hour)),
			named(put("", one("b"), `{}`), "account, add, upsert", accountSAS("a", "o", -hour, hour)),
			named(put("", one("b"), `{}`), "account, add and update, upsert", accountSAS("au", "o", -hour, hour)),
			named(remove("", one("b"), anyETag), "account, update, delete", accountSAS("u", "o", -hour, hour)),
			named(remove("", one("b"), anyETag), "account, delete", accountSAS("d", "o", -hour, hour)),
			named(get("", one("a"), bare), "account, other resources", accountSAS("r", "s", -hour, hour)),
			named(get("", one("a"), bare), "account, expired", accountSAS("r", "o", -2*hour, -hour)),
			named(get("", one("a"), bare), "account, not yet", accountSAS("r", "o", hour, 2*hour)),
			named(get("", query("/Tables", "$filter=TableName eq '{T}'"), bare), "account, list tables", accountSAS("l", "c", -hour, hour)),
			named(post("", "/Tables", `{"TableName":"{T}sas"}`), "account, create a table", accountSAS("c", "c", -hour, hour)),
			named(get("", one("a"), bare), "table, read", tableSAS("r", hour)),
			named(get("", query("/{T}", "$select=RowKey"), bare), "table, query", tableSAS("r", hour)),
			named(add("c"), "table, read, insert", tableSAS("r", hour)),
			named(add("c"), "table, add, insert", tableSAS("a", hour)),
			named(get("", one("a"), bare), "table, expired", tableSAS("r", -hour)),
			named(get("", "/Tables", bare), "table, list tables", tableSAS("r", hour)),
			get("signed with something else", query(one("a"), "sv=2019-02-02", "ss=t", "srt=o", "sp=r", "se=2999-01-01", "sig="+mac("x")), bare).as(authorization("")),
		}},
	}
}
