package tables

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/filter"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// options are a query's system query options.
type options struct {
	filter filter.Expr
	sel    []string // nil for all properties
	top    int
	format format
}

// queryOptions reads $filter, $select, $top and $format; any other option is
// NotImplemented, as in Storage.
func (s *Server) queryOptions(r *request) (options, error) {
	o := options{top: s.PageSize}
	var err error
	for name := range r.query {
		if !strings.HasPrefix(name, "$") {
			continue
		}
		value := r.query.Get(name)
		switch name {
		case "$format": // payloadFormat reads it
		case "$filter":
			o.filter, err = filter.Parse(value)
		case "$select":
			o.sel = selected(value)
		case "$top":
			o.top, err = s.top(value)
		default:
			err = tableerr.New(tableerr.NotImplemented, "The requested operation is not implemented on the specified resource.")
		}
		if err != nil {
			return options{}, err
		}
	}
	o.format, err = payloadFormat(r)
	return o, err
}

func (s *Server) top(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxPage {
		return 0, tableerr.BadInput("$top must lie between 1 and %d", maxPage)
	}
	return min(n, s.PageSize), nil
}

// selected is nil for everything.
func selected(value string) []string {
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		switch name = strings.TrimSpace(name); name {
		case "":
		case "*":
			return nil
		default:
			names = append(names, name)
		}
	}
	return names
}

// A continuation token is opaque to clients. It looks like Storage's own,
// 1!<length>!<base64 with - for =>, so that it fits into a header whatever the
// key holds and is never empty, not even for an empty key.
func encodeToken(s string) string {
	text := strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(s)), "=", "-")
	return "1!" + strconv.Itoa(len(text)) + "!" + text
}

func decodeToken(token string) (string, error) {
	parts := strings.SplitN(token, "!", 3)
	if len(parts) != 3 || parts[0] != "1" || parts[1] != strconv.Itoa(len(parts[2])) {
		return "", badToken()
	}
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(parts[2], "-", "="))
	if err != nil {
		return "", badToken()
	}
	return string(b), nil
}

func badToken() error { return tableerr.BadInput("the continuation token is not one of ours") }
