package bicep_test

import (
	"testing"

	"github.com/portcullis-access/portcullis/test/infra/bicep"
)

func TestWhatIsNoBicepIsRefused(t *testing.T) {
	for name, src := range map[string]string{
		"a string that is not closed":    "var a = 'x",
		"an object that is not closed":   "var a = {\n  b: 1\n",
		"an array that is not closed":    "var a = [\n  1\n",
		"${ that is not closed":          "var a = '${b'",
		"two values of a key":            "var a = {\n  b: 1 2\n}",
		"a value that is missing":        "var a =\n",
		"a statement that is none":       "resourse a 'b@c' = {}\n",
		"a resource that is no object":   "resource a 'b@c' = 'd'\n",
		"two statements in a line":       "var a = 1 var b = 2",
		"a comma at the end of an owner": "var a = [1,, 2]",
		"a letter that is not ASCII":     "var é = 1",
		"an escape that is none":         `var a = '\q'`,
	} {
		if _, err := bicep.Parse(src); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestStatementsAreRead(t *testing.T) {
	f, err := bicep.Parse(`targetScope = 'subscription'
@description('why')
param a string = 'x${b.c}y'
resource r 'T/u@2020-01-01' existing = [for (q, i) in a: {
  name: q.?d ?? 'e'
}]
module m 'm.bicep' = if (a == 'b' && !empty(a)) {
  params: { z: a ? [] : [ 1 ], 'y': map(a, x => { k: x }) }
}
output o string = m.outputs.p[0]
`)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case f.TargetScope != "subscription", len(f.Params) != 1, f.Params[0].Value.Text != "x${}y", f.Params[0].Decorators[0].Text != "description":
		t.Error("the head is not read")
	case !f.Resources[0].Existing, f.Resources[0].Type != "T/u@2020-01-01", f.Resources[0].Value.Get("name") == nil, len(f.Resources[0].Value.Vars) != 2:
		t.Error("the resource is not read")
	case f.Modules[0].Value.Get("params").Get("y") == nil, f.Outputs[0].Value.Kind != bicep.Index:
		t.Error("the module is not read")
	}
}

// FuzzParse: whatever is in a file, reading it ends, in a file or an error.
func FuzzParse(f *testing.F) {
	f.Add("var a = [for b in c: {\n d: '${e}'\n}]\n")
	f.Add("param a string\n@secure()\nparam b object = { 'c': d.?e ?? f(g)[0] }")
	f.Fuzz(func(t *testing.T, src string) {
		if file, err := bicep.Parse(src); (file == nil) == (err == nil) {
			t.Fatal("neither a file nor an error, or both")
		}
	})
}
