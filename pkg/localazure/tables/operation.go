package tables

import (
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
)

// statsPath is where the counts are served; no credential is needed.
const statsPath = "/_local/stats"

// Stats counts what was asked for since the start.
type Stats struct {
	// Operations are the operations of authenticated clients by name, as in the
	// package's document, refused and failed ones among them. A transaction is
	// one operation, whatever it holds.
	Operations map[string]int `json:"operations"`
}

// Stats gives the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Operations: maps.Clone(s.counts)}
}

func (s *Server) count(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[operation]++
}

func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client's, which went away.
	_ = json.MarshalWrite(w, s.Stats(), json.Deterministic(true))
}

// operation names what r asks for, or would if it were not refused: a verb and,
// where there is one, the table in lower case. A batch must have been parsed.
func (s *Server) operation(r *request) string {
	verb, table := r.verb(), r.target.table
	if r.batch != nil {
		table = s.firstTable(r.batch.parts[0])
	}
	if table == "" {
		return verb
	}
	return verb + " " + strings.ToLower(table)
}

// firstTable is the table of a batch's part; empty if its URL names none.
func (s *Server) firstTable(part batchPart) string {
	u, err := url.Parse(part.url)
	if err != nil {
		return ""
	}
	t, err := parseTarget(s.cfg.Account, u.EscapedPath())
	if err != nil {
		return ""
	}
	return t.table
}

// verb says what kind of operation r is.
func (r *request) verb() string {
	read := r.method == http.MethodGet
	switch r.target.kind {
	case targetService:
		return pick(read, "get-service", r.method == http.MethodPut, "set-service")
	case targetTables:
		if r.target.table != "" {
			return pick(read, "get-table", r.method == http.MethodDelete, "delete-table")
		}
		return pick(read, "query-tables", r.method == http.MethodPost, "create-table")
	case targetTable:
		if r.query.Get("comp") == "acl" {
			return "acl"
		}
		return pick(read, "query", r.method == http.MethodPost, "insert")
	case targetBatch:
		return pick(r.method == http.MethodPost, "batch", false, "")
	}
	switch r.method {
	case http.MethodPut:
		return "replace"
	case http.MethodPatch, methodMerge:
		return "merge"
	}
	return pick(read, "get", r.method == http.MethodDelete, "delete")
}

func pick(a bool, first string, b bool, second string) string {
	switch {
	case a:
		return first
	case b:
		return second
	}
	return "other"
}
