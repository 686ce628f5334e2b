// Package appzip packs a staged function app into a zip file, and unpacks one.
package appzip

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxSize bounds what Extract unpacks, in bytes.
const maxSize = 512 << 20

// epoch is the time of every file in a package: the first that a zip can say.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Write packs the files of dir. The same files make the same bytes, whatever
// their times, their owners and the order in which the disk gives them; of their
// modes only the executable bit counts. Anything but files and folders is an error.
func Write(w io.Writer, dir string) error {
	z := zip.NewWriter(w)
	// WalkDir goes in the order of names.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return add(z, path, filepath.ToSlash(name), d)
	})
	return errors.Join(err, z.Close())
}

func add(z *zip.Writer, path, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no plain file", name)
	}
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: epoch}
	h.SetMode(mode(info.Mode()))
	to, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(to, from)
	return err
}

// mode keeps the executable bit alone.
func mode(m fs.FileMode) fs.FileMode {
	if m&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// Extract unpacks a package into dir, which it makes where it is missing. A name
// that leads out of dir, anything but a file or a folder, and a package of more
// than half a gigabyte are errors; what was unpacked until then stays.
func Extract(path, dir string) (err error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer z.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxSize)
	for _, f := range z.File {
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) || !f.Mode().IsRegular() && !f.Mode().IsDir() {
			return fmt.Errorf("%s: %q is no file of a package", path, f.Name)
		}
		if err := extract(root, f, &left); err != nil {
			return fmt.Errorf("%s: %s: %w", path, f.Name, err)
		}
	}
	return nil
}

func extract(root *os.Root, f *zip.File, left *int64) (err error) {
	name := filepath.FromSlash(f.Name)
	if f.Mode().IsDir() {
		return root.MkdirAll(filepath.Clean(name), 0o700)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode(f.Mode())&0o700)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// One byte more than there may be tells too much from just enough.
	n, err := io.Copy(to, io.LimitReader(from, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = errors.New("the package is larger than a function app may be")
	}
	return err
}
