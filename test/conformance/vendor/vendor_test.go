package vendor_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

const (
	module = "example.com/sample"
	at     = module + "@v1.2.3"
	goMod  = "module " + module + "\n\ngo 1.24\n"
)

// sample are tests of every fate. TestSecondTime remembers its first in a file,
// which the folder of the copy must let it write.
const sample = `package sample

import ("os"; "testing"; "time")

func TestMain(m *testing.M) {
	if os.Getenv("SAMPLE_ENV") == "" { panic("no environment") }
	os.Exit(m.Run())
}

func TestPasses(t *testing.T) {}
func TestFails(t *testing.T) { t.Error("the reason") }
func TestSkips(t *testing.T) { t.Skip("no need") }
func TestHangs(t *testing.T) { select { case <-time.After(time.Hour): } }
func TestDies(t *testing.T) { os.Exit(3) }
func TestParts(t *testing.T) {
	t.Run("good", func(t *testing.T) {})
	t.Run("bad", func(t *testing.T) { t.Error("in part") })
}
func TestSecondTime(t *testing.T) {
	if _, err := os.Stat("once"); err != nil {
		if err := os.WriteFile("once", nil, 0o600); err != nil { t.Fatal(err) }
		t.Error("the first time")
	}
}
`

var env = []string{"SAMPLE_ENV=set"}

