package functionshost

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// maxAdminBody bounds the body of an admin request, in bytes.
const maxAdminBody = 1 << 20

// serveAdmin answers /admin/…: the status of the host, the list of functions,
// and POST /admin/functions/<Name>, which runs any function that is not HTTP
// with {"input": …}, with 202 before it has ended. All but the ping ask for the
// master key.
func (h *Host) serveAdmin(w http.ResponseWriter, r *http.Request, path []string) {
	where := strings.ToLower(strings.Join(path, "/"))
	if where == "host/ping" && (r.Method == http.MethodGet || r.Method == http.MethodPost) {
		w.WriteHeader(http.StatusOK)
		return
	}
	if h.callerLevel(r) < levelAdmin {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case where == "host/status" && r.Method == http.MethodGet:
		h.writeJSON(w, http.StatusOK, map[string]any{
			"id": "local", "state": h.state(), "version": HostVersion, "versionDetails": HostVersion,
			"processUptime": time.Since(h.started).Milliseconds(),
		})
	case where == "functions" && r.Method == http.MethodGet:
		h.writeJSON(w, http.StatusOK, h.adminFunctions())
	case len(path) == 2 && strings.EqualFold(path[0], "functions") && r.Method == http.MethodPost:
		h.adminInvoke(w, r, path[1])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (h *Host) state() string {
	if h.base.Err() != nil {
		return "Stopped"
	}
	return "Running"
}

func (h *Host) adminFunctions() []map[string]any {
	list := make([]map[string]any, 0, len(h.functions))
	for _, f := range h.functions {
		list = append(list, map[string]any{"name": f.Name, "isDisabled": f.Disabled, "trigger": f.Trigger})
	}
	return list
}

func (h *Host) writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := jsonText(value)
	if err != nil {
		h.log.Error("encoding an admin answer", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// adminInvoke runs a function by name. An HTTP function is refused: it is called
// by its route.
func (h *Host) adminInvoke(w http.ResponseWriter, r *http.Request, name string) {
	f := h.find(name)
	if f == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if f.http != nil {
		http.Error(w, "call an HTTP function by its route", http.StatusBadRequest)
		return
	}
	input, err := adminInput(r.Body)
	if err != nil {
		http.Error(w, "the body must be {\"input\": …}", http.StatusBadRequest)
		return
	}
	now := time.Now().UTC()
	var e envelope
	if f.timer != nil {
		e, err = timerEnvelope(f, nil, false, now)
	} else {
		e, err = messageEnvelope(f, &azservicebus.ReceivedMessage{Body: []byte(input)}, time.Time{}, now)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !h.calls.start(func() {
		// Its outcome is in the invocation's log line.
		_ = h.invoke(h.base, call{fn: f, reason: "This function was programmatically called via the host APIs.", envelope: e})
	}) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// adminInput reads {"input": …}: a string is the trigger's value, other JSON is
// its own text, an absent one is empty.
func adminInput(body io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxAdminBody+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxAdminBody {
		return "", errNotJSON
	}
	var request struct{ Input json.RawMessage }
	if len(data) > 0 {
		if err := json.Unmarshal(data, &request); err != nil {
			return "", err
		}
	}
	return scalarText(request.Input), nil
}
