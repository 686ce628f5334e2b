// Package profile profiles the handler while a burst runs. It is linked into the
// build of cmd/handler that `make profile` makes by an overlay, and into no other:
// the handler that is deployed has none of it.
package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

const (
	// Env names the setting with the folder that the profiles are written to, and
	// in which the socket lies. Without it nothing is profiled.
	Env = "BENCH_PROFILE_DIR"
	// socket takes the commands; only who may write to the folder reaches it.
	socket = "handler.sock"

	blockRate     = 100_000 // ns: of waits that are shorter, a share is noted
	mutexFraction = 10      // one of so many waits for a lock is noted
)

// Used is what the process allocated, between Begin and End.
type Used struct {
	Bytes, Objects uint64
	Collections    uint32
}

// Serve takes commands on the socket of the folder that Env names, until the
// process ends. It says whether it does.
func Serve() bool {
	dir := os.Getenv(Env)
	if dir == "" {
		return false
	}
	path := filepath.Join(dir, socket)
	err := os.Remove(path) // of a handler that ran before
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	runtime.SetBlockProfileRate(blockRate)
	runtime.SetMutexProfileFraction(mutexFraction)
	p := &profiler{dir: dir}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /begin/{phase}", func(w http.ResponseWriter, r *http.Request) { answer(w, nil, p.begin(r.PathValue("phase"))) })
	mux.HandleFunc("POST /end/{phase}", func(w http.ResponseWriter, r *http.Request) {
		used, err := p.end(r.PathValue("phase"))
		answer(w, used, err)
	})
	go func() { panic(http.Serve(l, mux)) }()
	return true
}

func answer(w http.ResponseWriter, body any, err error) {
	if err == nil {
		err = json.NewEncoder(w).Encode(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// profiler profiles one phase at a time.
type profiler struct {
	dir    string
	cpu    *os.File
	before runtime.MemStats
}

// begin starts the CPU profile, and writes what there is of the others, which
// count from the start of the process, as <phase>.<profile>.before.
func (p *profiler) begin(phase string) (err error) {
	if err := p.write(phase, ".before"); err != nil {
		return err
	}
	if p.cpu, err = os.Create(p.path(phase, "cpu", "")); err != nil {
		return err
	}
	runtime.ReadMemStats(&p.before)
	return pprof.StartCPUProfile(p.cpu)
}

func (p *profiler) end(phase string) (Used, error) {
	pprof.StopCPUProfile()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	return Used{
		Bytes:       after.TotalAlloc - p.before.TotalAlloc,
		Objects:     after.Mallocs - p.before.Mallocs,
		Collections: after.NumGC - p.before.NumGC,
	}, errors.Join(p.cpu.Close(), p.write(phase, ""))
}

func (p *profiler) path(phase, profile, suffix string) string {
	return filepath.Join(p.dir, phase+"."+profile+suffix)
}

// write writes the profiles that count from the start of the process.
func (p *profiler) write(phase, suffix string) error {
	runtime.GC() // allocs and heap are those of the last collection
	for _, name := range []string{"allocs", "heap", "mutex", "block"} {
		f, err := os.Create(p.path(phase, name, suffix))
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
