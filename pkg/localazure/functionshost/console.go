package functionshost

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxLogLine bounds one line of the handler's output, in bytes; a longer one is
// cut into several.
const maxLogLine = 64 << 10

// Levels of .NET logging.
const (
	levelInformation = "Information"
	levelWarning     = "Warning"
	levelError       = "Error"
)

// console writes log lines, one at a time.
type console struct {
	mu  sync.Mutex
	out io.Writer
	now func() time.Time
}

func newConsole(out io.Writer) *console {
	if out == nil {
		out = io.Discard
	}
	return &console{out: out, now: time.Now}
}

// line writes one line: time, level, category, text. A failing writer is
// nobody's to hear of, so its error goes nowhere.
func (c *console) line(level, category, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "%s [%s] %s: %s\n", c.now().UTC().Format("2006-01-02T15:04:05.000Z"), level, category, text)
}

// lineWriter splits a stream of the handler into log lines.
type lineWriter struct {
	emit func(line string)
	mu   sync.Mutex
	rest []byte
}

// Write never fails, so that a broken console cannot end the handler.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 && len(w.rest) < maxLogLine {
			return len(p), nil
		}
		cut, skip := i, 1
		if i < 0 || i > maxLogLine {
			cut, skip = maxLogLine, 0
		}
		w.emit(string(bytes.TrimSuffix(w.rest[:cut], []byte{'\r'})))
		w.rest = w.rest[cut+skip:]
	}
}

// flush emits a last line without an end.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.emit(string(w.rest))
		w.rest = nil
	}
}

const handlerCategory = "Host.Function.Console"

// stdout logs the handler's output as Information.
func (c *console) stdout() *lineWriter {
	return &lineWriter{emit: func(line string) { c.line(levelInformation, handlerCategory, line) }}
}

// stderr logs it as Error, unless the line speaks of a warning
// (WorkerProcess.ParseErrorMessageAndLog).
func (c *console) stderr() *lineWriter {
	return &lineWriter{emit: func(line string) {
		level := levelError
		if strings.Contains(strings.ToLower(line), "warn") {
			level = levelWarning
		}
		c.line(level, handlerCategory, line)
	}}
}
