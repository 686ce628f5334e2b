// Package leaks looks for secrets where none belongs: in what a program logged.
package leaks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// minSecret is how long a text must be to be looked for; shorter ones are found
// in everything.
const minSecret = 12

// shapes are secrets that a test never held itself.
var shapes = map[string]*regexp.Regexp{
	"a JSON web token":          regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}`),
	"a shared access signature": regexp.MustCompile(`(?i)[?&\s]sig=[A-Za-z0-9%+/]{20,}`),
	"a shared access key":       regexp.MustCompile(`(?i)(?:SharedAccessKey|AccountKey)=[A-Za-z0-9+/]{20,}`),
	"a credential of a request": regexp.MustCompile(`(?i)\b(?:Bearer|Basic|SharedKey(?:Lite)?)[ :]+[A-Za-z0-9_.:+/=-]{20,}`),
}

// Find gives a line for each secret that the log holds, and none of the secrets:
// those of the map, by what they are called, as they are and as they stand in a
// URL or in JSON, and everything of the shape of a token or a key.
func Find(log []byte, secrets map[string]string) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		for _, form := range forms(secrets[name]) {
			if i := bytes.Index(log, []byte(form)); i >= 0 {
				found = append(found, fmt.Sprintf("%s, in line %d", name, line(log, i)))
				break
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		if at := shapes[name].FindIndex(log); at != nil {
			found = append(found, fmt.Sprintf("%s, in line %d", name, line(log, at[0])))
		}
	}
	return found
}

func line(log []byte, at int) int { return bytes.Count(log[:at], []byte("\n")) + 1 }

func forms(secret string) []string {
	if len(secret) < minSecret {
		return nil
	}
	out := []string{secret, url.QueryEscape(secret), url.PathEscape(secret)}
	if text, err := json.Marshal(secret); err == nil {
		out = append(out, string(text[1:len(text)-1]))
	}
	return out
}

// OfSettings picks out of settings what is secret: connection strings with their
// keys, and whatever is called a secret, a key or the identity's header.
func OfSettings(settings map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range settings {
		upper := strings.ToUpper(name)
		switch {
		case strings.Contains(upper, "CONNECTION_STRING"):
			out[name] = value
			for part := range strings.SplitSeq(value, ";") {
				if k, v, _ := strings.Cut(part, "="); strings.HasSuffix(k, "Key") {
					out["the "+k+" of "+name] = v
				}
			}
		case strings.Contains(upper, "SECRET"), strings.HasSuffix(upper, "_KEY"), upper == "IDENTITY_HEADER":
			out[name] = value
		}
	}
	return out
}

// Log keeps what programs write to it, from any number of them at once.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Bytes gives a copy of all that was written so far.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// String gives all that was written so far.
func (l *Log) String() string { return string(l.Bytes()) }
