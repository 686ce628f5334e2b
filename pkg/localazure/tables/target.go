package tables

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

type targetKind int

const (
	targetService targetKind = iota // the account itself
	targetTables                    // Tables, Tables('name')
	targetTable                     // Name, Name()
	targetEntity                    // Name(PartitionKey='…',RowKey='…')
	targetBatch                     // $batch
)

// methodMerge is the verb of Merge Entity before PATCH was known.
const methodMerge = "MERGE"

// target is what a URL's path names.
type target struct {
	kind   targetKind
	prefix string // "/account" where the path starts with it, else empty
	table  string // for targetTables empty or the name in parentheses
	key    store.Key
}

// rawPath is the path as the client sent it: signatures cover that form, and
// keys may hold escaped characters that decoding too early would confuse.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") {
		return path
	}
	return r.URL.EscapedPath() // absolute-form request line, or none
}

// parseTarget reads both styles of path: with the account first, as emulators
// have it, and without, as https://account.table.core.windows.net has it. A
// table that bears the account's name is therefore out of reach without prefix.
func parseTarget(account, path string) (target, error) {
	var t target
	path = strings.Trim(path, "/")
	first, rest, _ := strings.Cut(path, "/")
	if first == account || first == account+"-secondary" {
		t.prefix, path = "/"+first, strings.TrimLeft(rest, "/")
	}
	segment, err := url.PathUnescape(path)
	if err != nil || strings.Contains(path, "/") {
		return t, invalidURI()
	}
	name, args, hasArgs := strings.Cut(segment, "(")
	if hasArgs && !strings.HasSuffix(args, ")") {
		return t, invalidURI()
	}
	args = strings.TrimSuffix(args, ")")
	switch {
	case segment == "":
		t.kind = targetService
	case segment == "$batch":
		t.kind = targetBatch
	case name == "Tables":
		t.kind = targetTables
		if args != "" {
			var tail string
			if t.table, tail, err = quotedKey(args); err != nil || tail != "" {
				return t, invalidURI()
			}
		}
	case args == "":
		t.kind, t.table = targetTable, name
	default:
		t.kind, t.table = targetEntity, name
		t.key, err = parseKey(args)
	}
	return t, err
}

// parseKey reads PartitionKey='…',RowKey='…', in either order.
func parseKey(args string) (store.Key, error) {
	parts := map[string]string{}
	for rest := args; ; {
		name, tail, found := strings.Cut(rest, "=")
		value, tail, err := quotedKey(tail)
		name = strings.TrimSpace(name)
		if _, twice := parts[name]; !found || err != nil || twice || name != edm.PartitionKey && name != edm.RowKey {
			return store.Key{}, invalidURI()
		}
		parts[name] = value
		if tail == "" {
			break
		}
		if rest, found = strings.CutPrefix(tail, ","); !found {
			return store.Key{}, invalidURI()
		}
	}
	if len(parts) != 2 {
		return store.Key{}, invalidURI()
	}
	return store.Key{Partition: parts[edm.PartitionKey], Row: parts[edm.RowKey]}, nil
}

// quotedKey reads '…' with quotes inside doubled, and returns what follows.
func quotedKey(s string) (value, tail string, err error) {
	if !strings.HasPrefix(s, "'") {
		return "", "", invalidURI()
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) || s[i+1] != '\'' {
			return b.String(), s[i+1:], nil
		}
		i++
		b.WriteByte('\'')
	}
	return "", "", invalidURI()
}

// entityURL is the address of an entity below base.
func entityURL(base, table string, k store.Key) string {
	return base + "/" + entityPath(table, k)
}

func entityPath(table string, k store.Key) string {
	quote := func(s string) string { return "'" + url.PathEscape(strings.ReplaceAll(s, "'", "''")) + "'" }
	return table + "(PartitionKey=" + quote(k.Partition) + ",RowKey=" + quote(k.Row) + ")"
}

func invalidURI() error {
	return tableerr.BadInput("the URI does not name a table, an entity or a batch")
}
