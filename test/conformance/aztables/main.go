// Aztables runs the tests that come inside Microsoft's aztables module, as they
// are, against the Table Storage stand-in:
//
//	go run ./test/conformance/aztables
//
// The version is the one in go.mod. The addresses of Azure stand in the tests;
// they stay, and a proxy that the environment names leads from there to the
// stand-in, which has a certificate for them from a CA of our own. Each test has
// an account of its own, so that they can run at the same time.
//
// Every test has to pass but for those that exclusions.go names with a reason,
// and those must not. Most have a sub-test for each kind of account; all of those
// for Table Storage have to pass, with the account's key and with a token.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

const (
	module   = "github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	timeout  = 5 * time.Minute // for one test: some sleep for two minutes
	parallel = 8
	// least is how many sub-tests for Table Storage there have to be with each
	// kind of credential.
	least = 29
)

func main() {
	only := flag.String("run", "", "run the tests whose names match")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := conform(ctx, os.Stdout, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func conform(ctx context.Context, w io.Writer, only string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := vendor.Fetch(ctx, module, vendor.Dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "aztables, of %s\n", filepath.Base(dir))
	tests, err := vendor.Build(ctx, dir, ".", []string{
		"AZURE_RECORD_MODE=live", "TABLES_STORAGE_ACCOUNT_NAME=" + account, "TABLES_COSMOS_ACCOUNT_NAME=" + account,
	})
	if err != nil {
		return err
	}
	web, err := emulator()
	if err != nil {
		return err
	}
	if web == nil {
		fmt.Fprintf(w, "SKIPPED: %s, since another program holds port 10002\n", emulatorTest)
	} else {
		defer func() { _ = web.Close() }()
	}
	names := slices.DeleteFunc(slices.Clone(tests.Names), func(name string) bool {
		return !pattern.MatchString(name) || web == nil && name == emulatorTest
	})
	results, err := run(ctx, tests, names)
	if err != nil {
		return err
	}
	return judge(w, results, names, only == "")
}

func run(ctx context.Context, tests *vendor.Suite, names []string) ([]vendor.Result, error) {
	// The certificate's path is for other processes, in other folders.
	folder, err := filepath.Abs(filepath.Join(vendor.Dir, "aztables-ca"))
	if err != nil {
		return nil, err
	}
	ca, err := pki.New(folder)
	if err != nil {
		return nil, err
	}
	return tests.Run(ctx, vendor.Options{
		Only: regexp.MustCompile("^(" + strings.Join(names, "|") + ")$"), Timeout: timeout, Parallel: parallel,
		Each: func(string) ([]string, func() error, error) {
			a, err := newAzure(ca)
			if err != nil {
				return nil, nil, err
			}
			return a.env(), a.close, nil
		},
	})
}

// judge prints the sub-tests for Table Storage and holds the results against the
// list, as far as its tests were run; all of it was if whole.
func judge(w io.Writer, results []vendor.Result, names []string, whole bool) error {
	passed := map[string]int{}
	for _, r := range results {
		kind := kindOf(r.Name)
		if kind != storage && kind != storageToken {
			continue
		}
		fmt.Fprintf(w, "%s %s\n", r.Outcome, r.Name)
		if r.Outcome == vendor.Pass {
			passed[kind]++
		}
	}
	list := slices.DeleteFunc(exclusions(results), func(e vendor.Exclusion) bool {
		name, _, _ := strings.Cut(e.Name, "/")
		return !slices.Contains(names, name)
	})
	_, err := vendor.Judge(w, results, list)
	for _, kind := range []string{storage, storageToken} {
		fmt.Fprintf(w, "%d sub-tests for %s passed\n", passed[kind], kind)
		if whole && passed[kind] < least {
			err = errors.Join(err, fmt.Errorf("%d sub-tests for %s passed, and %d have to", passed[kind], kind, least))
		}
	}
	return err
}
