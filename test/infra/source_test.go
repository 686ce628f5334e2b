package infra

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goFiles parses the Go files below a folder, without those of tests.
func goFiles(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	out := map[string]*ast.File{}
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		out[path], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(out), err)
	}
	return out
}

// literals gives every string literal of the files.
func literals(files map[string]*ast.File) (out []string) {
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := literal(n); ok {
				out = append(out, s)
			}
			return true
		})
	}
	return out
}

func literal(n ast.Node) (string, bool) {
	l, ok := n.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// same complains of what only one of two lists has.
func same(t *testing.T, what string, code, deployed []string) {
	t.Helper()
	for _, c := range code {
		if !slices.Contains(deployed, c) {
			t.Errorf("%s: the deployment lacks %s", what, c)
		}
	}
	for _, d := range deployed {
		if !slices.Contains(code, d) {
			t.Errorf("%s: the code knows no %s", what, d)
		}
	}
}
