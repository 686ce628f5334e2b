// Command pack makes the package that is deployed: the function app for Azure in
// dist/app, the same as dist/portcullis.zip, and beside it what it is made of.
// The same sources and the same Go make the same bytes, in any folder.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/portcullis-access/portcullis/internal/appzip"
)

func main() {
	out := flag.String("out", "dist", "where the package goes")
	flag.Parse()
	if err := pack(*out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack runs in the repository's root.
func pack(out string) error {
	app := filepath.Join(out, "app")
	if err := os.RemoveAll(app); err != nil {
		return err
	}
	if err := stage(app); err != nil {
		return err
	}
	var zip bytes.Buffer
	if err := appzip.Write(&zip, app); err != nil {
		return err
	}
	bom, err := bom(filepath.Join(app, "handler"), zip.Bytes())
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(out, "portcullis.zip"), zip.Bytes(), 0o644),
		os.WriteFile(filepath.Join(out, "portcullis.cdx.json"), bom, 0o644),
	)
}

// stage puts host.json, the handler and each function side by side: the host
// finds a function only in a folder beside host.json.
func stage(app string) error {
	if err := os.CopyFS(app, os.DirFS("functions")); err != nil {
		return err
	}
	host, err := os.ReadFile("host.json")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(app, "host.json"), host, 0o644); err != nil {
		return err
	}
	// Static, for any Linux; and with nothing of the folder, the time or the
	// machine in it.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", filepath.Join(app, "handler"), "./cmd/handler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOEXPERIMENT=")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	return build.Run()
}
