package access_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// TestEveryKindOfEventIsListed reads the constants from the source.
func TestEveryKindOfEventIsListed(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "EventKind" {
			return true
		}
		n++
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || !slices.Contains(access.EventKinds(), access.EventKind(name)) {
			t.Errorf("%s is not listed", name)
		}
		return true
	})
	if n == 0 || n != len(access.EventKinds()) {
		t.Errorf("%d constants, %d listed", n, len(access.EventKinds()))
	}
	if k, err := access.ParseEventKind("pOLICYcHANGED"); err != nil || k != access.EventPolicyChanged {
		t.Errorf("%q, %v", k, err)
	}
	if _, err := access.ParseEventKind("Opend"); access.ReasonOf(err) != "event_kind_unknown" {
		t.Error(err)
	}
}
