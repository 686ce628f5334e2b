package appzip_test

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/internal/appzip"
)

// app stages an app of a few files, written in the order given.
func app(t *testing.T, order ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range order {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		perm := fs.FileMode(0o640)
		if name == "handler" {
			perm = 0o750
		}
		if err := os.WriteFile(path, []byte("this is "+name), perm); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := appzip.Write(&b, dir); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTheSameFilesMakeTheSameBytes(t *testing.T) {
	one := app(t, "host.json", "Sweep/function.json", "handler")
	two := app(t, "handler", "Sweep/function.json", "host.json")
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(two, "handler"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two, "host.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("times, modes or the order of writing show in the package")
	}
	if err := os.WriteFile(filepath.Join(two, "host.json"), []byte("that is host.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("other files make the same package")
	}
}

func TestAPackageComesOutAsItWentIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(file, pack(t, app(t, "host.json", "Sweep/function.json", "handler")), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := appzip.Extract(file, out); err != nil {
		t.Fatal(err)
	}
	for name, executable := range map[string]bool{"host.json": false, "Sweep/function.json": false, "handler": true} {
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || string(data) != "this is "+name {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		info, err := os.Stat(filepath.Join(out, name))
		if err != nil || (info.Mode()&0o100 != 0) != executable {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if err := appzip.Extract(file, out); err == nil {
		t.Error("it unpacks over what is there")
	}
}

func TestLinksAreNotPacked(t *testing.T) {
	dir := app(t, "host.json")
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Skip("this system makes no links:", err)
	}
	if err := appzip.Write(&bytes.Buffer{}, dir); err == nil {
		t.Error("a link is packed")
	}
}

func TestWhatLeadsOutIsNotUnpacked(t *testing.T) {
	for _, header := range []zip.FileHeader{{Name: "../out"}, {Name: "/out"}, {Name: "a/../../out"}, link()} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.CreateHeader(&header)
		if err == nil {
			_, err = w.Write([]byte("/etc/hostname"))
		}
		if err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "a.zip")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := appzip.Extract(file, filepath.Join(dir, "in")); err == nil {
			t.Errorf("%s is unpacked", header.Name)
		}
		if _, err := os.Lstat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s is outside", header.Name)
		}
	}
}

func link() zip.FileHeader {
	h := zip.FileHeader{Name: "link"}
	h.SetMode(fs.ModeSymlink | 0o777)
	return h
}
