package defender_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/defender"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

var now = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)

func export(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/export.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func convert(t *testing.T, data []byte) ([]policy.AccessPolicy, []string) {
	t.Helper()
	read, err := defender.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	policies, notes := defender.Convert(read, defender.Options{Requestors: []string{"alice@contoso.com"}}, now)
	var said []string
	for _, n := range notes {
		said = append(said, fmt.Sprintf("%s %s %s", n.Kind, n.VM.Name(), n.Port))
	}
	slices.Sort(said)
	return policies, said
}

func TestAnExportBecomesPolicies(t *testing.T) {
	policies, said := convert(t, export(t))
	want := []string{"differs db-1 22/TCP", "differs web-1 3389/*", "left out db-1 22/TCP", "left out db-1 5985/TCP", "left out db-1 5985/TCP", "live web-1 3389"}
	if !slices.Equal(said, want) {
		t.Errorf("the notes are %q, want %q", said, want)
	}
	var got []string
	for _, p := range policies {
		for _, port := range p.Ports {
			got = append(got, fmt.Sprint(p.Scope.Name(), " ", port.Number, port.Protocol, port.Sources, access.FormatDuration(port.MaxDuration), *p.Baseline, p.Requestors))
		}
	}
	if want := []string{
		"db-1 22TCP[203.0.113.7/32]P1Dfalse [alice@contoso.com]", "web-1 22TCP[203.0.113.0/24]PT3Hfalse [alice@contoso.com]",
		"web-1 3389*[0.0.0.0/0 ::/0]PT3Hfalse [alice@contoso.com]",
	}; !slices.Equal(got, want) {
		t.Errorf("the policies are %q, want %q", got, want)
	}
}

// TestNothingIsWidened holds what comes out against what went in.
func TestNothingIsWidened(t *testing.T) {
	two := func(a, b string) []byte {
		one := func(name, ports string) string {
			return fmt.Sprintf(`{"name":%q,"properties":{"virtualMachines":[{"id":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v","ports":[%s]}]}}`, name, ports)
		}
		return []byte("[" + one("a", a) + "," + one("b", b) + "]")
	}
	port := func(protocol, source, length string) string {
		return fmt.Sprintf(`{"number":22,"protocol":%q,"allowedSourceAddressPrefix":%q,"maxRequestAccessDuration":%q}`, protocol, source, length)
	}
	narrow := port("TCP", "203.0.113.7", "PT1H")
	for name, c := range map[string]struct {
		other string
		ports int
	}{
		"the same twice":     {narrow, 1},
		"another source":     {port("TCP", "203.0.113.8", "PT1H"), 0},
		"a longer time":      {port("TCP", "203.0.113.7", "PT2H"), 0},
		"any protocol":       {port("*", "203.0.113.7", "PT1H"), 0},
		"a protocol apart":   {port("UDP", "203.0.113.7", "PT1H"), 2},
		"an unknown one":     {port("ICMP", "203.0.113.7", "PT1H"), 1},
		"no time":            {port("TCP", "203.0.113.7", ""), 1},
		"a time of a minute": {port("TCP", "203.0.113.7", "PT1M"), 1},
		"a tag":              {port("TCP", "Internet", "PT1H"), 1},
		"no port":            {`{"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.7","maxRequestAccessDuration":"PT1H"}`, 1},
		"no source":          {`{"number":22,"protocol":"TCP","maxRequestAccessDuration":"PT1H"}`, 1},
	} {
		policies, said := convert(t, two(narrow, c.other))
		got := 0
		for _, p := range policies {
			got += len(p.Ports)
		}
		if got != c.ports {
			t.Errorf("%s: %d ports are taken over, want %d (%q)", name, got, c.ports, said)
		}
	}
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	for _, text := range []string{"", "{}", "[1]", `{"value":[],"nextLink":"https://management.azure.com/next"}`, `{"value":{}}`, "null x", strings.Repeat("[", 20_000)} {
		if all, err := defender.Decode([]byte(text)); access.ReasonOf(err) != "export_invalid" {
			t.Errorf("%.40q: %v, %v", text, all, err)
		}
	}
	// PowerShell writes a byte order mark, and one policy as an object.
	var list struct{ Value []json.RawMessage }
	if err := json.Unmarshal(export(t), &list); err != nil {
		t.Fatal(err)
	}
	if all, err := defender.Decode(append([]byte("\xef\xbb\xbf"), list.Value[0]...)); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestNobodyMayAskUnlessNamed(t *testing.T) {
	read, err := defender.Decode(export(t))
	if err != nil {
		t.Fatal(err)
	}
	policies, notes := defender.Convert(read, defender.Options{}, now)
	if len(policies[0].Requestors) != 0 || !slices.ContainsFunc(notes, func(n defender.Note) bool { return strings.Contains(n.Message, "--requestor") }) {
		t.Errorf("%+v", notes)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(export(f))
	f.Add([]byte(`[{"properties":{"virtualMachines":[{"id":"x","ports":[{}]}]}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := defender.Decode(data)
		if err != nil {
			return
		}
		policies, _ := defender.Convert(read, defender.Options{Requestors: []string{"*"}}, now)
		for _, p := range policies {
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
