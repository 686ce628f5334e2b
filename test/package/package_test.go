// Package pkgtest holds the package that is deployed to what is said of it: that
// it repeats to the byte, and that a Functions host runs it as it is.
package pkgtest

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// sources are what the package is made of.
var sources = []string{"build", "cmd/handler", "functions", "handlers", "internal", "pkg", "go.mod", "go.sum", "host.json"}

// pack makes the package of the repository in dir.
func pack(t *testing.T, dir, out string) {
	t.Helper()
	command(t, dir, "go", "run", "./build/pack", "-out", out)
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
}

// TestThePackage builds it here, and from a copy of the sources in another
// folder, and compares every byte.
func TestThePackage(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	pack(t, root, here)
	for _, s := range sources {
		from, to := filepath.Join(root, s), filepath.Join(there, s)
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			t.Fatal(err)
		}
		command(t, "", "cp", "-R", from, to)
	}
	pack(t, there, "out")
	for _, name := range []string{"portcullis.zip", "portcullis.cdx.json"} {
		one, err1 := os.ReadFile(filepath.Join(here, name))
		two, err2 := os.ReadFile(filepath.Join(there, "out", name))
		if err1 != nil || err2 != nil || len(one) == 0 {
			t.Fatal(err1, err2)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s is another one when it is built in another folder", name)
		}
	}
	t.Run("what is in it", func(t *testing.T) { contents(t, filepath.Join(here, "portcullis.zip")) })
	t.Run("what it is made of", func(t *testing.T) { madeOf(t, here) })
	t.Run("it runs", func(t *testing.T) { runs(t, filepath.Join(here, "portcullis.zip")) })
}

// contents looks for host.json, the handler and each function at the root, and
// that the handler is a static program for linux/amd64 with its executable bit.
func contents(t *testing.T, file string) {
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	want := []string{"handler", "host.json"}
	functions, err := os.ReadDir(filepath.Join(root, "functions"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range functions {
		want = append(want, f.Name()+"/function.json")
	}
	var have []string
	for _, f := range z.File {
		have = append(have, f.Name)
		if executable := f.Mode()&0o111 != 0; executable != (f.Name == "handler") {
			t.Errorf("%s has the mode %v", f.Name, f.Mode())
		}
	}
	slices.Sort(want)
	if slices.Sort(have); !slices.Equal(have, want) {
		t.Errorf("it holds %v, and should hold %v", have, want)
	}
	handler, err := z.Open("handler")
	if err != nil {
		t.Fatal(err)
	}
	defer handler.Close()
	program, err := io.ReadAll(handler)
	if err != nil {
		t.Fatal(err)
	}
	e, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := e.ImportedLibraries(); e.Machine != elf.EM_X86_64 || err == nil && len(libraries) != 0 {
		t.Errorf("the handler is for %v and needs %v", e.Machine, libraries)
	}
}

// madeOf looks for a module that is surely in the handler, and for no time.
func madeOf(t *testing.T, dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "portcullis.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SerialNumber string
		Metadata                struct{ Timestamp string }
		Components              []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Errorf("%+v", bom.Metadata)
	}
	for _, name := range []string{"std", "github.com/Azure/azure-sdk-for-go/sdk/azcore"} {
		i := 0
		for i < len(bom.Components) && bom.Components[i].Name != name {
			i++
		}
		if i == len(bom.Components) || bom.Components[i].Version == "" || !strings.HasSuffix(bom.Components[i].PURL, "@"+bom.Components[i].Version) {
			t.Errorf("%s is not listed, or without its version", name)
		}
	}
}

// runs has the local host run the package itself, and calls the handler in it.
func runs(t *testing.T, file string) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the package is for linux/amd64, and this is", runtime.GOOS, runtime.GOARCH)
	}
	dir := t.TempDir()
	command(t, root, "go", "build", "-o", dir+"/", "./cmd/portcullis", "./cmd/portcullis-local")
	env := filepath.Join(dir, "env")
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	c := exec.CommandContext(ctx, filepath.Join(dir, "portcullis-local"), "run", "--app", file, "--free-ports", "--dir", filepath.Join(dir, "local"), "--env-file", env)
	c.Dir, c.Env = root, append(os.Environ(), "TMPDIR="+temp)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 20 * time.Second
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	ask(t, waitFor(t, env, ended), filepath.Join(dir, "local", "ca.pem"))
	stop()
	<-ended
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	if t.Failed() {
		t.Logf("the local host said:\n%s", said.String())
	}
}

// waitFor waits until the stack is up, and gives the app's address.
func waitFor(t *testing.T, env string, ended <-chan error) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			t.Fatalf("the local host ended: %v", err)
		case <-tick.C:
		}
		data, err := os.ReadFile(env)
		if err != nil {
			continue // it appears whole, once everything is up
		}
		for line := range strings.Lines(string(data)) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name == "FUNCTIONS_ENDPOINT" {
				return strings.Trim(value, "'")
			}
		}
		t.Fatalf("no FUNCTIONS_ENDPOINT in:\n%s", data)
	}
}

// ask has the handler answer by what only it knows.
func ask(t *testing.T, endpoint, ca string) {
	t.Helper()
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(ca); err == nil {
		pool.AppendCertsFromPEM(pem)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	res, err := client.Get(endpoint + "/api/openapi.json")
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	var api struct{ OpenAPI string }
	if err := json.NewDecoder(res.Body).Decode(&api); err != nil || res.StatusCode != http.StatusOK || api.OpenAPI == "" {
		t.Errorf("%s: %v", res.Status, err)
	}
}
