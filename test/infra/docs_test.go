package infra

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents are all that people read, but for what is generated from the commands
// themselves.
func documents(t *testing.T) (out []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) < 10 {
		t.Fatalf("the documents are not where they are looked for: %v", err)
	}
	for _, f := range found {
		if name := filepath.Base(f); name != "cli.md" {
			out = append(out, "docs/"+name)
		}
	}
	return append(out, "README.md", "CONTRIBUTING.md", "SECURITY.md")
}

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
	for _, doc := range documents(t) {
		for _, m := range command.FindAllStringSubmatch(readFile(t, doc), -1) {
			// A remark, and where the output goes, is not the tool's.
			line, _, _ := strings.Cut(m[1]+m[2], " #")
			line, _, _ = strings.Cut(line, " | ")
			line, _, _ = strings.Cut(line, " > ")
			seen++
			if targets, ok := strings.CutPrefix(line, "make "); ok {
				for target := range strings.FieldsSeq(targets) {
					if strings.Contains(target, "=") {
						continue // a variable
					}
					if !strings.Contains(make, "\n"+target+":") {
						t.Errorf("%s: make has no target %s", doc, target)
					}
				}
				continue
			}
			c := exec.Command("sh", "-c", line+" --help")
			c.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			out, err := c.CombinedOutput()
			name := strings.Fields(line)[1]
			if err != nil || !strings.Contains(string(out), "portcullis "+name) {
				t.Errorf("%s: %s: %v: %s", doc, line, err, out)
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d commands were found", seen)
	}
}

// TestLinksOfTheDocumentsLead: what a document points at in this repository is there.
func TestLinksOfTheDocumentsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)\)`)
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}
