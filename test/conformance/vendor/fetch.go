// Package vendor runs the tests that a vendor ships inside a Go module, as they
// are, against a server of ours, and holds what did not pass against a list of
// what is known not to, with the reasons.
//
// It needs nothing but Go: the module and what its tests need come by the
// ordinary way of modules.
package vendor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Dir is where the programs of this repository keep their copies, below its
// root; git ignores it.
const Dir = ".local/conformance"

// Fetch copies a module out of the module cache, which holds what its checksum
// vouches for, to a folder of its own below dir that can be written to, and
// returns that. A copy that is there is replaced. The module is "path@version",
// or "path" for the version that the go.mod of the current folder asks for.
func Fetch(ctx context.Context, module, dir string) (string, error) {
	var info struct{ Path, Version, Dir, Error string }
	out, err := run(ctx, ".", nil, "go", "mod", "download", "-json", module)
	// The reason for a failure is in the output.
	if jsonErr := json.Unmarshal(out, &info); jsonErr == nil && info.Error != "" {
		err = errors.New(info.Error)
	}
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", module, err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, strings.ReplaceAll(info.Path, "/", "_")+"@"+info.Version)
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	return to, copyTree(info.Dir, to)
}

// copyTree copies files without their modes: those in the cache are read-only.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}

// run gives a command's standard output; an error tells the end of its
// standard error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, tail(stderr.String()))
	}
	return out, err
}

// tail is the end of a long output, which is where the reason mostly is.
func tail(s string) string {
	const most = 4 << 10
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return strings.TrimSpace(s)
}
