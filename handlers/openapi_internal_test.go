package handlers

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

func TestTheAPIsDocumentIsValidOpenAPI(t *testing.T) {
	data, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(data)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s", e.Message, e.Reason)
			for _, s := range e.SchemaValidationErrors {
				t.Errorf("  %s: %s", s.FieldPath, s.Reason)
			}
		}
	}
	if strings.Contains(string(data), "x-operations") {
		t.Error("an operation that several paths share is left as a reference")
	}
}

// TestTheDocumentNamesEveryRoute compares the document with the routes that the
// API registers; the names of path parameters may differ.
func TestTheDocumentNamesEveryRoute(t *testing.T) {
	data, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	plain := func(pattern string) string {
		parts := strings.Split(pattern, "/")
		for i, p := range parts {
			if strings.HasPrefix(p, "{") {
				parts[i] = "{}"
			}
		}
		return strings.Join(parts, "/")
	}
	var documented, registered []string
	for at, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				documented = append(documented, strings.ToUpper(method)+" "+plain(at))
			}
		}
	}
	a, err := newAPI(APIParts{})
	if err != nil {
		t.Fatal(err)
	}
	for at, methods := range a.methods {
		for _, m := range methods {
			if m != "HEAD" {
				registered = append(registered, m+" "+plain(at))
			}
		}
	}
	slices.Sort(documented)
	slices.Sort(registered)
	for _, d := range documented {
		if !slices.Contains(registered, d) {
			t.Errorf("%s is documented and not there", d)
		}
	}
	for _, r := range registered {
		if !slices.Contains(documented, r) {
			t.Errorf("%s is there and not documented", r)
		}
	}
}
