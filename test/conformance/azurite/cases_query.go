package main

import (
	"fmt"
	"strings"
)

func queryScenarios() []scenario {
	var fill []step
	for i := range 7 {
		fill = append(fill, insert(fmt.Sprint(i), fmt.Sprintf(`,"N":%d,"S":"s%d"`, i, i)))
	}
	fill = append(fill, post("insert elsewhere", "/{T}", `{"PartitionKey":"q","RowKey":"0","N":100}`))
	page := query("/{T}()", "$top=3", "$select=RowKey")
	some := query("/{T}()", "$top=2", "$filter=N ge 1 and N le 5", "$select=RowKey")
	return []scenario{{"queries", append(fill,
		get("all", query("/{T}()", "$select=PartitionKey,RowKey"), bare),
		get("one column", query("/{T}()", "$select=N"), bare),
		get("columns with metadata", query("/{T}()", "$select=N,RowKey")),
		get("columns with blanks", query("/{T}()", "$select=RowKey, N"), bare),
		get("all columns", query("/{T}()", "$select=*", "$filter=RowKey eq '3'"), bare),
		get("a column that is missing", query("/{T}()", "$select=Missing", "$filter=RowKey eq '3'"), bare),
		get("Timestamp alone", query("/{T}()", "$select=Timestamp", "$filter=RowKey eq '3'"), bare),
		get("first page", page, bare),
		get("second page", page+"&{next}", bare),
		get("last page", page+"&{next}", bare),
		get("first page of a filter", some, bare),
		get("second page of a filter", some+"&{next}", bare),
		get("last page of a filter", some+"&{next}", bare),
		get("a partition", query("/{T}()", "$filter=PartitionKey eq 'q'", "$select=RowKey"), bare),
		get("one by its keys", query("/{T}()", "$filter=PartitionKey eq 'p' and RowKey eq '4'", "$select=N"), bare),
		get("top 1000", query("/{T}()", "$top=1000", "$select=RowKey"), bare),
		get("top 1001", query("/{T}()", "$top=1001", "$select=RowKey"), bare),
		get("top 0", query("/{T}()", "$top=0", "$select=RowKey"), bare),
		get("top -1", query("/{T}()", "$top=-1", "$select=RowKey"), bare),
		get("top x", query("/{T}()", "$top=x", "$select=RowKey"), bare),
		get("order", query("/{T}()", "$orderby=RowKey", "$select=RowKey"), bare),
		get("no Accept", "/{T}()", "Accept: "),
		get("Accept Atom", "/{T}()", "Accept: application/atom+xml"),
		get("Accept JSON", query("/{T}()", "$filter=RowKey eq '3'"), "Accept: application/json"),
		get("quote not doubled", "/{T}(PartitionKey='o'clock',RowKey='r')"),
		get("deeper path", "/{T}/x"),
	)}}
}

// filters are asked of the one entity of filterScenarios.
var filters = []string{
	"PartitionKey eq 'p' and RowKey eq '5'", "PartitionKey eq 'P'", "RowKey lt '6'", "RowKey ge '50'", "S eq 'o''clock'", "S eq ''", "E eq ''",
	"I eq -7", "I gt -8 and I lt -6", "I le -7", "I ne -7", "I eq -7L", "I eq -7.0", "-7 eq I", "0 gt I", "0 lt I",
	"L eq 1099511627776L", "L gt 1099511627775L", "L lt 5L", "D eq 1.5", "D eq 15e-1", "D lt 2", "D2 eq 2.0", "D2 ge 2",
	"B eq true", "B ne true", "B", "not B", "not (B eq true)", "B eq true or I eq 0", "B eq false or I eq 0", "F eq false",
	"When eq datetime'2020-01-02T03:04:05.1234567Z'", "When gt datetime'2020-01-02T03:04:05Z'", "When lt datetime'2020-01-02T03:04:05Z'",
	"When lt datetime'2021-01-01T00:00:00Z' and When gt datetime'2019-01-01T00:00:00Z'",
	"G eq guid'0f0e0d0c-0b0a-0908-0706-050403020100'", "G ne guid'0f0e0d0c-0b0a-0908-0706-050403020100'", "G eq '0f0e0d0c-0b0a-0908-0706-050403020100'",
	"Bin eq X'0aff'", "Bin eq binary'0aff'", "Bin ne X'0aff'", "S eq 5", "S ne 5", "I eq '-7'", "Missing eq 1", "Missing ne 1", "not (Missing eq 1)",
	"B eq true and F eq true or I eq -7", "I eq -7 or B eq true and F eq true", "(I eq -7 or B eq true) and F eq true", "((((I eq -7))))",
	"(I eq -7)and(D eq 1.5)", "S eq 'and or not ( eq'", "PartitionKey ge 'p' and PartitionKey lt 'q' and not (F eq true)", "S gt 'o''' and S lt 'o''d'",
	"Timestamp gt datetime'2001-01-01T00:00:00Z'", "Timestamp lt datetime'2001-01-01T00:00:00Z'", "I eq 99999999999L",
	// Refused.
	"eq", "I eq", "eq 5", "I eq eq", "I 5", "I eq 5 5", "I eq 5)", "(I eq 5", "()", "I == 5", "I EQ 5", "I eq 5 AND B eq true", "and B eq true", "B eq true and",
	"B eq true or or B eq true", "not", "S eq 'open", "S eq 'it's'", `S eq "x"`, "I eq 5x", "I eq 1.2.3", "I eq 99999999999999999999L",
	"When eq datetime'yesterday'", "G eq guid'5'", "Bin eq X'zz'", "S eq foo'x'", "startswith(S,'o')",
	"I eq 1" + strings.Repeat(" or I eq 1", 15),
}

func filterScenarios() []scenario {
	s := scenario{"filters", []step{post("insert", "/{T}", `{"PartitionKey":"p","RowKey":"5","F":false`+types+`}`, "Prefer: return-no-content")}}
	for _, f := range filters {
		s.steps = append(s.steps, get(f, query("/{T}()", "$select=RowKey", "$filter="+f), bare))
	}
	return []scenario{s}
}
