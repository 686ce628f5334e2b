// Package arch holds the architecture as a test: which room may import which.
package arch

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/portcullis-access/portcullis/"

// allowed lists for each package (and what lies below it) which packages of
// ours it may import. What is not listed may import nothing of ours.
var allowed = map[string][]string{
	"pkg/access":                     {},
	"pkg/policy":                     {"pkg/access", "pkg/expression"},
	"pkg/nsg":                        {"pkg/access"},
	"pkg/accessjson":                 {"pkg/access", "pkg/policy"},
	"pkg/accessevent":                {"pkg/access", "pkg/accessjson"},
	"pkg/expression":                 {"pkg/access"},
	"pkg/audit":                      {"pkg/access"},
	"pkg/ticket":                     {"pkg/access", "pkg/accessjson", "pkg/expression"},
	"pkg/broker":                     {"pkg/access", "pkg/policy", "pkg/nsg", "pkg/audit", "pkg/ticket"},
	"pkg/broker/brokertest":          {"pkg/access", "pkg/policy", "pkg/nsg", "pkg/audit", "pkg/ticket", "pkg/broker"},
	"pkg/identity":                   {"pkg/access"},
	"pkg/customhandler":              {},
	"pkg/telemetry":                  {"pkg/access", "pkg/broker", "pkg/customhandler"},
	"pkg/config":                     {"pkg/access", "pkg/nsg"},
	"pkg/client":                     {},
	"pkg/azure/tables":               {"pkg/access", "pkg/policy", "pkg/accessjson", "pkg/audit", "pkg/ticket", "pkg/broker"},
	"pkg/azure/servicebus":           {"pkg/access", "pkg/audit", "pkg/accessevent", "pkg/broker"},
	"pkg/azure/blobs":                {"pkg/access", "pkg/broker"},
	"pkg/azure/network":              {"pkg/access", "pkg/nsg", "pkg/broker"},
	"infra":                          {},
	"internal/doctor":                {"pkg/access", "pkg/nsg", "pkg/broker"},
	"pkg/azure/rights":               {"pkg/access"},
	"pkg/defender":                   {"pkg/access", "pkg/policy"},
	"pkg/azure/defender":             {"pkg/access", "pkg/defender"},
	"handlers":                       {"pkg/access", "pkg/accessjson", "pkg/accessevent", "pkg/policy", "pkg/audit", "pkg/ticket", "pkg/broker", "pkg/customhandler", "pkg/identity"},
	"handlers/portal":                {},
	"internal/connect":               {"pkg/config", "pkg/broker", "pkg/azure/"},
	"cmd/handler":                    {"pkg/", "handlers", "internal/connect"},
	"cmd/portcullis":                 {"pkg/", "internal/connect", "internal/doctor", "infra"},
	"docs/examples/clients":          {},
	"cmd/portcullis-local":           {"pkg/localazure", "internal/appzip"},
	"internal/appzip":                {},
	"build/pack":                     {"internal/appzip"},
	"test/infra":                     {},
	"test/infra/bicep":               {},
	"test/demo":                      {"pkg/", "internal/connect"},
	"test/bench":                     {"pkg/", "test/bench/profile"},
	"test/bench/profile":             {},
	"test/arch":                      {},
	"test/simulate":                  {"pkg/"},
	"test/portal":                    {"handlers", "pkg/"},
	"pkg/localazure":                 {"pkg/localazure/"},
	"pkg/localazure/blobs":           {"pkg/localazure/fault"},
	"pkg/localazure/fault":           {},
	"pkg/localazure/functionshost":   {"pkg/localazure/fault"},
	"pkg/localazure/identity":        {"pkg/localazure/fault"},
	"pkg/localazure/resourcemanager": {"pkg/localazure/fault"},
	"pkg/localazure/servicebus":      {"pkg/localazure/servicebus/", "pkg/localazure/fault"},
	"pkg/localazure/tables":          {"pkg/localazure/tables/", "pkg/localazure/fault"},
	"test/conformance":               {"pkg/localazure/"},
	"test/conformance/vendor":        {},
}

// The SDKs of Azure live at the edge alone; the domain and the client know the standard
// library alone.
var (
	sdkRooms = []string{"pkg/azure/", "internal/connect", "pkg/localazure", "cmd/handler", "test/demo", "test/bench", "docs/examples/clients/"}
	pure     = []string{"pkg/access", "pkg/client"}
)

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimSpace(string(out))) {
		from, imports, _ := strings.Cut(strings.TrimSpace(line), "|")
		from = strings.TrimPrefix(from, module)
		for _, to := range strings.Fields(imports) {
			check(t, from, to)
		}
	}
}

// TestZones holds that the commands which evaluate conditions carry the zones that
// those may name, whatever the machine has.
func TestZones(t *testing.T) {
	for _, command := range []string{"cmd/handler", "cmd/portcullis"} {
		out, err := exec.Command("go", "list", "-deps", module+command).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), "time/tzdata\n") {
			t.Errorf("%s does not import time/tzdata", command)
		}
	}
}

func check(t *testing.T, from, to string) {
	t.Helper()
	ours, isOurs := strings.CutPrefix(to, module)
	switch {
	case isOurs && !may(from, ours):
		t.Errorf("%s must not import %s", from, ours)
	case isOurs:
	case strings.Contains(to, "Azure/") && !under(from, sdkRooms):
		t.Errorf("%s must not know Azure's SDKs, and imports %s", from, to)
	case strings.Contains(to, ".") && under(from, pure):
		t.Errorf("%s imports the standard library alone, and not %s", from, to)
	}
	if isOurs && strings.HasPrefix(ours, "pkg/localazure") && (from == "cmd/handler" || from == "cmd/portcullis") {
		t.Errorf("%s must not link the stand-ins", from)
	}
}

// may looks up the most exact entry for the importing package.
func may(from, to string) bool {
	for room := from; room != "."; {
		if list, ok := allowed[room]; ok {
			if under(to, list) {
				return true
			}
			return room != from && strings.HasPrefix(to, room+"/")
		}
		i := strings.LastIndexByte(room, '/')
		if i < 0 {
			break
		}
		room = room[:i]
	}
	return false
}

// under says whether the package is one of the list, or below one that ends
// with a slash.
func under(pkg string, list []string) bool {
	for _, l := range list {
		if pkg == strings.TrimSuffix(l, "/") || strings.HasPrefix(pkg, strings.TrimSuffix(l, "/")+"/") {
			return true
		}
	}
	return false
}
