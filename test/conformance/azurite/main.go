// Azurite asks the Table Storage stand-in and Azurite, Microsoft's emulator, the
// same questions and compares the answers:
//
//	go run ./test/conformance/azurite
//
// Compared are status, error code, the headers that clients act on and the
// bodies, without what no two answers have in common. Azurite does not keep all
// rules of Table Storage: where it does not, the answers are to differ as
// known.go has it, and one that does not is as wrong as one that is not there.
//
// It needs Node 20 and npm, and fetches Azurite with that once; without Node it
// says SKIPPED and compares nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := conform(ctx, os.Stdout)
	if errors.Is(err, errNoNode) {
		fmt.Printf("SKIPPED: the comparison with Azurite: %v\n", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func conform(ctx context.Context, w io.Writer) error {
	program, err := install(ctx, filepath.Join(vendor.Dir, "azurite"))
	if err != nil {
		return err
	}
	theirs, stopTheirs, err := startAzurite(ctx, program)
	if err != nil {
		return err
	}
	defer stopTheirs()
	ours, stopOurs, err := startOurs()
	if err != nil {
		return err
	}
	defer stopOurs()
	var found []difference
	asked := 0
	for n, s := range scenarios() {
		differences, err := play(ctx, fmt.Sprintf("Table%03d", n), s, ours, theirs)
		if err != nil {
			return err
		}
		found, asked = append(found, differences...), asked+len(s.steps)
	}
	fmt.Fprintf(w, "%d requests to the stand-in and to Azurite %s\n", asked, version)
	return judge(w, found, known())
}

// play asks both sides all steps of a scenario.
func play(ctx context.Context, table string, s scenario, ours, theirs *endpoint) ([]difference, error) {
	var found []difference
	for _, e := range []*endpoint{ours, theirs} {
		if err := e.begin(ctx, table); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", e.name, s.name, err)
		}
	}
	for _, step := range s.steps {
		name := s.name + ": " + step.name
		var forms [2]form
		for i, e := range []*endpoint{ours, theirs} {
			a, err := e.do(ctx, step)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", e.name, name, err)
			}
			if forms[i], err = normalise(a, e.base); err != nil {
				return nil, fmt.Errorf("%s: %s: %w\n%s", e.name, name, err, a.body)
			}
		}
		found = append(found, compare(name, forms[0], forms[1])...)
	}
	return found, nil
}
