package vendor

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Exclusion is a test, or a sub-test, that is known not to pass.
type Exclusion struct {
	// Name is "TestX", which is all of that test, or "TestX/sub".
	Name string
	// Reason says why that is right, or cannot be helped.
	Reason string
	// Attempts, if above 1, makes the test one that has to pass, but may take as
	// many attempts: it is flaky by its own doing.
	Attempts int
	// Timeout, if above 0, is how long to wait for a test that is known to hang.
	Timeout time.Duration
}

// Totals count tests or sub-tests that have no sub-tests themselves.
type Totals struct{ Passed, Failed, Skipped, Excluded int }

// Judge holds results against the list: exactly what is on it may fail or be
// skipped. It prints the list with the reasons, the output of what failed and
// is not on it, and the totals. The error says what was not as the list has it:
// a test that did not pass and is not listed, one that passed and is, and one
// that is listed and was not there to run.
func Judge(w io.Writer, results []Result, exclusions []Exclusion) (Totals, error) {
	var t Totals
	var wrong []error
	found := make([]int, len(exclusions)) // leaves that did not pass
	seen := make([]int, len(exclusions))
	for _, r := range results {
		if parent(results, r) {
			continue
		}
		n := excluded(exclusions, r.Name)
		if n >= 0 {
			seen[n]++
		}
		known := n >= 0 && exclusions[n].Attempts <= 1
		switch {
		case r.Outcome == Pass:
			t.Passed++
			continue
		case known:
			found[n]++
			t.Excluded++
			continue
		case r.Outcome == Skip:
			t.Skipped++
		default:
			t.Failed++
		}
		wrong = append(wrong, fmt.Errorf("%s: %s, and it is not on the list", r.Name, r.Outcome))
		fmt.Fprintf(w, "--- %s %s (attempts: %d, %.1fs)\n%s\n", r.Outcome, r.Name, r.Attempts, r.Elapsed.Seconds(), r.Output)
	}
	for n, e := range exclusions {
		switch {
		case strings.TrimSpace(e.Reason) == "":
			wrong = append(wrong, fmt.Errorf("%s: it is on the list without a reason", e.Name))
		case seen[n] == 0:
			wrong = append(wrong, fmt.Errorf("%s: it is on the list, and there is no such test", e.Name))
		case e.Attempts <= 1 && found[n] == 0:
			wrong = append(wrong, fmt.Errorf("%s: it is on the list, and it passes", e.Name))
		}
	}
	list(w, exclusions)
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped, %d excluded (tests and sub-tests, without those that are divided further)\n",
		t.Passed, t.Failed, t.Skipped, t.Excluded)
	return t, errors.Join(wrong...)
}

func list(w io.Writer, exclusions []Exclusion) {
	if len(exclusions) == 0 {
		fmt.Fprintln(w, "nothing is excluded")
		return
	}
	fmt.Fprintln(w, "excluded, and why:")
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range exclusions {
		reason := e.Reason
		if e.Attempts > 1 {
			reason = fmt.Sprintf("flaky, must pass in %d attempts: %s", e.Attempts, reason)
		}
		fmt.Fprintf(tab, "  %s\t%s\n", e.Name, reason)
	}
	_ = tab.Flush()
}

// parent says that a test is divided further and its parts tell how it fared.
// One that failed although none of its parts did has failed by itself.
func parent(results []Result, r Result) bool {
	divided, told := false, r.Outcome != Fail
	for _, other := range results {
		if strings.HasPrefix(other.Name, r.Name+"/") {
			divided = true
			told = told || other.Outcome == Fail
		}
	}
	return divided && told
}

// excluded finds the entry for a test, or -1; the most exact one counts.
func excluded(exclusions []Exclusion, name string) int {
	best := -1
	for n, e := range exclusions {
		if (name == e.Name || strings.HasPrefix(name, e.Name+"/")) && (best < 0 || len(e.Name) > len(exclusions[best].Name)) {
			best = n
		}
	}
	return best
}
