package expression_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/expression"
)

func env(t testing.TB) *expression.Env {
	t.Helper()
	e, err := expression.NewEnv(
		expression.Var{Name: "payload", Type: expression.Any}, expression.Var{Name: "request.port", Type: expression.Number},
		expression.Var{Name: "request.source", Type: expression.Text}, expression.Var{Name: "machine.tags", Type: expression.TextMap},
		expression.Var{Name: "now", Type: expression.Time})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func variables() map[string]any {
	return map[string]any{
		"payload":      map[string]any{"key": "CHG1", "n": int64(3), "list": []any{"a", "b"}, "deep": map[string]any{"x": true}, "nil": nil},
		"request.port": 22, "request.source": "203.0.113.7", "machine.tags": map[string]string{"env": "prod"},
		"now": time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC),
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]any{
		`payload.key`:                     "CHG1",
		`payload.n + 1`:                   int64(4),
		`request.port == 22`:              true,
		`payload.?gone.?more.orValue("")`: "",
		`payload.?gone`:                   nil,
		`machine.tags["env"] == "prod" && !("team" in machine.tags)`:    true,
		`{"id": payload.key, "ports": [{"number": 22}]}`:                map[string]any{"id": "CHG1", "ports": []any{map[string]any{"number": int64(22)}}},
		`payload.list.map(x, x + "!")`:                                  []any{"a!", "b!"},
		`now.getDayOfWeek() in [1, 2, 3, 4, 5]`:                         true,
		`now.getHours("Asia/Tokyo")`:                                    int64(19),
		`cidr("203.0.113.0/24").containsIP(request.source)`:             true,
		`timestamp("2026-11-26T10:00:00Z")`:                             time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC),
		`timestamp(1_000)`:                                              nil, // not CEL: the underscore
		`"CHG0030192: disk".split(":")[0].lowerAscii() == "chg0030192"`: true,
		`payload.nil`: nil,
	} {
		p, err := env(t).Compile(text, expression.Any)
		if err != nil {
			if !strings.Contains(text, "_000") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got, err := p.Run(context.Background(), variables()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s gives %#v (%v), want %#v", text, got, err, want)
		}
	}
}

func TestFaultsAreFoundWithTheirPlace(t *testing.T) {
	for text, want := range map[string]expression.Fault{
		"payload.key ==":                 {Line: 1, Column: 15},
		"true &&\n  request.prot == 22":  {Line: 2, Column: 10},
		`request.port == "22"`:           {Line: 1, Column: 14},
		`"text"`:                         {Line: 1, Column: 1},
		"":                               {},
		strings.Repeat("1+", 3000) + "1": {},
		strings.Repeat("(", 60) + "1" + strings.Repeat(")", 60): {},
	} {
		_, err := env(t).Compile(text, expression.Truth)
		f, ok := expression.FaultOf(err)
		if !ok || access.ReasonOf(err) != "expression_invalid" {
			t.Errorf("%.40q: %v", text, err)
			continue
		}
		if f.Line != want.Line && want.Line != 0 || f.Column != want.Column && want.Column != 0 || f.Message == "" {
			t.Errorf("%.40q: the fault is %+v, want it at %+v", text, f, want)
		}
	}
}

func TestWhatFailsAtRunTimeFailsClosed(t *testing.T) {
	hundred := strings.TrimSuffix(strings.Repeat("1,", 100), ",")
	for text, wantLine := range map[string]int{
		"payload.key == 'x' ||\n  payload.missing == 'y'": 2,
		"payload.list[7] == 'a'":                          1,
		"payload.key":                                     0, // a text where a truth is needed is the caller's to refuse
		"int(payload.key) == 1":                           1,
		"payload.deep.x.y == 1":                           1,
		"[" + hundred + "].all(a, [" + hundred + "].all(b, [" + hundred + "].all(c, [" + hundred + "].all(d, a + b + c + d > 0))))": 0,
	} {
		p, err := env(t).Compile(text, expression.Truth)
		if err != nil {
			t.Errorf("%.60q does not compile: %v", text, err)
			continue
		}
		got, err := p.Run(context.Background(), variables())
		if text == "payload.key" {
			if got != "CHG1" || err != nil {
				t.Errorf("%s gives %v, %v", text, got, err)
			}
			continue
		}
		f, ok := expression.FaultOf(err)
		if !ok || access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) != "expression_failed" || wantLine != 0 && f.Line != wantLine {
			t.Errorf("%.60q gives %v and the error %v (%+v), want a fault in line %d", text, got, err, f, wantLine)
		}
	}
}

func TestAFaultRepeatsNothingThatForgesALine(t *testing.T) {
	p, err := env(t).Compile(`payload[request.source] == 1`, expression.Truth)
	if err != nil {
		t.Fatal(err)
	}
	vars := variables()
	vars["request.source"] = "a\nALARM " + strings.Repeat("x", 2000)
	_, err = p.Run(context.Background(), vars)
	if err == nil || strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 2000 {
		t.Errorf("the error is %q", err)
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"payload.a == 1", "[1].map(x, x)", "payload.?a.orValue('')", "'a'.matches('(a+)+$')", "machine.tags.all(k, k.size() > 1)"} {
		f.Add(s)
	}
	e := env(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := e.Compile(text, expression.Any)
		if err != nil {
			if access.ReasonOf(err) != "expression_invalid" {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := p.Run(context.Background(), variables()); err != nil && access.ReasonOf(err) != "expression_failed" {
			t.Fatalf("%v", err)
		}
	})
}
