// Package staged builds the programs and stages the function app as make stage
// does, for tests that run both.
package staged

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds every program of the checkout at root into dir, and stages the
// function app in dir/app with the handler in it.
func Build(root, dir string) error {
	build := exec.Command("go", "build", "-trimpath", "-o", dir+string(filepath.Separator), "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	app := App(dir)
	if err := os.CopyFS(app, os.DirFS(filepath.Join(root, "functions"))); err != nil {
		return err
	}
	host, err := os.ReadFile(filepath.Join(root, "host.json"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(app, "host.json"), host, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "handler"), filepath.Join(app, "handler"))
}

// App is where Build stages the function app.
func App(dir string) string { return filepath.Join(dir, "app") }
