// Package portal serves the self-service page: files that are part of the
// program, with nothing built and nothing fetched from elsewhere. The page does
// everything through the access API, in the browser, as whoever is signed in.
package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Prefix is where the page's files are; the page itself is at "/".
const Prefix = "/portal/"

//go:embed files
var files embed.FS

const page = "index.html"

// types are the kinds of file there are. Anything else in the folder is a
// mistake, and New says so.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// policy lets the page load its own files and call its own origin, and nothing
// else. Trusted Types make the browser refuse any text that would become markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// headers go with every answer, whatever its status.
var headers = map[string]string{
	"Content-Security-Policy":      policy,
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Permissions-Policy":           "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
}

// Handler serves the page at "/" and its files at their exact addresses below
// Prefix, from memory, to GET and HEAD. The rest is 404 or 405. So it may also
// answer the Functions host's ping.
type Handler struct {
	files map[string]file
}

type file struct {
	data              []byte
	contentType, etag string
}

// New reads the embedded files; an error means that the program was built wrong.
func New() (*Handler, error) {
	h := &Handler{files: map[string]file{}}
	err := fs.WalkDir(files, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		contentType, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("portal: %s is of no kind that the page has", name)
		}
		data, err := files.ReadFile(name)
		sum := sha256.Sum256(data)
		at := Prefix + name[len("files/"):]
		if name == "files/"+page {
			at = "/"
		}
		h.files[at] = file{data, contentType, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return err
	})
	if err == nil && h.files["/"].data == nil {
		err = fmt.Errorf("portal: there is no %s", page)
	}
	return h, err
}

// Before passes on to next what is not the page's to answer: all but "/" and what
// lies below Prefix.
func (h *Handler) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == "/" || p == "/portal" || strings.HasPrefix(p, Prefix) {
			h.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP answers one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	// The escaped path is compared, so that there is one spelling of each address.
	f, ok := h.files[r.URL.EscapedPath()]
	switch {
	case !ok:
		fail(w, http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", f.contentType)
		w.Header().Set("ETag", f.etag)
		// Kept, and asked for each time: after an upgrade nobody mixes versions.
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	}
}

// fail answers with a body: some hosts wait for one.
func fail(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}
