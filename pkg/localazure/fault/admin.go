package fault

import (
	"net/http"

	"github.com/go-json-experiment/json"
)

// Path is where a stand-in serves its injector.
const Path = "/_local/faults"

// maxPlan bounds a plan, in bytes.
const maxPlan = 1 << 20

// ServeHTTP is the admin endpoint. PUT replaces the plan by the one in the body,
// DELETE by an empty one, and each answers, as GET does, the plan in force and
// the counts of its rules. A faulty plan is answered 400 and changes nothing.
func (i *Injector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var plan Plan
	switch r.Method {
	case http.MethodGet:
		i.show(w)
		return
	case http.MethodPut:
		// A field that is not known might be a fault that was meant.
		if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxPlan), &plan, json.RejectUnknownMembers(true)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
	default:
		w.Header().Set("Allow", "GET, PUT, DELETE")
		http.Error(w, "GET, PUT or DELETE", http.StatusMethodNotAllowed)
		return
	}
	if err := i.Set(plan); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	i.show(w)
}

func (i *Injector) show(w http.ResponseWriter) {
	plan, counts := i.State()
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client's, which went away.
	_ = json.MarshalWrite(w, struct {
		Plan   Plan    `json:"plan"`
		Counts []Count `json:"counts"`
	}{plan, counts})
}