// publish puts the module into a proxy of files and makes that the only one.
func publish(t *testing.T) {
	t.Helper()
	proxy := t.TempDir()
	versions := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, content := range map[string]string{"go.mod": goMod, "sample_test.go": sample, "deep/data.txt": "data"} {
		w, err := z.Create(at + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"v1.2.3.info": `{"Version":"v1.2.3"}`, "v1.2.3.mod": goMod, "v1.2.3.zip": archive.String()} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOPROXY", "file://"+filepath.ToSlash(proxy))
	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GOSUMDB", "off")
	t.Setenv("GOFLAGS", "-modcacherw")
}

func build(t *testing.T) *vendor.Suite {
	t.Helper()
	publish(t)
	dir, err := vendor.Fetch(t.Context(), at, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "deep", "data.txt")); err != nil || string(data) != "data" {
		t.Errorf("data.txt: %q, %v", data, err)
	}
	s, err := vendor.Build(t.Context(), dir, ".", env)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRun(t *testing.T) {
	s := build(t)
	want := []string{"TestPasses", "TestFails", "TestSkips", "TestHangs", "TestDies", "TestParts", "TestSecondTime"}
	if diff := cmp.Diff(want, s.Names); diff != "" {
		t.Fatal(diff)
	}
	done := 0
	results, err := s.Run(t.Context(), vendor.Options{
		Env: env, Timeout: time.Minute, Parallel: 3, Done: func([]vendor.Result) { done++ },
		Exclusions: []vendor.Exclusion{{Name: "TestSecondTime", Attempts: 3}, {Name: "TestHangs", Timeout: 100 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if done != len(want) {
		t.Errorf("told of %d tests", done)
	}
	type fate struct {
		Name     string
		Outcome  vendor.Outcome
		Attempts int
	}
	var got []fate
	output := map[string]string{}
	for _, r := range results {
		got = append(got, fate{r.Name, r.Outcome, r.Attempts})
		output[r.Name] = r.Output
	}
	if diff := cmp.Diff([]fate{
		{"TestPasses", vendor.Pass, 1}, {"TestFails", vendor.Fail, 1}, {"TestSkips", vendor.Skip, 1},
		{"TestHangs", vendor.Fail, 1}, {"TestDies", vendor.Fail, 1}, {"TestParts", vendor.Fail, 1},
		{"TestParts/good", vendor.Pass, 1}, {"TestParts/bad", vendor.Fail, 1}, {"TestSecondTime", vendor.Pass, 2},
	}, got); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{"TestFails": "the reason", "TestSkips": "no need", "TestHangs": "timed out",
		"TestDies": "exit status 3", "TestParts/bad": "in part"} {
		if !strings.Contains(output[name], text) {
			t.Errorf("the output of %s does not tell %q: %s", name, text, output[name])
		}
	}
}

func TestRunOnlyAndWithoutTheEnvironment(t *testing.T) {
	s := build(t)
	results, err := s.Run(t.Context(), vendor.Options{Env: []string{"SAMPLE_ENV="}, Timeout: time.Minute, Only: regexp.MustCompile("Passes")})
	if err != nil || len(results) != 1 {
		t.Fatalf("%+v, %v", results, err)
	}
	if r := results[0]; r.Outcome != vendor.Fail || !strings.Contains(r.Output, "no environment") {
		t.Errorf("a process that died before its test: %+v", r)
	}
}

func TestEachAttemptIsPrepared(t *testing.T) {
	s := build(t)
	var begun []string
	ended := 0
	results, err := s.Run(t.Context(), vendor.Options{
		Timeout: time.Minute, Only: regexp.MustCompile("SecondTime"), Exclusions: []vendor.Exclusion{{Name: "TestSecondTime", Attempts: 2}},
		Each: func(test string) ([]string, func() error, error) {
			begun = append(begun, test)
			return env, func() error { ended++; return nil }, nil
		},
	})
	if err != nil || len(results) != 1 || results[0].Outcome != vendor.Pass {
		t.Fatalf("%+v, %v", results, err)
	}
	if diff := cmp.Diff([]string{"TestSecondTime", "TestSecondTime"}, begun); diff != "" || ended != 2 {
		t.Errorf("%s; ended %d", diff, ended)
	}
	wrong := errors.New("no server")
	if _, err := s.Run(t.Context(), vendor.Options{Timeout: time.Minute, Only: regexp.MustCompile("Passes"),
		Each: func(string) ([]string, func() error, error) { return nil, nil, wrong }}); !errors.Is(err, wrong) {
		t.Errorf("a failed preparation: %v", err)
	}
}

func TestFetchTellsWhy(t *testing.T) {
	publish(t)
	if _, err := vendor.Fetch(t.Context(), module+"@v9.9.9", t.TempDir()); err == nil || !strings.Contains(err.Error(), "v9.9.9") {
		t.Errorf("a version that is not there: %v", err)
	}
}

func TestJudge(t *testing.T) {
	pass := func(name string) vendor.Result { return vendor.Result{Name: name, Outcome: vendor.Pass} }
	fail := func(name string) vendor.Result {
		return vendor.Result{Name: name, Outcome: vendor.Fail, Output: "output of " + name}
	}
	skip := func(name string) vendor.Result { return vendor.Result{Name: name, Outcome: vendor.Skip} }
	out := func(name string) vendor.Exclusion { return vendor.Exclusion{Name: name, Reason: "because of " + name} }
	for name, tc := range map[string]struct {
		results    []vendor.Result
		exclusions []vendor.Exclusion
		totals     vendor.Totals
		want       []string // in the error; none for nil
	}{
		"all as listed": {
			[]vendor.Result{pass("A"), fail("B"), skip("C")}, []vendor.Exclusion{out("B"), out("C")},
			vendor.Totals{Passed: 1, Excluded: 2}, nil},
		"a failure that is not listed": {
			[]vendor.Result{pass("A"), fail("B")}, nil,
			vendor.Totals{Passed: 1, Failed: 1}, []string{"B: fail"}},
		"a skip that is not listed": {
			[]vendor.Result{skip("A")}, nil, vendor.Totals{Skipped: 1}, []string{"A: skip"}},
		"a listed test that passes": {
			[]vendor.Result{pass("A")}, []vendor.Exclusion{out("A")},
			vendor.Totals{Passed: 1}, []string{"A: it is on the list, and it passes"}},
		"a listed test that is not there": {
			[]vendor.Result{pass("A")}, []vendor.Exclusion{out("B")},
			vendor.Totals{Passed: 1}, []string{"no such test"}},
		"an entry without a reason": {
			[]vendor.Result{fail("A")}, []vendor.Exclusion{{Name: "A"}},
			vendor.Totals{Excluded: 1}, []string{"without a reason"}},
		"a listed part": {
			[]vendor.Result{fail("A"), pass("A/x"), fail("A/y")}, []vendor.Exclusion{out("A/y")},
			vendor.Totals{Passed: 1, Excluded: 1}, nil},
		"another part fails": {
			[]vendor.Result{fail("A"), fail("A/x"), fail("A/y")}, []vendor.Exclusion{out("A/y")},
			vendor.Totals{Failed: 1, Excluded: 1}, []string{"A/x: fail"}},
		"a test fails beside its parts": {
			[]vendor.Result{fail("A"), pass("A/x")}, nil,
			vendor.Totals{Passed: 1, Failed: 1}, []string{"A: fail"}},
		"all parts of a listed test pass": {
			[]vendor.Result{pass("A"), pass("A/x")}, []vendor.Exclusion{out("A")},
			vendor.Totals{Passed: 1}, []string{"passes"}},
		"names that begin alike": {
			[]vendor.Result{fail("A"), fail("AB")}, []vendor.Exclusion{out("A")},
			vendor.Totals{Failed: 1, Excluded: 1}, []string{"AB: fail"}},
		"flaky, and passes": {
			[]vendor.Result{pass("A")}, []vendor.Exclusion{{Name: "A", Reason: "r", Attempts: 3}},
			vendor.Totals{Passed: 1}, nil},
		"flaky, and never passes": {
			[]vendor.Result{fail("A")}, []vendor.Exclusion{{Name: "A", Reason: "r", Attempts: 3}},
			vendor.Totals{Failed: 1}, []string{"A: fail"}},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			totals, err := vendor.Judge(&printed, tc.results, tc.exclusions)
			if totals != tc.totals {
				t.Errorf("totals %+v, want %+v", totals, tc.totals)
			}
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			for _, text := range tc.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %v, want %q in it", err, text)
				}
			}
			for _, e := range tc.exclusions {
				if !strings.Contains(printed.String(), e.Name) || !strings.Contains(printed.String(), e.Reason) {
					t.Errorf("%s with its reason is not printed:\n%s", e.Name, &printed)
				}
			}
			if printing := strings.Contains(printed.String(), "output of"); printing != (tc.totals.Failed > 0) {
				t.Errorf("the output of what failed is not printed:\n%s", &printed)
			}
		})
	}
}
