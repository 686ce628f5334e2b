package functionshost

import (
	"errors"
	"maps"
	"net/http"
	"sync"
)

// StatsPath is where the front end serves Stats as JSON.
const StatsPath = "/_local/stats"

// Stats counts what the host did since it was made.
type Stats struct {
	// HandlerRuns is how often the handler process became ready.
	HandlerRuns int `json:"handlerRuns"`
	// Functions has an entry for each function that was invoked, by its name.
	Functions map[string]Invocations `json:"functions"`
}

// Invocations counts those of one function by outcome. An HTTP function
// succeeds with whatever status its handler answers, and a moment after its
// caller has the answer; a queue function's
// Succeeded says nothing of whether its message could be completed.
type Invocations struct {
	Running   int `json:"running"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	TimedOut  int `json:"timedOut"` // by functionTimeout; not among Failed
}

// Stats gives the counts of now.
func (h *Host) Stats() Stats {
	h.counts.mu.Lock()
	defer h.counts.mu.Unlock()
	s := Stats{HandlerRuns: h.counts.runs, Functions: map[string]Invocations{}}
	maps.Copy(s.Functions, h.counts.functions)
	return s
}

func (h *Host) serveStats(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h.writeJSON(w, http.StatusOK, h.Stats())
}

// counters are the counts behind Stats; the zero value is ready.
type counters struct {
	mu        sync.Mutex
	runs      int
	functions map[string]Invocations
}

func (c *counters) startHandler() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs++
}

// start counts an invocation that begins; the result counts its end.
func (c *counters) start(function string) (finished func(error)) {
	c.change(function, func(i *Invocations) { i.Running++ })
	return func(err error) {
		c.change(function, func(i *Invocations) {
			i.Running--
			switch {
			case err == nil:
				i.Succeeded++
			case errors.Is(err, errFunctionTimeout):
				i.TimedOut++
			default:
				i.Failed++
			}
		})
	}
}

func (c *counters) change(function string, by func(*Invocations)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.functions == nil {
		c.functions = map[string]Invocations{}
	}
	i := c.functions[function]
	by(&i)
	c.functions[function] = i
}
