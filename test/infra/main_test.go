// Package infra holds the deployment against itself and against the code: where
// no Bicep compiler is at hand, this is what can be known without one.
package infra

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/test/infra/bicep"
)

const root = "../.."

// bicepFiles reads every Bicep file of the deployment, by its path under infra/.
func bicepFiles(t *testing.T) map[string]*bicep.File {
	t.Helper()
	out := map[string]*bicep.File{}
	for _, pattern := range []string{"*.bicep", "modules/*.bicep"} {
		paths, err := filepath.Glob(filepath.Join(root, "infra", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			f, err := bicep.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(filepath.Join(root, "infra"), path)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(name)] = f
		}
	}
	if len(out) < 2 {
		t.Fatal("the deployment is not where it is looked for")
	}
	return out
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(readFile(t, path)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func cutVersion(resourceType string) (kind, version string, ok bool) {
	return strings.Cut(resourceType, "@")
}
