package infra

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type alarm struct {
	Name, Title, Description, Every, Window, Alarm, Query, Operator string
	Severity, Threshold                                             int
}

// TestAlarms: each alarm that the code logs is looked for as it is logged, and
// each alarm of the deployment has its playbook.
func TestAlarms(t *testing.T) {
	var alarms []alarm
	readJSON(t, "infra/alarms.json", &alarms)
	playbooks := readFile(t, "docs/playbooks.md")
	var deployed []string
	for _, a := range alarms {
		if a.Alarm != "" {
			deployed = append(deployed, a.Alarm)
			if !strings.Contains(a.Query, logged(t, a.Alarm)) {
				t.Errorf("%s does not look for %s, as it is logged", a.Name, logged(t, a.Alarm))
			}
		}
		if !strings.Contains(playbooks, "`portcullis-"+a.Name+"`") {
			t.Errorf("docs/playbooks.md has nothing about portcullis-%s", a.Name)
		}
		if a.Operator != "GreaterThan" && a.Operator != "LessThan" || a.Severity < 0 || a.Severity > 4 {
			t.Errorf("%s: no such operator or severity", a.Name)
		}
	}
	same(t, "infra/alarms.json", loggedAlarms(t), deployed)
}

// logged gives the part of the handler's line that names the alarm.
func logged(t *testing.T, name string) string {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Error("x", "alarm", name)
	want := `"alarm":"` + name + `"`
	if !strings.Contains(b.String(), want) {
		t.Fatalf("the handler logs %s", b.String())
	}
	return want
}

// loggedAlarms finds the values that are logged under "alarm".
func loggedAlarms(t *testing.T) (out []string) {
	for _, dir := range []string{"cmd/handler", "handlers", "pkg"} {
		for _, f := range goFiles(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				for i, arg := range call.Args {
					if key, ok := literal(arg); !ok || key != "alarm" || i+1 == len(call.Args) {
						continue
					}
					if name, ok := literal(call.Args[i+1]); ok {
						out = append(out, name)
					} else {
						t.Errorf("an alarm's name is no literal, and no query can look for it")
					}
				}
				return true
			})
		}
	}
	return out
}

// TestQueriesLookForWhatIsThere: messages and functions that a query names exist.
func TestQueriesLookForWhatIsThere(t *testing.T) {
	said := slices.Concat(literals(goFiles(t, "pkg")), literals(goFiles(t, "handlers")))
	message, function := regexp.MustCompile(`"msg":"([^"']*)`), regexp.MustCompile(`\bName (?:== |in )\(?'(\w+)'(?:, '(\w+)')*`)
	for _, query := range queries(t) {
		for _, m := range message.FindAllStringSubmatch(query, -1) {
			if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, m[1]) }) {
				t.Errorf("nothing logs %q", m[1])
			}
		}
		for _, m := range function.FindAllStringSubmatch(query, -1) {
			for _, name := range m[1:] {
				if _, err := os.Stat(filepath.Join(root, "functions", name)); name != "" && err != nil {
					t.Errorf("there is no function %s", name)
				}
			}
		}
	}
}

// queries gives those of the alarms and of the workbook.
func queries(t *testing.T) (out []string) {
	var alarms []alarm
	readJSON(t, "infra/alarms.json", &alarms)
	for _, a := range alarms {
		out = append(out, a.Query)
	}
	var book struct {
		Items []struct{ Content struct{ Query string } }
	}
	if err := json.Unmarshal([]byte(readFile(t, "infra/workbook.json")), &book); err != nil {
		t.Fatal(err)
	}
	for _, i := range book.Items {
		if i.Content.Query != "" {
			out = append(out, i.Content.Query)
		}
	}
	if len(out) <= len(alarms) {
		t.Fatal("the workbook asks nothing")
	}
	return out
}
