package infra

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// operatorDocs are the documents about a deployment.
var operatorDocs = []string{"deploy", "operations", "coexistence", "cost", "containers", "security-review", "playbooks"}

// TestCommandsOfTheDocumentsExist: each make target is there, and the tool takes
// each command and flag. What speaks to Azure by other tools is not run.
func TestCommandsOfTheDocumentsExist(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./cmd/portcullis")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	make := readFile(t, "Makefile")
	command := regexp.MustCompile("(?m)^((?:portcullis|make) [^\n]+)$|`((?:portcullis|make) [^`]+)`")
	seen := 0
	for _, doc := range operatorDocs {
		for _, m := range command.FindAllStringSubmatch(readFile(t, "docs/"+doc+".md"), -1) {
			line := m[1] + m[2]
			seen++
			if targets, ok := strings.CutPrefix(line, "make "); ok {
				for target := range strings.FieldsSeq(targets) {
					if !strings.Contains(make, "\n"+target+":") {
						t.Errorf("docs/%s.md: make has no target %s", doc, target)
					}
				}
				continue
			}
			c := exec.Command("sh", "-c", line+" --help")
			c.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			out, err := c.CombinedOutput()
			name := strings.Fields(line)[1]
			if err != nil || !strings.Contains(string(out), "portcullis "+name) {
				t.Errorf("docs/%s.md: %s: %v: %s", doc, line, err, out)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands were found", seen)
	}
}

// TestLinksOfTheDocumentsLead: what a document points at in this repository is there.
func TestLinksOfTheDocumentsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)\)`)
	for _, doc := range operatorDocs {
		for _, m := range link.FindAllStringSubmatch(readFile(t, "docs/"+doc+".md"), -1) {
			if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
				t.Errorf("docs/%s.md: %v", doc, err)
			}
		}
	}
}
