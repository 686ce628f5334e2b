package handlers_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rootRoute matches "/" alone: an empty template would not bind there.
const rootRoute = "{root:maxlength(0)?}"

// TestNoRouteReachesAFunction proves that the outside cannot forge a queue's
// delivery: the host calls the handler at /<FunctionName>, so no HTTP route may
// match that, in any case.
func TestNoRouteReachesAFunction(t *testing.T) {
	files, err := filepath.Glob("../functions/*/function.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no functions: %v", err)
	}
	var names, routes []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Bindings []struct {
				Type, Route string
			}
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		names = append(names, strings.ToLower(filepath.Base(filepath.Dir(file))))
		for _, b := range doc.Bindings {
			if b.Type == "httpTrigger" {
				if b.Route == "" {
					t.Errorf("%s has no route, so it would answer at its function's name", file)
				}
				routes = append(routes, strings.ToLower(b.Route))
			}
		}
	}
	for _, route := range routes {
		if route == rootRoute {
			continue // no name is empty
		}
		first, _, _ := strings.Cut(route, "/")
		if strings.ContainsAny(first, "{}*") {
			t.Errorf("route %q begins with a parameter, which could be a function's name", route)
		}
		for _, name := range names {
			if first == name {
				t.Errorf("route %q lies at the function %s", route, name)
			}
		}
	}
}
